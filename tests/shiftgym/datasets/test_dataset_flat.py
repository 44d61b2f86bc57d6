"""Flat arrays: what is in order, and what is refused with the first wrong row named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_helpers import made_up

import shiftgym
from shiftgym.cli import main
from shiftgym.datasets.flat import check_flat, episode_bounds, episode_returns, mean_return, spaces
from shiftgym.datasets.metadata import read_metadata
from shiftgym.datasets.packaged import load_packaged, packaged_index
from shiftgym.datasets.store import write_dataset
from shiftgym.domains import episode_steps


def spoilt(field: str, where: object, value: object) -> dict[str, np.ndarray]:
    flat = made_up(60, longest=20)
    flat[field] = flat[field].copy()
    flat[field][where] = value  # pyright: ignore[reportArgumentType]
    return flat


def without(field: str) -> dict[str, np.ndarray]:
    return {name: array for name, array in made_up(60).items() if name != field}


INNER = int(
    np.flatnonzero(~(made_up(60, longest=20)["terminated"] | made_up(60, longest=20)["truncated"]))[
        3
    ]
)


@pytest.mark.parametrize(
    ("flat", "says"),
    [
        (without("actions"), r"missing \['actions'\]"),
        (made_up(60) | {"extra": np.zeros(60)}, "extra"),
        ({name: array[:0] for name, array in made_up(60).items()}, "no transitions"),
        (made_up(60) | {"rewards": np.zeros(60)}, "rewards must be float32"),
        (made_up(60) | {"rewards": [0.0] * 60}, "rewards must be float32, got list"),
        (made_up(60) | {"terminated": np.zeros(60, np.uint8)}, "terminated must be bool"),
        (
            made_up(60) | {"actions": np.zeros((59, 3), np.float32)},
            r"actions must be \(60, width\)",
        ),
        (made_up(60) | {"actions": np.zeros(60, np.float32)}, r"actions must be \(60, width\)"),
        (made_up(60) | {"next_observations": np.zeros((60, 9), np.float32)}, "differ in shape"),
        (spoilt("observations", (7, 2), np.nan), "observations are not finite, first in row 7"),
        (spoilt("rewards", 9, -np.inf), "rewards are not finite, first in row 9"),
        (spoilt("next_observations", (INNER, 0), 5), f"Row {INNER} does not lead to"),
        (spoilt("truncated", -1, False) | {"terminated": np.zeros(60, bool)}, "."),
        (made_up(60, widths=(12, 3)), "observations of hopper have 11 numbers, got 12"),
        (made_up(60, widths=(11, 4)), "actions of hopper have 3 numbers, got 4"),
    ],
)
def test_what_is_wrong_is_named(flat: dict[str, np.ndarray], says: str) -> None:
    with pytest.raises(shiftgym.ShiftgymError, match=says):
        check_flat(flat, shiftgym.domain("hopper"))


def test_the_last_episode_must_end_unless_more_is_to_come() -> None:
    flat = made_up(60)
    flat["terminated"][-1] = flat["truncated"][-1] = False
    check_flat(flat, unfinished=True)
    with pytest.raises(shiftgym.ShiftgymError, match="has no end"):
        check_flat(flat)


def test_a_row_is_named_by_its_place_in_the_whole_set() -> None:
    with pytest.raises(shiftgym.ShiftgymError, match="first in row 1009"):
        check_flat(spoilt("rewards", 9, np.nan), first_row=1000)


def test_episodes_and_their_returns() -> None:
    flat = made_up(500, seed=3)
    bounds = episode_bounds(flat)
    assert bounds[0] == 0 and bounds[-1] == 500 and (np.diff(bounds) > 0).all()
    expected = [
        flat["rewards"][a:b].sum(dtype=np.float64) for a, b in zip(bounds, bounds[1:], strict=False)
    ]
    np.testing.assert_allclose(episode_returns(flat), expected)
    longest = int(np.diff(bounds)[~flat["terminated"][bounds[1:] - 1]].max())
    whole = [
        earned
        for earned, a, b in zip(expected, bounds, bounds[1:], strict=False)
        if flat["terminated"][b - 1] or b - a >= longest
    ]
    assert 0 < len(whole) < len(expected)
    np.testing.assert_allclose(episode_returns(flat, longest), whole)
    assert mean_return(episode_returns(flat, longest)) == pytest.approx(np.mean(whole), abs=1e-4)
    assert mean_return(np.zeros(0)) is None


def test_an_episode_that_the_end_of_the_set_cuts_is_not_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even one step before the limit."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    flat = made_up(1999)
    flat["terminated"][:], flat["truncated"][:] = False, False
    flat["next_observations"][:-1] = flat["observations"][1:]
    flat["truncated"][[999, 1998]] = True
    whole = flat["rewards"][:1000].sum(dtype=np.float64)
    np.testing.assert_allclose(episode_returns(flat, 1000), [whole])
    name = shiftgym.dataset_name("hopper/medium-1999")
    told = read_metadata(write_dataset(flat, name, {}))["shiftgym"]
    assert told["return"] == pytest.approx(whole, abs=1e-3) and told["whole_episodes"] == 1
    rows = slice(1000, None)
    last = {key: values[rows] for key, values in flat.items()}
    told = read_metadata(write_dataset(last, name.sized(999), {}))["shiftgym"]
    assert told["return"] is None and told["whole_episodes"] == 0
    assert main(["data", "list", "--robot", "hopper"]) == 0
    assert "none whole" in capsys.readouterr().out


def test_the_index_of_packaged_sets_holds_means_of_whole_episodes() -> None:
    for name, entry in list(packaged_index().items())[::6]:
        limit = episode_steps(shiftgym.dataset_name(name).domain.robot)
        assert entry["return"] == mean_return(episode_returns(load_packaged(name), limit))


@pytest.mark.parametrize("robot", shiftgym.robots())
def test_spaces_are_the_environments_own(robot: str) -> None:
    domain = shiftgym.domain(robot)
    observations, actions = spaces(domain)
    env = domain.make()
    assert env.observation_space.shape == observations.shape
    assert observations.dtype == actions.dtype == np.float32
    assert env.action_space == actions

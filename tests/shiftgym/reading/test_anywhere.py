"""Read data of any robot from anywhere: the same rows, the same checks, the same sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import minari
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer

from shiftgym.basics.errors import ShiftgymError
from shiftgym.datasets.flat import FIELDS
from shiftgym.datasets.load import load
from shiftgym.reading.anywhere import read

OBS, ACT = 7, 2
D4RL = {"terminated": "terminals", "truncated": "timeouts"}


def make_episodes(lengths: tuple[int, ...] = (5, 1, 8), seed: int = 0) -> list[dict[str, Any]]:
    """Make episodes of a robot of 7 observed numbers; every second one is cut, not over."""
    rng = np.random.default_rng(seed)
    found = []
    for number, steps in enumerate(lengths):
        over = np.arange(steps) == steps - 1
        found.append(
            {
                "observations": rng.normal(size=(steps + 1, OBS)),
                "actions": rng.uniform(-2, 2, size=(steps, ACT)),
                "rewards": rng.normal(size=steps),
                "terminated": over & (number % 2 == 0),
                "truncated": over & (number % 2 == 1),
            }
        )
    return found


def as_rows(episodes: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Write the same out as rows, independently of what is tested."""
    rows: dict[str, list[Any]] = {name: [] for name in FIELDS}
    for episode in episodes:
        for step in range(len(episode["rewards"])):
            for name in ("observations", "actions", "rewards", "terminated", "truncated"):
                rows[name].append(episode[name][step])
            rows["next_observations"].append(episode["observations"][step + 1])
    return {name: np.array(values) for name, values in rows.items()}


def in_minari(root: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> str:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))
    buffers = [
        EpisodeBuffer(
            id=k,
            observations=e["observations"],
            actions=e["actions"],
            rewards=list(e["rewards"]),
            terminations=list(e["terminated"]),
            truncations=list(e["truncated"]),
            infos={},
        )
        for k, e in enumerate(make_episodes())
    ]
    minari.create_dataset_from_buffers(
        "lab/arm-v0",
        buffers,
        observation_space=gym.spaces.Box(-np.inf, np.inf, (OBS,), np.float64),
        action_space=gym.spaces.Box(-2, 2, (ACT,), np.float64),
        **options,
    )
    return "lab/arm-v0"


def write(path: Path, arrays: dict[str, Any]) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, value in arrays.items():
                if isinstance(value, dict):
                    for key, inner in value.items():
                        file[f"{name}/{key}"] = inner
                else:
                    file[name] = value
    return path


def assert_same(found: Any, expected: dict[str, np.ndarray]) -> None:
    for name in FIELDS:
        np.testing.assert_array_equal(
            found.flat[name], expected[name].astype(found.flat[name].dtype)
        )
        assert found.flat[name].dtype == (bool if name[0] == "t" else np.float32)


@pytest.mark.parametrize("kind", ["arrays", "lists", "episodes", "npz", "hdf5", "d4rl", "minari"])
def test_every_way_in_gives_the_same_rows(kind: str, tmp_path: Path, monkeypatch) -> None:
    rows = as_rows(make_episodes())
    renamed = {D4RL.get(name, name): array for name, array in rows.items()}
    ways = {
        "arrays": lambda: rows,
        "lists": lambda: {name: array.tolist() for name, array in rows.items()},
        "episodes": make_episodes,
        "npz": lambda: write(tmp_path / "a.npz", rows),
        "hdf5": lambda: write(tmp_path / "a.hdf5", rows),
        "d4rl": lambda: str(write(tmp_path / "a.h5", renamed)),
        "minari": lambda: in_minari(tmp_path, monkeypatch),
    }
    found = read(ways[kind]())
    assert_same(found, rows)
    assert not found.notes


def test_minari_sets_of_other_formats_and_folders_are_read(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("pyarrow")
    name = in_minari(tmp_path, monkeypatch, data_format="arrow")
    assert_same(read(name), as_rows(make_episodes()))


def test_a_file_of_minari_and_its_folder_are_read(tmp_path: Path, monkeypatch) -> None:
    name = in_minari(tmp_path, monkeypatch)
    for place in (tmp_path / name, tmp_path / name / "data" / "main_data.hdf5"):
        assert_same(read(place), as_rows(make_episodes()))


def test_shiftgyms_own_sets_go_by_their_names() -> None:
    assert read("hopper-kinematic/medium").flat.keys() == load("hopper-kinematic/medium").keys()


def test_rows_without_next_observations_take_the_next_row() -> None:
    rows = as_rows(make_episodes((5, 3, 8)))
    del rows["next_observations"]
    found = read(rows)
    whole = as_rows(make_episodes((5, 3, 8)))
    kept = np.ones(16, bool)
    kept[7] = False  # the second episode was cut: what it led to is nowhere
    flat = found.flat
    for name in ("observations", "actions", "rewards", "terminated"):
        np.testing.assert_array_equal(flat[name], whole[name][kept].astype(flat[name].dtype))
    live = ~flat["terminated"]
    expected = whole["next_observations"][kept].astype(np.float32)
    np.testing.assert_array_equal(flat["next_observations"][live], expected[live])
    assert flat["truncated"].nonzero()[0].tolist() == [6]
    assert "last rows of 1 episodes" in found.notes[0]


def test_rows_that_lead_elsewhere_are_cut() -> None:
    rows = as_rows(make_episodes((6,)))
    rows["observations"][3] += 1
    rows.pop("truncated")
    found = read(rows, "logs")
    assert found.flat["truncated"].nonzero()[0].tolist() == [2]
    assert found.notes == ("logs: 1 rows do not lead to the next one: cut there",)


@pytest.mark.parametrize("way", ["arrays", "npz", "hdf5"])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rewards": None}, "lacks rewards"),
        ({"terminated": None, "dones": np.zeros(14)}, "lacks terminated|only cut"),
        ({"observations": np.zeros((14, 8, 8, 3))}, "as images have.*encode or flatten"),
        ({"actions": np.arange(14)}, "discrete choice.*store them as floats"),
        ({"observations": {"arm": np.zeros((14, 3))}}, "dict of arm.*side by side"),
        ({"rewards": np.full(14, np.nan)}, "rewards are not finite, first in row 0"),
        ({"actions": np.zeros((13, 2))}, r"actions must be \(14, length\), got \(13, 2\)"),
        ({"terminated": np.full(14, 2)}, "terminated must be 0 or 1"),
        ({"next_observations": None, "truncated": None}, "neither next_observations nor trunc"),
    ],
)
def test_data_that_cannot_be_learned_from_are_refused(
    way: str, change: dict[str, Any], says: str, tmp_path: Path
) -> None:
    given = {k: v for k, v in (as_rows(make_episodes()) | change).items() if v is not None}
    if way == "npz" and any(isinstance(value, dict) for value in given.values()):
        pytest.skip("an .npz holds no dicts")
    with pytest.raises(ShiftgymError, match=says):
        read(given if way == "arrays" else write(tmp_path / f"a.{way}", given))


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("nowhere.hdf5", "cannot be opened"),
        ("nowhere.npz", "cannot be opened"),
        ("hopper/meduim", "medium"),
        ("lab/arm", "given as a file"),
        ("lab/arm-v7", "minari download lab/arm-v7"),
        ("hf://lab", "hf://ORGANISATION/ID"),
        ([], "no episodes"),
        ([{"observations": np.zeros((5, 2)), "rewards": np.zeros(5)}], "5 observations and 5 rew"),
    ],
)
def test_what_is_not_there_is_said(what: Any, says: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ShiftgymError, match=says):
        read(what)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"no archive at all"])
def test_a_damaged_npz_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ShiftgymError, match="a.npz cannot be read"):
        read(tmp_path / "a.npz")


def test_an_npz_of_objects_is_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", observations=np.array([{}], dtype=object))
    with pytest.raises(ShiftgymError, match=r"a.npz"):
        read(tmp_path / "a.npz")

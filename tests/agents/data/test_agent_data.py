"""Refuse data that cannot be trained on, naming what is wrong and where."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from agent_helpers import make_arrays, make_pair

from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.data.batches import Data, Scaling, check_pairs


def broken(change: dict[str, Any], side: str = "target") -> Any:
    pair = make_pair()
    arrays = dict(getattr(pair, side)) | change
    return dataclasses.replace(pair, **{side: arrays})


def with_nan() -> np.ndarray:
    rewards = make_arrays(200, 0)["rewards"].copy()
    rewards[[17, 40]] = np.nan
    return rewards


@pytest.mark.parametrize(
    ("pair", "says"),
    [
        (broken({"rewards": with_nan()}), "rewards is NaN or infinite in 2 of 200 rows.*row 17"),
        (broken({"rewards": with_nan()}), "target toy/target"),
        (
            broken(
                make_arrays(0, 0) if False else {k: v[:0] for k, v in make_arrays(5, 0).items()}
            ),
            "empty",
        ),
        (broken({"actions": np.zeros((199, 3), np.float32)}), "actions has shape"),
        (broken(make_arrays(400, 0, obs=17), "source"), "one robot.*17 observed.*11 observed"),
    ],
)
def test_bad_data_are_named(pair: Any, says: str) -> None:
    with pytest.raises(ShiftgymError, match=says):
        Data([pair])


def test_missing_arrays_are_named() -> None:
    pair = make_pair()
    arrays = {k: v for k, v in pair.source.items() if k != "truncated"}
    with pytest.raises(ShiftgymError, match="source toy/source lacks truncated"):
        Data([dataclasses.replace(pair, source=arrays)])


def test_no_pairs_is_an_error() -> None:
    with pytest.raises(ShiftgymError, match="No pairs"):
        check_pairs([])


def test_rewards_without_whole_trajectories_cannot_be_scaled() -> None:
    from shiftgym_agents.methods.iql import IQL, IQLConfig

    flat = {"terminated": np.zeros(200, bool), "truncated": np.zeros(200, bool)}
    pair = broken(flat)
    alone = dataclasses.replace(pair, source=pair.target)
    with pytest.raises(ShiftgymError, match="--normalize-reward none"):
        IQL(IQLConfig(normalize_reward="returns"), [alone], [0])
    IQL(IQLConfig(normalize_reward="returns"), [pair], [0])  # the source has some


def test_balanced_statistics_are_those_of_as_many_rows_of_both() -> None:
    pair = make_pair(source=400, target=200)
    twice = {name: np.concatenate([array] * 2) for name, array in pair.target.items()}
    even = dataclasses.replace(pair, target=twice)
    one = Data([pair], scaling=Scaling(states="balanced"))
    two = Data([even], scaling=Scaling(states="merged"))
    np.testing.assert_allclose(one.shift, two.shift, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(one.scale, two.scale, rtol=1e-6)


@pytest.mark.parametrize("share", [0.1, 0.25, 1.0])
@pytest.mark.parametrize("states", ["none", "merged", "target"])
def test_a_share_of_the_target_is_drawn_once_and_without_replacement(
    share: float, states: str
) -> None:
    pair = make_pair()
    data = Data([pair, pair], scaling=Scaling(states=states), target_share=share)
    count = round(share * 200)
    assert data.sizes == {"source": [400, 400], "target": [count, count]}
    kept = data.rows_of("target", 0)[:, :11].numpy() * data.scale[0] + data.shift[0]
    differ = np.abs(kept[:, None] - pair.target["observations"]).max(2)
    places = differ.argmin(1)
    np.testing.assert_allclose(differ.min(1), 0, atol=1e-5)
    assert (np.diff(places) > 0).all()  # every row once, in the data's order
    assert torch.equal(data.rows_of("target", 0), data.rows_of("target", 1))
    again = Data([pair], scaling=Scaling(states=states), target_share=share)
    assert torch.equal(again.rows_of("target", 0), data.rows_of("target", 0))
    if states == "target":
        np.testing.assert_allclose(data.rows_of("target", 0)[:, :11].mean(0), 0, atol=1e-5)


def test_returns_that_scale_rewards_are_of_the_whole_target() -> None:
    pair, scaling = make_pair(), Scaling(rewards="returns")
    whole, part = Data([pair], scaling=scaling), Data([pair], scaling=scaling, target_share=0.5)
    rewards = {tuple(row[:11].tolist()): float(row[-2]) for row in whole.rows_of("target", 0)}
    for row in part.rows_of("target", 0):
        assert rewards[tuple(row[:11].tolist())] == float(row[-2])


def test_a_target_without_a_source_is_shared_too() -> None:
    pair = make_pair()
    alone = dataclasses.replace(pair, source=pair.target)
    assert Data([alone], target_share=0.1).sizes == {"source": [20], "target": [20]}


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5, float("nan"), 0.001])
def test_an_impossible_share_is_an_error(share: float) -> None:
    with pytest.raises(ShiftgymError, match="--target-share"):
        Data([make_pair()], target_share=share)


def test_rows_that_pass_are_kept_in_order_and_repeated() -> None:
    data = Data([make_pair(0), make_pair(1)])
    batch = data.batch(torch.arange(9).expand(2, -1), 6)
    passes = torch.tensor([[1, 0, 1, 1, 0, 1], [0, 0, 1, 0, 1, 0]]).bool()[..., None]
    kept = batch.keep_passing(passes, 3)
    for run, order in enumerate(([0, 2, 3], [2, 4, 2])):
        assert torch.equal(kept.rows[run], batch.rows[run, [*order, 6, 7, 8]])
    assert kept.sources == 3
    with pytest.raises(ValueError, match="one per source row"):
        batch.keep_passing(passes[..., 0], 3)


@pytest.mark.parametrize("side", ["source", "target"])
def test_columns_may_hold_several_numbers(side: str) -> None:
    data = Data([make_pair(0), make_pair(1)])
    rows = max(data.sizes[side])
    values = torch.arange(2 * rows * 3.0).view(2, rows, 3)
    data.add_column(side, "three", values)
    places = torch.tensor([[5, 3, 2, 8, 0], [1, 1, 7, 4, 9]])
    found = data.batch(places, 2).columns["three"]
    own, other = (slice(0, 2), slice(2, 5)) if side == "source" else (slice(2, 5), slice(0, 2))
    assert not found[:, other].any()
    for run in range(2):
        assert torch.equal(found[run, own], values[run, places[run, own]])
    with pytest.raises(ValueError, match="three"):
        data.add_column(side, "three", values[:, 1:])

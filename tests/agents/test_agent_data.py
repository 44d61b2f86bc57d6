"""Refuse data that cannot be trained on, naming what is wrong and where."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from agent_helpers import make_arrays, make_pair

from shiftgym.errors import ShiftgymError
from shiftgym_agents.data import Data, check_pairs


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
    from shiftgym_agents.iql import IQL, IQLConfig

    flat = {"terminated": np.zeros(200, bool), "truncated": np.zeros(200, bool)}
    with pytest.raises(ShiftgymError, match="--normalize-reward none"):
        IQL(IQLConfig(normalize_reward="returns"), [broken(flat)], [0])

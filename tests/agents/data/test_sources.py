"""Join sources: rows know their source and their trajectory."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from agent_helpers import make_arrays, make_pair

from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.data.batches import Data
from shiftgym_agents.data.sources import Sources, some_trajectories


def test_rows_know_their_source_and_trajectory() -> None:
    parts = [make_arrays(rows, rows) for rows in (90, 150, 60)]
    pair = dataclasses.replace(make_pair(), source=Sources(parts, "abc"))
    data = Data([pair, make_pair(1)])
    found = {name: values.numpy() for name, values in data.origins("source").items()}
    assert {values.shape for values in found.values()} == {(2, 400)}
    assert torch.equal(
        data.rows_of("source", 0)[90:240, :11], torch.tensor(parts[1]["observations"])
    )
    trajectory, row = 0, 0
    for number, part in enumerate(parts):  # written out, row by row
        step = 0
        for i in range(len(part["rewards"])):
            told = [int(found[name][0, row]) for name in ("part", "trajectory", "step")]
            assert told == [number, trajectory, step]
            over = part["terminated"][i] or part["truncated"][i] or i + 1 == len(part["rewards"])
            trajectory, step, row = (
                (trajectory + 1, 0, row + 1) if over else (trajectory, step + 1, row + 1)
            )
    assert row == 300 and (found["part"][0, 300:] == 2).all()  # shorter: the last row again
    assert (found["part"][1] == 0).all()


def test_a_share_keeps_whole_trajectories() -> None:
    arrays = make_arrays(2_000, 3)
    kept = some_trajectories(arrays, 0.3, "x")
    assert 600 <= len(kept["rewards"]) <= 800  # at most one trajectory more
    ends = kept["terminated"] | kept["truncated"]
    places = [int((arrays["observations"] == row).all(1).argmax()) for row in kept["observations"]]
    jumps = np.flatnonzero(np.diff(places) != 1)
    assert len(jumps) and ends[jumps].all() and ends[-1]
    starts = np.array(places)[np.concatenate([[0], jumps + 1])]
    assert all(s == 0 or (arrays["terminated"] | arrays["truncated"])[s - 1] for s in starts)


def test_the_union_of_two_halves_trains_as_the_whole() -> None:
    whole = make_arrays(400, 5)
    halves = [{k: v[part] for k, v in whole.items()} for part in (slice(200), slice(200, None))]
    one = Data([dataclasses.replace(make_pair(), source=whole)])
    two = Data([dataclasses.replace(make_pair(), source=Sources(halves, "ab"))])
    assert torch.equal(one.rows, two.rows) and one.sizes == two.sizes


@pytest.mark.parametrize(
    ("names", "shares", "says"),
    [
        ("ab", None, "2 names"),
        ("aab", None, "one name"),
        ("abc", (1, 1), "2 shares"),
        ("abc", (1, 0, 1), "Share 0.0 of b"),
    ],
)
def test_sources_that_do_not_go_together_are_refused(names: str, shares, says: str) -> None:
    with pytest.raises(ShiftgymError, match=says):
        Sources([make_arrays(30, k) for k in range(3)], names, shares)


def test_a_part_is_named_where_its_data_are_wrong() -> None:
    bad = make_arrays(30, 1) | {"rewards": np.full(30, np.nan, np.float32)}
    pair = dataclasses.replace(make_pair(), source=Sources([make_arrays(30, 0), bad], ["a", "lab"]))
    with pytest.raises(ShiftgymError, match="source lab"):
        Data([pair])

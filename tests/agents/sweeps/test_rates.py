"""Test the estimate: that it counts what there is to do, and measures here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from sweep_helpers import HOW, planned, write_grid

from shiftgym.cli import main
from shiftgym_agents.sweeps import rates
from shiftgym_agents.sweeps.backends.base import Room
from shiftgym_agents.sweeps.rates import START, Cost, estimate


def test_hours_are_work_divided_among_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run's update costs a second, a step of its episodes none; four groups of 8 for two."""
    asked = []

    def measured(kinds: list, jobs: int) -> list[Cost]:
        asked.extend(kinds)
        return [Cost([("before", 10, 1.0), ("train", 40, 2.0)], 0.0, 0.0)] * len(kinds)

    monkeypatch.setattr(rates, "_measure_all", measured)
    made = planned(write_grid(tmp_path), tmp_path / "out", methods=["iql"], lockstep=4, seeds=8)
    assert [len(each.group.runs) for each in made.groups] == [4] * 4
    found = estimate(made, Room(jobs=2, threads=1), HOW)
    assert len(asked) == 1  # they are of one kind
    assert [*found.groups.values()] == pytest.approx([(START + 10 + 80) / 3600] * 4)
    assert found.hours == pytest.approx(2 * (START + 90) / 3600)
    *most, last = made.groups
    done = replace(made, groups=(*(replace(each, state="done") for each in most), last))
    one = estimate(done, Room(jobs=2, threads=1), HOW)
    assert one.hours == pytest.approx((START + 90) / 3600)
    lacking = replace(made, missing=("hopper/medium",))
    assert estimate(lacking, Room(jobs=2, threads=1), HOW).hours > found.hours


def test_a_dry_run_measures_here_and_trains_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sweep", str(write_grid(tmp_path)), "--out", str(tmp_path / "out"), "--dry", "--json"]
    words += ["--methods", "bc", "--set", "lockstep=8", "--updates", "eager", "--device", "cpu"]
    assert main([*words, "--jobs", "1", "--threads", "1"]) == 0
    told = json.loads(capsys.readouterr().out)
    (group,) = told["groups"]
    assert (told["runs"], told["jobs"], group["state"]) == (8, 1, "new")
    assert told["missing"] == [] and not (tmp_path / "out").exists()
    assert START / 3600 < told["hours"] < 1

"""Test the report's statistics and its reading of run directories."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from agent_helpers import make_pair, small

from shiftgym.errors import ShiftgymError
from shiftgym_agents.reports.report import (
    describe,
    draw_curves,
    interquartile_mean,
    overall,
    read_groups,
    stratified_interval,
    summary,
    table,
)
from shiftgym_agents.training.run_config import TrainOptions
from shiftgym_agents.training.trainer import Trainer


def test_interquartile_mean_drops_a_quarter_at_each_end() -> None:
    assert interquartile_mean(np.array([100.0, 1, 2, 3, -50, 4, 5, 6])) == 3.5
    assert interquartile_mean(np.array([1.0, 2, 6])) == 3
    assert interquartile_mean(np.array([7.0])) == 7


def test_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(150, 2, 20))
    hits = 0
    for low_stratum, high_stratum in draws:
        low, high = stratified_interval([low_stratum, high_stratum + 100], resamples=400)
        hits += low <= 50 <= high
    assert 0.86 <= hits / 150 <= 1.0


def test_strata_are_redrawn_within_themselves() -> None:
    low, high = stratified_interval([np.zeros(3), np.full(3, 100.0)])
    assert (low, high) == (50, 50)


def test_diverged_runs_are_counted_not_averaged() -> None:
    found = summary([np.array([1.0, np.nan, 3.0])])
    assert found["runs"] == 3 and found["diverged"] == 1 and found["mean"] == 2
    assert summary([np.array([np.nan])])["mean"] is None


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    outs = []
    for name in ("bc", "iql"):
        out = tmp_path_factory.mktemp("runs") / name
        options = TrainOptions(
            out=out, device="cpu", evaluate_every=10, episodes=1, progress=False, threads=1
        )
        pairs = [make_pair(0), make_pair(0), make_pair(1)]
        Trainer(name, small(name, steps=20), pairs, [0, 1, 2], options).run()
        outs.append(out)
    return outs


def test_table_has_a_line_per_run_directory(runs: list[Path]) -> None:
    groups = read_groups(runs)
    lines = table(groups).splitlines()
    assert [line.split()[0] for line in lines] == ["method", "bc", "iql"]
    about = describe(groups[1])
    assert about["seeds"] == [0, 1, 2] and about["updates"] == 20 and about["finished"]
    assert about["last"]["low"] <= about["last"]["mean"] <= about["last"]["high"]
    assert about["last5"]["mean"] == pytest.approx(groups[1].scores.mean())
    assert not overall(groups) and not overall([groups[0], groups[0]])


def test_curves_are_drawn(runs: list[Path], tmp_path: Path) -> None:
    draw_curves(read_groups(runs), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_directories_without_evaluations_are_named(tmp_path: Path) -> None:
    with pytest.raises(ShiftgymError, match="not a run directory"):
        read_groups([tmp_path])

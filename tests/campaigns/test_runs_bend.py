"""A small share of the campaigns on run directories; the large ones are run by hand."""

from __future__ import annotations

from pathlib import Path

from campaign_helpers import Tally
from kills_train import kills
from malformed_runs import malformed


def test_kills_of_trainings_lose_nothing(tmp_path: Path) -> None:
    tally = Tally()
    kills("iql", 2, 1, tmp_path, tally)
    assert not tally.wrong and tally.counts["kills"] >= 2


def test_malformed_run_directories_are_refused_or_read(tmp_path: Path) -> None:
    tally = malformed(24, 1, tmp_path)
    assert not tally.wrong and tally.counts["refused"] > tally.counts["read"] / 4

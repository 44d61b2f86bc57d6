"""A small share of the campaigns on datasets; the large ones are run by hand."""

from __future__ import annotations

from pathlib import Path

import kills_data
import malformed_data
import pytest

from shiftgym_tools.making import collect


@pytest.mark.parametrize("seed", [1])
def test_kills_of_writers_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))  # the campaign sets it; put it back
    monkeypatch.setattr(collect, "BLOCK_ROWS", collect.BLOCK_ROWS)
    tally = kills_data.campaign(8, seed, tmp_path, ("import --replace", "get"))
    assert not tally.wrong, tally.wrong
    assert tally.counts["killed before a change"] == 4


@pytest.mark.parametrize("seed", [1])
def test_malformed_data_are_refused_or_read(tmp_path: Path, seed: int) -> None:
    tally = malformed_data.campaign(60, seed, tmp_path)
    assert not tally.wrong, tally.wrong
    assert sum(tally.counts.values()) == 60

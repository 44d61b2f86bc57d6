"""Test the race between the kernels and eager PyTorch, and how its result is kept."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
import torch

from shiftgym_agents.core import racing
from shiftgym_agents.kernels import native
from shiftgym_agents.training.running import pick_backend

CPU = torch.device("cpu")


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the kernels lie in a folder of the test's own."""

    class Library(ctypes.CDLL):
        def __init__(self) -> None:
            self._name = str(tmp_path / "mlp-x.so")

    monkeypatch.setattr(native, "load", Library)
    return tmp_path


@pytest.mark.parametrize(("kernels", "eager"), [(1.0, 2.0), (2.0, 1.0)])
def test_auto_takes_the_faster_path_and_races_once(
    kernels: float, eager: float, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    races: list[int] = []

    def race() -> dict[str, float]:
        races.append(torch.get_num_threads())
        return {"kernels": kernels, "eager": eager}

    monkeypatch.setattr(racing, "race", race)
    for _ in range(3):
        assert pick_backend("auto", CPU) == ("captured" if kernels < eager else "eager")
        assert pick_backend("captured", CPU) == "captured"
        assert pick_backend("eager", CPU) == "eager"
    assert len(races) == 1
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        pick_backend("auto", CPU)
    finally:
        torch.set_num_threads(before)
    assert races == [before, before + 1]


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"kernels": 1}', '{"kernels": 0, "eager": "x"}'])
def test_times_that_make_no_sense_are_taken_anew(
    text: str, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(racing, "race", lambda: {"kernels": 2.0, "eager": 1.0})
    pick_backend("auto", CPU)
    (path,) = library.iterdir()
    path.write_text(text)
    assert pick_backend("auto", CPU) == "eager"
    assert racing._read(path) == {"kernels": 2.0, "eager": 1.0}


def test_race_times_both_paths() -> None:
    try:
        native.load()
    except native.NativeUnavailableError as error:
        pytest.skip(str(error))
    times = racing.race()
    assert set(times) == {"kernels", "eager"} and all(0 < t < 60 for t in times.values())

"""Test how campaigns judge the ends of what they kill."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import campaign_helpers
import pytest
from campaign_helpers import UNCAUGHT, Patience, in_child, shiftgym

from shiftgym import cli


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_before_or_after_a_command_is_not_the_commands_doing(tmp_path: Path) -> None:
    def early() -> int | None:
        interrupt()  # while a data set is drawn, say
        return shiftgym("--version")()

    def late() -> int | None:
        code = shiftgym("--version")()
        interrupt()
        return code

    before, after = in_child(early, tmp_path), in_child(late, tmp_path)
    assert before.code == 128 + signal.SIGINT and not before.said
    assert after.code == 0 and "shiftgym" in after.said


def test_a_command_outside_of_a_child_leaves_signals_as_they_were() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert shiftgym("--version")() == 0
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_a_signal_that_a_command_lets_through_is_its_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(words: list[str]) -> int:
        interrupt()
        return 0

    monkeypatch.setattr(cli, "main", broken)
    ended = in_child(shiftgym("--version"), tmp_path)
    assert ended.traceback and ended.code == UNCAUGHT


def spin() -> int:
    while True:
        pass


def wait() -> int:
    time.sleep(3600)
    return 0


@pytest.mark.skipif(sys.platform != "linux", reason="no processor time of others elsewhere")
def test_what_hangs_is_ended(tmp_path: Path) -> None:
    assert in_child(spin, tmp_path, limit=0.3).hung
    assert in_child(wait, tmp_path, limit=0.3).hung


@pytest.mark.parametrize(
    ("share", "over"), [(0.5, 20.0), (0.01, 1000.0), (0.0, 10.0)], ids=["busy", "starved", "stuck"]
)
def test_a_busy_machine_makes_nothing_hang(
    monkeypatch: pytest.MonkeyPatch, share: float, over: float
) -> None:
    """A limit of 10 s is one of the child's own time, or of none taken at all."""
    now = 0.0
    monkeypatch.setattr(campaign_helpers.time, "monotonic", lambda: now)
    monkeypatch.setattr(Patience, "_taken", lambda self: share * now)
    patience = Patience(0, 10.0)
    while not patience.is_over():
        now += 1.0
    assert now == pytest.approx(over, abs=1.5)


def test_a_changes_number_is_where_it_ends(tmp_path: Path) -> None:
    def two() -> int:
        (tmp_path / "first").write_text("1")
        (tmp_path / "second").write_text("2")
        return 0

    assert in_child(two, tmp_path, crash_before=2).code == -signal.SIGKILL
    assert (tmp_path / "first").exists() and not (tmp_path / "second").exists()
    assert in_child(two, tmp_path).code == 0

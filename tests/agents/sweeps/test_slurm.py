"""Test sweeps on a real Slurm of this machine: killed, requeued, cancelled, stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sweep_helpers import PATIENCE, facts, finished, meanwhile, planned, run, until
from tiny_slurm import ask, queued, tiny_slurm

from shiftgym.cli import main
from shiftgym_agents.sweeps.backends.base import Room
from shiftgym_agents.sweeps.work import OURS

pytestmark = pytest.mark.slurm
WORDS = ["--backend", "slurm", "--device", "cpu", "--updates", "eager", "--checkpoint-minutes", "0"]


@pytest.fixture(scope="module", autouse=True)
def slurm() -> Iterator[None]:
    """Run a Slurm whose arrays have at most two tasks."""
    pytest.importorskip("submitit", reason="the extra [slurm] is not installed")
    with tiny_slurm(largest=2):
        yield


@pytest.fixture(autouse=True)
def an_empty_queue() -> Iterator[None]:
    """Let no test leave anything in the queue, but for tasks that are just ending."""
    yield
    until(lambda: not queued())


def command(grid: Path, out: Path, *words: str) -> subprocess.Popen[str]:
    """Begin a sweep as users do."""
    line = [sys.executable, "-m", "shiftgym.cli", "sweep", str(grid), "--out", str(out), *WORDS]
    pipe = subprocess.PIPE
    return subprocess.Popen([*line, *words], stdout=pipe, stderr=pipe, text=True)


def test_an_array_gives_what_processes_give_also_when_tasks_are_killed_and_requeued(
    grid: Path, local: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a folder"  # Slurm reads paths in scripts and patterns
    first = planned(grid, out).groups[:12]
    found: list[int] = []

    def both_train() -> bool:
        """Find the process of the first task, which is at a group."""
        for each in first:
            with suppress(OSError, IndexError):  # none is at it, or it has just begun
                found.append(int((each.out / OURS).read_text().split()[1]))
        return bool(found) and finished(out) >= 4 and len(queued()) == 2

    def harm() -> None:
        os.kill(found[0], signal.SIGKILL)  # as for want of memory
        ask("scancel", "--signal=USR2", next(x for x in queued() if x.endswith("_1")))  # time over

    with meanwhile(both_train, harm):
        assert main(["sweep", str(grid), "--out", str(out), *WORDS, "--per-task", "12"]) == 0
    said = capfd.readouterr()
    assert "24 groups: 24 done." in said.out and "Slurm: 2 tasks, job " in said.err
    assert facts(out) == local
    (log,) = (out / ".slurm").glob("*_1_0_log.out")
    assert log.read_text().count("Starting with") == 2  # Slurm itself began it again
    assert len(list((out / ".slurm").glob("*_submission.sh"))) == 2  # the array, and who died


def test_a_killed_driver_s_jobs_and_another_backend_share_what_is_left(
    grid: Path, local: dict[str, Any], tmp_path: Path
) -> None:
    driver = command(grid, tmp_path, "--per-task", "3", "--set", "seeds=2")
    until(lambda: finished(tmp_path) >= 2)
    driver.kill()
    driver.communicate()
    assert queued()  # they outlive it
    done = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/result.json")}
    assert len(done) < 12
    board = run(grid, tmp_path, Room(jobs=1), seeds=2)
    assert board.summary() == "12 groups: 12 done."
    until(lambda: not queued())  # those that come late find all of it done
    assert all(path.stat().st_mtime_ns == before for path, before in done.items())
    found = facts(tmp_path)
    assert len(found) == 12 and found == {key: local[key] for key in found}


def test_a_cancelled_task_and_a_failed_group_are_told_and_stop_nobody(
    grid: Path, tmp_path: Path
) -> None:
    settings = {"steps": 2000, "width": 8, "batch": 8}
    changes: dict[str, Any] = {"seeds": 1, "every": 1000, "settings": settings}
    groups = planned(grid, tmp_path, **changes).groups
    assert len(groups) == 6
    groups[0].out.mkdir()
    (groups[0].out / "metrics.csv").mkdir()  # nothing can be written there

    def cancel() -> None:
        ask("scancel", next(each for each in queued() if each.endswith("_1")))

    with meanwhile((groups[3].out / "result.json").exists, cancel):
        board = run(grid, tmp_path, Room("slurm", per_task=3, threads=1), **changes)
    lines = [board.lines[each.group.key] for each in groups]
    states = [line.state for line in lines]
    assert states[:4] == ["failed", "done", "done", "done"]
    assert states[5] == "failed" and "was cancelled" in lines[5].reason
    assert "metrics.csv" in lines[0].reason
    assert "was cancelled" in board.summary()


def test_ctrl_c_checkpoints_and_leaves_the_queue_empty(grid: Path, tmp_path: Path) -> None:
    words = ["seeds=1", "steps=100000", "every=50000"]
    going = command(grid, tmp_path, "--set", *words)
    until(lambda: len(list(tmp_path.glob("*/started.json"))) == 2)
    assert len(queued()) == 6  # of three arrays, as large as they may be
    os.kill(going.pid, signal.SIGINT)
    said, told = going.communicate(timeout=PATIENCE)
    assert going.returncode == 130 and "goes on" in told
    assert "6 groups: 6 stopped." in said
    assert queued() == []
    assert len(list(tmp_path.glob("*/state.json"))) == 2
    assert not list(tmp_path.glob("*/.lock")) and not list(tmp_path.glob("*/result.json"))

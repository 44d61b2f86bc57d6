"""Ask how submitted tasks are getting on, and take them back: Slurm's queue, or own processes.

Slurm is asked with squeue, which every cluster answers for some minutes after a task has ended, and
with sacct about what squeue has forgotten, where there is accounting.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from shiftgym.basics.errors import ShiftgymError

OVER = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
    "PREEMPTED", "TIMEOUT", "REVOKED",
}  # fmt: skip
FORGOTTEN = "FORGOTTEN"  # by squeue and sacct; so is a task that was cancelled before it began
SOONEST, LATEST = 2.0, 60.0  # seconds between two questions: ever fewer the longer nothing happens
PATIENCE = 60  # seconds in which Slurm's controller answers


@dataclass(frozen=True)
class Seen:
    """Say where a task stands: Slurm's word for it, and Slurm's reason."""

    state: str
    reason: str = ""

    @property
    def over(self) -> bool:
        """Say whether it has ended for good."""
        return self.state in OVER or self.state == FORGOTTEN


class Queue(Protocol):
    """Know where tasks stand."""

    def look(self, tasks: Iterable[Any], now: bool = False) -> dict[str, Seen]:
        """Say where tasks stand, by their id; nothing of those of which nothing new is known."""
        ...

    def cancel(self, tasks: Iterable[Any]) -> None:
        """Ask tasks to end, or take them out of the queue."""
        ...


class SlurmQueue:
    """Ask Slurm, about all tasks at once, and not more often than its controller likes."""

    def __init__(self) -> None:
        self._pause, self._next = SOONEST, 0.0
        self._before: dict[str, Seen] = {}

    def look(self, tasks: Iterable[Any], now: bool = False) -> dict[str, Seen]:
        """Ask, if it is time to."""
        ids = [task.job_id for task in tasks]
        if not ids or (time.monotonic() < self._next and not now):
            return {}
        found = self._ask(ids)
        changed = found != self._before
        self._pause = SOONEST if changed else min(LATEST, 1.5 * self._pause)
        self._before, self._next = found, time.monotonic() + self._pause
        return found

    def cancel(self, tasks: Iterable[Any]) -> None:
        """Cancel tasks, all of an array's with one word where all of it is left."""
        ids = [task.job_id for task in tasks]
        for k in range(0, len(ids), 500):
            command("scancel", *ids[k : k + 500])

    def _ask(self, ids: list[str]) -> dict[str, Seen]:
        jobs = ",".join(dict.fromkeys(each.partition("_")[0] for each in ids))
        done = command(
            "squeue", "--noheader", "--array", "--states=all", f"--jobs={jobs}",
            "--format=%i|%T|%r",
        )  # fmt: skip
        if done.returncode and "Invalid job id" not in done.stderr:
            return {}  # the controller does not answer now; it will
        found = _table(done.stdout)
        if lost := [each for each in ids if each not in found]:
            said = command("sacct", "-n", "-X", "-P", "-o", "JobID,State", "-j", jobs)
            late = _table(said.stdout) if not said.returncode else {}
            found |= {each: late.get(each, Seen(FORGOTTEN)) for each in lost}
        return {each: found[each] for each in ids}


class OwnProcesses:
    """Know submitit's processes of this machine."""

    def look(self, tasks: Iterable[Any], now: bool = False) -> dict[str, Seen]:
        """Look at all of them."""
        del now
        states = {task.job_id: task.state for task in tasks}
        return {
            key: Seen("RUNNING" if x == "RUNNING" else "FAILED", x) for key, x in states.items()
        }

    def cancel(self, tasks: Iterable[Any]) -> None:
        """Send each SIGINT."""
        for task in tasks:
            task.cancel(check=False)


def largest_array() -> int:
    """Ask Slurm how many tasks an array may have.

    Raises:
        ShiftgymError: Slurm does not answer.
    """
    done = command("scontrol", "show", "config")
    for line in done.stdout.splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "MaxArraySize" and value.strip().isdecimal():
            return max(1, int(value))
    said = done.stderr.strip().splitlines() or ["scontrol show config says nothing of arrays"]
    raise ShiftgymError(f"--backend slurm: Slurm does not answer here: {said[-1]}")


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """Run one of Slurm's commands, out of reach of the terminal's Ctrl-C; never raises."""
    try:
        return subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=PATIENCE,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(words, 1, "", str(error))


def _table(text: str) -> dict[str, Seen]:
    """Read lines of id, state and perhaps reason; `CANCELLED by 1000` is CANCELLED."""
    found = {}
    for line in text.splitlines():
        key, state, reason = (*(part.strip() for part in line.split("|")), "", "")[:3]
        if state:
            found[key] = Seen(state.split()[0], reason)
    return found

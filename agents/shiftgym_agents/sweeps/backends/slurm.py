"""Run groups as a Slurm job array through submitit, each task one group or a few in turn.

A job that Slurm takes away at its time limit or for another is put back into the queue, and goes on
from its checkpoints. `local` in place of Slurm runs the same tasks as processes of this machine, to
try a sweep out.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.sweeps.backends.base import STOPPED, Job, Room, died
from shiftgym_agents.sweeps.work import Outcome, train_group

PATIENCE = 120
FOLDER = ".slurm"  # in the sweep's folder: what submitit keeps
DEFAULTS = {"timeout_min": 24 * 60}
POLL = 0.2


class Task:
    """Train groups one after the other; submitit carries this to a node."""

    def __call__(self, jobs: Sequence[Job]) -> dict[str, dict[str, str]]:
        """Train those that are not done; after a stop the rest is left."""
        found: dict[str, dict[str, str]] = {}
        for job in jobs:
            found[job.key] = train_group(*job.arguments)
            if found[job.key]["state"] == "stopped":
                break
        return found

    def checkpoint(self, jobs: Sequence[Job]) -> Any:
        """Say what is to be queued when Slurm takes the node away: the same again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, jobs)


class SlurmBackend:
    """Submit every job to Slurm, or to submitit's processes on this machine.

    Args:
        room: what groups take.
        folder: where submitit keeps its files; every node sees it.
        cluster: ``slurm``, or ``local``.
    """

    def __init__(self, room: Room, folder: Path, cluster: str = "slurm") -> None:
        import submitit

        self.room = room
        try:
            self.executor: Any = submitit.AutoExecutor(folder / FOLDER, cluster=cluster)
            values: dict[str, Any] = DEFAULTS | {"cpus_per_task": max(1, room.threads)}
            if room.gpus:
                values["gpus_per_node"] = round(room.gpus)
            if room.jobs:
                values["slurm_array_parallelism"] = room.jobs
            self.executor.update_parameters(**(values | own_values(room.slurm)))
        except (RuntimeError, TypeError, ValueError, NameError) as error:
            raise ShiftgymError(f"--backend slurm: {error}") from None
        self._tasks: dict[Any, list[str]] = {}

    def start(self, jobs: Sequence[Job]) -> None:
        """Submit one array of tasks."""
        size = self.room.per_task
        parts = [list(jobs[k : k + size]) for k in range(0, len(jobs), size)]
        for made, part in zip(self.executor.map_array(Task(), parts), parts, strict=True):
            self._tasks[made] = [job.key for job in part]

    def ended(self, wait: float) -> dict[str, Outcome]:
        """Give what has ended."""
        until = time.monotonic() + wait
        while True:
            done = [task for task in self._tasks if task.done()]
            if done or time.monotonic() > until:
                break
            time.sleep(POLL)
        found: dict[str, Outcome] = {}
        for task in done:
            found |= self._outcomes(task, self._tasks.pop(task))
        return found

    def stop(self) -> dict[str, Outcome]:
        """Cancel what is left, and wait until it is gone."""
        for task in self._tasks:
            task.cancel(check=False)
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and not all(task.done() for task in self._tasks):
            time.sleep(POLL)
        found: dict[str, Outcome] = {}
        for task, keys in self._tasks.items():
            found |= self._outcomes(task, keys) if task.done() else dict.fromkeys(keys, STOPPED)
        return found

    def _outcomes(self, task: Any, keys: Sequence[str]) -> dict[str, Outcome]:
        try:
            said = task.result()
        except Exception as error:  # submitit gives whatever went wrong on the node
            lines = str(error).strip().splitlines() or [type(error).__name__]
            return dict.fromkeys(keys, died(lines[-1]))
        rest = Outcome("stopped", "the task ended before it")
        return {key: Outcome(**said[key]) if key in said else rest for key in keys}


def own_values(texts: Sequence[str]) -> dict[str, Any]:
    """Read values for submitit: ``timeout_min=600``, ``slurm_partition=gpu``.

    Raises:
        ShiftgymError: One is no ``name=value``.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ShiftgymError(f"--slurm {text}: write name=value, such as slurm_partition=gpu.")
        found[name] = int(value) if value.isdecimal() else value
    return found

"""Say what a sweep asks of an engine that runs its groups: to take, to tell, to stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from shiftgym.basics.ranges import Amount, CountOrNone, Size, SizeOrNone, Threads, check_ranges
from shiftgym_agents.sweeps.work import Outcome

Work = Callable[[Mapping[str, Any], str, Mapping[str, Any]], dict[str, str]]


@dataclass(frozen=True)
class Job:
    """Name a group's work: what `work.train_group` is called with."""

    key: str
    group: Mapping[str, Any] = field(repr=False)
    out: str
    how: Mapping[str, Any] = field(repr=False)

    @property
    def arguments(self) -> tuple[Mapping[str, Any], str, Mapping[str, Any]]:
        """Give the arguments of `work.train_group`."""
        return self.group, self.out, self.how


@dataclass(frozen=True)
class Room:
    """Say who trains, and what a group may take."""

    backend: Literal["local", "ray", "slurm", "slurm-local"] = "local"
    """local: processes of this machine; ray: a cluster that runs, else this machine; slurm: a job
    array; slurm-local: the tasks of such an array as processes of this machine."""
    jobs: SizeOrNone = 0
    """Groups at once, local and Slurm; 0 for one per core, one on a GPU (local), or no limit. Ray
    starts what fits."""
    threads: Threads = 0
    """CPU threads of a group; 0 for its share of this machine (local), or 1."""
    gpus: Amount = 0.0
    """GPUs of a group for Ray and Slurm; Ray takes parts of one, such as 0.25; Slurm whole ones."""
    retries: CountOrNone = 3
    """How often a group goes on from its checkpoint after its worker or node died; on Slurm also
    how often a task does after its time was over."""
    address: str = ""
    """Of the Ray cluster: auto, or host:port; by default one that runs here, else a new one."""
    slurm: tuple[str, ...] = ()
    """Options of sbatch: partition=gpu account=lab time=12:00:00 mem_gb=8 (docs/sweeps.md)."""
    per_task: Size = 1
    """Groups that one Slurm task trains, one after the other."""

    def __post_init__(self) -> None:
        """Refuse numbers outside the ranges of their fields."""
        check_ranges(self)


class Backend(Protocol):
    """Run jobs somewhere. Everything that a job leaves is in its directory."""

    def start(self, jobs: Sequence[Job]) -> None:
        """Hand over all jobs; what runs when is the engine's affair."""
        ...

    def ended(self, wait: float) -> dict[str, Outcome]:
        """Give the jobs that have ended since the last call, after at most so many seconds."""
        ...

    def stop(self) -> dict[str, Outcome]:
        """Take back what has not begun, let the rest write checkpoints, and leave nothing behind.

        Called once and last, whether the jobs are over or not.

        Returns:
            How the jobs ended that `ended` has not given.
        """
        ...


STOPPED = Outcome("stopped", "before it had begun")


def died(reason: str) -> Outcome:
    """Say that a worker ended without a word."""
    return Outcome("failed", f"its worker died: {reason}")

"""Run groups as a Slurm job array through submitit, each task one group or a few in turn.

A job that Slurm takes away at its time limit or for another is put back into the queue, and goes on
from its checkpoints; one that dies otherwise is submitted again. `local` in place of Slurm runs the
same tasks as processes of this machine, to try a sweep out.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.sweeps.backends.base import STOPPED, Job, Room, died
from shiftgym_agents.sweeps.backends.queue import (
    FORGOTTEN,
    OwnProcesses,
    Queue,
    Seen,
    SlurmQueue,
    largest_array,
)
from shiftgym_agents.sweeps.backends.slurm_options import read_options
from shiftgym_agents.sweeps.plan import FAILURE, LOG, last_line
from shiftgym_agents.sweeps.work import Outcome, train_group

PATIENCE = 120  # seconds in which cancelled tasks end
GRACE = 10.0  # seconds in which what an ended task said reaches this machine
FOLDER = ".slurm"  # in the sweep's folder: what submitit keeps
DEFAULTS = {"timeout_min": 24 * 60, "name": "shiftgym"}
POLL, SETTLING = 0.2, 0.5  # seconds between looks at the folder, and at a queue that empties
ASKED_TO_STOP = 75  # exit code of a task that was: Slurm knows by whom, and whether it comes back
USUAL = {"", "None", "Priority", "Resources", "JobArrayTaskLimit", "BeginTime", "Dependency"}
ADVICE = {  # by Slurm's reason for a wait that does not end by itself
    "PartitionTimeLimit": "ask for less time: --slurm time=4:00:00",
    "QOSMaxWallDurationPerJobLimit": "ask for less time: --slurm time=4:00:00",
    "AssocMaxWallDurationPerJobLimit": "ask for less time: --slurm time=4:00:00",
    "JobHeldUser": "scontrol release lets them go",
    "BadConstraints": "no node is like that",
}


class Task:
    """Train groups one after the other; submitit carries this to a node."""

    def __call__(self, jobs: Sequence[Job]) -> dict[str, dict[str, str]]:
        """Train those that are not done.

        Raises:
            SystemExit: The task was asked to stop. It leaves no answer, because Slurm may have
                asked, to begin it again later.
        """
        found: dict[str, dict[str, str]] = {}
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            for job in jobs:
                found[job.key] = train_group(*job.arguments)
                if found[job.key]["state"] == "stopped":
                    raise SystemExit(ASKED_TO_STOP)
        except KeyboardInterrupt:
            raise SystemExit(ASKED_TO_STOP) from None
        return found

    def checkpoint(self, jobs: Sequence[Job]) -> Any:
        """Say what is to be queued when Slurm takes the node away: the same again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, jobs)


@dataclass
class Sent:
    """Hold a task that is out: its jobs, what their directories said before, and when it ended."""

    jobs: list[Job]
    before: dict[str, tuple[int, int]]
    ended: float | None = None


class SlurmBackend:
    """Submit every job to Slurm, or to submitit's processes on this machine.

    Args:
        room: what groups take.
        folder: of the sweep, where submitit keeps its files; every node sees it.
        cluster: ``slurm``, or ``local``.
        tell: takes a sentence on the queue.

    Raises:
        ShiftgymError: There is no Slurm here, or it has no such options.
    """

    def __init__(
        self,
        room: Room,
        folder: Path,
        cluster: str = "slurm",
        tell: Callable[[str], None] = print,
    ) -> None:
        import submitit

        self.room, self.folder, self._tell = room, folder / FOLDER, tell
        if room.gpus != round(room.gpus):
            raise ShiftgymError(
                f"--gpus {room.gpus:g}: Slurm gives whole GPUs; --per-task lets groups take turns, "
                "and --slurm gres=shard:1 asks for a part where the cluster has shards."
            )
        threads = max(1, room.threads)
        values: dict[str, Any] = DEFAULTS | {"cpus_per_task": threads}
        if room.gpus:
            values["gpus_per_node"] = round(room.gpus)
        values |= read_options(room.slurm)
        steps = values.get("slurm_srun_args", [])  # since 22.05 a step has one CPU, unless told
        values["slurm_srun_args"] = [f"--cpus-per-task={threads}", *steps]
        try:
            self.executor: Any = submitit.AutoExecutor(
                self.folder, cluster=cluster, slurm_max_num_timeout=room.retries
            )
            self.executor.update_parameters(**values)
        except (AssertionError, RuntimeError, TypeError, ValueError, NameError) as error:
            raise ShiftgymError(f"--backend slurm: {error}") from None
        local = cluster == "local"
        self.queue: Queue = OwnProcesses() if local else SlurmQueue()
        self._most = 0 if local else largest_array()
        self._out: dict[Any, Sent] = {}
        self._tries: Counter[str] = Counter()
        self._told: set[str] = set()

    def start(self, jobs: Sequence[Job]) -> None:
        """Submit all jobs, as one array if that may be large enough.

        Raises:
            ShiftgymError: Slurm refuses them; the message says why.
        """
        size = self.room.per_task
        parts = [list(jobs[k : k + size]) for k in range(0, len(jobs), size)]
        most = self._most or len(parts)
        arrays = [parts[k : k + most] for k in range(0, len(parts), most)]
        for array in arrays:
            self._submit(array, max(1, self.room.jobs // len(arrays)) if self.room.jobs else 0)
        if self._most:
            ids = ",".join(dict.fromkeys(task.job_id.partition("_")[0] for task in self._out))
            self._tell(f"Slurm: {len(parts)} tasks, job {ids}; what they say is in {self.folder}.")

    def ended(self, wait: float) -> dict[str, Outcome]:
        """Give what has ended."""
        until = time.monotonic() + wait
        while True:
            found = self._gather()
            if found or time.monotonic() > until:
                return found
            time.sleep(POLL)

    def stop(self) -> dict[str, Outcome]:
        """Cancel what is left, and wait until it is gone."""
        found: dict[str, Outcome] = {}
        if self._out:
            self.queue.cancel(self._out)
        until = time.monotonic() + PATIENCE
        while self._out and time.monotonic() < until:
            found |= self._gather(stopping=True)
            time.sleep(SETTLING if self._out else 0.0)
        if self._out:
            ids = " ".join(task.job_id for task in self._out)
            self._tell(f"Slurm has not ended these yet: scancel {ids}")
        for sent in self._out.values():
            ended, left = self._left(sent)
            found |= ended | {job.key: _stopped(job) for job in left}
        return found

    # --- tasks ------------------------------------------------------------------------------------

    def _submit(self, parts: Sequence[Sequence[Job]], at_once: int = 0) -> None:
        """Submit an array of tasks; a signal that comes meanwhile comes after."""
        if not parts:
            return
        try:
            with _outside_jobs(), _signals_later():
                self.executor.update_parameters(slurm_array_parallelism=at_once or len(parts))
                made = self.executor.map_array(Task(), parts)
        except (OSError, RuntimeError) as error:
            raise ShiftgymError(_refusal(str(error))) from None
        for task, part in zip(made, parts, strict=True):
            self._out[task] = Sent(list(part), {job.key: _stamps(job) for job in part})

    def _gather(self, stopping: bool = False) -> dict[str, Outcome]:
        """Take in what tasks have said, and what has become of those that say nothing."""
        found: dict[str, Outcome] = {}
        for task in [each for each in self._out if each.paths.result_pickle.exists()]:
            found |= self._said(task, self._out.pop(task))
        seen = self.queue.look(self._out, now=stopping)
        for task in list(self._out):
            at = seen.get(task.job_id)
            if at is None:
                continue
            sent = self._out[task]
            sent.ended = (sent.ended or time.monotonic()) if at.over else None
            said = task.paths.result_pickle.exists()
            if sent.ended is None or said or not self._surely(at, sent.ended, stopping):
                continue
            del self._out[task]
            found |= self._silent(task, sent, at, stopping)
        self._explain(seen)
        return found

    def _surely(self, at: Seen, ended: float, stopping: bool) -> bool:
        """Say whether an ended task's answer would be here if there was one."""
        late = time.monotonic() - ended > GRACE
        return stopping or late or at.state not in ("COMPLETED", "FAILED", FORGOTTEN)

    def _said(self, task: Any, sent: Sent) -> dict[str, Outcome]:
        """Give the answer of a task."""
        try:
            said = task.result()
        except Exception as error:  # submitit gives whatever went wrong on the node
            reason = f"{_cause(str(error))} (more in {task.paths.stderr})"
            found, left = self._left(sent)
            return found | {job.key: died(reason) for job in left}
        return {job.key: Outcome(**said[job.key]) for job in sent.jobs}

    def _silent(self, task: Any, sent: Sent, at: Seen, stopping: bool) -> dict[str, Outcome]:
        """Say how the groups of a task ended that left no answer; those that may go on, go on."""
        found, left = self._left(sent)
        if not left:
            return found
        if stopping:
            return found | {job.key: _stopped(job) for job in left}
        if at.state in ("CANCELLED", FORGOTTEN):
            what = "was cancelled" if at.state == "CANCELLED" else "is unknown to Slurm: cancelled?"
            reason = Outcome("failed", f"its job {task.job_id} {what}")
            return found | {job.key: reason for job in left}
        first = left[0]
        if at.state != "PREEMPTED":
            self._tries[first.key] += 1
        if self._tries[first.key] > self.room.retries:
            reason = died(f"job {task.job_id} {at.state}{_last_words(task)}")
            begun = _stamps(first)[0] != sent.before[first.key][0]
            lost = [first] if begun else left  # what never begins says nothing of the first alone
            found |= {job.key: reason for job in lost}
            left = left[len(lost) :]
        try:
            self._submit([left] if left else [])
        except ShiftgymError as error:
            found |= {job.key: died(str(error)) for job in left}
        return found

    def _left(self, sent: Sent) -> tuple[dict[str, Outcome], list[Job]]:
        """Tell the groups of a task that have ended, by their directories, from the others."""
        found: dict[str, Outcome] = {}
        left = []
        for job in sent.jobs:
            failure = Path(job.out) / FAILURE
            if (Path(job.out) / "result.json").exists():
                found[job.key] = Outcome("done")
            elif _stamps(job)[1] not in (0, sent.before[job.key][1]):
                found[job.key] = Outcome("failed", last_line(failure))
            else:
                left.append(job)
        return found, left

    def _explain(self, seen: dict[str, Seen]) -> None:
        """Say once why tasks wait, where that is not for others alone."""
        waits = Counter(at.reason for at in seen.values() if at.state == "PENDING")
        for reason, count in waits.items():
            if reason not in USUAL | self._told:
                self._told.add(reason)
                advice = f": {ADVICE[reason]}" if reason in ADVICE else ""
                self._tell(f"Slurm: {count} tasks wait: {reason}{advice}.")


@contextmanager
def _signals_later() -> Iterator[None]:
    """Keep Ctrl-C and SIGTERM from what runs inside the block, and get them after it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _outside_jobs() -> Iterator[None]:
    """Hide from a new job that the sweep itself runs in one."""
    inside = "SLURM_JOB_ID" in os.environ
    names = [name for name in os.environ if name.startswith(("SLURM_", "SLURMD_", "SUBMITIT_"))]
    hidden = {n: os.environ.pop(n) for n in names if inside and n != "SLURM_CONF"}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _stamps(job: Job) -> tuple[int, int]:
    """Say when a group's log and its failure were written last; 0 where they are not."""
    found = []
    for name in (LOG, FAILURE):
        try:
            found.append((Path(job.out) / name).stat().st_mtime_ns)
        except OSError:
            found.append(0)
    return found[0], found[1]


def _stopped(job: Job) -> Outcome:
    begun = (Path(job.out) / "config.json").exists()
    return Outcome("stopped", "after a checkpoint") if begun else STOPPED


def _refusal(text: str) -> str:
    """Give sbatch's last word, and what helps against a limit."""
    lines = [line for line in text.splitlines() if line.strip()] or ["it says nothing"]
    hint = " --per-task 8 makes fewer tasks." if "limit" in text.lower() else ""
    return f"--backend slurm: {lines[-1].strip()}.{hint}"


def _cause(text: str) -> str:
    """Give the last line of the trace in submitit's report of a failure."""
    trace = text.partition("You can check full logs")[0]
    lines = [line for line in trace.splitlines() if line.strip("- ")]
    return lines[-1].strip() if lines else "it says nothing"


def _last_words(task: Any) -> str:
    """Give the end of what a dead task wrote."""
    with suppress(OSError):
        lines = task.paths.stderr.read_text(errors="replace").strip().splitlines()
        return f", {lines[-1].strip()} ({task.paths.stderr})" if lines else ""
    return ""

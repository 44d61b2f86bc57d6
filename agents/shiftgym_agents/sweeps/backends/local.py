"""Run groups as processes of this machine, a few at a time.

Each is a process group of its own, so that Ctrl-C reaches the sweep alone; one whose sweep is gone,
however that went, writes a checkpoint and ends.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_any
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from typing import Any

from shiftgym_agents.sweeps.backends.base import STOPPED, Job, Room, died
from shiftgym_agents.sweeps.work import Outcome, train_group

PATIENCE = 120  # seconds in which a process that is asked to stop writes its checkpoint
METHODS = ("forkserver", "spawn")  # the former has imported everything once


class LocalBackend:
    """Run at most `room.jobs` processes at once."""

    def __init__(self, room: Room) -> None:
        self.room = room
        kinds = multiprocessing.get_all_start_methods()
        kind = next(kind for kind in METHODS if kind in kinds)
        self._context: Any = multiprocessing.get_context(kind)
        if kind == "forkserver":
            self._context.set_forkserver_preload([train_group.__module__])
        self._threads = ThreadPoolExecutor(max(1, room.jobs), "group")
        self._futures: dict[Future[Outcome], str] = {}
        self._running: set[Any] = set()
        self._stopping = threading.Event()

    def start(self, jobs: Sequence[Job]) -> None:
        """Queue all jobs."""
        for job in jobs:
            self._futures[self._threads.submit(self._run, job)] = job.key

    def ended(self, wait: float) -> dict[str, Outcome]:
        """Give what has ended."""
        done, _ = wait_any(self._futures, timeout=wait, return_when=FIRST_COMPLETED)
        return {
            self._futures.pop(future): STOPPED if future.cancelled() else future.result()
            for future in done
        }

    def stop(self) -> dict[str, Outcome]:
        """Ask the processes to write checkpoints, and wait for them."""
        self._stopping.set()
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in list(self._running):
            process.terminate()
        until = time.monotonic() + PATIENCE
        for process in list(self._running):
            process.join(max(0.0, until - time.monotonic()))
            if process.is_alive():
                process.kill()
        self._threads.shutdown(wait=True)
        return self.ended(0.0)

    def _run(self, job: Job) -> Outcome:
        """Run one job in a process of its own, again where it is killed."""
        outcome = STOPPED
        for _ in range(self.room.retries + 1):
            if self._stopping.is_set():
                break
            ours, theirs = self._context.Pipe(duplex=False)
            process = self._context.Process(target=_child, args=(theirs, job, dict(os.environ)))
            process.start()
            theirs.close()
            self._running.add(process)
            if self._stopping.is_set():
                process.terminate()
            try:
                said = ours.recv()
            except EOFError:
                said = None
            process.join()
            self._running.discard(process)
            ours.close()
            if said is not None:
                return Outcome(**said)
            outcome = died(_ending(process.exitcode))
        return Outcome("stopped", outcome.reason) if self._stopping.is_set() else outcome


def _child(answer: Connection, job: Job, environment: dict[str, str]) -> None:
    """Train in a process of its own, with the environment that its sweep has now.

    A fork server's children have the one that it began with, such as another folder of datasets.
    """
    os.environ.clear()
    os.environ.update(environment)
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    threading.Thread(target=_follow_parent, daemon=True).start()
    answer.send(train_group(*job.arguments))


def _follow_parent() -> None:
    """Stop, as SIGTERM would, when the sweep is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        return f"{name}, of memory perhaps" if name == "SIGKILL" else name
    return f"exit code {code}"

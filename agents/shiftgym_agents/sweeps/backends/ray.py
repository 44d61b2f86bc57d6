"""Run groups as tasks of a Ray cluster: one that runs already, or this machine alone.

Ray places them, counts CPUs and parts of GPUs, and runs a task anew when its worker or its node is
gone; the directory's checkpoint is where it goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.sweeps.backends.base import Job, Room, died
from shiftgym_agents.sweeps.work import Outcome, train_group

PATIENCE = 120  # seconds in which a task that is asked to stop writes its checkpoint


class RayBackend:
    """Run every job as one Ray task."""

    def __init__(self, room: Room) -> None:
        import ray

        self.ray: Any = ray
        self._own = not ray.is_initialized()
        if self._own:
            options: dict[str, Any] = {"address": room.address or None, "log_to_driver": False}
            try:
                ray.init(**options, logging_level=logging.WARNING)
            except ConnectionError as error:
                raise ShiftgymError(
                    f"No Ray cluster at {room.address}: {error}. Start one: ray start --head"
                ) from None
        self._work = ray.remote(
            num_cpus=max(1, room.threads), num_gpus=room.gpus, max_retries=room.retries
        )(train_group)
        self._refs: dict[Any, str] = {}

    def start(self, jobs: Sequence[Job]) -> None:
        """Submit all jobs."""
        for job in jobs:
            self._refs[self._work.options(name=job.key).remote(*job.arguments)] = job.key

    def ended(self, wait: float) -> dict[str, Outcome]:
        """Give what has ended."""
        if not self._refs:
            return {}
        done, _ = self.ray.wait(list(self._refs), num_returns=1, timeout=wait)
        return {self._refs.pop(ref): self._outcome(ref) for ref in done}

    def stop(self) -> dict[str, Outcome]:
        """Cancel what is left: running tasks write a checkpoint; those that do not end are killed.

        A cluster that was there before is left as it was, without our tasks.
        """
        for ref in self._refs:
            self.ray.cancel(ref, force=False)
        if self._refs:
            _, late = self.ray.wait([*self._refs], num_returns=len(self._refs), timeout=PATIENCE)
            for ref in late:
                self.ray.cancel(ref, force=True)
        found = {key: self._outcome(ref) for ref, key in self._refs.items()}
        if self._own:
            self.ray.shutdown()
        return found

    def _outcome(self, ref: Any) -> Outcome:
        try:
            return Outcome(**self.ray.get(ref))
        except self.ray.exceptions.TaskCancelledError:
            return Outcome("stopped", "cancelled")
        except self.ray.exceptions.RayError as error:
            return died(str(error).strip().splitlines()[0])

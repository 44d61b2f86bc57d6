"""States and copies of the vector environment: everything that its future depends on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from shiftgym.basics.arrays import Array
from shiftgym.basics.errors import ShiftgymError
from shiftgym.engine import mujoco
from shiftgym.envs.changing import PARTS, Changing
from shiftgym.envs.state import WORDS, check_state, pack_rng, unpack_rng
from shiftgym.envs.task import Sims, Task

SPACES = ("single_observation_space", "single_action_space", "observation_space", "action_space")
COPIED = ("spec", "closed", "_rngs", "_seeds", "_started", *SPACES)  # besides physics and counters


class Kept:
    """Save and restore the vector environment that this is a part of."""

    num_envs: int
    task: Task
    sims: Sims
    changing: Changing
    _arguments: dict[str, Any]
    _batch: mujoco.batch.Batch
    _rngs: list[np.random.Generator | None]
    _elapsed: Array
    _ended: Array
    _started: bool

    def _physics(self) -> dict[str, Array]:
        own = {name: getattr(self.sims, name).copy() for name in self.task.own_model_fields}
        memory = {name: value.copy() for name, value in self.sims.memory.items()}
        counters = {"elapsed": self._elapsed.copy(), "ended": self._ended.copy()}
        changes = self.changing.save()
        return {"integration": self._batch.state.copy(), **own, **memory, **counters, **changes}

    def _set_physics(self, saved: Mapping[str, Array]) -> None:
        self.changing.restore(saved)
        for name in self.task.own_model_fields:
            getattr(self.sims, name)[:] = saved[name]
        self._batch.state[:] = saved["integration"]
        self._batch.forward()  # current derived fields
        self._batch.state[:] = saved["integration"]
        for name, value in self.sims.memory.items():
            value[:] = saved[name]
        self._elapsed = saved["elapsed"].astype(np.int64)
        self._ended = saved["ended"].astype(bool)

    def get_state(self) -> dict[str, Array]:
        """Give everything the future depends on, as arrays with N rows."""
        if not self._started:
            raise ShiftgymError("Call reset() before get_state(): there is no state yet.")
        words = np.stack([pack_rng(rng) for rng in self._rngs if rng is not None])
        return {**self._physics(), "rng": words}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore a state from :meth:`get_state`; the same actions then repeat bit for bit.

        Raises:
            ShiftgymError: the state is of another robot or another number of sub-environments, or
                not whole.
        """
        rng = {"rng": np.zeros((self.num_envs, WORDS), np.uint64)}
        like = {name: v for name, v in self._physics().items() if name not in PARTS}
        like |= self.changing.like(state) | rng
        saved = check_state(state, like, "another robot, or another num_envs")
        self._set_physics(saved)
        self._rngs = [unpack_rng(words) for words in saved["rng"]]
        self._started = True

    def __getstate__(self) -> dict[str, Any]:
        """Give what a copy is made from: arguments, physics, generators, counters."""
        copied = {name: getattr(self, name) for name in COPIED}
        return {"arguments": self._arguments, "copied": copied, "physics": self._physics()}

    def __setstate__(self, saved: dict[str, Any]) -> None:
        """Become a copy, with threads of its own."""
        type(self).__init__(self, **saved["arguments"])
        if saved["copied"]["_started"]:
            self._set_physics(saved["physics"])
        for name, value in saved["copied"].items():
            setattr(self, name, value)

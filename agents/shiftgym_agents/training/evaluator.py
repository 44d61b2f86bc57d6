"""Evaluate all runs in one vector environment, beside training.

A worker thread evaluates copies of the policies, one evaluation after the other, while training
goes on: physics runs on C++ threads that hold no Python lock. What it finds depends on the policies
and the start seeds only, never on timing.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from shiftgym_agents.core.policy import Policy
from shiftgym_agents.data.places import Place
from shiftgym_agents.training.vectorised import make_envs

SPACING = 10_000  # start seeds between two runs; more than evaluations x episodes of one run


@dataclass(frozen=True)
class Returns:
    """Hold what each run's episodes earned.

    Attributes:
        returns: sums of rewards `(R, E)`; NaN where a run's policy is not finite.
        lengths: environment steps `(R, E)`.
    """

    returns: np.ndarray
    lengths: np.ndarray


class Evaluator:
    """Own the vector environment of `R` runs x `E` episodes and the thread that steps it.

    Args:
        places: Where each run is evaluated.
        seeds: One per run: run `k` sees the same starts alone and among others.
        episodes: Episodes per run and evaluation.
        threads: C++ threads that step; 0 for one per CPU.
    """

    def __init__(
        self,
        places: Sequence[Place],
        seeds: Sequence[int],
        episodes: int,
        threads: int = 0,
    ) -> None:
        each = [place for place in places for _ in range(episodes)]
        self.envs: Any = make_envs(each, threads)
        mode = self.envs.metadata.get("autoreset_mode")
        self.resets = mode == AutoresetMode.DISABLED  # else environments start anew themselves
        self.seeds, self.episodes = list(seeds), episodes
        self._worker = ThreadPoolExecutor(1, "evaluation")
        self._pending: list[Future[Returns]] = []

    def submit(self, policy: Policy, index: int) -> Future[Returns]:
        """Evaluate a policy in the background; at most one more waits, then this call does."""
        self._pending = [future for future in self._pending if not future.done()]
        while len(self._pending) > 1:
            self._pending.pop(0).result()
        self._pending.append(self._worker.submit(self.evaluate, policy, index))
        return self._pending[-1]

    def close(self) -> None:
        """Stop the thread and the environment."""
        self._worker.shutdown(cancel_futures=True)
        self.envs.close()

    def evaluate(self, policy: Policy, index: int) -> Returns:
        """Run one deterministic episode per run and start, the `index`-th set of starts."""
        runs, episodes = len(self.seeds), self.episodes
        first = [SPACING * (1 + seed) + index * episodes for seed in self.seeds]
        obs, _ = self.envs.reset(seed=[start + e for start in first for e in range(episodes)])
        policy.require_fit(obs)
        total, length = np.zeros(runs * episodes), np.zeros(runs * episodes, np.int64)
        alive = np.ones(runs * episodes, bool)
        while alive.any():
            actions = policy.act(obs.reshape(runs, episodes, -1))
            flat = actions.reshape(runs * episodes, -1)
            obs, reward, terminated, truncated, _ = self.envs.step(flat)
            total += reward * alive
            length += alive
            ended = terminated | truncated
            alive &= ~ended
            if (
                self.resets and ended.any()
            ):  # ended ones go on from a new start, uncounted, to keep the batch whole
                obs, _ = self.envs.reset(options={"reset_mask": ended})
        bad = [not policy.finite(k) for k in range(runs)]
        returns = total.reshape(runs, episodes)
        returns[bad] = np.nan
        return Returns(returns, length.reshape(runs, episodes))

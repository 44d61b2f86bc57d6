"""Let the pen's policy imitate its own best episodes, each for the target that it served best.

Few episodes succeed with their own target, but some episode of the last few hundred succeeds with
nearly any. So after every iteration of PPO, targets are drawn as a reset draws them; each takes,
out of the episodes remembered, the one that would have earned most with it; where that holds the
target for long enough, the policy is fitted to its actions. Per agent, with sigma the policy's
spread:

    mean ((mean(o with the other target) - a) / sigma)^2 / 2
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shiftgym.basics.ranges import CountOrNone, Positive, Size, check_ranges
from shiftgym.evaluation import HELD
from shiftgym_tools.behaviours.hands.pen_goals import WIDEST, directions, judge, relabel
from shiftgym_tools.behaviours.hands.rollout import Rollout


@dataclass(frozen=True)
class HindsightConfig:
    """Set how much the pen's policy learns from its own episodes with other targets."""

    steps: CountOrNone = 0
    """Gradient steps of imitation per iteration; 0 for none. With any, all episodes end with the
    rollout, so that the next one begins with whole ones; 100 rollout steps are a good length."""
    batch: Size = 512
    """Observations per gradient step."""
    learning_rate: Positive = 5e-4
    """Adam's step size for imitation."""
    targets: Size = 400
    """Directions drawn per iteration, each of which takes the episode that served it best."""
    hold: CountOrNone = HELD["pen"]
    """An episode serves a target that it holds for more steps than this. The least that counts as
    success; more, such as 40, demonstrates holding still, too."""
    memory: Size = 8
    """Iterations whose episodes are remembered."""

    def __post_init__(self) -> None:
        """Refuse numbers outside the ranges of their fields."""
        check_ranges(self)


class Hindsight:
    """Remember the episodes of `R` agents and choose among them for other targets.

    Args:
        config: How much to remember and to draw.
        shape: Runs R, rollout steps T, sub-environments E, sizes of observation and action.
    """

    def __init__(self, config: HindsightConfig, shape: tuple[int, int, int, int, int]) -> None:
        self.config = config
        runs, steps, envs, obs, act = shape
        room = runs, config.memory, envs
        self.obs = torch.zeros(*room, steps, obs)
        self.actions = torch.zeros(*room, steps, act)
        self.lengths = torch.zeros(room, dtype=torch.int64)
        self.count = 0

    def remember(self, rollout: Rollout) -> None:
        """Keep the episodes that a rollout began with, up to where each first ended."""
        slot, steps = self.count % self.config.memory, rollout.ended.shape[1]
        self.obs[:, slot] = rollout.obs.transpose(1, 2)
        self.actions[:, slot] = rollout.actions.transpose(1, 2)
        order = torch.arange(steps)[None, :, None]
        self.lengths[:, slot] = torch.where(rollout.ended > 0, order + 1, steps).amin(1)
        self.count += 1

    def choose(
        self, generators: Sequence[torch.Generator], size: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw what to imitate.

        Args:
            generators: One per agent.
            size: Observations per agent.

        Returns:
            Observations `(R, size, obs)` with the targets that their episodes served, actions
            `(R, size, act)`, and the share of targets that any episode served, `(R,)`; where it is
            0, the observations mean nothing.
        """
        known = min(self.count, self.config.memory)
        found = [self._choose(run, known, g, size) for run, g in enumerate(generators)]
        obs, actions, share = zip(*found, strict=True)
        return torch.stack(obs), torch.stack(actions), torch.tensor(share)

    def _choose(
        self, run: int, known: int, generator: torch.Generator, size: int
    ) -> tuple[Tensor, Tensor, float]:
        obs, actions = self.obs[run, :known].flatten(0, 1), self.actions[run, :known].flatten(0, 1)
        lengths = self.lengths[run, :known].flatten()
        angles = torch.rand(self.config.targets, 2, generator=generator) * 2 - 1
        targets = directions(WIDEST * angles)
        parts = zip(obs.split(128), lengths.split(128), strict=True)  # bounds the memory taken
        earned, held = map(torch.cat, zip(*(judge(*own, targets) for own in parts), strict=True))
        best = earned.argmax(0)
        served = held[best, torch.arange(len(targets))] > self.config.hold
        good = torch.nonzero(served).flatten()
        picks = torch.rand(2, size, generator=generator)
        if not len(good):
            return torch.zeros(size, obs.shape[2]), torch.zeros(size, actions.shape[2]), 0.0
        chosen = good[(picks[0] * len(good)).long()]
        episodes = best[chosen]
        steps = (picks[1] * lengths[episodes]).long()
        seen = relabel(obs[episodes, steps], targets[chosen])
        return seen, actions[episodes, steps], len(good) / len(targets)

    def save(self) -> dict[str, np.ndarray]:
        """Return what `load` needs to go on."""
        kept = {"obs": self.obs, "actions": self.actions, "lengths": self.lengths}
        return {name: a.numpy() for name, a in kept.items()} | {"count": np.asarray([self.count])}

    def load(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from what `save` returned."""
        for name in ("obs", "actions", "lengths"):
            getattr(self, name).copy_(torch.from_numpy(arrays[name].copy()))
        self.count = int(arrays["count"][0])

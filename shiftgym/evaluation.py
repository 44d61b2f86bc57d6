"""Measure a policy: fresh episodes in one vector environment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from shiftgym.arrays import Array
from shiftgym.domains import Domain, domain
from shiftgym.policies import Policy
from shiftgym.statistics import bootstrap_interval, wilson_interval

Act = Callable[[Array], Array]
HELD = {"pen": 20, "door": 25}  # a hand succeeds when it holds its goal for more steps (DAPG)


@dataclass(frozen=True)
class Evaluation:
    """Hold what single episodes earned, in the order of their seeds.

    Attributes:
        returns: sums of rewards, (n,).
        lengths: environment steps, (n,).
        successes: whether each episode succeeded, (n,) bool; None for locomotion.
        speed: mean forward velocity over all steps, in m/s; None for hands.
        change: root mean square of what an action's numbers change from step to step.
        noise: root mean square of what they differ by from the most likely action's; None where
            that was not given.
    """

    returns: Array
    lengths: Array
    successes: Array | None
    speed: float | None = None
    change: float = 0.0
    noise: float | None = None

    def summary(self) -> dict[str, Any]:
        """Give mean return with 95 % interval, mean length, success with its interval, and style.

        Speed, change and noise are told where they are known.
        """
        low, high = bootstrap_interval(self.returns)
        found: dict[str, Any] = {
            "episodes": len(self.returns),
            "return": float(self.returns.mean()),
            "return_low": low,
            "return_high": high,
            "length": float(self.lengths.mean()),
        }
        if self.successes is not None:
            count = int(self.successes.sum())
            found["success"] = count / len(self.successes)
            found["success_low"], found["success_high"] = wilson_interval(
                count, len(self.successes)
            )
        style = {"speed": self.speed, "change": self.change, "noise": self.noise}
        return found | {name: value for name, value in style.items() if value is not None}


def evaluate(
    act: Act,
    where: str | Domain,
    episodes: int = 100,
    seed: int = 0,
    likely: Act | None = None,
) -> Evaluation:
    """Run one episode per seed and measure it.

    Args:
        act: observations (N, obs) to actions (N, act); see :func:`policy_act`.
        where: the domain.
        episodes: number of episodes, all stepped at once.
        seed: episode i starts from ``seed + i``.
        likely: the same without noise, against which the noise of actions is measured.
    """
    of = domain(where)
    envs: Any = of.make_vec(episodes, autoreset_mode="disabled")
    observations, _ = envs.reset(seed=seed)
    running = np.ones(episodes, dtype=bool)
    returns, lengths = np.zeros(episodes), np.zeros(episodes, dtype=np.int64)
    held = np.zeros(episodes, dtype=np.int64)
    bounds = envs.single_action_space.low, envs.single_action_space.high
    last, travelled, changed, astray = None, None, 0.0, 0.0
    while running.any():
        actions = act(observations)
        taken = np.clip(actions, *bounds)
        if last is not None:
            changed += _square(taken - last, running)
        if likely is not None:
            astray += _square(taken - np.clip(likely(observations), *bounds), running)
        last = taken
        observations, rewards, terminated, truncated, infos = envs.step(actions)
        returns += rewards * running
        lengths += running
        if "success" in infos:
            held += infos["success"] & running
        if "x_velocity" in infos:
            travelled = (travelled or 0.0) + float(infos["x_velocity"] @ running)
        ended = terminated | truncated
        running &= ~ended
        if ended.any():  # ended ones go on from a new start, uncounted, to keep the batch whole
            observations, _ = envs.reset(options={"reset_mask": ended})
    envs.close()
    goal, steps = HELD.get(of.robot), int(lengths.sum())
    return Evaluation(
        returns,
        lengths,
        successes=None if goal is None else held > goal,
        speed=None if travelled is None else travelled / steps,
        change=float(np.sqrt(changed / max(1, steps - episodes))),
        noise=None if likely is None else float(np.sqrt(astray / steps)),
    )


def _square(differences: Array, running: Array) -> float:
    """Sum, over the episodes that run, the mean square of an action's numbers."""
    return float(np.square(differences, dtype=np.float64).mean(axis=1) @ running)


def policy_act(policy: Policy, seed: int | None = None) -> Act:
    """Give a policy's ``act`` for :func:`evaluate`: stochastic with a seed, else deterministic."""
    rng = None if seed is None else np.random.default_rng(seed)
    return lambda observations: policy.act(observations, rng)


def random_act(where: str | Domain, seed: int = 0) -> Act:
    """Give uniform random actions for :func:`evaluate`."""
    env: Any = domain(where).make()
    space = env.action_space
    env.close()
    rng = np.random.default_rng(seed)

    def act(observations: Array) -> Array:
        shape = (len(observations), *space.shape)
        return rng.uniform(space.low, space.high, shape).astype(np.float32)

    return act

"""Make transitions with learned dynamics of the target, and keep the latest of them for every run.

Every so many updates the target's model answers, one step ahead,

    the policy's actions in source states,  its actions in target states,  source rows' own actions

With members' answers s_i, their mean m and deviation sigma, and xi standard normal,

    s' = s_e + sigma xi  of a random elite e,   r = mean of the members' r^(s, a, s') - penalty u
    u  = max_i |s_i - m|,   d = the robot's own rule of terminal states at s'

|.| being the root mean square over dimensions in usual changes (see `dynamics`), so that u is 1
where members differ by as much as steps do, in any robot; the released code has the norm of raw
states. Rows with u above a limit are dropped; a ring keeps the latest `capacity` others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from shiftgym.basics.ranges import Amount, Count, CountOrNone, Limit
from shiftgym.envs.tasks import TASKS
from shiftgym_agents.components.mobody_dynamics import LatentDynamics
from shiftgym_agents.core.agent import Agent
from shiftgym_agents.data.terminal import Rule, require_rules

CHUNK = 4096  # rows that all members answer at a time


@dataclass(frozen=True)
class ModelRowsConfig:
    """Set how many transitions the model makes; a method's configuration extends it."""

    rollout_every: Count = 5_000
    """Updates between refills of the model's rows."""
    rollout_source: CountOrNone = 10_000
    """Source states in which the policy acts, per refill; published is 50,000."""
    rollout_target: CountOrNone = 400
    """Target states in which the policy acts, per refill; published is 2,000."""
    rollout_pairs: CountOrNone = 10_000
    """Source rows whose own action the target's model answers; published is 50,000."""
    model_capacity: Count = 100_000
    """Latest model rows that are kept, in memory and checkpoints; published is 1,000,000."""
    penalty: Amount = 1.0
    """Reward that model rows lose per unit of the members' disagreement u."""
    disagreement_units: Literal["changes", "raw"] = "changes"
    """Measure u in usual changes, or as the norm of raw states (released code)."""
    disagreement_limit: Limit = 1.0
    """Largest disagreement of a model row that is kept; published is 10, of raw states."""
    disagreement_dims: Literal["all", "but_last"] = "all"
    """Whether u includes the last dimension of states, which the released code drops."""
    model_ends: Literal["robot", "released", "never"] = "robot"
    """Where model rows end: by the robot's own rule (--terminal gives that of a robot of yours), by
    the released code's, or nowhere."""


class ModelRows:
    """Keep the model's transitions for every run.

    Args:
        agent: The runs; call this while it builds, after its actor.
        dynamics: What answers.
        config: How many, and how they are judged.
        robots: Each run's robot; None for one that is not shiftgym's.
        rules: Each run's rule of what ends; None where nobody knows.

    Raises:
        ShiftgymError: Where rows end is asked of a rule that is not known.
    """

    def __init__(
        self,
        agent: Agent[Any],
        dynamics: LatentDynamics,
        config: ModelRowsConfig,
        robots: Sequence[str | None],
        rules: Sequence[Rule | None],
    ) -> None:
        if config.model_ends == "robot" or None in robots and config.model_ends == "released":
            own = rules if config.model_ends == "robot" else [None]
            require_rules(own, "mobody makes transitions with a model", "--model-ends never")
        self.agent, self.dynamics, self.config = agent, dynamics, config
        self.robots, self.rules = robots, rules
        runs, width = agent.runs, agent.data.rows.shape[1]
        empty = torch.zeros(runs, config.model_capacity, width, dtype=agent.dtype)
        self.rows = agent.buffer("model_ring", empty)
        self.written = agent.buffer("model_written", torch.zeros(runs, dtype=torch.int64))
        self.refills = agent.buffer("model_refills", torch.zeros(runs, dtype=torch.int64))
        self.kept = agent.buffer("model_kept", torch.zeros(runs, dtype=agent.dtype))
        self.penalty = agent.per_run("penalty")
        self.limit = agent.per_run("disagreement_limit")
        self.shift, self.scale = (
            torch.from_numpy(part).to(agent.device, agent.dtype)
            for part in (agent.data.shift, agent.data.scale)
        )

    @torch.no_grad()
    def fill(self) -> None:
        """Make the first rows, unless there were refills before."""
        if not self.refills.any():
            self.refill()

    @torch.no_grad()
    def refill(self) -> None:
        """Let the model answer, and keep what it is sure enough of."""
        agent, config = self.agent, self.config
        sources = config.rollout_source + config.rollout_pairs
        drawn = agent.data.draw(agent.generators, 1, sources, config.rollout_target)[:, 0]
        batch = agent.data.batch(drawn, sources)
        own = batch.act[:, : config.rollout_pairs]
        obs = batch.obs[:, config.rollout_pairs :]
        act = torch.cat([own, torch.tanh(agent.actor(obs))], 1)
        rows, sure = self.answers(batch.obs, act)
        for run in range(agent.runs):
            self._write(run, rows[run, sure[run]])
        self.kept.copy_(sure.to(agent.dtype).mean(1))
        self.refills.add_(1)

    def answers(self, obs: Tensor, act: Tensor) -> tuple[Tensor, Tensor]:
        """Let the model answer at `(R, B, .)`: packed rows `(R, B, D)`, and which to keep."""
        agent, members = self.agent, self.dynamics
        spread, choice = self._noise(obs.shape[1])
        parts: list[Tensor] = []
        distances: list[Tensor] = []
        for k in range(0, obs.shape[1], CHUNK):
            part = slice(k, k + CHUNK)
            states = members.predict(obs[:, part], act[:, part])
            distances.append(self.disagreement(states))
            elite = members.elite.gather(1, choice[:, part])[:, None, :, None]
            one = states.gather(1, elite.expand(-1, -1, -1, states.shape[3]))[:, 0]
            after = one + states.std(1, correction=0) * spread[:, part]
            reward = members.rewards(obs[:, part], act[:, part], after)
            reward = reward - self.penalty * distances[-1]
            ends = self.ends(after).to(agent.dtype)
            parts.append(torch.cat([obs[:, part], act[:, part], after, reward, ends], 2))
        return torch.cat(parts, 1), (torch.cat(distances, 1) <= self.limit)[..., 0]

    def disagreement(self, states: Tensor) -> Tensor:
        """Give u of members' states `(R, N, B, O)`, `(R, B, 1)`."""
        scale = self.dynamics.usual[1][:, None]
        if self.config.disagreement_dims == "but_last":
            states = states[..., :-1]
            scale = scale[..., :-1]
        gaps = states - states.mean(1, keepdim=True)
        if self.config.disagreement_units == "raw":
            return gaps.norm(dim=3).amax(1)[..., None]
        return (gaps / scale).square().mean(3).sqrt().amax(1)[..., None]

    def ends(self, states: Tensor) -> Tensor:
        """Say which states `(R, B, O)` are terminal, `(R, B, 1)` bool."""
        raw = states * self.scale + self.shift
        whose = zip(self.robots, self.rules, raw, strict=True)
        return torch.stack([self._ends(*each) for each in whose])[..., None]

    def _ends(self, robot: str | None, rule: Rule | None, states: Tensor) -> Tensor:
        """Say which raw states of one run are terminal."""
        if self.config.model_ends == "robot" and rule is not None:
            return rule(states)
        if self.config.model_ends == "released" and robot is not None:
            return released_ends(robot, states)
        return states[..., 0] < -math.inf  # nowhere

    def draw(self, uniform: Tensor, otherwise: Tensor) -> Tensor:
        """Draw rows by uniform numbers `(R, F, 1)`; a run that has none gets `otherwise`.

        Both are `(R, F, D)`.
        """
        count = self.written.clamp(max=self.config.model_capacity)[:, None, None]
        place = (uniform.double() * count).long().minimum(count - 1).clamp(min=0)
        rows = self.rows.gather(1, place.expand(-1, -1, self.rows.shape[2]))
        return torch.where(count > 0, rows, otherwise)

    def _write(self, run: int, rows: Tensor) -> None:
        """Put rows `(K, D)` where the oldest are."""
        rows = rows[-self.config.model_capacity :]
        start = int(self.written[run])
        place = torch.arange(start, start + len(rows), device=rows.device)
        self.rows[run, place % self.config.model_capacity] = rows
        self.written[run] += len(rows)

    def _noise(self, count: int) -> tuple[Tensor, Tensor]:
        """Draw the normal numbers `(R, B, O)` and the elites `(R, B)` of so many rows."""
        agent, elites = self.agent, self.dynamics.config.elites
        normal = {"dtype": agent.dtype, "device": agent.device}
        size = (count, agent.obs_size)
        spread = [torch.randn(size, generator=g, **normal) for g in agent.generators]
        choice = [
            torch.randint(elites, (count,), generator=g, device=agent.device)
            for g in agent.generators
        ]
        return torch.stack(spread), torch.stack(choice)


def robot_ends(robot: str, states: Tensor) -> Tensor:
    """Say which raw states `(B, O)` the robot's own rule ends, `(B,)` bool."""
    return TASKS[robot].terminal(states)


def released_ends(robot: str, states: Tensor) -> Tensor:
    """Say which raw states the released code ends, `(B,)` bool.

    It ends half cheetahs and walkers where any number reaches 100 in size, too, and misses hoppers
    where one is -100 or less.
    """
    if robot in ("halfcheetah", "walker2d"):
        return robot_ends(robot, states) | ~(states.abs() < 100).all(-1)
    if robot == "hopper":
        z, angle = states[..., 0], states[..., 1]
        inside = (states.abs() < math.inf).all(-1) & (states[..., 1:] < 100).all(-1)
        return ~(inside & (z > 0.7) & (angle.abs() < 0.2))
    return robot_ends(robot, states)

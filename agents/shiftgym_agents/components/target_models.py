"""Learn three small models of the target from its own rows: what follows, pays, and did it.

    forward  f(s, a)  -> s' - s        inverse  g(s, s') -> a        reward  r(s, a)

Everything they read and predict is standardised by the target rows' mean and deviation, so that an
error of 1 is that of always predicting the mean; g reads (s, s' - s), which says the same as
(s, s') at the scale of what happens in a step. Each is the one of its kind whose error on rows held
out of its training was least.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from shiftgym.basics.ranges import Count, CountOrNone, HeldOut
from shiftgym_agents.components.holdout import HoldOut
from shiftgym_agents.core.agent import Agent, Noise, Stage
from shiftgym_agents.core.losses import weighted_mean
from shiftgym_agents.core.nets import minimise
from shiftgym_agents.data.batches import Batch


@dataclass(frozen=True)
class TargetModelsConfig:
    """Set the hyperparameters of the models; a method's configuration extends it."""

    target_model_steps: CountOrNone = 10_000
    """Updates of the models of the target's steps, rewards and actions, on target rows."""
    target_model_every: Count = 100
    """Updates between looks at their errors on held-out rows."""
    target_model_hold_out: HeldOut = 0.1
    """Share of target rows held out of their training, to keep the best of each by."""


class TargetModels:
    """Hold the three models of every run.

    Args:
        agent: The runs; call this while it builds.
        config: How they are trained.
    """

    def __init__(self, agent: Agent[Any], config: TargetModelsConfig) -> None:
        self.agent, self.config = agent, config
        states, actions = agent.obs_size, agent.act_size
        sizes = {
            "forward": (states + actions, states),
            "reward": (states + actions, 1),
            "inverse": (2 * states, actions),
        }
        self.nets = {
            name: agent.net(f"{name}_model", (read, *agent.hidden, said))
            for name, (read, said) in sizes.items()
        }
        share = config.target_model_hold_out
        self.held = {name: HoldOut(agent, net, share) for name, net in self.nets.items()}
        self.shift, self.scale = self._moments()

    def stage(self) -> Stage:
        """Give the stage that trains them."""
        config, rows = self.config, self.agent.config.batch
        return Stage(
            "target models",
            config.target_model_steps,
            self.update,
            0,
            rows,
            every=config.target_model_every,
            check=self.look,
            finish=self.finish,
        )

    def update(self, batch: Batch, noise: Noise) -> None:
        """Take one gradient step of all three for every run."""
        losses = {
            name: weighted_mean(error, self.held[name].training_weights(batch))
            for name, error in self.errors(batch).items()
        }
        minimise(sum(losses.values()), *self.nets.values())  # pyright: ignore
        for name, loss in losses.items():
            self.agent.log(f"{name}_model_loss", loss)

    @torch.no_grad()
    def look(self) -> None:
        """Judge each by its own held-out rows."""
        for name, held in self.held.items():
            held.look(self.errors(held.batch())[name][:, None])

    def finish(self) -> None:
        """Keep the best of each, tell its held-out error, and warn where it has learned nothing."""
        for name, held in self.held.items():
            held.restore()
            if held.looked:
                self.agent.tell(f"{name}_model_held_out", held.best[:, 0])
            for run, error in enumerate(held.best[:, 0].tolist()):
                if 1 <= error < torch.inf:
                    warnings.warn(
                        f"run {run}: the {name} model's error on held-out target rows is "
                        f"{error:.2f} times that of predicting the mean; train it for more "
                        "--target-model-steps: what it says now counts for nothing",
                        stacklevel=2,
                    )

    def errors(self, batch: Batch) -> dict[str, Tensor]:
        """Give each model's mean squared standardised error on every row, `(R, B, 1)`."""
        s, a, change = (self._standard(batch, part) for part in ("obs", "act", "change"))
        reward = (batch.reward - self.shift["reward"]) / self.scale["reward"]
        said = {
            "forward": (self.nets["forward"](torch.cat([s, a], 2)), change),
            "reward": (self.nets["reward"](torch.cat([s, a], 2)), reward),
            "inverse": (self.nets["inverse"](torch.cat([s, change], 2)), a),
        }
        return {k: ((y - x) ** 2).mean(2, keepdim=True) for k, (y, x) in said.items()}

    def forward_error(self, batch: Batch, act: Tensor) -> Tensor:
        """Give how badly f explains s' by actions `(R, B, A)`, `(R, B, 1)`."""
        given = torch.cat([self._standard(batch, "obs"), self._scaled("act", act)], 2)
        missed = self.nets["forward"](given) - self._standard(batch, "change")
        return (missed**2).mean(2, keepdim=True)

    def action(self, batch: Batch) -> Tensor:
        """Give the action by which the target would go from s to s', `(R, B, A)` in [-1, 1]."""
        given = torch.cat([self._standard(batch, part) for part in ("obs", "change")], 2)
        act = self.nets["inverse"](given) * self.scale["act"] + self.shift["act"]
        return act.clamp(-1, 1)

    def reward(self, obs: Tensor, act: Tensor) -> Tensor:
        """Give what the target pays, `(R, B, 1)`."""
        given = torch.cat([self._scaled("obs", obs), self._scaled("act", act)], 2)
        return self.nets["reward"](given) * self.scale["reward"] + self.shift["reward"]

    def _standard(self, batch: Batch, part: str) -> Tensor:
        values = batch.next_obs - batch.obs if part == "change" else getattr(batch, part)
        return self._scaled(part, values)

    def _scaled(self, part: str, values: Tensor) -> Tensor:
        return (values - self.shift[part]) / self.scale[part]

    def _moments(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Give mean and deviation over each run's target rows, `(R, 1, k)` by part."""
        agent, (o, a) = self.agent, (self.agent.obs_size, self.agent.act_size)
        shift: dict[str, list[Tensor]] = {}
        scale: dict[str, list[Tensor]] = {}
        for run in range(agent.runs):
            rows = agent.data.rows_of("target", run).double()
            obs, act, after, reward, _ = rows.split([o, a, o, 1, 1], 1)
            parts = {"obs": obs, "act": act, "change": after - obs, "reward": reward}
            for name, values in parts.items():
                variance, mean = torch.var_mean(values, 0, correction=0)
                shift.setdefault(name, []).append(mean)
                scale.setdefault(name, []).append(variance.sqrt().clamp(min=1e-6))
        stacked = [
            {name: torch.stack(each)[:, None].to(agent.dtype) for name, each in found.items()}
            for found in (shift, scale)
        ]
        return stacked[0], stacked[1]

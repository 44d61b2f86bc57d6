"""Model the target's dynamics by one MLP, and read its errors against those it makes on the target.

    m(s, a) -> s' - s,   e = s' - s - m(s, a),   miss = mean_k (e_k / h_k)^2

What it reads and predicts is standardised by the target's rows; h_k is the root mean square of e_k
over target rows held out of its training. So a miss of 1 is usual on the target itself, and a row
is suspect as far as the model misses it by more. Nothing is learned from source rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from shiftgym_agents.components.holdout import HoldOut
from shiftgym_agents.core.agent import Agent, Noise, Stage
from shiftgym_agents.core.losses import weighted_mean
from shiftgym_agents.core.nets import minimise
from shiftgym_agents.data.batches import Batch

HELD_OUT = 0.1  # share of the target rows


class PlainModel:
    """Model the target's dynamics for every run; see the module.

    Args:
        agent: The runs; call this while it builds.
    """

    def __init__(self, agent: Agent[Any]) -> None:
        self.agent, states = agent, agent.obs_size
        pairs = states + agent.act_size
        self.net = agent.net("model", (pairs, *agent.hidden, states))
        self.held = HoldOut(agent, self.net, HELD_OUT)
        rows = [agent.data.rows_of("target", run)[None] for run in range(agent.runs)]
        known = [each[..., :pairs] for each in rows]
        change = [each[..., pairs : pairs + states] - each[..., :states] for each in rows]
        self.known_mean, self.known_scale = moments(known)
        self.change_mean, self.change_scale = moments(change)

    def stage(self, steps: int, every: int, finish: Callable[[], None] | None = None) -> Stage:
        """Give the stage that trains it, keeps its best weights, and then calls `finish`."""

        def end() -> None:
            self.held.restore()
            if finish is not None:
                finish()

        rows = self.agent.config.batch
        return Stage("model", steps, self.update, 0, rows, every=every, check=self.look, finish=end)

    def errors(self, batch: Batch) -> Tensor:
        """Give how far the model is off, in usual changes, `(R, B, O)`."""
        known = (batch.obs_act - self.known_mean) / self.known_scale
        change = (batch.next_obs - batch.obs - self.change_mean) / self.change_scale
        return self.net(known) - change

    def update(self, batch: Batch, noise: Noise) -> None:
        """Take one gradient step for every run."""
        errors = (self.errors(batch) ** 2).mean(-1, keepdim=True)
        loss = weighted_mean(errors, self.held.training_weights(batch))
        minimise(loss, self.net)
        self.agent.log("model_loss", loss)

    @torch.no_grad()
    def look(self) -> None:
        """Judge the model by its error on held-out rows."""
        errors = self.errors(self.held.batch()) ** 2
        self.held.look(errors.mean(-1, keepdim=True)[:, None])

    @torch.no_grad()
    def usual(self) -> Tensor:
        """Give the mean squared error of every dimension on held-out rows, `(R, 1, O)`."""
        errors = self.errors(self.held.batch()) ** 2 * self.held.weights
        return errors.mean(1, keepdim=True).clamp(min=1e-12)

    @torch.no_grad()
    def held_misses(self) -> Tensor:
        """Give the misses of held-out target rows, `(R, H)`; -inf where a run holds out fewer."""
        misses = (self.errors(self.held.batch()) ** 2 / self.usual()).mean(-1)
        return torch.where(self.held.weights[..., 0] > 0, misses, -torch.inf)

    @torch.no_grad()
    def misses(self) -> Tensor:
        """Give every source row's miss, `(R, N)`."""
        usual, sweep = self.usual(), self.agent.data.sweep("source")
        return torch.cat([(self.errors(batch) ** 2 / usual).mean(-1) for _, batch in sweep], 1)


def moments(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Give mean and deviation of each run's rows `(1, N, k)`, `(R, 1, k)` each."""
    found = [torch.var_mean(each.double(), 1, correction=0, keepdim=True) for each in rows]
    variance, mean = (torch.cat(part).to(rows[0].dtype) for part in zip(*found, strict=True))
    return mean, variance.sqrt().clamp(min=1e-6)

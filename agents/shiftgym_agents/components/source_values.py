"""Learn which actions of the source data are good there: Q and V of the source alone, no actor.

With twin critics, their Polyak copy Q' and u = min Q'(s, a) - V(s), one step on source rows is

    value    : SQL's sparse loss (see `sql.py`), or IQL's expectile of u
    critics  : sum_j mean (Q_j(s, a) - y)^2,   y = r + gamma (1 - d) V(s')
    Polyak

and then the column `advantage` of every source row is min Q(s, a) - V(s), with the critics
themselves and not their copies (read in DVDF's code). Networks are IQL's, under names of their own.
They may read more than states and actions: V2A's read the modality of the row's trajectory, the
same at s and at s'.

The sparse value's optimum gives rows weights [1 + A / (2 alpha)]_+ of mean one. Far above that, V
trails critics that still rise, and A tells good rows from others hardly at all: a warning is due.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from shiftgym_agents.core.agent import Agent, Noise, Stage
from shiftgym_agents.core.losses import expectile, sparse_errors, sparse_weights, weighted_mean
from shiftgym_agents.core.nets import minimise
from shiftgym_agents.data.batches import Batch

TRAILING = 2.0  # mean weight above which the value has not caught up
ADVANTAGE = "advantage"  # column of source rows: min Q - V


class SourceValues:
    """Own Q and V of the source data within an agent.

    Args:
        agent: Declares the networks, `source_value` and `source_critic`.
        kind: sql or iql.
        alpha: Temperature of the sparse loss per run, `(R, 1, 1)`.
        level: Expectile of iql's loss per run.
        discount: Of rewards, per run.
        tau: Share of the critics that their copy takes over per update; per run, or one for all.
        more: What the networks read of source rows besides, `(R, S, more_size)`.
        more_size: How many numbers that are.
    """

    def __init__(
        self,
        agent: Agent[Any],
        kind: Literal["sql", "iql"],
        alpha: Tensor,
        level: Tensor,
        discount: Tensor,
        tau: Tensor | float,
        more: Callable[[Batch], Tensor] | None = None,
        more_size: int = 0,
    ) -> None:
        self.agent, self.kind, self.alpha = agent, kind, alpha
        self.level, self.discount, self.tau = level, discount, tau
        self.more = more
        states = agent.obs_size + more_size
        pairs = states + agent.act_size
        self.value = agent.net("source_value", (states, *agent.hidden, 1))
        self.critic = agent.net("source_critic", (pairs, *agent.hidden, 1), copies=2)
        self.copy = agent.target_of("source_critic_copy", self.critic)

    def stage(self, steps: int, rows: int) -> Stage:
        """Describe this training as a stage that draws source rows only."""
        return Stage("source values", steps, self.update, rows, 0, finish=self.store)

    def update(self, batch: Batch, noise: Noise) -> None:
        """Take one gradient step of the value and both critics."""
        with torch.no_grad():
            more = self._more(batch)
            pairs = torch.cat([batch.obs_act, *more], 2)
            best = self.copy(pairs).amin(1)
        value = self.value(torch.cat([batch.obs, *more], 2))
        if self.kind == "sql":
            loss = weighted_mean(sparse_errors(best, value, self.alpha))
            self.agent.log("sparse_weight", sparse_weights(best - value, self.alpha))
        else:
            loss = weighted_mean(expectile(best - value, self.level))
        minimise(loss, self.value)
        with torch.no_grad():
            keep = self.discount * (1 - batch.terminated)
            y = torch.addcmul(batch.reward, keep, self.value(torch.cat([batch.next_obs, *more], 2)))
        q = self.critic(pairs)
        critic_loss = 2 * weighted_mean((q - y[:, None]) ** 2)
        minimise(critic_loss, self.critic, follower=self.copy, share=self.tau)
        for name, values in {"value_loss": loss, "critic_loss": critic_loss, "q": q}.items():
            self.agent.log(f"source_{name}", values)

    @torch.no_grad()
    def store(self) -> None:
        """Freeze the networks and store the advantage of every source row as a column."""
        for net in (self.value, self.critic):
            net.freeze()
        data = self.agent.data
        parts = [self.advantage(batch)[..., 0] for _, batch in data.sweep("source")]
        found = torch.cat(parts, 1)
        data.add_column("source", ADVANTAGE, found)
        if self.kind == "iql":
            return
        weights = sparse_weights(found[..., None], self.alpha)
        sizes = enumerate(data.sizes["source"])
        mean = torch.stack([weights[run, :size].mean() for run, size in sizes])
        self.agent.tell("advantage_weight", mean)
        for run, value in enumerate(mean.tolist()):
            if value > TRAILING:
                warnings.warn(
                    f"run {run}: the source's value still trails its critics (rows weigh "
                    f"{value:.1f} in the mean, where 1 is right), so that advantages say little of "
                    "which rows are good: give it more --advantage-steps.",
                    stacklevel=2,
                )

    def advantage(self, batch: Batch) -> Tensor:
        """Give min Q - V of source rows, `(R, S, 1)`."""
        more = self._more(batch)
        best = self.critic(torch.cat([batch.obs_act, *more], 2)).amin(1)
        return best - self.value(torch.cat([batch.obs, *more], 2))

    def _more(self, batch: Batch) -> list[Tensor]:
        return [] if self.more is None else [self.more(batch)]

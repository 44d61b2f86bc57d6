"""Pay for reaching states that good policies share across dynamics: SRPO on IQL.

State regularised policy optimisation (Xue et al., NeurIPS 2023, arXiv:2306.03552): under different
dynamics, optimal policies visit similar states. A discriminator D = sigma(x(s)) learns to tell the
states of highest value in a batch, a share `top` of it, from the others, and IQL trains on

    r + bonus clip(log D(s) / (1 - D(s)), -log 10, log 10)  =  r + bonus clip(x(s), -log 10, log 10)

for rows of both datasets alike, which the method does not tell apart. bonus = 0 is IQL. The optimal
logit is the posterior's: with `top` other than 0.5 it holds the prior's log-odds besides the ratio
of densities (-1.39 at 0.2), which charges all states alike, as the paper's formula does. One update
goes discriminator (states ranked by V before its step) -> rewards by the new discriminator -> IQL.

Stated: the ranking, the log-ratio as bonus. Read in released code: top 0.5, bonus 0.1, ratios cut
to [0.1, 10], Adam 1e-3. Chosen: IQL with the squared error as base, so that only the bonus differs.

Presets: `ours`; `paper` and `official` have the base of the released IQL port, a Gaussian policy,
standardised states and bootstraps from V before its step; `official` also cuts the logit itself
where the ratio is meant, bonus log clip(x, 0.1, 10): a state that the discriminator cannot place
costs 2.3 bonus, and all states it finds worse than that cost the same. On sparse rewards that may
outweigh the task: compare both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.ranges import Amount, Positive, SomeShare
from shiftgym_agents.core.agent import Noise
from shiftgym_agents.core.losses import weighted_mean
from shiftgym_agents.core.nets import minimise
from shiftgym_agents.data.batches import Batch
from shiftgym_agents.methods.iql import IQL, IQLConfig

RATIO = 10.0  # largest ratio D / (1 - D) that is paid, and one over the smallest


@dataclass(frozen=True)
class SRPOConfig(IQLConfig):
    """Set the hyperparameters of SRPO."""

    bonus: Amount = 0.1
    """Weight of the discriminator's log-ratio in rewards; 0 is IQL."""
    top: SomeShare = 0.5
    """Share of each batch's states, highest values first, that the discriminator is to find."""
    discriminator_rate: Positive = 1e-3
    """Adam's step size for the discriminator."""
    bonus_form: Literal["ratio", "logit"] = "ratio"
    """Cut and pay the log of the ratio D / (1 - D), or of the logit (released code)."""


PUBLISHED = SRPOConfig(policy_head="gaussian", normalize_states="merged", bootstrap_v="old")


class SRPO(IQL[SRPOConfig]):
    """IQL with a bonus for states of high value; see the module."""

    config_class = SRPOConfig
    presets: ClassVar[Mapping[str, Any]] = {
        "ours": SRPOConfig(),
        "paper": PUBLISHED,
        "official": replace(PUBLISHED, bonus_form="logit"),
    }

    def build(self) -> None:
        """Declare the discriminator besides IQL's networks."""
        super().build()
        shares = {config.top for config in self.configs}
        if len(shares) > 1 or not 0 < self.count < 2 * self.config.batch:
            raise ShiftgymError(
                f"Runs in lockstep share one --top, above 0 and below 1, got {sorted(shares)}."
            )
        rate = self.per_run("discriminator_rate").flatten()
        self.discriminator = self.net("discriminator", (self.obs_size, *self.hidden, 1), rate=rate)
        self.bonus = self.per_run("bonus")

    @property
    def count(self) -> int:
        """Count the states of a batch that are of highest value."""
        return round(self.config.top * 2 * self.config.batch)

    def relabel(self, batch: Batch, noise: Noise) -> Batch:
        """Step the discriminator, then pay every row by it."""
        with torch.enable_grad():
            self.update_discriminator(batch, self.value(batch.obs).detach())
        bonus = self.bonus * log_ratio(self.discriminator(batch.obs), self.config.bonus_form)
        self.log("bonus", bonus)
        return batch.relabelled(batch.reward + bonus)

    def source_scores(self) -> Tensor | None:
        """Give what every source row is paid, once the discriminator has learned."""
        if not self.discriminator.moved:
            return None
        parts = [self.discriminator(batch.obs) for _, batch in self.data.sweep("source")]
        return log_ratio(torch.cat(parts, 1), self.config.bonus_form)[..., 0]

    def update_discriminator(self, batch: Batch, value: Tensor) -> None:
        """Step the discriminator towards telling the rows of highest value `(R, B, 1)` apart."""
        label = torch.zeros_like(value).scatter(1, value.topk(self.count, 1).indices, 1.0)
        logit = self.discriminator(batch.obs)
        loss = weighted_mean(softplus(logit) - label * logit)  # binary cross-entropy
        minimise(loss, self.discriminator)
        self.log("discriminator_loss", loss)


def log_ratio(logit: Tensor, form: str = "ratio") -> Tensor:
    """Give log D / (1 - D), the logit of D, cut to +-log 10; or what the release has instead."""
    if form == "logit":
        return logit.clamp(1 / RATIO, RATIO).log()
    return logit.clamp(-math.log(RATIO), math.log(RATIO))

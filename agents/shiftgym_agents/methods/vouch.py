"""Let the target's own data vouch for the source, in the critics and in the policy: VOUCH.

Our own method, for 5,000 target rows beside plenty of source rows that may help or harm. Value,
critics and policy learn from target rows. Source rows join as far as held-out target rows vouch for
them:

    critics : a plain model of the target's dynamics gives every source row a p-value, the share of
              held-out target rows that it misses by as much (a conformal test). Source rows weigh
              min(1, p / level): of the target's own domain nine tenths count in full
    policy  : two clones of the behaviour, one of target rows, one of those and of source rows by
              the same weights, on half of the target rows. The log of their errors is averaged over
              each stretch of the other half; only where the second's is less by 4 deviations of the
              mean, value and policy learn from these source rows, too (`source_policy`)
    actor   : weights imitation + (1 - imitation) w / mean w,   w = min(exp(temperature A), cap)

With little data of one behaviour, imitation is hard to beat, and weights that few rows carry lose
to it; `imitation` is the share of the actor's loss that is plain imitation. What the two tests
found is told: `vouched`, the mean weight of source rows; `clones_ratio`, the second clone's
held-out error over the first one's; `clones_better`, by how many deviations; `source_policy`, 1 or
0. Not found is a source that is better than the target in the target's own dynamics: only critics
learn from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from shiftgym.basics.ranges import Count, CountOrNone, Share, SomeShare
from shiftgym_agents.components.holdout import PIECES, HoldOut
from shiftgym_agents.components.plain_model import PlainModel
from shiftgym_agents.core.agent import Noise, Stage
from shiftgym_agents.core.losses import weighted_mean
from shiftgym_agents.core.nets import minimise
from shiftgym_agents.data.batches import Batch
from shiftgym_agents.methods.iql import IQL, IQLConfig

VOUCHED = "vouched"  # column of source rows: their weight
ASIDE = 0.5  # share of target rows that clones are judged by
SURE = 4.0  # deviations of the mean by which the second clone's log errors have to be less


@dataclass(frozen=True)
class VouchConfig(IQLConfig):
    """Set the hyperparameters of VOUCH."""

    normalize_states: Literal["none", "merged", "balanced", "target"] = "target"
    """Standardise observations: imitation of 5,000 rows gains much by it on the larger robots."""
    imitation: Share = 0.5
    """Share of the actor's loss that is plain imitation; 1 is behaviour cloning."""
    level: SomeShare = 0.1
    """p-value from which on a source row counts in full."""
    source_critic: bool = True
    """Let vouched source rows teach the critics (else an ablation)."""
    source_policy: bool = True
    """Let vouched source rows teach value and policy where the clones say so (else an ablation)."""
    model_steps: CountOrNone = 5_000
    """Updates of the model of the target's dynamics."""
    clone_steps: CountOrNone = 5_000
    """Updates of the two clones."""
    look_every: Count = 100
    """Updates between looks at held-out errors of model and clones."""


class VOUCH(IQL[VouchConfig]):
    """IQL on target rows and on source rows that the target vouches for; see the module."""

    config_class = VouchConfig
    presets: ClassVar[Mapping[str, Any]] = dict.fromkeys(
        ("ours", "paper", "official"), VouchConfig()
    )

    def build(self) -> None:
        """Declare the model and the clones besides IQL's networks."""
        super().build()
        self.model = PlainModel(self)
        sizes = (self.obs_size, *self.hidden, self.act_size)
        self.clones = self.net("clones", sizes, copies=2)
        self.aside = HoldOut(self, self.clones, ASIDE)
        self.joins = self.buffer("joins", torch.zeros(self.runs, 1, 1, dtype=self.dtype))
        self.share, self.p_level = self.per_run("imitation"), self.per_run("level")

    def pretraining(self) -> list[Stage]:
        """Learn the target's dynamics, weigh source rows, then ask the clones."""
        config = self.config
        model = self.model.stage(config.model_steps, config.look_every, self.vouch)
        clones = Stage(
            "clones", config.clone_steps, self.update_clones, config.batch, config.batch,
            every=config.look_every, check=self.look, finish=self.decide,
        )  # fmt: skip
        return [model, clones] if config.source_policy else [model]

    # --- who vouches ------------------------------------------------------------------------------

    @torch.no_grad()
    def vouch(self) -> None:
        """Store every source row's weight."""
        own = self.model.held_misses().sort(1).values
        misses = self.model.misses()
        at_least = own.shape[1] - torch.searchsorted(own, misses)
        p = (1 + at_least) / (1 + own.isfinite().sum(1, keepdim=True))
        weights = (p / self.p_level[..., 0]).clamp(max=1)
        self.data.add_column("source", VOUCHED, weights)
        self.tell(VOUCHED, weights.mean(1))

    def source_scores(self) -> Tensor | None:
        """Give every source row's miss, negative, `(R, N)`."""
        return -self.model.misses() if VOUCHED in self.data.columns["source"] else None

    # --- the clones -------------------------------------------------------------------------------

    def clone_errors(self, batch: Batch) -> Tensor:
        """Give how badly both clones imitate each row, `(R, 2, B, 1)`."""
        error = torch.tanh(self.clones(batch.obs)) - batch.act[:, None]
        return (error**2).mean(-1, keepdim=True)

    def update_clones(self, batch: Batch, noise: Noise) -> None:
        """Take one gradient step of both clones: source rows teach the second alone."""
        vouched = batch.source.columns[VOUCHED]
        own = self.aside.training_weights(batch)[:, batch.sources :]
        weights = [torch.cat([rows, own], 1) for rows in (torch.zeros_like(vouched), vouched)]
        loss = weighted_mean(self.clone_errors(batch), torch.stack(weights, 1))
        minimise(loss, self.clones)
        self.log("clone_loss", loss)

    @torch.no_grad()
    def look(self) -> None:
        """Judge the clones by held-out target rows."""
        self.aside.look(self.clone_errors(self.aside.batch()))

    @torch.no_grad()
    def decide(self) -> None:
        """Let source rows join where the second clone is better beyond chance."""
        self.aside.restore()
        errors = self.clone_errors(self.aside.batch())[..., 0].double()
        better = torch.zeros(self.runs)
        for run, size in enumerate(self.data.sizes["target"]):
            known = self.aside.weights[run, :, 0].cpu() > 0
            piece = self.aside.places[run].cpu()[known] * min(PIECES, size) // size
            own = errors[run].cpu()[:, known].clamp(min=1e-12)
            means = [own[:, piece == each].mean(1) for each in piece.unique()]
            one, two = torch.stack(means, 1).log()
            better[run] = deviations(one - two)
        self.joins.copy_((better > SURE)[:, None, None])
        one, two = (errors * self.aside.weights[:, None, :, 0]).mean(2).unbind(1)
        self.tell("clones_ratio", two / one)
        self.tell("clones_better", better)
        self.tell("source_policy", self.joins[:, 0, 0])

    # --- the hooks --------------------------------------------------------------------------------

    def vouched(self, batch: Batch) -> Tensor:
        """Give the weight of every row in value and policy, `(R, B, 1)`."""
        return batch.on_source(self.joins * batch.source.columns[VOUCHED], 1.0)

    def choose(self, batch: Batch, noise: Noise) -> tuple[Batch, Tensor | None]:
        """Keep all rows; weigh source rows in the critics."""
        weights = batch.source.columns[VOUCHED]
        return batch, batch.on_source(weights if self.config.source_critic else 0 * weights, 1.0)

    def value_weights(self, batch: Batch) -> Tensor:
        """Weigh source rows in the value as in the policy."""
        return self.vouched(batch)

    def actor_weights(self, advantage: Tensor, batch: Batch) -> Tensor:
        """Mix weights of advantage with plain imitation, by rows' weights, `(R, B, 1)`."""
        rows, best = self.vouched(batch), super().actor_weights(advantage, batch)
        mean = (rows * best).sum(1, keepdim=True) / rows.sum(1, keepdim=True)
        return rows * (self.share + (1 - self.share) * best / mean.clamp(min=1e-6))


def deviations(values: Tensor) -> Tensor:
    """Give the mean of independent values `(N,)` in deviations of that mean; 0 of fewer than 2."""
    if len(values) < 2:
        return torch.zeros(())
    return values.mean() / (values.std() / math.sqrt(len(values))).clamp(min=1e-12)

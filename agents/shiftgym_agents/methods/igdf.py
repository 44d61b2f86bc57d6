"""Keep source rows that a contrastive score finds plausible in the target: IGDF.

Contrastive representations for data filtering (Wen et al., ICML 2024, arXiv:2405.06192). Encoders
phi(s, a) and psi(s') of p numbers first learn to tell a target row's next state s' from next states
z that the source reaches anywhere (B target rows, one shared set of B - 1 negatives; sigma is the
logistic function):

    contrast : -1/B^2 sum_i [log sigma(phi_i . psi(s'_i)) + sum_j log(1 - sigma(phi_i . psi(z_j)))]

whose optimal logit is log p_T(s'|s,a) - log p_S(s') - log(B - 1). Then IQL, where source rows have

    score    : c = cos(phi(s, a), psi(s')), in [-1, 1]
    keep     : the floor(keep * B) largest c of each batch, and every target row
    critics  : errors of kept source rows weigh exp(weight_scale * (rank of c - 1)), target rows 1

Stated: the encoders as a mutual-information estimate, filtering by score, a weight on the temporal
difference; 16 or 64 numbers, 0.25 kept (Walker2d: 0.75). Read in released code: sizes, 7,000 steps,
127 shared negatives, binary cross-entropy (the text has the softmax form), cosine for ranking,
exp(c) as weight (`weight_by` cosine). Chosen: per-row weights; the share of the batch's source rows
that score less in place of c, since the cosine spreads by 0.03 to 0.14 around 0 on the packaged
pairs, so that exp(c) is near 1 for all and weighs nothing; scores stored once, since the encoders
are frozen; 0.75 kept of Ant; a tenth of the target held out of the encoders' training, because
7,000 x 128 draws show each of 5,000 rows 180 times: compare `heldout_loss` with `contrast_loss`.

Presets: `ours` is ODRL's variant; `paper` has the published shares, standardised states, a Gaussian
policy and the softmax form; `official` is the release, whose weights `(N, 1)` meet errors `(N,)`,
which multiplies the mean error by the mean weight: a scalar that changes no row's share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.ranges import Amount, CountOrNone, HeldOut, Size, SomeShare
from shiftgym_agents.core.agent import Noise, Stage
from shiftgym_agents.core.losses import weighted_mean
from shiftgym_agents.core.nets import minimise
from shiftgym_agents.data.batches import Batch
from shiftgym_agents.methods.iql import IQL, IQLConfig

PUBLISHED_KEEP = {"halfcheetah": 0.25, "hopper": 0.25, "walker2d": 0.75}  # others: 0.75, chosen
COSINE = "cosine"  # column of source rows: their score
WEIGHED = "weighed"  # column of a batch: what source rows are weighed by
HELD_OUT = "held_out"  # column of target rows: 1 where the encoders do not train, else 0
PIECES = 50  # a dataset is cut into so many stretches, of which some are held out


@dataclass(frozen=True)
class IGDFConfig(IQLConfig):
    """Set the hyperparameters of IGDF."""

    keep: SomeShare = 0.75
    """Share of each batch's source rows that is trained on, best scores first."""
    weight_scale: Amount = 1.0
    """Weight of a kept source row in the critics' loss is exp(weight_scale * score)."""
    weight_by: Literal["rank", "cosine"] = "rank"
    """That score: the share of the batch's source rows with less, minus 1; or the cosine itself."""
    contrast_steps: CountOrNone = 7_000
    """Updates of the encoders before IQL."""
    contrast_batch: Size = 128
    """Target rows per update of the encoders; there is one negative fewer."""
    embedding: Size = 64
    """Numbers that the encoders give for (s, a) and for s'."""
    contrast_loss: Literal["bce", "softmax"] = "bce"
    """Tell s' from negatives one by one (binary cross-entropy), or among all (InfoNCE)."""
    holdout: HeldOut = 0.1
    """Share of the target data that the encoders never train on, for `heldout_loss`."""
    scalar_weights: bool = False
    """Replace all weights by their mean, as the release does without meaning to."""
    published_per_robot: bool = False
    """Start from the published numbers for the target's robot where there are any."""

    def for_robot(self, robot: str) -> Self:
        """Keep the published share of a robot, where `published_per_robot` asks for it."""
        chosen = super().for_robot(robot)
        if not self.published_per_robot:
            return chosen
        return replace(chosen, keep=PUBLISHED_KEEP.get(robot, 0.75))


PUBLISHED = IGDFConfig(
    weight_by="cosine",
    normalize_states="merged",
    policy_head="gaussian",
    holdout=0.0,
    published_per_robot=True,
)
C = TypeVar("C", bound=IGDFConfig)


class IGDF(IQL[C], Generic[C]):
    """IGDF; see the module. Methods that rank source rows otherwise override `rank`."""

    config_class = IGDFConfig
    presets: ClassVar[Mapping[str, Any]] = {
        "ours": IGDFConfig(),
        "paper": replace(PUBLISHED, contrast_loss="softmax"),
        "official": replace(PUBLISHED, scalar_weights=True, bootstrap_v="old"),
    }

    def build(self) -> None:
        """Declare the encoders beside IQL's networks, and mark held-out target rows."""
        super().build()
        size, shares = self.config.embedding, {config.keep for config in self.configs}
        if len(shares) > 1 or self.kept < 1 or self.config.keep > 1:
            raise ShiftgymError(
                f"Runs in lockstep share one --keep, of at least one row of {self.config.batch} "
                f"and at most 1, got {sorted(shares)}."
            )
        if not 0 <= self.config.holdout <= 0.5:
            raise ShiftgymError(f"--holdout is {self.config.holdout}: give 0 to 0.5.")
        self.phi = self.net("phi", (self.obs_size + self.act_size, *self.hidden, size))
        self.psi = self.net("psi", (self.obs_size, *self.hidden, size))
        self.weight_scale = self.per_run("weight_scale")
        sizes = self.data.sizes["target"]
        held = [held_out(n, max(sizes), self.config.holdout) for n in sizes]
        self.data.add_column("target", HELD_OUT, torch.stack(held))

    @property
    def kept(self) -> int:
        """Count the source rows kept of each batch."""
        return int(self.config.keep * self.config.batch + 1e-9)

    def pretraining(self) -> list[Stage]:
        """Train the encoders, then score every source row."""
        rows, steps = self.config.contrast_batch, self.config.contrast_steps
        update, finish = self.update_encoders, self.store_scores
        return [Stage("contrast", steps, update, rows - 1, rows, finish=finish)]

    def update_encoders(self, batch: Batch, noise: Noise) -> None:
        """Take one gradient step of both encoders; source rows only lend their next states."""
        phi, psi = self.phi(batch.target.obs_act), self.psi(batch.next_obs)
        negatives, positives = psi[:, : batch.sources], psi[:, batch.sources :]
        own = (phi * positives).sum(-1, keepdim=True)
        errors = contrast_errors(own, phi @ negatives.mT, self.config.contrast_loss)
        held = batch.target.columns[HELD_OUT]
        loss = share_mean(errors, 1 - held)
        minimise(loss, self.phi, self.psi)
        self.log("contrast_loss", loss)
        self.log("heldout_loss", share_mean(errors, held))

    @torch.no_grad()
    def store_scores(self) -> None:
        """Freeze the encoders and store the cosine of every source row as a column."""
        for encoder in (self.phi, self.psi):
            encoder.freeze()
        self.data.columns["target"].pop(HELD_OUT, None)
        parts = [
            cosine(self.phi(batch.obs_act), self.psi(batch.next_obs))[..., 0]
            for _, batch in self.data.sweep("source")
        ]
        self.data.add_column("source", COSINE, torch.cat(parts, 1))

    def source_scores(self) -> Tensor | None:
        """Give the cosines of all source rows."""
        return self.data.columns["source"].get(COSINE)

    def choose(self, batch: Batch, noise: Noise) -> tuple[Batch, Tensor | None]:
        """Keep the source rows of highest rank, and weigh them by their score."""
        score = batch.source.columns[COSINE]
        weighed = ranks(score) - 1 if self.config.weight_by == "rank" else score
        batch = replace(batch, columns={**batch.columns, WEIGHED: batch.on_source(weighed)})
        kept = batch.keep_sources(self.rank(batch, score), self.kept)
        own = kept.source.columns[COSINE]
        weights = torch.exp(self.weight_scale * kept.source.columns[WEIGHED])
        weights = kept.on_source(weights, 1.0)
        logged = {"cosine": score, "cosine_std": score.std(1), "kept_cosine": own}
        for name, values in logged.items():
            self.log(name, values)
        if self.config.scalar_weights:
            weights = weights.mean(1, keepdim=True).expand_as(weights)
        return kept, weights

    def rank(self, batch: Batch, score: Tensor) -> Tensor:
        """Give what source rows are ranked by, `(R, S, 1)`, the highest first."""
        return score


def ranks(scores: Tensor) -> Tensor:
    """Give the share of other rows that score strictly less, `(R, S, 1)`; ties stay ties."""
    each = scores[..., 0].contiguous()
    below = torch.searchsorted(each.sort(1).values, each)[..., None]  # of a whole dataset, too
    return below.to(scores.dtype) / max(scores.shape[1] - 1, 1)


def contrast_errors(own: Tensor, others: Tensor, kind: str = "bce") -> Tensor:
    """Give each target row's loss `(R, B, 1)` from its logit `(R, B, 1)` and others `(R, B, J)`.

    `bce` is the mean over all 1 + J binary cross-entropies, `softmax` the cross-entropy of picking
    the row's own next state among 1 + J.
    """
    if kind == "softmax":
        return torch.cat([own, others], -1).logsumexp(-1, keepdim=True) - own
    negatives = F.softplus(others).sum(-1, keepdim=True)
    return (F.softplus(-own) + negatives) / (1 + others.shape[-1])


def share_mean(errors: Tensor, share: Tensor) -> Tensor:
    """Average errors `(R, B, 1)` over rows where `share` is 1; 0 for a run without such rows."""
    return weighted_mean(errors, share) / share.flatten(1).mean(1).clamp(min=1e-6)


def cosine(phi: Tensor, psi: Tensor) -> Tensor:
    """Give the cosine of matching rows, `(R, B, p)` twice to `(R, B, 1)`, in [-1, 1]."""
    norms = phi.norm(dim=-1, keepdim=True) * psi.norm(dim=-1, keepdim=True)
    return ((phi * psi).sum(-1, keepdim=True) / (norms + 1e-8)).clamp(-1, 1)


def held_out(rows: int, length: int, share: float) -> Tensor:
    """Mark about a share of `rows` in whole stretches, spread evenly: 0 or 1, `(length,)`.

    Neighbours in time are alike, so single rows held out would be no test.
    """
    piece = torch.arange(length).clamp(max=rows - 1) * PIECES // rows
    return (((piece + 1) * share).floor() > (piece * share).floor()).double()

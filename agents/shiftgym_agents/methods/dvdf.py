"""Keep source rows that are plausible in the target and good in the source: DVDF.

Dynamics- and value-aligned data filtering (Qiao et al., arXiv:2512.02435), on top of a method that
scores dynamics: IGDF's cosine c in [-1, 1], or OTDF's deviation scaled to [-1, 0] in the batch.
Critics and a sparse value of the source alone, trained beforehand, give every source row an
advantage (`source_values.py`). In each batch of the RL stage, with h the dynamics score,

    value   : a = share of source rows with less advantage,  A = min Q(s, a) - V(s)
    ranking : g = trade_off h + (1 - trade_off) a,  h put on [0, 1] in the same way
    keep    : the floor(keep * B) largest g, and every target row
    critics : errors of kept source rows weigh as in the method below, those of target rows 1

Stated: g, its normalisation, trade_off 0.7, keep 0.5, a weight on the critics' errors (g itself,
which two summaries agree on), SQL as the value of the source. Read in released code: exp(h) as the
weight, g only for ranking, networks and steps. Inferred: the same on OTDF's score, whose code is
not released, with OTDF's support term and a share kept of 0.5. Chosen: exp(h), because g can be
negative, and negative weights make critics diverge; half the steps of SQL, since advantages count
within a batch only; advantages are stored once, since the networks are frozen; both scores by rank.
Published is h as it is beside a = (A - min A) / (max A - min A + 1e-8), where a trade_off of 0.7 is
no share of 70 %: the cosine spreads by 0.03 to 0.14, and a by more, so that the ranking is a's. (Of
source rows half of which are of the target's own kinematic Hopper it kept 61 % true ones where the
cosine alone kept 77 % and ranks keep 70 %.)

A has to be learned: after the 10,000 steps of `advantage_steps` that short trainings gave it, 91 %
of advantages were still positive, and hardly told expert rows from medium ones (AUC 0.56). A
warning says so (see `source_values`).

Presets: `ours`; `paper` weighs by max(g, 0); `official` has the release's 1,000,000 steps of SQL
and its alpha of 0.2 for Ant (two of its configuration files are swapped). The released SQL stops
with an error before its first step, so `official` mends that. dvdf-otdf was not released: its
`official` is OTDF's preset with that step count.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

import torch
from torch import Tensor

from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.ranges import CountOrNone, Positive, Share, Size, SomeShare
from shiftgym_agents.components.source_values import ADVANTAGE, SourceValues
from shiftgym_agents.core.agent import Noise, Stage
from shiftgym_agents.data.batches import Batch
from shiftgym_agents.methods.igdf import COSINE, IGDF, IGDFConfig, ranks
from shiftgym_agents.methods.iql import IQL
from shiftgym_agents.methods.otdf import OTDF, OTDFConfig

RANKING = "ranking"  # column of a batch: g of source rows, 0 for target rows

Scale = Literal["none", "minmax", "rank", "clip"]


@dataclass(frozen=True)
class ValueFields:
    """Set what DVDF adds to a method that scores dynamics."""

    keep: SomeShare = 0.5
    """Share of each batch's source rows that is trained on, best rankings first."""
    trade_off: Share = 0.7
    """Weight of the dynamics score in the ranking; the rest goes to the value score."""
    advantage_source: Literal["sql", "iql"] = "sql"
    """Value of the source data: SQL's, near its best actions, or IQL's expectile."""
    alpha: Positive = 0.1
    """How far SQL's value stays below the best action in the source data."""
    advantage_steps: CountOrNone = 500_000
    """Updates of the source's critics and value before IQL; fewer for a short training."""
    advantage_batch: Size = 128
    """Source rows per update of the source's critics and value."""
    advantage_scale: Literal["minmax", "rank", "clip"] = "rank"
    """Put advantages on [0, 1] by extremes, rank, or extremes after clipping the outer 1 %."""
    score_scale: Scale = "rank"
    """Leave the dynamics score as it is, or put it on [0, 1] too, for the ranking only."""
    source_weight: Literal["exp_h", "clipped_g", "exp_g", "one"] = "exp_h"
    """Weight of kept source rows in the critics' loss: exp(h), max(g, 0), exp(g) or 1."""


@dataclass(frozen=True)
class DVDFConfig(ValueFields, IGDFConfig):
    """Set the hyperparameters of DVDF on IGDF's score."""

    def for_robot(self, robot: str) -> Self:
        """Take the release's alpha for Ant, where `published_per_robot` asks for it."""
        chosen = replace(super().for_robot(robot), keep=self.keep)
        swapped = self.published_per_robot and robot == "ant"
        return replace(chosen, alpha=0.2) if swapped else chosen


@dataclass(frozen=True)
class DVDFOTDFConfig(ValueFields, OTDFConfig):
    """Set the hyperparameters of DVDF on OTDF's score."""


C = TypeVar("C", bound=Any)


class ValueAligned(IQL[C], Generic[C]):
    """Rank source rows by dynamics and value; mixed into a method that ranks by dynamics."""

    def build(self) -> None:
        """Declare the source's critics and value beside everything else."""
        super().build()
        self.trade_off = self.per_run("trade_off")
        self.source_values = SourceValues(self, **self.values_of_source())

    def values_of_source(self) -> dict[str, Any]:
        """Give the arguments of `SourceValues`: how the source's critics and value learn."""
        kind, alpha = self.config.advantage_source, self.per_run("alpha")
        given = {"level": self.level, "discount": self.discount, "tau": self.tau}
        return {"kind": kind, "alpha": alpha} | given

    def pretraining(self) -> list[Stage]:
        """Prepare the dynamics scores, then train the source's critics and value."""
        config = self.config
        last = self.source_values.stage(config.advantage_steps, config.advantage_batch)
        return [*super().pretraining(), last]

    @abstractmethod
    def dynamics(self, batch: Batch) -> Tensor:
        """Give the dynamics score h of all source rows of a batch, `(R, S, 1)`."""

    def choose(self, batch: Batch, noise: Noise) -> tuple[Batch, Tensor | None]:
        """Keep the source rows of highest g; weigh them by h, or as `source_weight` says."""
        columns = {**batch.columns, RANKING: batch.on_source(self.ranking(batch))}
        kept, weights = super().choose(replace(batch, columns=columns), noise)
        own = kept.source.columns
        self.log("advantage", batch.source.columns[ADVANTAGE])
        self.log("kept_advantage", own[ADVANTAGE])
        match self.config.source_weight:
            case "clipped_g":
                return kept, kept.on_source(own[RANKING].clamp(min=0), 1.0)
            case "exp_g":
                return kept, kept.on_source(own[RANKING].exp(), 1.0)
            case "one":
                return kept, None
        return kept, weights

    def ranking(self, batch: Batch) -> Tensor:
        """Give g of a batch's source rows, `(R, S, 1)`."""
        value = scaled(batch.source.columns[ADVANTAGE], self.config.advantage_scale)
        h = scaled(self.dynamics(batch), self.config.score_scale)
        return self.trade_off * h + (1 - self.trade_off) * value

    def source_scores(self) -> Tensor | None:
        """Give g as it is in a batch of all source rows."""
        if ADVANTAGE not in self.data.columns["source"]:
            return None
        rows = self.data.sweep("source", max(self.data.sizes["source"]))
        return torch.cat([self.ranking(batch)[..., 0] for _, batch in rows], 1)

    def rank(self, batch: Batch, score: Tensor) -> Tensor:
        """Give g, which `choose` has stored."""
        return batch.source.columns[RANKING]


RAW: dict[str, Any] = {"score_scale": "none", "advantage_scale": "minmax"}  # published


class DVDF(ValueAligned[DVDFConfig], IGDF[DVDFConfig]):
    """DVDF on IGDF's contrastive score; see the module."""

    config_class = DVDFConfig
    presets: ClassVar[Mapping[str, Any]] = {
        "ours": DVDFConfig(),
        "paper": DVDFConfig(source_weight="clipped_g", holdout=0.0, **RAW),
        "official": DVDFConfig(
            advantage_steps=1_000_000,
            published_per_robot=True,
            holdout=0.0,
            weight_by="cosine",
            **RAW,
        ),
    }

    def dynamics(self, batch: Batch) -> Tensor:
        """Look up the cosine of source rows."""
        return batch.source.columns[COSINE]


def on_otdf(preset: str, **values: Any) -> DVDFOTDFConfig:
    """Take a preset of OTDF, with DVDF's share of rows kept and the filter within batches."""
    given = vars(OTDF.presets[preset]) | {"keep": 0.5, "filter_scope": "batch"}
    return DVDFOTDFConfig(**(given | values))


class DVDFOTDF(ValueAligned[DVDFOTDFConfig], OTDF[DVDFOTDFConfig]):
    """DVDF on OTDF's deviation, with OTDF's support term; see the module."""

    config_class = DVDFOTDFConfig
    presets: ClassVar[Mapping[str, Any]] = {
        "ours": on_otdf("ours"),
        "paper": on_otdf("paper", source_weight="clipped_g", **RAW),
        "official": on_otdf("official", advantage_steps=1_000_000, **RAW),
    }

    def build(self) -> None:
        """Refuse a filter that would not ask for values; declare everything."""
        if self.config.filter_scope != "batch":
            raise ShiftgymError("dvdf-otdf ranks within batches: leave --filter-scope at batch.")
        super().build()

    def dynamics(self, batch: Batch) -> Tensor:
        """Give OTDF's deviation, rescaled to [-1, 0] in the batch."""
        return self.closeness(batch)


def scaled(scores: Tensor, how: Scale) -> Tensor:
    """Put each run's scores `(R, S, 1)` on [0, 1]; all equal scores become 0."""
    if how == "none":
        return scores
    if how == "rank":
        return ranks(scores)
    if how == "clip":
        ordered = scores.sort(1).values
        outer = round(0.01 * (scores.shape[1] - 1))
        low, high = ordered[:, outer, None], ordered[:, -1 - outer, None]
        scores = scores.maximum(low).minimum(high)
    low, high = scores.amin(1, keepdim=True), scores.amax(1, keepdim=True)
    return (scores - low) / (high - low + 1e-8)

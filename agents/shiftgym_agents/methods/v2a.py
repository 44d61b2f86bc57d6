"""Judge how good a source row is among rows of its own kind, where sources are mixed: V2A.

Unifying value alignment and assignment (Qiao et al., ICML 2026, arXiv:2605.24862). A source that
was collected in several domains, by several behaviours, has no one value: a critic of all of it
gives a state's value under dynamics that are not the row's. So each source trajectory first gets a
modality z (see `modalities`), the source's critics and value learn Q(s, a, z) and V(s, z), and

    advantage : A(s, a, z) = min Q(s, a, z) - V(s, z)
    the rest  : DVDF on IGDF's score (see `dvdf`), trade_off 0.6, keep 0.5, with this A; value,
                critics and actor of the target see no z

Several sources are joined in one pair; which of them a row came from is not told to the method.

Stated: modalities that are the same all along a trajectory, advantages given them, filtering as
before. Read in released code: everything above, SQL with alpha 0.2 for all robots, sizes and steps
(see `modalities`). Inferred: 500,000 updates of SQL and the length of training, as DVDF has them;
the release's command line has placeholders. Chosen: modalities of 16 numbers; scores and advantages
stored once; the copy of the source's critics follows in every update by half as much as the
release's does in every other one. Not to be had: V2A on OTDF's score, which was not released.

Presets: `ours`; `paper` has the released sizes, takes scores as they are, and holds no target rows
out; `official` is `paper` on raw inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor

from shiftgym.basics.ranges import Positive, Share
from shiftgym_agents.components.modalities import Modalities, ModalitiesConfig
from shiftgym_agents.core.agent import Stage
from shiftgym_agents.data.batches import Batch
from shiftgym_agents.methods.dvdf import RAW, DVDFConfig, ValueAligned
from shiftgym_agents.methods.igdf import COSINE, IGDF


@dataclass(frozen=True)
class V2AConfig(DVDFConfig, ModalitiesConfig):
    """Set the hyperparameters of V2A."""

    trade_off: Share = 0.6
    """Weight of the dynamics score in the ranking; the rest goes to the value score."""
    alpha: Positive = 0.2
    """How far SQL's value stays below the best action in the source data."""


PAPER = V2AConfig(
    modality_size=128,
    modality_steps=100_000,
    modality_crop=200,
    modality_width=256,
    holdout=0.0,
    weight_by="cosine",
    **RAW,
)


class V2A(ValueAligned[V2AConfig], IGDF[V2AConfig]):
    """DVDF with advantages given the modality of a row's trajectory; see the module."""

    config_class = V2AConfig
    presets: ClassVar[Mapping[str, Any]] = {
        "ours": V2AConfig(),
        "paper": PAPER,
        "official": replace(PAPER, modality_inputs="raw"),
    }

    def values_of_source(self) -> dict[str, Any]:
        """Declare modalities, which critics and value read; the critics' copy follows by half."""
        self.modalities = Modalities(self, self.config)
        more = {"more": self.modalities.of, "more_size": self.modalities.size}
        return super().values_of_source() | more | {"tau": self.tau / 2}

    def pretraining(self) -> list[Stage]:
        """Score the dynamics, find the modalities, then train the source's critics and value."""
        *before, values = super().pretraining()
        return [*before, self.modalities.stage(), values]

    def dynamics(self, batch: Batch) -> Tensor:
        """Look up the cosine of source rows."""
        return batch.source.columns[COSINE]

"""Keep the clusters of source rows whose dynamics differ least from the target's: LoDADA.

Localised dynamics-aware domain adaptation (Xia, Yang & Xu, arXiv:2602.21072). The transitions of
both datasets are grouped (see `clusters`); two classifiers tell the domains apart (see
`classifiers`), so that in cluster c

    discrepancy : KL_c = mean over its source rows of log P_S(s'|s, a) - log P_T(s'|s, a)
    keep        : the clusters of least KL_c, until the share `keep` of source rows is reached
    critics     : kept rows weigh exp(d'), d' = (min KL - KL_c) / (max KL - min KL) in [-1, 0] over
                  the kept clusters; target rows weigh 1
    support     : as in OTDF (see `support`)

A mean over a cluster is steadier than the number of a row, and says more than one number for all.

Rebuilt: the text beyond its abstract was not available, and no code is public. Stated: clusters of
both datasets' transitions, a discrepancy per cluster from a domain discriminator, clusters of large
discrepancy filtered out. From summaries: transitions are (s, a, s'), the discrepancy is a KL
divergence, kept rows are weighed, IQL with a CVAE's term on the policy. Inferred: the KL divergence
is of the dynamics, as the aim is; DARA's two classifiers give it. Chosen: k-means, 30 clusters,
(s, a, s' - s) standardised with both domains weighing half, 0.7 kept, the weights, bounded as
OTDF's are, the filter over the data set, a cluster without target rows dropped first (what a
classifier says there is a guess). Preset `paper` has OTDF's released CVAE; `official` is `paper`.

To know: a cluster of (s, a, s') is chosen by what happened, so KL_c is the mean log-ratio of rows
alike in all three, and no divergence of the dynamics at (s, a).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from shiftgym.basics.ranges import SomeShare
from shiftgym_agents.components.classifiers import Classifiers, ClassifiersConfig
from shiftgym_agents.components.clusters import CLUSTER, Clusters, ClustersConfig
from shiftgym_agents.core.agent import Noise, Stage
from shiftgym_agents.data.batches import SIDES, Batch
from shiftgym_agents.methods.support import SupportConfig, Supported, require_share

KEPT = "kept"  # column of source rows: 1 in clusters that are kept, else 0
CLOSENESS = "closeness"  # column of source rows: their cluster's d'


@dataclass(frozen=True)
class LoDADAConfig(SupportConfig, ClustersConfig, ClassifiersConfig):
    """Set the hyperparameters of LoDADA."""

    keep: SomeShare = 0.7
    """Share of the source rows that is kept at least, in clusters of least discrepancy."""
    weigh: bool = True
    """Weigh kept source rows by exp(d') in the critics' loss, between 1/e and 1."""


PAPER = LoDADAConfig(cvae_width=750, cvae_samples=10)


class LoDADA(Supported[LoDADAConfig]):
    """IQL on the clusters of source rows that resemble the target; see the module."""

    config_class = LoDADAConfig
    presets: ClassVar[Mapping[str, Any]] = {
        "ours": LoDADAConfig(),
        "paper": PAPER,
        "official": PAPER,
    }

    def build(self) -> None:
        """Declare clusters and classifiers besides IQL's networks and the CVAE."""
        super().build()
        require_share(self.configs)
        self.clusters = Clusters(self, self.config)
        self.classifiers = Classifiers(self, self.config)

    @property
    def kept(self) -> int:
        """Count the source rows kept of each batch."""
        return int(self.config.keep * self.config.batch + 1e-9)

    def pretraining(self) -> list[Stage]:
        """Train the classifiers, judge the clusters, then train the CVAE."""
        stage = self.classifiers.stage()
        learned = stage.finish or self.classifiers.freeze

        def finish() -> None:
            learned()
            self.store()

        return [replace(stage, finish=finish), self.cvae.stage()]

    @torch.no_grad()
    def store(self) -> None:
        """Judge every cluster, and store whether its source rows are kept, and what they weigh."""
        self.clusters.store()
        ratios = [
            self.classifiers.log_ratio(batch)[..., 0] for _, batch in self.data.sweep("source")
        ]
        ratio = torch.cat(ratios, 1)
        kept, closeness = torch.zeros_like(ratio), torch.zeros_like(ratio)
        for run in range(self.runs):
            sources, targets = (
                self.data.columns[side][CLUSTER][run, : self.data.sizes[side][run]].long()
                for side in SIDES
            )
            own = -ratio[run, : len(sources)]
            chosen, d = judged(own, sources, targets, self.config.clusters, self.config.keep)
            kept[run, : len(own)] = chosen.to(kept)[sources]
            closeness[run, : len(own)] = d[sources]
        self.data.add_column("source", KEPT, kept)
        self.data.add_column("source", CLOSENESS, closeness)

    def source_scores(self) -> Tensor | None:
        """Give how close every source row's cluster is to the target, `(R, N)`."""
        return self.data.columns["source"].get(CLOSENESS)

    def choose(self, batch: Batch, noise: Noise) -> tuple[Batch, Tensor | None]:
        """Keep source rows of the clusters kept, and weigh them by closeness."""
        self.log("passing_rows", batch.source.columns[KEPT])
        kept = batch.keep_passing(batch.source.columns[KEPT] > 0, self.kept)
        return kept, kept.columns[CLOSENESS].exp() if self.config.weigh else None


def judged(
    apart: Tensor, sources: Tensor, targets: Tensor, count: int, keep: float
) -> tuple[Tensor, Tensor]:
    """Choose clusters by the mean of what their source rows are apart from the target.

    Args:
        apart: log P_S(s'|s, a) - log P_T(s'|s, a) of source rows, `(N,)`.
        sources: Their clusters, `(N,)` int64.
        targets: Those of target rows, `(M,)` int64.
        count: Number of clusters.
        keep: Share of source rows to keep at least.

    Returns:
        Which clusters are kept, `(count,)` bool, and the d' of all: in [-1, 0] where they are kept,
        below where they are not. Without target rows it is that of the largest divergence.
    """
    sizes = torch.bincount(sources, minlength=count)
    sums = apart.new_zeros(count).index_add(0, sources, apart)
    divergence = sums / sizes.clamp(min=1)
    known = torch.bincount(targets, minlength=count) > 0
    ranked = torch.where(known, divergence, torch.inf)
    order = torch.sort(ranked, stable=True).indices
    before = sizes[order].cumsum(0) - sizes[order]
    kept = torch.zeros(count, dtype=torch.bool, device=apart.device)
    kept[order] = before < keep * len(apart) - 1e-6
    kept &= sizes > 0
    seen, compared = divergence[kept & known], divergence[known & (sizes > 0)]
    if not len(seen):
        return kept, torch.zeros_like(divergence)
    low, high = seen.amin(), seen.amax()
    return kept, (low - torch.where(known, divergence, compared.amax())) / (high - low + 1e-8)

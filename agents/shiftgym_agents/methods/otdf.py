"""Train OTDF: keep and weigh source rows by optimal transport, within the target's support.

Lyu et al., "Cross-Domain Offline Policy Adaptation with Optimal Transport and Dataset Constraint"
(ICLR 2025), on IQL's losses (iql.py). Three stages:

    1  d_i <= 0, how far source row i is from the target data: transport.py, once per pair, cached
    2  a CVAE of the target's behaviour: cvae.py, on target rows
    3  IQL, where of each batch's source rows with d' = (d - max d) / (max d - min d) in [-1, 0]
         filter   the share `keep` of highest d' stays, with all target rows
         weigh    rows count exp(d') in the critics' loss, target rows 1
         support  actor: E[w |tanh mean - a|^2] - support E[log pi(a'|s)],  a' ~ policy(s), tanh

Stated by the paper: the three stages, the filter by deviation, weights exp(d'), the support term.
Read in the released code: d' and the filter per batch, the extremes taken before the filter; value
and actor unweighted; support on the rows kept; squared errors summed over action dimensions, which
`support` is calibrated against; keep 0.8; support 0.1 for kinematic shifts, on whichever side, else
0.5. Inferred: the paper's own scope of the filter is the dataset. Chosen here: CVAE width and
samples of "ours", which keep OTDF near IQL's speed, and what transport.py says.

Presets. "paper": published equations: filter and extremes over the dataset, KL of weight 1, support
on all rows drawn, the CVAE of the release. "official": the release with its defects: the actor's
weights multiply every other row's error, (R, B, 1) against (R, B), so that its loss is the product
of two means and the advantage of a row has no effect; and a short last block of transport looks
too far away. Not reproduced: inputs rounded to float16 (ranks agree to 1e-5), next states rebuilt
from the following row, and a division by zero where all d of a batch are equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from torch import Tensor

from shiftgym.basics.ranges import Count, Positive, SomeShare
from shiftgym_agents.components.transport import Transport, deviations, require_pot, require_rows
from shiftgym_agents.core.agent import Agent, Noise, Stage
from shiftgym_agents.core.losses import weighted_mean
from shiftgym_agents.data.batches import SIDES, Batch
from shiftgym_agents.data.pairs import TrainingPair
from shiftgym_agents.methods.support import SupportConfig, Supported, require_share

DEVIATION = "deviation"  # column of source rows: transport's d
CLOSENESS = "closeness"  # column of a batch: d' of source rows, 0 for target rows


@dataclass(frozen=True)
class OTDFConfig(SupportConfig):
    """Set the hyperparameters of OTDF."""

    keep: SomeShare = 0.8
    """Share of the source rows that are kept, those closest to the target."""
    weigh: bool = True
    """Weigh kept source rows by exp(d') in the critics' loss, between 1/e and 1."""
    filter_scope: Literal["batch", "dataset"] = "batch"
    """Rank and rescale deviations within each batch, or within the whole source dataset."""
    policy_weights: Literal["row", "scalar"] = "row"
    """Weigh each row's imitation by its own advantage, or all by the mean weight (a defect)."""
    transport_cost: Literal["cosine", "euclidean"] = "cosine"
    """Cost between transitions (s, a, s')."""
    transport_epsilon: Positive = 0.05
    """Entropic regularisation, as a share of the mean cost."""
    transport_iterations: Count = 100
    """Sinkhorn iterations."""
    transport_block: Count = 10_000
    """Source rows solved together; memory grows with it, 1 GB at 10,000."""
    transport_blocks: Literal["strided", "consecutive"] = "strided"
    """Make blocks of rows spread over the source, or of consecutive ones."""
    transport_mass: Literal["conditional", "block"] = "conditional"
    """Deviation as the mean cost of a row, or times its mass, which differs between blocks."""

    @property
    def transport(self) -> Transport:
        """Give the settings of transport."""
        return Transport(
            self.transport_cost,
            self.transport_epsilon,
            self.transport_iterations,
            self.transport_block,
            self.transport_blocks,
            self.transport_mass,
        )


RELEASED = OTDFConfig(cvae_width=750, cvae_samples=10)
C = TypeVar("C", bound=OTDFConfig)


class OTDF(Supported[C], Generic[C]):
    """OTDF; see the module. Methods that rank source rows otherwise override `rank`."""

    config_class = OTDFConfig
    presets: ClassVar[Mapping[str, Any]] = {
        "ours": OTDFConfig(),
        "paper": replace(RELEASED, filter_scope="dataset", cvae_kl=1.0, support_rows="all"),
        "official": replace(
            RELEASED,
            policy_weights="scalar",
            transport_blocks="consecutive",
            transport_mass="block",
        ),
    }

    def __init__(
        self, configs: C | Sequence[C], pairs: Sequence[TrainingPair], *args: Any, **kwargs: Any
    ) -> None:
        """Refuse what transport cannot measure; arguments as for `Agent`."""
        require_pot()
        self._titles = [" -> ".join(map(str, pair.names)) for pair in pairs]
        super().__init__(configs, pairs, *args, **kwargs)

    def build(self) -> None:
        """Declare IQL's networks and the CVAE; refuse rows that have no cost."""
        super().build()
        require_share(self.configs)
        for run, one in enumerate(self.configs):
            for side in SIDES:
                rows = transitions(self, side, run)
                require_rows(rows, one.transport_cost, f"run {run}'s {side}")

    @property
    def kept(self) -> int:
        """Count the source rows kept of each batch."""
        return int(self.config.keep * self.config.batch + 1e-9)

    # --- before training --------------------------------------------------------------------------

    def pretraining(self) -> list[Stage]:
        """Measure the source rows, then train the CVAE."""
        measuring = Stage("transport", 0, _nothing, 0, 0, finish=self.measure)
        return [measuring, self.cvae.stage()]

    def measure(self) -> None:
        """Give every source row its deviation, and note each dataset's extremes and threshold."""
        settings = [config.transport for config in self.configs]
        found = add_deviations(self, settings, self._titles)
        ends = [(d.amax(), d.amin(), _threshold(d, self.config.keep)) for d in found]
        parts = torch.tensor(ends, dtype=self.dtype, device=self.device)[:, :, None, None]
        self._top, self._bottom, self._threshold = parts.unbind(1)

    def source_scores(self) -> Tensor | None:
        """Give the deviations of all source rows."""
        return self.data.columns["source"].get(DEVIATION)

    # --- hooks ------------------------------------------------------------------------------------

    def choose(self, batch: Batch, noise: Noise) -> tuple[Batch, Tensor | None]:
        """Keep the best source rows by `rank`, and weigh them by closeness."""
        closeness = self.closeness(batch)
        ranks = self.rank(batch, closeness)
        columns = {**batch.columns, CLOSENESS: batch.on_source(closeness)}
        batch = self.keep(replace(batch, columns=columns), ranks)
        return batch, batch.columns[CLOSENESS].exp() if self.config.weigh else None

    def closeness(self, batch: Batch) -> Tensor:
        """Give d' of the source rows, `(R, S, 1)` in [-1, 0]."""
        deviation = batch.source.columns[DEVIATION]
        if self.config.filter_scope == "batch":
            return rescaled(deviation, deviation.amax(1, True), deviation.amin(1, True))
        return rescaled(deviation, self._top, self._bottom)

    def rank(self, batch: Batch, closeness: Tensor) -> Tensor:
        """Give what source rows are ranked by, `(R, S, 1)`, the highest first."""
        return closeness

    def keep(self, batch: Batch, ranks: Tensor) -> Batch:
        """Keep the source rows of highest rank, or those that pass the dataset's threshold.

        As many of the latter, in their order, repeated where a batch has too few.
        """
        if self.config.filter_scope == "batch":
            return batch.keep_sources(ranks, self.kept)
        return batch.keep_passing(batch.source.columns[DEVIATION] >= self._threshold, self.kept)

    def actor_loss(self, imitation: Tensor, weights: Tensor) -> Tensor:
        """Average weighted errors; the release averages weights and errors apart."""
        if self.config.policy_weights == "scalar":
            return weighted_mean(weights) * weighted_mean(imitation)
        return super().actor_loss(imitation, weights)


def rescaled(deviation: Tensor, top: Tensor, bottom: Tensor) -> Tensor:
    """Give d' = (d - top) / (top - bottom) in [-1, 0]; 0 where all are equal."""
    return (deviation - top) / (top - bottom + 1e-8)


def transitions(agent: Agent[Any], side: str, run: int) -> Tensor:
    """View (s, a, s') of all rows of one run's dataset, `(N, 2 O + A)`."""
    return agent.data.rows_of(side, run)[:, : 2 * agent.obs_size + agent.act_size]


def add_deviations(
    agent: Agent[Any], settings: Sequence[Transport], titles: Sequence[str]
) -> list[Tensor]:
    """Store the deviations of every run's source rows in the column DEVIATION of source rows.

    Pairs that several runs share are measured once.

    Args:
        agent: Owns the data.
        settings: How, one per run.
        titles: What progress bars call each run's pair.

    Returns:
        Each run's deviations `(N,)`.
    """
    data = agent.data
    places = [
        (int(data.offset["source"][run]), int(data.offset["target"][run]), settings[run])
        for run in range(agent.runs)
    ]
    known: dict[Any, Tensor] = {}
    for run, place in enumerate(places):
        if place not in known:
            source, target = (transitions(agent, side, run) for side in SIDES)
            known[place] = deviations(source, target, settings[run], titles[run])
    found = [known[place] for place in places]
    longest = max(data.sizes["source"])
    padded = [torch.cat([d, d[-1:].expand(longest - len(d))]) for d in found]
    data.add_column("source", DEVIATION, torch.stack(padded))
    return found


def _threshold(deviation: Tensor, keep: float) -> Tensor:
    """Give the smallest deviation among the share `keep` of largest ones."""
    count = max(1, int(keep * len(deviation) + 1e-9))
    return deviation.kthvalue(len(deviation) - count + 1).values


def _nothing(batch: Batch, noise: Noise) -> None:
    """Take no step: all of this stage's work is its finish."""

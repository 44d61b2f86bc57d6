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
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

import torch
from torch import Tensor

from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.ranges import Amount, Count, CountOrNone, Positive, Size, SomeShare
from shiftgym.datasets.names import dataset_name
from shiftgym.domains import Domain
from shiftgym_agents.components.cvae import CVAE
from shiftgym_agents.components.transport import Transport, deviations, require_pot, require_rows
from shiftgym_agents.core.agent import Agent, Config, Noise, Stage
from shiftgym_agents.core.data import SIDES, Batch
from shiftgym_agents.core.losses import weighted_mean
from shiftgym_agents.core.pairs import TrainingPair
from shiftgym_agents.methods.iql import HANDS, IQL, LOG_STD_RANGE, IQLConfig

DEVIATION = "deviation"  # column of source rows: transport's d
CLOSENESS = "closeness"  # column of a batch: d' of source rows, 0 for target rows


@dataclass(frozen=True)
class OTDFConfig(IQLConfig):
    """Set the hyperparameters of OTDF."""

    bc_reduce: Literal["mean", "sum"] = "sum"
    """Average or sum the squared error over action dimensions; `support` is made for the sum."""
    keep: SomeShare = 0.8
    """Share of the source rows that are kept, those closest to the target."""
    weigh: bool = True
    """Weigh kept source rows by exp(d') in the critics' loss, between 1/e and 1."""
    filter_scope: Literal["batch", "dataset"] = "batch"
    """Rank and rescale deviations within each batch, or within the whole source dataset."""
    support: Amount | None = None
    """Weight of the support term; None for 0.1 where a shift of the pair is kinematic, else 0.5."""
    support_rows: Literal["kept", "all"] = "kept"
    """Ask for support at the kept source rows and the target's, or at all rows drawn."""
    policy_weights: Literal["row", "scalar"] = "row"
    """Weigh each row's imitation by its own advantage, or all by the mean weight (a defect)."""
    cvae_steps: CountOrNone = 10_000
    """Updates that train the CVAE of the target's behaviour."""
    cvae_width: Size = 256
    """Units in each hidden layer of the CVAE; 750 as published, at a fraction of the speed."""
    cvae_samples: Size = 4
    """Latents per action in the support term; 10 as published."""
    cvae_rate: Positive = 1e-3
    """Adam's step size for the CVAE."""
    cvae_kl: Amount = 0.5
    """Weight of the KL term in the CVAE's loss."""
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

    def for_pair(self, pair: TrainingPair) -> Self:
        """Choose `support` where it was left open: published values, 0.5 on hands.

        Published pairs go both ways, so either side may be the shifted one. Arrays are of the
        domain that their name says, if it does.

        Raises:
            ShiftgymError: nothing is known of the target.
        """
        if self.support is not None:
            return self
        if not isinstance(pair.domain, Domain):
            raise ShiftgymError(
                "How much support weighs is known for shiftgym's robots only: add --support 0.5 "
                "(published: 0.1 for pairs with other joints, 0.5 for others)."
            )
        sources = [shift_of(name) for name in str(pair.names[0]).split(" + ")]
        kinematic = any(s.startswith("kinematic") for s in (*sources, pair.domain.shift or ""))
        weak = kinematic and pair.domain.robot not in HANDS
        return replace(self, support=0.1 if weak else 0.5)


RELEASED = OTDFConfig(cvae_width=750, cvae_samples=10)
C = TypeVar("C", bound=OTDFConfig)


class OTDF(IQL[C], Generic[C]):
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
        """Settle what the pair's shifts decide, and refuse what transport cannot measure."""
        require_pot()
        each = [configs] * len(pairs) if isinstance(configs, Config) else list(configs)
        chosen = [c.for_pair(p) for c, p in zip(each, pairs, strict=True)]
        self._titles = [" -> ".join(map(str, pair.names)) for pair in pairs]
        super().__init__(chosen, pairs, *args, **kwargs)

    def build(self) -> None:
        """Declare IQL's networks and the CVAE."""
        super().build()
        config = self.config
        if len({c.keep for c in self.configs}) > 1 or self.kept < 1 or config.keep > 1:
            raise ShiftgymError(
                f"Runs in lockstep share one --keep, of at least one row of {config.batch} and at "
                f"most 1, got {sorted({c.keep for c in self.configs})}."
            )
        rate, kl = self.per_run("cvae_rate").flatten(), self.per_run("cvae_kl")
        self.cvae = CVAE(self, config.cvae_steps, config.cvae_width, config.cvae_samples, rate, kl)
        self.support = self.per_run("support").flatten()
        self.supports = any(c.support for c in self.configs)
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
        if self.config.support_rows == "all":
            self._drawn = batch
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
        passes = (batch.source.columns[DEVIATION] >= self._threshold)[..., 0]
        order = torch.sort(passes.to(torch.int8), stable=True, dim=1, descending=True).indices
        turn = torch.arange(self.kept, device=order.device) % passes.sum(1, True).clamp(min=1)
        rest = torch.arange(batch.sources, batch.rows.shape[1], device=order.device)
        index = torch.cat([order.gather(1, turn), rest.expand(len(order), -1)], 1)
        return batch.take(index, self.kept)

    def noise_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Name the numbers that the support term draws."""
        sources = self.kept if self.config.support_rows == "kept" else self.config.batch
        rows = sources + self.config.batch
        return {"support_action": (rows, self.act_size), **self.cvae.noise_shapes(rows)}

    def policy_penalty(self, batch: Batch, output: Tensor, noise: Noise) -> Tensor | None:
        """Ask for actions within the target's support: -support E[log pi(a'|s)]."""
        if not self.supports:
            return None
        obs = batch.obs
        if self.config.support_rows == "all":
            obs = self._drawn.obs
            output = self.actor(obs)
        act = self.sampled(output, noise["support_action"])
        return -self.support * weighted_mean(self.cvae.log_support(obs, act, noise))

    def sampled(self, output: Tensor, normal: Tensor) -> Tensor:
        """Draw actions tanh(mean + std xi) `(R, B, A)` from the actor's outputs."""
        own = output[..., self.act_size :] if self.log_std is None else self.log_std.rows
        std = own.clamp(*LOG_STD_RANGE).exp()
        return torch.tanh(output[..., : self.act_size] + std * normal)

    def actor_loss(self, imitation: Tensor, weights: Tensor) -> Tensor:
        """Average weighted errors; the release averages weights and errors apart."""
        if self.config.policy_weights == "scalar":
            return weighted_mean(weights) * weighted_mean(imitation)
        return super().actor_loss(imitation, weights)


def shift_of(name: str) -> str:
    """Give the shift of the domain that a dataset's name tells; empty for none."""
    try:
        return dataset_name(name).domain.shift or ""
    except ShiftgymError:
        return ""


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

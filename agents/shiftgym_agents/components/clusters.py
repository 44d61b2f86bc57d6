"""Group the transitions of both datasets by k-means on (s, a, s' - s), both domains weighing half.

A row's numbers are standardised over both datasets, each weighing half whatever its size; otherwise
a hundred times as many source rows would place all the centres. Centres are found on a part of the
rows by Lloyd's algorithm from k-means++ (Arthur & Vassilvitskii 2007), and every row is then of the
cluster whose centre is nearest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from shiftgym.basics.ranges import Count, Size
from shiftgym_agents.core.agent import Agent
from shiftgym_agents.data.batches import SIDES, Batch

CLUSTER = "cluster"  # column of either side: which cluster a row is of


@dataclass(frozen=True)
class ClustersConfig:
    """Set the hyperparameters of the clusters; a method's configuration extends it."""

    clusters: Size = 30
    """Clusters of transitions, of both datasets together."""
    cluster_rows: Count = 20_000
    """Rows of each dataset that place the centres, at most."""
    cluster_rounds: Count = 50
    """Most rounds of Lloyd's algorithm."""


class Clusters:
    """Hold the centres of every run.

    Args:
        agent: The runs; call this while it builds.
        config: How many there are, and how they are found.
    """

    def __init__(self, agent: Agent[Any], config: ClustersConfig) -> None:
        self.agent, self.config = agent, config
        self.places: list[dict[str, Tensor]] = []  # of the rows that place the centres
        self.uniform: list[Tensor] = []
        for run, generator in enumerate(agent.generators):
            sizes = {side: agent.data.sizes[side][run] for side in SIDES}
            orders = {side: torch.randperm(n, generator=generator) for side, n in sizes.items()}
            self.places.append({s: order[: config.cluster_rows] for s, order in orders.items()})
            self.uniform.append(
                torch.rand(config.clusters, generator=generator, dtype=torch.float64)
            )
        width = 2 * agent.obs_size + agent.act_size
        blank = torch.zeros(agent.runs, config.clusters, width, dtype=agent.dtype)
        self.centres = agent.buffer("cluster_centres", blank)
        self.found = agent.buffer("clusters_found", torch.zeros(agent.runs, dtype=torch.int64))
        self.moments = [self._moments(run) for run in range(agent.runs)]

    @torch.no_grad()
    def store(self) -> None:
        """Find the centres, unless they are known; store every row's cluster as a column."""
        if not self.found.all():
            for run in range(self.agent.runs):
                self.centres[run] = self._fit(run).to(self.centres)
            self.found.fill_(1)
        for side in SIDES:
            parts = [self.of(batch) for _, batch in self.agent.data.sweep(side)]
            self.agent.data.add_column(side, CLUSTER, torch.cat(parts, 1))

    def of(self, batch: Batch) -> Tensor:
        """Give the cluster of every row, `(R, B)` int64."""
        width = self.centres.shape[2]
        rows = self._changes(batch.rows[..., :width])
        points = [(x - mean) / scale for x, (mean, scale) in zip(rows, self.moments, strict=True)]
        return torch.stack(
            [nearest(x.double(), c.double()) for x, c in zip(points, self.centres, strict=True)]
        )

    def _fit(self, run: int) -> Tensor:
        mean, scale = self.moments[run]
        sides = [(self._rows(side, run)[self.places[run][side]] - mean) / scale for side in SIDES]
        shares = [torch.full((len(x),), 0.5 / len(x), dtype=torch.float64) for x in sides]
        points = torch.cat(sides).double()
        weights = torch.cat(shares).to(points.device)
        start = seeds(points, weights, self.uniform[run].to(points.device))
        return lloyd(points, weights, start, self.config.cluster_rounds)

    def _rows(self, side: str, run: int) -> Tensor:
        return self._changes(self.agent.data.rows_of(side, run)[:, : self.centres.shape[2]])

    def _changes(self, rows: Tensor) -> Tensor:
        """Put s' - s in the place of s'."""
        size = self.agent.obs_size
        own, after = rows[..., :-size], rows[..., -size:]
        return torch.cat([own, after - rows[..., :size]], -1)

    def _moments(self, run: int) -> tuple[Tensor, Tensor]:
        """Give mean and deviation over both datasets, each weighing half, `(D,)` each."""
        found = [torch.var_mean(self._rows(s, run).double(), 0, correction=0) for s in SIDES]
        variance, mean = (torch.stack(parts) for parts in zip(*found, strict=True))
        scale = (variance.mean(0) + mean.var(0, correction=0)).sqrt().clamp(min=1e-6)
        return mean.mean(0).to(self.agent.dtype), scale.to(self.agent.dtype)


def seeds(points: Tensor, weights: Tensor, uniform: Tensor) -> Tensor:
    """Choose as many centres as `uniform` has numbers by k-means++, `(k, D)`.

    The first is a point in proportion to its weight, each later one in proportion to its weight
    times its squared distance from the nearest before.

    Args:
        points: `(N, D)`.
        weights: `(N,)`.
        uniform: `(k,)` in [0, 1): the place of each in the cumulated proportions.
    """
    chosen: list[Tensor] = []
    mass = weights
    distance = torch.full_like(weights, torch.inf)
    for u in uniform:
        total = mass.cumsum(0)
        place = torch.searchsorted(total, u * total[-1], right=True).clamp(max=len(points) - 1)
        chosen.append(points[place])
        distance = distance.minimum(((points - chosen[-1]) ** 2).sum(1))
        mass = weights * distance
    return torch.stack(chosen)


def lloyd(points: Tensor, weights: Tensor, centres: Tensor, rounds: int) -> Tensor:
    """Move centres `(k, D)` to their points' weighted means until they rest, `(k, D)`.

    A centre without points stays where it is.
    """
    own = None
    for _ in range(rounds):
        before, own = own, nearest(points, centres)
        if before is not None and torch.equal(before, own):
            break
        mass = weights.new_zeros(len(centres)).index_add(0, own, weights)
        sums = torch.zeros_like(centres).index_add(0, own, weights[:, None] * points)
        centres = torch.where(mass[:, None] > 0, sums / mass[:, None].clamp(min=1e-300), centres)
    return centres


def nearest(points: Tensor, centres: Tensor, chunk: int = 65536) -> Tensor:
    """Give the place of the nearest centre `(k, D)` of every point `(N, D)`, `(N,)`."""
    half = (centres**2).sum(1) / 2
    parts = [(half - part @ centres.T).argmin(1) for part in points.split(chunk)]
    return torch.cat(parts)

"""Set rows aside, stop runs whose error on them no longer falls, and keep each copy's best weights.

    draw     a fixed share of each run's dataset, in whole stretches of it (neighbours in time are
             alike, so that single rows would be no test), from the run's own generator; those rows
             weigh 0 in training, the others n / (n - held), so that weights average to one
    look     at the held-out error of every copy of a network, every so many updates: a copy whose
             error fell by more than the share `threshold` is remembered
    stop     a run none of whose copies was remembered for `patience` looks (0: never), once one has
             learned anything: many trainings open with a plateau
    restore  what is remembered

A stopped run may go on taking steps while others train: nothing of it is remembered any more. When
all have stopped, updates are left out (`Stage.idle`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.core.agent import Agent
from shiftgym_agents.core.nets import Net
from shiftgym_agents.data.batches import SIDES, Batch

PIECES = 50  # stretches that a dataset is cut into
LEARNED = 0.9  # share of the error of knowing nothing below which a copy has learned something


class HoldOut:
    """Hold rows out of the training of a network and remember its best copies.

    Args:
        agent: The runs; call this while it builds.
        net: What is trained; its name in `agent` prefixes the buffers declared here.
        share: Share of rows held out, above 0 and below 1; at least one row.
        patience: Looks without improvement before a run stops; 0 to never stop.
        threshold: Relative fall of the error that counts as improvement.
        side: The dataset, source or target, or both.
        along: Networks of as many copies that are remembered, restored and frozen with `net`.
        most: Most rows held out of a dataset.

    Raises:
        ShiftgymError: A dataset has too few rows to hold any out.
    """

    def __init__(
        self,
        agent: Agent[Any],
        net: Net,
        share: float,
        patience: int = 0,
        threshold: float = 0.0,
        side: str = "target",
        along: Sequence[Net] = (),
        most: int | None = None,
    ) -> None:
        self.data, self.nets = agent.data, [net, *along]
        self.sides = SIDES if side == "both" else (side,)
        self.patience, self.threshold = patience, threshold
        names = {id(known): name for name, known in agent.parameters.items()}
        name = names[id(net)]
        self.columns = {s: f"{name}_{s}_held_out" for s in self.sides}
        drawn = [self._draw(agent, s, share, most) for s in self.sides]
        self.places, self.weights = (
            torch.cat(parts, 1).to(agent.device) for parts in zip(*drawn, strict=True)
        )
        self.sources = drawn[0][0].shape[1] if self.sides[0] == "source" else 0
        runs, copies = net.rows.shape[:2]
        self.best = agent.buffer(f"{name}_best", torch.full((runs, copies), torch.inf).double())
        self.rows = [
            agent.buffer(f"{names[id(each)]}_best_rows", each.rows.detach().clone())
            for each in self.nets
        ]
        self.waited = agent.buffer(f"{name}_waited", torch.zeros(runs, dtype=torch.int64))
        self.active = agent.buffer(f"{name}_active", torch.ones(runs, dtype=agent.dtype))
        self._over: bool | None = None

    def _draw(
        self, agent: Agent[Any], side: str, share: float, most: int | None
    ) -> tuple[Tensor, Tensor]:
        """Draw places `(R, H)` of one dataset and their weights `(R, H, 1)`; add its column."""
        sizes = agent.data.sizes[side]
        if min(sizes) < 2:
            raise ShiftgymError(f"The {side} dataset has one row: no row can be held out of it.")
        held = [min(max(1, int(share * n)), n - 1, most or n) for n in sizes]
        places = torch.zeros(agent.runs, max(held), dtype=torch.int64)
        weights = torch.zeros(agent.runs, max(held), 1, dtype=agent.dtype)
        extra = torch.zeros(agent.runs, max(sizes), dtype=agent.dtype)  # weight in training - 1
        for run, (n, h) in enumerate(zip(sizes, held, strict=True)):
            places[run, :h] = stretches(n, h, agent.generators[run])
            weights[run, :h] = max(held) / h
            extra[run] = h / (n - h)
            extra[run, places[run, :h]] = -1.0
        agent.data.add_column(side, self.columns[side], extra)
        return places, weights

    def training_weights(self, batch: Batch) -> Tensor:
        """Give each row's weight in training, `(R, B, 1)`; rows of other sides weigh 1."""
        extra = [batch.columns[column] for column in self.columns.values()]
        return 1 + torch.stack(extra).sum(0)

    def trains(self, side: str, run: int) -> Tensor:
        """Say which rows of one run's dataset train, `(N,)` bool."""
        count = self.data.sizes[side][run]
        return self.data.columns[side][self.columns[side]][run, :count] >= 0

    def batch(self) -> Batch:
        """Give the rows held out, `(R, H, .)`; see `weights` for runs that hold out fewer."""
        return self.data.batch(self.places, self.sources)

    def mean(self, errors: Tensor) -> Tensor:
        """Average errors `(R, C, H, 1)` on the rows of `batch`, `(R, C)`."""
        return (errors * self.weights[:, None]).flatten(2).mean(2).double()

    @property
    def over(self) -> bool:
        """Say whether every run stopped: then a step would change nothing that is kept."""
        if self._over is None:
            self._over = not bool(self.active.any())
        return self._over

    @torch.no_grad()
    def look(self, errors: Tensor, blank: Tensor | None = None) -> None:
        """Remember copies that improved.

        Args:
            errors: Of every copy on the rows of `batch`, `(R, C, H, 1)`.
            blank: Each run's mean error of something that knows nothing, `(R,)`; runs wait for
                improvements only once a copy does better than this.
        """
        error = self.mean(errors)
        better = (error < self.best * (1 - self.threshold)) & (self.active > 0)[:, None]
        self.best.copy_(torch.where(better, error, self.best))
        for net, best in zip(self.nets, self.rows, strict=True):
            best.copy_(torch.where(better[..., None], net.rows, best))
        waiting = ~better.any(1)
        if blank is not None:
            waiting &= self.best.amin(1) < LEARNED * blank
        self.waited.add_(1).mul_(waiting)
        if self.patience:
            self.active.mul_(self.waited < self.patience)
        self._over = None

    @property
    def looked(self) -> bool:
        """Say whether anything is remembered yet."""
        return bool(torch.isfinite(self.best).any())

    @torch.no_grad()
    def restore(self) -> None:
        """Give networks their best weights, freeze them, let batches forget who was held out."""
        for net, best in zip(self.nets, self.rows, strict=True):
            net.rows.copy_(best)
            for part in ("m", "v", "steps"):  # of no use any more, and different in stopped runs
                net.state[part].zero_()
            net.freeze()
        for side, column in self.columns.items():
            self.data.columns[side].pop(column, None)


def stretches(rows: int, held: int, generator: torch.Generator) -> Tensor:
    """Draw `held` of so many rows in whole stretches but for the last one, `(held,)`."""
    pieces = min(PIECES, rows)
    piece = torch.arange(rows) * pieces // rows
    order = torch.randperm(pieces, generator=generator)
    return torch.sort(order[piece], stable=True).indices[:held]

"""Set rows aside, stop runs whose error on them no longer falls, and keep each copy's best weights.

    draw     a fixed share of each run's dataset, from the run's own generator; those rows weigh 0
             in training, the others n / (n - held), so that weights average to one
    look     at the held-out error of every copy of a network, every so many updates: a copy whose
             error fell by more than the share `threshold` is remembered
    stop     a run none of whose copies was remembered for `patience` looks (0: never)
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
from shiftgym_agents.core.data import Batch
from shiftgym_agents.core.nets import Net


class HoldOut:
    """Hold rows out of the training of a network and remember its best copies.

    Args:
        agent: The runs; call this while it builds.
        net: What is trained; its name in `agent` prefixes the buffers declared here.
        share: Share of rows held out, above 0 and below 1; at least one row.
        patience: Looks without improvement before a run stops; 0 to never stop.
        threshold: Relative fall of the error that counts as improvement.
        side: The dataset, source or target.
        along: Networks of as many copies that are remembered, restored and frozen with `net`.

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
    ) -> None:
        self.data, self.nets, self.side = agent.data, [net, *along], side
        self.patience, self.threshold = patience, threshold
        names = {id(known): name for name, known in agent.parameters.items()}
        name = names[id(net)]
        self.column = f"{name}_held_out"
        sizes = agent.data.sizes[side]
        if min(sizes) < 2:
            raise ShiftgymError(f"The {side} dataset has one row: no row can be held out of it.")
        held = [min(max(1, int(share * n)), n - 1) for n in sizes]
        self.places = torch.zeros(agent.runs, max(held), dtype=torch.int64)
        self.weights = torch.zeros(agent.runs, max(held), 1, dtype=agent.dtype)
        extra = torch.zeros(agent.runs, max(sizes), dtype=agent.dtype)  # weight in training - 1
        for run, (n, h) in enumerate(zip(sizes, held, strict=True)):
            self.places[run, :h] = torch.randperm(n, generator=agent.generators[run])[:h]
            self.weights[run, :h] = max(held) / h
            extra[run] = h / (n - h)
            extra[run, self.places[run, :h]] = -1.0
        self.places, self.weights = self.places.to(agent.device), self.weights.to(agent.device)
        agent.data.add_column(side, self.column, extra)
        runs, copies = net.rows.shape[:2]
        self.best = agent.buffer(f"{name}_best", torch.full((runs, copies), torch.inf).double())
        self.rows = [
            agent.buffer(f"{names[id(each)]}_best_rows", each.rows.detach().clone())
            for each in self.nets
        ]
        self.waited = agent.buffer(f"{name}_waited", torch.zeros(runs, dtype=torch.int64))
        self.active = agent.buffer(f"{name}_active", torch.ones(runs, dtype=agent.dtype))
        self._over: bool | None = None

    def training_weights(self, batch: Batch) -> Tensor:
        """Give each row's weight in training, `(R, B, 1)`; rows of the other side weigh 1."""
        return 1 + batch.columns[self.column]

    def batch(self) -> Batch:
        """Give the rows held out, `(R, H, .)`; see `weights` for runs that hold out fewer."""
        return self.data.batch(self.places, self.places.shape[1] if self.side == "source" else 0)

    @property
    def over(self) -> bool:
        """Say whether every run stopped: then a step would change nothing that is kept."""
        if self._over is None:
            self._over = not bool(self.active.any())
        return self._over

    @torch.no_grad()
    def look(self, errors: Tensor) -> None:
        """Remember copies that improved, by their errors `(R, C, H, 1)` on the rows of `batch`."""
        error = (errors * self.weights[:, None]).flatten(2).mean(2).double()
        better = (error < self.best * (1 - self.threshold)) & (self.active > 0)[:, None]
        self.best.copy_(torch.where(better, error, self.best))
        for net, best in zip(self.nets, self.rows, strict=True):
            best.copy_(torch.where(better[..., None], net.rows, best))
        self.waited.add_(1).mul_(~better.any(1))
        if self.patience:
            self.active.mul_(self.waited < self.patience)
        self._over = None

    @torch.no_grad()
    def restore(self) -> None:
        """Give networks their best weights, freeze them, let batches forget who was held out."""
        for net, best in zip(self.nets, self.rows, strict=True):
            net.rows.copy_(best)
            for part in ("m", "v", "steps"):  # of no use any more, and different in stopped runs
                net.state[part].zero_()
            net.freeze()
        self.data.columns[self.side].pop(self.column, None)

"""Hold the rows of one update: source rows first, then target rows, as `batches.py` packs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Hold the rows of all runs, `(R, B, .)` each, the first `sources` of them from the source.

    Attributes:
        rows: Packed transitions `(R, B, D)`.
        reward: `(R, B, 1)`; a method may replace it (see `relabelled`).
        terminated: `(R, B, 1)`, 1 only at true ends, never at time limits.
        sources: Number of source rows, which come first.
        obs_size: Length of an observation.
        act_size: Length of an action.
        columns: What a method stored per row of the data, `(R, B, k)` each: those of the source for
            the source rows and 0 for target rows, or the other way round (see `Data.add_column`).
    """

    rows: Tensor
    reward: Tensor
    terminated: Tensor
    sources: int
    obs_size: int
    act_size: int
    columns: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def obs(self) -> Tensor:
        """Give observations `(R, B, O)`."""
        return self.rows[..., : self.obs_size]

    @property
    def act(self) -> Tensor:
        """Give actions `(R, B, A)`, in [-1, 1]."""
        return self.rows[..., self.obs_size : self.obs_size + self.act_size]

    @property
    def obs_act(self) -> Tensor:
        """Give observations and actions side by side, `(R, B, O + A)`."""
        return self.rows[..., : self.obs_size + self.act_size]

    @property
    def next_obs(self) -> Tensor:
        """Give next observations `(R, B, O)`."""
        start = self.obs_size + self.act_size
        return self.rows[..., start : start + self.obs_size]

    @property
    def source(self) -> Batch:
        """Give the source rows alone."""
        return self._slice(slice(None, self.sources), self.sources)

    @property
    def target(self) -> Batch:
        """Give the target rows alone."""
        return self._slice(slice(self.sources, None), 0)

    def relabelled(self, reward: Tensor) -> Batch:
        """Replace the rewards by others of the same shape."""
        if reward.shape != self.reward.shape:
            raise ValueError(f"rewards {tuple(reward.shape)} for {tuple(self.reward.shape)}")
        return replace(self, reward=reward)

    def keep_sources(self, score: Tensor, count: int) -> Batch:
        """Keep, in each run, the `count` source rows of highest score `(R, S, 1)`, and all targets.

        The kept rows come in the order of their score.
        """
        if score.shape != (len(self.rows), self.sources, 1):
            raise ValueError(f"scores {tuple(score.shape)}: one per source row, please")
        best = score[..., 0].topk(count, 1).indices
        rest = torch.arange(self.sources, self.rows.shape[1], device=best.device)
        return self.take(torch.cat([best, rest.expand(len(best), -1)], 1), count)

    def keep_passing(self, passes: Tensor, count: int) -> Batch:
        """Keep, in each run, `count` source rows of those that pass `(R, S, 1)`, and all targets.

        The first ones, in their order, repeated where a batch has too few.
        """
        if passes.shape != (len(self.rows), self.sources, 1):
            raise ValueError(f"passes {tuple(passes.shape)}: one per source row, please")
        passes = passes[..., 0]
        order = torch.sort(passes.to(torch.int8), stable=True, dim=1, descending=True).indices
        turn = torch.arange(count, device=order.device) % passes.sum(1, True).clamp(min=1)
        rest = torch.arange(self.sources, self.rows.shape[1], device=order.device)
        return self.take(torch.cat([order.gather(1, turn), rest.expand(len(order), -1)], 1), count)

    def take(self, index: Tensor, sources: int) -> Batch:
        """Take rows by index `(R, K)` into this batch, the first `sources` from the source."""

        def pick(x: Tensor) -> Tensor:
            return x.gather(1, index[..., None].expand(-1, -1, x.shape[2]))

        columns = {name: pick(values) for name, values in self.columns.items()}
        parts = pick(self.rows), pick(self.reward), pick(self.terminated)
        return Batch(*parts, sources, self.obs_size, self.act_size, columns)

    def on_source(self, values: Tensor, otherwise: float = 0.0) -> Tensor:
        """Extend values of the source rows `(R, S, k)` to all rows with a constant for targets."""
        count = self.rows.shape[1] - self.sources
        rest = values.new_full((len(values), count, values.shape[2]), otherwise)
        return torch.cat([values, rest], 1)

    def _slice(self, part: slice, sources: int) -> Batch:
        columns = {name: values[:, part] for name, values in self.columns.items()}
        parts = self.rows[:, part], self.reward[:, part], self.terminated[:, part]
        return Batch(*parts, sources, self.obs_size, self.act_size, columns)

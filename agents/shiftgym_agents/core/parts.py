"""Tell what filters and weights leave of each of several sources."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from shiftgym_agents.data.batches import Batch, Data
from shiftgym_agents.data.pairs import TrainingPair
from shiftgym_agents.data.sources import part_names

PART = "source part"  # column of source rows: which of several sources


class Parts:
    """Know which of several sources a run's rows are of, and let batches know.

    Args:
        data: All rows; with several sources their column `PART` is added.
        pairs: One per run.
        batch: Source rows of a run's batch.

    Attributes:
        titles: What the sources are called: their names where all runs have the same, else numbers
            from 1.
    """

    def __init__(self, data: Data, pairs: Sequence[TrainingPair], batch: int) -> None:
        each = [part_names(pair.source, pair.names[0]) for pair in pairs]
        most = max(map(len, each))
        self.titles = list(each[0]) if len(set(each)) == 1 else [str(k + 1) for k in range(most)]
        self._drawn = torch.zeros(data.runs, most, dtype=data.rows.dtype, device=data.device)
        if not self.several:
            return
        part = data.origins("source")["part"]
        data.add_column("source", PART, part)
        for run, size in enumerate(data.sizes["source"]):
            counts = torch.bincount(part[run, :size], minlength=most)
            self._drawn[run] = counts / size * batch

    @property
    def several(self) -> bool:
        """Say whether any run has several sources."""
        return len(self.titles) > 1

    def shares(self, batch: Batch, weights: Tensor | None = None) -> Iterator[tuple[str, Tensor]]:
        """Name what is left of each of several sources in a filtered batch, `(R,)` each.

        With one source there is nothing to tell apart.

        Args:
            batch: What a filter kept.
            weights: Of its rows, `(R, B, 1)`.

        Yields:
            `kept[name]`, a source's kept rows as a share of those it is expected to draw; and with
            weights `weight[name]`, the mean weight of its drawn rows, dropped ones being 0.
        """
        if PART not in batch.columns:
            return
        part = batch.source.columns[PART]
        for k, name in enumerate(self.titles):
            own = (part == k).to(self._drawn.dtype)
            drawn = self._drawn[:, k].clamp(min=1e-9)
            yield f"kept[{name}]", own.sum((1, 2)) / drawn
            if weights is not None:
                kept = own * weights[:, : batch.sources]
                yield f"weight[{name}]", kept.sum((1, 2)) / drawn

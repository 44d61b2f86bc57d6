"""Ask methods which source rows they would keep, and how far they agree.

Each method is pre-trained on the drawn rows alone and scores every source row. Rows of the highest
scores are what it would keep: as many as its own `keep` says, else half.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shiftgym.basics.statistics import ranked
from shiftgym_agents.data.pairs import ArrayPair
from shiftgym_agents.evaluation.diagnosis.trials import supported
from shiftgym_agents.evaluation.selection import configured, find, score_source
from shiftgym_agents.training.running import Backend

FILTERS = ("otdf", "igdf", "dara", "tabb")
HALF = 0.5


@dataclass(frozen=True, eq=False)
class Filter:
    """Say what one method makes of the source rows.

    Attributes:
        name: the method.
        keep: share of source rows that it keeps; half for methods that only weigh them.
        scores: `(N,)`, higher for rows more like the target's.
    """

    name: str
    keep: float
    scores: np.ndarray = field(repr=False)

    def kept(self, share: float | None = None) -> np.ndarray:
        """Say which rows are kept, `(N,)` bool; of equal scores the first."""
        count = max(1, int((self.keep if share is None else share) * len(self.scores) + 1e-9))
        found = np.zeros(len(self.scores), bool)
        found[np.argsort(-self.scores, kind="stable")[:count]] = True
        return found


def ask(
    names: Sequence[str],
    pair: ArrayPair,
    seed: int,
    most: int,
    device: str,
    backend: Backend,
    progress: Callable[[str, int, int], Any] | None = None,
) -> list[Filter]:
    """Let methods score the source rows.

    Args:
        names: methods that score source rows (`selection.judges`).
        pair: drawn rows.
        seed: of their pre-training.
        most: updates of each of its stages.
        device: where.
        backend: how.
        progress: see `score_source`.
    """
    found: list[Filter] = []
    for name in names:
        config = supported(configured(name, pair, most=most), pair.domain)
        scores = score_source(
            find(name), [config], [pair], [seed],
            updates=most, device=device, backend=backend, progress=progress,
        )  # fmt: skip
        assert scores is not None
        found.append(Filter(name, float(getattr(config, "keep", HALF)), scores[0]))
    return found


def agreement(filters: Sequence[Filter]) -> np.ndarray:
    """Correlate the ranks that filters give rows (Spearman), `(K, K)`; NaN where all are equal."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.atleast_2d(np.corrcoef(np.stack([ranked(each.scores) for each in filters])))


def overlaps(filters: Sequence[Filter]) -> np.ndarray:
    """Give the share of one filter's best half that is in the other's, `(K, K)`: 0.5 by chance."""
    halves = np.stack([each.kept(HALF) for each in filters]).astype(float)
    return halves @ halves.T / halves.sum(1)[:, None]

"""Pairs of datasets to train on: `shiftgym.Pair`, or one made of plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from shiftgym.datasets.pair import Pair
from shiftgym.domains import Domain
from shiftgym.scores import Reference

Arrays = Mapping[str, np.ndarray]
"""Flat arrays `observations (N, O), actions (N, A), rewards (N,), next_observations (N, O),
terminated (N,) bool, truncated (N,) bool`."""


@dataclass(frozen=True, eq=False)
class ArrayPair:
    """Pair two datasets given as arrays.

    Attributes:
        source: the plentiful dataset.
        target: the scarce dataset.
        domain: where policies are evaluated.
        names: what the datasets are called in messages and results.
        reference: the returns that count as 0 and as 100; None for scores that are plain returns.
    """

    source: Arrays = field(repr=False)
    target: Arrays = field(repr=False)
    domain: Domain
    names: tuple[str, str] = ("source", "target")
    reference: Reference | None = None

    def score(self, value: float) -> float:
        """Normalise a return, or give it back where there is no reference."""
        return value if self.reference is None else self.reference.score(value)


TrainingPair = Pair | ArrayPair
"""Two datasets (`source`, `target`, called `names`), the `domain` where a policy trained on them is
evaluated, and how its return is normalised (`reference`, `score`)."""


def target_only(target: Arrays, name: object, domain: Domain, reference: Reference) -> ArrayPair:
    """Pair a target with itself, for methods that draw no source rows."""
    return ArrayPair(target, target, domain, ("none", str(name)), reference)

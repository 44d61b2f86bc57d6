"""Pairs of datasets to train on: `shiftgym.Pair`, or one made of plain arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from shiftgym.datasets.pair import Pair
from shiftgym.domains import Domain
from shiftgym.scores import MEASURED, Reference, default_reference
from shiftgym.scores import reference as find_reference

Arrays = Mapping[str, np.ndarray]
"""Flat arrays `observations (N, O), actions (N, A), rewards (N,), next_observations (N, O),
terminated (N,) bool, truncated (N,) bool`."""


class ArrayPair:
    """Pair two datasets given as arrays.

    Args:
        source: the plentiful dataset.
        target: the scarce dataset.
        domain: where policies are evaluated.
        names: what the datasets are called in messages and results.
        reference: the returns that count as 0 and as 100; or the table that has them: ``shiftgym``,
            ``otdf``, ``odrl`` or ``d4rl``; or None for returns without scores. By default the
            measured one, or the published one where none was measured; a domain of your own is in
            no table, and has none.

    Attributes:
        reference: those returns, or None.

    Raises:
        ShiftgymError: unknown table, or a published one that has no reference for the domain.
    """

    def __init__(
        self,
        source: Arrays,
        target: Arrays,
        domain: Domain,
        names: tuple[str, str] = ("source", "target"),
        reference: Reference | str | None = MEASURED,
    ) -> None:
        self.source, self.target, self.domain, self.names = source, target, domain, names
        if reference == MEASURED:  # or the published one, where none was measured
            reference = default_reference(domain)
        found = find_reference(domain, reference) if isinstance(reference, str) else reference
        self.reference: Reference | None = found

    def score(self, value: float) -> float | None:
        """Normalise a return; None where there is no reference."""
        return None if self.reference is None else self.reference.score(value)

    def __repr__(self) -> str:
        """Name the pair."""
        return f"ArrayPair({self.names[0]!r}, {self.names[1]!r}, {self.domain.slug})"


TrainingPair = Pair | ArrayPair
"""Two datasets (`source`, `target`, called `names`), the `domain` where a policy trained on them is
evaluated, and how its return is normalised (`reference`, `score`)."""


def target_only(target: Arrays, name: object, domain: Domain, reference: Reference) -> ArrayPair:
    """Pair a target with itself, for methods that draw no source rows."""
    return ArrayPair(target, target, domain, ("none", str(name)), reference)

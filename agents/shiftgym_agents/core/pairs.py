"""Pairs of datasets to train on: `shiftgym.Pair`, or one made of plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from shiftgym.datasets.pair import Pair
from shiftgym.domains import Domain
from shiftgym.scores import MEASURED, Reference, default_reference
from shiftgym.scores import reference as find_reference
from shiftgym_agents.core.sources import Arrays


@dataclass(frozen=True, eq=False)
class ArrayPair:
    """Pair two datasets given as arrays.

    Attributes:
        source: the plentiful dataset, or several of them (:class:`~.sources.Sources`).
        target: the scarce dataset.
        domain: where policies are evaluated.
        names: what the datasets are called in messages and results.
        reference: the returns that count as 0 and as 100, or None for returns without scores. May
            be given as the table that has them: ``shiftgym`` (the default: the published one where
            none was measured, and none for a domain of your own), ``otdf``, ``odrl`` or ``d4rl``.

    Raises:
        ShiftgymError: unknown table, or a published one that has no reference for the domain.
    """

    source: Arrays = field(repr=False)
    target: Arrays = field(repr=False)
    domain: Domain
    names: tuple[str, str] = ("source", "target")
    reference: Reference | None = field(default=MEASURED)  # pyright: ignore[reportAssignmentType]

    def __post_init__(self) -> None:
        """Look the reference up where a table is given."""
        table: Any = self.reference
        if isinstance(table, str):
            known = default_reference(self.domain) if table == MEASURED else table
            found = None if known is None else find_reference(self.domain, known)
            object.__setattr__(self, "reference", found)

    def score(self, value: float) -> float | None:
        """Normalise a return; None where there is no reference."""
        return None if self.reference is None else self.reference.score(value)


TrainingPair = Pair | ArrayPair
"""Two datasets (`source`, `target`, called `names`), the `domain` where a policy trained on them is
evaluated, and how its return is normalised (`reference`, `score`)."""


def target_only(target: Arrays, name: object, domain: Domain, reference: Reference) -> ArrayPair:
    """Pair a target with itself, for methods that draw no source rows."""
    return ArrayPair(target, target, domain, ("none", str(name)), reference)

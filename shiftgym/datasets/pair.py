"""A source, a target, where to evaluate, and what a return is worth."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from shiftgym.datasets.flat import Flat
from shiftgym.datasets.load import find, load, locate
from shiftgym.datasets.names import DatasetName
from shiftgym.domains import Domain
from shiftgym.errors import DomainError, ShiftgymError, nearest
from shiftgym.scores import MEASURED, Reference, default_reference, reference, tables


class Pair:
    """Hold the plentiful and the scarce dataset of one robot.

    Any domain can be on either side; a policy is evaluated in the target's.

    Args:
        source: name of the plentiful dataset, ``hopper/medium``.
        target: name of the scarce dataset, ``hopper-kinematic/medium``.
        reference: the table that normalises returns, ``shiftgym``, ``otdf``, ``odrl`` or ``d4rl``;
            or a :class:`shiftgym.scores.Reference`, for a domain of your own. By default the
            table of the target's origin, as :func:`shiftgym.scores.default_reference` says.
        root: Minari's folder of datasets by default.

    Attributes:
        names: both names, as (source, target).
        domain: the target's domain, where a policy is evaluated.
        reference_name: the table that scores are of; ``own`` for a reference of your own.

    Raises:
        DomainError: unknown names, two robots, or twice the same dataset.
        ShiftgymError: a dataset is not here; the message has the command that gets or makes it.

    Example:
        >>> pair = shiftgym.Pair("hopper/medium", "hopper-kinematic/medium")  # doctest: +SKIP
        >>> pair.target["observations"].shape  # doctest: +SKIP
        (5000, 11)
    """

    def __init__(
        self,
        source: str | DatasetName,
        target: str | DatasetName,
        reference: str | Reference | None = None,
        root: Path | None = None,
    ):
        """Find both datasets; they are loaded when first used."""
        self.names = find(source, root), find(target, root)
        first, second = self.names
        if first.domain.robot != second.domain.robot:
            raise DomainError(
                f"A pair is of one robot, got {first.domain.robot} and {second.domain.robot}."
            )
        if first.minari == second.minari:
            raise DomainError(f"A pair is of two datasets, got {first} twice.")
        if isinstance(reference, str) and reference not in tables():
            raise ShiftgymError(f"Unknown score reference. {nearest(reference, tables())}")
        for name in self.names:
            locate(name, root)
        if reference is None:
            reference = default_reference(second.domain, second.origin) or MEASURED
        self.reference_name = reference if isinstance(reference, str) else "own"
        self._root, self._reference = root, reference

    @property
    def domain(self) -> Domain:
        """Give the domain to evaluate in: the target's."""
        return self.names[1].domain

    @cached_property
    def source(self) -> Flat:
        """Give the source's flat arrays."""
        return load(self.names[0], self._root)

    @cached_property
    def target(self) -> Flat:
        """Give the target's flat arrays."""
        return load(self.names[1], self._root)

    @cached_property
    def reference(self) -> Reference:
        """Give the returns that count as 0 and as 100 in the target's domain.

        Raises:
            ShiftgymError: the table has none for it.
        """
        if isinstance(self._reference, Reference):
            return self._reference
        return reference(self.domain, self._reference)

    def score(self, value: float) -> float:
        """Normalise a return to 0 (random) .. 100 (expert)."""
        return self.reference.score(value)

    def __repr__(self) -> str:
        """Name the pair, and whose reference its scores are of."""
        source, target = (str(name) for name in self.names)
        return f"Pair({source!r}, {target!r}, reference={self.reference_name!r})"

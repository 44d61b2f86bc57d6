"""Pairs of datasets to train on: `shiftgym.Pair`, or one made of plain arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.own_code import load_named
from shiftgym.datasets.pair import Pair
from shiftgym.domains import Domain
from shiftgym.scores import MEASURED, Reference, default_reference
from shiftgym.scores import reference as find_reference
from shiftgym_agents.data.places import Place, place
from shiftgym_agents.data.sources import Arrays

Terminal = Callable[[np.ndarray], np.ndarray]
"""Says which states `(N, O)`, as the environment gives them, end an episode: `(N,)` bool."""


@dataclass(frozen=True, eq=False)
class ArrayPair:
    """Pair two datasets given as arrays.

    Attributes:
        source: the plentiful dataset, or several of them (:class:`~.sources.Sources`).
        target: the scarce dataset.
        domain: where policies are evaluated: a domain, or whatever :func:`~.places.place` takes,
            such as ``"Pendulum-v1"`` or a function that makes an environment; None for nowhere.
        names: what the datasets are called in messages and results.
        reference: the returns that count as 0 and as 100, or None for returns without scores. Two
            numbers (random, expert), or the table that has them: ``shiftgym`` (the default: the
            published one where none was measured, and none for a place of your own), ``otdf``,
            ``odrl`` or ``d4rl``.
        bounds: the lowest and the highest actions, one number or one per action; see `bounds.py`
            for the default.
        terminal: which states end an episode, for methods that ask (mobody): a function of states
            `(N, O)` as the environment gives them, or its name, ``FILE.py:NAME``.

    Raises:
        ShiftgymError: unknown table, or a published one that has no reference for the domain; no
            place that policies can be evaluated in.
    """

    source: Arrays = field(repr=False)
    target: Arrays = field(repr=False)
    domain: Place
    names: tuple[str, str] = ("source", "target")
    reference: Reference | None = field(default=MEASURED)  # pyright: ignore[reportAssignmentType]
    bounds: tuple[Any, Any] | None = None
    terminal: Terminal | str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Make the place, and look the reference up where a table or two numbers are given."""
        where = place(self.domain)
        object.__setattr__(self, "domain", where)
        object.__setattr__(self, "reference", _reference(where, self.reference))

    def score(self, value: float) -> float | None:
        """Normalise a return; None where there is no reference."""
        return None if self.reference is None else self.reference.score(value)


def _reference(where: Place, given: Any) -> Reference | None:
    if isinstance(given, tuple):
        low, high = (float(value) for value in given)
        if not np.isfinite([low, high]).all() or low == high:
            raise ShiftgymError(f"Returns that count as 0 and as 100 must differ, got {given}.")
        return Reference(low, high)
    if not isinstance(given, str):
        return given
    if not isinstance(where, Domain):
        if given == MEASURED:
            return None
        raise ShiftgymError(
            f"{given} gives returns of shiftgym's robots only: give this environment's own two, "
            "--reference-returns RANDOM EXPERT."
        )
    known = default_reference(where) if given == MEASURED else given
    return None if known is None else find_reference(where, known)


TrainingPair = Pair | ArrayPair
"""Two datasets (`source`, `target`, called `names`), the `domain` where a policy trained on them is
evaluated, and how its return is normalised (`reference`, `score`)."""


def terminal_of(pair: TrainingPair) -> Terminal | None:
    """Give the function that says which states end an episode; None where none was given.

    Raises:
        ShiftgymError: there is none of the name that was given.
    """
    given = getattr(pair, "terminal", None)
    return load_named(given, "--terminal") if isinstance(given, str) else given


def target_only(
    target: Arrays, name: object, domain: Place, reference: Reference | None, **knowledge: Any
) -> ArrayPair:
    """Pair a target with itself, for methods that draw no source rows."""
    return ArrayPair(target, target, domain, ("none", str(name)), reference, **knowledge)

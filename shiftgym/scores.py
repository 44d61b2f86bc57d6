"""Reference returns by domain, and the one function that normalises a return with them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from shiftgym.basics.errors import ShiftgymError, nearest
from shiftgym.domains import ASSETS, Domain, catalogue
from shiftgym.making import domain

SCORES = ASSETS / "scores.toml"
INTERVALS = ("random_interval", "expert_interval")
MEASURED = "shiftgym"  # the table measured here; the others are as published
PUBLISHED = ("otdf", "odrl", "d4rl")  # in the order in which they stand in for it
STANDS_IN = ("friction", "gravity")  # families that a robot's published maximum is also of


@dataclass(frozen=True)
class Reference:
    """Hold the returns that count as 0 and as 100.

    Attributes:
        random: return of uniform random actions.
        expert: return of the expert.
        random_interval: 95 % bootstrap interval of ``random``; None in published tables.
        expert_interval: likewise of ``expert``.
        episodes: number of episodes behind each of the two; None in published tables.
        policy: the packaged policy whose return ``expert`` is; None in published tables.
        policy_sha256: the checksum of that policy's file.
    """

    random: float
    expert: float
    random_interval: tuple[float, float] | None = None
    expert_interval: tuple[float, float] | None = None
    episodes: int | None = None
    policy: str | None = None
    policy_sha256: str | None = None

    def score(self, value: float) -> float:
        """Give ``100 (value - random) / (expert - random)``."""
        return 100.0 * (value - self.random) / (self.expert - self.random)


@cache
def _tables(path: Path = SCORES) -> dict[str, dict[str, Any]]:
    with open(path, "rb") as file:
        return tomllib.load(file)


def tables() -> list[str]:
    """List the tables of reference returns."""
    return list(_tables())


def reference(where: str | Domain, table: str = MEASURED) -> Reference:
    """Look up a domain's reference returns.

    Args:
        where: the domain.
        table: ``shiftgym`` (measured here), ``otdf``, ``odrl`` or ``d4rl`` (unshifted robots).
            ODRL's one pair per robot stands in for its kinematic and morph levels, as published.

    Raises:
        ShiftgymError: unknown table, or it has no reference for this domain.
    """
    tables, of = _tables(), domain(where)
    if table not in tables:
        raise ShiftgymError(f"Unknown score reference {table!r}. {nearest(table, tables)}")
    for key in _keys(of, table):
        if key in tables[table]:
            return _reference(of, table, tables[table][key])
    others = [name for name in tables if name != table and of.slug in tables[name]]
    hint = f" Tables that do: {', '.join(others)}." if others else ""
    if table == MEASURED:
        hint += f" Measure it: shiftgym scores measure --domains {of.slug}"
    raise ShiftgymError(f"{table} gives no reference for {of.slug}.{hint}")


def _reference(of: Domain, table: str, entry: dict[str, Any]) -> Reference:
    if "expert" not in entry:
        raise ShiftgymError(
            f"{table} knows what random actions earn in {of.slug}, but no expert: no packaged "
            f"policy of {of.slug} reached the bar. shiftgym policies lists those there are; otdf "
            "and odrl are the published references."
        )
    intervals: dict[str, Any] = {
        key: (entry[key][0], entry[key][1]) for key in INTERVALS if key in entry
    }
    return Reference(**(entry | intervals))


def own_reference(where: str | Domain, table: str) -> bool:
    """Say whether a table gives both returns of this very domain, and no stand-in of its robot."""
    return "expert" in _tables().get(table, {}).get(domain(where).slug, {})


def published_maximum(where: str | Domain) -> float | None:
    """Give the published return that counts as 100 in a domain; None where none can be expected.

    Where friction or gravity is shifted and no table has an entry of this very domain, that is
    ODRL's of the robot. It is none of the graded bodies, which it stands in for when scores are
    given, too: many of them cannot do what the robot does.
    """
    of = domain(where)
    for table in PUBLISHED:
        if own_reference(of, table) or (of.family in STANDS_IN and has_reference(of, table)):
            return reference(of, table).expert
    return None


def has_reference(where: str | Domain, table: str = MEASURED) -> bool:
    """Say whether a table gives both reference returns of a domain."""
    of = domain(where)
    return any("expert" in _tables().get(table, {}).get(key, {}) for key in _keys(of, table))


def _keys(of: Domain, table: str) -> tuple[str, ...]:
    """Give the entries to look for: ODRL's pair of a robot is of the catalogue's domains only."""
    stands_in = table == "odrl" and of.slug in catalogue()
    return (of.slug, of.robot) if stands_in else (of.slug,)


def default_reference(where: str | Domain, origin: str = "") -> str | None:
    """Choose the table that scores data of a domain, unless another is asked for.

    Args:
        where: the domain.
        origin: whose data they are, as in a dataset's name (``otdf``, ``odrl``, ``d4rl``,
            ``minari``, ``from_lab7``); empty for this package's own.

    Returns:
        The origin's own table if it has this domain; else ``shiftgym``; where no expert has been
        measured, the first published one of ``otdf``, ``odrl`` and ``d4rl``. None if no table has
        both returns.
    """
    own = (origin,) if origin in PUBLISHED else ()
    tables = (*own, MEASURED, *PUBLISHED)
    return next((table for table in tables if has_reference(where, table)), None)


def normalized_score(where: str | Domain, value: float, table: str = MEASURED) -> float:
    """Normalise a return to 0 (random) .. 100 (expert) with a reference of that domain."""
    return reference(where, table).score(value)

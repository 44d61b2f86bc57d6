"""Reference returns by domain, and the one function that normalises a return with them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from typing import Any

from shiftgym.domains import ASSETS, Domain, domain
from shiftgym.errors import ShiftgymError, nearest


@dataclass(frozen=True)
class Reference:
    """Hold the returns that count as 0 and as 100."""

    random: float
    expert: float

    def score(self, value: float) -> float:
        """Give ``100 (value - random) / (expert - random)``."""
        return 100.0 * (value - self.random) / (self.expert - self.random)


@cache
def _tables() -> dict[str, dict[str, Any]]:
    with open(ASSETS / "scores.toml", "rb") as file:
        return tomllib.load(file)


def reference(where: str | Domain, table: str) -> Reference:
    """Look up a domain's reference returns.

    Args:
        where: the domain.
        table: ``otdf`` or ``odrl``. ODRL's one pair per robot stands in for its kinematic and morph
            levels, as published.

    Raises:
        ShiftgymError: unknown table, or it has no reference for this domain.
    """
    tables, of = _tables(), domain(where)
    if table not in tables:
        raise ShiftgymError(f"Unknown score reference {table!r}. {nearest(table, tables)}")
    for key in (of.slug, of.robot) if table == "odrl" else (of.slug,):
        if key in tables[table]:
            return Reference(**tables[table][key])
    raise ShiftgymError(f"{table} gives no reference for {of.slug}.")


def normalized_score(where: str | Domain, value: float, table: str) -> float:
    """Normalise a return to 0 (random) .. 100 (expert) with a reference of that domain."""
    return reference(where, table).score(value)

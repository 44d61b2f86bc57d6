"""Open the datasets that a pair is asked for by name, wherever they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from shiftgym.basics.errors import DomainError, ShiftgymError
from shiftgym.datasets.names import DatasetName
from shiftgym.datasets.pair import Pair
from shiftgym.domains import Domain
from shiftgym.reading.anywhere import own_name, read
from shiftgym.scores import MEASURED, Reference, default_reference, reference
from shiftgym_agents.data.pairs import ArrayPair, TrainingPair, target_only
from shiftgym_agents.data.places import Place
from shiftgym_agents.data.sources import Arrays, Sources

TARGETS = "target"  # the place that is the target's own


@dataclass(frozen=True)
class Wanted:
    """Name what a pair is made of.

    Attributes:
        target: the scarce dataset.
        sources: the plentiful ones; none for methods that learn from the target alone.
        shares: part of each source that is kept; everything by default.
        where: where policies are evaluated; ``target`` for the target's own domain.
        worth: the returns of 0 and 100, or a table that has them; the default table of the data
            where there is one.
        bounds: lowest and highest actions.
        terminal: which states end an episode.
    """

    target: str
    sources: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    where: Place | str = TARGETS
    worth: Any = None
    bounds: tuple[Any, Any] | None = None
    terminal: Any = None


def open_wanted(
    wanted: Wanted,
    tell: Callable[[str], None] = print,
    shared: dict[str, Arrays] | None = None,
) -> TrainingPair:
    """Load the datasets of a pair.

    Args:
        wanted: what it is made of.
        tell: takes a sentence on what reading changed.
        shared: sets by name that other pairs have read already; those read now are added. Pairs
            that share a set then share its arrays, which training stores once.

    Raises:
        ShiftgymError: a dataset is not here or cannot be learned from, nobody knows where to
            evaluate, or the datasets are of different robots.
    """
    names = [own_name(text) for text in (*wanted.sources, wanted.target)]
    robots = sorted({name.domain.robot for name in names if name is not None})
    if len(robots) > 1:
        raise DomainError(f"A pair is of one robot, got {' and '.join(robots)}.")
    target, where = names[-1], wanted.where
    knowledge = {"bounds": wanted.bounds, "terminal": wanted.terminal}
    plain = where == TARGETS and not wanted.shares and not any(map(bool, knowledge.values()))
    if plain and len(names) == 2 and None not in names:
        table = wanted.worth if not isinstance(wanted.worth, tuple) else Reference(*wanted.worth)
        made = Pair(wanted.sources[0], wanted.target, table)
        return made if shared is None else _sharing(made, shared)
    if where == TARGETS:
        if target is None:
            raise unknown_place(wanted.target)
        where = target.domain
    assert not isinstance(where, str)
    shared = {} if shared is None else shared
    worth = _worth(wanted.worth, where, target)
    told = str(target or wanted.target)
    if not wanted.sources:
        return target_only(load_set(wanted.target, tell, shared), told, where, worth, **knowledge)
    own = [str(name or text) for name, text in zip(names, wanted.sources, strict=False)]
    parts = [load_set(text, tell, shared) for text in wanted.sources]
    joined: Arrays = parts[0]
    if len(parts) > 1 or wanted.shares:
        union = Sources(parts, own, wanted.shares or None)
        joined = shared.setdefault(repr((own, union.shares)), union)
    called = joined.title if isinstance(joined, Sources) else own[0]
    rows = load_set(wanted.target, tell, shared)
    return ArrayPair(joined, rows, where, (called, told), worth, **knowledge)


def unknown_place(target: str) -> DomainError:
    """Say that nobody knows where policies for a target are evaluated, and how to say it."""
    return DomainError(
        f"Nobody knows where {target} was recorded: say where policies are "
        "evaluated, --eval-env Pendulum-v1 (or FILE.py:MyRobot-v0), or --eval-env none."
    )


def load_set(text: str, tell: Callable[[str], None], shared: dict[str, Arrays]) -> Arrays:
    """Load one dataset, or give the one of this name that was read before.

    Raises:
        ShiftgymError: it is not here, or cannot be learned from.
    """
    called = str(own_name(text) or text)
    if called not in shared:
        found = read(text)
        for note in found.notes:
            tell(note)
        shared[called] = found.flat
    return shared[called]


def _sharing(pair: Pair, shared: dict[str, Arrays]) -> Pair:
    """Let a pair have the sets that were read already, and others have those that it reads now."""
    for side, name in zip(("source", "target"), map(str, pair.names), strict=True):
        if name not in shared:
            shared[name] = getattr(pair, side)
        vars(pair)[side] = shared[name]  # where the pair keeps what it has read
    return pair


def _worth(given: Any, where: Place, target: DatasetName | None) -> Any:
    """Give the reference of scores: what was asked for, or the default of the target's data."""
    if isinstance(where, Domain) and isinstance(given, str):
        return reference(where, given)  # no other table in its place
    if given is not None or not isinstance(where, Domain):
        return MEASURED if given is None else given
    origin = target.origin if target is not None and target.domain == where else ""
    return reference(where, default_reference(where, origin) or MEASURED)


def reopen(entry: Mapping[str, Any], where: Place, worth: Reference | None) -> TrainingPair:
    """Load the datasets of a run again, from what `config.json` says of it.

    Raises:
        ShiftgymError: they were given as arrays, or are not here any more.
    """
    parts = entry.get("sources") or []
    names = tuple(part["name"] for part in parts) or (entry["source"],)
    shares = tuple(part["share"] for part in parts)
    bounds, terminal = entry.get("bounds"), entry.get("terminal")
    plain = not parts and bounds is None and terminal is None
    if plain and names != ("none",) and isinstance(where, Domain):
        if own_name(names[0]) is not None and own_name(entry["target"]) is not None:
            return Pair(names[0], entry["target"], worth or MEASURED)
    wanted = Wanted(
        target=entry["target"],
        sources=() if names == ("none",) else names,
        shares=shares,
        where=where,
        bounds=bounds and tuple(bounds),
        terminal=terminal,
    )
    try:
        found = open_wanted(wanted, lambda note: None)
    except DomainError as error:
        raise ShiftgymError(
            f"The data of this run, {entry['source']} and {entry['target']}, cannot be loaded by "
            f"name; were they given as arrays? {error}"
        ) from None
    return replace(found, reference=worth) if isinstance(found, ArrayPair) else found

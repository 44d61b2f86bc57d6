"""Refuse, before anything trains, what training would refuse of a user's own data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.data.places import spaces_of
from shiftgym_agents.methods.table import method
from shiftgym_agents.sweeps.sets import (
    NO_SOURCE,
    Asked,
    Library,
    in_a_grid,
    is_here,
    is_plain,
    names_of,
    ours,
    where_of,
)


class Runs(Asked, Protocol):
    """Hold what is looked at of a group of runs."""

    @property
    def config(self) -> Mapping[str, Any]:
        """Give the hyperparameters."""
        ...

    @property
    def runs(self) -> Sequence[tuple[str, str, int]]:
        """List source, target and seed of each."""
        ...


def check_group(group: Runs, library: Library, seen: set[Any]) -> None:
    """Open the pairs of a group and make the method of each, as training does first.

    Pairs of shiftgym's own sets alone need none of it: their names were checked.

    Args:
        group: the runs.
        library: reads the sets.
        seen: what was looked at; what is looked at now is added.

    Raises:
        ShiftgymError: What `shiftgym train` would say, and how a grid says it.
    """
    chosen = method(group.method)
    config = chosen.config_class(**group.config)
    for source, target in dict.fromkeys(run[:2] for run in group.runs):
        key = group.method, json.dumps([group.config, group.told, group.reference]), source, target
        if key in seen or is_plain(group.told, source, target):
            continue
        seen.add(key)
        names = names_of(source, target)
        try:
            spaces_of(where_of(group.told, target))
            known = {name: ours(name) for name in names}
            for name in names:
                if known[name] is None:
                    library.facts(name)
            if all(known[name] is None or is_here(name) for name in names):
                pair = library.open(group, source, target)
                pair.score(0.0)
                chosen(config, [pair], [0])
        except ShiftgymError as error:
            whose = target if source == NO_SOURCE else f"{source} -> {target}"
            raise in_a_grid(error, f"{group.method} on {whose}") from error

"""What a domain changes, for people and for programs."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

from shiftgym.domains import Domain
from shiftgym.edits import numbers
from shiftgym.envs.tasks import TASKS
from shiftgym.making import domain as find
from shiftgym.modelling import Change, build_model, changes

MOST_LINES = 3  # an edit that changes more different values is told as its rule


def describe(domain: Domain) -> list[str]:
    """Say in one line per change what differs from the unshifted robot.

    Example:
        >>> from shiftgym import domain
        >>> describe(domain("hopper-kinematic"))[0]
        'joint thigh_joint range: -150 0 -> -0.15 0'
    """
    lines = []
    for edit, made in changes(domain):
        groups: dict[tuple[str, str], list[str]] = defaultdict(list)
        for change in made:
            groups[_values(change.before), _values(change.after)].append(change.name)
        if len(groups) > MOST_LINES:
            lines.append(f"{edit.kind} {edit.name} {edit.attribute}: {edit.rule()}")
            continue
        for (before, after), names in groups.items():
            what = " ".join(part for part in (edit.kind, ", ".join(names), edit.attribute) if part)
            lines.append(f"{what}: {before} -> {after}")
    return lines


def observation_names(domain: Domain | str) -> list[str]:
    """Name the numbers that a domain's environments observe; ``d`` is a velocity.

    Example:
        >>> observation_names("hopper-kinematic")[:4]
        ['rootz', 'rooty', 'thigh_joint', 'leg_joint']
    """
    found = find(domain)
    return TASKS[found.robot].names(build_model(found))


def as_json(domain: Domain) -> dict[str, Any]:
    """Give a domain and all of its changes as JSON-able data."""
    return {
        "id": domain.env_id,
        "slug": domain.slug,
        "robot": domain.robot,
        "shift": domain.shift,
        "family": domain.family,
        "kwargs": domain.kwargs(),
        "changes": [_change_json(change) for _, made in changes(domain) for change in made],
    }


def _values(values: tuple[float, ...]) -> str:
    return "(placed by pos)" if math.isnan(values[0]) else numbers(values)


def _change_json(change: Change) -> dict[str, Any]:
    return {
        "kind": change.kind,
        "name": change.name,
        "attribute": change.attribute,
        "before": [None if math.isnan(value) else value for value in change.before],
        "after": list(change.after),
    }

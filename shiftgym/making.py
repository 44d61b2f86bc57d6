"""Find domains by name, and make them beyond the catalogue.

A slug such as ``hopper-kinematic`` or ``ant-friction-x0p37``, an environment's id, a TOML file's
entry or edits given from Python become a :class:`~shiftgym.domains.Domain`.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shiftgym.basics.errors import DomainError, nearest, shown
from shiftgym.basics.plain_files import read_plain
from shiftgym.basics.tables import merged
from shiftgym.domains import (
    MAX_SCALE,
    NOT_EDITS,
    Domain,
    base_of,
    catalogue,
    entry_of,
    level_token,
    levels_of,
    shifts_of,
)
from shiftgym.edits import is_finite, parse_edits

LARGEST, LONGEST_LINE = 1 << 18, 2000  # bytes of a file of domains; characters of its lines


def domain(name: str | Domain) -> Domain:
    """Find a domain by slug, by environment id, or as ``FILE.toml:slug``.

    Scales may be any number on a family that has numeric levels: ``hopper-friction-x0p37``.

    Args:
        name: ``hopper-kinematic``, ``ShiftHopper-kinematic-v0``, ``my.toml:hopper-slippery``, or
            a :class:`Domain`, which is given back.

    Raises:
        DomainError: nothing has that name; the message names the nearest choice.
    """
    if isinstance(name, Domain):
        return name
    path, colon, slug = name.rpartition(":")
    if colon and path.endswith(".toml"):
        found = load_domains(path)
        if slug not in found:
            raise DomainError(f"{path} has no domain {slug!r}. {nearest(slug, found)}")
        return found[slug]
    if match := re.fullmatch(r"(?:shiftgym:)?Shift([A-Za-z0-9]+)((?:-.+)?)-v0", name):
        robot = match[1].lower()
        return domain(robot + match[2])
    if name in catalogue():
        return catalogue()[name]
    robot, _, shift = name.partition("-")
    base_of(robot)
    return make_domain(robot, shift)


def make_domain(
    robot: str,
    edits: Mapping[str, Any] | str | None = None,
    *,
    level: float | str | None = None,
    name: str | None = None,
) -> Domain:
    """Make a domain, of the catalogue or the user's own.

    Args:
        robot: one of :func:`robots`.
        edits: a shift's name (``"friction"`` with ``level=0.37``, or ``"friction-x0p37"``), or
            edits in the grammar of ``domains.toml``:
            ``{"geom.foot_geom.friction": {"scale": 0.3}}``. None is the unshifted robot.
        level: a level's name (``"easy"``), or a factor on a continuous scale.
        name: the name of the user's own shift; ``custom`` by default.

    Returns:
        The domain. Its edits are checked here; that they match the robot is checked too.

    Raises:
        DomainError: unknown robot, shift or level, an edit that matches nothing, a bad range.

    Example:
        >>> make_domain("hopper", "friction", level=0.37).slug
        'hopper-friction-x0p37'
        >>> slippery = make_domain("hopper", {"geom.foot_geom.friction": {"scale": 0.1}})
        >>> env = slippery.make()
    """
    if edits is None:
        base_of(robot)
        return catalogue()[robot]
    if isinstance(edits, str):
        made = _named_shift(robot, edits, level)
    else:
        if level is not None and (isinstance(level, str) or not is_finite(level)):
            raise DomainError(f"The level of your own edits is a number, got {shown(level)}.")
        base_of(robot)
        label = name or "custom"
        if not isinstance(label, str) or not re.fullmatch(r"[A-Za-z0-9_]+(-[A-Za-z0-9_]+)*", label):
            raise DomainError(
                f"A shift's name is letters, digits, '-' and '_', got {shown(label)}."
            )
        if f"{robot}-{label}" in catalogue():
            raise DomainError(f"{robot}-{label} is a catalogue domain; choose another name.")
        made = Domain(robot, label, parse_edits(edits, level))
    from shiftgym.modelling import build_spec  # the spec is where edits meet the robot

    build_spec(made)
    return made


def _named_shift(robot: str, shift: str, level: float | str | None) -> Domain:
    """Find a shift by name and level; either ``friction-x0p5`` or ``friction`` plus a level."""
    shifts = shifts_of(robot)
    if level is None and f"{robot}-{shift}" in catalogue():
        return catalogue()[f"{robot}-{shift}"]
    name = max((n for n in shifts if shift == n or shift.startswith(n + "-")), key=len, default="")
    token = shift.removeprefix(name).removeprefix("-")
    levels = levels_of(shifts[name]) if name else {}
    if not levels:
        known = [d.shift for d in catalogue().values() if d.robot == robot and d.shift]
        if level is not None and shift in known:
            raise DomainError(f"{robot}-{shift} has no levels, got level={level!r}.")
        raise DomainError(f"The {robot} has no shift {shift!r}. {nearest(shift, known)}")
    if isinstance(level, str):
        token, level = level, None
    elif level is not None:
        level = float(level)
        if token:
            raise DomainError(f"Give the level once: {shift!r} holds one, and level={level:g}.")
        token = level_token(level) if math.isfinite(level) else str(level)
    if token in levels:
        return catalogue()[f"{robot}-{name}-{token}"]
    if level is None and (match := re.fullmatch(r"x(\d+(?:p\d+)?)", token)):
        level = float(match[1].replace("p", "."))
    if level is None or not 0 <= level <= MAX_SCALE or "at" in shifts[name]:
        continuous = "" if "at" in shifts[name] else f", or a factor from x0 to x{MAX_SCALE:g}"
        hint = nearest(token, levels).rstrip(".")
        raise DomainError(f"{robot}-{name} has no level {token or None!r}. {hint}{continuous}.")
    return entry_of(robot, name, token, level, "custom")


def load_domains(path: str | Path) -> dict[str, Domain]:
    """Read the user's own domains from a TOML file in the grammar of ``domains.toml``.

    The file holds ``[<robot>.<shift>]`` tables; ``levels`` and ``at`` work as in the catalogue.

    Returns:
        The domains by slug.

    Raises:
        DomainError: the file cannot be read, or an entry is wrong (named in the message).
    """
    try:
        text = read_plain(path, LARGEST).decode()
        if (
            max(map(len, text.splitlines()), default=0) > LONGEST_LINE
        ):  # dotted keys cost their square
            raise ValueError(f"it has lines of more than {LONGEST_LINE} characters")
        tables = tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise DomainError(f"Cannot read domains from {path}: {error}") from None
    found: dict[str, Domain] = {}
    for robot, shifts in tables.items():
        if robot == "format":
            continue
        base_of(robot)
        if not isinstance(shifts, Mapping) or not all(
            isinstance(s, Mapping) for s in shifts.values()
        ):
            raise DomainError(
                f"{path}: write [{robot}.<shift>] tables, got {robot} = {shown(shifts)}."
            )
        for name, shift in shifts.items():
            _check_levels(shift, f"{path}: [{robot}.{name}]")
            tree = {key: value for key, value in shift.items() if key not in NOT_EDITS}
            for token, level in (levels_of(shift) or {None: None}).items():
                label = name if token is None else f"{name}-{token}"
                extra = shift.get("at", {}).get(token, {})
                made = make_domain(robot, merged(tree, extra), level=level, name=label)
                found[made.slug] = made
    if not found:
        raise DomainError(f"{path} holds no domains: write [<robot>.<shift>] tables.")
    return found


def _check_levels(shift: Mapping[str, Any], where: str) -> None:
    levels, at = shift.get("levels", {}), shift.get("at", {})
    values = levels.values() if isinstance(levels, Mapping) else levels
    if not isinstance(levels, Mapping | list) or not all(is_finite(value) for value in values):
        raise DomainError(
            f"{where}: levels are numbers, [0.5, 2] or {{ mild = 0.5 }}, got {shown(levels)}."
        )
    if not isinstance(at, Mapping) or not all(isinstance(part, Mapping) for part in at.values()):
        raise DomainError(f"{where}: write [<robot>.<shift>.at.<level>] tables, got {shown(at)}.")


def from_kwargs(robot: str, shift: str | Mapping[str, Any] | None) -> Domain:
    """Rebuild a domain from environment kwargs; the inverse of :meth:`Domain.kwargs`."""
    if isinstance(shift, Mapping):
        if not {"name", "edits"} >= set(shift) or "edits" not in shift:
            raise DomainError(
                f"A shift of your own is {{'name': .., 'edits': ..}}, got {shown(shift)}."
            )
        return make_domain(robot, shift["edits"], name=shift.get("name"))
    return make_domain(robot, shift)

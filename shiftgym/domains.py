"""Robots, shifts and domains: the catalogue, and how to go beyond it.

A *domain* is a robot plus a shift. ``assets/domains.toml`` declares the catalogue as numbers;
this module turns a slug such as ``hopper-kinematic`` or ``ant-friction-x0p37`` into a
:class:`Domain`, and lists every registered one.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from shiftgym.edits import Edit, dump_edits, is_finite, parse_edits
from shiftgym.errors import DomainError, nearest, shown
from shiftgym.plain_files import read_plain

ASSETS = Path(__file__).parent / "assets"
NOT_EDITS = {"levels", "at"}
MAX_SCALE = 100.0
LARGEST, LONGEST_LINE = 1 << 18, 2000  # bytes of a file of domains; characters of its lines


@dataclass(frozen=True)
class Domain:
    """Name a robot with a shift, and say how to build it.

    Attributes:
        robot: one of :func:`robots`.
        shift: the shift's name, ``kinematic`` or ``friction-x0p5``; None for the unshifted robot.
        edits: the changes of the robot's model, in order.
        family: ``source``, ``classic``, ``friction``, ``gravity``, ``graded``, ``adroit`` or
            ``custom`` (made by the user, not registered).
    """

    robot: str
    shift: str | None = None
    edits: tuple[Edit, ...] = ()
    family: str = field(default="custom", compare=False)

    @property
    def slug(self) -> str:
        """Give the short name: ``hopper-kinematic``, or ``hopper`` when unshifted."""
        return self.robot if self.shift is None else f"{self.robot}-{self.shift}"

    @property
    def env_id(self) -> str:
        """Give the Gymnasium id: ``ShiftHopper-kinematic-v0``.

        A custom domain has the id of its unshifted robot; its shift travels in the kwargs.
        """
        shift = "" if self.shift is None or self.family == "custom" else f"-{self.shift}"
        return f"Shift{_base(self.robot)['id']}{shift}-v0"

    def kwargs(self) -> dict[str, Any]:
        """Give the JSON-able environment kwargs that rebuild this domain on any machine."""
        if self.family != "custom":
            return {"robot": self.robot, "shift": self.shift}
        return {"robot": self.robot, "shift": {"name": self.shift, "edits": dump_edits(self.edits)}}

    def make(self, **kwargs: Any):
        """Make a single environment; keyword arguments as for ``gymnasium.make``."""
        import gymnasium as gym

        return gym.make(self.env_id, **({"shift": self.kwargs()["shift"]} | kwargs))

    def make_vec(self, num_envs: int = 1, **kwargs: Any):
        """Make a vector environment of this domain; see :func:`shiftgym.make_vec`."""
        from shiftgym.registration import make_vec

        return make_vec(self, num_envs=num_envs, **kwargs)


@cache
def _catalogue_file() -> dict[str, Any]:
    with open(ASSETS / "domains.toml", "rb") as file:
        return tomllib.load(file)


def robots() -> list[str]:
    """List the robots."""
    return list(_catalogue_file()["base"])


def asset_path(robot: str) -> Path:
    """Find a robot's XML file inside the package that ships it, without importing the package.

    Raises:
        DomainError: unknown robot, or the package is not installed.
    """
    base = _base(robot)
    package = find_spec(base["package"])
    if package is None or not package.submodule_search_locations:
        name = base["package"].replace("_", "-")
        raise DomainError(f"The {robot} needs {name}'s model files: pip install {name}")
    return Path(package.submodule_search_locations[0]) / base["asset"]


def episode_steps(robot: str) -> int:
    """Give the environment steps after which an episode of a robot is truncated."""
    return _base(robot)["episode_steps"]


def base_edits(robot: str) -> tuple[Edit, ...]:
    """Give the edits that turn a robot's asset into the environment's own model."""
    return parse_edits(_base(robot).get("edits", {}))


def _base(robot: str) -> dict[str, Any]:
    bases = _catalogue_file()["base"]
    if robot not in bases:
        raise DomainError(f"Unknown robot {shown(robot)}. {nearest(str(robot), bases)}")
    return bases[robot]


def _shifts(robot: str) -> dict[str, Any]:
    return _catalogue_file()[_base(robot)["shifts"]]


def level_token(level: float) -> str:
    """Write a scale as ids do: ``0.5`` is ``x0p5``, ``2`` is ``x2``."""
    return "x" + f"{level:.6f}".rstrip("0").rstrip(".").replace(".", "p")


def _levels(shift: Mapping[str, Any]) -> dict[str, float]:
    """Give a family's levels by token; empty for a shift without levels."""
    levels = shift.get("levels", {})
    if isinstance(levels, Mapping):
        return dict(levels)
    return {level_token(level): level for level in levels}


def _family(robot: str, name: str, shift: Mapping[str, Any]) -> str:
    if _base(robot)["shifts"] == "adroit":
        return "adroit"
    if "levels" not in shift:
        return "classic"
    return name if name in ("friction", "gravity") else "graded"


def _domain(robot: str, name: str, token: str | None, level: float | None, family: str) -> Domain:
    """Build a domain from one entry of the catalogue."""
    shift = _shifts(robot)[name]
    tree = {key: value for key, value in shift.items() if key not in NOT_EDITS}
    edits = parse_edits(tree, level) + parse_edits(shift.get("at", {}).get(token, {}), level)
    return Domain(robot, name if token is None else f"{name}-{token}", edits, family)


@cache
def catalogue() -> dict[str, Domain]:
    """List every registered domain by slug: 6 sources and 102 shifts."""
    found = {robot: Domain(robot, family="source") for robot in robots()}
    for robot in robots():
        for name, shift in _shifts(robot).items():
            family = _family(robot, name, shift)
            for token, level in (_levels(shift) or {None: None}).items():
                domain = _domain(robot, name, token, level, family)
                found[domain.slug] = domain
    return found


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
    _base(robot)
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
        _base(robot)
        return catalogue()[robot]
    if isinstance(edits, str):
        made = _named_shift(robot, edits, level)
    else:
        if level is not None and (isinstance(level, str) or not is_finite(level)):
            raise DomainError(f"The level of your own edits is a number, got {shown(level)}.")
        _base(robot)
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
    shifts = _shifts(robot)
    if level is None and f"{robot}-{shift}" in catalogue():
        return catalogue()[f"{robot}-{shift}"]
    name = max((n for n in shifts if shift == n or shift.startswith(n + "-")), key=len, default="")
    token = shift.removeprefix(name).removeprefix("-")
    levels = _levels(shifts[name]) if name else {}
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
    return _domain(robot, name, token, level, "custom")


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
        _base(robot)
        if not isinstance(shifts, Mapping) or not all(
            isinstance(s, Mapping) for s in shifts.values()
        ):
            raise DomainError(
                f"{path}: write [{robot}.<shift>] tables, got {robot} = {shown(shifts)}."
            )
        for name, shift in shifts.items():
            _check_levels(shift, f"{path}: [{robot}.{name}]")
            tree = {key: value for key, value in shift.items() if key not in NOT_EDITS}
            for token, level in (_levels(shift) or {None: None}).items():
                label = name if token is None else f"{name}-{token}"
                extra = shift.get("at", {}).get(token, {})
                made = make_domain(robot, _merge(tree, extra), level=level, name=label)
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


def _merge(tree: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested tables; later values win."""
    merged = dict(tree)
    for key, value in extra.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def from_kwargs(robot: str, shift: str | Mapping[str, Any] | None) -> Domain:
    """Rebuild a domain from environment kwargs; the inverse of :meth:`Domain.kwargs`."""
    if isinstance(shift, Mapping):
        if not {"name", "edits"} >= set(shift) or "edits" not in shift:
            raise DomainError(
                f"A shift of your own is {{'name': .., 'edits': ..}}, got {shown(shift)}."
            )
        return make_domain(robot, shift["edits"], name=shift.get("name"))
    return make_domain(robot, shift)

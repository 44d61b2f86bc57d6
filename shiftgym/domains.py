"""Robots, shifts and domains: the catalogue.

A *domain* is a robot plus a shift. ``assets/domains.toml`` declares the catalogue as numbers; this
module reads it. Domains are found by name, and made beyond the catalogue, in
:mod:`shiftgym.making`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from shiftgym.basics.errors import DomainError, nearest, shown
from shiftgym.edits import Edit, dump_edits, parse_edits

ASSETS = Path(__file__).parent / "assets"
NOT_EDITS = {"levels", "at"}
MAX_SCALE = 100.0


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
        return f"Shift{base_of(self.robot)['id']}{shift}-v0"

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
        import gymnasium as gym

        options = {"shift": self.kwargs()["shift"]} | kwargs
        return gym.make_vec(Domain(self.robot).env_id, num_envs=num_envs, **options)


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
    base = base_of(robot)
    package = find_spec(base["package"])
    if package is None or not package.submodule_search_locations:
        name = base["package"].replace("_", "-")
        raise DomainError(f"The {robot} needs {name}'s model files: pip install {name}")
    return Path(package.submodule_search_locations[0]) / base["asset"]


def episode_steps(robot: str) -> int:
    """Give the environment steps after which an episode of a robot is truncated."""
    return base_of(robot)["episode_steps"]


def base_edits(robot: str) -> tuple[Edit, ...]:
    """Give the edits that turn a robot's asset into the environment's own model."""
    return parse_edits(base_of(robot).get("edits", {}))


def base_of(robot: str) -> dict[str, Any]:
    """Give a robot's own entry of the catalogue.

    Raises:
        DomainError: unknown robot; the message names the nearest.
    """
    bases = _catalogue_file()["base"]
    if robot not in bases:
        raise DomainError(f"Unknown robot {shown(robot)}. {nearest(str(robot), bases)}")
    return bases[robot]


def shifts_of(robot: str) -> dict[str, Any]:
    """Give a robot's shifts as the catalogue writes them."""
    return _catalogue_file()[base_of(robot)["shifts"]]


def level_token(level: float) -> str:
    """Write a scale as ids do: ``0.5`` is ``x0p5``, ``2`` is ``x2``."""
    return "x" + f"{level:.6f}".rstrip("0").rstrip(".").replace(".", "p")


def levels_of(shift: Mapping[str, Any]) -> dict[str, float]:
    """Give a family's levels by token; empty for a shift without levels."""
    levels = shift.get("levels", {})
    if isinstance(levels, Mapping):
        return dict(levels)
    return {level_token(level): level for level in levels}


def _family(robot: str, name: str, shift: Mapping[str, Any]) -> str:
    if base_of(robot)["shifts"] == "adroit":
        return "adroit"
    if "levels" not in shift:
        return "classic"
    return name if name in ("friction", "gravity") else "graded"


def entry_of(robot: str, name: str, token: str | None, level: float | None, family: str) -> Domain:
    """Build a domain from one entry of the catalogue."""
    shift = shifts_of(robot)[name]
    tree = {key: value for key, value in shift.items() if key not in NOT_EDITS}
    edits = parse_edits(tree, level) + parse_edits(shift.get("at", {}).get(token, {}), level)
    return Domain(robot, name if token is None else f"{name}-{token}", edits, family)


@cache
def catalogue() -> dict[str, Domain]:
    """List every registered domain by slug: 6 sources and 102 shifts."""
    found = {robot: Domain(robot, family="source") for robot in robots()}
    for robot in robots():
        for name, shift in shifts_of(robot).items():
            family = _family(robot, name, shift)
            for token, level in (levels_of(shift) or {None: None}).items():
                domain = entry_of(robot, name, token, level, family)
                found[domain.slug] = domain
    return found

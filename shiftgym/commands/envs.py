"""``shiftgym envs``: the catalogue, as a table or as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import tyro

from shiftgym.basics.errors import DomainError, nearest
from shiftgym.describe import as_json, describe
from shiftgym.domains import Domain, catalogue, robots
from shiftgym.making import load_domains


def envs(
    robot: str | None = None,
    family: str | None = None,
    file: Path | None = None,
    json_: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """List the domains and what each one changes, from what to what.

    Example: shiftgym envs --robot hopper --family graded

    Args:
        robot: Show only this robot: hopper, walker2d, halfcheetah, ant, pen or door.
        family: Show only this family: source, classic, friction, gravity, graded or adroit.
        file: List the domains of your own TOML file instead of the catalogue.
        json_: Print JSON for programs.
    """
    domains = list((load_domains(file) if file else catalogue()).values())
    families = sorted({entry.family for entry in domains})
    if robot is not None and robot not in robots():
        raise DomainError(f"Unknown robot {robot!r}. {nearest(robot, robots())}")
    if family is not None and family not in families:
        raise DomainError(f"Unknown family {family!r}. {nearest(family, families)}")
    shown = [d for d in domains if robot in (None, d.robot) and family in (None, d.family)]
    print(json.dumps([as_json(d) for d in shown], indent=1) if json_ else table(shown))


def table(domains: list[Domain]) -> str:
    """Lay out domains as id, family and one line per change (XML units of the robot's asset)."""
    names = [entry.slug if entry.family == "custom" else entry.env_id for entry in domains]
    width = max(map(len, names), default=0)
    lines = [f"{'name':<{width}}  {'family':<8}  what differs from the unshifted robot"]
    for name, entry in zip(names, domains, strict=True):
        head = f"{name:<{width}}  {entry.family:<8}  "
        for line in describe(entry) or ["-"]:
            lines.append(head + line)
            head = " " * len(head)
    lines += ["", f"{len(domains)} domains. Angles are in the asset's units: degrees, but radians"]
    lines += ["for halfcheetah, pen and door. Next: shiftgym render <name> --compare"]
    return "\n".join(lines)

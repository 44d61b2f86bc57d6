"""Perturb the domains that policies are tested in: suites of levels, from easy to hard.

    kinematic          joints' ranges x 0.8, 0.5, 0.2 (the ant's ankles: their span)
    morph              lengths and radii of links, in three published steps
    friction, gravity  x 0.8, 0.5, 0.2
    min-q              an attack on what the policy observes (see `attack`), by its scale
    noise              its control: random observations of the same size

The edits come on top of the domain that a policy was trained for, shifted or not. Every robot has
two families of joints and two of links; a suite takes the one nearest to the shifts that DROCO
trains on, and any family may be named instead (`kinematic-legjnt`). A user's own suite is a file of
domains.

DROCO (arXiv:2512.02486) tests robustness so. Stated: kinematic and morphological suites with these
level names, and the attack with a scale of 0.2. Inferred: the levels are those of ODRL
(arXiv:2410.20750), read in its model files. Chosen: the factors of friction and gravity, and the
attack's scales below 0.2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from shiftgym.basics.errors import DomainError, nearest
from shiftgym.domains import Domain, catalogue
from shiftgym.edits import Edit
from shiftgym.making import load_domains, make_domain
from shiftgym.modelling import Change, changes

CLEAN = "clean"
ATTACK, NOISE = "min-q", "noise"
OBSERVED = (ATTACK, NOISE)  # suites that change what is observed, by a scale
NAMES = ("easy", "medium", "hard")
FACTORS = (0.8, 0.5, 0.2)
SCALES = (0.05, 0.1, 0.15, 0.2)
FAMILIES = {  # suite -> robot -> its family in the catalogue
    "kinematic": {
        "hopper": "kinematic-footjnt",
        "walker2d": "kinematic-footjnt",
        "halfcheetah": "kinematic-thighjnt",
        "ant": "kinematic-hipjnt",
        "pen": "kinematic",
        "door": "kinematic",
    },
    "morph": {
        "hopper": "morph-torso",
        "walker2d": "morph-leg",
        "halfcheetah": "morph-thigh",
        "ant": "morph-halflegs",
        "pen": "morph",
        "door": "morph",
    },
}
SCALED = ("friction", "gravity")
SUITES = (*FAMILIES, *SCALED, *OBSERVED)


@dataclass(frozen=True)
class Level:
    """Describe one strength of one suite.

    Attributes:
        suite: what the user asked for, or `clean`.
        name: easy, medium, hard; of a user's file the shift's name.
        strength: the factor of friction or gravity, or the attack's or noise's scale; None where
            it is no number.
        shift: the domain whose edits are added; None leaves the policy's own domain as it is.
    """

    suite: str
    name: str
    strength: float | None = None
    shift: Domain | None = None

    def domain(self, own: Domain) -> Domain:
        """Give the domain to test in a policy that was trained for `own`."""
        return own if self.shift is None else on_top(own, self.shift)


UNPERTURBED = Level(CLEAN, CLEAN)


def suite_levels(name: str, robot: str, scales: Sequence[float] = SCALES) -> list[Level]:
    """List the levels of a suite for a robot, mildest first.

    Args:
        name: One of `SUITES`, one of the robot's families with levels easy, medium and hard, or a
            TOML file of domains (`shiftgym.load_domains`), each of which is a level.
        robot: The robot's name.
        scales: Levels of the attack and of noise.

    Raises:
        DomainError: The robot has no such suite; the message names the nearest.
    """
    if name in OBSERVED:
        return [Level(name, f"{scale:g}", scale) for scale in scales]
    if name in SCALED:
        made = [make_domain(robot, name, level=factor) for factor in FACTORS]
        return [Level(name, *each) for each in zip(NAMES, FACTORS, made, strict=True)]
    if name.endswith(".toml"):
        own = [d for d in load_domains(name).values() if d.robot == robot]
        if not own:
            raise DomainError(f"{name} holds no domain of the {robot}: add [{robot}.<shift>].")
        return [Level(Path(name).stem, str(d.shift), None, d) for d in own]
    family = FAMILIES[name][robot] if name in FAMILIES else name
    if family not in families(robot):
        raise DomainError(
            f"The {robot} has no suite {name!r}. {nearest(name, (*SUITES, *families(robot)))}"
        )
    return [Level(name, n, None, catalogue()[f"{robot}-{family}-{n}"]) for n in NAMES]


def families(robot: str) -> list[str]:
    """List a robot's families with levels easy, medium and hard."""
    easy = f"-{NAMES[0]}"
    shifts = [d.shift for d in catalogue().values() if d.robot == robot and d.shift]
    return [shift.removesuffix(easy) for shift in shifts if shift.endswith(easy)]


@cache
def on_top(own: Domain, shift: Domain) -> Domain:
    """Add the edits of one domain to another of the same robot.

    Factors multiply what is there: half the range of a joint whose range was halved before is a
    quarter of it. The result assigns final values, so that it is rebuilt from its kwargs anywhere.

    Raises:
        DomainError: The second assigns a value that the first has changed, and would undo that.
    """
    if own.shift is None:
        return shift
    added = tuple(replace(edit, of=None) for edit in shift.edits)  # `of` stands for the asset's own
    done = changes(Domain(own.robot, edits=own.edits + added))
    first, second = done[: len(own.edits)], done[len(own.edits) :]
    values = _values(first)
    for edit, changed in second:
        undone = [key for key in _values([(edit, changed)]) if key in values]
        if edit.scale is None and undone:
            raise DomainError(
                f"{own.slug} sets {' '.join(undone[0])} itself, and {shift.slug} would undo that: "
                f"name another family: {', '.join(_others(shift)) or 'there is none of its kind'}."
            )
    edits = {
        ".".join(filter(None, (kind, re.escape(name), attribute))): list(after)
        for (kind, name, attribute), after in _values(done).items()
    }
    return make_domain(own.robot, edits, name=f"{own.shift}-and-{shift.shift}")


def _values(done: Sequence[tuple[Edit, list[Change]]]) -> dict[tuple[str, str, str], Any]:
    """Give what edits leave, by kind, name and attribute, in the order of the last edits."""
    found: dict[tuple[str, str, str], Any] = {}
    for _, changed in done:
        for c in changed:
            found.pop((c.kind, c.name, c.attribute), None)
            found[c.kind, c.name, c.attribute] = c.after
    return found


def _others(shift: Domain) -> list[str]:
    """List the robot's families of the same kind, joints or links, that a shift is not of."""
    name = str(shift.shift)
    same = [f for f in families(shift.robot) if f.split("-")[0] == name.split("-")[0]]
    return [family for family in same if not name.startswith(family)]

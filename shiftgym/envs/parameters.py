"""Parameters of a robot that may change while an environment lives: what there is, what it edits.

A parameter is a factor on the domain's own model, by the name of a family of the catalogue that
takes any level (``friction``, ``gravity``, ``kinematic-footjnt``), or by what it scales, in the
grammar of edits (``joint.foot_joint.damping``, ``actuator..*.gear``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from shiftgym.basics.arrays import Array
from shiftgym.basics.errors import DomainError, ShiftgymError, nearest, shown
from shiftgym.basics.patterns import matches
from shiftgym.domains import MAX_SCALE, Domain, entry_of, shifts_of
from shiftgym.edits import ATTRIBUTES, Edit, is_finite, parse_edits
from shiftgym.engine import mujoco
from shiftgym.envs.batching import differing
from shiftgym.modelling import build_spec, compile_model, edited

Values = Mapping[str, float]
Fields = dict[str, Array]  # MjModel fields by name; opt.NAME and stat.NAME of its parts

DIRECT = {  # what compiling copies into one field, on which no other field depends
    ("geom", "friction"): "geom_friction",
    ("option", "gravity"): "opt.gravity",
}
STATISTICS = ("meaninertia", "meanmass", "meansize", "extent", "center")


def families(robot: str) -> list[str]:
    """Name the parameters that a robot has without declaring any."""
    shifts = shifts_of(robot).items()
    return [name for name, shift in shifts if "levels" in shift and "at" not in shift]


def is_target(name: str) -> bool:
    """Say whether a name is what an edit scales, such as ``geom.foot_geom.friction``."""
    return name.partition(".")[0] in ATTRIBUTES


def edits_of(robot: str, name: str, factor: float) -> tuple[Edit, ...]:
    """Give the edits of one parameter.

    Raises:
        DomainError: what it scales cannot be scaled so.
    """
    if is_target(name):
        return parse_edits({name: {"scale": factor}})
    return entry_of(robot, name, None, factor, "custom").edits


def check_names(robot: str, names: Mapping[str, Any]) -> list[str]:
    """Give what ``randomize`` names, all of it known.

    Raises:
        DomainError: the robot has no such parameter; the message says which it has.
    """
    if not isinstance(names, Mapping):
        raise ShiftgymError(
            f"randomize is a dictionary such as {{'friction': (0.3, 3)}}, got {shown(names)}."
        )
    for name in names:
        if name not in families(robot) and not is_target(str(name)):
            raise DomainError(
                f"The {robot} has no parameter {shown(name)}. "
                f"{nearest(str(name), families(robot))} Or scale any attribute: "
                "'joint.NAME.damping', 'actuator..*.gear'."
            )
    return list(names)


def check_range(name: str, given: Any) -> tuple[float, float]:
    """Give one range of ``randomize``, (lowest, highest).

    Raises:
        ShiftgymError: no two numbers in order, from 0 to 100.
    """
    pair = list(given) if isinstance(given, tuple | list | np.ndarray) else []
    if len(pair) != 2 or not all(_is_factor(value) for value in pair) or pair[0] > pair[1]:
        raise ShiftgymError(
            f"randomize: {name} needs (lowest, highest), factors from 0 to {MAX_SCALE:g}, got "
            f"{shown(given)}."
        )
    return float(pair[0]), float(pair[1])


def check_values(name: str, given: Any, count: int) -> Array:
    """Give the value of a parameter in each of ``count`` simulations, (count,).

    Raises:
        ShiftgymError: other than one number, or one for each, from 0 to 100.
    """
    try:
        values = np.asarray(given)
    except ValueError:  # a ragged list
        values = np.array(None)
    fits = values.dtype.kind in "iuf" and values.shape in {(), (count,)}
    if not fits or not ((0 <= values) & (values <= MAX_SCALE)).all():
        each = "a factor" if count == 1 else f"a factor, or {count} of them,"
        raise ShiftgymError(f"{name} must be {each} from 0 to {MAX_SCALE:g}, got {shown(given)}.")
    return np.broadcast_to(values.astype(float), (count,))


def changed_fields(base: mujoco.MjModel, domain: Domain, physics: str, values: Values) -> Fields:
    """Give the model fields that parameters change, exactly as a compiled model has them.

    Args:
        base: the domain's own model.
        domain: the domain.
        physics: its physics.
        values: the parameters that differ from the domain's own.

    Raises:
        DomainError: the model does not compile so.
    """
    edits = tuple(e for name, value in values.items() for e in edits_of(domain.robot, name, value))
    if all((edit.kind, edit.attribute) in DIRECT for edit in edits):
        return _direct(base, domain, edits)
    if not edits:
        return {}
    model = compile_model(Domain(domain.robot, domain.shift, domain.edits + edits), physics)
    found = {name: values[1] for name, values in differing([base, model]).items()}
    return found | {f"stat.{name}": np.array(getattr(model.stat, name)) for name in STATISTICS}


def _direct(base: mujoco.MjModel, domain: Domain, edits: tuple[Edit, ...]) -> Fields:
    """Scale fields without compiling; the products are those of ``modelling``."""
    found: Fields = {}
    for edit in edits:
        field = DIRECT[edit.kind, edit.attribute]
        holder, _, name = field.rpartition(".")
        if holder:
            before = found.get(field, np.array(getattr(base.opt, name)))
            found[field] = edited(before, edit, domain)
            continue
        after = found.setdefault(field, getattr(base, name).copy())
        names = [getattr(base, edit.kind)(row).name for row in range(len(after))]
        rows = [row for row, name in enumerate(names) if matches(edit.name, name)]
        if not rows:
            build_spec(Domain(domain.robot, domain.shift, edits))  # says what is nearest
        for row in rows:
            after[row] = edited(after[row], edit, domain)
    return found


def _is_factor(value: Any) -> bool:
    return is_finite(value) and 0 <= value <= MAX_SCALE

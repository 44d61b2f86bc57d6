"""From a domain to a compiled MuJoCo model: MjSpec edits and the MuJoCo 2.1.0 physics.

The published data were simulated with MuJoCo 2.1.0, which differs from today's engine in two
rules: a capsule weighed and rotated like a cylinder of length ``2h + r``, and two geoms were in
contact within ``max(m1, m2)`` of each other instead of ``m1 + m2``. Both are corrected here, in
process: XML text would round the masses to six digits.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from shiftgym.basics.errors import DomainError, nearest, shown
from shiftgym.basics.patterns import matches
from shiftgym.domains import Domain, asset_path, base_edits
from shiftgym.edits import Edit
from shiftgym.engine import mujoco

PHYSICS = ("mujoco210", "installed")


@dataclass(frozen=True)
class Change:
    """Record one value of a model before and after a shift (XML units of the asset)."""

    kind: str
    name: str
    attribute: str
    before: tuple[float, ...]
    after: tuple[float, ...]


def build_spec(domain: Domain) -> mujoco.MjSpec:
    """Load the robot's asset and apply the domain's edits.

    Raises:
        DomainError: an edit matches no element of the robot.
    """
    spec = mujoco.MjSpec.from_file(str(asset_path(domain.robot)))
    for edit in base_edits(domain.robot) + domain.edits:
        _apply(spec, edit, domain)
    return spec


def changes(domain: Domain) -> list[tuple[Edit, list[Change]]]:
    """List what a domain changes: each edit, with every value it changes from what to what."""
    spec = build_spec(Domain(domain.robot))
    return [(edit, _apply(spec, edit, domain)) for edit in domain.edits]


def build_model(domain: Domain, physics: str = "mujoco210") -> mujoco.MjModel:
    """Compile a domain's model; the caller owns the copy it gets.

    Args:
        domain: what to build.
        physics: ``"mujoco210"`` for the physics of the published data, ``"installed"`` for the
            installed engine's own.

    Raises:
        DomainError: unknown physics, or the edits make a model that does not compile.
    """
    if physics not in PHYSICS:
        raise DomainError(f"Unknown physics {physics!r}. {nearest(str(physics), PHYSICS)}")
    return copy.copy(_compiled(domain, physics))


def compile_model(domain: Domain, physics: str) -> mujoco.MjModel:
    """Compile a domain's model as :func:`build_model` does, and keep nothing of it."""
    spec = build_spec(domain)
    try:
        if physics == "mujoco210":
            restore_mujoco210(spec)
        return _compile(spec)
    except ValueError as error:
        raise DomainError(f"{domain.slug} does not compile: {error}") from None


_compiled = cache(compile_model)


def _compile(spec: mujoco.MjSpec) -> mujoco.MjModel:
    with warnings.catch_warnings():  # half_cheetah.xml's settotalmass is deprecated, and meant
        warnings.filterwarnings("ignore", message=".*settotalmass.*")
        return spec.compile()


def restore_mujoco210(spec: mujoco.MjSpec) -> None:
    """Give a spec the capsule inertias and contact margins of MuJoCo 2.1.0, in place."""
    if _margins_add():
        for geom in spec.geoms:  # exact because all margins of a robot are equal
            geom.margin /= 2
    shapes = _compile(spec)  # numbers the elements, too
    capsules = [geom for geom in spec.geoms if geom.type == mujoco.mjtGeom.mjGEOM_CAPSULE]
    if all(geom.parent.explicitinertial for geom in capsules):
        return
    twin = spec.copy()
    for geom, original in zip(twin.geoms, spec.geoms, strict=True):
        if geom.type == mujoco.mjtGeom.mjGEOM_CAPSULE:
            radius, half = shapes.geom_size[original.id][:2]
            geom.type = mujoco.mjtGeom.mjGEOM_CYLINDER
            _place(geom, shapes.geom_pos[original.id], shapes.geom_quat[original.id])
            geom.size = [radius, half + radius / 2, 0]
    inertial = _compile(twin)
    for body in spec.bodies[1:]:
        if not body.explicitinertial:
            body.mass = inertial.body_mass[body.id]
            body.inertia = inertial.body_inertia[body.id]
            body.ipos = inertial.body_ipos[body.id]
            body.iquat = inertial.body_iquat[body.id]
            body.explicitinertial = True
    spec.compiler.inertiafromgeom = mujoco.mjtInertiaFromGeom.mjINERTIAFROMGEOM_AUTO
    spec.compiler.settotalmass = -1  # the twin's masses are scaled already


@cache
def _margins_add() -> bool:
    """Probe the engine: are two spheres 0.15 apart, margins 0.1 each, in contact?"""
    spec = mujoco.MjSpec()
    for x in (0.0, 0.35):
        body = spec.worldbody.add_body(pos=[x, 0, 0])
        body.add_freejoint()
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.1, 0, 0], margin=0.1)
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return data.ncon > 0


def _place(geom: Any, pos: Any, quat: Any) -> None:
    """Give a geom an explicit pose, clearing any other way it was placed."""
    geom.fromto = [np.nan] + [0.0] * 5
    geom.alt.type = mujoco.mjtOrientation.mjORIENTATION_QUAT
    geom.pos, geom.quat = pos, quat


def _elements(spec: mujoco.MjSpec, kind: str) -> list[Any]:
    return list(getattr(spec, {"body": "bodies"}.get(kind, kind + "s")))


def _name(element: Any) -> str:
    """Give an element's name; an actuator without one goes by the joint it moves."""
    return element.name or getattr(element, "target", "")


def _matches(spec: mujoco.MjSpec, edit: Edit, domain: Domain) -> Iterator[Any]:
    if edit.kind == "option":
        yield spec.option
        return
    elements = [e for e in _elements(spec, edit.kind) if matches(edit.name, _name(e))]
    if not elements:
        names = [_name(e) for e in _elements(spec, edit.kind) if _name(e)]
        raise DomainError(
            f"{domain.slug}: no {edit.kind} of the {domain.robot} matches {shown(edit.name)}. "
            f"{nearest(edit.name, names)}"
        )
    yield from elements


def _apply(spec: mujoco.MjSpec, edit: Edit, domain: Domain) -> list[Change]:
    """Apply one edit to every element it matches."""
    done = []
    for element in _matches(spec, edit, domain):
        if edit.attribute == "ipos" and not element.explicitinertial:
            raise DomainError(
                f"{domain.slug}: the centre of mass of {element.name} follows from its geoms; "
                "edit those."
            )
        before = np.atleast_1d(np.array(getattr(element, edit.attribute), dtype=float))
        after = edited(before, edit, domain)
        if edit.attribute == "fromto":
            _place(element, np.zeros(3), [1.0, 0, 0, 0])
        scalar = np.ndim(getattr(element, edit.attribute)) == 0
        setattr(element, edit.attribute, float(after[0]) if scalar else after)
        name = "" if edit.kind == "option" else _name(element)
        done.append(Change(edit.kind, name, edit.attribute, tuple(before), tuple(after)))
    return done


def edited(before: np.ndarray, edit: Edit, domain: Domain) -> np.ndarray:
    """Give the values of one element's attribute after an edit."""
    after = before.copy()
    if edit.assign is not None:
        after[: len(edit.assign)] = edit.assign
        if edit.attribute == "size":
            after[len(edit.assign) :] = 0.0
        return after
    assert edit.scale is not None
    if edit.attribute == "fromto" and np.isnan(before[0]):
        raise DomainError(
            f"{domain.slug}: {edit.target} was not placed by fromto; edit its pos and size, "
            "or assign a fromto."
        )
    if edit.of is not None:
        after[: len(edit.of)] = edit.of
    factors = np.ones_like(after)
    index = range(len(after)) if edit.index is None else edit.index
    scales = edit.scale * len(index) if len(edit.scale) == 1 else edit.scale
    if len(scales) > len(index):
        raise DomainError(f"{domain.slug}: {edit.target} has {len(index)} components to scale.")
    factors[list(index)[: len(scales)]] = scales
    return after * factors

"""Test the compiled models against published numbers, the assets and direct changes to them."""

from __future__ import annotations

import copy
from functools import cache

import gymnasium as gym
import gymnasium_robotics  # noqa: F401  registers AdroitHandPen-v1 and AdroitHandDoor-v1
import mujoco
import numpy as np
import pytest
from published_numbers import EXPECTED, SLIP
from shiftgym_helpers import ADROIT, CATALOGUE, LOCOMOTION, ROBOTS, differing, domains_of

import shiftgym
from shiftgym.domains import asset_path
from shiftgym.modelling import build_model

MASSES = {"hopper": 15.265, "walker2d": 22.698, "ant": 0.8787, "halfcheetah": 14.0}
INSTALLED_MASSES = {"hopper": 15.820, "walker2d": 23.677, "ant": 0.9109, "halfcheetah": 14.0}
DENSITIES = {"hopper": 1000.0, "walker2d": 1000.0, "ant": 5.0}
MARGINS = {
    "hopper": 1e-3,
    "walker2d": 0.0,
    "halfcheetah": 0.0,
    "ant": 1e-2,
    "pen": 5e-4,
    "door": 5e-4,
}
MASS_ARRAYS = {
    "body_mass", "body_subtreemass", "body_inertia", "body_iquat", "body_invweight0", "body_ipos",
    "dof_invweight0", "dof_M0", "actuator_acc0", "tendon_invweight0", "geom_margin", "dof_length",
    "body_sameframe", "stat.meaninertia", "stat.meanmass", "cam_pos0", "cam_poscom0", "light_pos0",
    "light_poscom0", "body_simple", "body_margin", "bvh_aabb", "stat.meansize",
}  # fmt: skip
ELEMENTS = {"jnt": "joint", "geom": "geom", "body": "body", "site": "site"}
RANGES = [slug for slug in EXPECTED if "kinematic" in slug]


@cache
def unshifted(robot: str) -> mujoco.MjModel:
    """Give a robot's model without shiftgym: its file, or gymnasium-robotics' environment."""
    if robot in ADROIT:
        return gym.make(f"AdroitHand{robot.title()}-v1").unwrapped.model
    return mujoco.MjModel.from_xml_path(str(asset_path(robot)))


def mutable(robot: str) -> mujoco.MjModel:
    return copy.copy(unshifted(robot))


def element(model: mujoco.MjModel, field: str, name: str) -> int:
    return getattr(model, ELEMENTS[field.partition("_")[0]])(name).id


def test_the_published_table_covers_every_classic_graded_and_adroit_domain():
    families = ("classic", "graded", "adroit")
    assert set(EXPECTED) == {d.slug for d in CATALOGUE.values() if d.family in families}


@pytest.mark.parametrize("slug", EXPECTED)
def test_compiled_values_are_the_published_ones(slug: str):
    for physics in ("installed", "mujoco210"):
        model = build_model(CATALOGUE[slug], physics)
        for field, name, first, values in EXPECTED[slug]:
            row = getattr(model, field)[element(model, field, name)]
            found = row[first : first + len(values)]
            np.testing.assert_allclose(
                found, values, rtol=1e-9, atol=1e-12, err_msg=f"{field} {name}"
            )


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_unshifted_robot_is_the_base_environments_model(robot: str):
    built = build_model(shiftgym.domain(robot), "installed")
    assert differing(built, unshifted(robot)) == set()


@pytest.mark.parametrize("slug", RANGES)
def test_range_shifts_change_the_ranges_of_the_table_and_nothing_else(slug: str):
    model = mutable(CATALOGUE[slug].robot)
    for field, name, _, values in EXPECTED[slug]:
        model.jnt_range[element(model, field, name)] = values
    built = build_model(CATALOGUE[slug], "installed")
    np.testing.assert_allclose(built.jnt_range, model.jnt_range, rtol=1e-9, atol=1e-12)
    assert differing(built, model) <= {"jnt_range"}


@pytest.mark.parametrize("level", [0.1, 0.5, 2.0, 5.0])
@pytest.mark.parametrize("robot", LOCOMOTION)
def test_gravity_shifts_change_gravity_and_nothing_else(robot: str, level: float):
    token = f"x{level:g}".replace(".", "p")
    model = mutable(robot)
    model.opt.gravity[2] = -9.81 * level
    assert not differing(build_model(CATALOGUE[f"{robot}-gravity-{token}"], "installed"), model)


@pytest.mark.parametrize("level", [0.1, 0.5, 2.0, 5.0])
@pytest.mark.parametrize("robot", LOCOMOTION)
def test_friction_shifts_change_robot_and_floor_and_nothing_else(robot: str, level: float):
    token = f"x{level:g}".replace(".", "p")
    model = mutable(robot)
    model.geom_friction[:, : 1 if robot == "hopper" else 3] *= level
    built = build_model(CATALOGUE[f"{robot}-friction-{token}"], "installed")
    assert not differing(built, model)
    floor = {"hopper": [1, 0.005, 0.0001], "walker2d": [0.7, 0.1, 0.1],
             "halfcheetah": [0.4, 0.1, 0.1], "ant": [1, 0.5, 0.5]}[robot]  # fmt: skip
    scaled = [level, 1, 1] if robot == "hopper" else [level] * 3
    np.testing.assert_allclose(built.geom("floor").friction, np.multiply(floor, scaled))


@pytest.mark.parametrize(("foot", "level"), [(4.0, "x2"), (10.0, "x5")])
def test_hoppers_foot_has_the_published_friction_at_high_levels(foot: float, level: str):
    model = build_model(CATALOGUE[f"hopper-friction-{level}"])
    assert model.geom("foot_geom").friction[0] == pytest.approx(foot)


@pytest.mark.parametrize("robot", ADROIT)
def test_the_published_slip_is_kept_in_hard_and_mended_in_hard_fixed(robot: str):
    hard = build_model(CATALOGUE[f"{robot}-morph-hard"])
    fixed = build_model(CATALOGUE[f"{robot}-morph-hard-fixed"])
    assert hard.body("lfdistal").pos[2] == pytest.approx(SLIP)
    assert fixed.body("lfdistal").pos[2] == pytest.approx(SLIP / 10)
    moved = np.flatnonzero((hard.body_pos != fixed.body_pos).any(axis=1))
    assert moved.tolist() == [hard.body("lfdistal").id]
    for field in ("body_ipos", "geom_pos", "geom_size", "site_pos", "jnt_range", "body_mass"):
        np.testing.assert_array_equal(getattr(hard, field), getattr(fixed, field))


@pytest.mark.parametrize("robot", ADROIT)
@pytest.mark.parametrize("level", ["easy", "medium", "hard", "hard-fixed"])
def test_shrinking_fingers_leaves_thumb_masses_and_actuators_alone(robot: str, level: str):
    model, base = build_model(CATALOGUE[f"{robot}-morph-{level}"]), unshifted(robot)
    for field in ("body_mass", "body_inertia", "jnt_range", "actuator_ctrlrange",
                  "actuator_gainprm", "actuator_biasprm", "mesh_vert"):  # fmt: skip
        np.testing.assert_array_equal(getattr(model, field), getattr(base, field), err_msg=field)
    np.testing.assert_array_equal(model.geom_size[:, 0], base.geom_size[:, 0])
    for body in range(model.nbody):
        if base.body(body).name.startswith("th"):
            np.testing.assert_array_equal(model.body_pos[body], base.body_pos[body])


@pytest.mark.parametrize("robot", LOCOMOTION)
def test_masses_are_those_of_mujoco_210(robot: str):
    domain = shiftgym.domain(robot)
    assert build_model(domain).body_mass.sum() == pytest.approx(MASSES[robot], abs=5e-4)
    installed = build_model(domain, "installed").body_mass.sum()
    assert installed == pytest.approx(INSTALLED_MASSES[robot], abs=5e-4)


@pytest.mark.parametrize("slug", [s for s in CATALOGUE if CATALOGUE[s].robot in LOCOMOTION])
def test_a_capsule_weighs_like_a_cylinder_of_its_half_length_plus_half_its_radius(slug: str):
    model = build_model(CATALOGUE[slug])
    radius, half = model.geom_size[:, 0], model.geom_size[:, 1]
    volumes = np.pi * radius**2 * (2 * half + radius)
    spheres = model.geom_type == mujoco.mjtGeom.mjGEOM_SPHERE
    volumes[spheres] = 4 / 3 * np.pi * radius[spheres] ** 3
    volumes[model.geom_bodyid == 0] = 0
    by_body = np.bincount(model.geom_bodyid, volumes, model.nbody)
    density = DENSITIES.get(CATALOGUE[slug].robot, 14 / by_body.sum())  # cheetahs always weigh 14
    np.testing.assert_allclose(model.body_mass, density * by_body, rtol=1e-6)


def test_hoppers_morph_makes_the_torso_heavy_and_the_thigh_light():
    base, morph = (build_model(shiftgym.domain(s), "installed") for s in ("hopper", "hopper-morph"))
    assert [base.body(b).mass[0] for b in ("torso", "thigh")] == pytest.approx(
        [3.67, 4.06], abs=6e-3
    )
    assert [morph.body(b).mass[0] for b in ("torso", "thigh")] == pytest.approx(
        [27.8, 2.53], abs=0.02
    )


@pytest.mark.parametrize("robot", ROBOTS)
def test_margins_are_halved_because_the_engine_adds_them(robot: str):
    for domain in domains_of(robot):
        restored, installed = build_model(domain), build_model(domain, "installed")
        np.testing.assert_array_equal(restored.geom_margin, installed.geom_margin / 2)
        assert set(installed.geom_margin.tolist()) == {MARGINS[robot]}
        assert differing(restored, installed) <= MASS_ARRAYS


def test_two_geoms_touch_within_the_larger_margin():
    """A hopper 1.5 mm above the floor: the sum of the margins (2 mm) reaches it, the larger not."""
    for physics, touching in (("installed", True), ("mujoco210", False)):
        model = build_model(shiftgym.domain("hopper"), physics)
        data = mujoco.MjData(model)
        data.qpos[:] = model.qpos0
        mujoco.mj_forward(model, data)
        foot = model.geom("foot_geom").id
        lowest = data.geom_xpos[foot, 2] - model.geom_size[foot, 0]
        data.qpos[1] -= lowest - 1.5e-3
        mujoco.mj_forward(model, data)
        assert (data.ncon > 0) == touching, physics


def test_models_are_copies_that_the_caller_may_change():
    first = build_model(shiftgym.domain("hopper"))
    first.opt.gravity[2] = 0
    assert build_model(shiftgym.domain("hopper")).opt.gravity[2] == -9.81

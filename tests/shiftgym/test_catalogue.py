"""Test which domains exist, what they are called, and how users make their own."""

from __future__ import annotations

import json
import re
from collections import Counter

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import parse_env_id
from minari.dataset.minari_dataset import parse_dataset_id
from shiftgym_helpers import CATALOGUE, LOCOMOTION, ROBOTS, SLUGS, differing, domains_of

import shiftgym
from shiftgym.making import from_kwargs
from shiftgym.modelling import build_model

SLIPPERY = {"geom.foot_geom.friction": {"scale": 0.3, "index": [0]}}


def test_the_catalogue_holds_108_domains():
    assert len(CATALOGUE) == 108
    families = Counter(domain.family for domain in CATALOGUE.values())
    assert families == {
        "source": 6, "classic": 8, "friction": 16, "gravity": 16, "graded": 48, "adroit": 14
    }  # fmt: skip
    assert {robot: len(domains_of(robot)) for robot in ROBOTS} == {
        "hopper": 23, "walker2d": 23, "halfcheetah": 23, "ant": 23, "pen": 8, "door": 8
    }  # fmt: skip


def test_ids_are_those_of_the_design():
    ids = {domain.env_id for domain in CATALOGUE.values()}
    classes = {
        "hopper": "Hopper",
        "walker2d": "Walker2d",
        "halfcheetah": "HalfCheetah",
        "ant": "Ant",
    }
    shifts = ["", "-kinematic", "-morph"]
    shifts += [
        f"-{what}-{x}" for what in ("friction", "gravity") for x in ("x0p1", "x0p5", "x2", "x5")
    ]
    parts = {
        "hopper": ("kinematic-footjnt", "kinematic-legjnt", "morph-foot", "morph-torso"),
        "walker2d": ("kinematic-footjnt", "kinematic-thighjnt", "morph-leg", "morph-torso"),
        "halfcheetah": ("kinematic-footjnt", "kinematic-thighjnt", "morph-thigh", "morph-torso"),
        "ant": ("kinematic-hipjnt", "kinematic-anklejnt", "morph-halflegs", "morph-alllegs"),
    }
    levels = ("easy", "medium", "hard")
    expected = {f"Shift{classes[robot]}{shift}-v0" for robot in classes for shift in shifts}
    expected |= {
        f"Shift{classes[robot]}-{part}-{level}-v0"
        for robot, names in parts.items() for part in names for level in levels
    }  # fmt: skip
    shifts = ["", *(f"-kinematic-{x}" for x in levels), *(f"-morph-{x}" for x in levels)]
    shifts += ["-morph-hard-fixed"]
    expected |= {f"Shift{hand}{shift}-v0" for hand in ("Pen", "Door") for shift in shifts}
    assert ids == expected


def test_registered_ids_are_the_catalogue_and_nothing_else():
    registered = {name for name in gym.registry if name.startswith("Shift")}
    assert registered == {domain.env_id for domain in CATALOGUE.values()}


@pytest.mark.parametrize("slug", SLUGS)
def test_names_are_legal_for_gymnasium_and_minari(slug: str):
    domain = CATALOGUE[slug]
    assert parse_env_id(domain.env_id) == (None, domain.env_id.removesuffix("-v0"), 0)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", domain.env_id)
    dataset = f"shiftgym/{slug}/medium-v0"
    assert parse_dataset_id(dataset) == (f"shiftgym/{slug}", "medium", 0)


@pytest.mark.parametrize("slug", SLUGS)
def test_slug_id_and_kwargs_lead_back_to_the_same_domain(slug: str):
    domain = CATALOGUE[slug]
    assert domain.slug == slug
    kwargs = json.loads(json.dumps(domain.kwargs(), allow_nan=False))
    for found in (
        shiftgym.domain(slug),
        shiftgym.domain(domain.env_id),
        shiftgym.domain(f"shiftgym:{domain.env_id}"),
        shiftgym.domain(domain),
        from_kwargs(**kwargs),
        shiftgym.make_domain(domain.robot, domain.shift),
    ):
        assert found == domain and found.family == domain.family
    spec = gym.spec(domain.env_id)
    assert spec.kwargs == domain.kwargs()
    assert spec.max_episode_steps == (200 if domain.robot in ("pen", "door") else 1000)


@pytest.mark.parametrize("slug", ["hopper-morph", "ant-kinematic-anklejnt-easy", "pen-morph-hard"])
def test_edits_written_as_json_make_the_same_model(slug: str):
    from shiftgym.edits import dump_edits

    domain = CATALOGUE[slug]
    edits = json.loads(json.dumps(dump_edits(domain.edits), allow_nan=False))
    copied = shiftgym.make_domain(domain.robot, edits, name="copied")
    assert not differing(build_model(copied), build_model(domain))


@pytest.mark.parametrize("robot", LOCOMOTION)
def test_scales_are_continuous(robot: str):
    domain = shiftgym.domain(f"{robot}-gravity-x0p37")
    assert domain == shiftgym.make_domain(robot, "gravity", level=0.37)
    assert domain.slug == f"{robot}-gravity-x0p37" and domain.family == "custom"
    assert build_model(domain).opt.gravity[2] == pytest.approx(-9.81 * 0.37, rel=1e-12)
    friction = build_model(shiftgym.domain(f"{robot}-friction-x0p37")).geom_friction
    base = build_model(shiftgym.domain(robot)).geom_friction
    np.testing.assert_allclose(friction[:, 0], 0.37 * base[:, 0], rtol=1e-12)


def test_named_levels_are_continuous_too():
    domain = shiftgym.make_domain("hopper", "kinematic-footjnt", level=0.65)
    limit = build_model(domain).joint("foot_joint").range
    np.testing.assert_allclose(limit, np.radians([-45 * 0.65, 45 * 0.65]), rtol=1e-12)


@pytest.mark.parametrize("level", [0.1, 0.5, 2, 5.0])
def test_a_published_scale_given_as_a_number_is_the_catalogue_domain(level: float):
    token = f"x{level:g}".replace(".", "p")
    assert (
        shiftgym.make_domain("ant", "friction", level=level) is CATALOGUE[f"ant-friction-{token}"]
    )


def test_a_domain_of_ones_own_changes_the_model_and_survives_json():
    domain = shiftgym.make_domain("hopper", SLIPPERY, name="slippery")
    assert (domain.slug, domain.env_id, domain.family) == (
        "hopper-slippery",
        "ShiftHopper-v0",
        "custom",
    )
    model, base = build_model(domain), build_model(shiftgym.domain("hopper"))
    assert differing(model, base) == {"geom_friction"}
    np.testing.assert_allclose(model.geom("foot_geom").friction, [0.6, 0.005, 0.0001])
    rebuilt = from_kwargs(**json.loads(json.dumps(domain.kwargs())))
    assert rebuilt == domain
    env = domain.make()
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert again.unwrapped.domain == domain
    assert not differing(again.unwrapped.model, env.unwrapped.model)


def test_nested_tables_and_dotted_keys_mean_the_same():
    nested = {"geom": {"foot_geom": {"friction": {"scale": 0.3, "index": [0]}}}}
    assert shiftgym.make_domain("hopper", nested) == shiftgym.make_domain("hopper", SLIPPERY)


TOML = """
format = 1
[hopper.slippery]
geom.foot_geom.friction = { scale = 0.3, index = [0] }
[hopper.heavy]
levels = { mild = 1.5, strong = 3.0 }
option.gravity = { scale = "level" }
at.strong.joint.foot_joint.range = [-10.0, 10.0]
[door.weak-finger]
joint."FFJ[0-3]".range = { scale = 0.1 }
"""


def test_a_toml_file_holds_domains_of_ones_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(TOML)
    found = shiftgym.load_domains(path)
    assert list(found) == [
        "hopper-slippery", "hopper-heavy-mild", "hopper-heavy-strong", "door-weak-finger"
    ]  # fmt: skip
    assert found["hopper-slippery"] == shiftgym.make_domain("hopper", SLIPPERY, name="slippery")
    assert shiftgym.domain(f"{path}:hopper-heavy-strong") == found["hopper-heavy-strong"]
    strong = build_model(found["hopper-heavy-strong"])
    assert strong.opt.gravity[2] == pytest.approx(-9.81 * 3)
    np.testing.assert_allclose(strong.joint("foot_joint").range, np.radians([-10, 10]))
    mild = build_model(found["hopper-heavy-mild"])
    np.testing.assert_allclose(mild.joint("foot_joint").range, np.radians([-45, 45]))
    observation, _ = found["door-weak-finger"].make().reset(seed=0)
    assert observation.shape == (39,)

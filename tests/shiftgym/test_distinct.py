"""Test that no two domains of a robot are secretly the same dynamics."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from shiftgym_helpers import CATALOGUE, ROBOTS, domains_of, random_actions

import shiftgym

STEPS = 200
DIFFERENT = 1e-3  # of an observed component (rad, m, or per second) at some step

SEED = 1  # the hopper falls; with some seeds, 0 among them, it never bends its knee by 75 degrees

SAME: dict[frozenset[str], str] = {}  # pairs that never differ, with the reason


def trajectory(domain: shiftgym.Domain) -> np.ndarray:
    """Step from a seeded state, the same for all; terminal states do not stop it."""
    env = domain.make(disable_env_checker=True).unwrapped
    found = [env.reset(seed=SEED)[0]]
    start = CATALOGUE[domain.robot].make().unwrapped
    start.reset(seed=SEED)
    np.testing.assert_array_equal(env.data.qpos, start.data.qpos)
    np.testing.assert_array_equal(env.data.qvel, start.data.qvel)
    for action in random_actions(env.action_space.shape, STEPS, SEED):
        found.append(env.step(action)[0])
    return np.stack(found)


def same_pairs(domains: list[shiftgym.Domain]) -> set[frozenset[str]]:
    """Find the pairs whose observations never differ."""
    observed = {domain.slug: trajectory(domain) for domain in domains}
    return {
        frozenset({a, b})
        for a, b in combinations(observed, 2)
        if not np.abs(observed[a][1:] - observed[b][1:]).max() > DIFFERENT
    }


@pytest.mark.parametrize("robot", ROBOTS)
def test_any_two_domains_differ_within_200_random_steps(robot: str):
    listed = {pair for pair in SAME if all(slug.split("-")[0] == robot for slug in pair)}
    assert same_pairs(domains_of(robot)) == listed


def test_a_domain_does_not_differ_from_itself():
    copied = shiftgym.make_domain("hopper", {"option.gravity": {"scale": 1.0}}, name="copied")
    assert same_pairs([CATALOGUE["hopper"], copied]) == {frozenset({"hopper", "hopper-copied"})}

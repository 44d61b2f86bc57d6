"""Test the rule that tells terminal observations against the simulator that ends episodes."""

from __future__ import annotations

import numpy as np
import pytest
from shiftgym_helpers import ROBOTS, domains_of

import shiftgym
from shiftgym.envs.tasks import TASKS

STEPS, ENVS = 1300, 8


@pytest.mark.parametrize("robot", ROBOTS)
def test_observations_tell_what_the_simulator_says(robot: str) -> None:
    """Compare on over 10,000 random transitions in every kind of domain of a robot."""
    domains = [domains_of(robot)[k % len(domains_of(robot))] for k in range(ENVS)]
    env = shiftgym.make_vec(domains)
    observations = [env.reset(seed=0)[0]]
    ended = [np.zeros(ENVS, bool)]
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        seen, _, terminated, _, _ = env.step(rng.uniform(-1, 1, env.action_space.shape))
        observations.append(seen)
        ended.append(terminated)
    env.close()
    found = TASKS[robot].terminal(np.stack(observations))
    assert found.size > 10_000 and np.array_equal(found, np.stack(ended))
    assert found.any() == (robot not in ("halfcheetah", "door"))


def test_only_hoppers_guard_of_velocities_is_out_of_sight() -> None:
    env = shiftgym.domain("hopper").make().unwrapped
    env.reset(seed=0)
    velocities = np.zeros(6)
    for speed, ends in ((99.0, False), (101.0, True)):
        velocities[3] = speed
        env.set_state(env.data.qpos.copy(), velocities)
        assert env.task.terminated(env.sims).item() == ends
        assert not env.task.terminal(env.observe())
    env.close()


@pytest.mark.parametrize("robot", ROBOTS)
def test_tensors_longer_observations_and_numbers_out_of_range(robot: str) -> None:
    torch = pytest.importorskip("torch")
    task = TASKS[robot]
    rng = np.random.default_rng(1)
    some = 3 * rng.normal(size=(2, 500, task.observation_size))
    some[0, :3] = [[np.nan], [np.inf], [1e6]]
    found = task.terminal(some)
    assert found.shape == (2, 500) and found.dtype == bool
    assert np.array_equal(task.terminal(torch.from_numpy(some)).numpy(), found)
    longer = np.concatenate([some, np.zeros((2, 500, 4))], 2)
    assert np.array_equal(task.terminal(longer), found)
    if robot in ("hopper", "walker2d", "ant"):
        assert found[0, :3].all()

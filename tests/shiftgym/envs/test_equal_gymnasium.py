"""Test the unshifted robots against Gymnasium's and gymnasium-robotics' own environments."""

from __future__ import annotations

import gymnasium as gym
import gymnasium_robotics  # noqa: F401  registers AdroitHandPen-v1 and AdroitHandDoor-v1
import numpy as np
import pytest

import shiftgym  # noqa: F401  registers the ids

V4 = {"ShiftHopper-v0": "Hopper-v4", "ShiftWalker2d-v0": "Walker2d-v4",
      "ShiftHalfCheetah-v0": "HalfCheetah-v4", "ShiftAnt-v0": "Ant-v4"}  # fmt: skip
STEPS = 2500
ADROIT_EPISODES = 5
PEN_HEIGHT = 26  # of an observation's components
PALM_MINUS_HANDLE = slice(35, 38)
outdated = pytest.mark.filterwarnings("ignore:.*environment.*out of date.*:DeprecationWarning")


def actions_of(env: gym.Env, steps: int) -> np.ndarray:
    """Draw actions of which a few are out of range, as a noisy policy's are."""
    shape = (steps, *env.action_space.shape)
    return np.random.default_rng(0).uniform(-1.05, 1.05, shape).astype(np.float32)


@outdated
@pytest.mark.parametrize("ours", V4)
def test_unshifted_locomotion_equals_gymnasium_v4_bit_for_bit(ours: str):
    env, base = gym.make(ours, physics="installed"), gym.make(V4[ours], disable_env_checker=True)
    assert env.observation_space == base.observation_space
    assert env.action_space == base.action_space
    assert env.unwrapped.dt == base.unwrapped.dt
    np.testing.assert_array_equal(env.reset(seed=0)[0], base.reset(seed=0)[0])
    ends = 0
    for action in actions_of(env, STEPS):
        observation, reward, terminated, truncated, info = env.step(action)
        expected = base.step(action)
        np.testing.assert_array_equal(observation, expected[0])
        assert (reward, terminated, truncated) == expected[1:4]
        assert info["x_position"] == expected[4]["x_position"]
        assert info["x_velocity"] == expected[4]["x_velocity"]
        if terminated or truncated:
            ends += 1
            np.testing.assert_array_equal(env.reset()[0], base.reset()[0])
    assert ends >= 2


@outdated
def test_the_physics_of_the_published_data_is_another():
    env, base = gym.make("ShiftHopper-v0"), gym.make("Hopper-v4", disable_env_checker=True)
    np.testing.assert_array_equal(env.reset(seed=0)[0], base.reset(seed=0)[0])
    action = np.full(3, 0.5, np.float32)
    assert np.abs(env.step(action)[0] - base.step(action)[0]).max() > 1e-3


def adroit_episodes(ours: str, theirs: str):
    """Step both environments side by side, over whole episodes of the base environment."""
    env, base = gym.make(ours, physics="installed"), gym.make(theirs)
    assert env.observation_space.shape == base.observation_space.shape
    assert env.action_space == base.action_space
    actions = iter(actions_of(env, 200 * ADROIT_EPISODES))
    for episode in range(ADROIT_EPISODES):
        seed = episode if episode < 3 else None  # later targets come from the running generator
        first, expected = env.reset(seed=seed)[0], base.reset(seed=seed)[0]
        np.testing.assert_allclose(first, expected, rtol=0, atol=1e-10)
        for step in range(200):
            action = next(actions)
            yield step, env.step(action), base.step(action)


def test_pen_equals_gymnasium_robotics_but_for_ending_when_the_pen_is_dropped():
    drops = 0
    for step, ours, theirs in adroit_episodes("ShiftPen-v0", "AdroitHandPen-v1"):
        np.testing.assert_allclose(ours[0], theirs[0], rtol=0, atol=1e-10)
        assert ours[1] == pytest.approx(theirs[1], abs=1e-10)
        assert ours[2] == (ours[0][PEN_HEIGHT] < 0.075) and not theirs[2]
        assert ours[3] == theirs[3] == (step == 199)
        assert ours[4]["success"] == theirs[4]["success"]
        drops += ours[2]
    assert drops > 0


def test_door_equals_gymnasium_robotics_but_for_the_sign_of_the_distance_to_the_handle():
    for step, ours, theirs in adroit_episodes("ShiftDoor-v0", "AdroitHandDoor-v1"):
        np.testing.assert_allclose(ours[0], theirs[0], rtol=0, atol=1e-10)
        distance = np.linalg.norm(ours[0][PALM_MINUS_HANDLE])
        assert ours[1] - theirs[1] == pytest.approx(-0.2 * distance, abs=1e-10)
        assert distance > 1e-3
        assert not ours[2] and not theirs[2]
        assert ours[3] == theirs[3] == (step == 199)
        assert ours[4]["success"] == theirs[4]["success"]
    # opened: bonuses and success
    env, base = gym.make("ShiftDoor-v0", physics="installed"), gym.make("AdroitHandDoor-v1")
    for hinge in (0.1, 0.3, 1.1, 1.4):
        env.reset(seed=1)
        base.reset(seed=1)
        qpos, qvel = base.unwrapped.data.qpos.copy(), base.unwrapped.data.qvel.copy()
        qpos[-2] = hinge
        env.unwrapped.set_state(qpos, qvel)
        base.unwrapped.set_state(qpos, qvel)
        still = np.zeros(28, np.float32)
        ours, theirs = env.step(still), base.step(still)
        np.testing.assert_allclose(ours[0], theirs[0], rtol=0, atol=1e-10)
        distance = np.linalg.norm(ours[0][PALM_MINUS_HANDLE])
        assert ours[1] - theirs[1] == pytest.approx(-0.2 * distance, abs=1e-10)
        assert ours[4]["success"] == theirs[4]["success"] == (hinge == 1.4)

"""Test reset's options and scenes given by the user, against gymnasium-robotics and singles."""

from __future__ import annotations

import gymnasium as gym
import gymnasium_robotics  # noqa: F401  registers AdroitHandPen-v1 and AdroitHandDoor-v1
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from shiftgym_helpers import ADROIT, ROBOTS, assert_same, random_actions

import shiftgym
from shiftgym import ShiftgymError

THEIRS = {"pen": "AdroitHandPen-v1", "door": "AdroitHandDoor-v1"}
GOAL = {"pen": "desired_orien", "door": "door_body_pos"}


def scene_from(robot: str, seed: int) -> dict[str, np.ndarray]:
    """Give a scene in the middle of an episode."""
    env = shiftgym.domain(robot).make().unwrapped
    env.reset(seed=seed)
    for action in random_actions(env.action_space.shape, 4, seed):
        env.step(action)
    return env.get_env_state()


@pytest.mark.parametrize("how", ["reset", "set_env_state", "set_state"])
@pytest.mark.parametrize("robot", ADROIT)
def test_a_hand_is_put_into_a_scene_as_in_gymnasium_robotics(robot: str, how: str):
    ours = shiftgym.domain(robot).make(physics="installed").unwrapped
    theirs = gym.make(THEIRS[robot]).unwrapped
    theirs.reset(seed=5)
    for action in random_actions(theirs.action_space.shape, 4):
        theirs.step(action)
    scene = theirs.get_env_state()
    expected, _ = theirs.reset(seed=6, options={"initial_state_dict": scene})
    if how == "reset":
        observation, _ = ours.reset(seed=6, options={"initial_state_dict": scene})
    else:
        ours.reset(seed=6)
        if how == "set_state":
            ours.set_state(scene["qpos"], scene["qvel"], **{GOAL[robot]: scene[GOAL[robot]]})
        else:
            ours.set_env_state(scene)
        observation = ours.observe()
    np.testing.assert_allclose(observation, expected, rtol=0, atol=1e-10)
    assert_same(ours.get_env_state(), dict(scene))
    for action in random_actions(theirs.action_space.shape, 3, 1):
        np.testing.assert_allclose(ours.step(action)[0], theirs.step(action)[0], atol=1e-8)


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_scene_restores_an_observation_of_another_episode(robot: str):
    scene = scene_from(robot, 1)
    found = []
    for seed in (2, 3):
        env = shiftgym.domain(robot).make()
        found.append(env.reset(seed=seed, options={"initial_state_dict": scene})[0])
        assert_same(env.unwrapped.get_env_state(), scene)
        reset = env.reset(options=None)[0]
        assert not np.array_equal(reset, found[-1])
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("robot", ROBOTS)
def test_sub_environments_start_from_scenes_as_single_ones_do(robot: str, rows: bool):
    domain, scenes = shiftgym.domain(robot), [scene_from(robot, 1)] * 3
    envs = domain.make_vec(3, autoreset_mode="disabled")
    singles = [domain.make() for _ in range(3)]
    if rows:
        scenes = [scene_from(robot, seed) for seed in range(3)]
        given = {name: np.stack([scene[name] for scene in scenes]) for name in scenes[0]}
    else:
        given = scenes[0]
    envs.reset(seed=7)
    for row, env in enumerate(singles):
        env.reset(seed=7 + row)
    mask = np.array([True, False, True])
    options = {"initial_state_dict": given, "reset_mask": mask}
    found = envs.reset(seed=20, options=options)[0]
    for row in (0, 2):
        expected = singles[row].reset(seed=20 + row, options={"initial_state_dict": scenes[row]})[0]
        np.testing.assert_array_equal(found[row], expected)
    for actions in random_actions(envs.action_space.shape, 3):
        observations, rewards, *_ = envs.step(actions)
        results = [env.step(action) for env, action in zip(singles, actions, strict=True)]
        np.testing.assert_array_equal(observations, [r[0] for r in results])
        np.testing.assert_array_equal(rewards, [r[1] for r in results])
    assert set(options) == {"initial_state_dict", "reset_mask"}  # left as they were


def test_options_reach_gymnasiums_vector_environment_too():
    domain, scene = shiftgym.domain("pen"), scene_from("pen", 1)
    envs = domain.make_vec(2)
    reference = SyncVectorEnv([domain.make] * 2, autoreset_mode=AutoresetMode.NEXT_STEP)
    options = {"initial_state_dict": scene}
    assert_same(envs.reset(seed=1, options=options), reference.reset(seed=1, options=options))


@pytest.mark.parametrize("wrong", ["mask", "reset_maks", "initial_state", "low"])
def test_unknown_reset_options_are_refused_by_name(wrong: str):
    env = shiftgym.domain("hopper").make()
    envs = shiftgym.make_vec("hopper", 3, autoreset_mode="disabled")
    for made, valid in ((env, "initial_state_dict"), (envs, "initial_state_dict.*, reset_mask")):
        made.reset(seed=0)
        made.step(made.action_space.sample())
        before = made.unwrapped.get_state()
        with pytest.raises(ShiftgymError, match=f"option '{wrong}'.*Valid choices: .*{valid}"):
            made.reset(options={wrong: np.array([True, False, False])})
        assert_same(made.unwrapped.get_state(), before)
    with pytest.raises(ShiftgymError, match="Did you mean 'reset_mask'"):
        envs.reset(options={"mask": np.array([True, False, False])})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"desired_orien": None}, "lacks 'desired_orien'; it is made of qpos, qvel, desired_orien"),
        ({"desired_orient": np.ones(4)}, "'desired_orient'. Did you mean 'desired_orien'"),
        ({"qpos": np.zeros(29)}, r"qpos has shape \(29,\), expected \(30,\)"),
        ({"desired_orien": np.ones(3)}, r"desired_orien has shape \(3,\), expected \(4,\)"),
        ({"qvel": np.full(30, np.nan)}, "qvel must be finite; found nan"),
        ({"qvel": ["a"] * 30}, "qvel must be numbers"),
    ],
)
def test_a_scene_that_does_not_fit_is_refused_before_anything_moves(changes: dict, said: str):
    scene = {k: v for k, v in (scene_from("pen", 0) | changes).items() if v is not None}
    env = shiftgym.domain("pen").make().unwrapped
    env.reset(seed=0)
    before = env.get_state()
    for put in (
        lambda: env.reset(options={"initial_state_dict": scene}),
        lambda: env.set_env_state(scene),
        lambda: env.set_state(scene),
    ):
        with pytest.raises(ShiftgymError, match=said):
            put()
    assert_same(env.get_state(), before)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((np.zeros(5), np.zeros(6)), r"qpos has shape \(5,\), expected \(6,\)"),
        ((np.zeros(6),), "qvel must be numbers|qvel has shape"),
        (({"integration": np.zeros(3)},), "does not fit"),
        (({},), "lacks 'qpos'"),
    ],
)
def test_states_that_do_not_fit_are_refused(arguments: tuple, said: str):
    env = shiftgym.domain("hopper").make().unwrapped
    env.reset(seed=0)
    with pytest.raises(ShiftgymError, match=said):
        env.set_state(*arguments)
    whole = env.get_state()
    del whole["x"]
    with pytest.raises(ShiftgymError, match="lacks 'x'"):
        env.set_state(whole)

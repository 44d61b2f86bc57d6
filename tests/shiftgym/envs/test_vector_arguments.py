"""Test every argument of ``gymnasium.make_vec`` against Gymnasium's own vector environment."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from shiftgym_helpers import assert_same, random_actions

import shiftgym
from shiftgym import ShiftgymError
from shiftgym.envs.sub import CALLABLE, READABLE
from shiftgym.envs.vector import ShiftVectorEnv

ID = "ShiftHopper-kinematic-v0"
OWN_OBJECTS = {"data", "model", "task"}  # compared elsewhere, by what they hold


def both(**arguments) -> tuple[gym.vector.VectorEnv, gym.vector.VectorEnv]:
    """Make the native vector environment and Gymnasium's of the same arguments."""
    arguments = {"id": ID, "num_envs": 2, **arguments}
    ours = gym.make_vec(**arguments)
    assert isinstance(ours.unwrapped, ShiftVectorEnv)
    return ours, gym.make_vec(**arguments, vectorization_mode="sync")


def run(envs: gym.vector.VectorEnv, steps: int) -> list:
    found = [envs.reset(seed=3)]
    return found + [envs.step(a) for a in random_actions(envs.action_space.shape, steps)]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"num_envs": 1},
        {"num_envs": 3},
        {"id": gym.spec(ID)},
        {"id": f"shiftgym:{ID}"},
        {"max_episode_steps": 5},
        {"max_episode_steps": 1},
        {"max_episode_steps": -1},
        {"max_episode_steps": None},
        {"physics": "installed"},
        {"shift": "friction-x0p37"},
        {"shift": None},
        {"shift": {"name": "low", "edits": {"option.gravity": [0, 0, -5]}}},
        {"disable_env_checker": True},
        {"disable_env_checker": False},
        {"disable_env_checker": None},
        {"render_mode": None},
        {"render_mode": "rgb_array", "width": 32, "height": 32, "camera_id": -1},
        {"render_mode": "depth_array", "camera": {"distance": 9.0}, "max_geom": 500},
    ],
    ids=str,
)
def test_an_argument_means_what_it_means_to_gymnasium(arguments: dict):
    ours, theirs = both(**arguments)
    assert_same(run(ours, 12), run(theirs, 12))
    assert ours.render_mode == theirs.render_mode
    assert ours.spec is not None and theirs.spec is not None
    assert ours.spec.max_episode_steps == theirs.spec.max_episode_steps


@pytest.mark.parametrize(("given", "ends"), [({}, 200), ({"max_episode_steps": None}, 200),
                                             ({"max_episode_steps": -1}, None)])  # fmt: skip
def test_the_time_limit_may_be_the_robots_own_or_none(given: dict, ends: int | None):
    ours, theirs = both(id="ShiftDoor-v0", num_envs=1, **given)
    assert ours.unwrapped.max_episode_steps == ends  # type: ignore[attr-defined]
    for envs in (ours, theirs):
        envs.reset(seed=0)
        idle = np.zeros(envs.action_space.shape, np.float32)
        cut = [step for step in range(1, 211) if envs.step(idle)[3].any()]
        assert cut == ([] if ends is None else [ends])


@pytest.mark.filterwarnings("ignore:.*render_mode")
@pytest.mark.parametrize(
    "arguments",
    [
        {"max_episode_steps": 0},
        {"max_episode_steps": -2},
        {"max_episode_steps": 2.5},
        {"max_episode_steps": "5"},
        {"nonsense": 1},
        {"camera": {"distanse": 3.0}},
        {"physics": "instaled"},
        {"shift": "kinematc"},
        {"render_mode": "rgb_aray"},
    ],
    ids=str,
)
def test_what_gymnasium_refuses_is_refused(arguments: dict):
    with pytest.raises((ShiftgymError, TypeError, ValueError, AssertionError)):
        made = gym.make_vec(ID, 2, vectorization_mode="sync", **arguments)
        made.reset(seed=0)
    with pytest.raises(ShiftgymError):
        gym.make_vec(ID, 2, **arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"widht": 64}, "Unknown argument 'widht'. Did you mean 'width'?"),
        ({"camera": {"distanse": 3.0}}, "setting of the camera 'distanse'. Did you mean 'distance"),
        ({"camera_name": "trak"}, "Unknown camera_name 'trak'. Did you mean 'track'?"),
        ({"camera_id": 7}, "Unknown camera_id 7: -1 is the free camera, 0 to 0 are track"),
        ({"camera_id": 0, "camera_name": "track"}, "camera_name or camera_id, not both"),
    ],
)
def test_a_misspelt_argument_is_named_in_both_environments(arguments: dict, said: str):
    for make in (gym.make, gym.make_vec):
        with pytest.raises(ShiftgymError, match=said.replace("?", r"\?")):
            make(ID, render_mode="rgb_array", **arguments)


def test_attributes_of_sub_environments_are_those_of_gymnasiums():
    ours, theirs = both()
    for envs in (ours, theirs):
        envs.reset(seed=4)
        envs.step(np.full(envs.action_space.shape, 0.3, np.float32))
    for name in set(READABLE) - OWN_OBJECTS:
        mine, other = ours.get_attr(name), theirs.get_attr(name)
        if name == "np_random":
            mine, other = ([rng.bit_generator.state for rng in rngs] for rngs in (mine, other))
        assert list(mine) == list(other), name
        assert len(ours.call(name)) == 2
    for name in set(CALLABLE) - {"render"}:
        assert_same(ours.call(name), theirs.call(name))
    np.testing.assert_array_equal(ours.get_attr("data")[1].qpos, theirs.get_attr("data")[1].qpos)
    assert ours.get_attr("model")[1].nq == 6


def test_pictures_of_sub_environments_can_be_called_for(gl: str):
    envs = gym.make_vec(ID, 2, render_mode="rgb_array", width=32, height=32)
    envs.reset(seed=0)
    assert_same(envs.call("render"), envs.render())
    envs.close()


def test_attributes_that_sub_environments_lack_are_named():
    envs = shiftgym.make_vec("hopper", 2)
    with pytest.raises(ShiftgymError, match="no 'domian'. Did you mean 'domain'"):
        envs.get_attr("domian")
    with pytest.raises(ShiftgymError, match="Cannot set 'gravity': sub-environments are rows"):
        envs.set_attr("gravity", [1, 2])

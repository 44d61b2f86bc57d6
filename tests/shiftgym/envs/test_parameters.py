"""Parameters that change: as a domain of that level, alone and among others, drawn, kept."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from shiftgym_helpers import ROBOTS, assert_same, differing, random_actions, rollout

import shiftgym
from shiftgym import DomainError, ShiftgymError
from shiftgym.envs.parameters import DIRECT, edits_of, families

RANGES = {"friction": (0.3, 3), "gravity": (0.5, 1.5)}
TARGET = "geom.foot_geom.size"
FIXED: list[tuple[str, str, float]] = [  # domain, parameter, factor
    ("hopper", "friction", 0.37),
    ("hopper-kinematic", "gravity", 0.8),
    ("hopper-friction-x0p5", "friction", 3.0),
    ("hopper", TARGET, 0.9),
    ("walker2d", "kinematic-footjnt", 0.4),
    ("halfcheetah-morph", "friction", 2.0),
    ("ant", "morph-alllegs", 0.65),
    ("ant", "friction", 0.2),
    ("pen", "kinematic", 0.3),
    ("door", "body.ffmiddle.pos", 0.9),
]


def fixed(slug: str, values: dict[str, float]) -> shiftgym.Domain:
    """Make the domain that has these factors for good."""
    of = shiftgym.domain(slug)
    edits = tuple(e for name, value in values.items() for e in edits_of(of.robot, name, value))
    twice = {edit.target for edit in of.edits}  # JSON keeps one of two that are spelt alike
    edits = tuple(replace(e, name=f"({e.name}|-)") if e.target in twice else e for e in edits)
    return shiftgym.Domain(of.robot, "fixed", of.edits + edits)


def run(env: Any, steps: int = 25, **options: Any) -> list:
    """Roll out from seed 3, without infos."""
    env = env.unwrapped
    found: list[Any] = [env.reset(seed=3, options=options)[0]]
    found += [env.step(a)[:4] for a in random_actions(env.action_space.shape, steps)]
    return found


def test_one_family_given_to_reset_is_the_domain_that_make_domain_makes():
    made = shiftgym.make_domain("hopper", "friction", level=0.37).make()
    given = gym.make("ShiftHopper-v0")
    assert_same(run(given, friction=0.37), run(made))
    assert differing(given.unwrapped.model, made.unwrapped.model) == set()
    assert given.unwrapped.reset(options={"friction": 0.37})[1] == {"friction": 0.37}
    assert given.unwrapped.step(np.zeros(3))[4]["friction"] == 0.37
    assert given.unwrapped.reset()[1] == {} == given.unwrapped.parameters
    plain = gym.make("ShiftHopper-v0")
    assert_same(run(given), run(plain))
    assert differing(given.unwrapped.model, plain.unwrapped.model) == set()


@pytest.mark.parametrize(("slug", "name", "factor"), FIXED)
def test_single_and_vector_equal_the_fixed_domain_bit_for_bit(slug: str, name: str, factor: float):
    declared = {} if name in families(shiftgym.domain(slug).robot) else {name: (0.1, 5)}
    where = shiftgym.domain(slug)
    env = where.make(randomize=declared) if declared else where.make()
    expected = run(fixed(slug, {name: factor}).make())
    env.reset(seed=9)
    assert_same(run(env, **{name: factor}), expected)
    reference = fixed(slug, {name: factor}).make().unwrapped
    reference.reset(seed=3)
    env.unwrapped.reset(seed=3, options={name: factor})
    assert differing(env.unwrapped.model, reference.model) == set()
    options: dict[str, Any] = {"randomize": declared} if declared else {}
    envs = where.make_vec(3, autoreset_mode="disabled", **options)
    envs.reset(seed=0)
    many = {name: np.array([1.0, factor, 1.0])}
    first, infos = envs.reset(seed=[0, 3, 0], options=many)
    np.testing.assert_array_equal(first[1], expected[0])
    np.testing.assert_array_equal(infos[name], many[name])
    for action, (obs, reward, *_) in zip(
        random_actions(env.action_space.shape, 25), expected[1:], strict=True
    ):
        found = envs.step(np.repeat(action[None], 3, 0))
        np.testing.assert_array_equal(found[0][1], obs)
        assert found[1][1] == reward
        if found[2].any():
            break


@pytest.mark.parametrize("robot", ROBOTS)
def test_what_is_written_directly_is_all_that_compiling_changes(robot: str):
    for (kind, attribute), field in DIRECT.items():
        target = f"{kind}.{attribute}" if kind == "option" else f"{kind}..*.{attribute}"
        of = shiftgym.Domain(robot, "x", edits_of(robot, target, 0.7))
        changed = differing(
            shiftgym.domain(robot).make().unwrapped.model, of.make().unwrapped.model
        )
        assert changed == {field}


def step_and_reset(envs: Any, actions: np.ndarray, mode: str) -> list:
    results = list(envs.step(actions))
    ended = results[2] | results[3]
    if mode == "disabled" and ended.any():
        results += envs.reset(options={"reset_mask": ended.copy(), "gravity": 0.9})
    return results


@pytest.mark.parametrize("mode", ["next_step", "same_step", "disabled"])
@pytest.mark.parametrize("every", [None, 7])
def test_a_vector_environment_equals_singles_bit_for_bit(mode: str, every: int | None):
    slugs = ["hopper", "hopper-kinematic", "hopper-friction-x2", "hopper"]
    compiled = {TARGET: (0.9, 1.1)} if mode == "next_step" else {}  # dear: one mode has it
    options: dict[str, Any] = {"randomize": {**RANGES, **compiled}}
    options |= {"randomize_every": every, "observe_parameters": True, "max_episode_steps": 20}
    envs = shiftgym.make_vec(slugs, autoreset_mode=mode, **options)
    makers = [lambda slug=slug: shiftgym.domain(slug).make(**options) for slug in slugs]
    reference = SyncVectorEnv(makers, autoreset_mode=AutoresetMode[mode.upper()])
    assert envs.single_observation_space == reference.single_observation_space
    assert_same(envs.reset(seed=5), reference.reset(seed=5))
    seen = set()
    for step, actions in enumerate(random_actions(envs.action_space.shape, 45)):
        ours = step_and_reset(envs, actions, mode)
        assert_same(ours, step_and_reset(reference, actions, mode), f"step {step}")
        seen |= set(ours[0][:, 11])
    assert len(seen) > (20 if every else 6)
    assert_same(envs.get_attr("parameters"), reference.get_attr("parameters"))
    assert_same(envs.call("observe")[1], reference.envs[1].unwrapped.observe())


def test_a_drawn_level_leaves_the_rest_of_the_episode_as_it_is_without_draws():
    env = gym.make("ShiftWalker2d-v0", randomize={"friction": (0.3, 3)})
    found = run(env)
    level = env.unwrapped.parameters["friction"]
    assert 0.3 <= level <= 3
    assert_same(found, run(fixed("walker2d", {"friction": level}).make()))


def levels(env: Any, episodes: int, seed: int | None) -> list[float]:
    return [env.reset(seed=seed if k == 0 else None)[1]["friction"] for k in range(episodes)]


def test_seeds_repeat_draws_which_fill_the_range():
    env = gym.make("ShiftHopper-v0", randomize={"friction": (0.5, 2)})
    found = levels(env, 200, 4)
    assert found == levels(gym.make("ShiftHopper-v0", randomize={"friction": (0.5, 2)}), 200, 4)
    assert found != levels(env, 200, 5)
    assert 0.5 <= min(found) < 0.55 and 1.95 < max(found) <= 2
    assert abs(np.mean(found) - 1.25) < 4 * 1.5 / np.sqrt(12 * 200)
    held, _ = env.reset(seed=4, options={"friction": 0.25})  # beyond the range, for one episode
    assert env.unwrapped.parameters == {"friction": 0.25}
    assert levels(env, 3, None) == found[1:4]


def test_values_change_every_so_many_steps_and_are_told():
    options: dict[str, Any] = {"randomize": RANGES, "randomize_every": 5}
    env = gym.make("ShiftHalfCheetah-v0", observe_parameters=True, **options)
    observation, info = env.reset(seed=0)
    told = [info["friction"]]
    for _ in range(20):
        seen = observation[17:]
        observation, *_, info = env.step(env.action_space.sample())
        told.append(info["friction"])
        # a step is made with what the observation before it showed
        np.testing.assert_array_equal(seen, [info["friction"], info["gravity"]])
    assert [told[k] for k in (0, 5, 10, 15)] == [told[k] for k in (1, 1, 6, 11)]
    assert len(set(told)) == 4
    env.reset(options={"friction": 0.4})
    given = [env.step(env.action_space.sample())[4] for _ in range(12)]
    assert {each["friction"] for each in given} == {0.4}
    assert len({each["gravity"] for each in given}) == 3
    env.unwrapped.set_parameters({"gravity": 1.25})
    given = [env.step(env.action_space.sample())[4] for _ in range(7)]
    assert {each["gravity"] for each in given} == {1.25}


@pytest.mark.parametrize("how", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
@pytest.mark.parametrize("every", [None, 4])
def test_copies_and_states_go_on_alike(every: int | None, how: Any):
    options: dict[str, Any] = {"randomize": RANGES, "randomize_every": every}
    env = shiftgym.domain("hopper-morph").make(max_episode_steps=30, **options)
    rollout(env, 1, 7)
    other = shiftgym.domain("hopper-morph").make(max_episode_steps=30, **options)
    rollout(other, 8, 7)  # seven steps into an episode, too
    copied, state = how(env), env.unwrapped.get_state()
    assert copied.unwrapped.parameters == env.unwrapped.parameters
    other.unwrapped.set_state(state)
    assert_same(other.unwrapped.get_state(), state)
    expected = rollout(env, None, 60, actions_seed=1)
    assert_same(rollout(copied, None, 60, actions_seed=1), expected)
    assert_same(rollout(other, None, 60, actions_seed=1), expected)

    envs, again = (shiftgym.make_vec("hopper", 3, **options) for _ in range(2))
    envs.reset(seed=1)
    actions = random_actions(envs.action_space.shape, 50)
    for action in actions[:6]:
        envs.step(action)
    copies, state = how(envs), envs.get_state()
    again.set_state(state)
    assert_same(again.get_state(), state)
    expected = [envs.step(action) for action in actions]
    assert_same([copies.step(action) for action in actions], expected)
    assert_same([again.step(action) for action in actions], expected)


def test_a_given_level_is_in_states_and_a_state_without_it_is_of_the_domain_itself():
    env, other = (gym.make("ShiftHopper-v0").unwrapped for _ in range(2))
    env.reset(seed=0)
    plain = env.get_state()
    assert set(plain) == {"integration", "x", "rng"}
    other.reset(seed=1, options={"gravity": 0.5})
    half = other.get_state()
    env.set_state(half)
    assert env.parameters == {"gravity": 0.5} and env.model.opt.gravity[2] == -9.81 / 2
    other.set_state(plain)
    assert other.parameters == {} and other.model.opt.gravity[2] == -9.81
    envs = shiftgym.make_vec("hopper", 2)
    envs.reset(seed=0)
    plain = envs.get_state()
    envs.set_parameters({"gravity": [0.5, 2]})
    assert_same(envs.parameters, {"gravity": np.array([0.5, 2.0])})
    assert [m.opt.gravity[2] for m in envs.get_attr("model")] == [-4.905, -19.62]
    envs.set_state(plain)
    assert envs.parameters == {}
    random = gym.make("ShiftHopper-v0", randomize=RANGES).unwrapped
    with pytest.raises(ShiftgymError, match="The state lacks 'parameters'"):
        random.set_state(other.get_state())


def test_a_scene_stays_where_it_is_while_parameters_change():
    declared = {"body.target.pos": (0.9, 1.1), "kinematic": (0.5, 1)}
    env = gym.make("ShiftPen-v0", randomize=declared, randomize_every=1).unwrapped
    env.reset(seed=0)
    goal = env.get_env_state()["desired_orien"]
    assert goal[0] != 1
    for _ in range(3):
        env.step(np.zeros(24))
        np.testing.assert_array_equal(env.get_env_state()["desired_orien"], goal)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"randomize": {"fricton": (0.3, 3)}}, "Did you mean 'friction'"),
        ({"randomize": {"geom.fot.friction": (1, 2)}}, "no geom of the hopper matches 'fot'"),
        ({"randomize": {"geom.foot_geom.frict": (1, 2)}}, "no editable attribute 'frict'"),
        ({"randomize": {"friction": 3}}, r"needs \(lowest, highest\), factors from 0 to 100"),
        ({"randomize": {"friction": (3, 0.3)}}, r"needs \(lowest, highest\)"),
        ({"randomize": {"friction": (0, np.nan)}}, r"needs \(lowest, highest\)"),
        ({"randomize": {"geom.torso_geom.size": (0, 1)}}, "does not compile"),
        ({"randomize": ["friction"]}, "randomize is a dictionary"),
        ({"randomize_every": 5}, "randomize_every needs randomize"),
        ({"observe_parameters": True}, "observe_parameters needs randomize"),
        ({"randomize": RANGES, "randomize_every": 0}, "number of steps from 1"),
        ({"randomise": RANGES}, "Did you mean 'randomize'"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], says: str):
    for make in (gym.make, lambda name, **given: gym.make_vec(name, 2, **given)):
        with pytest.raises(ShiftgymError, match=says):
            make("ShiftHopper-v0", **arguments)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"fricton": 0.5}, "Did you mean 'friction'"),
        ({"geom.foot_geom.friction": 0.5}, "Declare it: randomize={'geom.foot_geom.friction'"),
        ({"friction": "low"}, "friction must be a factor"),
        ({"friction": -1}, "friction must be a factor"),
        ({"friction": 101}, "friction must be a factor"),
        ({"friction": [0.5, 1, 2]}, "friction must be a factor"),
        ({"friction": [[1], [1, 2]]}, "friction must be a factor"),
        ({"friction": np.nan}, "friction must be a factor"),
        ({"friction": True}, "friction must be a factor"),
    ],
)
def test_wrong_options_are_refused_and_nothing_is_reset(options: dict[str, Any], says: str):
    env, envs = gym.make("ShiftHopper-v0").unwrapped, shiftgym.make_vec("hopper", 2)
    for made in (env, envs):
        made.reset(seed=0)
        before = made.get_state()
        with pytest.raises(ShiftgymError, match=says):
            made.reset(seed=1, options=options)
        assert_same(made.get_state(), before)
    with pytest.raises(DomainError, match="no parameter 'kinematic' here. Did you mean"):
        env.set_parameters({"kinematic": 0.5})

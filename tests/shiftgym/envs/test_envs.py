"""Test every single environment: Gymnasium's contract, seeding, states, copies on disk."""

from __future__ import annotations

import json
import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.mujoco.utils import check_mujoco_reset_state
from gymnasium.utils.env_checker import check_env
from shiftgym_helpers import CATALOGUE, SLUGS, assert_same, rollout, run_python

import shiftgym
from shiftgym.describe import observation_names

ALLOWED_WARNINGS = (  # what check_env may say: observations are unbounded, as in the base ids
    "A Box observation space minimum value is -infinity",
    "A Box observation space maximum value is infinity",
)
STEPS = 25
SIZES = {"hopper": (11, 3), "walker2d": (17, 6), "halfcheetah": (17, 6), "ant": (27, 8),
         "pen": (45, 24), "door": (39, 28)}  # fmt: skip
REBUILD = """
import json, sys
import gymnasium as gym
import numpy as np

specs = json.load(open(sys.argv[1]))
assert not any(name.startswith("shiftgym") for name in sys.modules)
found = {}
for slug, text in specs.items():
    env = gym.make(gym.envs.registration.EnvSpec.from_json(text))
    total = [env.reset(seed=3)[0].tolist()]
    for step in range(3):
        action = np.full(env.action_space.shape, 0.1 * step, np.float32)
        observation, reward, *_ = env.step(action)
        total.append(observation.tolist() + [reward])
    found[slug] = total
print(json.dumps(found))
"""


def make(slug: str, **kwargs) -> gym.Env:
    return gym.make(CATALOGUE[slug].env_id, **kwargs)


@pytest.mark.parametrize("slug", SLUGS)
def test_environments_pass_gymnasiums_checker(slug: str):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(make(slug, disable_env_checker=True).unwrapped, skip_render_check=True)
    said = [str(warning.message) for warning in caught]
    assert not [s for s in said if not any(allowed in s for allowed in ALLOWED_WARNINGS)]


@pytest.mark.parametrize("slug", SLUGS)
def test_environments_are_made_and_stepped_without_a_warning(slug: str):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rollout(make(slug), 0, 3)


@pytest.mark.parametrize("slug", SLUGS)
def test_spaces_are_those_of_the_base_environment(slug: str):
    env = make(slug)
    observations, actions = SIZES[CATALOGUE[slug].robot]
    assert env.observation_space == gym.spaces.Box(-np.inf, np.inf, (observations,), np.float64)
    assert env.action_space == gym.spaces.Box(-1.0, 1.0, (actions,), np.float32)


@pytest.mark.parametrize("slug", SLUGS)
def test_observations_have_names(slug: str):
    env, names = make(slug), observation_names(slug)
    assert len(set(names)) == len(names) == env.observation_space.shape[0]
    model, data = env.unwrapped.model, env.unwrapped.data
    env.reset(seed=0)
    for k in range(model.njnt):  # a joint that is moved is seen where its name says
        joint = model.joint(k)
        for values, prefix in ((data.qpos, ""), (data.qvel, "d ")):
            if prefix + joint.name not in names:
                continue
            values[(joint.qposadr if not prefix else joint.dofadr)[0]] = 0.1234
            assert env.unwrapped.observe()[names.index(prefix + joint.name)] == 0.1234


@pytest.mark.parametrize("slug", SLUGS)
def test_the_same_seed_gives_the_same_trajectory_and_another_seed_another(slug: str):
    first = rollout(make(slug), 7, STEPS)
    assert_same(rollout(make(slug), 7, STEPS), first)
    assert not np.array_equal(rollout(make(slug), 8, 0)[0][0], first[0][0])


@pytest.mark.parametrize("slug", SLUGS)
def test_a_pickled_environment_steps_identically(slug: str):
    env = make(slug, physics="installed")
    rollout(env, 1, 3)
    copied = pickle.loads(pickle.dumps(env))
    assert copied.unwrapped.domain == env.unwrapped.domain
    assert copied.unwrapped.physics == "installed"
    assert_same(rollout(copied, 5, STEPS), rollout(env, 5, STEPS))


@pytest.mark.parametrize("slug", SLUGS)
def test_resets_leak_no_state(slug: str):
    env = make(slug)
    fresh = rollout(env, 2, STEPS)
    env.reset(seed=99)
    for sign in (1, -1) * 20:
        env.step(sign * env.action_space.high)
    assert_same(rollout(env, 2, STEPS), fresh)
    check_mujoco_reset_state(env)


@pytest.mark.parametrize("slug", SLUGS)
def test_a_state_that_is_set_repeats_bit_for_bit(slug: str):
    env = make(slug, max_episode_steps=-1)
    rollout(env, 0, 7)
    state = env.unwrapped.get_state()
    observation = env.unwrapped.observe()
    expected = rollout(env, None, STEPS, actions_seed=1)
    other = make(slug, max_episode_steps=-1)
    rollout(other, 50, 11)
    for again in (env, other):
        again.unwrapped.set_state(pickle.loads(pickle.dumps(state)))
        assert_same(again.unwrapped.get_state(), state)
        np.testing.assert_allclose(again.unwrapped.observe(), observation, rtol=0, atol=1e-2)
        assert_same(rollout(again, None, STEPS, actions_seed=1), expected)


@pytest.mark.parametrize("robot", shiftgym.robots())
def test_positions_and_velocities_can_be_set(robot: str):
    env = make(robot).unwrapped
    env.reset(seed=0)
    qpos, qvel = env.data.qpos + 0.01, env.data.qvel - 0.02
    env.set_state(qpos, qvel)
    np.testing.assert_array_equal(env.data.qpos, qpos)
    np.testing.assert_array_equal(env.data.qvel, qvel)
    expected = rollout(env, None, 5)
    other = make(robot).unwrapped
    other.reset(seed=0)
    other.set_state(qpos, qvel)
    assert_same(rollout(other, None, 5), expected)


def test_reward_after_setting_a_state_counts_from_that_state():
    env = make("hopper").unwrapped
    env.reset(seed=0)
    qpos = env.data.qpos.copy()
    qpos[0] = 100.0
    env.set_state(qpos, env.data.qvel)
    _, reward, *_, info = env.step(np.zeros(3, np.float32))
    assert abs(reward) < 5 and info["x_position"] == pytest.approx(100, abs=0.1)


@pytest.mark.parametrize("robot", shiftgym.robots())
def test_actions_out_of_range_are_clipped(robot: str):
    rng = np.random.default_rng(0)
    env, clipped = make(robot), make(robot)
    env.reset(seed=0)
    clipped.reset(seed=0)
    for _ in range(5):
        action = rng.uniform(-3, 3, env.action_space.shape).astype(np.float32)
        observation = env.step(action)[0]
        np.testing.assert_array_equal(observation, clipped.step(np.clip(action, -1, 1))[0])


def test_episodes_are_truncated_at_the_horizon_and_not_before():
    for slug, horizon in (("halfcheetah", 1000), ("door", 200)):
        env = make(slug)
        env.reset(seed=0)
        idle = np.zeros(env.action_space.shape, np.float32)
        ends = [env.step(idle)[2:4] for _ in range(horizon)]
        assert ends == [(False, False)] * (horizon - 1) + [(False, True)]


def test_specs_rebuild_in_a_fresh_process_that_never_imported_shiftgym(tmp_path):
    custom = shiftgym.make_domain("pen", {"joint.THJ0.range": {"scale": 0.3}}, name="weak")
    domains = {**CATALOGUE, "pen-weak": custom, "ant-x": shiftgym.domain("ant-gravity-x0p37")}
    specs, expected = {}, {}
    for slug, domain in domains.items():
        env = domain.make()
        specs[slug] = env.spec.to_json()
        total = [env.reset(seed=3)[0].tolist()]
        for step in range(3):
            action = np.full(env.action_space.shape, 0.1 * step, np.float32)
            observation, reward, *_ = env.step(action)
            total.append([*observation.tolist(), reward])
        expected[slug] = total
    path = tmp_path / "specs.json"
    path.write_text(json.dumps(specs))
    done = run_python(REBUILD, str(path))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == expected


def test_the_module_prefix_makes_an_environment_without_importing_shiftgym():
    code = "import gymnasium as gym; print(gym.make('shiftgym:ShiftHopper-kinematic-v0').spec.id)"
    done = run_python(code)
    assert done.stdout.strip() == "ShiftHopper-kinematic-v0", done.stderr

"""Test the vector environment against single environments stepped one by one."""

from __future__ import annotations

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from packaging.version import Version
from shiftgym_helpers import ROBOTS, assert_same, domains_of, random_actions

import shiftgym
from shiftgym import ShiftgymError
from shiftgym.envs.vector import ShiftVectorEnv

MODES = ["next_step", "same_step", "disabled"]
STEPS = 130
LIMIT = 45  # truncate early, so that a short test sees many ends
LIMITS = {"hopper": 20, "walker2d": 20}  # random actions let these fall within 45 steps
TERMINATING = {"hopper", "walker2d", "ant", "pen"}


def loop(domains: list[shiftgym.Domain], mode: str, limit: int = LIMIT) -> SyncVectorEnv:
    """Make the reference: single environments, stepped in a Python loop by Gymnasium."""
    makers = [lambda d=d: d.make(max_episode_steps=limit) for d in domains]
    return SyncVectorEnv(makers, autoreset_mode=AutoresetMode[mode.upper()])


def step_and_reset(envs: gym.vector.VectorEnv, actions: np.ndarray, mode: str) -> list:
    """Step once and, in mode ``disabled``, reset what ended."""
    results = list(envs.step(actions))
    ended = results[2] | results[3]
    if mode == "disabled" and ended.any():
        results += envs.reset(options={"reset_mask": ended.copy()})
    return results


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("robot", ROBOTS)
def test_mixed_domains_equal_single_environments_bit_for_bit(robot: str, mode: str):
    domains = domains_of(robot)[:: 2 if len(domains_of(robot)) > 8 else 1]
    limit = LIMITS.get(robot, LIMIT)
    envs = shiftgym.make_vec(domains, autoreset_mode=mode, max_episode_steps=limit)
    reference = loop(domains, mode, limit)
    assert_same(envs.reset(seed=5), reference.reset(seed=5))
    terminations = truncations = 0
    for step, actions in enumerate(random_actions(envs.action_space.shape, STEPS)):
        ours = step_and_reset(envs, actions, mode)
        assert_same(ours, step_and_reset(reference, actions, mode), f"step {step}")
        terminations, truncations = terminations + ours[2].sum(), truncations + ours[3].sum()
    assert STEPS * len(domains) >= 1000
    assert truncations > 0
    assert (terminations > 0) == (robot in TERMINATING)


@pytest.mark.parametrize("slug", ["hopper", "ant", "pen-morph-hard", "door"])
def test_one_domain_in_installed_physics_equals_single_environments(slug: str):
    domain = shiftgym.domain(slug)
    envs = domain.make_vec(3, physics="installed", max_episode_steps=LIMIT)
    singles = [domain.make(physics="installed", max_episode_steps=LIMIT) for _ in range(3)]
    seeds = [11, 3, 42]
    first, _ = envs.reset(seed=seeds)
    expected = [env.reset(seed=seed)[0] for env, seed in zip(singles, seeds, strict=True)]
    np.testing.assert_array_equal(first, expected)
    actions = random_actions(envs.action_space.shape, 2)
    for step in actions:
        observations, rewards, *_ = envs.step(step)
        results = [env.step(action) for env, action in zip(singles, step, strict=True)]
        np.testing.assert_array_equal(observations, [r[0] for r in results])
        np.testing.assert_array_equal(rewards, [r[1] for r in results])


def test_every_domain_of_a_robot_fits_in_one_batch():
    for robot in ROBOTS:
        domains = domains_of(robot)
        envs, reference = shiftgym.make_vec(domains), loop(domains, "next_step", 1000)
        assert_same(envs.reset(seed=1), reference.reset(seed=1))
        for actions in random_actions(envs.action_space.shape, 3):
            assert_same(envs.step(actions), reference.step(actions))


def test_gymnasium_makes_the_vector_environment_by_itself_without_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        envs = gym.make_vec("ShiftHopper-kinematic-v0", num_envs=4)
        envs.reset(seed=0)
        envs.step(envs.action_space.sample())
    assert isinstance(envs.unwrapped, ShiftVectorEnv)
    assert envs.num_envs == 4 and envs.spec is not None
    assert envs.unwrapped.max_episode_steps == 1000
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert [domain.slug for domain in envs.unwrapped.domains] == ["hopper-kinematic"] * 4
    assert envs.observation_space.shape == (4, 11) and envs.action_space.shape == (4, 3)
    assert gym.make_vec("ShiftDoor-v0", num_envs=1).unwrapped.max_episode_steps == 200


@pytest.mark.parametrize("mode", [*MODES, *(m.value for m in AutoresetMode), *AutoresetMode])
def test_autoreset_modes_are_accepted_in_every_spelling(mode):
    envs = shiftgym.make_vec("hopper", 2, autoreset_mode=mode)
    name = mode.name if isinstance(mode, AutoresetMode) else mode
    assert envs.metadata["autoreset_mode"].name.replace("_", "") == name.upper().replace("_", "")


@pytest.mark.parametrize("mode", MODES)
def test_episode_statistics_are_right(mode: str):
    if mode == "same_step" and Version(gym.__version__) < Version("1.4"):
        pytest.skip("this Gymnasium miscounts episodes in mode same_step; see docs/install.md")
    domains = domains_of("hopper")[:5]
    envs = shiftgym.make_vec(domains, autoreset_mode=mode, max_episode_steps=LIMIT)
    recorded = RecordEpisodeStatistics(envs)
    singles = [domain.make(max_episode_steps=LIMIT) for domain in domains]
    recorded.reset(seed=9)
    for row, env in enumerate(singles):
        env.reset(seed=9 + row)
    returns, lengths, over = np.zeros(5), np.zeros(5, int), np.zeros(5, bool)
    episodes = 0
    for actions in random_actions(envs.action_space.shape, 150):
        *_, infos = recorded.step(actions)
        ended = np.zeros(5, bool)
        for row, env in enumerate(singles):
            if over[row]:  # mode next_step: this step only resets
                over[row] = False
                continue
            _, reward, terminated, truncated, _ = env.step(actions[row])
            returns[row], lengths[row] = returns[row] + reward, lengths[row] + 1
            if terminated or truncated:
                ended[row], over[row] = True, mode == "next_step"
                env.reset()
                assert infos["episode"]["r"][row] == pytest.approx(returns[row], rel=1e-12)
                assert infos["episode"]["l"][row] == lengths[row]
                returns[row] = lengths[row] = 0
                episodes += 1
        np.testing.assert_array_equal(infos.get("_episode", np.zeros(5, bool)), ended)
        if mode == "disabled" and ended.any():
            recorded.reset(options={"reset_mask": ended})
    assert recorded.episode_count == episodes > 5


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_number_of_threads_does_not_change_results(robot: str):
    found = []
    for threads in (1, 2, 5):
        envs = shiftgym.make_vec(domains_of(robot)[:5], num_threads=threads, max_episode_steps=15)
        found.append([envs.reset(seed=0)])
        found[-1] += [envs.step(a) for a in random_actions(envs.action_space.shape, 30)]
    assert_same(found[1], found[0])
    assert_same(found[2], found[0])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("robot", ROBOTS)
def test_a_state_that_is_set_repeats_bit_for_bit_resets_included(robot: str, mode: str):
    def run(envs: gym.vector.VectorEnv) -> list:
        actions = random_actions(envs.action_space.shape, 40, seed=1)
        return [step_and_reset(envs, a, mode) for a in actions]

    domains = domains_of(robot)[:3]
    options = {"autoreset_mode": mode, "max_episode_steps": 17}
    envs, other = (shiftgym.make_vec(domains, **options) for _ in range(2))
    envs.reset(seed=0)
    for actions in random_actions(envs.action_space.shape, 9):
        step_and_reset(envs, actions, mode)
    state = envs.get_state()
    expected = run(envs)
    for again in (envs, other):
        again.set_state(state)
        assert_same(again.get_state(), state)
        assert_same(run(again), expected)


def test_seeds_may_be_a_number_a_list_or_nothing():
    envs = shiftgym.make_vec("hopper", 3)
    numbered, _ = envs.reset(seed=7)
    assert envs.np_random_seed == (7, 8, 9)
    listed, infos = envs.reset(seed=[7, 8, 9])
    np.testing.assert_array_equal(numbered, listed)
    assert infos == {}
    running, _ = envs.reset()
    assert not np.array_equal(running, listed)
    kept, _ = envs.reset(seed=[7, None, 9])
    np.testing.assert_array_equal(kept[[0, 2]], listed[[0, 2]])


def test_results_are_copies():
    envs = shiftgym.make_vec("hopper", 2)
    kept = [envs.reset(seed=0)[0], *(envs.step(envs.action_space.sample())[0] for _ in range(2))]
    assert not any(np.shares_memory(a, b) for a in kept for b in kept if a is not b)
    copies = [observation.copy() for observation in kept]
    envs.step(envs.action_space.sample())
    assert_same(kept, copies)


def test_misuse_is_explained():
    envs = shiftgym.make_vec("hopper", 2, autoreset_mode="disabled", max_episode_steps=1)
    idle = np.zeros((2, 3), np.float32)
    with pytest.raises(ShiftgymError, match=r"Call reset\(\) before the first step"):
        envs.step(idle)
    with pytest.raises(ShiftgymError, match=r"Call reset\(\) before get_state"):
        envs.get_state()
    with pytest.raises(ShiftgymError, match="first reset starts every sub-environment"):
        envs.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(ShiftgymError, match="3 seeds for 2 sub-environments"):
        envs.reset(seed=[1, 2, 3])
    envs.reset(seed=0)
    envs.step(idle)
    with pytest.raises(ShiftgymError, match=r"sub-environments \[0, 1\] are over: call reset"):
        envs.step(idle)
    for mask in ([True, False], np.ones(2), np.ones(3, bool)):
        with pytest.raises(ShiftgymError, match=r"bool array of shape \(2,\)"):
            envs.reset(options={"reset_mask": mask})
    with pytest.raises(ShiftgymError, match="selects no sub-environment"):
        envs.reset(options={"reset_mask": np.zeros(2, bool)})
    with pytest.raises(ShiftgymError, match="does not fit"):
        envs.set_state(_state_of("ant", 2))
    with pytest.raises(ShiftgymError, match="does not fit"):
        envs.set_state(_state_of("hopper", 3))
    with pytest.raises(ShiftgymError, match="Did you mean 'next_step'"):
        shiftgym.make_vec("hopper", 2, autoreset_mode="nextstep")
    envs.close()
    envs.close()


def _state_of(robot: str, count: int) -> dict[str, np.ndarray]:
    envs = shiftgym.make_vec(robot, count)
    envs.reset(seed=0)
    return envs.get_state()

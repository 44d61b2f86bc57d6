"""Test that copies of an environment in mid-episode go on exactly as the original."""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from shiftgym_helpers import ROBOTS, assert_same, domains_of, random_actions, rollout, run_python

import shiftgym

COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda made: pickle.loads(pickle.dumps(made)),
}
CHILD = """
import pickle, sys, numpy as np
with open(sys.argv[1], "rb") as file:
    env, envs = pickle.load(file)
found = [[env.step(np.zeros(3, np.float32))[0] for _ in range(30)], env.reset()[0]]
found += [[envs.step(np.zeros((2, 3), np.float32))[0] for _ in range(30)]]
with open(sys.argv[2], "wb") as file:
    pickle.dump(found, file)
"""
FORK = """
import copy, os, signal, sys, threading
import numpy as np, shiftgym

envs = shiftgym.make_vec("hopper", 8, num_threads=2)
envs.reset(seed=0)
idle = np.zeros((8, 3), np.float32)
envs.step(idle)
child = os.fork()
if child == 0:
    signal.alarm(30)  # what waits for ever is killed by it
    uses = [lambda: envs.step(idle), envs.reset, envs.get_state, lambda: copy.deepcopy(envs)]
    for use in uses:
        try:
            use()
        except shiftgym.ShiftgymError as error:
            print("child:", error, flush=True)
    envs.close()
    del envs, uses, use
    own = shiftgym.make_vec("hopper", 8, num_threads=2)
    own.reset(seed=0)
    print("child steps its own", own.step(idle)[0].shape, flush=True)
    sys.exit(3)
_, status = os.waitpid(child, 0)
print("child ended with", os.waitstatus_to_exitcode(status))
print("parent goes on", envs.step(idle)[0].shape)
"""


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("robot", ROBOTS)
def test_a_single_environment_is_copied_whole(robot: str, how: str):
    env = shiftgym.domain(robot).make(max_episode_steps=30)
    rollout(env, 1, 7)
    env.action_space.seed(4)
    copied = COPIES[how](env)
    assert copied.spec == env.spec is not None
    assert_same(copied.unwrapped.observe(), env.unwrapped.observe())
    assert_same(copied.unwrapped.get_state(), env.unwrapped.get_state())
    assert copied.unwrapped.np_random_seed == 1
    np.testing.assert_array_equal(copied.action_space.sample(), env.action_space.sample())
    twice = COPIES[how](copied)
    expected = rollout(env, None, 60, actions_seed=1)  # truncated at the same step, reset alike
    assert_same(rollout(copied, None, 60, actions_seed=1), expected)
    assert_same(rollout(twice, None, 60, actions_seed=1), expected)


def test_an_environment_that_was_never_reset_is_copied_too():
    env = shiftgym.domain("hopper").make()
    copied = copy.deepcopy(env)
    assert_same(rollout(copied, 3, 5), rollout(env, 3, 5))
    envs = shiftgym.make_vec("hopper", 2)
    copies = copy.deepcopy(envs)
    assert_same(copies.reset(seed=3), envs.reset(seed=3))


@pytest.mark.parametrize("mode", ["next_step", "same_step", "disabled"])
@pytest.mark.parametrize("how", COPIES)
def test_a_vector_environment_is_copied_whole(how: str, mode: str):
    for robot in ("hopper", "pen"):
        domains = domains_of(robot)[:3]
        options: dict[str, Any] = {"autoreset_mode": mode, "max_episode_steps": 17}
        envs = shiftgym.make_vec(domains, **options)
        envs.reset(seed=2)
        actions = random_actions(envs.action_space.shape, 45)

        def run(made: Any, some: np.ndarray) -> list:
            found = []
            for action in some:
                found.append(made.step(action))
                ended = found[-1][2] | found[-1][3]
                if made.metadata["autoreset_mode"].name == "DISABLED" and ended.any():
                    found.append(made.reset(options={"reset_mask": ended}))
            return found

        run(envs, actions[:9])
        envs.action_space.seed(4)
        copied = COPIES[how](envs)
        assert copied.spec == envs.spec is not None
        assert copied.unwrapped.domains == domains
        assert copied.np_random_seed == envs.np_random_seed == (2, 3, 4)
        np.testing.assert_array_equal(copied.action_space.sample(), envs.action_space.sample())
        assert_same(run(copied, actions[9:]), run(envs, actions[9:]))


def test_copies_go_on_in_another_process(tmp_path):
    env, envs = shiftgym.domain("hopper").make(), shiftgym.make_vec("hopper", 2)
    env.reset(seed=1)
    envs.reset(seed=2)
    (tmp_path / "sent").write_bytes(pickle.dumps((env, envs)))
    done = run_python(CHILD, str(tmp_path / "sent"), str(tmp_path / "found"))
    assert done.returncode == 0, done.stderr
    expected = [[env.step(np.zeros(3, np.float32))[0] for _ in range(30)], env.reset()[0]]
    expected += [[envs.step(np.zeros((2, 3), np.float32))[0] for _ in range(30)]]
    assert_same(pickle.loads((tmp_path / "found").read_bytes()), expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_after_a_fork_a_vector_environment_says_where_its_threads_are():
    done = run_python(FORK)
    said = done.stdout.splitlines()
    assert len(said) == 7, done.stdout + done.stderr
    assert all("child: This vector environment was made in another process" in s for s in said[:4])
    assert said[4:] == [
        "child steps its own (8, 11)",
        "child ended with 3",
        "parent goes on (8, 11)",
    ]

"""What several tests share: the registry, seeded actions, rollouts and exact comparison."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np

import shiftgym

CATALOGUE = shiftgym.catalogue()
SLUGS = list(CATALOGUE)
ROBOTS = shiftgym.robots()
LOCOMOTION = ["hopper", "walker2d", "halfcheetah", "ant"]
ADROIT = ["pen", "door"]


def domains_of(robot: str) -> list[shiftgym.Domain]:
    """List a robot's registered domains, the unshifted one first."""
    return [domain for domain in CATALOGUE.values() if domain.robot == robot]


def random_actions(shape: tuple[int, ...], steps: int, seed: int = 0) -> np.ndarray:
    """Draw actions, some of them out of range, (steps, *shape) float32."""
    return np.random.default_rng(seed).uniform(-1.2, 1.2, (steps, *shape)).astype(np.float32)


def rollout(
    env: gym.Env, seed: int | None, steps: int, actions_seed: int = 0
) -> list[tuple[Any, ...]]:
    """Step from a seeded reset (or from where the environment is), resetting ended episodes."""
    found: list[tuple[Any, ...]] = [] if seed is None else [env.reset(seed=seed)]
    shape = env.action_space.shape
    assert shape is not None
    for action in random_actions(shape, steps, actions_seed):
        found.append(env.step(action))
        if found[-1][2] or found[-1][3]:
            found.append(env.reset())
    return found


def assert_same(a: Any, b: Any, path: str = "") -> None:
    """Assert that two nested results are equal bit for bit, types and dtypes included."""
    if isinstance(a, bool | np.bool_) and isinstance(b, bool | np.bool_):
        assert bool(a) == bool(b), path
        return
    assert type(a) is type(b), f"{path}: {type(a)} and {type(b)}"
    if isinstance(a, dict):
        assert set(a) == set(b), f"{path}: {set(a) ^ set(b)}"
        for key in a:
            assert_same(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, tuple | list) or (isinstance(a, np.ndarray) and a.dtype == object):
        assert len(a) == len(b), path
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{path}/{index}")
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype, f"{path}: {a.dtype} and {b.dtype}"
        np.testing.assert_array_equal(a, b, err_msg=path)
    else:
        assert a == b, f"{path}: {a} and {b}"


def model_arrays(model: mujoco.MjModel) -> dict[str, Any]:
    """Give every public array and number of a compiled model, options and statistics included."""
    found = {}
    for prefix, holder in (("", model), ("opt.", model.opt), ("stat.", model.stat)):
        for name in dir(holder):
            value = None if name.startswith("_") else getattr(holder, name)
            if isinstance(value, np.ndarray | int | float):
                found[prefix + name] = np.array(value)
    return found


def differing(a: mujoco.MjModel, b: mujoco.MjModel) -> set[str]:
    """Name the arrays in which two models differ."""
    first, second = model_arrays(a), model_arrays(b)
    assert set(first) == set(second)
    return {name for name in first if not np.array_equal(first[name], second[name])}


def run_python(
    code: str, *arguments: str, **environment: str | None
) -> subprocess.CompletedProcess:
    """Run code in a fresh process; an environment variable given as None is removed."""
    variables = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={name: value for name, value in variables.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

"""Who runs in the benchmarks: bare physics, shiftgym, and what a user would take instead.

Every contestant takes actions (K, N, nu), makes K calls for N robots, and gives the seconds spent
in the calls and the number of steps that moved a robot. With Gymnasium's next-step autoreset the
call after an episode's end resets and does not move: its time counts, a step does not.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Callable
from time import perf_counter
from typing import Any

import gymnasium as gym
import numpy as np
from mujoco.batch import Batch

import shiftgym
from shiftgym.envs.tasks import TASKS
from shiftgym.machine import usable_cpus
from shiftgym.modelling import build_model

LOCOMOTION = ("hopper", "walker2d", "halfcheetah", "ant")
ROBOTS = (*LOCOMOTION, "pen", "door")
STOCK = {
    "hopper": "Hopper-v4",
    "walker2d": "Walker2d-v4",
    "halfcheetah": "HalfCheetah-v4",
    "ant": "Ant-v4",
    "pen": "AdroitHandPen-v1",
    "door": "AdroitHandDoor-v1",
}
LARGEST_ASYNC = 64  # one process each
SEED = 0


class Contestant:
    """Make calls that are timed, with whatever goes around them that is not."""

    def plan(self, actions: np.ndarray) -> list[Any]:
        """Turn actions (K, N, nu) into the inputs of K calls."""
        return list(actions)

    def before(self, item: Any) -> None:
        """Do what a call needs; not timed."""

    def call(self, item: Any) -> Any:
        """Advance N robots by one step; timed."""
        raise NotImplementedError

    def after(self, result: Any) -> int:
        """Count the robots that a call moved; not timed."""
        raise NotImplementedError

    def close(self) -> None:
        """Free processes and threads."""

    def run(self, actions: np.ndarray) -> tuple[float, int]:
        """Make K calls; give the seconds spent in them and the steps that moved a robot."""
        seconds, moved = 0.0, 0
        for item in self.plan(actions):
            self.before(item)
            start = perf_counter()
            result = self.call(item)
            seconds += perf_counter() - start
            moved += self.after(result)
        return seconds, moved


def stock_id(robot: str) -> str:
    """Give the id that a user of Gymnasium or gymnasium-robotics would take."""
    if robot not in LOCOMOTION:
        with contextlib.redirect_stdout(io.StringIO()):  # the import prints a notice
            import gymnasium_robotics

            gym.register_envs(gymnasium_robotics)
    return STOCK[robot]


def shift_id(robot: str) -> str:
    return shiftgym.domain(robot).env_id


def draw_actions(robot: str, rng: np.random.Generator, calls: int, count: int) -> np.ndarray:
    """Draw uniform actions (calls, count, nu), float32."""
    model = build_model(shiftgym.domain(robot))
    space = TASKS[robot].action_space(model)
    return rng.uniform(space.low, space.high, (calls, count, model.nu)).astype(np.float32)


class Stepping(Contestant):
    """Let a vector environment run; it resets ended episodes by itself."""

    def __init__(self, envs: Any, count: int, dtype: type = np.float32):
        self.envs, self.count, self.dtype = envs, count, dtype
        self.ended = np.zeros(count, dtype=bool)

    def plan(self, actions: np.ndarray) -> list[Any]:
        return list(actions.astype(self.dtype))

    def call(self, item: Any) -> Any:
        return self.envs.step(item)

    def after(self, result: Any) -> int:
        moved = self.count - int(self.ended.sum())
        self.ended = result[2] | result[3]
        return moved

    def close(self) -> None:
        self.envs.close()


def vector(robot: str, count: int) -> Contestant:
    """Run shiftgym's vector environment."""
    envs = gym.make_vec(shift_id(robot), num_envs=count)
    envs.reset(seed=SEED)
    return Stepping(envs, count)


def sync(env_id: str, count: int) -> Contestant:
    """Run Gymnasium's SyncVectorEnv: a Python loop."""
    envs = gym.make_vec(env_id, num_envs=count, vectorization_mode="sync")
    envs.reset(seed=SEED)
    return Stepping(envs, count)


def asynchronous(env_id: str, count: int) -> Contestant:
    """Run Gymnasium's AsyncVectorEnv: one process per sub-environment, shared memory."""
    envs = gym.make_vec(env_id, num_envs=count, vectorization_mode="async")
    envs.reset(seed=SEED)
    return Stepping(envs, count)


def has_envpool() -> bool:
    return importlib.util.find_spec("envpool") is not None


def envpool(robot: str, count: int) -> Contestant:
    """Run EnvPool's stock environment, C++ throughout.

    Raises:
        LookupError: EnvPool has no such environment.
    """
    import envpool as pool  # type: ignore[import-not-found]  # installed by those who want it

    if STOCK[robot] not in pool.list_all_envs():
        raise LookupError(f"EnvPool has no {STOCK[robot]}")
    threads = min(count, usable_cpus())
    envs = pool.make_gymnasium(STOCK[robot], num_envs=count, num_threads=threads, seed=SEED)
    envs.reset()
    return Stepping(envs, count, np.float64)


class Bare(Contestant):
    """Run the physics and nothing else: write controls, step all N rows of a ``mujoco.batch``.

    Every call starts from the states in which the vector environment makes that call, which a twin
    of it tells beforehand: same seeds, same actions, so the same trajectory bit for bit. A row that
    the vector environment resets in that call is stepped from its new initial state here, and
    counts. Setting the states is not timed, nor is anything the twin does. Nothing is observed,
    rewarded, checked or reset.
    """

    def __init__(self, robot: str, count: int):
        self.task, domain = TASKS[robot], shiftgym.domain(robot)
        self.count = count
        self.batch = Batch(build_model(domain), count)
        self.ctrl = self.batch.bind("ctrl")
        self.own = {name: self.batch.expand(name) for name in self.task.own_model_fields}
        self.twin: Any = gym.make_vec(domain.env_id, num_envs=count)
        self.twin.reset(seed=SEED)
        self.ended = np.zeros(count, dtype=bool)

    def plan(self, actions: np.ndarray) -> list[Any]:
        return [(self._states(a), self.task.control(self.twin.sims, a)) for a in actions]

    def _states(self, action: np.ndarray) -> dict[str, np.ndarray]:
        names = ("integration", *self.own)
        states = self.twin.get_state()
        _, _, terminated, truncated, _ = self.twin.step(action)
        if self.ended.any():
            fresh = self.twin.get_state()
            for name in names:
                states[name][self.ended] = fresh[name][self.ended]
        self.ended = terminated | truncated
        return {name: states[name] for name in names}

    def before(self, item: Any) -> None:
        states, _ = item
        self.batch.state[:] = states["integration"]
        for name, values in self.own.items():
            values[:] = states[name]

    def call(self, item: Any) -> None:
        self.ctrl[:] = item[1]
        self.batch.step(nstep=self.task.frame_skip)

    def after(self, result: Any) -> int:
        return self.count

    def close(self) -> None:
        self.twin.close()


class Single(Contestant):
    """Run one environment as ``gymnasium.make`` gives it; resets are not timed."""

    def __init__(self, env_id: str, **kwargs: Any):
        self.env = gym.make(env_id, **kwargs)
        self.env.reset(seed=SEED)

    def plan(self, actions: np.ndarray) -> list[Any]:
        return list(actions[:, 0])

    def call(self, item: Any) -> Any:
        return self.env.step(item)

    def after(self, result: Any) -> int:
        if result[2] or result[3]:
            self.env.reset()
        return 1

    def close(self) -> None:
        self.env.close()


def line_up_vector(robot: str, count: int) -> dict[str, Callable[[], Contestant]]:
    """List who runs at N sub-environments, by name, in order; processes are forked first."""
    ours, stock = shift_id(robot), stock_id(robot)
    found: dict[str, Callable[[], Contestant]] = {}
    if count <= LARGEST_ASYNC:
        found["async"] = lambda: asynchronous(ours, count)
        found["stock async"] = lambda: asynchronous(stock, count)
    found["bare"] = lambda: Bare(robot, count)
    found["vector"] = lambda: vector(robot, count)
    found["sync"] = lambda: sync(ours, count)
    found["stock sync"] = lambda: sync(stock, count)
    if has_envpool():
        found["envpool"] = lambda: envpool(robot, count)
    return found


def line_up_single(robot: str) -> dict[str, Callable[[], Contestant]]:
    """List who runs alone: the stock environment, ours on the same physics, ours as it comes."""
    ours, stock = shift_id(robot), stock_id(robot)
    return {
        "stock": lambda: Single(stock),
        "installed": lambda: Single(ours, physics="installed"),
        "default": lambda: Single(ours),
    }

"""What a robot's environment is: functions on batched arrays, shared by both environments.

Every array has a leading axis of N simulations. The single environment calls the functions with
live views of one MjData (N = 1), the vector environment with the arrays of a ``mujoco.batch``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box

from shiftgym.basics.arrays import Array
from shiftgym.basics.errors import ActionError
from shiftgym.engine import mujoco


class Sims:
    """Hold live arrays of N simulations, and what the task remembers between steps.

    Attributes:
        model: one of the models, for names and sizes.
        qpos: positions, (N, nq).
        qvel: velocities, (N, nv).
        qpos0: each model's own positions, (N, nq).
        dt: duration of an environment step, in seconds.
        memory: what the task keeps from one step to the next, each (N, ...).

    The task's ``outputs`` (such as ``xpos``, (N, nbody, 3)) and ``own_model_fields`` (such as
    ``body_quat``, (N, nbody, 4)) are attributes too.
    """

    xpos: Array
    site_xpos: Array
    body_pos: Array
    body_quat: Array

    def __init__(self, model: mujoco.MjModel, task: Task, fields: Mapping[str, Array]):
        """Hold the arrays; they stay live views of the simulations."""
        self.model = model
        self.dt = model.opt.timestep * task.frame_skip
        self.qpos = fields["qpos"]
        self.qvel = fields["qvel"]
        self.qpos0 = np.broadcast_to(model.qpos0, self.qpos.shape)
        self.memory = task.blank_memory(len(self.qpos))
        self._ids: dict[tuple[str, ...], list[int]] = {}
        for name, array in fields.items():
            setattr(self, name, array)

    def __len__(self) -> int:
        """Count the simulations."""
        return len(self.qpos)

    def ids(self, *names: str) -> list[int]:
        """Look up bodies (``body:NAME``) and sites (``site:NAME``)."""
        if names not in self._ids:
            pairs = (name.split(":") for name in names)
            self._ids[names] = [getattr(self.model, kind)(name).id for kind, name in pairs]
        return self._ids[names]


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """Define observation, reward, termination and reset of one robot.

    Attributes:
        frame_skip: physics steps per environment step.
        fps: environment steps per second of simulated time.
        observation_size: length of an observation.
        camera: Gymnasium's free-camera settings for pictures.
    """

    outputs: ClassVar[tuple[str, ...]] = ()  # MjData fields read besides qpos and qvel
    scene: ClassVar[Mapping[str, tuple[str, str]]] = {}  # what a reset moves: MjModel field, body

    frame_skip: int
    fps: int
    observation_size: int
    camera: Mapping[str, Any] = field(default_factory=dict)

    @property
    def own_model_fields(self) -> tuple[str, ...]:
        """Name the MjModel fields that a reset rewrites, one copy per simulation."""
        return tuple(field for field, _ in self.scene.values())

    def observation_space(self, extra: int = 0) -> Box:
        """Give the space of one observation: unbounded float64, as in the base environments."""
        return Box(-np.inf, np.inf, (self.observation_size + extra,), np.float64)

    def action_space(self, model: mujoco.MjModel) -> Box:
        """Give the space of one action: the actuators' control ranges, float32."""
        low, high = model.actuator_ctrlrange.astype(np.float32).T
        return Box(low, high, dtype=np.float32)

    def control(self, sims: Sims, action: Array) -> Array:
        """Turn actions (N, nu) into controls (N, nu)."""
        return action

    @abstractmethod
    def observe(self, sims: Sims) -> Array:
        """Give the observations, (N, observation_size), as a new array."""

    @abstractmethod
    def names(self, model: mujoco.MjModel) -> list[str]:
        """Name the numbers of an observation, (observation_size,); ``d`` is a velocity."""

    @abstractmethod
    def reward(self, sims: Sims, action: Array) -> tuple[Array, dict[str, Array]]:
        """Give the rewards (N,) of the step just taken, and what else is worth knowing of it.

        ``sims.memory`` is still that of the state before; each info is (N,).
        """

    @abstractmethod
    def terminated(self, sims: Sims) -> Array:
        """Say which simulations are in a terminal state, (N,) bool."""

    @abstractmethod
    def terminal(self, observations: Any) -> Any:
        """Say which observations are of terminal states, (..., observation_size) -> (...) bool.

        The rule of ``terminated`` as far as an observation shows it, for models that predict
        observations, in raw units. Takes NumPy arrays and torch tensors alike, and longer
        observations that begin with these.
        """

    @abstractmethod
    def reset(self, sims: Sims, row: int, rng: np.random.Generator) -> None:
        """Write an initial state into one row; the caller computes the derived fields next."""

    @abstractmethod
    def remember(self, sims: Sims, started: Array | None) -> None:
        """Update ``sims.memory`` after a step (``started`` None) or for rows just reset."""

    def blank_memory(self, count: int) -> dict[str, Array]:
        """Give the memory of simulations that have not been reset yet."""
        return {}


def joint_names(model: mujoco.MjModel) -> tuple[list[str], list[str]]:
    """Name positions (nq,) and velocities (nv,) by the model's joints, in their order."""
    positions, velocities = [], []
    for k in range(model.njnt):
        name = model.joint(k).name
        if model.jnt_type[k] == mujoco.mjtJoint.mjJNT_FREE:
            positions += [f"{name} {part}" for part in ("x", "y", "z", "qw", "qx", "qy", "qz")]
            velocities += [f"d {name} {part}" for part in ("x", "y", "z", "rx", "ry", "rz")]
        else:  # no robot has a ball joint
            positions.append(name)
            velocities.append(f"d {name}")
    return positions, velocities


def never(observations: Any) -> Any:
    """Give False for every observation, (..., observation_size) -> (...)."""
    return observations[..., 0] < -inf


def check_action(action: Any, shape: tuple[int, ...]) -> Array:
    """Check an action before it reaches the physics.

    Raises:
        ActionError: wrong shape, not numbers, NaN or infinite; nothing has been stepped.
    """
    checked = np.asarray(action)
    if checked.shape == shape and checked.dtype.kind == "f":
        one = checked.ndim == 1  # a few numbers are summed faster in Python
        if isfinite(sum(checked.tolist()) if one else np.add.reduce(checked, None)):
            return checked
    if checked.shape != shape:
        raise ActionError(f"Expected an action of shape {shape}, got {checked.shape}.")
    if checked.dtype.kind not in "fiu":
        raise ActionError(f"Expected an action of numbers, got dtype {checked.dtype}.")
    if not np.isfinite(checked).all():
        where = np.argwhere(~np.isfinite(checked))[0].tolist()
        raise ActionError(
            f"Actions must be finite; found {checked[tuple(where)]} at index {where}."
        )
    return checked

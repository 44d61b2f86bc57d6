"""Hopper, Walker2d, HalfCheetah and Ant with the semantics of Gymnasium's v4 environments.

Run along x. Per step, with dt the step's duration in seconds and a the action:

    reward = (x' - x) / dt + alive - control_cost * |a|^2

``alive`` is paid on the terminal step too, as in the data of D4RL, OTDF and ODRL (v5 stopped
that). An episode ends when the robot is no longer healthy; the half cheetah always is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar

import numpy as np

from shiftgym.basics.arrays import Array
from shiftgym.engine import mujoco
from shiftgym.envs.task import Sims, Task, joint_names, never

TRACKING = int(mujoco.mjtCamera.mjCAMERA_TRACKING)  # the camera follows the robot


@dataclass(frozen=True, kw_only=True)
class Locomotion(Task):
    """Run along x.

    Attributes:
        hidden: leading positions left out of the observation: x, or x and y.
        clip: observed velocities are clipped to +- this, or not at all.
        control_cost: cost of one squared unit of action.
        alive: reward per step for being healthy.
        upright: says of positions from the first observed one on (velocities may follow) whether
            the robot is; None if nothing ends an episode.
        bounded: says the rest: of each simulation whether what is not observed is in bounds.
        noise: initial positions and velocities are uniform within +- this of the model's own.
        normal_velocities: initial velocities are normal with this deviation instead.
    """

    hidden: int = 1
    clip: float | None = None
    control_cost: float
    alive: float = 1.0
    upright: Callable[[Any], Any] | None = None
    bounded: Callable[[Sims], Any] | None = None
    noise: float
    normal_velocities: bool = False

    def observe(self, sims: Sims) -> Array:
        """Give positions but the hidden ones, then velocities."""
        velocities = sims.qvel
        if self.clip is not None:
            velocities = velocities.clip(-self.clip, self.clip)
        return np.concatenate((sims.qpos[:, self.hidden :], velocities), axis=1)

    def names(self, model: mujoco.MjModel) -> list[str]:
        """Name positions but the hidden ones, then velocities."""
        positions, velocities = joint_names(model)
        return positions[self.hidden :] + velocities

    def position(self, sims: Sims) -> Array:
        """Give the x that is rewarded, in metres, (N,)."""
        return sims.qpos[:, 0]

    def reward(self, sims: Sims, action: Array) -> tuple[Array, dict[str, Array]]:
        """Pay for velocity and health, charge for control; tell position (m) and velocity (m/s)."""
        x = self.position(sims).copy()
        velocity = (x - sims.memory["x"]) / sims.dt
        cost = self.control_cost * np.add.reduce(np.square(action), axis=-1)
        earned = velocity + self.alive if self.alive else velocity
        return earned - cost, {"x_position": x, "x_velocity": velocity}

    def terminated(self, sims: Sims) -> Array:
        """End episodes that are no longer healthy."""
        if self.upright is None:
            return np.zeros(len(sims), dtype=bool)
        healthy = self.upright(sims.qpos[:, self.hidden :])
        return ~(healthy if self.bounded is None else healthy & self.bounded(sims))

    def terminal(self, observations: Any) -> Any:
        """Say which observations are of robots that are not upright.

        Exact but for what is not observed: the bounds on Hopper's velocities before they are
        clipped, and Ant's x and y, which must be finite.
        """
        return never(observations) if self.upright is None else ~self.upright(observations)

    def reset(self, sims: Sims, row: int, rng: np.random.Generator) -> None:
        """Draw positions and velocities near the model's own."""
        nq, nv = sims.qpos.shape[1], sims.qvel.shape[1]
        sims.qpos[row] = sims.qpos0[row] + rng.uniform(-self.noise, self.noise, nq)
        if self.normal_velocities:
            sims.qvel[row] = self.noise * rng.standard_normal(nv)
        else:
            sims.qvel[row] = rng.uniform(-self.noise, self.noise, nv)

    def remember(self, sims: Sims, started: Array | None) -> None:
        """Keep where each robot is, to know how far the next step takes it."""
        x = self.position(sims)
        if started is None:
            sims.memory["x"] = x.copy()
        else:
            sims.memory["x"][started] = x[started]

    def blank_memory(self, count: int) -> dict[str, Array]:
        """Remember x."""
        return {"x": np.zeros(count)}


@dataclass(frozen=True, kw_only=True)
class AntTask(Locomotion):
    """Run along x, measured at the torso's frame.

    The frame's position is the one the integrator's last stage left behind, as in Gymnasium;
    the published rewards carry the same lag.
    """

    outputs: ClassVar[tuple[str, ...]] = ("xpos",)

    def position(self, sims: Sims) -> Array:
        """Give the torso frame's x."""
        return sims.xpos[:, 1, 0]


def _hopper_upright(seen: Any) -> Any:
    z, angle = seen[..., 0], seen[..., 1]
    return (0.7 < z) & (abs(angle) < 0.2) & (abs(seen[..., 1:]) < 100).all(-1)


def _hopper_bounded(sims: Sims) -> Any:
    return (np.abs(sims.qvel) < 100).all(axis=1)


def _walker2d_upright(seen: Any) -> Any:
    z, angle = seen[..., 0], seen[..., 1]
    return (0.8 < z) & (z < 2.0) & (abs(angle) < 1.0)


def _ant_upright(seen: Any) -> Any:
    z = seen[..., 0]
    return (abs(seen) < inf).all(-1) & (0.2 <= z) & (z <= 1.0)


def _ant_bounded(sims: Sims) -> Any:
    return np.isfinite(sims.qpos[:, :2]).all(axis=1) & np.isfinite(sims.qvel).all(axis=1)


LOCOMOTION: dict[str, Task] = {
    "hopper": Locomotion(
        frame_skip=4, fps=125, observation_size=11, clip=10.0,
        control_cost=1e-3, upright=_hopper_upright, bounded=_hopper_bounded, noise=5e-3,
        camera={"type": TRACKING, "trackbodyid": 1, "distance": 3.2, "elevation": -12.0},
    ),
    "walker2d": Locomotion(
        frame_skip=4, fps=125, observation_size=17, clip=10.0,
        control_cost=1e-3, upright=_walker2d_upright, noise=5e-3,
        camera={"type": TRACKING, "trackbodyid": 1, "distance": 3.0, "elevation": -12.0},
    ),
    "halfcheetah": Locomotion(
        frame_skip=5, fps=20, observation_size=17,
        control_cost=0.1, alive=0.0, noise=0.1, normal_velocities=True,
        camera={"type": TRACKING, "trackbodyid": 1, "distance": 2.8, "elevation": -12.0},
    ),
    "ant": AntTask(
        frame_skip=5, fps=20, observation_size=27, hidden=2,
        control_cost=0.5, upright=_ant_upright, bounded=_ant_bounded,
        noise=0.1, normal_velocities=True,
        camera={"type": TRACKING, "trackbodyid": 1, "distance": 3.4, "elevation": -40.0},
    ),
}  # fmt: skip

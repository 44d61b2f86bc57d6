"""The Adroit hand turning a pen or opening a door, with the original reward signs.

Observations and rewards are those of mj_envs, which D4RL's and ODRL's data come from.
gymnasium-robotics up to 1.4.2 differs in three ways: its dense Door reward adds the distance from
palm to handle instead of subtracting it, its Pen never ends when the pen is dropped, and both use
the installed engine's physics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box

from shiftgym.basics.arrays import Array
from shiftgym.engine import mujoco
from shiftgym.envs.task import Sims, Task, joint_names, never


def _norm(vectors: Array) -> Array:
    """Give the lengths of vectors (N, k) as (N,)."""
    return np.sqrt(np.add.reduce(np.square(vectors), axis=-1))


@dataclass(frozen=True, kw_only=True)
class Hand(Task):
    """Move the hand: actions in [-1, 1] span each actuator's control range."""

    outputs: ClassVar[tuple[str, ...]] = ("xpos", "site_xpos")

    def action_space(self, model: mujoco.MjModel) -> Box:
        """Give [-1, 1] per actuator."""
        return Box(-1.0, 1.0, (model.nu,), np.float32)

    def control(self, sims: Sims, action: Array) -> Array:
        """Clip actions to [-1, 1] and spread them over the control ranges."""
        low, high = sims.model.actuator_ctrlrange.T
        return (low + high) / 2 + np.clip(action, -1.0, 1.0) * (0.5 * (high - low))


@dataclass(frozen=True, kw_only=True)
class PenTask(Hand):
    """Turn the pen to the target's orientation; dropping it ends the episode.

    Observation (45): 24 hand positions, pen position (3), pen velocity (6), pen direction (3),
    target direction (3), offset to the target (3), difference of directions (3).
    """

    scene: ClassVar = {"desired_orien": ("body_quat", "target")}  # a quaternion (w, x, y, z)
    ends: ClassVar = (
        "site:object_top",
        "site:object_bottom",
        "site:target_top",
        "site:target_bottom",
    )
    dropped_height: ClassVar = 0.075  # metres

    def _pen(self, sims: Sims) -> tuple[Array, Array, Array, Array]:
        """Give pen position, target position, pen direction and target direction, each (N, 3)."""
        pen, goal = sims.ids("body:Object", "site:eps_ball")
        top, bottom, goal_top, goal_bottom = sims.ids(*self.ends)
        site = sims.site_xpos
        pen_length, goal_length = sims.memory["pen_length"], sims.memory["goal_length"]
        direction = (site[:, top] - site[:, bottom]) / pen_length[:, None]
        goal_direction = (site[:, goal_top] - site[:, goal_bottom]) / goal_length[:, None]
        return sims.xpos[:, pen], site[:, goal], direction, goal_direction

    def observe(self, sims: Sims) -> Array:
        """Give hand, pen, target, and how they differ."""
        position, goal, direction, goal_direction = self._pen(sims)
        return np.concatenate(
            [sims.qpos[:, :-6], position, sims.qvel[:, -6:], direction, goal_direction,
             position - goal, direction - goal_direction],
            axis=1,
        )  # fmt: skip

    def names(self, model: mujoco.MjModel) -> list[str]:
        """Name hand, pen, target, and how they differ."""
        positions, velocities = joint_names(model)
        parts = ("pen direction", "target direction", "pen - target", "difference of directions")
        return [
            *positions[:-6],
            *_xyz("pen"),
            *velocities[-6:],
            *(n for p in parts for n in _xyz(p)),
        ]

    def reward(self, sims: Sims, action: Array) -> tuple[Array, dict[str, Array]]:
        """Pay for closeness in place and direction, charge for dropping the pen."""
        position, goal, direction, goal_direction = self._pen(sims)
        distance, cosine = (
            _norm(position - goal),
            np.add.reduce(direction * goal_direction, axis=-1),
        )
        close = distance < 0.075
        success = close & (cosine > 0.95)
        bonus = 10.0 * (close & (cosine > 0.9)) + 50.0 * success
        return cosine - distance + bonus - 5.0 * self.terminated(sims), {"success": success}

    def terminated(self, sims: Sims) -> Array:
        """End episodes whose pen was dropped (mj_envs; gymnasium-robotics goes on)."""
        (pen,) = sims.ids("body:Object")
        return sims.xpos[:, pen, 2] < self.dropped_height

    def terminal(self, observations: Any) -> Any:
        """Say which observations are of dropped pens; exact."""
        return observations[..., 26] < self.dropped_height

    def reset(self, sims: Sims, row: int, rng: np.random.Generator) -> None:
        """Draw the target's orientation: two Euler angles uniform in [-1, 1] rad."""
        (target,) = sims.ids("body:target")
        x, y = rng.uniform(-1, 1), rng.uniform(-1, 1)
        sims.body_quat[row, target] = _quaternion(x, y)

    def remember(self, sims: Sims, started: Array | None) -> None:
        """Measure pen and target once per episode, to turn end points into unit vectors."""
        if started is None:
            return
        top, bottom, goal_top, goal_bottom = sims.ids(*self.ends)
        site = sims.site_xpos[started]
        sims.memory["pen_length"][started] = _norm(site[:, top] - site[:, bottom])
        sims.memory["goal_length"][started] = _norm(site[:, goal_top] - site[:, goal_bottom])

    def blank_memory(self, count: int) -> dict[str, Array]:
        """Remember the lengths of pen and target (m)."""
        return {"pen_length": np.ones(count), "goal_length": np.ones(count)}


def _xyz(what: str) -> list[str]:
    return [f"{what} {axis}" for axis in "xyz"]


def _quaternion(x: float, y: float) -> Array:
    """Turn Euler angles (x, y, 0) in radians into a quaternion (w, x, y, z)."""
    cx, sx, cy, sy = np.cos(x / 2), np.sin(x / 2), np.cos(y / 2), np.sin(y / 2)
    return np.array([cx * cy, cy * sx, cx * sy, sx * sy])


@dataclass(frozen=True, kw_only=True)
class DoorTask(Hand):
    """Undo the latch and open the door.

    Observation (39): 27 arm and hand positions, latch, hinge (rad), palm (3), handle (3),
    palm minus handle (3), and 1 or -1 for a door opened beyond 1 rad.
    """

    scene: ClassVar = {"door_body_pos": ("body_pos", "frame")}  # metres
    frame_low: ClassVar = (-0.3, 0.25, 0.252)  # where the door frame may stand, metres
    frame_high: ClassVar = (-0.2, 0.35, 0.35)

    def _hinge(self, sims: Sims) -> Array:
        """Give the door's angle in radians, (N,)."""
        return sims.qpos[:, -2]

    def _palm_handle(self, sims: Sims) -> tuple[Array, Array]:
        palm, handle = sims.ids("site:S_grasp", "site:S_handle")
        return sims.site_xpos[:, palm], sims.site_xpos[:, handle]

    def observe(self, sims: Sims) -> Array:
        """Give hand, latch, door, palm, handle, and how far apart these are."""
        palm, handle = self._palm_handle(sims)
        hinge = self._hinge(sims)[:, None]
        return np.concatenate(
            [sims.qpos[:, 1:-2], sims.qpos[:, -1:], hinge, palm, handle, palm - handle,
             np.where(hinge > 1.0, 1.0, -1.0)],
            axis=1,
        )  # fmt: skip

    def names(self, model: mujoco.MjModel) -> list[str]:
        """Name hand, latch, door, palm, handle, and how far apart these are."""
        positions, _ = joint_names(model)
        parts = [*_xyz("palm"), *_xyz("handle"), *_xyz("palm - handle")]
        return [*positions[1:-2], positions[-1], positions[-2], *parts, "door is open"]

    def reward(self, sims: Sims, action: Array) -> tuple[Array, dict[str, Array]]:
        """Pay for opening, charge for distance to the handle, for the gap, and for speed."""
        palm, handle = self._palm_handle(sims)
        hinge = self._hinge(sims)
        cost = 0.1 * _norm(palm - handle) + 0.1 * np.square(hinge - 1.57)
        cost = cost + 1e-5 * np.add.reduce(np.square(sims.qvel), axis=-1)
        bonus = 2.0 * (hinge > 0.2) + 8.0 * (hinge > 1.0) + 10.0 * (hinge > 1.35)
        return bonus - cost, {"success": hinge >= 1.35}

    def terminated(self, sims: Sims) -> Array:
        """Never end an episode early."""
        return np.zeros(len(sims), dtype=bool)

    def terminal(self, observations: Any) -> Any:
        """Never end an episode early."""
        return never(observations)

    def reset(self, sims: Sims, row: int, rng: np.random.Generator) -> None:
        """Draw where the door stands."""
        (frame,) = sims.ids("body:frame")
        for axis, (low, high) in enumerate(zip(self.frame_low, self.frame_high, strict=True)):
            sims.body_pos[row, frame, axis] = rng.uniform(low, high)

    def remember(self, sims: Sims, started: Array | None) -> None:
        """Remember nothing."""


ADROIT: dict[str, Task] = {
    "pen": PenTask(
        frame_skip=5, fps=100, observation_size=45,
        camera={"distance": 0.7, "azimuth": -45.0, "elevation": -30.0, "lookat": (0.0, -0.15, 0.2)},
    ),
    "door": DoorTask(
        frame_skip=5, fps=100, observation_size=39,
        camera={"distance": 1.5, "azimuth": 90.0},
    ),
}  # fmt: skip

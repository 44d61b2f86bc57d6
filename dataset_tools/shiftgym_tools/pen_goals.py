"""Give the pen's transitions other goals: the hand and the pen move as they do for any target.

An episode's target is a direction of the pen and nothing that anything touches, so a transition
tells as much about every other direction. Only the observation's two target entries and the reward
change (hindsight relabelling, Andrychowicz et al. 2017, arXiv:1707.01495):

    | 24 hand | 3 place | 6 speed | 3 direction | 3 target | 3 place off the goal | 3 direction off |
                                    33            36         39                     42           45
"""

from __future__ import annotations

import numpy as np

from shiftgym.envs.adroit import PenTask

HEIGHT, DIRECTION, TARGET, PLACE_OFF, OFF = (
    26, slice(33, 36), slice(36, 39), slice(39, 42), slice(42, 45)
)  # fmt: skip
WIDEST = 1.0  # radians: a target is turned by two angles of at most this


def directions(angles: np.ndarray) -> np.ndarray:
    """Turn Euler angles `(N, 2)` in radians into target directions `(N, 3)`, as a reset does."""
    x, y = angles.T
    return np.stack([np.sin(y), -np.sin(x) * np.cos(y), np.cos(x) * np.cos(y)], 1)


def is_goal(found: np.ndarray) -> np.ndarray:
    """Say which directions `(N, 3)` a reset could draw."""
    x = np.arctan2(-found[:, 1], found[:, 2])
    y = np.arcsin(np.clip(found[:, 0], -1, 1))
    return (np.abs(x) <= WIDEST) & (np.abs(y) <= WIDEST)


def relabel(rows: np.ndarray, goals: np.ndarray, obs_size: int = 45) -> np.ndarray:
    """Return transitions as they would have been with other target directions.

    Args:
        rows: replay rows `(N, D)`: observation, action, next observation, reward, terminated.
        goals: unit vectors `(N, 3)`.
        obs_size: length of an observation.
    """
    rows = rows.copy()
    after = rows[:, rows.shape[1] - 2 - obs_size : -2]
    for obs in (rows[:, :obs_size], after):
        obs[:, TARGET] = goals
        obs[:, OFF] = obs[:, DIRECTION] - goals
    rows[:, -2] = reward(after)
    return rows


def reward(obs: np.ndarray) -> np.ndarray:
    """Give the reward `(N,)` of arriving at observations `(N, 45)`; as `PenTask.reward`."""
    distance = np.linalg.norm(obs[:, PLACE_OFF], axis=1)
    cosine = (obs[:, DIRECTION] * obs[:, TARGET]).sum(1)
    close = distance < 0.075
    bonus = 10.0 * (close & (cosine > 0.9)) + 50.0 * (close & (cosine > 0.95))
    return cosine - distance + bonus - 5.0 * (obs[:, HEIGHT] < PenTask.dropped_height)

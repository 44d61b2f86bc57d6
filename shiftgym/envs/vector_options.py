"""What Gymnasium lets a vector environment be told, checked and in one spelling."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from shiftgym.arrays import Array
from shiftgym.domains import episode_steps
from shiftgym.errors import ShiftgymError, nearest

NO_LIMIT = -1  # gymnasium.make's word for an environment without TimeLimit


def autoreset_mode(mode: str | AutoresetMode) -> AutoresetMode:
    """Accept ``next_step`` as well as Gymnasium's own spelling, ``NextStep``."""
    if isinstance(mode, AutoresetMode):
        return mode
    modes = {entry.name.lower(): entry for entry in AutoresetMode}
    modes |= {entry.value: entry for entry in AutoresetMode}
    if mode not in modes:
        raise ShiftgymError(f"Unknown autoreset_mode {mode!r}. {nearest(str(mode), modes)}")
    return modes[mode]


def episode_limit(steps: int | None, robot: str) -> int | None:
    """Give the steps after which an episode is truncated, None for never.

    Args:
        steps: as in ``gymnasium.make``: a positive number, None for the robot's own limit, or
            -1 for no limit.
        robot: the robot's name.

    Raises:
        ShiftgymError: any other value.
    """
    if steps is None:
        return episode_steps(robot)
    whole = isinstance(steps, int | np.integer) and not isinstance(steps, bool)
    if not whole or not (steps > 0 or steps == NO_LIMIT):
        raise ShiftgymError(
            f"max_episode_steps must be a positive number of steps, -1 for no limit or None for "
            f"the robot's own, got {steps!r}."
        )
    return None if steps == NO_LIMIT else int(steps)


def reset_mask(mask: Any, count: int) -> Array:
    """Give the sub-environments to reset, (N,) bool; all of them where the mask is None."""
    if mask is None:
        return np.ones(count, dtype=bool)
    if not isinstance(mask, np.ndarray) or mask.dtype != bool or mask.shape != (count,):
        raise ShiftgymError(f"options['reset_mask'] must be a bool array of shape ({count},).")
    if not mask.any():
        raise ShiftgymError("options['reset_mask'] selects no sub-environment.")
    return mask

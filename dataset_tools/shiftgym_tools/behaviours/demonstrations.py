"""Read recorded transitions that a behaviour trains on beside its own.

Where exploration is what fails, half of every batch comes from a recording of somebody who can do
it (as in RLPD, Ball et al. 2023, arXiv:2302.02948). The file has the flat layout of OTDF and D4RL,
with next observations; its rewards are the environment's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from shiftgym.arrays import Array
from shiftgym.errors import ShiftgymError
from shiftgym_tools.behaviours.multi_step import MultiStep

KEYS = ("observations", "actions", "next_observations", "rewards", "terminals")


def demonstrations_of(path: Path, slugs: Sequence[str]) -> list[Path]:
    """Give each domain's file: the same one, or ``<domain>.hdf5`` of a folder."""
    return [path / f"{slug}.hdf5" if path.is_dir() else path for slug in slugs]


def read_demonstrations(path: Path, obs_size: int, act_size: int, pending: MultiStep) -> Array:
    """Give a file's transitions as rows of the replay, with the same n-step returns.

    Args:
        path: HDF5 file; wider observations are cut (the Ant's 84 zeros).
        obs_size: length of the robot's observation.
        act_size: length of its action.
        pending: sums the rewards, for one sub-environment; used up.

    Returns:
        Rows (N, 2 obs + act + 2) float32: observation, action, next observation, reward, end.

    Raises:
        ShiftgymError: not such a file, or another robot's.
    """
    try:
        with h5py.File(path, "r") as file:
            parts = [np.asarray(file[key], np.float32) for key in KEYS]
    except (OSError, KeyError) as error:
        raise ShiftgymError(f"Cannot read demonstrations from {path}: {error}") from None
    obs, act, after, *ends = parts
    reward, ended = (part.ravel() for part in ends)
    if obs.ndim != 2 or obs.shape[1] < obs_size or act.shape[1:] != (act_size,):
        raise ShiftgymError(
            f"{path} holds observations {obs.shape} and actions {act.shape}; this robot has "
            f"{obs_size} and {act_size} numbers."
        )
    obs, after = obs[:, :obs_size], after[:, :obs_size]
    rows = np.concatenate([obs, act, after, np.stack([reward, ended], 1)], 1, dtype=np.float32)
    if not np.isfinite(rows).all():
        raise ShiftgymError(f"{path} holds numbers that are not finite.")
    follows = np.append((obs[1:] == after[:-1]).all(1), False)
    ripe = [pending.push(row[None], ~more[None]) for row, more in zip(rows, follows, strict=True)]
    return np.concatenate([row for row in ripe if row is not None])

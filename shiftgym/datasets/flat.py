"""Flat arrays: what learning takes, one row per transition.

    row                  0     1     2     3     4     5
    observations         s0    s1    s2    s0'   s1'   s2'     (N, O) float32
    actions              a0    a1    a2    a0'   a1'   a2'     (N, A) float32
    rewards              r1    r2    r3    r1'   r2'   r3'     (N,)   float32
    next_observations    s1    s2    s3    s1'   s2'   s3'     (N, O) float32
    terminated           0     0     1     0     0     0       (N,)   bool
    truncated            0     0     0     0     0     1       (N,)   bool
                         '--- episode ---' '--- episode ---'

Rows of an episode are consecutive and chained: inside it ``next_observations[i]`` is
``observations[i + 1]``. An episode's last row, and so the last row of all, is terminated or
truncated; ``next_observations`` there is what the environment really came to.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from gymnasium.spaces import Box

from shiftgym.domains import Domain
from shiftgym.errors import ShiftgymError

Flat = dict[str, np.ndarray]
FIELDS = (
    "observations",
    "actions",
    "rewards",
    "next_observations",
    "terminated",
    "truncated",
)
DTYPES = {name: np.dtype(np.float32) for name in FIELDS[:4]} | {
    name: np.dtype(np.bool_) for name in FIELDS[4:]
}
WIDE = ("observations", "actions", "next_observations")  # two axes


@cache
def spaces(of: Domain) -> tuple[Box, Box]:
    """Give the spaces of a domain's data: observations and actions, both float32."""
    from shiftgym.envs.tasks import TASKS
    from shiftgym.modelling import build_model

    task = TASKS[of.robot]
    observations = Box(-np.inf, np.inf, (task.observation_size,), np.float32)
    return observations, task.action_space(build_model(of))


def check_flat(
    flat: Flat, domain: Domain | None = None, *, unfinished: bool = False, first_row: int = 0
) -> None:
    """Check that flat arrays are what :mod:`shiftgym.datasets.flat` says.

    Args:
        flat: the arrays.
        domain: also check the widths against this domain's spaces.
        unfinished: the last episode may go on, as in a chunk of a longer set.
        first_row: number of the first row, for messages.

    Raises:
        ShiftgymError: what is wrong first, with the array and the row.
    """
    missing = [name for name in FIELDS if name not in flat]
    if missing or len(flat) != len(FIELDS):
        extra = sorted(set(flat) - set(FIELDS))
        raise ShiftgymError(f"Flat data hold {', '.join(FIELDS)}; missing {missing}, got {extra}.")
    rows = len(flat["rewards"]) if np.ndim(flat["rewards"]) else 0
    if not rows:
        raise ShiftgymError("The data hold no transitions.")
    for name in FIELDS:
        array, axes = flat[name], 2 if name in WIDE else 1
        if not isinstance(array, np.ndarray) or array.dtype != DTYPES[name]:
            got = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            raise ShiftgymError(f"{name} must be {DTYPES[name]}, got {got}.")
        if array.ndim != axes or len(array) != rows:
            wanted = f"({rows}, width)" if axes == 2 else f"({rows},)"
            raise ShiftgymError(f"{name} must be {wanted} as rewards are, got {array.shape}.")
        if array.dtype.kind == "f":
            _check_finite(name, array, first_row)
    if flat["next_observations"].shape != flat["observations"].shape:
        raise ShiftgymError(
            f"observations {flat['observations'].shape} and next_observations "
            f"{flat['next_observations'].shape} differ in shape."
        )
    if domain is not None:
        for name, space in zip(("observations", "actions"), spaces(domain), strict=True):
            if flat[name].shape[1:] != space.shape:
                raise ShiftgymError(
                    f"{name} of {domain.slug} have {space.shape[0]} numbers, "
                    f"got {flat[name].shape[1]}."
                )
    broken = breaks(flat)
    if len(broken):
        raise ShiftgymError(
            f"Row {first_row + broken[0]} does not lead to row {first_row + broken[0] + 1} and "
            "ends no episode: next_observations and observations differ."
        )
    if not unfinished and not ends(flat)[-1]:
        raise ShiftgymError("The last episode has no end: its last row is not truncated.")


def _check_finite(name: str, array: np.ndarray, first_row: int) -> None:
    """Look for NaN and infinity; a finite sum rules them out quickly."""
    with np.errstate(all="ignore"):
        if np.isfinite(array.sum(dtype=np.float64)):
            return
    row = int(np.argwhere(~np.isfinite(array))[0][0])
    raise ShiftgymError(f"{name} are not finite, first in row {first_row + row}.")


def ends(flat: Flat) -> np.ndarray:
    """Say which rows end an episode, (N,) bool."""
    return flat["terminated"] | flat["truncated"]


def breaks(flat: Flat) -> np.ndarray:
    """List the rows that end no episode and do not lead to the next row, int64."""
    joined = (flat["next_observations"][:-1] == flat["observations"][1:]).all(axis=1)
    return np.flatnonzero(~(joined | ends(flat)[:-1]))


def episode_bounds(flat: Flat) -> np.ndarray:
    """Give where episodes begin, and N at last: (E + 1,) int64."""
    return np.concatenate(([0], np.flatnonzero(ends(flat)) + 1))


def episode_returns(flat: Flat, limit: int | None = None) -> np.ndarray:
    """Give each episode's undiscounted return, (E,) float64.

    Args:
        flat: the arrays; rewards, terminated and truncated are enough.
        limit: the time limit in steps; gives the whole episodes only: those that a terminal state
            or this limit ended, not the end of the set or another cut. Every mean return and score
            of a dataset in this package is over whole episodes.
    """
    bounds = episode_bounds(flat)
    returns = np.add.reduceat(flat["rewards"].astype(np.float64), bounds[:-1])
    if limit is None:
        return returns
    return returns[flat["terminated"][bounds[1:] - 1] | (np.diff(bounds) >= limit)]


def mean_return(returns: np.ndarray) -> float | None:
    """Give the mean to 4 digits, as it is stored; None of no episode."""
    return round(float(returns.mean()), 4) if len(returns) else None


def concatenate(parts: list[Flat]) -> Flat:
    """Join flat arrays row after row."""
    return {name: np.concatenate([part[name] for part in parts]) for name in FIELDS}


def rows_of(flat: Flat, rows: slice) -> Flat:
    """Give some rows, as views."""
    return {name: flat[name][rows] for name in FIELDS}

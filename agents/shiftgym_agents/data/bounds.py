"""Find the box that actions lie in, which networks see as [-1, 1].

    action = center + half * u,   u = tanh(network) in [-1, 1]

The box is the one given with the pair, else that of the place where policies are evaluated, else
the smallest that holds the data's actions. For [-1, 1] nothing changes, to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.data.pairs import TrainingPair
from shiftgym_agents.data.places import slug_of, spaces_of
from shiftgym_agents.data.sources import Arrays, part_names, parts_of

BEYOND = 1e-3  # of half the box: how far recorded actions may lie outside, for rounding's sake


def box_of(pair: TrainingPair) -> tuple[np.ndarray, np.ndarray]:
    """Give the middle and the half width of a pair's box of actions, `(A,)` float32 each.

    Raises:
        ShiftgymError: the box is empty somewhere, or data lie outside; the message says how far.
    """
    data = [(name, np.asarray(part["actions"])) for name, part in _parts(pair)]
    size = data[0][1].shape[1]
    low, high, whose = _bounds(pair, data)
    if low.shape != (size,) or high.shape != (size,):
        raise ShiftgymError(
            f"Actions are {size} numbers, the bounds {len(low)} and {len(high)}: give one for each."
        )
    if not (low < high).all() or not np.isfinite([low, high]).all():
        raise ShiftgymError(f"{whose}: bounds of actions must rise, got {low} to {high}.")
    center, half = (low + high) / 2, (high - low) / 2
    for name, actions in data:
        beyond = np.abs((actions - center) / half).max(0)
        if (beyond > 1 + BEYOND).any():
            raise ShiftgymError(
                f"{name}: actions reach from {actions.min(0)} to {actions.max(0)}, beyond "
                f"{whose}, {low} to {high}: policies could not act so. Give the bounds with "
                "--action-low and --action-high, or scale or clip the data."
            )
    return center.astype(np.float32), half.astype(np.float32)


def _bounds(
    pair: TrainingPair, data: list[tuple[str, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray, str]:
    """Give the lowest and the highest actions, and whose they are."""
    given: Any = getattr(pair, "bounds", None)
    if given is not None:
        low, high = (np.atleast_1d(np.asarray(end, np.float64)) for end in given)
        size = data[0][1].shape[1]
        wide = [np.repeat(end, size) if len(end) == 1 else end for end in (low, high)]
        return wide[0], wide[1], "the bounds given"
    spaces = spaces_of(pair.domain)
    if spaces is not None and spaces[1].is_bounded():
        low, high = spaces[1].low.astype(np.float64), spaces[1].high.astype(np.float64)
        return low, high, f"those of {slug_of(pair.domain)}"
    low = np.min([actions.min(0) for _, actions in data], 0).astype(np.float64)
    high = np.max([actions.max(0) for _, actions in data], 0).astype(np.float64)
    same = low == high  # an action that never changes: any width will do
    return low - same, high + same, "the data's own range"


def _parts(pair: TrainingPair) -> Iterator[tuple[str, Arrays]]:
    for side, name in zip(("source", "target"), pair.names, strict=True):
        whole: Arrays = getattr(pair, side)
        for part, own in zip(parts_of(whole), part_names(whole, name), strict=True):
            yield f"{side} {own}", part

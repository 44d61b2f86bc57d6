"""Join several datasets into one that remembers which is which, and number trajectories.

rows            0 .. 3        4 .. 6     7 .. 9
part            0 0 0 0       1 1 1      2 2 2      which of the joined datasets
trajectory      0 0 1 1       2 2 2      3 3 4      through all of them; none joins two parts
step            0 1 0 1       0 1 2      0 1 0      place in the trajectory
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from shiftgym.basics.errors import ShiftgymError

Arrays = Mapping[str, np.ndarray]
"""Flat arrays `observations (N, O), actions (N, A), rewards (N,), next_observations (N, O),
terminated (N,) bool, truncated (N,) bool`."""


class Sources(Mapping[str, np.ndarray]):
    """Be the union of several datasets, one after the other, row for row.

    It reads like one dataset, so that every method takes it for one.

    Args:
        parts: the datasets.
        names: what each is called.
        shares: part of each that is kept, whole trajectories drawn at random, the same every time;
            everything by default.

    Attributes:
        whole: the datasets as they were given.
        parts: what is kept of each.

    Raises:
        ShiftgymError: nothing to join, or names or shares that do not go with the datasets.
    """

    def __init__(
        self, parts: Sequence[Arrays], names: Sequence[str], shares: Sequence[float] | None = None
    ) -> None:
        self.whole, self.names = tuple(parts), tuple(map(str, names))
        self.shares = (1.0,) * len(self.whole) if shares is None else tuple(map(float, shares))
        if not self.whole or not len(self.whole) == len(self.names) == len(self.shares):
            raise ShiftgymError(
                f"{len(self.whole)} sources have {len(self.names)} names and {len(self.shares)} "
                "shares: give one of each."
            )
        if len(set(self.names)) < len(self.names):
            raise ShiftgymError(f"Several sources have one name: {', '.join(self.names)}.")
        self.parts = tuple(
            part if share == 1 else some_trajectories(part, share, name)
            for part, name, share in zip(self.whole, self.names, self.shares, strict=True)
        )

    @property
    def title(self) -> str:
        """Name the whole: its parts, and their shares where not everything is kept."""
        shares = [f" x{share:g}" if share != 1 else "" for share in self.shares]
        return " + ".join(name + x for name, x in zip(self.names, shares, strict=True))

    def __getitem__(self, key: str) -> np.ndarray:
        """Join one array of all parts; no trajectory goes on from one part to the next."""
        joined = np.concatenate([np.asarray(part[key]) for part in self.parts])
        if key == "truncated":
            last = np.cumsum([len(part[key]) for part in self.parts]) - 1
            joined[last] |= ~self["terminated"].astype(bool)[last]
        return joined

    def __iter__(self) -> Iterator[str]:
        """List the arrays that every part has."""
        return (key for key in self.parts[0] if all(key in part for part in self.parts))

    def __len__(self) -> int:
        """Count the arrays."""
        return sum(1 for _ in self)


def parts_of(arrays: Arrays) -> tuple[Arrays, ...]:
    """Give the datasets that arrays are joined of: themselves where they are one."""
    return arrays.parts if isinstance(arrays, Sources) else (arrays,)


def part_names(arrays: Arrays, name: object) -> tuple[str, ...]:
    """Name the datasets that arrays are joined of; `name` is that of the whole."""
    return arrays.names if isinstance(arrays, Sources) else (str(name),)


@dataclass(frozen=True)
class Origins:
    """Say where rows come from, one whole number per row each.

    Attributes:
        part: which of the joined datasets.
        trajectory: which trajectory, counted through all of them.
        step: its place there; consecutive rows of a trajectory are consecutive in time.
    """

    part: np.ndarray = field(repr=False)
    trajectory: np.ndarray = field(repr=False)
    step: np.ndarray = field(repr=False)


def origins_of(arrays: Arrays) -> Origins:
    """Number the parts, trajectories and steps of a dataset's rows."""
    ends, lengths = [], []
    for part in parts_of(arrays):
        over = np.asarray(part["terminated"]).astype(bool) | np.asarray(part["truncated"], bool)
        over[-1:] = True
        ends.append(over)
        lengths.append(len(over))
    last = np.concatenate(ends)
    starts = np.concatenate([[0], np.flatnonzero(last[:-1]) + 1])
    trajectory = np.cumsum(last) - last
    step = np.arange(len(last)) - starts[trajectory]
    return Origins(np.repeat(np.arange(len(lengths)), lengths), trajectory, step)


def some_trajectories(arrays: Arrays, share: float, name: str) -> Arrays:
    """Keep whole trajectories drawn without replacement until a share of the rows is reached.

    Raises:
        ShiftgymError: the share is outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ShiftgymError(f"Share {share} of {name}: give a part of 1 above 0.")
    trajectory = origins_of(arrays).trajectory
    lengths = np.bincount(trajectory)
    order = np.random.default_rng(0).permutation(len(lengths))
    count = int(np.searchsorted(np.cumsum(lengths[order]), share * len(trajectory))) + 1
    kept = np.isin(trajectory, order[:count])
    return {key: np.asarray(array)[kept] for key, array in arrays.items()}

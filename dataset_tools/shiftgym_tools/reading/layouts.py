"""Layouts of other people's datasets, all read as one sequence of rows.

    flat HDF5 (D4RL, OTDF, ODRL)       Minari HDF5
    observations (N, O)                episode_0/observations (T + 1, O)
    actions (N, A)                               actions (T, A)
    rewards (N,) or (N, 1)                       rewards (T,)
    terminals                                    terminations (T,)
    timeouts            if there               truncations (T,)
    next_observations   if there       episode_1/...

A stored next observation is used as it is. Where a flat file has none, the next row's observation
stands in inside an episode, and the last row of each has no known one: its own observation stands
there, as in sets that were imported with such terminal rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from shiftgym.basics.arrays import Array
from shiftgym.datasets.flat import Flat
from shiftgym.envs.tasks import TASKS
from shiftgym.reading.hdf5_reading import explained

BLOCK = 1 << 24  # bytes of float32 read at a time
IN_MEMORY = 1 << 28  # sets up to this many bytes are kept after the first reading
NEEDED = ("observations", "actions", "rewards", "terminals")
ANT = TASKS["ant"].observation_size
ANT_WIDTHS = {  # what the Ant's observations may be followed by
    111: "mujoco-py's 14 bodies x 6, as in D4RL",
    105: "Ant-v5's 13 bodies x 6, as in Minari",
}


@dataclass(frozen=True)
class Layout:
    """Name a kind of flat file by the optional arrays it has.

    Attributes:
        title: what it is called in reports.
        has: its optional arrays.
        origin: whose files look so; empty where the domain tells.
    """

    title: str
    has: frozenset[str]
    origin: str


LAYOUTS = (
    Layout("D4RL v2", frozenset({"next_observations", "timeouts"}), "d4rl"),
    Layout("D4RL without next observations", frozenset({"timeouts"}), "d4rl"),
    Layout("OTDF or ODRL (no timeouts)", frozenset({"next_observations"}), ""),
    Layout("D4RL without next observations and timeouts", frozenset(), "d4rl"),
)
MINARI = Layout("Minari", frozenset({"next_observations", "timeouts"}), "minari")
PACKAGED = Layout("packaged", MINARI.has, "")


@dataclass(frozen=True)
class Block:
    """Hold consecutive rows as read: float32 and bool, not yet checked to be finite.

    Attributes:
        first: number of the first row.
        known: rows whose next observation is known, (n,).
        odd_flags: terminals or timeouts that are neither 0 nor 1.
    """

    first: int
    observations: Array
    actions: Array
    rewards: Array
    next_observations: Array
    terminals: Array
    timeouts: Array
    known: Array
    odd_flags: int


@dataclass
class Source:
    """Give the rows of an open file, in any order.

    Attributes:
        label: the file's or the set's name, for messages.
        layout: how it is laid out.
        rows: number of transitions.
        widths: numbers per observation as given out, and per action.
        cut: columns of each observation that are left out (the Ant's contact forces).
        cut_largest: largest absolute value seen in them.
        metadata: of a Minari set; empty otherwise.
    """

    label: str
    layout: Layout
    rows: int
    widths: tuple[int, int]
    path: Path
    metadata: dict[str, Any] = field(default_factory=dict)
    cut: int = 0
    cut_largest: float = 0.0
    _kept: Block | None = None

    def __post_init__(self):
        """See whether the observations are an Ant's with contact forces."""
        wide, actions = self.widths
        if wide in ANT_WIDTHS and actions == 8:
            self.widths, self.cut = (ANT, actions), wide - ANT

    def read(self, start: int, stop: int) -> Block:
        """Read rows ``start:stop``.

        Raises:
            ShiftgymError: the file is damaged there.
        """
        kept = self._kept
        if kept is None:
            return self._read(start, stop)
        arrays = {name: getattr(kept, name)[start:stop] for name in ARRAYS}
        return Block(start, odd_flags=kept.odd_flags if start == 0 else 0, **arrays)

    def blocks(self) -> Iterator[Block]:
        """Read everything once, in blocks of bounded size; what is small is remembered."""
        step = max(1, BLOCK // self._bytes(self.widths[0] + self.cut))
        keep = self._kept is None and self.rows * self._bytes(self.widths[0]) <= IN_MEMORY
        read = []
        for start in range(0, self.rows, step):
            block = self.read(start, min(start + step, self.rows))
            if keep:
                read.append(block)
            yield block
        if keep:
            joined = {n: np.concatenate([getattr(b, n) for b in read]) for n in ARRAYS}
            self._kept = Block(0, odd_flags=sum(b.odd_flags for b in read), **joined)

    def _bytes(self, width: int) -> int:
        """Count the bytes of a row whose observations have a width."""
        return 4 * (2 * width + self.widths[1] + 2)

    def _read(self, start: int, stop: int) -> Block:
        with explained(self.label):
            arrays, known = self._arrays(start, stop)
        odd = 0
        for name in ("terminals", "timeouts"):
            flags = arrays[name]
            odd += int((~np.isin(flags, (0, 1))).sum())
            arrays[name] = flags == 1
        for name in ("observations", "next_observations"):
            arrays[name] = self._narrow(arrays[name])
        known &= ~stood_in(arrays["observations"], arrays["next_observations"], arrays["terminals"])
        return Block(start, known=known, odd_flags=odd, **arrays)

    def _narrow(self, observations: Array) -> Array:
        """Leave out contact forces, and remember how large they were."""
        if self.cut:
            beyond = np.abs(observations[:, ANT:])
            self.cut_largest = float(max(self.cut_largest, beyond.max(initial=0.0)))
            observations = observations[:, :ANT]
        return np.ascontiguousarray(observations)

    def _arrays(self, start: int, stop: int) -> tuple[dict[str, Array], Array]:
        raise NotImplementedError


ARRAYS = (*NEEDED, "next_observations", "timeouts", "known")


@dataclass
class FlatSource(Source):
    """Read a flat file; ``arrays`` are its open datasets."""

    arrays: dict[str, h5py.Dataset] = field(default_factory=dict)

    def _arrays(self, start: int, stop: int) -> tuple[dict[str, Array], Array]:
        found = {name: _floats(self.arrays[name][start:stop]) for name in NEEDED[:3]}
        found["rewards"] = found["rewards"].reshape(-1)
        for name in ("terminals", "timeouts"):
            given = self.arrays.get(name)
            found[name] = np.zeros(stop - start) if given is None else given[start:stop].reshape(-1)
        known = np.ones(stop - start, dtype=bool)
        if "next_observations" in self.arrays:
            found["next_observations"] = _floats(self.arrays["next_observations"][start:stop])
        else:
            after = _floats(self.arrays["observations"][start + 1 : stop + 1])
            known = (found["terminals"] == 0) & (found["timeouts"] == 0)
            known[len(after) :] = False
            last = found["observations"][len(after) :]
            after = np.concatenate((after, last))
            after[~known] = found["observations"][~known]
            found["next_observations"] = after
        return found, known


@dataclass
class MinariSource(Source):
    """Read a Minari file; ``bounds`` (E + 1,) says where its episodes begin."""

    file: h5py.File | None = None
    bounds: Array = field(default_factory=lambda: np.zeros(1, np.int64))

    def _arrays(self, start: int, stop: int) -> tuple[dict[str, Array], Array]:
        assert self.file is not None
        parts: dict[str, list[Array]] = {name: [] for name in ARRAYS[:-1]}
        first = int(np.searchsorted(self.bounds, start, side="right")) - 1
        for k in range(first, len(self.bounds) - 1):
            begin, end = int(self.bounds[k]), int(self.bounds[k + 1])
            if begin >= stop:
                break
            low, high = max(start, begin) - begin, min(stop, end) - begin
            group: Any = self.file[f"episode_{k}"]
            states = _floats(group["observations"][low : high + 1])
            parts["observations"].append(states[:-1])
            parts["next_observations"].append(states[1:])
            parts["actions"].append(_floats(group["actions"][low:high]))
            parts["rewards"].append(_floats(group["rewards"][low:high]).reshape(-1))
            for name, key in (("terminals", "terminations"), ("timeouts", "truncations")):
                parts[name].append(group[key][low:high].reshape(-1))
        found = {name: np.concatenate(arrays) for name, arrays in parts.items()}
        return found, np.ones(stop - start, dtype=bool)


def stood_in(observations: Array, next_observations: Array, terminals: Array) -> Array:
    """Say which terminal rows have their own observation for want of a next one, (n,) bool."""
    found = np.array(terminals, dtype=bool)
    found[found] = (observations[found] == next_observations[found]).all(axis=1)
    return found


def from_flat(flat: Flat, label: str) -> Source:
    """Make a source of flat arrays that are in memory already."""
    rows, widths = len(flat["rewards"]), (flat["observations"].shape[1], flat["actions"].shape[1])
    source = Source(label, PACKAGED, rows, widths, Path(label))
    source._kept = Block(
        0,
        flat["observations"],
        flat["actions"],
        flat["rewards"],
        flat["next_observations"],
        flat["terminated"],
        flat["truncated"],
        np.ones(rows, dtype=bool),
        0,
    )
    return source


def _floats(values: Array) -> Array:
    """Convert to float32; what does not fit becomes infinite, and is found later."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(values, dtype=np.float32)

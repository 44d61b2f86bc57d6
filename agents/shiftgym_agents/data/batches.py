"""Keep datasets on the training device, packed in rows, and draw batches of all runs.

One float32 row per transition, so that a batch of all runs is one gather:

    | observation (O) | action (A) | next observation (O) | reward | terminated |   D = 2O + A + 2

Actions are stored as networks see them, in [-1, 1]: see bounds.py. A dataset that several runs
share is stored once. Every run draws its rows uniformly with replacement from its own source and
its own target dataset with its own generator, so a run sees the same rows alone and among others.
`Batch`, of batch.py, keeps the two domains apart: source rows come first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.data.batch import Batch
from shiftgym_agents.data.bounds import box_of
from shiftgym_agents.data.pairs import TrainingPair
from shiftgym_agents.data.places import check_fit
from shiftgym_agents.data.sources import Arrays, Origins, origins_of, part_names, parts_of

SIDES = ("source", "target")


@dataclass(frozen=True)
class Scaling:
    """Say how data are scaled before training; see `Data`."""

    states: str = "none"
    rewards: str = "none"


class Data:
    """Hold every dataset once, and which run draws from which.

    Args:
        pairs: One pair per run; runs may share pairs or datasets. One robot only.
        device: Where the rows live.
        dtype: float32, or float64 in tests.
        scaling: `states`: none, or standardise observations by mean and standard deviation + 1e-3
            of the pair's merged rows, of both datasets weighing half each (`balanced`), or of its
            target; `rewards`: none, or `returns` for one factor of the pair,
            1000 / (best - worst return of a whole trajectory in either dataset).
        target_share: part of every target that is kept (see `share_of`).
        sides: the datasets that scaling looks at: both, or the target for who trains on it alone.

    Raises:
        ShiftgymError: a dataset is empty, misshapen, of another robot than the rest, or holds
            numbers that are not finite; the message names it. Or the share is none.
    """

    def __init__(
        self,
        pairs: Sequence[TrainingPair],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        scaling: Scaling | None = None,
        target_share: float = 1.0,
        sides: Sequence[str] = SIDES,
    ) -> None:
        scaling = scaling or Scaling()
        self.runs, self.device = len(pairs), torch.device(device)
        self.obs_size, self.act_size = check_pairs(pairs)
        pieces: list[np.ndarray] = []
        found: dict[tuple[float, ...], tuple[int, int]] = {}  # dataset, scaling -> offset, length
        places: dict[str, list[tuple[int, int]]] = {side: [] for side in SIDES}
        moments: list[tuple[np.ndarray, np.ndarray]] = []
        for pair in {id(pair): pair for pair in pairs}.values():
            check_fit(pair.domain, self.obs_size, self.act_size)
        boxes = {id(pair): box_of(pair) for pair in pairs}
        self._origins: dict[int, Origins] = {}  # of the dataset that starts at this row
        for pair in pairs:
            rest = share_of(len(pair.target["rewards"]), target_share)
            kept = {"source": rest if pair.source is pair.target else slice(None), "target": rest}
            shift, scale = _moments(pair, scaling.states, kept, sides)
            factor = _return_factor(pair, sides) if scaling.rewards == "returns" else 1.0
            moments.append((shift, scale))
            for side in SIDES:
                arrays: Arrays = getattr(pair, side)
                scaled = scaling != Scaling()
                key = (id(arrays), id(pair.source), id(pair.target)) if scaled else (id(arrays),)
                key += (target_share if arrays is pair.target else 1.0,)
                center, half = boxes[id(pair)]
                key += (*center.tolist(), *half.tolist())
                if key not in found:
                    piece = _pack(arrays, shift, scale, (center, half), factor)[kept[side]]
                    found[key] = (sum(map(len, pieces)), len(piece))
                    pieces.append(piece)
                    own = origins_of(arrays)
                    self._origins[found[key][0]] = Origins(
                        *(
                            getattr(own, f.name)[kept[side]].astype(np.int32)
                            for f in fields(Origins)
                        )
                    )
                places[side].append(found[key])
        self.rows = torch.from_numpy(np.concatenate(pieces)).to(self.device, dtype)
        self.offset = {s: self._column([o for o, _ in places[s]]) for s in SIDES}
        self.sizes = {s: [n for _, n in places[s]] for s in SIDES}
        self.shift = np.stack([shift for shift, _ in moments])[:, None]
        self.scale = np.stack([scale for _, scale in moments])[:, None]
        self.action_center, self.action_half = (
            np.stack([boxes[id(pair)][k] for pair in pairs])[:, None] for k in (0, 1)
        )
        self.columns: dict[str, dict[str, Tensor]] = {side: {} for side in SIDES}

    def _column(self, values: list[int]) -> Tensor:
        return torch.tensor(values, device=self.device)[:, None]

    def draw(
        self, generators: Sequence[torch.Generator], updates: int, source: int, target: int
    ) -> Tensor:
        """Draw places in each run's own datasets for a block of updates, `(R, U, S + T)`."""
        drawn: list[Tensor] = []
        for run, generator in enumerate(generators):
            parts = [
                torch.randint(
                    self.sizes[side][run], (updates, n), generator=generator, device=self.device
                )
                for side, n in zip(SIDES, (source, target), strict=True)
            ]
            drawn.append(torch.cat(parts, 1))
        return torch.stack(drawn)

    def batch(self, places: Tensor, sources: int) -> Batch:
        """Gather the rows at places `(R, S + T)` of each run's own source, then target."""
        own = {"source": places[:, :sources], "target": places[:, sources:]}
        index = torch.cat([own[side] + self.offset[side] for side in SIDES], 1)
        rows = self.rows[index]
        columns: dict[str, Tensor] = {}
        for side in SIDES:
            for name, table in self.columns[side].items():
                wide = table if table.dim() == 3 else table[..., None]
                values = wide.gather(1, own[side][..., None].expand(-1, -1, wide.shape[2]))
                blank = values.new_zeros(
                    self.runs, places.shape[1] - values.shape[1], wide.shape[2]
                )
                both = [values, blank] if side == "source" else [blank, values]
                columns[name] = torch.cat(both, 1)
        ends = rows[..., -2:-1], rows[..., -1:]
        return Batch(rows, *ends, sources, self.obs_size, self.act_size, columns)

    def add_column(self, side: str, name: str, values: Tensor) -> None:
        """Store numbers per row of each run's dataset, `(R, N)` or `(R, N, k)`, as `sweep` goes."""
        if values.shape[:2] != (self.runs, max(self.sizes[side])) or values.dim() > 3:
            raise ValueError(f"column {name}: {tuple(values.shape)} is not (runs, rows of {side})")
        self.columns[side][name] = values.to(self.device, self.rows.dtype)

    def sweep(self, side: str, chunk: int = 8192) -> Iterator[tuple[slice, Batch]]:
        """Go through every row of one side in order, all runs at once, `chunk` rows at a time.

        Yields:
            Which rows, and the batch `(R, <= chunk, .)`. A dataset shorter than the longest of its
            side repeats its last row.
        """
        last = self._column(self.sizes[side]) - 1
        for start in range(0, max(self.sizes[side]), chunk):
            part = slice(start, min(start + chunk, max(self.sizes[side])))
            places = torch.arange(part.start, part.stop, device=self.device).minimum(last)
            yield part, self.batch(places, places.shape[1] if side == "source" else 0)

    def least_rewards(self) -> list[float]:
        """Give the least reward in both datasets of each run."""
        return [
            min(float(self.rows_of(side, run)[:, -2].min()) for side in SIDES)
            for run in range(self.runs)
        ]

    def rows_of(self, side: str, run: int) -> Tensor:
        """View all rows `(N, D)` of one run's dataset."""
        start = int(self.offset[side][run])
        return self.rows[start : start + self.sizes[side][run]]

    def origins(self, side: str) -> dict[str, Tensor]:
        """Say where every row of one side comes from, as `sweep` lays rows out.

        Returns:
            `part`: which of the run's sources, in the order of its pair's; `trajectory`: which
            trajectory, counted from 0 through all of the run's sources; `step`: its place there.
            Whole numbers `(R, N)` each. Rows of a trajectory are consecutive and in order; steps
            are left out only where `target_share` keeps some rows.
        """
        longest, found = max(self.sizes[side]), {}
        for name in (f.name for f in fields(Origins)):
            rows = [getattr(self._origins[int(start)], name) for start in self.offset[side]]
            filled = [np.pad(row, (0, longest - len(row)), "edge") for row in rows]
            found[name] = torch.from_numpy(np.stack(filled)).to(self.device).long()
        return found


def check_pairs(pairs: Sequence[TrainingPair]) -> tuple[int, int]:
    """Refuse data that cannot be trained on; return the lengths of observation and action.

    Raises:
        ShiftgymError: see `Data`.
    """
    if not pairs:
        raise ShiftgymError("No pairs to train on: give at least one source and target.")
    shapes: dict[tuple[int, int], str] = {}
    checked: set[int] = set()
    for pair in pairs:
        for side, name in zip(SIDES, pair.names, strict=True):
            whole: Arrays = getattr(pair, side)
            for arrays, part in zip(parts_of(whole), part_names(whole, name), strict=True):
                if id(arrays) not in checked:
                    shapes.setdefault(_check(arrays, f"{side} {part}"), f"{side} {part}")
                    checked.add(id(arrays))
    if len(shapes) > 1:
        said = "; ".join(f"{name}: {o} observed, {a} acted" for (o, a), name in shapes.items())
        raise ShiftgymError(
            f"Source and target must be of one robot, with the same observations ({said}). "
            "Choose two datasets of the same robot."
        )
    return next(iter(shapes))


def _check(arrays: Arrays, name: str) -> tuple[int, int]:
    """Check one dataset; return its observation and action lengths."""
    wanted = ("observations", "actions", "rewards", "next_observations", "terminated", "truncated")
    missing = [key for key in wanted if key not in arrays]
    if missing:
        raise ShiftgymError(f"{name} lacks {', '.join(missing)}; it has {', '.join(arrays)}.")
    count = len(arrays["rewards"])
    if not count:
        raise ShiftgymError(f"{name} is empty: make or import the dataset again.")
    for key in wanted:
        array = np.asarray(arrays[key])
        dims = 2 if key in ("observations", "actions", "next_observations") else 1
        if array.ndim != dims or len(array) != count:
            raise ShiftgymError(f"{name}: {key} has shape {array.shape}, expected {count} rows.")
        bad = np.flatnonzero(~np.isfinite(array.reshape(count, -1)).all(1))
        if len(bad):
            raise ShiftgymError(
                f"{name}: {key} is NaN or infinite in {len(bad)} of {count} rows, first in row "
                f"{bad[0]}: drop those rows or import the dataset again."
            )
    if arrays["observations"].shape != arrays["next_observations"].shape:
        raise ShiftgymError(f"{name}: observations and next_observations differ in length.")
    return arrays["observations"].shape[1], arrays["actions"].shape[1]


def share_of(count: int, share: float) -> np.ndarray | slice:
    """Choose `share * count` of `count` rows without replacement, in order; the same every time.

    Every seed of every method thus trains on the same rows. (DROCO's released code draws with
    replacement, anew for each seed.)

    Raises:
        ShiftgymError: the share is outside (0, 1], or of less than one row.
    """
    if not 0 < share <= 1 or round(share * count) < 1:
        raise ShiftgymError(f"--target-share {share} of {count} rows: give a part of 1 above 0.")
    if share == 1:
        return slice(None)
    return np.sort(np.random.default_rng(0).choice(count, round(share * count), replace=False))


def _moments(
    pair: TrainingPair,
    kind: str,
    kept: Mapping[str, np.ndarray | slice],
    sides: Sequence[str],
) -> tuple[np.ndarray, np.ndarray]:
    """Give mean and standard deviation + 1e-3 of a pair's observations, or 0 and 1."""
    if kind == "none":
        size = pair.target["observations"].shape[1]
        return np.zeros(size, np.float32), np.ones(size, np.float32)
    sides = ("target",) if kind == "target" else sides
    seen = [getattr(pair, side)["observations"][kept[side]] for side in sides]
    if kind == "merged":
        seen = [np.concatenate(seen)]
    means = np.stack([rows.mean(0, dtype=np.float64) for rows in seen])
    spreads = np.stack([rows.std(0, dtype=np.float64) for rows in seen])
    return means.mean(0), np.sqrt((spreads**2).mean(0) + means.var(0)) + 1e-3


def _pack(
    arrays: Arrays,
    shift: np.ndarray,
    scale: np.ndarray,
    box: tuple[np.ndarray, np.ndarray],
    factor: float,
) -> np.ndarray:
    obs, after = [(arrays[k] - shift) / scale for k in ("observations", "next_observations")]
    ends = np.stack([arrays["rewards"] * factor, arrays["terminated"]], 1)
    actions = (arrays["actions"] - box[0]) / box[1]
    return np.concatenate([obs, actions, after, ends], 1, dtype=np.float32)


def _return_factor(pair: TrainingPair, sides: Sequence[str]) -> float:
    """Give 1000 / (best - worst return) over the trajectories of a pair's datasets together.

    One factor: both domains are paid alike, and a handful of trajectories would give another.
    """
    parts = [part for side in sides for part in parts_of(getattr(pair, side))]
    returns = np.concatenate([_returns(part) for part in parts])
    if len(returns) < 2 or returns.max() == returns.min():
        raise ShiftgymError(
            "Rewards cannot be scaled by returns: the datasets have fewer than two whole "
            "trajectories of different return. Train with --normalize-reward none."
        )
    return 1000.0 / float(returns.max() - returns.min())


def _returns(arrays: Arrays) -> np.ndarray:
    """Give the returns of a dataset's whole trajectories, `(K,)`."""
    ends = np.flatnonzero(arrays["terminated"] | arrays["truncated"])
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else np.zeros(0, np.int64)
    sums = np.concatenate([[0.0], np.cumsum(arrays["rewards"], dtype=np.float64)])
    return sums[ends + 1] - sums[starts] if len(ends) else np.zeros(0)

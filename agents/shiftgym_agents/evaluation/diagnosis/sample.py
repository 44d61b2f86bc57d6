"""Draw a part of a pair that takes minutes, in stretches that count as independent.

Rows of one trajectory are alike, so that tests count trajectories and not rows. Both datasets are
cut into stretches of at most `LONGEST` rows, and whole stretches are drawn until there are rows
enough. Where either has few trajectories, stretches are shorter; those of one trajectory are alike
still: `Sample.cut` says so, and tests are optimistic then.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.data.batches import check_pairs
from shiftgym_agents.data.bounds import box_of
from shiftgym_agents.data.pairs import ArrayPair, TrainingPair, terminal_of
from shiftgym_agents.data.places import check_fit
from shiftgym_agents.data.sources import (
    Arrays,
    Sources,
    origins_of,
    part_names,
    parts_of,
    some_trajectories,
)

KEYS = ("observations", "actions", "rewards", "next_observations", "terminated", "truncated")
LONGEST = 1_000  # rows of a stretch
PIECES = 10  # stretches that a target of few trajectories is cut into at least
FEWEST = 40  # rows without which nothing can be told


@dataclass(frozen=True, eq=False)
class Side:
    """Hold the drawn rows of one dataset.

    Attributes:
        obs: `(N, O)` float64.
        act: `(N, A)`, in the pair's box, [-1, 1].
        change: next observation less observation, `(N, O)`.
        rewards: `(N,)`.
        group: which stretch each row is of, `(N,)`.
        part: which of several sources, `(N,)`.
    """

    obs: np.ndarray = field(repr=False)
    act: np.ndarray = field(repr=False)
    change: np.ndarray = field(repr=False)
    rewards: np.ndarray = field(repr=False)
    group: np.ndarray = field(repr=False)
    part: np.ndarray = field(repr=False)

    @property
    def obs_act(self) -> np.ndarray:
        """Give observations and actions side by side, `(N, O + A)`."""
        return np.concatenate([self.obs, self.act], 1)

    @property
    def whole(self) -> np.ndarray:
        """Give observations, actions and changes side by side, `(N, 2 O + A)`."""
        return np.concatenate([self.obs, self.act, self.change], 1)


@dataclass(frozen=True, eq=False)
class Sample:
    """Hold what is looked at.

    Attributes:
        pair: the drawn rows, for agents; actions have the box of the whole pair.
        source: the source's.
        target: the target's.
        parts: names of the sources.
        cut: whether there were so few trajectories that stretches are parts of the same ones.
    """

    pair: ArrayPair
    source: Side
    target: Side
    parts: tuple[str, ...]
    cut: bool


def draw(pair: TrainingPair, rows: int) -> Sample:
    """Draw at most about so many rows of either side; the same ones every time.

    Raises:
        ShiftgymError: data that cannot be learned from, or too few of them to tell anything.
    """
    observed, acted = check_pairs([pair])
    check_fit(pair.domain, observed, acted)
    center, half = box_of(pair)
    for name, arrays in zip(pair.names, (pair.source, pair.target), strict=True):
        if len(arrays["rewards"]) < FEWEST:
            raise ShiftgymError(
                f"{name} has {len(arrays['rewards'])} rows: nothing can be told from fewer than "
                f"{FEWEST}."
            )
    names = part_names(pair.source, pair.names[0])
    total, count = len(pair.source["rewards"]), len(pair.target["rewards"])
    lengths = [_length(arrays, rows) for arrays in (pair.source, pair.target)]
    longest = min([LONGEST, *filter(None, lengths)])
    each = [_some(part, longest, min(1.0, rows / total)) for part in parts_of(pair.source)]
    source: Arrays = each[0] if len(each) == 1 else Sources(each, names)
    target = _some(pair.target, longest, min(1.0, rows / count))
    drawn = ArrayPair(
        source, target, pair.domain, (str(pair.names[0]), str(pair.names[1])), pair.reference,
        (center - half, center + half), terminal_of(pair),
    )  # fmt: skip
    sides = [_side(arrays, center, half) for arrays in (source, target)]
    return Sample(drawn, sides[0], sides[1], names, any(lengths))


def _length(arrays: Arrays, rows: int) -> int:
    """Give the length that stretches need for there to be enough; 0 if trajectories are enough."""
    count = len(arrays["rewards"])
    drawn = min(count, rows)
    trajectories = origins_of(arrays).trajectory[-1] + 1
    if trajectories * drawn / count > PIECES - 0.5:
        return 0
    return max(FEWEST // PIECES, drawn // PIECES)


def _some(arrays: Arrays, longest: int, share: float) -> Arrays:
    """Cut trajectories into stretches, and keep some of them."""
    found = {key: np.asarray(arrays[key]) for key in KEYS}
    step = origins_of(arrays).step
    over = np.append(step[1:] % longest == 0, True)
    found["truncated"] = (found["truncated"].astype(bool) | over) & ~found["terminated"].astype(
        bool
    )
    return some_trajectories(found, share, "the data") if share < 1 else found


def _side(arrays: Arrays, center: np.ndarray, half: np.ndarray) -> Side:
    origins = origins_of(arrays)
    obs, after = (np.asarray(arrays[k], np.float64) for k in ("observations", "next_observations"))
    act = (np.asarray(arrays["actions"], np.float64) - center) / half
    rewards = np.asarray(arrays["rewards"], np.float64)
    return Side(obs, act, after - obs, rewards, origins.trajectory, origins.part)

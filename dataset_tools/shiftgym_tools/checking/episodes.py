"""Decide what becomes of a dataset's rows, and where its episodes end.

    as in the file     s0 s1 s2|s0' s1' s2'|s0" ..      '|': a reset; the row before it may say
    row                 0  1  2   3   4   5   6             terminal, timeout, or nothing at all
    lost                         its next observation: none is stored, or another episode's first
    filled                       a lost one that a replay knows, or that nobody needs (terminal)
    dropped                      the other lost ones
    terminated                   the file's terminals
    truncated                    everywhere else where an episode stops

Every row's fate is decided from what a scan and a replay noted, without reading it again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shiftgym.arrays import Array
from shiftgym.datasets.flat import Flat, episode_returns
from shiftgym.domains import Domain, episode_steps
from shiftgym_tools.checking.scanning import Scan

JOINS = "join two episodes"
UNKNOWN = "have no known next observation"
REPLAYED = "with the next observation that a replay of the step gives"
STOOD_IN = (
    "with their own observation in place of the next one, which nobody knows: they are terminal, "
    "and what comes after a terminal state is not used"
)
RECORDED = {"pen": (100,)}  # time limits that data of others have, beside the robot's own


@dataclass(frozen=True)
class Episodes:
    """Tell what becomes of N rows.

    Attributes:
        kept: rows that go into the dataset, (N,) bool.
        terminated: (N,) bool, among the kept rows.
        truncated: (N,) bool, likewise; every episode's last row is one or the other.
        lost: numbers of the rows whose next observation is not theirs or not known, by reason.
        filled: of these, the rows that are kept, by what stands there instead.
        dropped: of these, the rows left out, by reason.
        ends: number of episodes by how they end.
        lengths: steps of each episode as recorded, a dropped last one included, (E,) int64.
        kept_lengths: steps of each that are kept, (E,) int64.
        recorded: rewards, terminated and truncated of all N rows, dropped ones included.
        limit: steps at which a time limit was found; None where none was reached.
        usual: steps of the domain's own time limit.
        inside: rows flagged terminal or cut after which the episode goes on.
    """

    kept: Array
    terminated: Array
    truncated: Array
    lost: dict[str, Array]
    filled: dict[str, Array]
    dropped: dict[str, Array]
    ends: dict[str, int]
    lengths: Array
    kept_lengths: Array
    recorded: Flat
    limit: int | None
    usual: int
    inside: int

    @property
    def returns(self) -> Array:
        """Give the undiscounted return of each whole episode as it was recorded, float64.

        A terminal state or the time limit ended it; a dropped row counts with its reward.
        """
        return episode_returns(self.recorded, self.limit or self.usual)

    def returns_with(self, rewards: Array) -> Array:
        """Give them with other rewards, (N,); an episode with an unknown one (NaN) is left out."""
        found = episode_returns(self.recorded | {"rewards": rewards}, self.limit or self.usual)
        return found[~np.isnan(found)]


def find_joins(found: Scan, replayed: Array | None) -> Array:
    """Say which rows lead into the first state of another episode, (N,) bool.

    Args:
        found: the scan.
        replayed: rows that a replay shows to arrive elsewhere than in the first state recorded;
            None where nothing can be replayed, so that leading from elsewhere into a first state
            is evidence enough.
    """
    # No environment goes on from a terminal state: what follows is the state after a reset.
    joins = found.terminal & goes_on(found) & found.into_start
    return joins | (found.into_start if replayed is None else replayed)


def goes_on(found: Scan) -> Array:
    """Say which rows end exactly where the next one starts, (N,) bool."""
    return np.append(found.follows[1:], False)


def cut_episodes(
    found: Scan, joins: Array, where: Domain, terminal: Array, arrived: dict[int, Array]
) -> Episodes:
    """Decide about every row.

    Args:
        found: the scan.
        joins: rows that join two episodes, (N,) bool.
        where: the domain, for its usual time limit.
        terminal: rows that end in a terminal state, (N,) bool.
        arrived: next observations that a replay knows, by row.
    """
    rows = len(found)
    lost = {UNKNOWN: ~found.known, JOINS: joins & found.known}
    all_lost = ~found.known | joins
    known_again = np.zeros(rows, dtype=bool)
    known_again[list(arrived)] = True
    filled = {REPLAYED: all_lost & known_again, STOOD_IN: all_lost & ~known_again & terminal}
    gone = all_lost & ~known_again & ~terminal
    kept, flagged = ~gone, terminal | found.timeout
    on = goes_on(found) & ~all_lost
    ends = flagged | ~on

    last = np.flatnonzero(ends)
    stops = np.concatenate(([0], last + 1))
    lengths, counts = np.diff(stops), np.diff(np.concatenate(([0], np.cumsum(kept)))[stops])
    limit = _limit(lengths, ~terminal[last], found.timeout[last], where)
    rest, at_limit, flag = ~terminal[last], lengths == limit, found.timeout[last]
    kinds = {
        "in a terminal state": ~rest,
        "at the time limit": rest & at_limit,
        "cut with a flag": rest & ~at_limit & flag,
        "cut without a flag": rest & ~at_limit & ~flag,
    }
    recorded = {
        "rewards": found.rewards,
        "terminated": ends & terminal,
        "truncated": ends & ~terminal,
    }
    return Episodes(
        kept,
        recorded["terminated"],
        kept & ~recorded["terminated"] & (ends | np.append(gone[1:], False)),
        _numbers(lost),
        _numbers(filled),
        _numbers({reason: which & gone for reason, which in lost.items()}),
        {kind: int(n) for kind, which in kinds.items() if (n := (which & (counts > 0)).sum())},
        lengths[counts > 0],
        counts[counts > 0],
        recorded,
        limit,
        episode_steps(where.robot),
        int((flagged & goes_on(found) & ~all_lost).sum()),
    )


def _numbers(which: dict[str, Array]) -> dict[str, Array]:
    """List marked rows by what marks them, leaving out what marks none."""
    return {key: np.flatnonzero(marked) for key, marked in which.items() if marked.any()}


def _limit(lengths: Array, cut: Array, flag: Array, where: Domain) -> int | None:
    """Find the time limit among the lengths of episodes that do not end in a terminal state.

    Without a flag, only a limit that environments of this robot have is believed.
    """
    usual = (episode_steps(where.robot), *RECORDED.get(where.robot, ()))
    if (lengths[cut] == usual[0]).any():
        return usual[0]
    values, counts = np.unique(lengths[cut], return_counts=True)
    if not len(values) or counts.max() <= max(1, cut.sum() // 2):
        return None
    found = int(values[counts.argmax()])
    told = flag[cut & (lengths == found)]
    return found if found in usual or 2 * told.sum() > len(told) else None

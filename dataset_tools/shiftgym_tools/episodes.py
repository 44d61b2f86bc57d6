"""Decide which rows of a dataset are kept, and where its episodes end.

    as in the file     s0 s1 s2|s0' s1' s2'|s0" ..      '|': a reset; the row before it may say
    row                 0  1  2   3   4   5   6             terminal, timeout, or nothing at all
    dropped                                               a row that leads across a reset
    terminated             the file's terminals
    truncated              everywhere else where an episode stops

Every row's fate is decided from what a scan and a replay noted, without reading it again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shiftgym.datasets.flat import episode_returns
from shiftgym.domains import Domain, episode_steps
from shiftgym.envs.task import Array
from shiftgym_tools.scanning import Scan

JOINS = "join two episodes"
UNKNOWN = "have no known next observation"


@dataclass(frozen=True)
class Episodes:
    """Tell what becomes of N rows.

    Attributes:
        kept: rows that go into the dataset, (N,) bool.
        terminated: (N,) bool, among the kept rows.
        truncated: (N,) bool, likewise; every episode's last row is one or the other.
        dropped: numbers of the rows left out, by reason.
        ends: number of episodes by how they end.
        lengths: steps of each episode, (E,) int64.
        returns: undiscounted return of each whole episode: one that a terminal state or the time
            limit ended, or a row dropped just before it, float64.
        limit: steps at which a time limit was found; None where none was reached.
        inside: rows flagged terminal or cut after which the episode goes on.
    """

    kept: Array
    terminated: Array
    truncated: Array
    dropped: dict[str, Array]
    ends: dict[str, int]
    lengths: Array
    returns: Array
    limit: int | None
    inside: int


def find_joins(found: Scan, replayed: Array | None) -> Array:
    """Say which rows lead into the first state of another episode, (N,) bool.

    Args:
        found: the scan.
        replayed: rows that a replay shows to arrive elsewhere than in the first state recorded;
            None where nothing can be replayed, so that leading from elsewhere into a first state
            is evidence enough.
    """
    goes_on = np.zeros(len(found), dtype=bool)
    goes_on[:-1] = found.follows[1:]
    # No environment goes on from a terminal state: what follows is the state after a reset.
    joins = found.terminal & goes_on & found.into_start
    return joins | (found.into_start if replayed is None else replayed)


def cut_episodes(found: Scan, joins: Array, where: Domain) -> Episodes:
    """Decide about every row.

    Args:
        found: the scan.
        joins: rows that join two episodes, (N,) bool.
        where: the domain, for its usual time limit.
    """
    rows = len(found)
    dropped = {UNKNOWN: ~found.known, JOINS: joins & found.known}
    kept = found.known & ~joins
    goes_on = np.zeros(rows, dtype=bool)
    goes_on[:-1] = found.follows[1:] & kept[1:]
    flagged = found.terminal | found.timeout
    ends = kept & (flagged | ~goes_on)
    terminated = ends & found.terminal
    truncated = ends & ~terminated

    numbers = np.cumsum(kept)[ends]  # rows kept up to and with each episode's last
    lengths = np.diff(np.concatenate(([0], numbers)))

    last = np.flatnonzero(ends)
    before_gap = np.zeros(len(last), dtype=bool)
    before_gap[:] = ~np.append(kept, True)[last + 1]
    limit = _limit(lengths[truncated[last] & ~before_gap], where)
    at_limit, flag = lengths == limit, found.timeout[last]
    kinds = {
        "in a terminal state": terminated[last],
        "at the time limit": truncated[last] & at_limit,
        "cut with a flag": truncated[last] & ~at_limit & flag,
        "before a dropped row": truncated[last] & ~at_limit & ~flag & before_gap,
        "cut without a flag": truncated[last] & ~at_limit & ~flag & ~before_gap,
    }
    rows_kept = {
        "rewards": found.rewards[kept],
        "terminated": terminated[kept],
        "truncated": truncated[kept],
    }
    return Episodes(
        kept,
        terminated,
        truncated,
        {reason: np.flatnonzero(which) for reason, which in dropped.items() if which.any()},
        {kind: int(which.sum()) for kind, which in kinds.items() if which.any()},
        lengths,
        episode_returns(rows_kept, limit or episode_steps(where.robot)),
        limit,
        int((flagged & goes_on & kept).sum()),
    )


def _limit(lengths: Array, where: Domain) -> int | None:
    """Find the time limit among the lengths of episodes that do not end in a terminal state."""
    usual = episode_steps(where.robot)
    if (lengths == usual).any():
        return usual
    values, counts = np.unique(lengths, return_counts=True)
    if len(values) and counts.max() > max(1, len(lengths) // 2):
        return int(values[counts.argmax()])
    return None

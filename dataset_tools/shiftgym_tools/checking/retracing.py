"""Retrace a dataset of a locomotion robot: what replaying its rows in a domain tells of them.

    replay a sample -> confirm the domain -> replay every row whose fate depends on it, with those
                                             just before it: flags, and steps that may cross a reset

A flag is judged by where its own row leads, one by one, however many rows are right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shiftgym.basics.arrays import Array
from shiftgym.basics.errors import ShiftgymError
from shiftgym.domains import Domain
from shiftgym.envs.tasks import TASKS
from shiftgym_tools.checking.fitting import ENGINES, Verdict, find_fit, judge, runs
from shiftgym_tools.checking.replay import FIELDS, Replay, Transitions
from shiftgym_tools.checking.rounding import explain
from shiftgym_tools.checking.scanning import Scan
from shiftgym_tools.reading.layouts import Block, Source

WHOLE = 20_000  # rows up to which all are replayed
SAMPLE = 8_192  # rows that are replayed of larger sets, in runs of
RUN = 64
BEFORE = 64  # rows before a suspicious one that are replayed with it, for clipped velocities
PART = 50_000  # rows replayed at a time

Progress = Callable[[int], Any]


@dataclass
class Retraced:
    """Gather what replays told; arrays have N rows.

    Attributes:
        tried: rows that were replayed, (N,) bool.
        usable: of these, the rows whose velocities are known, (N,) bool.
        joins: rows that turned out to lead across a reset, (N,) bool.
        errors: one-step error (m, rad, m/s, rad/s), NaN elsewhere, (N,).
        reward_gaps: the row's reward less the domain's own, NaN elsewhere, (N,).
        fell: rows that the domain's own step ends in a terminal state, (N,) bool.
        wrong_terminals: rows whose terminal flag neither the replay nor the row's own next
            observation agrees with, (N,) bool.
        arrived: the observations (O,) that replays of rows without one of their own arrive with,
            by row.
    """

    tried: Array
    usable: Array
    joins: Array
    errors: Array
    reward_gaps: Array
    fell: Array
    wrong_terminals: Array
    arrived: dict[int, Array] = field(default_factory=dict)

    @classmethod
    def nothing(cls, rows: int) -> Retraced:
        """Start with nothing replayed."""
        flags = ("tried", "usable", "joins", "fell", "wrong_terminals")
        arrays: dict[str, Any] = {name: np.zeros(rows, dtype=bool) for name in flags}
        for name in ("errors", "reward_gaps"):
            arrays[name] = np.full(rows, np.nan, np.float32)
        return cls(**arrays)

    def note(self, numbers: Array, rows: Transitions, found: Replay, known: Array) -> None:
        """Note a replay of rows with these numbers; a row that was tried already stays as it is.

        Args:
            numbers: the rows' numbers, (n,).
            rows: the rows.
            found: their replay.
            known: which of them have a next observation of their own, (n,) bool.
        """
        new = ~self.tried[numbers]
        usable, joins = found.usable & new, found.joins & known & new
        at = numbers[new]
        self.tried[at], self.usable[at], self.joins[at] = True, usable[new], joins[new]
        self.fell[at] = (found.terminated & usable)[new]
        judged = usable & ~joins & known
        at = numbers[judged]
        self.errors[at] = np.nan_to_num(found.errors[judged], nan=np.inf)
        gaps = rows.rewards[usable] - found.rewards[usable]
        self.reward_gaps[numbers[usable]] = np.clip(np.nan_to_num(gaps, nan=1e30), -1e30, 1e30)
        wrong = usable & (found.terminated != rows.terminals)
        task = TASKS[found.domain.robot]
        own = np.asarray(task.terminal(rows.next_observations[:, : task.observation_size]))
        self.wrong_terminals[numbers] |= wrong & (~judged | (own != rows.terminals))
        for k in np.flatnonzero(usable & ~judged & np.isfinite(found.arrived).all(axis=1)):
            self.arrived[int(numbers[k])] = found.arrived[k].astype(np.float32)


def retrace(
    source: Source, found: Scan, where: Domain, all_rows: bool, progress: Progress | None
) -> tuple[Verdict, Retraced]:
    """Replay what has to be known of a dataset.

    Args:
        source: the open dataset.
        found: its scan.
        where: the claimed domain, of a locomotion robot.
        all_rows: replay every row of a large set.
        progress: called with the number of rows replayed.

    Raises:
        ShiftgymError: no row can be replayed.
    """
    good = found.sane & found.known
    if not good.any():
        raise ShiftgymError(f"{source.label}: no row is sane and has a known next observation.")
    few = len(found) <= WHOLE
    sample = good & (good if few else runs(len(found), SAMPLE, RUN))
    retraced = Retraced.nothing(len(found))
    parts = list(picked(source, sample))
    numbers = np.concatenate([part[0] for part in parts])
    rows = Transitions(
        **{name: np.concatenate([getattr(part[1], name) for part in parts]) for name in FIELDS}
    )
    verdict = find_fit(where, rows, progress)
    if not verdict.confirmed:
        return verdict, retraced
    physics = ENGINES[verdict.own.engine][1]
    retraced.note(numbers, rows, explain(rows, verdict.own.found, physics), found.known[numbers])
    asked = np.ones(len(found), dtype=bool) if all_rows else _asked(found)
    asked &= found.sane & ~retraced.tried
    for numbers, rows in picked(source, found.sane & (asked.any() if few else _context(asked))):
        fit = judge(where, rows, verdict.own.engine, progress)
        retraced.note(numbers, rows, explain(rows, fit.found, physics), found.known[numbers])
    return verdict, retraced


def _asked(found: Scan) -> Array:
    """Mark the rows whose fate a replay decides, (N,) bool."""
    last = np.append(~found.follows[1:], True)
    return found.into_start | found.terminal | last


def _context(suspicious: Array) -> Array:
    """Mark suspicious rows (N,) with the rows just before each."""
    marked = suspicious.copy()
    for shift in range(1, min(BEFORE, len(suspicious) - 1) + 1):
        marked[:-shift] |= suspicious[shift:]
    return marked


def picked(source: Source, which: Array) -> Iterator[tuple[Array, Transitions]]:
    """Read the marked rows, at most ``PART`` at a time, with their numbers."""
    if which.any():
        yield from picked_from(source.blocks(), which)


def picked_from(blocks: Iterable[Block], which: Array) -> Iterator[tuple[Array, Transitions]]:
    """Read the marked rows of blocks, likewise."""
    for block in blocks:
        inside = np.flatnonzero(which[block.first : block.first + len(block.rewards)])
        for start in range(0, len(inside), PART):
            rows = inside[start : start + PART]
            chosen = {name: getattr(block, name)[rows] for name in FIELDS}
            yield block.first + rows, Transitions(**chosen)

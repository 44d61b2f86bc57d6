"""Examine an open dataset in a claimed domain: what import and verify both need to know.

    scan all rows -> replay a sample -> confirm the domain -> replay the suspicious rows
                 (hands: check what observations tell)        -> find joins -> cut episodes

Whatever is found is told in words; the commands decide what to refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shiftgym.domains import Domain
from shiftgym.envs.locomotion import Locomotion
from shiftgym.envs.task import Array
from shiftgym.envs.tasks import TASKS
from shiftgym.errors import ShiftgymError
from shiftgym.modelling import build_model
from shiftgym_tools.episodes import Episodes, cut_episodes, find_joins
from shiftgym_tools.fitting import Fit, Verdict, best, find_fit, judge, runs
from shiftgym_tools.hand_checks import HandCheck
from shiftgym_tools.layouts import Source
from shiftgym_tools.replay import FIELDS, Replay, Transitions
from shiftgym_tools.scanning import Scan, scan

WHOLE = 20_000  # rows up to which all are replayed
SAMPLE = 8_192  # rows that are replayed of larger sets, in runs of
RUN = 64
BEFORE = 16  # rows before a suspicious one that are replayed with it, for clipped velocities
PART = 50_000  # rows replayed at a time
REWARD_CLOSE = 1e-3  # float32 rewards of size 10; the Ant's lag, where it must be guessed

Progress = Callable[[int], Any]


@dataclass
class Replayed:
    """Gather what replays told; arrays have N rows.

    Attributes:
        tried: rows that were replayed, (N,) bool.
        usable: of these, the rows whose velocities are known, (N,) bool.
        joins: rows that turned out to lead across a reset, (N,) bool.
        errors: one-step error (m, rad, m/s, rad/s), NaN elsewhere, (N,).
        reward_errors: likewise, of the reward.
        wrong_terminals: rows whose terminal flag differs from the replay's, (N,) bool.
    """

    tried: Array
    usable: Array
    joins: Array
    errors: Array
    reward_errors: Array
    wrong_terminals: Array

    @classmethod
    def nothing(cls, rows: int) -> Replayed:
        """Start with nothing replayed."""
        bools = {name: np.zeros(rows, dtype=bool) for name in ("tried", "usable", "joins")}
        floats = {name: np.full(rows, np.nan, np.float32) for name in ("errors", "reward_errors")}
        return cls(**bools, **floats, wrong_terminals=np.zeros(rows, dtype=bool))

    def note(self, numbers: Array, found: Replay, terminals: Array) -> None:
        """Note a replay of the rows with these numbers."""
        kept = found.kept()
        self.tried[numbers], self.usable[numbers] = True, found.usable
        self.joins[numbers] = found.joins
        self.errors[numbers] = np.where(kept, np.nan_to_num(found.errors, nan=np.inf), np.nan)
        self.reward_errors[numbers] = np.where(kept, np.minimum(found.reward_errors, 1e30), np.nan)
        self.wrong_terminals[numbers] = (found.terminated != terminals) & kept


@dataclass
class Examination:
    """Tell what was found out about a dataset.

    Attributes:
        source: the open dataset.
        domain: the claimed domain.
        scan: what is in its rows.
        verdict: which domain fits; None for a hand.
        replayed: what the replays told; None for a hand.
        hand: what was checked instead; None for a locomotion robot.
        episodes: which rows are kept and where episodes end.
        problems: what contradicts the claim or makes rows unusable, in words.
    """

    source: Source
    domain: Domain
    scan: Scan
    verdict: Verdict | None
    replayed: Replayed | None
    hand: HandCheck | None
    episodes: Episodes
    problems: list[str] = field(default_factory=list)

    @property
    def fit(self) -> Fit | None:
        """Give the claimed domain's fit; None for a hand."""
        return None if self.verdict is None else self.verdict.own


def examine(
    source: Source, where: Domain, *, all_rows: bool = False, progress: Progress | None = None
) -> Examination:
    """Find out all that import and verify need.

    Args:
        source: the open dataset.
        where: the claimed domain.
        all_rows: replay every row of a large set, too, not only a sample and suspicious rows.
        progress: called with the number of rows just read or replayed.

    Raises:
        ShiftgymError: the file is damaged, or its arrays are not of this robot (and whose they
            are, if that shows).
    """
    check_widths(source, where)
    found = scan(source, where, progress)
    hand = verdict = replayed = None
    problems = _unfit(source, found)
    if isinstance(TASKS[where.robot], Locomotion):
        verdict, replayed = _replay(source, found, where, all_rows, progress)
        joins = find_joins(found, replayed.joins | (found.into_start & ~replayed.usable))
        if not verdict.confirmed:
            problems.append(misfit(verdict))
    else:
        hand = HandCheck(where)
        for block in source.blocks():
            hand.note(block)
        problems += hand.problems()
        joins = find_joins(found, None)
    episodes = cut_episodes(found, joins, where)
    return Examination(source, where, found, verdict, replayed, hand, episodes, problems)


def check_widths(source: Source, where: Domain) -> None:
    """Check that rows are as wide as a robot's.

    Raises:
        ShiftgymError: they are not; the message names the domain they do fit, if one does.
    """
    widths = (TASKS[where.robot].observation_size, build_model(where).nu)
    if source.widths == widths:
        return
    message = (
        f"{source.label}: observations are {source.widths[0]} wide and actions "
        f"{source.widths[1]}; the {where.robot}'s are {widths[0]} and {widths[1]}."
    )
    same = [r for r, task in TASKS.items() if task.observation_size == source.widths[0]
            and build_model(Domain(r)).nu == source.widths[1]]  # fmt: skip
    if not same:
        raise ShiftgymError(f"{message} No robot here has these.")
    if isinstance(TASKS[same[0]], Locomotion):
        blocks = [source.read(0, min(source.rows, 4 * RUN))]
        numbers, rows = next(_picked_from(blocks, np.ones(source.rows, dtype=bool)), (None, None))
        if rows is not None and numbers is not None:
            from shiftgym_tools.fitting import same_shape

            rival = best(same_shape(rows), rows, ["mujoco210"])
            if rival is not None and rival.fits:
                raise ShiftgymError(f"{message} It fits --domain {rival.domain.slug}.")
    raise ShiftgymError(f"{message} They could be the {' or the '.join(same)}'s.")


def misfit(verdict: Verdict) -> str:
    """Say that a claim does not hold, and what does."""
    own = verdict.own
    head = f"the rows were not recorded in {own.domain.slug} (replayed there, {own})"
    if verdict.better is None:
        return f"{head}; no domain of the catalogue fits, the nearest is {verdict.nearest}"
    better = verdict.better
    return f"{head}; they fit {better}. Say --domain {better.domain.slug}"


def _unfit(source: Source, found: Scan) -> list[str]:
    problems = []
    if found.unfit is not None:
        name, row, value = found.unfit
        what = f"reach {value:.3g}" if np.isfinite(value) else "are not finite"
        bad = int((~found.sane).sum())
        problems.append(f"{name} {what}, first in row {row}; {bad} rows are affected")
    if found.odd_flags:
        problems.append(f"{found.odd_flags} terminal or timeout flags are neither 0 nor 1")
    if source.cut and not source.cut_largest <= 1.0:
        problems.append(
            f"the {source.cut} numbers after the Ant's {source.widths[0]} reach "
            f"{source.cut_largest:g}: neither zero padding nor contact forces (clipped to 1)"
        )
    return problems


def _replay(
    source: Source, found: Scan, where: Domain, all_rows: bool, progress: Progress | None
) -> tuple[Verdict, Replayed]:
    good = found.sane & found.known
    if not good.any():
        raise ShiftgymError(f"{source.label}: no row is sane and has a known next observation.")
    few = len(found) <= WHOLE
    sample = good & (good if few else runs(len(found), SAMPLE, RUN))
    replayed = Replayed.nothing(len(found))
    parts = list(picked(source, sample))
    numbers = np.concatenate([part[0] for part in parts])
    rows = Transitions(
        **{name: np.concatenate([getattr(part[1], name) for part in parts]) for name in FIELDS}
    )
    verdict = find_fit(where, rows, progress)
    if not verdict.confirmed:
        return verdict, replayed
    replayed.note(numbers, verdict.own.found, rows.terminals)
    rest = np.ones(len(found), dtype=bool) if all_rows else _context(found.into_start)
    for numbers, rows in picked(source, rest & good & ~replayed.tried):
        fit = judge(where, rows, verdict.own.engine, progress)
        replayed.note(numbers, fit.found, rows.terminals)
    return verdict, replayed


def _context(suspicious: Array) -> Array:
    """Mark suspicious rows (N,) with the rows just before each."""
    marked = suspicious.copy()
    for shift in range(1, BEFORE + 1):
        marked[:-shift] |= suspicious[shift:]
    return marked


def picked(source: Source, which: Array) -> Iterator[tuple[Array, Transitions]]:
    """Read the marked rows, at most ``PART`` at a time, with their numbers."""
    if which.any():
        yield from _picked_from(source.blocks(), which)


def _picked_from(blocks: Any, which: Array) -> Iterator[tuple[Array, Transitions]]:
    for block in blocks:
        inside = np.flatnonzero(which[block.first : block.first + len(block.rewards)])
        for start in range(0, len(inside), PART):
            rows = inside[start : start + PART]
            chosen = {name: getattr(block, name)[rows] for name in FIELDS}
            yield block.first + rows, Transitions(**chosen)

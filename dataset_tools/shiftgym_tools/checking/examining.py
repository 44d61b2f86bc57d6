"""Examine an open dataset in a claimed domain: what import and verify both need to know.

    scan all rows -> retrace (locomotion), or check what observations tell (hands)
                  -> judge flags one by one -> find joins -> cut episodes -> look at the whole

Whatever is found is told in words; the commands decide what to refuse.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from shiftgym.arrays import Array
from shiftgym.domains import Domain
from shiftgym.envs.locomotion import Locomotion
from shiftgym.envs.tasks import TASKS
from shiftgym.errors import ShiftgymError
from shiftgym.modelling import build_model
from shiftgym_tools.checking.episodes import Episodes, cut_episodes, find_joins, goes_on
from shiftgym_tools.checking.fitting import Fit, Verdict, best, same_shape
from shiftgym_tools.checking.hand_checks import HandCheck
from shiftgym_tools.checking.plausible import implausible
from shiftgym_tools.checking.retracing import RUN, Progress, Retraced, picked_from, retrace
from shiftgym_tools.checking.scanning import Scan, scan
from shiftgym_tools.reading.layouts import Source


@dataclass
class Examination:
    """Tell what was found out about a dataset.

    Attributes:
        source: the open dataset.
        domain: the claimed domain.
        scan: what is in its rows.
        verdict: which domain fits; None for a hand.
        retraced: what replays told; None for a hand.
        hand: what was checked instead; None for a locomotion robot.
        false_terminals: rows flagged terminal from which the episode would have gone on.
        missing_terminals: rows that come to a terminal state and are not flagged.
        mended_terminals: whether episodes are cut as these rows should be flagged.
        episodes: which rows are kept and where episodes end.
        problems: what contradicts the claim or makes rows unusable, in words.
    """

    source: Source
    domain: Domain
    scan: Scan
    verdict: Verdict | None
    retraced: Retraced | None
    hand: HandCheck | None
    false_terminals: Array
    missing_terminals: Array
    mended_terminals: bool
    episodes: Episodes
    problems: list[str] = field(default_factory=list)

    @property
    def fit(self) -> Fit | None:
        """Give the claimed domain's fit; None for a hand."""
        return None if self.verdict is None else self.verdict.own


def examine(
    source: Source,
    where: Domain,
    *,
    all_rows: bool = False,
    mend_terminals: bool = False,
    progress: Progress | None = None,
) -> Examination:
    """Find out all that import and verify need.

    Args:
        source: the open dataset.
        where: the claimed domain.
        all_rows: replay every row of a large set, too, not only a sample and suspicious rows.
        mend_terminals: cut episodes as the domain would flag its terminal states, where the flags
            say otherwise; a terminal state after which an episode goes on stays as it is.
        progress: called with the number of rows just read or replayed.

    Raises:
        ShiftgymError: the file is damaged, or its arrays are not of this robot (and whose they
            are, if that shows).
    """
    check_widths(source, where)
    found = scan(source, where, progress)
    hand = verdict = retraced = None
    problems = _unfit(source, found)
    missing = np.zeros(0, dtype=np.int64)
    arrived: dict[int, Array] = {}
    if isinstance(TASKS[where.robot], Locomotion):
        verdict, retraced = retrace(source, found, where, all_rows, progress)
        joins = find_joins(found, retraced.joins | (found.into_start & ~retraced.usable))
        if not verdict.confirmed:
            problems.append(misfit(verdict))
        false = np.flatnonzero(retraced.wrong_terminals & found.terminal)
        missing = np.flatnonzero(retraced.wrong_terminals & ~found.terminal)
        arrived = retraced.arrived
    else:
        hand = HandCheck(where)
        for block in source.blocks():
            hand.note(block)
        problems += hand.problems()
        joins = find_joins(found, None)
        false = np.array(hand.ended_held, dtype=np.int64)
    terminal = found.terminal.copy()
    if mend_terminals:
        terminal[false] = False
        terminal[missing] |= joins[missing] | ~goes_on(found)[missing]
    episodes = cut_episodes(found, joins, where, terminal, arrived)
    problems += implausible(episodes)
    return Examination(
        source, where, found, verdict, retraced, hand, false, missing, mend_terminals, episodes,
        problems,
    )  # fmt: skip


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
        numbers, rows = next(picked_from(blocks, np.ones(source.rows, dtype=bool)), (None, None))
        if rows is not None and numbers is not None:
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

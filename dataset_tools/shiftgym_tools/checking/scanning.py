"""Go through a dataset once and note, row by row, what deciding about it takes.

Only a few bytes per row are kept, however wide the rows are:

    row             0   1   2   3   4   5
    terminal        0   0   1   0   0   0      as the file says
    timeout         0   0   0   0   0   1
    follows         0   1   1   0   1   1      starts exactly where the row before ended
    from_start      1   0   0   1   0   0      looks like a state that a reset draws
    into_start      0   0   0   0   0   0      leads from elsewhere into such a state: suspicious
    key             64-bit hash of observation and action
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from shiftgym.arrays import Array
from shiftgym.domains import Domain
from shiftgym.envs.locomotion import Locomotion
from shiftgym.envs.tasks import TASKS
from shiftgym.modelling import build_model
from shiftgym_tools.reading.layouts import Block, Source

KEY_SEED = 20210
LARGEST = {  # no robot here comes near; beyond, a file is damaged (and MuJoCo unstable)
    "observations": 1e3,
    "actions": 1e2,
    "next_observations": 1e3,
    "rewards": 1e6,
}
STILL = 1e-3  # rad: a hand this close to its first pose has just been reset


@dataclass
class Scan:
    """Tell what is in N rows.

    Attributes:
        terminal: rows flagged terminal, (N,) bool.
        timeout: rows flagged as cut by a time limit, (N,) bool.
        known: rows whose next observation is known, (N,) bool.
        follows: rows that start exactly where the row before ended, flags aside, (N,) bool.
        from_start: rows that start in a state a reset may draw, (N,) bool.
        into_start: rows that lead from another state into such a state, (N,) bool.
        sane: rows without NaN, infinity and absurdly large numbers, (N,) bool.
        unfit: the first array and row that are not, with the number; None where all are.
        key: hash of each row's observation and action, (N,) uint64.
        rewards: (N,) float32.
        action_range: smallest and largest number among the actions.
        odd_flags: number of flags that are neither 0 nor 1.
    """

    terminal: Array
    timeout: Array
    known: Array
    follows: Array
    from_start: Array
    into_start: Array
    sane: Array
    key: Array
    rewards: Array
    unfit: tuple[str, int, float] | None = None
    action_range: tuple[float, float] = (np.inf, -np.inf)
    odd_flags: int = 0

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.rewards)


BOOLS = ("terminal", "timeout", "known", "follows", "from_start", "into_start", "sane")


def scan(source: Source, where: Domain, progress: Callable[[int], Any] | None = None) -> Scan:
    """Go through all rows once.

    Args:
        source: the open dataset.
        where: the claimed domain, which tells what a reset draws.
        progress: called with the number of rows just read.

    Raises:
        ShiftgymError: the file is damaged.
    """
    rows = source.rows
    bools: dict[str, Any] = {name: np.zeros(rows, dtype=bool) for name in BOOLS}
    found = Scan(**bools, key=np.zeros(rows, np.uint64), rewards=np.zeros(rows, np.float32))
    starts = resets(where)
    last = np.full(source.widths[0], np.nan, np.float32)
    for block in source.blocks():
        with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity are noted
            _note(found, block, last, starts)
        last = block.next_observations[-1].copy()
        if progress is not None:
            progress(len(block.rewards))
    return found


def _note(found: Scan, block: Block, last: Array, starts: Callable[[Array], Array]) -> None:
    """Note one block; ``last`` is the next observation of the row before it."""
    rows = slice(block.first, block.first + len(block.rewards))
    found.terminal[rows], found.timeout[rows] = block.terminals, block.timeouts
    found.known[rows], found.rewards[rows] = block.known, block.rewards
    before = np.concatenate((last[None], block.next_observations[:-1]))
    found.follows[rows] = (block.observations == before).all(axis=1)
    if block.first == 0:
        found.follows[0] = False
    here, there = starts(block.observations), starts(block.next_observations)
    found.from_start[rows] = here
    found.into_start[rows] = there & ~here & block.known
    found.key[rows] = row_keys(block.observations, block.actions)
    found.odd_flags += block.odd_flags
    sane = np.ones(len(block.rewards), dtype=bool)
    for name, largest in LARGEST.items():
        array = getattr(block, name).reshape(len(sane), -1)
        good = (np.abs(array) <= largest).all(axis=1)
        if not good.all() and found.unfit is None:
            row = int(np.argmin(good))
            wrong = array[row][~(np.abs(array[row]) <= largest)][0]
            found.unfit = (name, block.first + row, float(wrong))
        sane &= good
    found.sane[rows] = sane
    low, high = found.action_range
    found.action_range = (
        float(np.fmin.reduce(block.actions, axis=None, initial=low)),
        float(np.fmax.reduce(block.actions, axis=None, initial=high)),
    )


def resets(where: Domain) -> Callable[[Array], Array]:
    """Give a test of which observations (n, O) may be first ones, with room to spare."""
    task, model = TASKS[where.robot], build_model(where)
    if not isinstance(task, Locomotion):
        fingers = 24  # the hand's own joints, all at rest after a reset

        def still(observations: Array) -> Array:
            return np.all(np.abs(observations[:, :fingers]) < STILL, axis=1)

        return still
    positions = model.nq - task.hidden
    home = model.qpos0[task.hidden :].astype(np.float32)
    fastest = task.noise * (6.0 if task.normal_velocities else 1.5)

    def near(observations: Array) -> Array:
        offsets = np.abs(observations[:, :positions] - home)
        found = (offsets < 1.5 * task.noise).all(axis=1)
        found &= (np.abs(observations[:, positions:]) < fastest).all(axis=1)
        return found

    return near


def row_keys(observations: Array, actions: Array) -> Array:
    """Hash each row's observation and action, exactly as float32; (n,) uint64.

    Two rows with the same numbers have the same key; any two others share one by a chance of
    about 2^-64, so equal keys among even 10^7 rows are equal rows.
    """
    bits = np.concatenate((observations, actions), axis=1)
    bits = (np.ascontiguousarray(bits, dtype=np.float32) + 0.0).view(np.uint32)  # -0 is 0
    rng = np.random.default_rng(KEY_SEED)
    factors = rng.integers(1, 2**63, bits.shape[1], dtype=np.uint64) * 2 + 1
    keys = np.zeros(len(bits), np.uint64)
    for column, factor in zip(bits.T, factors, strict=True):  # bounded memory, whatever the width
        mixed = (column.astype(np.uint64) + factor) * factor
        mixed ^= mixed >> np.uint64(29)
        keys = (keys ^ mixed) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(32)
    return keys

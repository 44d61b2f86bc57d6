"""Hold what the replay of one file measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shiftgym.basics.arrays import Array


@dataclass(frozen=True)
class Spread:
    """Summarise errors; None where there is nothing to summarise."""

    median: float | None
    p90: float | None
    p99: float | None
    max: float | None

    @classmethod
    def of(cls, values: Array) -> Spread:
        """Summarise an array (n,)."""
        if not len(values):
            return cls(None, None, None, None)
        return cls(*(float(value) for value in np.percentile(values, [50, 90, 99, 100])))


@dataclass(frozen=True)
class FileReport:
    """Report one file.

    Attributes:
        file: its name.
        domain: slug of the domain it was replayed in.
        rows: transitions in the file.
        left_out: rows that cannot be replayed: a clipped velocity that no row before tells.
        joins: rows whose next state is the start of another episode, wrong in the file; left out
            of every figure below.
        joins_bootstrapped: those of them with terminal = 0, which a learner bootstraps through.
        error: one-step error in the domain.
        source_error: one-step error in the unshifted robot, from the same states.
        ratio: median of ``source_error`` over median of ``error``.
        reward: difference of the reward, in the domain.
        terminals_wrong: rows whose terminal differs from the replay's, in the domain.
        installed_error: as ``error``, without the correction to MuJoCo 2.1.0's physics.
        installed_source_error: as ``source_error``, likewise.
        installed_ratio: as ``ratio``, likewise.
    """

    file: str
    domain: str
    rows: int
    left_out: int
    joins: list[int]
    joins_bootstrapped: list[int]
    error: Spread
    source_error: Spread
    ratio: float
    reward: Spread
    terminals_wrong: int
    installed_error: Spread
    installed_source_error: Spread
    installed_ratio: float

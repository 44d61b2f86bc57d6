"""Find the domain, and the engine, that a dataset was recorded with, by replaying a sample.

A domain fits when nearly every row, stepped once from its own state, arrives within float32
rounding of the recorded next state. Shifts differ by 1e-2 and more on most rows, so one sample
tells them apart; where two domains agree on all that a dataset does (a joint limit that is never
reached), both fit, and the claimed one is believed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from shiftgym.arrays import Array
from shiftgym.domains import Domain, catalogue, make_domain
from shiftgym.engine import mujoco
from shiftgym.envs.locomotion import Locomotion
from shiftgym.envs.tasks import TASKS
from shiftgym.modelling import build_model
from shiftgym_tools.checking.replay import FIELDS, Physics, Replay, Transitions, replay

TOLERANCE = 1e-4  # m, rad, m/s, rad/s; own domains stay below on 99.95 % of published rows
ANT_TOLERANCE = 2e-3  # on MuJoCo 4, whose RK4 turns the Ant's quaternion another way
SURE = 0.002  # fraction of rows beyond the tolerance up to which nothing else is tried
FITS = 0.02  # and up to which a domain fits if no other fits better
BETTER = 4  # a rival must have this many times fewer rows beyond
FIRST = (1024, 32)  # rows that a claim is tried on first, in runs of so many
PROBES = ((32, 8), (256, 32))  # rows that rivals are tried on, in runs: all, then the best few
FINALISTS = 6


def max_margin(where: Domain) -> mujoco.MjModel:
    """Build a domain as MuJoCo 2.1.1 to 3.4 did: exact inertias, the larger margin of a pair."""
    model = build_model(where, "installed")
    model.geom_margin[:] = build_model(where).geom_margin
    return model


ENGINES: dict[str, tuple[str, Physics]] = {
    "mujoco210": ("MuJoCo 2.1.0", "mujoco210"),
    "max-margin": ("MuJoCo 2.1.1 to 3.4", max_margin),
    "installed": (f"MuJoCo {mujoco.__version__}", "installed"),
}


def alike(where: Domain) -> bool:
    """Say whether the later engines are one for a domain, which has no contact margins."""
    margins = (build_model(where, physics).geom_margin for physics in ("mujoco210", "installed"))
    return np.array_equal(*margins)


def other_bodies(robot: str) -> list[Domain]:
    """List bodies of a robot that others record with, and that no shift describes."""
    if robot != "walker2d":
        return []
    return [make_domain("walker2d", {"geom.foot_geom.friction": [1.9]}, name="v5")]


@dataclass(frozen=True)
class Fit:
    """Tell how well a domain repeats rows.

    Attributes:
        domain: where they were replayed.
        engine: a key of ``ENGINES``.
        rows: rows that could be judged.
        median: of the one-step error (m, rad, m/s, rad/s).
        p99: its 99th percentile.
        worst: its largest value.
        beyond: fraction of rows whose error exceeds the tolerance.
        found: the replay itself.
    """

    domain: Domain
    engine: str
    rows: int
    median: float
    p99: float
    worst: float
    beyond: float
    found: Replay

    @property
    def fits(self) -> bool:
        """Say whether the rows can come from here."""
        return self.rows > 0 and self.beyond <= FITS

    def rank(self) -> tuple[float, float]:
        """Give what the best fit has least of."""
        return self.beyond, self.median

    def __str__(self) -> str:
        """Say it in a line."""
        where = self.domain.slug + ("" if self.engine == "mujoco210" else f" on {self.made_by}")
        return (
            f"{where}: median {self.median:.1e}, 99 % {self.p99:.1e}, worst {self.worst:.1e}, "
            f"{self.beyond:.2%} above {tolerance(self.domain):g}"
        )

    @property
    def made_by(self) -> str:
        """Name the engine, or all that step this domain alike."""
        name, physics = ENGINES[self.engine]
        if physics == "mujoco210" or not alike(self.domain):
            return name
        return f"MuJoCo 2.1.1 to {mujoco.__version__}"


@dataclass(frozen=True)
class Verdict:
    """Tell where rows come from.

    Attributes:
        own: the claimed domain's fit, with the engine that suits best.
        better: what they come from instead, if that was found.
        nearest: the best of all that was tried; ``own`` where that fits.
    """

    own: Fit
    better: Fit | None
    nearest: Fit

    @property
    def confirmed(self) -> bool:
        """Say whether the claim holds."""
        return self.better is None and self.own.fits


def tolerance(where: Domain) -> float:
    """Give the error beyond which a row was not recorded in a domain."""
    four = int(mujoco.__version__.split(".")[0]) >= 4
    return ANT_TOLERANCE if where.robot == "ant" and four else TOLERANCE


def judge(
    where: Domain,
    rows: Transitions,
    engine: str = "mujoco210",
    progress: Callable[[int], Any] | None = None,
) -> Fit:
    """Replay rows in a domain on an engine, and summarise.

    Raises:
        ShiftgymError: the rows are not this robot's.
    """
    found = replay(where, rows, physics=ENGINES[engine][1], progress=progress)
    errors = found.errors[found.kept()]
    errors = np.nan_to_num(errors, nan=np.inf)  # a simulation that blew up
    if not len(errors):
        return Fit(where, engine, 0, np.inf, np.inf, np.inf, 1.0, found)
    median, p99, worst = (float(x) for x in np.percentile(errors, [50, 99, 100], method="higher"))
    beyond = float((errors > tolerance(where)).mean())
    return Fit(where, engine, len(errors), median, p99, worst, beyond, found)


def find_fit(
    where: Domain, rows: Transitions, progress: Callable[[int], Any] | None = None
) -> Verdict:
    """Find out whether rows were recorded in a domain, and if not, where.

    Args:
        where: the claimed domain, of a locomotion robot.
        rows: recorded rows in file order; a few thousand.
        progress: called with the number of rows replayed in the claimed domain.

    Returns:
        What was found; a claim that holds was tried on all rows, another one on some.

    Raises:
        ShiftgymError: the rows are not this robot's.
    """
    every, rows = rows, some_rows(rows, *FIRST)
    own = judge(where, rows)
    if own.beyond <= 2 * FITS and len(rows) < len(every):
        own = judge(where, every, progress=progress)
    if own.rows and own.beyond <= SURE:
        return Verdict(own, None, own)
    same = [d for d in same_shape(rows) if d != where]
    rivals = [d for d in same if d.robot == where.robot]
    rival = best(rivals, rows, ["mujoco210"])
    if rival is not None and rival.fits and rival.beyond < own.beyond / BETTER:
        return Verdict(own, rival, rival)
    if own.fits:
        return Verdict(own, None, own)
    engines = [engine for engine in ENGINES if engine != "mujoco210"]
    for engine in engines:
        if judge(where, rows, engine).fits:
            other = judge(where, every, engine, progress)
            return Verdict(other, None, other)
    tried = [own] if rival is None else [own, rival]
    for domains, on in (
        (other_bodies(where.robot), list(ENGINES)),
        ([d for d in same if d.robot != where.robot], ["mujoco210"]),
        (rivals, engines),
    ):
        if (rival := best(domains, rows, on)) is not None:
            if rival.fits:
                return Verdict(own, rival, rival)
            tried.append(rival)
    return Verdict(own, None, min(tried, key=Fit.rank))


def best(domains: Iterable[Domain], rows: Transitions, engines: Iterable[str]) -> Fit | None:
    """Find the domain that repeats rows best: all on a few rows, the best of them on more."""
    left = [(where, engine) for engine in engines for where in domains]
    for count, length in PROBES:
        few = some_rows(rows, count, length)
        tried = [judge(where, few, engine) for where, engine in left]
        ranked = sorted((fit for fit in tried if fit.rows), key=Fit.rank)
        left = [(fit.domain, fit.engine) for fit in ranked[:FINALISTS]]
    return judge(left[0][0], rows, left[0][1]) if left else None


def same_shape(rows: Transitions) -> list[Domain]:
    """List the catalogue's domains whose observations and actions have these rows' widths."""
    found = []
    for where in catalogue().values():
        task = TASKS[where.robot]
        if isinstance(task, Locomotion) and task.observation_size == rows.observations.shape[1]:
            if build_model(Domain(where.robot)).nu == rows.actions.shape[1]:
                found.append(where)
    return found


def some_rows(rows: Transitions, count: int, length: int) -> Transitions:
    """Give up to ``count`` rows in runs of some length, spread evenly."""
    chosen = runs(len(rows), count, length)
    return Transitions(**{name: getattr(rows, name)[chosen] for name in FIELDS})


def runs(total: int, count: int, length: int) -> Array:
    """Choose about ``count`` of ``total`` rows in evenly spread runs, (total,) bool."""
    chosen = np.zeros(total, dtype=bool)
    if count >= total:
        chosen[:] = True
        return chosen
    for start in np.linspace(0, max(0, total - length), max(1, count // length)).astype(int):
        chosen[start : start + length] = True
    return chosen

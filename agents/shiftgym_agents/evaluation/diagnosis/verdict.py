"""Put the numbers into a sentence: the source helps, harms, or no difference can be told.

Trainings decide where there are any. With d = the mean of a method that uses the source less that
of the better of those that do not, and its interval over seeds, at 95 % of all methods that use
the source together, with the spread of seeds pooled over all methods:

    helps    the interval of one of them lies above 0, over both of those that do not
    harms    the intervals of all of them lie below 0
    neither  else

Without trainings the data alone decide:

    helps    dynamics were compared and no gap was found, the source covers most of what the target
             visits, and did not earn less there
    harms    a gap was found, and the source's actions are worse in target states, by more than
             `WORSE` deviations of Q
    neither  else
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from shiftgym.basics.pages import interval
from shiftgym_agents.evaluation.diagnosis.trials import Trials

Word = Literal["helps", "harms", "makes no difference that can be told"]
HELPS, HARMS, NEITHER = "helps", "harms", "makes no difference that can be told"
COVERED = 0.5  # share of the target's rows that a source covers to be about the same
SURE = 0.05
WORSE = 0.1  # deviations of Q that an imitator may lose by chance


@dataclass(frozen=True)
class Evidence:
    """Hold the numbers that a verdict from data alone rests on.

    Attributes:
        covered: share of target states and actions with a source row near.
        compared: whether there were rows enough to compare dynamics.
        gap: whether a gap was called, its value, and its 99 % interval.
        coordinates: names of those whose dynamics differ.
        elsewhere: names of those whose values have next to nothing in common.
        earned: mean return of source and target with intervals; None where unknown.
        poorer: chance that trajectories of one policy differ so much in the target's favour.
        advantage: of the source's actions in target states: mean and 95 % interval.
    """

    covered: float
    compared: bool
    gap: tuple[bool, float, float, float]
    coordinates: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    earned: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None
    poorer: float = 1.0
    advantage: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Verdict:
    """Say what the source does, and why.

    Attributes:
        word: helps, harms, or neither.
        basis: training, or data alone.
        sentence: the verdict with its main evidence.
        because: further evidence, a sentence each.
    """

    word: Word
    basis: Literal["training", "data alone"]
    sentence: str
    because: tuple[str, ...] = ()


@dataclass(frozen=True)
class Difference:
    """Compare two methods over seeds: the difference of means, and the ends of its interval."""

    mean: float
    low: float
    high: float


def judge(evidence: Evidence, trials: Trials | None = None) -> Verdict:
    """Give the verdict."""
    said = _said(evidence)
    if trials is None:
        word, why = _by_data(evidence)
        told = (
            "it cannot be told whether the source helps"
            if word == NEITHER
            else f"the source {word}"
        )
        sentence = f"By the data alone {told}: {why}."
        return Verdict(word, "data alone", sentence, said)
    found = by_training(trials)
    return Verdict(found.word, found.basis, found.sentence, (*found.because, *said))


def by_training(trials: Trials) -> Verdict:
    """Give the verdict of trainings, whatever the data say."""
    word, why, more = _by_training(trials)
    return Verdict(word, "training", f"The source {word}: {why}.", more)


def _by_data(found: Evidence) -> tuple[Word, str]:
    called, value, low, high = found.gap
    if not found.compared:
        where = f", in {', '.join(found.elsewhere)} above all," if found.elsewhere else ","
        return NEITHER, (
            f"it hardly visits what the target visits{where} so that dynamics cannot be compared; "
            "only a training can tell"
        )
    size = f"{interval(value, low, high, '.2f')} times the model's own error"
    worse = found.advantage is not None and found.advantage[2] < -WORSE
    if called:
        where = f", in {', '.join(found.coordinates)}" if found.coordinates else ""
        if worse:
            return HARMS, (
                f"its dynamics differ by {size}{where}, and its actions are worse in target states"
            )
        return NEITHER, (
            f"its dynamics differ by {size}{where}, while its actions are not clearly worse in "
            "target states; only a training can tell"
        )
    if found.covered < COVERED:
        return NEITHER, (
            f"no gap in its dynamics was found ({size}), but it is near to only "
            f"{found.covered:.0%} of the target's rows"
        )
    if found.poorer < SURE / 2:
        return NEITHER, (
            f"no gap in its dynamics was found ({size}), but it earned less than the target data"
        )
    return HELPS, (
        f"no gap in its dynamics was found ({size}), and it is near to {found.covered:.0%} of the "
        "target's rows"
    )


def _said(found: Evidence) -> tuple[str, ...]:
    """Put the evidence of the data into sentences."""
    called, value, low, high = found.gap
    said = [f"{found.covered:.0%} of the target's states and actions have a source row near."]
    if not found.compared:
        said.append("Too few source rows are like the target's to compare dynamics.")
    elif called:
        names = f" ({', '.join(found.coordinates)})" if found.coordinates else ""
        said.append(
            f"Dynamics differ: a model of the target errs {interval(value, low, high, '.2f')} "
            f"times as much on source rows as on held-out target rows{names}."
        )
    else:
        said.append(
            f"No gap in dynamics was found: {interval(value, low, high, '.2f')} times the model's "
            "own error."
        )
    if found.earned is not None:
        one, two = (interval(*each) for each in found.earned)
        less = found.earned[0][0] < found.earned[1][0]
        chance = f", so much less by chance with p = {found.poorer:.3f}" if less else ""
        said.append(f"Trajectories of the source earned {one}, those of the target {two}{chance}.")
    if found.advantage is not None:
        said.append(
            "Advantage of the source's actions in target states: "
            f"{interval(*found.advantage, '.2f')} deviations of Q."
        )
    return tuple(said)


def _by_training(trials: Trials) -> tuple[Word, str, tuple[str, ...]]:
    means = {name: _mean(values) for name, values in {**trials.alone, **trials.using}.items()}
    good = [name for name in trials.alone if math.isfinite(means[name])]
    if not good or not trials.using:
        return NEITHER, "no training came to an end", ()
    best = max(good, key=means.__getitem__)
    share = SURE / len(trials.using)
    every = {**trials.alone, **trials.using}

    def between(name: str, other: str) -> Difference:
        rest = [values for own, values in every.items() if own not in (name, other)]
        return compare(every[name], every[other], share, rest)

    against = {name: [between(name, other) for other in good] for name in trials.using}
    own = {name: found[good.index(best)] for name, found in against.items()}
    helping = [name for name, found in against.items() if min(d.low for d in found) > 0]
    harming = [name for name, d in own.items() if d.high < 0]

    def told(name: str) -> str:
        d = own[name]
        return (
            f"{name} with it: {trials.unit} {means[name]:.1f}, "
            f"{interval(d.mean, d.low, d.high, '+.1f')} over {best} without ({means[best]:.1f})"
        )

    if helping:
        top = max(helping, key=means.__getitem__)
        more = [f"{told(name)}." for name in own if name != top]
        if "iql" in harming:
            more.append("Taken whole (iql) it harms: choose among its rows.")
        return HELPS, told(top), tuple(more)
    ranked = sorted(own, key=lambda name: -np.nan_to_num(means[name], nan=-np.inf))
    more = [f"{told(name)}." for name in ranked[1:]]
    if len(harming) == len(own):
        return HARMS, f"even the best that uses it loses: {told(ranked[0])}", tuple(more)
    if harming:
        more.append(f"With it {', '.join(harming)} loses: choose among its rows.")
    return NEITHER, told(ranked[0]), tuple(more)


def _mean(values: Sequence[float]) -> float:
    """Average what is finite: a diverged run has no return."""
    kept = [value for value in values if math.isfinite(value)]
    return float(np.mean(kept)) if kept else float("nan")


def compare(
    one: Sequence[float],
    two: Sequence[float],
    alpha: float = SURE,
    others: Sequence[Sequence[float]] = (),
) -> Difference:
    """Give the difference of means with Student's interval of level 1 - alpha.

    How seeds differ is estimated from both and from `others`, as in comparisons of several
    treatments with a control (Dunnett 1955): three seeds of two methods alone tell next to nothing.
    Without a second seed anywhere the interval has no end.
    """
    every = [np.array([v for v in each if math.isfinite(v)], float) for each in (one, two, *others)]
    first, second = every[:2]
    if not len(first) or not len(second):
        return Difference(float("nan"), -math.inf, math.inf)
    mean = float(first.mean() - second.mean())
    known = [each for each in every if len(each) > 1]
    freedom = sum(len(each) - 1 for each in known)
    if not freedom:
        return Difference(mean, -math.inf, math.inf)
    variance = sum(float(((each - each.mean()) ** 2).sum()) for each in known) / freedom
    error = math.sqrt(variance * (1 / len(first) + 1 / len(second)))
    half = t_quantile(1 - alpha / 2, freedom) * error
    return Difference(mean, mean - half, mean + half)


@cache
def t_quantile(level: float, freedom: float) -> float:
    """Give a quantile above the median of Student's t distribution.

    With t = sqrt(freedom) tan(x) its probability is that of cos(x)^(freedom - 1), over an interval
    of finite length.
    """
    x = np.linspace(0, math.pi / 2, 200_001)
    density = np.cos(x) ** (freedom - 1)
    steps = (density[1:] + density[:-1]) / 2
    share = np.concatenate([[0.0], steps.cumsum() / steps.sum()])
    at = float(np.interp(2 * level - 1, share, x))
    return math.sqrt(freedom) * math.tan(at)

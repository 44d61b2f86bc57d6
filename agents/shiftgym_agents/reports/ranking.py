"""Rank methods from few runs on many pairs, with intervals that say how few (Agarwal et al. 2021).

Scores of one method on one pair, one per seed, are a stratum; intervals redraw runs within every
stratum. Source: "Deep reinforcement learning at the edge of the statistical precipice",
arXiv:2108.13264, sections 4.1 to 4.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from shiftgym_agents.reports.report import RESAMPLES, interquartile_mean, stratified_interval

Strata = Sequence[np.ndarray]


def aggregate(strata: Strata) -> dict[str, float]:
    """Give mean and interquartile mean of all runs, each with its 95 % interval."""
    values = np.concatenate(strata)
    low, high = stratified_interval(strata)
    iqm_low, iqm_high = stratified_interval(strata, interquartile_mean)
    found = {"mean": float(values.mean()), "low": low, "high": high}
    return found | {"iqm": interquartile_mean(values), "iqm_low": iqm_low, "iqm_high": iqm_high}


def improvement(one: Strata, other: Strata, seed: int = 0) -> dict[str, float]:
    """Give the probability that a run of one method beats one of another on the same pair.

    Equal scores count as half; pairs count alike.

    Args:
        one: scores by pair, `(n,)` each.
        other: those of the other method on the same pairs, `(m,)` each.
        seed: of the bootstrap.

    Returns:
        ``mean``, ``low``, ``high``, from 0 to 1.
    """
    rng = np.random.default_rng(seed)
    mean, drawn = 0.0, np.zeros(RESAMPLES)
    for x, y in zip(one, other, strict=True):
        mean += float(_wins(x, y))
        xs = x[rng.integers(len(x), size=(RESAMPLES, len(x)))]
        ys = y[rng.integers(len(y), size=(RESAMPLES, len(y)))]
        drawn += _wins(xs, ys)
    low, high = np.percentile(drawn / len(one), [2.5, 97.5])
    return {"mean": mean / len(one), "low": float(low), "high": float(high)}


def profile(strata: Strata, marks: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """Give the share of runs above each score, `(len(marks),)`, with its 95 % interval."""
    rng = np.random.default_rng(seed)
    values = np.concatenate(strata)
    drawn = [s[rng.integers(len(s), size=(RESAMPLES // 4, len(s)))] for s in strata]
    every = np.sort(np.concatenate(drawn, 1), 1)
    above = np.stack([1 - np.searchsorted(row, marks, "right") / every.shape[1] for row in every])
    low, high = np.percentile(above, [2.5, 97.5], axis=0)
    return {"mean": (values[:, None] > marks).mean(0), "low": low, "high": high}


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Give Kendall's tau-b of two rankings of the same things: 1 the same order, -1 the reverse."""
    a, b = (np.sign(np.subtract.outer(x, x))[np.triu_indices(len(x), 1)] for x in (one, other))
    size = float(np.sqrt((a != 0).sum() * (b != 0).sum()))
    return float((a * b).sum()) / size if size else float("nan")


def _wins(x: np.ndarray, y: np.ndarray) -> Any:
    """Give how often a number of `x` (..., n) beats one of `y` (..., m)."""
    differences = x[..., :, None] - y[..., None, :]
    return (np.sign(differences) / 2 + 0.5).mean((-1, -2))

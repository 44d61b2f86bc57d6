"""Intervals for the numbers this project reports, and ranks."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Z95 = 1.959963984540054


def ranked(values: ArrayLike) -> NDArray[np.float64]:
    """Rank numbers `(n,)` from 1, the lowest first; equal ones share the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[place]


def bootstrap_interval(
    values: ArrayLike, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Give the 95 % percentile bootstrap interval of a mean.

    Args:
        values: one number per episode or run, (n,), n >= 1.
        resamples: bootstrap samples.
        seed: the same seed gives the same interval.
    """
    data = np.asarray(values, dtype=float)
    if data.ndim != 1 or not len(data):
        raise ValueError(f"Need a list of at least one number, got shape {data.shape}.")
    draws = np.random.default_rng(seed).integers(len(data), size=(resamples, len(data)))
    low, high = np.percentile(data[draws].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Give the 95 % Wilson score interval of a success rate, in 0..1.

    Source: Wilson 1927, equation for the roots of (p - p_hat)^2 = z^2 p (1 - p) / n.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"Need 0 <= successes <= trials and trials >= 1: {successes}/{trials}.")
    rate, extra = successes / trials, Z95**2 / trials
    centre = (rate + extra / 2) / (1 + extra)
    half = Z95 * math.sqrt(rate * (1 - rate) / trials + extra / (4 * trials)) / (1 + extra)
    return max(0.0, centre - half), min(1.0, centre + half)

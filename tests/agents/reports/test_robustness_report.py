"""Test the averages, intervals and tables of robustness against plain computations."""

from __future__ import annotations

import numpy as np
import pytest

from shiftgym_agents.evaluation.perturb import Level
from shiftgym_agents.reports.robustness import (
    Curve,
    mean_of_ratios,
    overall,
    ratio_of_means,
    redrawing,
    table,
)


def make_curve(scores: np.ndarray, strata: list[int] | None = None, pair: str = "a -> b") -> Curve:
    count, levels, _ = scores.shape
    names = [Level("clean", "clean")] + [Level("s", str(k)) for k in range(1, levels)]
    chosen = np.array(strata or [0] * count)
    seeds = list(range(count))
    values = (scores, scores, np.ones_like(scores))
    return Curve("toy", pair, "x", names, seeds, chosen, *values)


def test_both_averages_are_the_plain_ones() -> None:
    scores = np.array([[[80.0, 120], [40, 60]], [[20.0, 30], [20, 20]]])  # means 100, 50; 25, 20
    about = make_curve(scores).summary[1]
    assert about["score"]["mean"] == 35
    assert about["ratio_of_means"]["mean"] == pytest.approx(100 * (62.5 - 35) / 62.5)
    assert about["mean_of_ratios"]["mean"] == pytest.approx((50 + 20) / 2)
    for name in ("score", "ratio_of_means", "mean_of_ratios"):
        assert about[name]["low"] <= about[name]["mean"] <= about[name]["high"]
    clean = make_curve(scores).summary[0]
    assert clean["ratio_of_means"] == clean["mean_of_ratios"] == {"mean": 0, "low": 0, "high": 0}


def test_averages_over_many_draws_at_once_are_those_of_each() -> None:
    rng = np.random.default_rng(0)
    clean, own = rng.normal(1, 1, (50, 4)), rng.normal(size=(50, 4))
    for b, (x, y) in enumerate(zip(clean, own, strict=True)):
        kept = [100 * (i - j) / i for i, j in zip(x, y, strict=True) if i > 0]
        expected = np.mean(kept) if kept else np.nan
        assert mean_of_ratios(clean, own)[b] == pytest.approx(expected, nan_ok=True)
        whole = 100 * (x.mean() - y.mean()) / x.mean() if x.mean() > 0 else np.nan
        assert ratio_of_means(clean, own)[b] == pytest.approx(whole, nan_ok=True)


def test_intervals_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    hits = np.zeros(2)
    for _ in range(60):
        runs = rng.normal(50, 8, (12, 1, 1))
        scores = runs * np.array([1.0, 0.6])[None, :, None] + rng.normal(0, 10, (12, 2, 8))
        about = make_curve(scores).summary[1]
        truths = {"score": 30, "ratio_of_means": 40}
        hits += [about[k]["low"] <= truth <= about[k]["high"] for k, truth in truths.items()]
    assert (hits / 60 > 0.85).all()


def test_paired_episodes_are_redrawn_together_and_runs_within_their_pair() -> None:
    redraw = redrawing(np.array([0, 0, 1]), 4)
    values = np.random.default_rng(0).normal(size=(3, 4))
    assert np.array_equal(redraw(values), redraw(values))
    assert np.allclose(redraw(values + 5), redraw(values) + 5)
    stratum = redraw(np.array([[1.0] * 4, [1] * 4, [7] * 4]))
    assert (stratum == [1, 1, 7]).all()
    scores = np.random.default_rng(0).uniform(50, 100, (3, 1, 10)).repeat(2, 1)
    scores[:, 1] *= 0.5  # every episode loses half: whatever is redrawn, half is lost
    about = make_curve(scores).summary[1]
    assert about["ratio_of_means"]["low"] == pytest.approx(50)
    assert about["mean_of_ratios"]["high"] == pytest.approx(50)


def test_a_clean_score_around_zero_leaves_nothing_to_lose() -> None:
    scores = np.random.default_rng(0).normal(0, 1, (2, 2, 6))
    about = make_curve(scores).summary[1]
    assert about["ratio_of_means"] is about["mean_of_ratios"] is None
    assert about["score"]["mean"] == pytest.approx(scores[:, 1].mean())
    one_bad = np.full((3, 2, 4), 50.0)
    one_bad[0] = -5
    one_bad[1:, 1] = 25
    about = make_curve(one_bad, [0, 1, 1]).summary[1]
    assert about["left_out"] == 1 and about["mean_of_ratios"]["mean"] == 50
    assert about["ratio_of_means"]["mean"] == pytest.approx(100 * (95 - 45) / 95)


def test_a_method_with_several_pairs_gets_a_line_of_all() -> None:
    one = make_curve(np.full((2, 2, 3), 80.0) * [[1], [0.5]])
    two = make_curve(np.full((1, 2, 3), 20.0), pair="c -> d")
    (whole,) = overall([one, two])
    assert whole.summary[1]["ratio_of_means"]["mean"] == pytest.approx(100 * (180 - 100) / 180)
    assert whole.summary[1]["mean_of_ratios"]["mean"] == pytest.approx((50 + 50 + 0) / 3)
    assert not overall([one, one])
    lines = table([one, two]).splitlines()
    assert sum("all 2 pairs" in line for line in lines) == 2 and len(lines) == 1 + 6

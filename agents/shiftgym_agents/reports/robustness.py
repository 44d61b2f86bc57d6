"""Summarise robustness: what each level costs, by both averages, with 95 % intervals.

With J the mean normalised score of a run's episodes, at a level (J) and unperturbed (J0):

    degradation        100 (J0 - J) / J0
    ratio of means     the degradation of the mean over runs
    mean of ratios     the mean over runs of their own degradations

DROCO (arXiv:2512.02486) does not say which of the two it reports. Intervals are percentiles of
bootstrap samples that redraw runs within each pair, and then each run's episodes; a level's episode
is redrawn together with the clean one of the same start. Chosen: where the interval of J0 reaches
down to 0 the ratios have no bounds and are left out; so is, from the mean of ratios, a run whose J0
is not positive. Diverged runs are counted, not averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from shiftgym_agents.evaluation.perturb import Level
from shiftgym_agents.evaluation.robustness import Measured
from shiftgym_agents.reports.report import interval, lay_out
from shiftgym_agents.training.artifacts import provenance

RESAMPLES = 2000
RATIOS = ("ratio_of_means", "mean_of_ratios")
HEAD = ("suite", "level", "", "return [95 %]", "score [95 %]", "steps")
HEAD += ("% lost, ratio of means [95 %]", "% lost, mean of ratios [95 %]")


@dataclass(frozen=True)
class Curve:
    """Hold one method's episodes on one pair, or on all of its pairs.

    Attributes:
        name: the method.
        pair: its datasets, `source -> target`.
        out: the run directory.
        levels: the first is unperturbed.
        seeds: one per run.
        strata: which pair each run is of `(n,)`.
        returns: `(n, L, E)`; NaN where a run had diverged.
        scores: likewise.
        lengths: likewise.
    """

    name: str
    pair: str
    out: str
    levels: list[Level]
    seeds: list[int]
    strata: np.ndarray
    returns: np.ndarray
    scores: np.ndarray
    lengths: np.ndarray

    @cached_property
    def summary(self) -> list[dict[str, Any]]:
        """Summarise every level; see `describe`."""
        return describe(self)


def curves(found: Sequence[Measured]) -> list[Curve]:
    """Split what was measured by method and pair; add each method's whole where it has several."""
    parts: list[Curve] = []
    strata: dict[tuple[str, str], int] = {}
    for k in found:
        pairs = [(entry["source"], entry["target"]) for entry in k.subject.runs]
        for pair in dict.fromkeys(pairs):
            own = [run for run, other in enumerate(pairs) if other == pair]
            seeds = [k.subject.runs[run]["seed"] for run in own]
            names = (k.subject.method, _arrow(*pair), str(k.subject.out), k.levels, seeds)
            values = k.returns[own], k.scores[own], k.lengths[own]
            stratum = strata.setdefault(pair, len(strata))
            parts.append(Curve(*names, np.full(len(own), stratum), *values))
    return parts


def overall(parts: Sequence[Curve]) -> list[Curve]:
    """Join the curves of each method that has several pairs, as strata of one."""
    found: list[Curve] = []
    for name in dict.fromkeys(part.name for part in parts):
        own = [part for part in parts if part.name == name]
        if len({part.pair for part in own}) > 1:
            joined = {
                key: np.concatenate([getattr(part, key) for part in own])
                for key in ("strata", "returns", "scores", "lengths")
            }
            seeds = [seed for part in own for seed in part.seeds]
            pairs = len({part.pair for part in own})
            about = (name, f"all {pairs} pairs", "", own[0].levels, seeds)
            found.append(Curve(*about, **joined))
    return found


def describe(curve: Curve) -> list[dict[str, Any]]:
    """Summarise each level of a curve.

    Returns:
        For each level `suite`, `level`, `strength`, `runs`, `diverged`, `length`; `return`, `score`
        and both degradations as `{mean, low, high}`, or None where there is nothing to average;
        `left_out`, the runs that the mean of ratios does without. Runs without a score reference
        have returns only.
    """
    good = np.array([bool(np.isfinite(own).all()) for own in curve.returns])
    returns, scores, lengths = curve.returns[good], curve.scores[good], curve.lengths[good]
    redraw = redrawing(curve.strata[good], curve.returns.shape[2])
    found: list[dict[str, Any]] = []
    clean, clean_drawn = scores[:, :1].mean(2), redraw(scores[:, 0]) if good.any() else None
    for k, level in enumerate(curve.levels):
        about: dict[str, Any] = {"suite": level.suite, "level": level.name}
        about |= {"strength": level.strength, "runs": len(good), "diverged": int((~good).sum())}
        if clean_drawn is None:
            nothing = dict.fromkeys(("return", "score", *RATIOS))
            found.append(about | {"length": None, "left_out": len(good)} | nothing)
            continue
        own, drawn = scores[:, k].mean(1), redraw(scores[:, k])
        about |= {"length": float(lengths[:, k].mean())}
        about |= {"return": _estimate(returns[:, k].mean(), redraw(returns[:, k]).mean(1))}
        about |= {"score": None, "left_out": len(good)} | dict.fromkeys(RATIOS)
        if not np.isfinite(scores).all():
            found.append(about)
            continue
        about |= {"score": _estimate(own.mean(), drawn.mean(1))}
        about |= {"left_out": int((clean <= 0).sum())} | dict.fromkeys(RATIOS)
        if np.percentile(clean_drawn.mean(1), 2.5) > 0:
            for name, degradation in zip(RATIOS, (ratio_of_means, mean_of_ratios), strict=True):
                point = degradation(clean.T, own[None])[0]
                about[name] = _estimate(point, degradation(clean_drawn, drawn))
        found.append(about)
    return found


def ratio_of_means(clean: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Give the degradation of mean scores, `(B,)` from `(B, n)` each; NaN for a clean one <= 0."""
    return _lost(clean.mean(1), own.mean(1))


def mean_of_ratios(clean: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Give the mean degradation of runs whose clean score is positive, `(B,)` from `(B, n)`."""
    lost = _lost(clean, own)
    known = np.isfinite(lost)
    sums, counts = np.where(known, lost, 0).sum(1), known.sum(1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _lost(clean: np.ndarray, own: np.ndarray) -> np.ndarray:
    safe = np.where(clean > 0, clean, np.nan)
    return 100 * (safe - own) / safe


def redrawing(
    strata: np.ndarray, episodes: int, seed: int = 0
) -> Callable[[np.ndarray], np.ndarray]:
    """Give a function from `(n, E)` to means of runs in bootstrap samples, `(RESAMPLES, n)`.

    Every call redraws alike: runs within their stratum, then episodes of each.
    """
    rng, count = np.random.default_rng(seed), len(strata)
    runs = np.empty((RESAMPLES, count), np.int64)
    for stratum in np.unique(strata):
        own = np.flatnonzero(strata == stratum)
        runs[:, own] = own[rng.integers(len(own), size=(RESAMPLES, len(own)))]
    which = rng.integers(episodes, size=(RESAMPLES, count, episodes))
    return lambda values: values[runs[..., None], which].mean(2)


def labels(parts: Sequence[Curve]) -> list[str]:
    """Name curves as briefly as tells them apart: by method, by pair too, or by directory too."""
    short = [part.name for part in parts]
    long = [f"{part.name}: {part.pair}" for part in parts]
    longest = [f"{part.out}: {part.pair}" for part in parts]
    return next((names for names in (short, long) if len(set(names)) == len(names)), longest)


def table(parts: Sequence[Curve]) -> str:
    """Lay out one line per level and curve, and per method that has several pairs."""
    every = [*parts, *overall(parts)]
    names = labels(every)
    lines: list[tuple[str, ...]] = [HEAD]
    for k, level in enumerate(parts[0].levels):
        for i, (name, curve) in enumerate(zip(names, every, strict=True)):
            about = curve.summary[k]
            first = (level.suite, level.name if k else "") if i == 0 else ("", "")
            lines.append((*first, name, *_cells(about, k == 0)))
    if len(every) == 1:
        lines = [(*line[:2], *line[3:]) for line in lines]
    return lay_out(lines)


def as_json(found: Measured, parts: Sequence[Curve]) -> dict[str, Any]:
    """Give what `robustness.json` holds: levels with their domains, and every curve's summary."""
    subject, shape = found.subject, found.returns.shape
    about: dict[str, Any] = {"out": str(subject.out), "method": subject.method}
    about |= {"updates": subject.updates, "episodes": shape[2], "provenance": provenance()}
    owns = list(dict.fromkeys(subject.own))
    about["levels"] = [
        {"suite": level.suite, "level": level.name, "strength": level.strength}
        | {"domains": {made.slug: made.kwargs() for made in map(level.domain, owns)}}
        for level in found.levels
    ]
    about["pairs"] = [
        {"pair": part.pair, "seeds": part.seeds, "levels": part.summary} for part in parts
    ]
    return about


def notes(parts: Sequence[Curve]) -> list[str]:
    """Say which runs enter no number, and why."""
    found: list[str] = []
    for name, curve in zip(labels(parts), parts, strict=True):
        about = curve.summary[0]
        left, runs = about["left_out"], about["runs"]
        if about["diverged"]:
            found.append(f"{name}: {about['diverged']} of {runs} runs diverged; no number has them")
        if about["return"] and about["score"] is None:
            found.append(f"{name}: no score reference, so returns only")
        elif about["score"] and about["ratio_of_means"] is None:
            found.append(f"{name}: the clean score is not above 0: no share of it can be lost")
        elif about["score"] and left:
            found.append(f"{name}: mean of ratios without {left} runs not above 0 when clean")
    return found


def _cells(about: dict[str, Any], clean: bool) -> tuple[str, ...]:
    if about["return"] is None:
        return ("-",) * 5
    means = tuple(interval(about[key] or {"mean": None}) for key in ("return", "score"))
    lost = ("", "") if clean else tuple(interval(about[k] or {"mean": None}) for k in RATIOS)
    return (*means, f"{about['length']:.0f}", *lost)


def _estimate(value: float, drawn: np.ndarray) -> dict[str, float]:
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return {"mean": float(value), "low": float(low), "high": float(high)}


def _arrow(source: str, target: str) -> str:
    return target if source == "none" else f"{source} -> {target}"

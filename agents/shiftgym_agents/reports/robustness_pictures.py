"""Draw robustness: scores and what is lost of them from level to level, one line per curve."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shiftgym_agents.evaluation.perturb import CLEAN, OBSERVED, Level
from shiftgym_agents.reports.robustness import Curve, labels, overall

PANELS = ("normalised score", "% of score lost\n(ratio of means)")
SPREAD = 0.12  # between curves at one level, so that their intervals stay apart
FLOOR = -100.0  # gains beyond this, of a clean score near 0, are marked at the panel's edge


def draw(parts: Sequence[Curve], suites: Sequence[str], picture: Path) -> None:
    """Draw one column of panels per suite; one suite's two panels stand side by side.

    Args:
        parts: The curves, of the same levels; a method with several pairs gets one for all of them
            in place of its own.
        suites: Which suites.
        picture: Where the picture goes, .png, .pdf or .svg.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    joined = overall(parts)
    whole = {curve.name for curve in joined}
    shown = [curve for curve in parts if curve.name not in whole] + joined
    one = len(suites) == 1
    size = (9, 3.8) if one else (1.2 + 2.9 * len(suites), 6)
    shape = (1, 2) if one else (2, len(suites))
    figure, grid = pyplot.subplots(
        *shape, figsize=size, layout="constrained", squeeze=False, sharey=False if one else "row"
    )
    panels = grid.reshape(2, -1)
    for column, suite in enumerate(suites):
        for kind in (0, 1):
            _panel(panels[kind, column], shown, suite, kind)
            if column == 0:
                panels[kind, 0].set_ylabel(PANELS[kind])
        if not one:
            panels[0, column].set_title(suite)
    handles, names = panels[0, 0].get_legend_handles_labels()
    if len(shown) > 1:
        figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 5))
    heading = f"{suites[0]} perturbation" if one else "perturbations at test time"
    if len(shown) == 1:
        heading += f": {shown[0].name}, {shown[0].pair}"
    figure.suptitle(f"{heading}\nmean and 95 % interval; dots are runs", fontsize=10)
    figure.savefig(picture, dpi=150)
    pyplot.close(figure)


def _panel(axes: Any, shown: Sequence[Curve], suite: str, kind: int) -> None:
    """Draw the scores (kind 0) or the degradations (kind 1) of one suite."""
    levels = shown[0].levels
    own = [k for k, level in enumerate(levels) if level.suite in (CLEAN, suite)]
    places = _places([levels[k] for k in own])
    step = SPREAD * float(np.diff(places).min()) / max(1, len(shown) - 1)
    for i, (name, curve) in enumerate(zip(labels(shown), shown, strict=True)):
        x = places + step * (i - (len(shown) - 1) / 2)
        found = [curve.summary[k]["ratio_of_means" if kind else "score"] for k in own]
        if any(about is None for about in found):
            continue
        middle, low, high = (np.array([a[key] for a in found]) for key in ("mean", "low", "high"))
        bars = np.maximum([middle - low, high - middle], 0)  # a bootstrap may miss its own point
        color = f"C{i % 10}"
        axes.errorbar(x, middle, bars, color=color, label=name, marker="o", ms=4, capsize=3, lw=1.6)
        if kind == 0:
            runs = curve.scores[:, own].mean(2)
            for each in runs if len(runs) > 1 else ():
                axes.plot(x + step / 2, each, ".", color=color, alpha=0.5, ms=5, mew=0)
        for place in x[middle < FLOOR] if kind else ():
            axes.plot(place, 0.96 * FLOOR, "v", color=color, ms=8)
    if kind and axes.get_ylim()[0] < FLOOR:
        axes.set_ylim(FLOOR, 105)
    axes.axhline(0, color="0.6", lw=0.8, zorder=0)
    axes.set_xticks(places, [_tick(levels[k]) for k in own])
    axes.grid(alpha=0.3, axis="y")
    if suite in OBSERVED:
        axes.set_xlabel("scale, in standard deviations")


def _places(levels: Sequence[Level]) -> np.ndarray:
    """Place levels along the axis: the attack by its scale, others at equal distances."""
    if levels[-1].suite in OBSERVED:
        return np.array([level.strength or 0.0 for level in levels])
    return np.arange(len(levels), dtype=float)


def _tick(level: Level) -> str:
    if level.suite in OBSERVED or level.strength is None:
        return level.name
    return f"{level.name}\nx {level.strength:g}"

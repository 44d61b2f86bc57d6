"""Draw a leaderboard: totals with intervals, chances of improvement, performance profiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shiftgym.datasets.folders import explained
from shiftgym_agents.reports.leaderboard import BASES, RETURN, Section, describe
from shiftgym_agents.reports.ranking import profile
from shiftgym_agents.training.artifacts import ELSEWHERE

MOST = 8  # profiles that can be told apart: of the best methods, and of the bases
LOOKS = {"data": ":", "policy": "--"}


def draw(found: Sequence[Section], picture: Path) -> None:
    """Draw a row of panels per section.

    Raises:
        ShiftgymError: The picture cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    heights = [1.2 + 0.28 * len(section.scores) for section in found]
    figure, every = pyplot.subplots(
        len(found), 3, figsize=(15, sum(max(3.2, each) for each in heights)), squeeze=False,
        layout="constrained", height_ratios=heights,
    )  # fmt: skip
    for section, axes in zip(found, every, strict=True):
        about = describe(section)
        ranked = [each for each in about["methods"] if each["total"] is not None][::-1]
        _totals(section, ranked, axes[0])
        _chances(ranked, axes[1])
        _profiles(section, ranked, axes[2])
        axes[0].set_title(f"{section.name}: IQM of all runs, 95 %", fontsize=9, loc="left")
    for axis in every.flat:
        axis.grid(alpha=0.3)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    with explained(picture, ELSEWHERE):
        figure.savefig(picture, dpi=130)
    pyplot.close(figure)


def _totals(section: Section, ranked: Sequence[Mapping[str, Any]], axis: Any) -> None:
    for place, each in enumerate(ranked):
        total = each["total"]
        axis.plot([total["iqm_low"], total["iqm_high"]], [place] * 2, color="C0", lw=3, alpha=0.5)
        axis.plot(total["iqm"], place, "o", color="C0", ms=5)
    for bar, told in section.known_bars.items():
        known = [section.bars.get(target, {}).get(bar) for _, target in section.pairs]
        if known and all(known):
            mean = float(np.mean([each["score"] for each in known if each]))
            axis.axvline(mean, color="black", lw=1, ls=LOOKS[bar], label=f"{told} (mean)")
    axis.set_yticks(range(len(ranked)), [each["method"] for each in ranked])
    axis.set_ylim(-0.6, len(ranked) - 0.4)
    unit = "return" if section.unit == RETURN else "score (0 random, 100 expert)"
    axis.set_xlabel(unit, fontsize=8)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=7, frameon=False)


def _chances(ranked: Sequence[Mapping[str, Any]], axis: Any) -> None:
    for k, base in enumerate(BASES):
        shift = 0.15 * (2 * k - 1)
        for place, each in enumerate(ranked):
            won = each["improvement"].get(base)
            if won:
                ends = [won["low"], won["high"]]
                axis.plot(ends, [place + shift] * 2, color=f"C{k + 1}", lw=3, alpha=0.5)
                axis.plot(won["mean"], place + shift, "o", color=f"C{k + 1}", ms=4)
        axis.plot([], [], "o", color=f"C{k + 1}", label=f"better than {base}")
    axis.axvline(0.5, color="black", lw=1)
    axis.set(xlim=(-0.03, 1.03), ylim=(-0.6, len(ranked) - 0.4))
    axis.set_yticks(range(len(ranked)), [each["method"] for each in ranked])
    axis.set_xlabel("probability of improvement", fontsize=8)
    axis.legend(fontsize=7, frameon=False)


def _profiles(section: Section, ranked: Sequence[Mapping[str, Any]], axis: Any) -> None:
    names = [each["method"] for each in ranked[::-1]]
    shown = [name for name in names if name in names[: MOST - len(BASES)] or name in BASES]
    every = [scores for name in shown for scores in section.strata(name) or ()]
    if not every:
        return
    marks = np.linspace(np.concatenate(every).min(), np.concatenate(every).max(), 150)
    for k, name in enumerate(shown):
        curve = profile(section.strata(name) or (), marks)
        axis.plot(marks, curve["mean"], color=f"C{k}", label=name, lw=1.4)
        axis.fill_between(marks, curve["low"], curve["high"], color=f"C{k}", alpha=0.12, lw=0)
    axis.set_xlabel(section.unit, fontsize=8)
    axis.set_ylabel("share of runs above it", fontsize=8)
    axis.legend(fontsize=7, frameon=False)

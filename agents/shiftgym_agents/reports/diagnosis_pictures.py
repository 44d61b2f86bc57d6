"""Draw a diagnosis: who is told apart, where dynamics differ, what was earned and trained."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from shiftgym_agents.reports.diagnosis import KINDS

SIDES = ("source", "target")
COLORS = ("#b5651d", "#1f5fa8")  # source, target
LEAST_SPAN = 10  # of an axis of scores


def pictures(told: Mapping[str, Any], raw: Mapping[str, Any]) -> dict[str, bytes]:
    """Draw every part, as PNG by title."""
    import matplotlib

    matplotlib.use("Agg")
    drawn: dict[str, Callable[[Any], None]] = {
        "How sure the classifier is, on rows it never saw": lambda axes: _odds(raw, axes),
        "Error of a model of the target, by coordinate": lambda axes: _gaps(told["dynamics"], axes),
        "Returns of trajectories": lambda axes: _returns(raw["returns"], axes),
        "Do filters rank source rows alike?": lambda axes: _agree(told["filters"], axes),
    }
    if "training" in told:
        drawn["Short trainings, a dot per seed"] = lambda axes: _trained(told["training"], axes)
    return {title: _draw(draw) for title, draw in drawn.items()}


def _draw(draw: Callable[[Any], None]) -> bytes:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5.2, 3.2), layout="constrained")
    draw(axes)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    found = io.BytesIO()
    figure.savefig(found, dpi=130, format="png", metadata={"Software": ""})
    pyplot.close(figure)
    return found.getvalue()


def _odds(raw: Mapping[str, Any], axes: Any) -> None:
    name = "states_and_actions"
    both = [1 / (1 + np.exp(-each)) for each in raw[name]]
    for values, side, color in zip(both, SIDES, COLORS, strict=True):
        weights = np.full(len(values), 1 / len(values))
        axes.hist(
            values, np.linspace(0, 1, 31), weights=weights, color=color, alpha=0.55, label=side
        )
    axes.set(xlabel=f"chance of being a target row, by {KINDS[name]}", ylabel="share of rows")
    axes.legend(frameon=False)


def _gaps(told: Mapping[str, Any], axes: Any) -> None:
    each = told["coordinates"]
    if told["gap"] is None:
        axes.text(0.5, 0.5, "too few rows to compare", ha="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    place = np.arange(len(each))
    values, low = (np.array([row[k] for row in each], float) for k in ("gap", "gap_low"))
    color = [COLORS[0] if row["differs"] else "#9a9a9a" for row in each]
    axes.bar(place, values, color=color)
    axes.vlines(place, np.minimum(low, values), values, color="black", linewidth=1)
    axes.axhline(1, color=COLORS[1], linewidth=1)
    axes.set(xlabel="coordinate (orange: differs)", ylabel="times the held-out error")
    names = [row["name"] for row in each]
    axes.set_xticks(place, names, rotation=90 * (len("".join(names)) > 40), fontsize=7)
    if values.max() > 10:
        axes.set_yscale("log")


def _returns(both: list[tuple[float, ...]], axes: Any) -> None:
    joined = np.concatenate([np.array(each, float) for each in both])
    if not len(joined):
        axes.set_axis_off()
        return
    wide = np.ptp(joined) or 1.0
    bins = np.linspace(joined.min() - 0.01 * wide, joined.max() + 0.01 * wide, 31)
    for values, side, color in zip(both, SIDES, COLORS, strict=True):
        weights = np.full(len(values), 1 / max(1, len(values)))
        label = f"{side} ({len(values)})"
        axes.hist(values, bins, weights=weights, color=color, alpha=0.55, label=label)
    axes.set(xlabel="return", ylabel="share of trajectories")
    axes.legend(frameon=False)


def _agree(told: Mapping[str, Any], axes: Any) -> None:
    values = np.array(told["rank_correlation"], float)
    names = [each["name"] for each in told["each"]]
    axes.imshow(values, cmap="RdBu", vmin=-1, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    for (i, j), value in np.ndenumerate(values):
        shade = "white" if abs(value) > 0.6 else "black"
        axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=8, color=shade)


def _trained(told: Mapping[str, Any], axes: Any) -> None:
    lines = [
        (name, values, kind) for kind in ("alone", "using") for name, values in told[kind].items()
    ]
    for place, (_, values, kind) in enumerate(lines):
        good = np.array([value for value in values if value is not None], float)
        color = COLORS[kind == "alone"]
        axes.plot(np.full(len(good), place), good, "o", color=color, alpha=0.7)
        if len(good):
            axes.hlines(good.mean(), place - 0.25, place + 0.25, color=color, linewidth=2)
    axes.set_xticks(range(len(lines)), [name for name, _, _ in lines])
    axes.set(ylabel=told["unit"], xlabel="blue: target alone; orange: with the source")
    low, high = axes.get_ylim()
    if told["unit"] == "score" and high - low < LEAST_SPAN:  # seeds' noise is not to look large
        axes.set_ylim((low + high - LEAST_SPAN) / 2, (low + high + LEAST_SPAN) / 2)

"""Summarise run directories: means with intervals over seeds, interquartile means, curves.

Scores of one method on one pair, one per seed, are a stratum. Intervals are percentiles of
bootstrap samples that redraw seeds within every stratum (Agarwal et al. 2021, arXiv:2108.13264),
and the interquartile mean drops the lowest and the highest quarter of all runs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shiftgym.basics import pages
from shiftgym.basics.errors import ShiftgymError
from shiftgym.datasets.folders import explained
from shiftgym_agents.core.agent import Agent
from shiftgym_agents.methods.outside import recalled
from shiftgym_agents.methods.table import method
from shiftgym_agents.training.artifacts import ELSEWHERE
from shiftgym_agents.training.diagnostics import GAP
from shiftgym_agents.training.metrics import LAST, read_metrics
from shiftgym_agents.training.records import read_about, read_result

RESAMPLES = 2000
UNITS = {
    "score": "normalised score (0 random, 100 expert)",
    "return": "return (no score: no reference for these runs)",
    "gap": "evaluated nowhere: mean distance of actions from the target data's, in half boxes",
}


@dataclass(frozen=True)
class Group:
    """Hold the scores of one method on one pair of one run directory.

    Attributes:
        out: the run directory.
        method: its method.
        source: name of the source dataset.
        target: name of the target dataset.
        seeds: one per run.
        updates: when policies were evaluated, `(T,)`.
        scores: `(runs, T)`, by the reference it was trained with; NaN where a run had diverged, or
            where there is no reference.
        returns: `(runs, T)`, what the scores were made of.
        scored: whether there is a reference; without, a report shows returns.
        config: the method's hyperparameters.
        domain: environment kwargs of the place that policies were evaluated in; None for nowhere.
        gaps: `(runs, T)`, of runs that were evaluated nowhere: how far their policies act from the
            target data; empty for others.
        finished: whether training is over.
        seconds: training time of the whole directory.
        origin: where a method from outside this package came from; None for ours.
    """

    out: Path
    method: str
    source: str
    target: str
    seeds: list[int]
    updates: np.ndarray
    scores: np.ndarray
    returns: np.ndarray
    scored: bool
    config: dict[str, Any]
    domain: dict[str, Any] | None
    finished: bool
    seconds: float | None
    gaps: np.ndarray | None = None
    origin: dict[str, Any] | None = None

    @property
    def kind(self) -> type[Agent]:
        """Give the method's class.

        Raises:
            ShiftgymError: its file is gone, or its package is not installed.
        """
        return method(recalled({"method": self.method, "origin": self.origin}, self.out))

    @property
    def values(self) -> np.ndarray:
        """Give what a report shows, `(runs, T)`: scores, or returns, or gaps where nothing else."""
        if self.gaps is not None:
            return self.gaps
        return self.scores if self.scored else self.returns

    @property
    def unit(self) -> str:
        """Name what `values` are."""
        return "gap" if self.gaps is not None else "score" if self.scored else "return"

    @property
    def label(self) -> str:
        """Name the group in pictures."""
        source = "" if self.source == "none" else f"{self.source} -> "
        return f"{self.method}: {source}{self.target}"


def read_groups(outs: Sequence[Path]) -> list[Group]:
    """Read run directories, one group per pair and configuration in each.

    Raises:
        ShiftgymError: A directory holds no run, a damaged one, or one without evaluations yet.
    """
    return [group for out in outs for group in read_run(out)]


def read_run(out: Path) -> list[Group]:
    """Read one run directory; see `read_groups`."""
    about, result = read_about(out), read_result(out)
    configs = about.get("configs") or [about["config"]] * len(about["runs"])
    rows = [r for r in read_metrics(out / "metrics.csv") if r.get("return") or r.get(GAP)]
    if not rows:
        raise ShiftgymError(f"{out} holds no evaluation yet: let it train on, or resume it.")
    parts: dict[tuple[str, str, str, bool], list[dict[str, str]]] = {}
    for row in rows:
        run = int(row["run"])
        entry = about["runs"][run] if run < len(about["runs"]) else {}
        if any(row[name] != str(entry.get(name)) for name in ("source", "target", "seed")):
            raise ShiftgymError(f"{out / 'metrics.csv'} is damaged: config.json has other runs.")
        key = row["source"], row["target"], json.dumps(configs[run]), entry["reference"] is not None
        parts.setdefault(key, []).append(row)
    groups: list[Group] = []
    for (source, target, config, scored), own in parts.items():
        runs = {row["run"]: int(row["seed"]) for row in own}
        updates = sorted({int(row["update"]) for row in own})
        scores, returns, gaps = np.full((3, len(runs), len(updates)), np.nan)
        for row in own:
            place = list(runs).index(row["run"]), updates.index(int(row["update"]))
            returns[place] = float(row.get("return") or "nan")
            gaps[place] = _number(row.get(GAP) or "nan", out)
            scores[place] = float(row.get("score") or "nan") if scored else np.nan
        groups.append(
            Group(
                out=out,
                method=about["method"],
                source=source,
                target=target,
                seeds=list(runs.values()),
                updates=np.array(updates),
                scores=scores,
                returns=returns,
                scored=scored,
                config=json.loads(config),
                domain=about["runs"][int(own[0]["run"])]["domain"],
                finished=result is not None,
                seconds=None if result is None else float(result["seconds"]),
                gaps=gaps if np.isnan(returns).all() and not np.isnan(gaps).all() else None,
                origin=about.get("origin"),
            )
        )
    return groups


def _number(text: str, out: Path) -> float:
    try:
        return float(text)
    except ValueError:
        raise ShiftgymError(f"{out / 'metrics.csv'} is damaged: {GAP} is no number.") from None


def interquartile_mean(values: np.ndarray) -> float:
    """Average the middle half of numbers `(n,)`: a quarter of them is dropped at each end."""
    ordered = np.sort(values)
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def stratified_interval(
    strata: Sequence[np.ndarray],
    statistic: Any = np.mean,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Give the 95 % bootstrap interval of a statistic of all runs, redrawing in each stratum."""
    rng = np.random.default_rng(seed)
    drawn = [s[rng.integers(len(s), size=(resamples, len(s)))] for s in strata]
    found = [statistic(row) for row in np.concatenate(drawn, 1)]
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def summary(scores: Sequence[np.ndarray]) -> dict[str, Any]:
    """Summarise strata of scores, one per run; diverged runs are counted, not averaged."""
    kept = [s[np.isfinite(s)] for s in scores]
    kept = [s for s in kept if len(s)]
    runs, good = sum(map(len, scores)), sum(map(len, kept))
    found: dict[str, Any] = {"runs": runs, "diverged": runs - good}
    if not good:
        return found | {"mean": None, "low": None, "high": None, "iqm": None}
    values = np.concatenate(kept)
    low, high = stratified_interval(kept)
    found |= {"mean": float(values.mean()), "low": low, "high": high}
    return found | {"iqm": interquartile_mean(values)}


def describe(group: Group) -> dict[str, Any]:
    """Summarise a group's last evaluation and the mean of its last five, in its `unit`."""
    last, last5 = group.values[:, -1], group.values[:, -LAST:].mean(1)
    return {
        "out": str(group.out),
        "method": group.method,
        "source": group.source,
        "target": group.target,
        "seeds": group.seeds,
        "updates": int(group.updates[-1]),
        "finished": group.finished,
        "seconds": group.seconds,
        "unit": group.unit,
        "last": summary([last]) | {f"{group.unit}s": plain(last)},
        "last5": summary([last5]) | {f"{group.unit}s": plain(last5)},
    }


def overall(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Summarise each method that has several pairs over all of them, stratified by pair.

    A pair is two datasets, in however many directories; the same run of it (configuration and seed)
    counts once.
    """
    found: list[dict[str, Any]] = []
    for name, unit in dict.fromkeys((group.method, group.unit) for group in groups):
        strata: dict[tuple[str, str], list[np.ndarray]] = {}
        seen: set[tuple[Any, ...]] = set()
        for group in groups:
            if (group.method, group.unit) == (name, unit):
                pair, config = (group.source, group.target), json.dumps(group.config)
                for seed, values in zip(group.seeds, group.values, strict=True):
                    if (*pair, config, seed) not in seen:
                        seen.add((*pair, config, seed))
                        ends = np.array([values[-1], values[-LAST:].mean()])
                        strata.setdefault(pair, []).append(ends)
        if len(strata) > 1:
            ends = [np.stack(own, 1) for own in strata.values()]
            found.append({"method": name, "pairs": len(strata), "unit": unit})
            found[-1]["last"] = summary([own[0] for own in ends])
            found[-1]["last5"] = summary([own[1] for own in ends])
    return found


def table(groups: Sequence[Group]) -> str:
    """Lay out one line per group, and one per method that has several pairs.

    Scores and returns come in tables of their own.
    """
    kinds = list(dict.fromkeys(group.unit for group in groups))
    parts = [_table([group for group in groups if group.unit == unit]) for unit in kinds]
    if kinds != ["score"]:
        parts = [f"{UNITS[unit]}\n{part}" for unit, part in zip(kinds, parts, strict=True)]
    return "\n\n".join(parts)


def _table(groups: Sequence[Group]) -> str:
    head = ("method", "source", "target", "seeds", "updates", "last [95 %]", "IQM", "last 5 [95 %]")
    lines: list[tuple[str, ...]] = [(*head, "IQM", "")]
    digits = 3 if groups[0].unit == "gap" else 1
    for group in groups:
        about = describe(group)
        note = "" if group.finished else "unfinished"
        if about["last"]["diverged"]:
            note += f" {about['last']['diverged']} diverged"
        entry = (group.method, group.source, group.target, str(len(group.seeds)))
        entry += (
            str(about["updates"]),
            *_cells(about["last"], digits),
            *_cells(about["last5"], digits),
        )
        lines.append((*entry, note.strip()))
    for about in overall(groups):
        entry = (about["method"], "all", f"{about['pairs']} pairs", str(about["last"]["runs"]), "")
        lines.append((*entry, *_cells(about["last"], digits), *_cells(about["last5"], digits), ""))
    return lay_out(lines)


def lay_out(lines: Sequence[tuple[str, ...]]) -> str:
    """Align the columns of lines of cells."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def draw_curves(groups: Sequence[Group], picture: Path) -> None:
    """Draw each group's mean against updates, with its 95 % bootstrap interval over seeds.

    Scores and returns are drawn side by side.

    Raises:
        ShiftgymError: The picture cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    kinds = list(dict.fromkeys(group.unit for group in groups))
    size = 7 * len(kinds), 4.2
    figure, every = pyplot.subplots(
        1, len(kinds), figsize=size, layout="constrained", squeeze=False
    )
    for axes, unit in zip(every[0], kinds, strict=True):
        _draw([group for group in groups if group.unit == unit], axes)
        axes.set(xlabel="updates per run", ylabel=UNITS[unit])
    with explained(picture, ELSEWHERE):
        figure.savefig(picture, dpi=150)
    pyplot.close(figure)


def _draw(groups: Sequence[Group], axes: Any) -> None:
    for i, group in enumerate(groups):
        color = f"C{i % 10}"
        good = np.isfinite(group.values).any(0)
        updates, values = group.updates[good], group.values[:, good]
        axes.plot(updates, np.nanmean(values, 0), color=color, label=group.label, marker=".")
        if len(group.seeds) > 1:
            columns = [values[np.isfinite(values[:, t]), t] for t in range(values.shape[1])]
            ends = [stratified_interval([column], resamples=500) for column in columns]
            low, high = np.array(ends).reshape(-1, 2).T
            axes.fill_between(updates, low, high, color=color, alpha=0.2, linewidth=0)
    axes.set_title("mean over seeds, 95 % bootstrap interval", fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def interval(about: dict[str, Any], digits: int = 1) -> str:
    """Write a summary's mean and interval."""
    if about["mean"] is None:
        return "-"
    return pages.interval(about["mean"], about["low"], about["high"], f".{digits}f")


def _cells(about: dict[str, Any], digits: int) -> tuple[str, str]:
    return interval(about, digits), "-" if about["iqm"] is None else f"{about['iqm']:.{digits}f}"


def plain(values: np.ndarray) -> list[float | None]:
    """List numbers as JSON can hold them: None for NaN."""
    return [None if math.isnan(v) else float(v) for v in values]

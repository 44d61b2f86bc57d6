"""Make a leaderboard of collected results: every method beside two bars that need no learning.

A section is a grid of the results, and a variant of it. A method for the target alone stands for
every pair of its target. Diverged runs are counted and left out of numbers; a method's total counts
where it has runs on every pair. A score is bold where its whole 95 % interval is above the whole
interval of both bars (`bars.py`), and none of its runs diverged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shiftgym_agents.reports.ranking import aggregate, improvement
from shiftgym_agents.reports.report import interval, lay_out, plain, summary
from shiftgym_agents.reports.results import Results

BASES = ("iql-target", "bc")  # what the target gives alone: what the use of a source must beat
BARS = {"data": "target data", "policy": "their policy without noise"}
NO_SOURCE = "none"
Pair = tuple[str, str]


@dataclass(frozen=True)
class Section:
    """Hold the last scores of one grid.

    Attributes:
        name: of the grid, and of its variant.
        title: what it is.
        pairs: (source, target), in the grid's order.
        scores: by method and pair, one per seed; NaN where a run had diverged.
        bars: ``data`` and ``policy`` by target.
    """

    name: str
    title: str
    pairs: Sequence[Pair]
    scores: Mapping[str, Mapping[Pair, np.ndarray]]
    bars: Mapping[str, Mapping[str, Any]]

    def strata(self, method: str) -> list[np.ndarray] | None:
        """Give a method's finite scores by pair; None where it has none on some."""
        found = [self.scores[method].get(pair, np.array([])) for pair in self.pairs]
        kept = [scores[np.isfinite(scores)] for scores in found]
        return kept if kept and all(len(scores) for scores in kept) else None


def sections(results: Results) -> list[Section]:
    """Sort results into sections."""
    last: dict[tuple[str, str, str, str, str, int], tuple[int, float]] = {}
    for row in results.rows:
        key = (*(row[name] for name in ("grid", "variant", "method", "source", "target")),)
        run = (*key, row["seed"])
        if row["updates"] >= last.get(run, (-1, 0.0))[0]:
            last[run] = row["updates"], row["score"]
    found: dict[tuple[str, str], dict[str, dict[Pair, list[float]]]] = {}
    for (grid, variant, method, source, target, _), (_, score) in last.items():
        by = found.setdefault((grid, variant), {}).setdefault(method, {})
        by.setdefault((source, target), []).append(score)
    return [_section(results, grid, variant, by) for (grid, variant), by in found.items()]


def describe(section: Section) -> dict[str, Any]:
    """Give a section's numbers as JSON: methods with their totals, best first."""
    methods: list[dict[str, Any]] = []
    for name, by in section.scores.items():
        cells = {pair: _cell(scores, section.bars.get(pair[1], {})) for pair, scores in by.items()}
        about: dict[str, Any] = {
            "method": name,
            "pairs": [{"source": p[0], "target": p[1]} | cell for p, cell in cells.items()],
            "bold": sum(cell["bold"] for cell in cells.values()),
            "diverged": sum(cell["diverged"] for cell in cells.values()),
            "total": None,
            "improvement": {},
        }
        strata = section.strata(name)
        if strata is not None:
            about["total"] = aggregate(strata)
            for base in BASES:
                other = section.strata(base) if base in section.scores and base != name else None
                if other is not None:
                    about["improvement"][base] = improvement(strata, other)
        methods.append(about)
    methods.sort(key=lambda each: -each["total"]["iqm"] if each["total"] else np.inf)
    bars = {target: section.bars.get(target, {}) for _, target in section.pairs}
    told = {"name": section.name, "title": section.title, "bars": bars, "methods": methods}
    return told | {"pairs": [list(pair) for pair in section.pairs]}


def table(section: Section) -> str:
    """Lay out a section: totals, then the pairs of each robot."""
    about = describe(section)
    head = ("method", "IQM [95 %]", "mean [95 %]", *(f"P(> {base})" for base in BASES), "bold", "")
    lines: list[tuple[str, ...]] = [head]
    lines += [(f"({BARS[bar]})", "", bar_total(section, bar), "", "", "", "") for bar in BARS]
    for each in about["methods"]:
        note = f"{each['diverged']} diverged" if each["diverged"] else ""
        chances = [chance(each["improvement"].get(base)) for base in BASES]
        bold = f"{each['bold']} of {len(section.pairs)}"
        lines.append((each["method"], *total_cells(each["total"]), *chances, bold, note))
    parts = [f"{section.name}: {section.title}", lay_out(lines)]
    for robot in dict.fromkeys(robot_of(target) for _, target in section.pairs):
        own = [pair for pair in section.pairs if robot_of(pair[1]) == robot]
        parts.append(lay_out([*_head(own), *_bar_lines(section, own), *_pair_lines(about, own)]))
    return "\n\n".join(parts)


def bar_total(section: Section, bar: str) -> str:
    """Write the mean of a bar over the pairs, where it is known for all."""
    known = [section.bars.get(target, {}).get(bar) for _, target in section.pairs]
    if not known or not all(known):
        return "-"
    return f"{np.mean([each['score'] for each in known if each]):.1f}"


def bar_text(bar: Mapping[str, Any] | None) -> str:
    """Write a bar with its interval."""
    return "-" if not bar else f"{bar['score']:.1f} [{bar['low']:.1f}, {bar['high']:.1f}]"


def total_cells(total: Mapping[str, float] | None) -> tuple[str, str]:
    """Write interquartile mean and mean with their intervals."""
    if total is None:
        return "incomplete", "-"
    iqm = f"{total['iqm']:.1f} [{total['iqm_low']:.1f}, {total['iqm_high']:.1f}]"
    return iqm, f"{total['mean']:.1f} [{total['low']:.1f}, {total['high']:.1f}]"


def chance(found: Mapping[str, float] | None) -> str:
    """Write a probability of improvement."""
    if found is None:
        return "-"
    return f"{found['mean']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


def cell_of(about: Mapping[str, Any], pair: Pair) -> Mapping[str, Any] | None:
    """Find a method's numbers on a pair."""
    named = ((each["source"], each["target"]) for each in about["pairs"])
    return next((c for c, p in zip(about["pairs"], named, strict=True) if p == pair), None)


def robot_of(target: str) -> str:
    """Name the robot of a dataset."""
    return target.partition("/")[0].partition("-")[0]


def _section(
    results: Results, grid: str, variant: str, by: Mapping[str, Mapping[Pair, list[float]]]
) -> Section:
    """Let methods for the target alone stand for all pairs of their target."""
    real = dict.fromkeys(pair for own in by.values() for pair in own if pair[0] != NO_SOURCE)
    alone = dict.fromkeys(pair for own in by.values() for pair in own if pair[0] == NO_SOURCE)
    pairs = [*real, *(pair for pair in alone if pair[1] not in {target for _, target in real})]
    scores: dict[str, dict[Pair, np.ndarray]] = {}
    for name, own in by.items():
        found = {pair: own.get(pair, own.get((NO_SOURCE, pair[1]))) for pair in pairs}
        scores[name] = {pair: np.array(values) for pair, values in found.items() if values}
    title = results.about["grids"].get(grid, {}).get("title", "")
    named = f"{grid}, {variant}" if variant else grid
    return Section(named, title, pairs, scores, results.about["targets"])


def _cell(scores: np.ndarray, bars: Mapping[str, Any]) -> dict[str, Any]:
    found = summary([scores])
    known = [bars.get(bar) for bar in BARS]
    bold = found["mean"] is not None and not found["diverged"] and all(known)
    bold = bold and all(found["low"] > each["high"] for each in known if each)
    return found | {"bold": bool(bold), "scores": plain(scores)}


def _head(pairs: Sequence[Pair]) -> list[tuple[str, ...]]:
    sources = ("" if source == NO_SOURCE else f"{source} ->" for source, _ in pairs)
    return [("", *sources), ("", *(target for _, target in pairs))]


def _bar_lines(section: Section, pairs: Sequence[Pair]) -> list[tuple[str, ...]]:
    return [
        (f"({told})", *(bar_text(section.bars.get(target, {}).get(bar)) for _, target in pairs))
        for bar, told in BARS.items()
    ]


def _pair_lines(about: Mapping[str, Any], pairs: Sequence[Pair]) -> list[tuple[str, ...]]:
    lines = []
    for each in about["methods"]:
        cells = (cell_of(each, pair) for pair in pairs)
        texts = ("-" if c is None else interval(dict(c)) + " *" * c["bold"] for c in cells)
        lines.append((each["method"], *texts))
    return lines

"""Make a leaderboard of collected results: every method beside two bars that need no learning.

A section is a grid of the results, and a variant of it; returns, where there are no scores, have
sections of their own, one per environment, since they are in no common unit. A method for the
target alone stands for every pair of its target. Diverged runs are counted and left out of numbers;
a method's total counts where it has runs on every pair. A score is bold where its whole 95 %
interval is above the whole interval of both bars (`bars.py`), and none of its runs diverged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.data.places import slug_of
from shiftgym_agents.reports.ranking import aggregate, improvement
from shiftgym_agents.reports.report import interval, lay_out, plain, summary
from shiftgym_agents.reports.results import Results
from shiftgym_agents.training.records import domain_of, fits

BASES = ("iql-target", "bc")  # what the target gives alone: what the use of a source must beat
BARS = {"data": "target data", "policy": "their policy without noise"}
NO_SOURCE = "none"
SCORE, RETURN = "score", "return"
EXPLAINED = {"scored": bool, "domains": dict | None}
Pair = tuple[str, str]
Key = tuple[str, str, str, str]  # grid, variant, unit, and of returns the environment


@dataclass(frozen=True)
class Section:
    """Hold the last scores, or returns, of one grid.

    Attributes:
        name: of the grid, and of its variant.
        title: what it is.
        pairs: (source, target), in the grid's order.
        scores: by method and pair, one per seed; NaN where a run had diverged.
        bars: ``data`` and ``policy`` by target; of returns only where they are returns, too.
        robots: by target; the environment's name where it is none of shiftgym's robots.
        unit: what `scores` are, ``score`` or ``return``.
    """

    name: str
    title: str
    pairs: Sequence[Pair]
    scores: Mapping[str, Mapping[Pair, np.ndarray]]
    bars: Mapping[str, Mapping[str, Any]]
    robots: Mapping[str, str]
    unit: str = SCORE

    @property
    def known_bars(self) -> Mapping[str, str]:
        """Give the bars that are known of some target, with what they are called."""
        known = [self.bars.get(target, {}) for _, target in self.pairs]
        return {bar: told for bar, told in BARS.items() if any(each.get(bar) for each in known)}

    def by_robot(self) -> dict[str, list[Pair]]:
        """Give the pairs of each robot."""
        found: dict[str, list[Pair]] = {}
        for pair in self.pairs:
            found.setdefault(self.robots[pair[1]], []).append(pair)
        return found

    def strata(self, method: str) -> list[np.ndarray] | None:
        """Give a method's finite scores by pair; None where it has none on some."""
        found = [self.scores[method].get(pair, np.array([])) for pair in self.pairs]
        kept = [scores[np.isfinite(scores)] for scores in found]
        return kept if kept and all(len(scores) for scores in kept) else None


def sections(results: Results) -> list[Section]:
    """Sort results into sections."""
    last: dict[tuple[Any, ...], tuple[int, float]] = {}
    for row in results.rows:
        unit = SCORE if _told(results, row, "scored") else RETURN
        place = "" if unit == SCORE else _slug(results, row)
        run = (row["grid"], row["variant"], unit, place)
        run += (*(row[name] for name in ("method", "source", "target", "seed")),)
        if row["updates"] >= last.get(run, (-1, 0.0))[0]:
            last[run] = row["updates"], row[unit]
    found: dict[Key, dict[str, dict[Pair, list[float]]]] = {}
    for (*key, method, source, target, _), (_, value) in last.items():
        grid, variant, unit, place = key
        by = found.setdefault((grid, variant, unit, place), {}).setdefault(method, {})
        by.setdefault((source, target), []).append(value)
    robots = {row["target"]: _robot(results, row) for row in results.rows}
    return [_section(results, key, by, robots) for key, by in found.items()]


def join_variants(results: Results) -> Results:
    """Make methods of variants: a grid is one section, and has each method once per variant.

    Runs that variants share stand once, by the first one's name; a method that no variant changes
    keeps its plain name.
    """
    runs: dict[tuple[str, str], dict[str, set[tuple[Any, ...]]]] = {}
    for row in results.rows:
        own = runs.setdefault((row["grid"], row["method"]), {}).setdefault(row["variant"], set())
        own.add((row["group"], row["source"], row["target"], row["seed"]))
    names: dict[tuple[str, str, str], str] = {}
    for (grid, method), by in runs.items():
        first = {frozenset(own): variant for variant, own in reversed(by.items())}
        for variant in first.values():
            told = (method, variant) if len(first) > 1 else (method,)
            names[grid, method, variant] = ", ".join(filter(None, told))
    rows = [
        dict(row) | {"method": names[key], "variant": ""}
        for row in results.rows
        if (key := (row["grid"], row["method"], row["variant"])) in names
    ]
    return replace(results, rows=rows)


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
    told = {"name": section.name, "title": section.title, "unit": section.unit}
    told |= {"bars": bars, "methods": methods}
    return told | {"pairs": [list(pair) for pair in section.pairs]}


def table(section: Section) -> str:
    """Lay out a section: totals, then the pairs of each robot."""
    about = describe(section)
    head = ("method", "IQM [95 %]", "mean [95 %]", *(f"P(> {base})" for base in BASES), "bold", "")
    lines: list[tuple[str, ...]] = [head]
    lines += [
        (f"({told})", "", bar_total(section, bar), "", "", "", "")
        for bar, told in section.known_bars.items()
    ]
    for each in about["methods"]:
        note = f"{each['diverged']} diverged" if each["diverged"] else ""
        chances = [chance(each["improvement"].get(base)) for base in BASES]
        bold = bold_text(section, each)
        lines.append((each["method"], *total_cells(each["total"]), *chances, bold, note))
    parts = [f"{section.name}: {section.title}", lay_out(lines)]
    for own in section.by_robot().values():
        parts.append(lay_out([*_head(own), *_bar_lines(section, own), *_pair_lines(about, own)]))
    return "\n\n".join(parts)


def bold_text(section: Section, about: Mapping[str, Any]) -> str:
    """Count the pairs on which a method is above both bars; nothing where there are no two bars."""
    counted = len(section.known_bars) == len(BARS)
    return f"{about['bold']} of {len(section.pairs)}" if counted else "-"


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


def _told(results: Results, row: Mapping[str, Any], what: str) -> Any:
    """Give what a table tells of a row's target: ``scored``, or ``domains``, where it was tried."""
    told = results.about["groups"][row["group"]][what]
    if row["target"] not in told or not fits(told[row["target"]], EXPLAINED[what]):
        raise ShiftgymError(f"{results.path} is damaged: {what} of {row['target']} are missing.")
    return told[row["target"]]


def _slug(results: Results, row: Mapping[str, Any]) -> str:
    return slug_of(domain_of({"domain": _told(results, row, "domains")}, results.path))


def _robot(results: Results, row: Mapping[str, Any]) -> str:
    told = _told(results, row, "domains") or {}
    return str(told.get("robot") or told.get("env", ""))


def _section(
    results: Results,
    key: Key,
    by: Mapping[str, Mapping[Pair, list[float]]],
    robots: Mapping[str, str],
) -> Section:
    """Let methods for the target alone stand for all pairs of their target."""
    grid, variant, unit, place = key
    real = dict.fromkeys(pair for own in by.values() for pair in own if pair[0] != NO_SOURCE)
    alone = dict.fromkeys(pair for own in by.values() for pair in own if pair[0] == NO_SOURCE)
    pairs = [*real, *(pair for pair in alone if pair[1] not in {target for _, target in real})]
    scores: dict[str, dict[Pair, np.ndarray]] = {}
    for name, own in by.items():
        found = {pair: own.get(pair, own.get((NO_SOURCE, pair[1]))) for pair in pairs}
        scores[name] = {pair: np.array(values) for pair, values in found.items() if values}
    title = results.about["grids"].get(grid, {}).get("title", "")
    named = f"{grid}, {variant}" if variant else grid
    named += f", returns in {place}" if place else ""
    told = results.about["targets"]
    bars = {target: own for target, own in told.items() if own.get("unit", SCORE) == unit}
    return Section(named, title, pairs, scores, bars, robots, unit)


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
        for bar, told in section.known_bars.items()
    ]


def _pair_lines(about: Mapping[str, Any], pairs: Sequence[Pair]) -> list[tuple[str, ...]]:
    lines = []
    for each in about["methods"]:
        cells = (cell_of(each, pair) for pair in pairs)
        texts = ("-" if c is None else interval(dict(c)) + " *" * c["bold"] for c in cells)
        lines.append((each["method"], *texts))
    return lines

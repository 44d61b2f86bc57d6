"""Compare a cheaper training protocol with a longer one: does it keep the order of methods?

    shiftgym sweep laptop-check
    shiftgym sweep laptop-check --collect
    python benchmarks/laptop.py runs/sweeps/laptop-check.csv

For every variant of the grid and every target, beside the variant `reference`: Kendall's tau of the
two orders of methods by mean score, with the 95 % interval over seeds; the mean and the largest
difference of a method's mean score; how much of it is a shift of all methods; and what a run-update
and the whole variant cost in seconds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from shiftgym.basics.errors import DomainError, nearest
from shiftgym_agents.reports.leaderboard import Section, sections
from shiftgym_agents.reports.ranking import rank_correlation
from shiftgym_agents.reports.report import lay_out
from shiftgym_agents.reports.results import Results, read_results

RESAMPLES = 1000


def main(
    table: Annotated[Path, tyro.conf.Positional],
    reference: str = "reference",
    out: Path | None = None,
) -> None:
    """Print the comparison.

    Args:
        table: what `shiftgym sweep laptop-check --collect` wrote.
        reference: the variant that the others are compared with.
        out: write it as JSON here, too.
    """
    results = read_results(table)
    found = {section.name.partition(", ")[2]: section for section in sections(results)}
    if reference not in found:
        raise DomainError(f"{table} has no variant {reference!r}. {nearest(reference, found)}")
    spent = seconds(results)
    lines = [("variant", "target", "tau [95 %]", "|difference|", "largest", "shift", "hours")]
    told: list[dict[str, Any]] = []
    for name, section in found.items():
        for target in dict.fromkeys(target for _, target in section.pairs):
            about = {"variant": name, "target": target} | compare(
                means(found[reference], target), means(section, target)
            )
            about["hours"] = spent[name] / 3600
            told.append(about)
            tau = f"{about['tau']:.2f} [{about['low']:.2f}, {about['high']:.2f}]"
            numbers = (f"{about[key]:.1f}" for key in ("difference", "largest", "shift"))
            lines.append((name, target, tau, *numbers, f"{about['hours']:.2f}"))
    print(lay_out(lines))
    if out is not None:
        out.write_text(json.dumps(told, indent=1) + "\n")


def means(section: Section, target: str) -> dict[str, np.ndarray]:
    """Give each method's scores on a target, one per seed."""
    return {
        method: next(scores for pair, scores in by.items() if pair[1] == target)
        for method, by in section.scores.items()
        if any(pair[1] == target for pair in by)
    }


def compare(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> dict[str, float]:
    """Compare two variants on one target."""
    names = [name for name in one if name in other]
    rng, drawn = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        pair = [
            [rng.choice(scores[name], len(scores[name])).mean() for name in names]
            for scores in (one, other)
        ]
        drawn.append(rank_correlation(*pair))
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    a, b = (np.array([np.nanmean(scores[name]) for name in names]) for scores in (one, other))
    return {
        "tau": rank_correlation(a, b),
        "low": float(low),
        "high": float(high),
        "difference": float(np.abs(b - a).mean()),
        "largest": float(np.abs(b - a).max()),
        "shift": float((b - a).mean()),
    }


def seconds(results: Results) -> dict[str, float]:
    """Give the training seconds of each variant."""
    groups: dict[str, set[str]] = {}
    for row in results.rows:
        groups.setdefault(row["variant"], set()).add(row["group"])
    told = results.about["groups"]
    return {name: sum(told[key]["seconds"] for key in own) for name, own in groups.items()}


if __name__ == "__main__":
    tyro.cli(main)

"""Write docs/policies.md from the packaged policies: python docs/make_policies.py [RUN ...].

Given run folders of `shiftgym policies train`, their learning curves are copied to
docs/data/policy_curves.csv first.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

from shiftgym.domains import domain
from shiftgym.policies import POLICIES, index
from shiftgym.scores import reference
from shiftgym_tools.packaging import (
    PUBLISHED,
    SHARE_OF_PUBLISHED,
    SHIFTED_HAND_BAR,
    SOURCE_BARS,
    bar,
    metric,
)

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

HERE = Path(__file__).parent
CURVES = HERE / "data" / "policy_curves.csv"
COLUMNS = ("domain", "updates", "step", "return_mean", "train_return", "seconds")
INTRODUCTION = """\
# Behaviour policies

The policies that make the data. `shiftgym policies` lists them, `shiftgym policies measure NAME`
repeats a row, `shiftgym render DOMAIN --policy expert --out x.gif` shows one at work.

## How they are made

Soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905) in each domain, all eight domains of a
robot in lockstep: `shiftgym policies train --robot hopper`. For the hands, PPO (Schulman et al.
2017, arXiv:1707.06347) that starts from the DAPG experts of hand_dapg (Apache-2.0):
`shiftgym policies train-hands --robot pen --expert pen.npz`. Then `shiftgym policies grade` chooses
and measures, `shiftgym policies package` puts the chosen into the package.

`expert` is the best policy where it reaches the bar; elsewhere it is called `best`. The bar is
{bars} for the unshifted robots; {share} of the published reference maximum for shifted locomotion,
and {hands:.0%} success for shifted hands.
`medium` is the snapshot nearest to a third of the way from random to the best (D4RL's rule).

Every number is the mean of 100 fresh episodes (seeds 900,000 on, not used in the selection) with
the 95 % bootstrap interval. Each episode's return is in
`shiftgym/assets/policies/evaluations.json`.

## Table

The campaign is not finished: the table holds what is packaged so far, and the curves below show how
far each robot has come.

| policy | updates | deterministic | stochastic | length | success | bar | published maximum |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""


def main(runs: list[Path]) -> None:
    """Copy the curves, draw them, and write the page."""
    if runs:
        rows = [row for run in runs for row in csv.DictReader((run / "curves.csv").open())]
        with CURVES.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    draw(list(csv.DictReader(CURVES.open())))
    known = json.loads((POLICIES / "evaluations.json").read_text())
    (HERE / "policies.md").write_text(page(known))
    print(f"Wrote {HERE / 'policies.md'}")


def draw(rows: list[dict[str, str]]) -> None:
    """Draw one panel per robot: deterministic returns against updates, a line per domain."""
    robots = list(dict.fromkeys(domain(row["domain"]).robot for row in rows))
    figure, axes = plt.subplots(2, 2, figsize=(10, 7), squeeze=False)
    for robot, axis in zip(robots, axes.flat, strict=False):
        slugs = dict.fromkeys(r["domain"] for r in rows if domain(r["domain"]).robot == robot)
        for slug in slugs:
            own = [row for row in rows if row["domain"] == slug]
            x = [int(row["updates"]) / 1000 for row in own]
            label = domain(slug).shift or "source"
            axis.plot(x, [float(row["return_mean"]) for row in own], label=label, lw=1.2)
        axis.set(title=robot, xlabel="thousand updates per agent", ylabel="return (5 episodes)")
        axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(HERE / "policy_curves.png", dpi=110)


def page(known: dict[str, Any]) -> str:
    """Lay out the page."""
    bars = ", ".join(f"{_level(robot, value)} ({robot})" for robot, value in SOURCE_BARS.items())
    lines = [INTRODUCTION.format(bars=bars, share=SHARE_OF_PUBLISHED, hands=SHIFTED_HAND_BAR)]
    lines += [_row(name, known[name]) for name in index()]
    lines += ["", "## Learning curves", "", "![curves](policy_curves.png)", ""]
    lines += ["Raw values: [policy_curves.csv](data/policy_curves.csv).", ""]
    return "\n".join(lines)


def _level(slug: str, value: float) -> str:
    return f"{value:.0%} success" if metric(slug) == "success" else f"{value:,.0f}"


def _row(name: str, entry: dict[str, Any]) -> str:
    slug = name.split("/")[0]
    of = domain(slug)
    top = reference(of, PUBLISHED.get(of.shift, "odrl") if of.shift else "odrl").expert
    cells = [f"`{name}`", f"{entry['updates']:,}"]
    for mode in ("deterministic", "stochastic"):
        found = entry[mode]
        low, high = found["return_low"], found["return_high"]
        cells.append(f"{found['return']:,.0f} [{low:,.0f}, {high:,.0f}]")
    success = f"{entry['deterministic']['success']:.0%}" if metric(slug) == "success" else ""
    length = f"{entry['deterministic']['length']:.0f}"
    cells += [length, success, _level(slug, bar(slug)), f"{top:,.0f}"]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])

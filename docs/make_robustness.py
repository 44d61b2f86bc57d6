"""Write docs/robustness_results.md and its pictures: python docs/make_robustness.py [RUN ...].

RUN...                               run directories that `shiftgym eval --perturb` has evaluated;
                                     what it wrote there is copied to data/robustness first
data/robustness/<method>.csv, .json  every episode; levels, options and versions
data/robustness/reading.txt          what it shows and what it does not, in words
data/grids/cpu-reverse.json          how the policies were trained, and what their target data score
data/robustness_benchmarks.json      what the harness costs beside bare stepping
robustness_results.md  results/robustness-<suite>.png
"""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shiftgym_agents.perturb import ATTACK, CLEAN, Level
from shiftgym_agents.report import interval
from shiftgym_agents.robustness_pictures import draw
from shiftgym_agents.robustness_report import Curve

HERE = Path(__file__).parent
DATA = HERE / "data" / "robustness"
ORDER = ("iql", "igdf", "otdf", "droco")
PAGE = """\
# Robustness of four methods

Policies of the [grid](results.md) `{grid}`, {updates:,} updates on {source} and {target}: the
reverse of the other grids, plenty of data of the shifted robot and few of the robot itself, where
the policies act. Their last checkpoints, {runs} seeds a method, were evaluated unperturbed and at
every level of five suites, {episodes} episodes each from the same starts. The target data's own
mean score is {own:.1f}.

```
{commands}
```

{versions}. What the suites are: [robustness](robustness.md). Brackets hold 95 % bootstrap
intervals over seeds and episodes; of three seeds such an interval says little.

## Scores

{scores}

## What is lost of them

Degradation of the means over seeds, in per cent of the unperturbed score; `-` where the interval of
the unperturbed score reaches down to 0. Averages of each seed's own ratio are in the data.

{lost}

![scores and losses]({picture})
{parts}
## What this shows, and what it does not

{reading}

## What the evaluation costs

{cost}

Data: {files}.
"""


def main(runs: Sequence[Path]) -> None:
    """Copy what was measured, and write the page."""
    DATA.mkdir(parents=True, exist_ok=True)
    for run in runs:
        method = json.loads((run / "robustness.json").read_text())["method"]
        for kind in ("csv", "json"):
            shutil.copyfile(run / f"robustness.{kind}", DATA / f"{method}.{kind}")
    found = {name: read(name) for name in ORDER if (DATA / f"{name}.csv").exists()}
    if not found:
        sys.exit(f"make_robustness: {DATA} is empty: give run directories that were evaluated.")
    curves = list(found.values())
    suites = list(dict.fromkeys(level.suite for level in curves[0].levels if level.suite != CLEAN))
    for suite in suites:
        draw(curves, [suite], HERE / "results" / f"robustness-{suite}.png")
    draw(curves, suites, HERE / "results" / "robustness.png")
    (HERE / "robustness_results.md").write_text(page(curves))
    print(f"Wrote {HERE / 'robustness_results.md'}: {', '.join(found)}")


def read(name: str) -> Curve:
    """Read one method's episodes."""
    with (DATA / f"{name}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    keys = list(dict.fromkeys((row["suite"], row["level"], row["strength"]) for row in rows))
    levels = [Level(suite, level, float(x) if x else None) for suite, level, x in keys]
    seeds = list(dict.fromkeys(int(row["seed"]) for row in rows))
    episodes = 1 + max(int(row["episode"]) for row in rows)
    values = np.full((3, len(seeds), len(levels), episodes), np.nan)
    for row in rows:
        level = keys.index((row["suite"], row["level"], row["strength"]))
        place = seeds.index(int(row["seed"])), level, int(row["episode"])
        values[(slice(None), *place)] = [float(row[key]) for key in ("return", "score", "length")]
    pair = f"{rows[0]['source']} -> {rows[0]['target']}"
    strata = np.zeros(len(seeds), np.int64)
    return Curve(name, pair, "", levels, seeds, strata, *values)


def page(curves: Sequence[Curve]) -> str:
    """Lay out the page."""
    about = json.loads((DATA / f"{curves[0].name}.json").read_text())
    grid = json.loads((HERE / "data" / "grids" / "cpu-reverse.json").read_text())
    source, target = curves[0].pair.split(" -> ")
    made = about["provenance"]
    suites = dict.fromkeys(level.suite for level in curves[0].levels[1:])
    runs = " ".join(f"runs/grids/cpu-reverse/{curve.name}-hopper" for curve in curves)
    commands = [
        "python benchmarks/grid.py cpu-reverse",
        f"shiftgym eval {runs} \\\n    --perturb {','.join(suites)} --episodes {about['episodes']}",
        f"python docs/make_robustness.py {runs}",
    ]
    files = [f"[{c.name}.{kind}](data/robustness/{c.name}.{kind})" for c in curves
             for kind in ("csv", "json")]  # fmt: skip
    return PAGE.format(
        grid=grid["grid"], updates=about["updates"], source=f"`{source}`", target=f"`{target}`",
        runs=len(curves[0].seeds), episodes=about["episodes"],
        own=grid["targets"][target]["score"], commands="\n".join(commands),
        versions=f"shiftgym {made['shiftgym']} ({made['git'][:10]}{made['git'][40:]}), "
        f"mujoco {made['mujoco']}, torch {made['torch']}",
        scores=table(curves, "score"), lost=table(curves, "ratio_of_means"),
        picture="results/robustness.png", cost=cost(), files=", ".join(files),
        parts="".join(f"![{suite}](results/robustness-{suite}.png)\n" for suite in suites),
        reading=(DATA / "reading.txt").read_text().strip(),
    )  # fmt: skip


def table(curves: Sequence[Curve], key: str) -> str:
    """Lay out a line per level and a column per method."""
    lines = ["| suite | level | " + " | ".join(f"`{curve.name}`" for curve in curves) + " |"]
    lines.append("| --- | --- |" + " ---: |" * len(curves))
    for k, level in enumerate(curves[0].levels):
        if key == "score" or level.suite != CLEAN:
            cells = [interval(curve.summary[k][key] or {"mean": None}) for curve in curves]
            lines.append(f"| {level.suite} | {level_name(level)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def level_name(level: Level) -> str:
    """Name a level, with its factor where it has one."""
    if level.suite == CLEAN:
        return ""
    return level.name if level.suite == ATTACK or level.strength is None else (
        f"{level.name}, x {level.strength:g}")  # fmt: skip


def cost() -> str:
    """Tell what the harness costs."""
    about: dict[str, Any] = json.loads((HERE / "data" / "robustness_benchmarks.json").read_text())
    each = [
        f"{race['median']['harness']:.1f} s for {race['robot']}, {race['median']['ratio']:.2f} "
        "times bare vector stepping of as many steps"
        for race in about["races"]
    ]
    domains = about["races"][0]["domains"] - 1
    return (
        f"{about['runs']} policies, unperturbed and in {domains} perturbed domains, "
        f"{about['episodes']} episodes each: {'; '.join(each)} (bar {about['bar']:g}; "
        f"{about['cores']} cores, load {about['load_before']:.1f} before, {about['date']}; "
        "`python benchmarks/robustness.py --out docs/data/robustness_benchmarks.json`, "
        "[figures](data/robustness_benchmarks.json))."
    )


if __name__ == "__main__":
    main([Path(run) for run in sys.argv[1:]])

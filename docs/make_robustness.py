"""Write docs/robustness_results.md and its pictures: python docs/make_robustness.py [RUN ...].

RUN...                               run directories that `shiftgym eval --perturb` has evaluated;
                                     what it wrote there is copied to data/robustness first
data/robustness/<method>-<robot>.csv, .json  every episode; levels, options and versions
data/robustness/reading.txt          what it shows and what it does not, in words
data/earlier_data.txt                what to know first, on top of the page, if there
data/grids/cpu-reverse.json          how the policies were trained, and what their target data score
data/robustness_benchmarks.json      what the harness costs beside bare stepping
robustness_results.md  results/robustness-<robot>.png  results/robustness-<robot>-<suite>.png
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
from make_results import notice

from shiftgym.basics.pages import markdown, name_versions
from shiftgym_agents.evaluation.perturb import ATTACK, CLEAN, Level
from shiftgym_agents.reports.report import interval
from shiftgym_agents.reports.robustness import Curve
from shiftgym_agents.reports.robustness_pictures import draw

HERE = Path(__file__).parent
DATA = HERE / "data" / "robustness"
METHODS = ("iql", "igdf", "otdf", "droco")
ROBOTS = {"hopper": "Hopper", "walker2d": "Walker2d"}
VERSIONS = ("shiftgym", "git", "mujoco", "torch")
RUNS = "runs/grids/cpu-reverse"
PAGE = """\
# Robustness of four methods

{notice}\
Policies of the [grid](results.md) `cpu-reverse`, {updates:,} updates on plenty of data of a shifted
robot and few of the robot itself, where the policies act: the reverse of the other grids. Their
last checkpoints, {runs} seeds a method, were evaluated unperturbed and at every level of five
suites, {episodes} episodes each from the same starts.

```
{commands}
```

What the suites are: [robustness](robustness.md). **Loss** is the degradation of the means over
seeds, in per cent of the unperturbed score; `-` where the interval of the unperturbed score reaches
down to 0. Averages of each seed's own ratio are in the data. Brackets hold 95 % bootstrap intervals
over seeds and episodes; of three seeds such an interval says little.

{robots}
## What this shows, and what it does not

{reading}

## What the evaluation costs

{cost}
"""
ROBOT = """\
## {title}

From {source} to {target}, whose own mean score is {own:.1f}. {versions}.

Scores:

{scores}

Losses:

{lost}

![scores and losses]({picture}.png)
{parts}
Data: {files}.

"""


def main(runs: Sequence[Path]) -> None:
    """Copy what was measured, and write the page."""
    DATA.mkdir(parents=True, exist_ok=True)
    for run in runs:
        about = json.loads((run / "robustness.json").read_text())
        (place,) = about["levels"][0]["domains"].values()
        for kind in ("csv", "json"):
            name = f"{about['method']}-{place['robot']}.{kind}"
            shutil.copyfile(run / f"robustness.{kind}", DATA / name)
    found = {
        robot: [read(name, robot) for name in METHODS if (DATA / f"{name}-{robot}.csv").exists()]
        for robot in ROBOTS
    }
    found = {robot: curves for robot, curves in found.items() if curves}
    if not found:
        sys.exit(f"make_robustness: {DATA} is empty: give run directories that were evaluated.")
    for robot, curves in found.items():
        for suite in suites(curves):
            draw(curves, [suite], HERE / "results" / f"robustness-{robot}-{suite}.png")
        draw(curves, suites(curves), HERE / "results" / f"robustness-{robot}.png")
    (HERE / "robustness_results.md").write_text(page(found))
    print(f"Wrote {HERE / 'robustness_results.md'}: {', '.join(found)}")


def suites(curves: Sequence[Curve]) -> list[str]:
    """List the suites that all curves of a robot were measured in."""
    return list(dict.fromkeys(level.suite for level in curves[0].levels if level.suite != CLEAN))


def read(name: str, robot: str) -> Curve:
    """Read one method's episodes."""
    with (DATA / f"{name}-{robot}.csv").open(newline="") as file:
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


def page(found: dict[str, list[Curve]]) -> str:
    """Lay out the page."""
    robot, curves = next(iter(found.items()))
    about = facts(robot, curves[0])
    runs = [" ".join(f"{RUNS}/{curve.name}-{name}" for curve in of) for name, of in found.items()]
    perturb = f"--perturb {','.join(suites(curves))} --episodes {about['episodes']}"
    commands = ["python benchmarks/grid.py cpu-reverse"]
    commands += [f"shiftgym eval {each} \\\n    {perturb}" for each in runs]
    commands += [f"python docs/make_robustness.py {RUNS}/*"]
    return PAGE.format(
        notice=notice(), updates=about["updates"], runs=len(curves[0].seeds),
        episodes=about["episodes"], commands="\n".join(commands),
        robots="".join(section(name, of) for name, of in found.items()),
        reading=(DATA / "reading.txt").read_text().strip(), cost=cost(),
    )  # fmt: skip


def section(robot: str, curves: Sequence[Curve]) -> str:
    """Lay out what was measured of one robot."""
    grid = json.loads((HERE / "data" / "grids" / "cpu-reverse.json").read_text())
    source, target = curves[0].pair.split(" -> ")
    made = [facts(robot, curve)["provenance"] for curve in curves]
    told = dict.fromkeys(name_versions(each, VERSIONS) for each in made)
    files = [f"[{name}](data/robustness/{name})" for curve in curves
             for name in (f"{curve.name}-{robot}.csv", f"{curve.name}-{robot}.json")]  # fmt: skip
    picture = f"results/robustness-{robot}"
    return ROBOT.format(
        title=ROBOTS[robot], source=f"`{source}`", target=f"`{target}`",
        own=grid["targets"][target]["score"], versions="; ".join(told),
        scores=table(curves, "score"), lost=table(curves, "ratio_of_means"), picture=picture,
        parts="".join(f"![{suite}]({picture}-{suite}.png)\n" for suite in suites(curves)),
        files=", ".join(files),
    )  # fmt: skip


def facts(robot: str, curve: Curve) -> dict[str, Any]:
    """Read what the JSON beside a method's episodes says."""
    return json.loads((DATA / f"{curve.name}-{robot}.json").read_text())


def table(curves: Sequence[Curve], key: str) -> str:
    """Lay out a line per level and a column per method."""
    rows = []
    for k, level in enumerate(curves[0].levels):
        if key == "score" or level.suite != CLEAN:
            cells = [interval(curve.summary[k][key] or {"mean": None}) for curve in curves]
            rows.append([level.suite, level_name(level), *cells])
    heads = ["suite", "level", *(f"`{curve.name}`" for curve in curves)]
    return "\n".join(markdown(heads, rows, "ll" + "r" * len(curves)))


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

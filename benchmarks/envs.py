"""Race the environments against bare physics and against the alternatives, in one run.

    python benchmarks/envs.py --out docs/data/env_benchmarks.json --page docs/benchmarks.md

Contestants take turns (A, B, C, A, B, C, ...), each a block of steps per round with random actions
that are the same for all, and a ratio is the median of the per-round ratios: whatever else slows
the machine down slows both sides of it. Exits with 1 if a bar is missed.
"""

from __future__ import annotations

import datetime
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import env_contestants as who
import figures
import gymnasium as gym
import numpy as np
from env_page import page, table
from tqdm import tqdm

PACKAGES = ("shiftgym", "mujoco", "gymnasium", "gymnasium-robotics", "numpy", "envpool")
BARS = {  # at 64 sub-environments, the four locomotion robots
    "vector / bare": 0.9,
    "vector / sync": 3.0,
    "installed / stock": 1.0,
}
BAR_SIZE = 64


@dataclass
class Options:
    """Choose what runs.

    Attributes:
        out: write the figures as JSON here.
        page: write the page made from them here.
        robots: who is benchmarked.
        sizes: numbers of sub-environments.
        rounds: turns per contestant; ratios are medians over them.
        steps: steps of a robot per block, shared among the sub-environments.
        from_json: make the page from figures made before, and run nothing.
    """

    out: Path | None = None
    page: Path | None = None
    robots: tuple[str, ...] = who.ROBOTS
    sizes: tuple[int, ...] = (1, 16, 64, 256)
    rounds: int = 9
    steps: int = 2048
    from_json: Path | None = None


def main(options: Options) -> int:
    """Run, print, write; give 1 if a bar is missed."""
    if options.from_json is not None:
        found = json.loads(options.from_json.read_text())
    else:
        found = measure(options)
    print(table(found))
    figures.write(options.out, found)
    if options.page is not None:
        options.page.write_text(page(found))
        print(f"Wrote {options.page}")
    return 0 if all(bar["met"] for bar in found["bars"]) else 1


def measure(options: Options) -> dict[str, Any]:
    """Run every race; give machine, versions, results and bars."""
    gym.logger.min_level = gym.logger.ERROR  # v4 ids are deprecated, and meant
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    load = figures.load()
    races = [(robot, size) for robot in options.robots for size in (None, *options.sizes)]
    results = []
    with tqdm(total=len(races) * (options.rounds + 1), unit="round") as bar:
        for robot, size in races:
            bar.set_postfix_str(f"{robot} {'single' if size is None else f'x {size}'}")
            results.append(race(robot, size, options, bar))
    return {
        "date": datetime.date.today().isoformat(),
        "machine": figures.machine(load),
        "versions": figures.versions(PACKAGES),
        "flags": flags(options),
        "rounds": options.rounds,
        "steps_per_block": options.steps,
        "races": results,
        "bars": bars(results),
    }


def race(robot: str, size: int | None, options: Options, bar: Any) -> dict[str, Any]:
    """Let the contestants of one robot and size take turns.

    Returns:
        Steps per second of every contestant in every round, their medians, and ratios of interest
        as median, minimum and maximum over the rounds.
    """
    count = size or 1
    line_up = who.line_up_single(robot) if size is None else who.line_up_vector(robot, count)
    runners, missing = {}, {}
    try:
        for name, make in line_up.items():
            try:
                runners[name] = make()
            except (LookupError, ImportError) as error:
                missing[name] = str(error)
        rates: dict[str, list[float]] = {name: [] for name in runners}
        rng = np.random.default_rng(who.SEED)
        calls = max(options.steps // count, 1)
        for turn in range(options.rounds + 1):
            actions = who.draw_actions(robot, rng, calls, count)
            for name, runner in runners.items():
                seconds, moved = runner.run(actions)
                if turn:  # the first round warms up
                    rates[name].append(moved / seconds)
            bar.update()
    finally:
        for runner in runners.values():
            runner.close()
    base = "default" if size is None else "vector"
    pairs = [(base, other) for other in rates if other != base]
    pairs.append(("installed", "stock") if size is None else ("bare", "sync"))
    return {
        "robot": robot,
        "size": size,
        "median_rates": {name: float(np.median(values)) for name, values in rates.items()},
        "ratios": {f"{a} / {b}": ratio(rates[a], rates[b]) for a, b in pairs},
        "rates": rates,
        "missing": missing,
    }


def ratio(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Summarise the per-round ratios of two contestants."""
    values = np.divide(ours, theirs)
    return {
        "median": float(np.median(values)),
        "min": float(values.min()),
        "max": float(values.max()),
    }


def bars(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Check the bars on the median ratios of the races that were run."""
    found = []
    for name, least in BARS.items():
        size = None if name == "installed / stock" else BAR_SIZE
        for result in results:
            if result["robot"] in who.LOCOMOTION and result["size"] == size:
                measured = result["ratios"][name]
                found.append(
                    {"ratio": name, "robot": result["robot"], "size": size, "least": least}
                    | measured
                    | {"met": measured["median"] >= least}
                )
    return found


def flags(options: Options) -> str:
    """Give the command-line flags that differ from the defaults, paths aside."""
    found = ""
    for name in ("robots", "sizes", "rounds", "steps"):
        value = getattr(options, name)
        if value != getattr(Options(), name):
            values = value if isinstance(value, tuple) else (value,)
            found += f" --{name} " + " ".join(map(str, values))
    return found


if __name__ == "__main__":
    figures.command(main, Options, __doc__)

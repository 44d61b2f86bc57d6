"""Write docs/results.md and its pictures from docs/data/grids: python docs/make_results.py.

data/grids/<grid>.csv     a row per run and evaluation, as benchmarks/grid.py writes it:
method, source, target, seed, updates, return_mean, score, reference
data/grids/<grid>.json    what was trained, how and where, and what the target sets score
data/grids/<grid>.txt     what it shows and what it does not, in words
data/changed_methods.json  methods that were changed, and the grids recorded before; marked there
data/earlier_data.txt     what to know first, on top of the page; without the file nothing is said
results.md  results/<grid>.png
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from shiftgym_agents.reports.report import stratified_interval, summary

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

HERE = Path(__file__).parent
SCORE = "score (0 random, 100 expert)"
MANY = 10  # methods whose learning curves can be told apart in one panel
ORDER = ("cpu-five", "cpu-greedy", "cpu-all", "cpu-reverse", "gpu-five", "gpu-all")  # others follow
INTRODUCTION = """\
# Results

{notice}\
Scores are normalised: 0 is random actions, 100 the expert, in the domain that the target data are
of. A cell is the mean over seeds at the last evaluation, with the 95 % bootstrap interval over
seeds; of three seeds such an interval says little. The first row is the target data's own mean
score over whole episodes, which needs no learning; the second, where it is recorded, what the
policy that made these data earns without its noise, in 100 episodes, which is what imitation may
hope for. A score is **bold** where its whole interval is above both. `bc` and `iql-target` never
see the source. A dagger (†) marks what was trained before its method was changed.

Tables and pictures are made by `python docs/make_results.py` from the CSV files below, which
`python benchmarks/grid.py GRID` writes.

How well methods tell which source rows are true is [measured apart](selection.md), in minutes.
"""
NOTHING = """\

No grid is recorded yet: `python benchmarks/grid.py --list` shows those there are.
"""


@dataclass(frozen=True)
class Recorded:
    """Hold a grid: facts, `(updates (T,), scores (seeds, T))` by target and method, words."""

    name: str
    about: Mapping[str, Any]
    found: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]]
    reading: str

    @property
    def methods(self) -> list[str]:
        """List the methods in the order they were trained in."""
        return list(dict.fromkeys(name for by in self.found.values() for name in by))


def main(folder: Path = HERE / "data" / "grids", out: Path = HERE) -> None:
    """Write the page."""
    names = sorted(
        (path.stem for path in folder.glob("*.csv")),
        key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name),
    )
    parts = [INTRODUCTION.format(notice=notice())]
    (out / "results").mkdir(exist_ok=True)
    for name in names:
        recorded = read(folder, name)
        if recorded.found:
            draw(recorded, out / "results" / f"{name}.png")
            parts.append(section(recorded))
    (out / "results.md").write_text("\n".join(parts if parts[1:] else [*parts, NOTHING.lstrip()]))
    print(f"Wrote {out / 'results.md'}: {', '.join(names) or 'no grid recorded yet'}")


def notice() -> str:
    """Give what is to be known first of what was recorded; nothing where nothing is noted."""
    noted = HERE / "data" / "earlier_data.txt"
    return f"{noted.read_text()}\n" if noted.exists() else ""


def changed(grid: str) -> dict[str, str]:
    """Say of methods how they were changed since a grid was recorded; none where nothing was."""
    noted = HERE / "data" / "changed_methods.json"
    about = json.loads(noted.read_text()) if noted.exists() else {"grids": [], "methods": {}}
    return about["methods"] if grid in about["grids"] else {}


def read(folder: Path, name: str) -> Recorded:
    """Read one grid's files."""
    cells: dict[str, dict[str, list[dict[str, str]]]] = {}
    with (folder / f"{name}.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            cells.setdefault(row["target"], {}).setdefault(row["method"], []).append(row)
    found = {
        target: {method: tabulate(rows) for method, rows in by.items()}
        for target, by in cells.items()
    }
    words = folder / f"{name}.txt"
    reading = words.read_text().strip() if words.exists() else ""
    return Recorded(name, json.loads((folder / f"{name}.json").read_text()), found, reading)


def tabulate(rows: list[dict[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    """Give updates `(T,)` and scores `(seeds, T)`, NaN where a run had diverged."""
    updates = sorted({int(row["updates"]) for row in rows})
    seeds = sorted({int(row["seed"]) for row in rows})
    scores = np.full((len(seeds), len(updates)), np.nan)
    for row in rows:
        place = seeds.index(int(row["seed"])), updates.index(int(row["updates"]))
        scores[place] = float(row["score"])
    return np.array(updates), scores


def section(recorded: Recorded) -> str:
    """Lay out one grid."""
    name, about = recorded.name, recorded.about
    jobs = about["jobs"]
    lines = [f"## {name}", "", told(about), ""]
    lines += table(recorded)
    lines += ["", f"![scores of every method](results/{name}.png)", ""]
    lines += [
        "| method | set for this grid | run-updates per second |",
        "| --- | --- | ---: |",
    ]
    for method in recorded.methods:
        own = [job for job in jobs if job["method"] == method]
        short = {key: n for job in own for key, n in job["settings"].items() if key != "steps"}
        words = ", ".join(f"`{key}` {n:,}" for key, n in short.items()) or "-"
        rates = ", ".join(f"{job['robot']} {job['run_updates_per_second']:,.0f}" for job in own)
        lines.append(f"| `{method}` | {words} | {rates} |")
    since = {m: how for m, how in changed(name).items() if m in recorded.methods}
    if since:
        lines += ["", "† Trained before its method was changed since:", ""]
        lines += [f"- `{method}`: {how}" for method, how in since.items()]
    lines += ["", recorded.reading] if recorded.reading else []
    files = ", ".join(f"[{name}.{kind}](data/grids/{name}.{kind})" for kind in ("csv", "json"))
    return "\n".join([*lines, "", f"Data: {files}.", ""])


def told(about: Mapping[str, Any]) -> str:
    """Say what was trained, on what."""
    jobs = about["jobs"]
    found = dict.fromkeys(name for job in jobs for name in job["datasets"])
    sources = ", ".join(name for name in found if name not in about["targets"])
    machines = dict.fromkeys(machine(job["hardware"]) for job in jobs)
    versions: dict[str, dict[str, None]] = {}
    for made in (job["versions"] for job in jobs):
        known = f"shiftgym {made['shiftgym']}, mujoco {made['mujoco']}, torch {made['torch']}"
        versions.setdefault(known, {})[made["git"][:8] + made["git"][40:]] = None
    told_versions = [f"{known} (git {', '.join(of)})" for known, of in versions.items()]
    dates = sorted({job["hardware"]["date"] for job in jobs})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    hours = sum(job["seconds"] for job in jobs) / 3600
    busy = max(job["hardware"]["load"] for job in jobs)
    return (
        f"`python {about['command']}`: {about['updates']:,} updates, {about['seeds']} seeds, "
        f"{about['episodes']} episodes per evaluation; source data: {sources or 'none used'}. "
        f"{when}, {' and '.join(machines)}, load up to {busy:.1f}, {hours:.1f} hours; "
        f"{'; '.join(told_versions)}."
    )


def machine(hardware: Mapping[str, Any]) -> str:
    """Name a device, with the number of threads where it is a processor."""
    if hardware["kind"] != "cpu":
        return hardware["device"]
    count = hardware["threads"]
    return f"{hardware['device']} ({count} thread{'s' if count > 1 else ''})"


def table(recorded: Recorded) -> list[str]:
    """Lay out scores, a row per method and a column per target, and over all where several."""
    targets = list(recorded.found)
    own = {target: recorded.about["targets"][target]["score"] for target in targets}
    free = {t: recorded.about["targets"][t].get("noise_free") for t in targets}
    bars = {t: max(own[t], own[t] if free[t] is None else free[t]) for t in targets}
    several = len(targets) > 1
    head = [*targets, "all"] if several else targets
    lines = [f"| method | {' | '.join(head)} |", f"| --- |{' ---: |' * len(head)}"]
    cells = [f"{own[target]:.1f}" for target in targets]
    cells += [f"{np.mean(list(own.values())):.1f}"] if several else []
    lines.append(f"| *target data* | {' | '.join(cells)} |")
    if any(value is not None for value in free.values()):
        cells = ["" if free[t] is None else f"{free[t]:.1f}" for t in targets] + [""] * several
        lines.append(f"| *its policy, noise-free* | {' | '.join(cells)} |")
    for method in recorded.methods:
        last = {t: by[method][1][:, -1] for t, by in recorded.found.items() if method in by}
        cells = [cell([last[t]], bars[t]) if t in last else "" for t in targets]
        if several:
            whole = len(last) == len(targets)
            cells.append(cell(list(last.values()), float(np.mean(list(bars.values()))))
                         if whole else "")  # fmt: skip
        mark = " †" if method in changed(recorded.name) else ""
        lines.append(f"| `{method}`{mark} | {' | '.join(cells)} |")
    return lines


def cell(scores: list[np.ndarray], bar: float) -> str:
    """Write mean and interval; bold where all of it is above `bar`."""
    about = summary(scores)
    if about["mean"] is None:
        return "diverged"
    mean = f"{about['mean']:.1f}"
    mean = f"**{mean}**" if about["low"] > bar else mean
    note = f", {about['diverged']} diverged" if about["diverged"] else ""
    return f"{mean} [{about['low']:.1f}, {about['high']:.1f}]{note}"


def draw(recorded: Recorded, picture: Path) -> None:
    """Draw a panel per target: learning curves, or the last scores where there are many methods."""
    targets, many = list(recorded.found), len(recorded.methods) > MANY
    columns = min(2, len(targets))
    rows = -(-len(targets) // columns)
    high = 0.6 + 0.25 * len(recorded.methods) if many else 3.4
    figure, axes = plt.subplots(
        rows, columns, figsize=(5.2 * columns + 1.6, high * rows), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axis in axes.flat[len(targets) :]:
        axis.set_visible(False)
    for target, axis in zip(targets, axes.flat, strict=False):
        panel = last_scores if many else learning_curves
        panel(axis, recorded, target, recorded.about["targets"][target]["score"])
        axis.set_title(target, fontsize=10, loc="left")
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    known: dict[str, Any] = {}
    for axis in axes.flat:
        lines, labels = axis.get_legend_handles_labels()
        known |= dict(zip(labels, lines, strict=True))
    look = {"loc": "outside right upper", "fontsize": 8, "frameon": False}
    figure.legend(known.values(), known.keys(), **look)
    figure.savefig(picture, dpi=130)
    plt.close(figure)


def last_scores(axis: Any, recorded: Recorded, target: str, own: float) -> None:
    """Draw each method's last scores, best first: seeds, mean and interval, the data's own mean."""
    last = {method: scores[:, -1] for method, (_, scores) in recorded.found[target].items()}
    about = {method: summary([scores]) for method, scores in last.items()}
    well = [method for method in last if about[method]["mean"] is not None]
    order = sorted(well, key=lambda method: about[method]["mean"])
    for place, method in enumerate(order):
        mean, low, high = (about[method][key] for key in ("mean", "low", "high"))
        axis.plot((low, high), [place] * 2, color="C0", lw=3, alpha=0.4)
        labels = ("mean, 95 % interval", "seeds") if place == 0 else (None, None)
        axis.plot(mean, place, "o", color="C0", ms=6, label=labels[0])
        axis.plot(
            last[method], [place] * len(last[method]), "|", color="black", ms=7, label=labels[1]
        )
    axis.axvline(own, color="black", lw=1, ls="--", label="target data")
    axis.set_yticks(range(len(order)), order)
    axis.set_xlabel(SCORE, fontsize=9)
    axis.grid(axis="x", alpha=0.3)


def learning_curves(axis: Any, recorded: Recorded, target: str, own: float) -> None:
    """Draw each method's mean score and interval against updates, and the data's own mean."""
    for place, method in enumerate(recorded.methods):
        if method in recorded.found[target]:
            curve(axis, *recorded.found[target][method], f"C{place}", method)
    axis.axhline(own, color="black", lw=1, ls="--", label="target data")
    axis.set_xlabel("updates", fontsize=9)
    axis.set_ylabel(SCORE, fontsize=9)
    axis.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x else "0")


def curve(axis: Any, updates: np.ndarray, scores: np.ndarray, colour: Any, label: str) -> None:
    """Draw one method's mean over the seeds that are well, and its interval."""
    kept = np.isfinite(scores).any(0)
    parts = [column[np.isfinite(column)] for column in scores.T[kept]]
    axis.plot(updates[kept], [part.mean() for part in parts], color=colour, lw=1.5, label=label)
    if len(scores) > 1:
        ends = np.array([stratified_interval([part]) for part in parts])
        axis.fill_between(updates[kept], *ends.T, color=colour, alpha=0.15, lw=0)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

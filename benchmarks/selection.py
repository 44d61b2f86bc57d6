"""Measure how well methods tell source rows of the target's dynamics from others.

    python benchmarks/selection.py --robots hopper --shifts kinematic    # a first look, in minutes
    python benchmarks/selection.py --methods my_file.py:MyMethod otdf igdf
    python benchmarks/selection.py --out docs/data/selection.csv         # the whole grid, for hours

Half of the source rows obey the target's dynamics, half the unshifted robot's; no method is told
which (`shiftgym_agents/evaluation/truth.py` says how they are made). A method of your own answers
`source_scores`, see `shiftgym_agents.core.agent.Agent`. A plain model of the target's dynamics is
measured beside all others: `target-model`.

What stands in the file is not measured again, so a run that was stopped goes on: all shifts,
designs and seeds of one robot train one method in lockstep, and are written when it is over.
`python docs/make_selection.py` makes the page. Exits with 1 if something failed.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import figures
import torch
from tqdm import tqdm

from shiftgym.basics.errors import DomainError
from shiftgym.basics.machine import usable_cpus
from shiftgym.datasets.locks import locked
from shiftgym.making import domain
from shiftgym_agents.evaluation.selection import (
    YARDSTICK,
    auc,
    configured,
    find,
    judges,
    kept_true,
    score_source,
)
from shiftgym_agents.evaluation.truth import DESIGNS, Design, Labelled, labelled
from shiftgym_agents.methods.table import METHODS
from shiftgym_agents.reports.selection import (
    KEY,
    key_of,
    ordered_methods,
    read_facts,
    read_rows,
    table,
    write_records,
)
from shiftgym_agents.training.artifacts import provenance
from shiftgym_agents.training.hardware import device_name
from shiftgym_agents.training.running import pick_device

ROBOTS = ("hopper", "walker2d", "halfcheetah", "ant")
SHIFTS = ("kinematic", "morph", "friction-x5", "gravity-x0p5")


@dataclass(frozen=True)
class Options:
    """Choose what is measured.

    Attributes:
        methods: names, or my_file.py:MyMethod; all that score source rows by default.
        robots: whose pairs.
        shifts: of the targets; the other half of the source is of the unshifted robot.
        designs: mixture, twins, or both.
        seeds: of data and training, from 0.
        rows: of the source, both halves together.
        most: updates of each stage of pre-training, and of training for methods that need it.
        quality: of behaviour policies and target data.
        preset: of the methods' hyperparameters.
        device: auto, cpu, cuda.
        threads: CPU threads; 0 for one per core.
        out: CSV file, with a JSON beside it.
    """

    methods: tuple[str, ...] = ()
    robots: tuple[str, ...] = ROBOTS
    shifts: tuple[str, ...] = SHIFTS
    designs: tuple[Design, ...] = DESIGNS
    seeds: int = 1
    rows: int = 10_000
    most: int = 3_000
    quality: str = "medium"
    preset: str = "ours"
    device: str = "auto"
    threads: int = 0
    out: Path = Path("runs/selection.csv")

    @property
    def shared(self) -> dict[str, Any]:
        """Give what all rows of a file have in common."""
        return {name: getattr(self, name) for name in ("rows", "most", "quality", "preset")}


Case = tuple[str, Design, int]  # target, design, seed


@cache
def make_case(case: Case, quality: str, rows: int) -> Labelled:
    target, design, seed = case
    return labelled(design, target, quality=quality, rows=rows, seed=seed)


def keyed(name: str, case: Case) -> tuple[str, ...]:
    target, design, seed = case
    return name, target, target.partition("-")[0], design, str(seed)


def measure(name: str, cases: list[Case], options: Options, title: str) -> list[dict[str, str]]:
    """Measure a method on cases of one robot; give their rows."""
    made = [make_case(case, options.quality, options.rows) for case in cases]
    pairs = [each.pair for each in made]
    configs = [configured(name, pair, options.preset, options.most) for pair in pairs]
    with tqdm(desc=title, unit="upd", dynamic_ncols=True, mininterval=1.0) as bar:

        def progress(stage: str, updates: int, total: int) -> None:
            bar.total = total
            bar.set_postfix_str(stage, refresh=False)
            bar.update(updates)

        seeds = [seed for _, _, seed in cases]
        found = score_source(
            find(name), configs, pairs, seeds,
            updates=options.most, device=options.device, progress=progress,
        )  # fmt: skip
    assert found is not None
    rows = []
    for case, each, scores in zip(cases, made, found, strict=True):
        values = {"auc": auc(scores, each.true), "kept_true": kept_true(scores, each.true)}
        values["ceiling"] = each.ceiling
        row = dict(zip(KEY, keyed(name, case), strict=True))
        rows.append(row | {key: f"{value:.4f}" for key, value in values.items()})
    return rows


def facts(name: str, robot: str, options: Options, begun: float, cases: int) -> dict[str, Any]:
    """Say how something was measured."""
    device = pick_device(options.device)
    told: dict[str, Any] = {"method": name, "robot": robot, "cases": cases, "origin": origin(name)}
    told |= {"seconds": round(time.perf_counter() - begun, 1), "device": device_name(device)}
    told |= {"threads": torch.get_num_threads(), "load": round(os.getloadavg()[0], 1)}
    return told | {"date": time.strftime("%Y-%m-%d"), "versions": provenance()}


def origin(name: str) -> str | None:
    """Give the SHA-256 of the file that a method outside the package is in."""
    file = Path(name.rpartition(":")[0])
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.suffix == ".py" else None


def recorded(
    options: Options, chosen: Sequence[str]
) -> tuple[dict[tuple[str, ...], dict[str, str]], list[dict[str, Any]]]:
    """Read what the file holds: rows by key, and how they were measured.

    A method whose file has changed is another method, whose rows are left out.
    """
    measured = read_facts(options.out, options.shared)
    changed = {
        each["method"]
        for each in measured
        if each["method"] in chosen and each["origin"] != origin(each["method"])
    }
    rows = {key_of(row): row for row in read_rows(options.out) if row["method"] not in changed}
    return rows, [each for each in measured if each["method"] not in changed]


def main(options: Options) -> int:
    targets = {
        robot: [domain(f"{robot}-{shift}").slug for shift in options.shifts]
        for robot in options.robots
    }
    if options.seeds < 1:
        raise DomainError(f"--seeds {options.seeds}: give 1 at least.")
    chosen = options.methods or tuple(name for name in METHODS if judges(find(name)))
    silent = [name for name in chosen if name != YARDSTICK and not judges(find(name))]
    if silent:
        raise DomainError(
            f"{', '.join(silent)} takes all source rows alike: a method that does not has a method "
            "source_scores (see shiftgym_agents.core.agent.Agent)."
        )
    torch.set_num_threads(options.threads or usable_cpus())
    rows, _ = recorded(options, chosen)
    units = [(name, robot) for robot in targets for name in dict.fromkeys((YARDSTICK, *chosen))]
    failed = False
    for place, (name, robot) in enumerate(units, 1):
        cases: list[Case] = [
            (target, design, seed)
            for target in targets[robot]
            for design in options.designs
            for seed in range(options.seeds)
        ]
        cases = [case for case in cases if keyed(name, case) not in rows]
        if not cases:
            continue
        begun, title = time.perf_counter(), f"[{place}/{len(units)}] {name} {robot}"
        try:
            new = measure(name, cases, options, title)
        except KeyboardInterrupt:
            print(f"Stopped at {title}; the same command goes on from there.", file=sys.stderr)
            return 130
        except Exception:  # a grid of hours goes on with the next
            failed = True
            print(title, file=sys.stderr)
            traceback.print_exc()
            continue
        about = facts(name, robot, options, begun, len(cases))
        options.out.parent.mkdir(parents=True, exist_ok=True)
        with locked(options.out.with_suffix(".lock")):  # halves of a grid may run side by side
            rows, measured = recorded(options, chosen)
            rows |= {key_of(row): row for row in new}
            write_records(options.out, rows.values(), options.shared, [*measured, about])
    show(options, list(rows.values()))
    return 1 if failed else 0


def show(options: Options, rows: list[dict[str, str]]) -> None:
    """Print what the file holds."""
    if not rows:
        return
    for design in DESIGNS:
        if any(row["design"] == design for row in rows):
            print(f"\n{design}: area under the ROC curve, 0.5 is blind, 1 tells all rows\n")
            print("\n".join(table(rows, design)))
    print(f"\nWrote {options.out}: {len(rows)} rows of {len(ordered_methods(rows))} methods.")


if __name__ == "__main__":
    figures.command(main, Options, __doc__)

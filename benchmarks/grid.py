"""Train a grid of methods x pairs x seeds, resumable, and record what was measured.

    python benchmarks/grid.py --list
    python benchmarks/grid.py cpu-five
    python benchmarks/grid.py gpu-five --minutes 9          # stop by then; run it again to go on

    runs/grids/cpu-five/iql-hopper/       one run directory per method and robot, all its pairs and
                                          seeds in lockstep
    docs/data/grids/cpu-five.csv          a row per run and evaluation, of finished directories
                   cpu-five.json          settings, target sets, versions, hardware, seconds

What stands in the records is not trained again, even where its run directory is gone. To train
some of it anew, do so with another --out, then run the grid without: a finished run directory takes
the place of what is recorded.

Ctrl-C, SIGTERM and --minutes checkpoint first; a kill loses at most --checkpoint-minutes. A missing
source set is made. Exits with 1 while something is unfinished or has failed.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import tyro
from grids import GRIDS, SHORT, Grid

from agents import device_name
from shiftgym.basics.errors import DomainError, ShiftgymError, nearest
from shiftgym.basics.machine import usable_cpus
from shiftgym.datasets.flat import episode_returns
from shiftgym.datasets.load import find, load
from shiftgym.datasets.locks import locked
from shiftgym.datasets.packaged import packaged_index
from shiftgym.datasets.store import dataset_path
from shiftgym.domains import episode_steps
from shiftgym.policies import POLICIES
from shiftgym.scores import MEASURED, default_reference, reference
from shiftgym_agents.core.pairs import ArrayPair, target_only
from shiftgym_agents.methods.table import method, settings
from shiftgym_agents.training.artifacts import hash_arrays, read_json, write_json, write_text
from shiftgym_agents.training.metrics import read_metrics
from shiftgym_agents.training.run_config import TrainOptions
from shiftgym_agents.training.running import pick_device
from shiftgym_agents.training.trainer import Trainer

COLUMNS: tuple[str, ...] = (
    "method", "source", "target", "seed", "updates", "return_mean", "score", "reference"
)  # fmt: skip
HARDWARE = "hardware.json"  # in a run directory: where its training began


@dataclass(frozen=True)
class Options:
    """Choose what runs, and where it goes.

    Attributes:
        name: a grid; --list shows them.
        methods: only these of the grid's methods.
        robots: only these of its robots.
        runs: folder of run directories.
        out: folder of the CSV and JSON files; those of a trial lie beside its run directories.
        device: auto, cpu, cuda.
        threads: CPU threads; 0 for one per core.
        minutes: checkpoint and stop after so long; 0 for no limit.
        checkpoint_minutes: between checkpoints.
        source: size of the sources in place of 1m, such as 100k, for a trial.
        updates: updates in place of the grid's, for a trial: pre-training shrinks in proportion.
        seeds: seeds in place of the grid's, for a trial.
        list: show the grids and leave.
    """

    name: Annotated[str, tyro.conf.Positional] = ""
    methods: tuple[str, ...] = ()
    robots: tuple[str, ...] = ()
    runs: Path = Path("runs/grids")
    out: Path = Path("docs/data/grids")
    device: str = "auto"
    threads: int = 0
    minutes: float = 0.0
    checkpoint_minutes: float = 5.0
    source: str = ""
    updates: int = 0
    seeds: int = 0
    list: bool = False

    @property
    def title(self) -> str:
        """Name what is written: a trial never mixes with the grid itself."""
        return self.name + ("-trial" if self.source or self.updates or self.seeds else "")

    @property
    def records(self) -> Path:
        """Name the CSV file."""
        folder = self.out if self.title == self.name else self.runs
        return folder / f"{self.title}.csv"


@dataclass(frozen=True)
class Job:
    """Train one method on all pairs of one robot.

    Attributes:
        name: the method.
        robot: whose pairs.
        grid: what else.
        out: the run directory.
    """

    name: str
    robot: str
    grid: Grid
    out: Path

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return [pair for pair in self.grid.pairs if robot_of(pair[1]) == self.robot]

    @property
    def key(self) -> tuple[str, str]:
        return self.name, self.robot

    @property
    def finished(self) -> bool:
        return (self.out / "result.json").exists()

    def settings(self) -> dict[str, Any]:
        """Give what differs from the preset for this method."""
        fields = {field.name for field in dataclasses.fields(method(self.name).config_class)}
        own = {name: value for name, value in self.grid.settings.items() if name in fields}
        return {"steps": self.grid.updates} | own

    def train(self, options: Options) -> bool:
        """Train, or go on; return False when stopped before the end."""
        config = settings(self.name, self.robot, **self.settings())
        each = [make_pair(self.name, *pair) for pair in self.pairs for _ in range(self.grid.seeds)]
        how = TrainOptions(
            out=self.out,
            device=options.device,
            threads=options.threads,
            evaluate_every=self.grid.evaluate_every,
            episodes=self.grid.episodes,
            checkpoint_minutes=options.checkpoint_minutes,
            progress=sys.stderr.isatty(),
        )
        seeds = [*range(self.grid.seeds)] * len(self.pairs)
        resume = (self.out / "config.json").exists()
        return Trainer(self.name, config, each, seeds, how, resume).run()


def robot_of(dataset: str) -> str:
    return find(dataset).domain.robot


@cache
def arrays(dataset: str) -> Any:
    """Load a dataset once; make it first where it is a source that is not here."""
    name = find(dataset)
    if name.short not in packaged_index() and not dataset_path(name).exists():
        from shiftgym_tools.making.make import make

        make(dataset, wait=True)
    return load(name)


def make_pair(chosen: str, source: str, target: str) -> ArrayPair:
    where = find(target).domain
    scores = reference(where, default_reference(where) or MEASURED)
    if not method(chosen).uses_source:
        return target_only(arrays(target), target, where, scores)
    return ArrayPair(arrays(source), arrays(target), where, (source, target), scores)


def jobs_of(options: Options) -> list[Job]:
    """List the jobs chosen, robot by robot."""
    if options.name not in GRIDS:
        raise DomainError(f"Unknown grid {options.name!r}. {nearest(options.name, GRIDS)}")
    grid = scaled(GRIDS[options.name], options)
    robots = dict.fromkeys(robot_of(target) for _, target in grid.pairs)
    for asked, there in ((options.methods, grid.methods), (options.robots, robots)):
        for value in asked:
            if value not in there:
                raise DomainError(f"{options.name} has no {value!r}. {nearest(value, there)}")
    return [
        Job(name, robot, grid, options.runs / options.title / f"{name}-{robot}")
        for robot in options.robots or robots
        for name in options.methods or grid.methods
    ]


def scaled(grid: Grid, options: Options) -> Grid:
    """Shrink a grid for a trial."""
    if options.source:
        pairs = tuple((f"{source}-{options.source}", target) for source, target in grid.pairs)
        grid = dataclasses.replace(grid, pairs=pairs)
    if options.seeds:
        grid = dataclasses.replace(grid, seeds=options.seeds)
    if options.updates:
        share = options.updates / grid.updates
        settings = {name: max(1, int(share * n)) for name, n in {**SHORT, **grid.settings}.items()}
        every = max(1, int(share * grid.evaluate_every))
        short = {"updates": options.updates, "evaluate_every": every, "settings": settings}
        grid = dataclasses.replace(grid, **short)
    return grid


# --- what is written ------------------------------------------------------------------------------


def rows_of(job: Job) -> Iterator[dict[str, Any]]:
    """Give the evaluations of a finished run directory as rows of the CSV."""
    for row in read_metrics(job.out / "metrics.csv"):
        if row.get("score"):
            yield {
                "method": job.name,
                "source": row["source"],
                "target": row["target"],
                "seed": row["seed"],
                "updates": row["update"],
                "return_mean": row["return"],
                "score": row["score"],
                "reference": default_reference(find(row["target"]).domain) or MEASURED,
            }


def recorded(options: Options) -> dict[tuple[str, str], tuple[dict[str, Any], list[Any]]]:
    """Read what is recorded: facts and CSV rows by method and robot."""
    if not options.records.exists():
        return {}
    facts = read_json(options.records.with_suffix(".json"))["jobs"]
    with options.records.open(newline="") as file:
        rows = list(csv.DictReader(file))
    keys = [(row["method"], robot_of(row["target"])) for row in rows]
    return {
        key: (each, [row for row, of in zip(rows, keys, strict=True) if of == key])
        for each in facts
        if (key := (each["method"], each["robot"]))
    }


def write_records(options: Options, jobs: list[Job]) -> list[Job]:
    """Write the CSV of the finished jobs and the JSON that explains it; return the other jobs."""
    options.records.parent.mkdir(parents=True, exist_ok=True)
    with locked(options.records.with_suffix(".lock")):  # halves of a grid may run side by side
        known = recorded(options)
        known |= {job.key: (job_facts(job), [*rows_of(job)]) for job in jobs if job.finished}
        done = [known[job.key] for job in jobs if job.key in known]
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for _, rows in done:
            writer.writerows(rows)
        write_text(options.records, text.getvalue())
        about = about_grid(options, jobs[0].grid) | {"jobs": [facts for facts, _ in done]}
        write_json(options.records.with_suffix(".json"), about)
    return [job for job in jobs if job.key not in known]


def about_grid(options: Options, grid: Grid) -> dict[str, Any]:
    found: dict[str, Any] = {"grid": options.name, "command": f"benchmarks/grid.py {options.name}"}
    found |= {key: value for key, value in vars(grid).items() if key not in ("pairs", "methods")}
    return found | {"targets": {target: target_facts(target) for _, target in grid.pairs}}


def target_facts(target: str) -> dict[str, Any]:
    """Tell of a target set what results are compared with: its own mean return and score."""
    where, flat = find(target).domain, arrays(target)
    whole = episode_returns(flat, episode_steps(where.robot))
    if not len(whole):
        raise ShiftgymError(f"No episode of {target} is whole: it has no mean return to compare.")
    table = default_reference(where) or MEASURED
    scores = reference(where, table)
    mean = float(whole.mean())
    facts = {"return_mean": round(mean, 4), "score": round(scores.score(mean), 2)}
    facts |= {"whole_episodes": len(whole), "sha256": hash_arrays(flat)}
    known = read_json(POLICIES / "evaluations.json").get(target)
    if known is not None:  # what made the set, without its noise: as policies are evaluated
        facts["noise_free"] = round(scores.score(known["deterministic"]["return"]), 2)
    return facts | {"reference": table, "random": scores.random, "expert": scores.expert}


def job_facts(job: Job) -> dict[str, Any]:
    config, result = read_json(job.out / "config.json"), read_json(job.out / "result.json")
    facts: dict[str, Any] = {"method": job.name, "robot": job.robot, "runs": len(config["runs"])}
    facts["settings"] = {name: config["config"][name] for name in job.settings()}
    for name in ("seconds", "run_updates_per_second"):
        facts[name] = round(result[name], 1)
    facts["diverged"] = [run["run"] for run in result["runs"] if run["diverged"]]
    facts["datasets"] = {
        run[side]: run[f"{side}_sha256"]
        for run in config["runs"]
        for side in ("source", "target")
        if run[side] != "none"
    }
    return facts | {"hardware": read_json(job.out / HARDWARE)} | {"versions": config["provenance"]}


def note_hardware(job: Job, options: Options) -> None:
    if not (job.out / HARDWARE).exists():
        device = pick_device(options.device)
        told = {"device": device_name(device), "kind": device.type}
        told |= {"threads": options.threads or usable_cpus()}
        told |= {"load": round(os.getloadavg()[0], 1), "date": time.strftime("%Y-%m-%d")}
        job.out.mkdir(parents=True, exist_ok=True)
        write_json(job.out / HARDWARE, told)


# --- running --------------------------------------------------------------------------------------


def main(options: Options) -> int:
    if options.list or not options.name:
        for name, grid in GRIDS.items():
            print(f"{name}: {grid.updates:,} updates, {grid.seeds} seeds, {' '.join(grid.methods)}")
            print("\n".join(f"    {source} -> {target}" for source, target in grid.pairs))
        return 0
    jobs = jobs_of(options)
    everything = jobs_of(dataclasses.replace(options, methods=(), robots=()))
    if options.minutes:  # as Ctrl-C would: the trainer checkpoints and returns
        timer = threading.Timer(60 * options.minutes, os.kill, (os.getpid(), signal.SIGINT))
        timer.daemon = True
        timer.start()
    left = write_records(options, everything)
    stopped = failed = False
    for place, job in enumerate(jobs):
        if job not in left:
            continue
        print(f"[{place + 1}/{len(jobs)}] {job.out}", flush=True)
        try:
            note_hardware(job, options)
            stopped = not job.train(options)
        except KeyboardInterrupt:  # while loading, or a second Ctrl-C
            stopped = True
        except Exception:  # a grid of days goes on with the next
            failed = True
            traceback.print_exc()
        if stopped:
            break
        write_records(options, everything)
    left = write_records(options, everything)
    done = len(everything) - len(left)
    print(f"Wrote {options.records}: {done} of {len(everything)} run directories.")
    if left:
        print("Unfinished: " + ", ".join(job.out.name for job in left) + ". Run it again to go on.")
    return 1 if left or failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(Options, config=(tyro.conf.FlagCreatePairsOff,))))
    except ShiftgymError as error:
        print(f"grid: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, DomainError) else 1)

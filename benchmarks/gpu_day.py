"""Do everything for which a GPU is needed, in pieces of a few minutes that go on where they were.

    make gpu                                             all of it, about 25 minutes of an H100
    python benchmarks/gpu_day.py --out gpu_day --minutes 8       as much as fits; run it again
    python benchmarks/gpu_day.py --out gpu_day --report          what was found

Parts, in this order:

    check    every method and preset, captured against eager, on the device
    data     the sources of the table below, made from the packaged policies
    speed    run-updates a second of every method with 1, 5 and 40 runs in lockstep, and memory
    train    TABB on the 12 pairs of its table 1, 5 seeds, all runs of a robot in lockstep, for as
             many updates as fit into what is left of the minutes

Results are few and small: `day.json` with checks, rates and hardware, and `runs.tar.gz` with the
run directories, but for their checkpoints, which lie in `gpu_day.work`. `--report` unpacks it for
`shiftgym report`. A trial of a minute, also without a GPU:

    python -m shiftgym_agents.standin benchmarks/gpu_day.py --small --out trial
"""

from __future__ import annotations

import json
import os
import signal
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import figures
import gpu
import torch

from agents import random_pair
from shiftgym.basics.errors import ShiftgymError
from shiftgym.datasets.load import load
from shiftgym.scores import reference
from shiftgym_agents.core.agent import Config
from shiftgym_agents.data.pairs import ArrayPair
from shiftgym_agents.methods.table import METHODS, method, settings
from shiftgym_agents.reports.protocols import protocol
from shiftgym_agents.sweeps.work import make_data
from shiftgym_agents.training import running
from shiftgym_agents.training.artifacts import provenance, write_json
from shiftgym_agents.training.checking import compare, shrunk, toy_pair
from shiftgym_agents.training.hardware import describe
from shiftgym_agents.training.run_config import TrainOptions
from shiftgym_agents.training.running import pick_device
from shiftgym_agents.training.trainer import Trainer

TABLE, TRAINED, SEEDS = "tabb-locomotion", "tabb", 5
RUNS = (40, 5, 1)
LEFT_FOR_TRAINING = 12.0  # minutes, at the rate that was measured
SIZE = "200k"  # of the sources: a fifth of the usual, made in seconds
SMALL_PAIRS = (("hopper-morph/medium", "hopper-kinematic/medium"),)  # packaged, both
PACKED = ("config.json", "metrics.csv", "result.json", "state.json")


@dataclass
class Options:
    """Choose what is done.

    Attributes:
        out: folder of the results; what it holds is not done again.
        minutes: stop, ready to go on, after so long; 0 for no limit.
        small: a trial, of few methods at small sizes.
        report: show what was found, and stop.
        device: cuda or cuda:1.
    """

    out: Path = Path("gpu_day")
    minutes: float = 0.0
    small: bool = False
    report: bool = False
    device: str = "cuda"

    @property
    def work(self) -> Path:
        """Give the folder beside the results that holds run directories with checkpoints."""
        return self.out.with_name(f"{self.out.name}.work")


class Day:
    """Keep what was found in `day.json`, and know how much time is left."""

    def __init__(self, options: Options) -> None:
        self.options, self.start = options, time.monotonic()
        self.path = options.out / "day.json"
        self.found: dict[str, Any] = {"seconds": {}, "check": {}, "speed": {}, "train": {}}
        if self.path.exists():
            self.found |= json.loads(self.path.read_text())

    @property
    def left(self) -> float:
        """Give the seconds left."""
        if not self.options.minutes:
            return float("inf")
        return 60 * self.options.minutes - (time.monotonic() - self.start)

    def do(self, part: str, name: str, work: Callable[[], Any], least: float = 20.0) -> bool:
        """Do a piece of work that is not done, if there is time, and keep what it gives."""
        if name in self.found.setdefault(part, {}):
            return True
        if self.left < least:
            return False
        began = time.monotonic()
        self.found[part][name] = work()
        spent = time.monotonic() - began
        self.found["seconds"][part] = self.found["seconds"].get(part, 0.0) + spent
        write_json(self.path, self.found)
        print(f"{part}: {name}: {str(self.found[part][name])[:120]}  ({spent:.0f} s)", flush=True)
        return True


@cache
def arrays(dataset: str) -> Any:
    """Load a dataset once; make it first where it is a source that is not here."""
    make_data(dataset, quiet=False)
    return load(dataset)


def names(options: Options) -> tuple[str, ...]:
    return ("bc", "tabb") if options.small else tuple(METHODS)


def checks(options: Options) -> Iterator[tuple[str, Callable[[], Any]]]:
    exact = torch.cuda.get_device_name() == "stand-in"
    for name in names(options):
        for preset in ("ours",) if options.small else ("ours", "paper", "official"):
            config = shrunk(method(name).presets[preset], 8)

            def work(name: str = name, config: Config = config) -> list[str] | str:
                pairs = [toy_pair(0), toy_pair(1)]
                make = lambda: method(name)(config, pairs, [0, 1], options.device)  # noqa: E731
                try:
                    return compare(make, 8, exact)[1]
                except ShiftgymError as error:
                    return str(error)

            yield f"{name} {preset}", work


def speeds(options: Options) -> Iterator[tuple[str, Callable[[], Any]]]:
    how = gpu.Options(rounds=1, seconds=0.05 if options.small else 2.0)
    pair = toy_pair() if options.small else random_pair()
    headline = sorted(names(options), key=lambda name: name not in gpu.HEADLINE)
    for runs in (1, 2) if options.small else RUNS:
        for name in headline:

            def work(name: str = name, runs: int = runs) -> dict[str, Any]:
                config = method(name).presets["ours"]
                config = shrunk(config, 8) if options.small else config
                return gpu.measure(name, runs, pair, pick_device(options.device), how, config)

            yield f"{name} {runs}", work


def pairs_of(options: Options) -> dict[str, list[tuple[str, str]]]:
    """List the pairs of the table by robot, sources at the size that is made here."""
    if options.small:
        return {"hopper": list(SMALL_PAIRS)}
    found: dict[str, list[tuple[str, str]]] = {}
    for row in protocol(TABLE).rows:
        source = f"{row.source}-{SIZE}"
        found.setdefault(row.target.domain.robot, []).append((source, str(row.target)))
    return found


def data(options: Options) -> Iterator[tuple[str, Callable[[], Any]]]:
    for pairs in pairs_of(options).values():
        for source in dict.fromkeys(source for source, _ in pairs):
            yield source, lambda source=source: len(arrays(source)["rewards"])


def updates_that_fit(day: Day, runs: int) -> int:
    """Give the updates of each run: what the measured rate allows in the minutes for training."""
    if day.options.small:
        return 24
    rate = day.found["speed"][f"{TRAINED} 40"]["captured"]
    whole = len(protocol(TABLE).rows) * SEEDS
    return max(1000, int(60 * LEFT_FOR_TRAINING * rate * 0.7 / whole) // 1000 * 1000)


def trainings(day: Day) -> Iterator[tuple[str, Callable[[], Any]]]:
    options, table = day.options, protocol(TABLE)
    worth = {str(row.target): row.reference for row in table.rows}
    for robot, names_ in pairs_of(options).items():
        out = options.work / "runs" / f"{TRAINED}-{robot}"

        def work(robot: str = robot, names_: Any = names_, out: Path = out) -> dict[str, Any]:
            seeds = 1 if options.small else SEEDS
            pairs = [pair_of(*pair, worth) for pair in names_ for _ in range(seeds)]
            steps = updates_that_fit(day, len(pairs))
            config: Any = settings(TRAINED, pairs[0].domain, table.columns[TRAINED].preset)
            config = shrunk(config, steps) if options.small else scaled(config, steps)
            how = TrainOptions(
                out, options.device, evaluate_every=max(1, steps // 5), progress=False,
                episodes=1 if options.small else 10,
            )  # fmt: skip
            resume = (out / "config.json").exists()
            trainer = Trainer(TRAINED, config, pairs, [*range(seeds)] * len(names_), how, resume)
            timer = threading.Timer(
                min(max(day.left - 15, 1), 1e6), os.kill, (os.getpid(), signal.SIGINT)
            )
            timer.daemon = True
            timer.start()
            try:
                over = trainer.run()
            finally:
                timer.cancel()
            if not over:
                raise StoppedEarly
            return {"runs": len(pairs), "updates": steps, "seconds": trainer.seconds}

        yield robot, work


class StoppedEarly(Exception):
    """A training wrote its checkpoint; the next call goes on."""


def pair_of(source: str, target: str, worth: dict[str, str]) -> ArrayPair:
    from shiftgym.datasets.load import find

    where = find(target).domain
    scores = reference(where, worth.get(target, "otdf"))
    return ArrayPair(arrays(source), arrays(target), where, (source, target), scores)


def scaled(config: Config, steps: int) -> Config:
    """Shorten all stages in proportion to the last one."""
    share = min(1.0, steps / config.steps)
    short = {
        name: max(1, round(share * value))
        for name, value in vars(config).items()
        if name.endswith("_steps") and type(value) is int and value
    }
    return replace(config, **short | {"steps": steps})


def pack(day: Day) -> None:
    """Put the run directories into one file, without their checkpoints."""
    with tarfile.open(day.options.out / "runs.tar.gz", "w:gz") as archive:
        for path in sorted((day.options.work / "runs").glob("*/*")):
            if path.name in PACKED:
                archive.add(path, path.relative_to(day.options.work))


def report(options: Options) -> int:
    """Show rates and what parted, and hand the unpacked runs to `shiftgym report`."""
    found = Day(options).found
    print(f"{found['hardware']['device']}: {sum(found['seconds'].values()) / 60:.1f} minutes")
    apart = {name: what for name, what in found["check"].items() if what}
    print(f"{len(found['check'])} presets checked, captured and eager part in {apart or 'none'}")
    print(f"{'method, runs':<18}{'captured/s':>12}{'eager/s':>12}{'MB':>8}")
    for name, row in found["speed"].items():
        memory = row.get("memory_mb", 0.0)
        print(f"{name:<18}{row['captured']:>12,.0f}{row['eager']:>12,.0f}{memory:>8,.0f}")
    folder = options.work / "unpacked"
    with tarfile.open(options.out / "runs.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    runs = sorted(map(str, (folder / "runs").iterdir()))
    table = [] if options.small else ["--protocol", TABLE]
    from shiftgym.cli import main as shiftgym

    return shiftgym(["report", *runs, *table]) if runs else 0


def main(options: Options) -> int:
    """Do what is left, while there is time."""
    if options.report:
        return report(options)
    device = pick_device(options.device)
    if options.small:
        running.BLOCK["cuda"] = 4
    options.out.mkdir(parents=True, exist_ok=True)
    day = Day(options)
    day.found |= {"hardware": describe(device, "captured", "float32"), "versions": provenance()}
    parts: list[tuple[str, Iterator[tuple[str, Callable[[], Any]]]]] = [
        ("check", checks(options)),
        ("data", data(options)),
        ("speed", speeds(options)),
        ("train", trainings(day)),
    ]
    whole = True
    try:
        for part, pieces in parts:
            whole = all([day.do(part, name, work) for name, work in pieces]) and whole
    except StoppedEarly:
        whole = False
    pack(day)
    write_json(day.path, day.found)
    files = [path for path in options.out.iterdir() if path.is_file()]
    sizes = ", ".join(f"{path.name} {path.stat().st_size / 1e6:.2f} MB" for path in sorted(files))
    print(f"Wrote {options.out}: {sizes}.")
    print("Done; --report shows it." if whole else "Unfinished: run it again to go on.")
    wrong = [name for name, what in day.found["check"].items() if what]
    return 1 if wrong else (0 if whole else 3)


if __name__ == "__main__":
    figures.command(main, Options, __doc__, failed=2)

"""Train one group in its directory, wherever a backend runs it: begin, go on, or find it done.

What it is given and gives back is plain, so that any engine can carry it. What goes wrong is
written into the directory and given back, never raised: the other groups go on.
"""

from __future__ import annotations

import dataclasses
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.machine import usable_cpus
from shiftgym.basics.ranges import Amount, Threads, check_ranges
from shiftgym.datasets.locks import acquire, release
from shiftgym_agents.methods.table import method
from shiftgym_agents.sweeps.plan import FAILURE, GROUP, LOG, STARTED, Group, last_line
from shiftgym_agents.sweeps.sets import Library, is_here, ours
from shiftgym_agents.training.artifacts import LOCK, read_json, write_json, write_text
from shiftgym_agents.training.hardware import device_name
from shiftgym_agents.training.run_config import TrainOptions
from shiftgym_agents.training.running import Backend, pick_device
from shiftgym_agents.training.trainer import Trainer

OURS = ".group.lock"  # in a group's directory while a worker of a sweep is at it
MARK = "sweep.json"  # in the sweep's folder: a worker that does not see it is elsewhere


@dataclass(frozen=True)
class How:
    """Say how groups train; none of it decides what comes out, but for `device` and `updates`.

    Attributes:
        device: auto, cpu, cuda or cuda:1.
        threads: CPU threads of each group; 0 for all there are.
        updates: captured or eager; groups that have begun keep theirs.
        checkpoint_minutes: between checkpoints: what a kill may cost.
        folder: where a grid's relative paths start: where its command ran.
    """

    device: str = "auto"
    threads: Threads = 0
    updates: Backend = "captured"
    checkpoint_minutes: Amount = 5.0
    folder: str = ""

    def __post_init__(self) -> None:
        """Refuse numbers outside the ranges of their fields."""
        check_ranges(self)


@dataclass(frozen=True)
class Outcome:
    """Say how a group ended: ``done``, ``stopped`` or ``failed``, and why."""

    state: str
    reason: str = ""


def train_group(given: Mapping[str, Any], out: str, how: Mapping[str, Any]) -> dict[str, str]:
    """Train a group to its end, or until a signal stops it after a checkpoint.

    Args:
        given: the group, `Group.plain`.
        out: its directory; the sweep's folder holds it.
        how: a `How`, as JSON.

    Returns:
        An `Outcome`, as JSON.
    """
    home = Path(out).resolve()
    if not (home.parent / MARK).exists():
        reason = f"{socket.gethostname()} does not see {home.parent}: --out must be on a file "
        return vars(Outcome("failed", reason + "system that every node shares"))
    home.mkdir(exist_ok=True)
    with open(home / LOG, "a", buffering=1, encoding="utf-8") as log:
        with redirect_stdout(log), redirect_stderr(log):
            print(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} on {socket.gethostname()}")
            settings = How(**how)
            seen = bool(settings.folder) and Path(settings.folder).is_dir()
            with chdir(settings.folder if seen else "."):
                outcome = _train(Group.read(given, home / GROUP), home, settings)
            print(f"--- {outcome.state} {outcome.reason}".rstrip())
    return vars(outcome)


def _train(group: Group, home: Path, how: How) -> Outcome:
    try:
        with _alone(home / OURS):  # to the end: another sweep's worker then finds it done
            with _alone(home / LOCK):
                if (home / "result.json").exists():
                    return Outcome("done")
                (home / FAILURE).unlink(missing_ok=True)
                updates = how.updates
                if (home / GROUP).exists():
                    updates = read_json(home / GROUP).get("updates", updates)
            write_json(home / GROUP, group.plain() | {"updates": updates})
            trainer = make_trainer(group, home, dataclasses.replace(how, updates=updates))
            _note_start(trainer, home, how)
            over = trainer.run()
    except KeyboardInterrupt:
        return Outcome("stopped", "before it had begun")
    except Exception as error:
        text = str(error) if isinstance(error, ShiftgymError) else traceback.format_exc()
        write_text(home / FAILURE, text.strip() + "\n")
        return Outcome("failed", last_line(home / FAILURE))
    return Outcome("done") if over else Outcome("stopped", "after a checkpoint")


def make_trainer(group: Group, home: Path, how: How) -> Trainer:
    """Make the trainer of a group, from its checkpoint where it has one.

    Raises:
        ShiftgymError: A dataset is not here and cannot be made, or anything `Trainer` refuses.
    """
    for name in group.datasets:
        if ours(name) is not None:
            make_data(name)
    config = method(group.method).config_class(**group.config)
    library = Library()
    chosen = dict.fromkeys((source, target) for source, target, _ in group.runs)
    pairs = {each: library.open(group, *each) for each in chosen}
    for name, digest in library.contents(group, group.datasets).items():
        if group.data.get(name) != digest:
            raise ShiftgymError(f"{name} has changed since the sweep was planned: run it again.")
    options = TrainOptions(
        out=home, device=how.device, threads=how.threads, backend=how.updates, progress=False,
        evaluate_every=group.every, episodes=group.episodes,
        checkpoint_minutes=how.checkpoint_minutes,
    )  # fmt: skip
    each = [pairs[source, target] for source, target, _ in group.runs]
    resume = (home / "config.json").exists()
    return Trainer(group.method, config, each, [seed for *_, seed in group.runs], options, resume)


def make_data(name: str, quiet: bool = True) -> None:
    """Make a dataset that is not here, as `shiftgym data make` does; another maker is waited for.

    Args:
        name: of the dataset.
        quiet: keep what the command says to oneself.

    Raises:
        ShiftgymError: It cannot be made.
    """
    if is_here(name):
        return
    command = [sys.executable, "-m", "shiftgym.cli", "data", "make", name, "--wait"]
    done = subprocess.run(command, capture_output=quiet, text=True, check=False)
    if done.returncode or not is_here(name):
        lines = (done.stderr or done.stdout or "").strip().splitlines()
        said = lines[-1] if lines else f"{' '.join(command[2:])} ended with {done.returncode}"
        raise ShiftgymError(f"{name} could not be made: {said}")


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait until nobody else holds a lock: a dying worker, one of another sweep, or a training."""
    descriptor = acquire(lock, f"Run {lock.parent}", wait=True)
    try:
        yield
    finally:
        release(descriptor, lock)


def _note_start(trainer: Trainer, home: Path, how: How) -> None:
    """Write where and when a training began, and what its stages are."""
    stages = [[stage.name, stage.steps] for stage in trainer.stages]
    told: dict[str, Any] = {"stages": stages, "updates": trainer.backend}
    if not (home / STARTED).exists():
        told["machine"] = machine_facts(how.device, how.threads)
        write_json(home / STARTED, told)


def machine_facts(device: str, threads: int) -> dict[str, Any]:
    """Say on what a training runs."""
    found = pick_device(device)
    facts = {"device": device_name(found), "kind": found.type, "threads": threads or usable_cpus()}
    return facts | {"host": socket.gethostname(), "date": time.strftime("%Y-%m-%d")}

"""A tiny grid of 24 groups, and what is compared of how it went."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shiftgym_agents.sweeps.backends.base import Room
from shiftgym_agents.sweeps.board import Board
from shiftgym_agents.sweeps.drive import drive
from shiftgym_agents.sweeps.grid import read_grids
from shiftgym_agents.sweeps.plan import Plan, plan
from shiftgym_agents.sweeps.work import How
from shiftgym_agents.training.artifacts import read_checkpoint, read_json

GRID = """
title = "24 groups of one run each"
pairs = [
    "hopper-morph/medium -> hopper-kinematic/medium",
    "hopper-kinematic/expert -> hopper-morph/medium",
]
methods = ["bc", "iql-target", "iql"]
seeds = 4
lockstep = 1
every = 20
episodes = 1
[settings]
steps = 40
width = 8
batch = 8
"""
PATIENCE = 240  # seconds until something that must happen has happened
HOW = How(device="cpu", threads=1, updates="eager", checkpoint_minutes=0.0)


def write_grid(folder: Path, text: str = GRID) -> Path:
    path = folder / "tiny.toml"
    path.write_text(text)
    return path


def planned(path: Path, out: Path, **changes: Any) -> Plan:
    return plan(read_grids(str(path), changes), out)


def run(path: Path, out: Path, room: Room, how: How = HOW, **changes: Any) -> Board:
    """Drive a grid to its end, and give the board."""
    made = planned(path, out, **changes)
    board = Board(made.groups)
    assert drive(made, room, how, out, board) == 0
    return board


def facts(out: Path) -> dict[str, Any]:
    """Give what every directory says, apart from times and places."""
    found: dict[str, Any] = {}
    for home in sorted(path.parent for path in out.glob("*/group.json")):
        checkpoint = read_checkpoint(home)
        assert checkpoint is not None, home
        arrays, state = checkpoint
        found[home.name] = {
            "arrays": {k: hashlib.sha256(a.tobytes()).hexdigest() for k, a in arrays.items()},
            "count": state["count"],
            "metrics": (home / "metrics.csv").read_text(),
            "result": read_json(home / "result.json")["runs"],
            "group": read_json(home / "group.json"),
        }
    return found


def until(true: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


@contextmanager
def meanwhile(true: Callable[[], Any], act: Callable[[], Any]) -> Iterator[None]:
    """Do something once, as soon as something is true while the block runs."""
    over, done = threading.Event(), []

    def watch() -> None:
        while not over.is_set():
            if true():
                done.append(act())
                return
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    assert done, "what was to happen meanwhile did not"


def finished(out: Path) -> int:
    return len(list(out.glob("*/result.json")))

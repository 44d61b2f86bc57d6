"""``shiftgym sweep``: train a grid of runs on this machine, Ray or Slurm, and collect it."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import tyro

from shiftgym.basics.errors import DomainError, ShiftgymError, StoppedError
from shiftgym.basics.ranges import Amount
from shiftgym.basics.terminal import INSTALL_PART
from shiftgym_agents.commands.members import finish
from shiftgym_agents.methods.table import method
from shiftgym_agents.reports.protocols import names as protocol_names
from shiftgym_agents.reports.report import lay_out
from shiftgym_agents.sweeps import grid as grids
from shiftgym_agents.sweeps.backends.base import Room
from shiftgym_agents.sweeps.board import Board, duration
from shiftgym_agents.sweeps.collect import collect as collect_table
from shiftgym_agents.sweeps.drive import divide, drive, settle
from shiftgym_agents.sweeps.plan import Plan, plan
from shiftgym_agents.sweeps.rates import estimate
from shiftgym_agents.sweeps.work import How
from shiftgym_agents.training.running import Backend

Flat = tyro.conf.arg(name="")


def sweep(
    grid: Annotated[str, tyro.conf.Positional] = "",
    room: Annotated[Room, Flat] = Room(),  # noqa: B008
    out: Path = Path("runs/sweeps"),
    methods: tuple[str, ...] = (),
    robots: tuple[str, ...] = (),
    set_: Annotated[tuple[str, ...], tyro.conf.arg(name="set")] = (),
    device: str = "auto",
    updates: Backend = "auto",
    checkpoint_minutes: Amount = 5.0,
    dry: bool = False,
    collect: bool = False,
    table: Path | None = None,
    json_: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """Train a grid of methods, pairs and seeds; run it again to go on, on any backend.

    A grid is one of the package's, a protocol (shiftgym protocols) or a TOML file of your own, of
    sets of this package or of your own data and environment (docs/sweeps.md); without a name the
    grids are listed. Source sets that are missing are made first. Runs of one
    robot and method train in lockstep, a directory a group under --out, named after what decides
    its numbers: what is there is not trained again, whoever trained it. On several machines --out
    must be on a file system that all of them see.

    Example: shiftgym sweep leaderboard --dry

    Example: shiftgym sweep my_grid.toml --set seeds=2 steps=20000 otdf.keep=0.5 --backend ray

    Then: shiftgym sweep leaderboard --collect, and shiftgym leaderboard runs/sweeps/leaderboard.csv

    Ctrl-C, SIGTERM and a kill lose at most --checkpoint-minutes. Groups that fail are listed with
    their reason and do not stop the others; the exit code is then 1.

    Args:
        grid: Name of a grid or a protocol, or path of a TOML file.
        room: who trains
        out: Folder of run directories, shared by all sweeps.
        methods: Only these of its methods.
        robots: Only these of its robots.
        set_: Values in place of the grid's: seeds=2 steps=20000 every=5000 otdf.cvae_steps=500.
        device: Where groups train: auto, cpu, cuda or cuda:1.
        updates: captured or eager, as for train; auto is what is faster here, for all groups alike.
        checkpoint_minutes: Minutes between checkpoints, which is what a kill may cost.
        dry: Show the plan with estimated hours, from rates measured now, and train nothing.
        collect: Write the table of what is finished, and train nothing.
        table: Where the table goes, without ending; OUT/GRID by default.
        json_: Print JSON for programs (with --dry, or without a name).
    """
    if not grid:
        print(_list(json_))
        return
    if json_ and not dry:
        raise DomainError("--json is of --dry, or of the list of grids without a name.")
    chosen = [_only(each, methods, robots) for each in grids.read_grids(grid, grids.change(set_))]
    if methods or robots:
        chosen = [each for each in chosen if each.pairs and each.methods]
    if not chosen:
        raise DomainError(f"{grid} has no pair of these robots with these methods.")
    made = plan(chosen, out, not collect, lambda note: print(note, file=sys.stderr))
    if collect:
        _collect(made, table or out / Path(grid).stem)
        return
    room = divide(room, len(made.left), device)
    how = settle(How(device, room.threads, updates, checkpoint_minutes, os.getcwd()))
    if dry:
        _dry(grid, made, room, how, out, json_)
        return
    board = Board(made.groups)
    board.say(f"{len(made.left)} of {len(made.groups)} groups to train in {out}.")
    stopped = drive(made, room, how, out, board)
    print(board.summary())
    again = f"shiftgym sweep {grid} with the same options goes on."
    if stopped:
        raise StoppedError(f"Interrupted; {again}", stopped)
    failed = sum(line.state != "done" for line in board.lines.values())
    if failed:
        raise ShiftgymError(f"{failed} of {len(board.lines)} groups are not done; {again}")
    print(f"Everything lies in {out}. Next: shiftgym sweep {grid} --collect")


def _only(grid: grids.Grid, methods: tuple[str, ...], robots: tuple[str, ...]) -> grids.Grid:
    """Keep some methods, and the pairs of some robots."""
    for name in methods:
        method(name)
    kept = [name for name in grid.methods if not methods or name in methods]
    pairs = [pair for pair in grid.pairs if not robots or grid.robot(*pair) in robots]
    return dataclasses.replace(grid, methods=tuple(kept), pairs=tuple(pairs))


def _list(as_json: bool) -> str:
    """List the grids, and the protocols that are grids, too."""
    lines: list[tuple[str, ...]] = [("grid", "pairs", "methods", "seeds", "runs", "what")]
    told: list[dict[str, Any]] = []
    for name in (*grids.names(), *protocol_names()):
        parts = grids.read_grids(name)
        runs = sum(1 for part in parts if part.pairs and part.methods for _ in part.wanted())
        about: dict[str, Any] = {"name": name, "title": grids.title(name)}
        about |= {"pairs": len(dict.fromkeys(pair for part in parts for pair in part.pairs))}
        about |= {"methods": len(dict.fromkeys(each for part in parts for each in part.methods))}
        about |= {"seeds": max(part.seeds for part in parts), "runs": runs}
        told.append(about)
        numbers = (str(about[key] or "-") for key in ("pairs", "methods", "seeds", "runs"))
        lines.append((name, *numbers, about["title"]))
    if as_json:
        return json.dumps(told, indent=1)
    return f"{lay_out(lines)}\n\nNext: shiftgym sweep {grids.names()[0]} --dry"


def _collect(made: Plan, path: Path) -> None:
    files, left_out = collect_table(made, path)
    done = sum(each.state == "done" for each in made.groups)
    print(f"Wrote {', '.join(map(str, files))}: {done} of {len(made.groups)} groups.")
    if not any(file.suffix == ".parquet" for file in files):
        print(f"No Parquet, which needs pyarrow: {INSTALL_PART['pyarrow']}")
    table = next(file for file in files if file.suffix == ".csv")
    print(f"Next: shiftgym leaderboard {table}, or shiftgym report {table}")
    finish(left_out)


def _dry(name: str, made: Plan, room: Room, how: How, out: Path, as_json: bool) -> None:
    """Show the plan, with the hours that what is left takes here."""
    guess = estimate(made, room, how)
    told: dict[str, Any] = {"grid": name, "out": str(out), "runs": 0, "groups": []}
    lines = [("group", "runs", "state", "hours", "")]
    for each in made.groups:
        hours = guess.groups.get(each.group.key, 0.0)
        told["runs"] += len(each.group.runs)
        about = {"key": each.group.key, "runs": len(each.group.runs), "state": each.state}
        told["groups"].append(about | {"hours": round(hours, 4), "reason": each.reason})
        shown = f"{hours:.2f}" if hours else ""
        lines.append((each.group.key, str(about["runs"]), each.state, shown, each.reason))
    told |= {"missing": list(made.missing), "hours": round(guess.hours, 4), "jobs": guess.jobs}
    if as_json:
        print(json.dumps(told, indent=1))
        return
    print(lay_out(lines))
    states = Counter(each.state for each in made.groups)
    counts = ", ".join(f"{count} {state}" for state, count in states.items())
    print(f"\n{told['runs']} runs in {len(made.groups)} groups: {counts}.")
    if made.missing:
        print(f"Made first: {', '.join(made.missing)}.")
    side = f"{guess.jobs} at a time, {room.threads} thread{'s' if room.threads > 1 else ''} each"
    print(f"About {duration(3600 * guess.hours)} on this machine, {side}, as measured just now.")
    print(f"Next: shiftgym sweep {name}")

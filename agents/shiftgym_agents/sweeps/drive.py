"""Drive a sweep: hand what is left to a backend, show how it goes, and stop it cleanly."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.machine import usable_cpus
from shiftgym.basics.terminal import INSTALL_PART
from shiftgym.datasets.folders import explained
from shiftgym.datasets.locks import acquire, release
from shiftgym_agents.sweeps.backends.base import Backend, Job, Room
from shiftgym_agents.sweeps.board import Board
from shiftgym_agents.sweeps.plan import Plan, Planned
from shiftgym_agents.sweeps.work import MARK, How, Outcome, make_data
from shiftgym_agents.training.artifacts import ELSEWHERE, write_json
from shiftgym_agents.training.interrupt import StopRequest
from shiftgym_agents.training.running import pick_backend, pick_device

TICK = 1.0  # seconds between looks at how groups are getting on
HOLDER = ".lock"


def make_backend(room: Room, out: Path, tell: Callable[[str], None] = print) -> Backend:
    """Make the backend that a room names.

    Args:
        room: who trains.
        out: the sweep's folder.
        tell: takes a sentence on how a queue goes.

    Raises:
        ShiftgymError: What it needs is not installed; the message says how to install it.
    """
    try:
        if room.backend == "ray":
            from shiftgym_agents.sweeps.backends.ray import RayBackend

            return RayBackend(room)
        if room.backend in ("slurm", "slurm-local"):
            from shiftgym_agents.sweeps.backends.slurm import SlurmBackend

            return SlurmBackend(room, out, room.backend.partition("-")[2] or "slurm", tell)
        from shiftgym_agents.sweeps.backends.local import LocalBackend

        return LocalBackend(room)
    except ModuleNotFoundError as error:
        if error.name not in INSTALL_PART:
            raise
        part = INSTALL_PART[error.name]
        raise ShiftgymError(f"--backend {room.backend} needs {error.name}: {part}") from None


def divide(room: Room, groups: int, device: str) -> Room:
    """Fill in how many groups run at once, and with how many threads each.

    On this machine's CPU as many as there are cores, each with its share of them: groups side by
    side lose less to waiting than threads of one group do. On a GPU one.
    """
    if room.backend != "local":
        return dataclasses.replace(room, threads=room.threads or 1)
    cpus = usable_cpus()
    most = 1 if pick_device(device).type == "cuda" else max(1, min(groups, cpus))
    jobs = room.jobs or (most if not room.threads else max(1, min(most, cpus // room.threads)))
    return dataclasses.replace(room, jobs=jobs, threads=room.threads or max(1, cpus // jobs))


def settle(how: How) -> How:
    """Choose how updates run once for all groups, so that it is the same wherever they train."""
    if how.updates == "auto":
        torch.set_num_threads(how.threads or usable_cpus())
        device = pick_device(how.device)
        return dataclasses.replace(how, updates=pick_backend("auto", device))
    return how


def drive(made: Plan, room: Room, how: How, out: Path, board: Board) -> int:
    """Train what is left of a plan.

    Args:
        made: the plan.
        room: who trains, and what a group may take.
        how: how groups train.
        out: the sweep's folder.
        board: shows how it goes.

    Returns:
        The number of the signal that stopped it, or 0.

    Raises:
        ShiftgymError: Another sweep is at the folder, or it cannot be written.
    """
    with explained(out, ELSEWHERE):
        out.mkdir(parents=True, exist_ok=True)
        held = acquire(out / HOLDER, f"Sweep {out}", wait=False, advice="Or choose another --out.")
    try:
        write_json(out / MARK, {"grids": [grid.name for grid in made.grids]})
        with StopRequest() as stop:
            left = made.left
            for name in made.missing:
                left = _bring(name, left, board, stop)
            if stop.requested or not left:
                return stop.number if stop.requested else 0
            engine = make_backend(room, out, board.say)
            try:
                engine.start([_job(each, how) for each in left])
                waiting = {each.group.key for each in left}
                while waiting and not stop.requested:
                    _take(engine.ended(TICK), waiting, board)
                    board.show()
                if stop.requested:
                    board.say("Stopping: every group writes a checkpoint first.")
            finally:
                _take(engine.stop(), waiting, board)
            board.show()
            return stop.number if stop.requested else 0
    finally:
        release(held, out / HOLDER)


def _take(ended: Mapping[str, Outcome], waiting: set[str], board: Board) -> None:
    for key, outcome in ended.items():
        waiting.discard(key)
        board.end(key, outcome)


def _bring(name: str, left: Sequence[Planned], board: Board, stop: StopRequest) -> list[Planned]:
    """Make a dataset before anything trains; the groups of one that cannot be made fail."""
    reason = None
    if not stop.requested:
        board.say(f"Making {name}.")
        try:
            make_data(name, quiet=False)
        except ShiftgymError as error:
            reason = str(error)
    kept = []
    for each in left:
        if reason is None or stop.requested or name not in each.group.datasets:
            kept.append(each)
        else:
            board.end(each.group.key, Outcome("failed", reason))
    return kept


def _job(planned: Planned, how: How) -> Job:
    out = str(planned.out.resolve())
    return Job(planned.group.key, planned.group.plain(), out, dataclasses.asdict(how))

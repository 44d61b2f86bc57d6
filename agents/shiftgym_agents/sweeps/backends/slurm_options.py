"""Read what `--slurm` says: sbatch's options by their names, and what submitit adds to them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from shiftgym.basics.errors import ShiftgymError

LISTS = ("setup", "teardown", "srun_args")  # may be given several times
NUMBERS = {"timeout_min": int, "signal_delay_s": int, "mem_gb": float}
SWITCHES = {"true": True, "false": None}
OTHER_NAMES = {"name": "job_name"}
TAKEN = {  # what the sweep itself decides, and where to say it
    "array": "the sweep makes the array: --per-task, --jobs",
    "array_parallelism": "say --jobs",
    "cpus_per_task": "say --threads",
    "gpus_per_node": "say --gpus, and the kind with gres=gpu:a100:1",
    "nodes": "a group is one process on one node",
    "ntasks": "a group is one process; groups side by side are tasks of the array",
    "ntasks_per_node": "a group is one process; groups side by side are tasks of the array",
    "tasks_per_node": "a group is one process; groups side by side are tasks of the array",
    "output": "logs lie in .slurm under --out, and in each group's log.txt",
    "error": "logs lie in .slurm under --out, and in each group's log.txt",
    "use_srun": "tasks are steps of srun, which brings them Slurm's signals",
    "wrap": "the sweep writes the script",
    "parsable": "the sweep reads what sbatch prints",
    "test_only": "nothing would be submitted; shiftgym sweep --dry shows the plan",
}
TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")


def read_options(texts: Sequence[str]) -> dict[str, Any]:
    """Read values for submitit: ``partition=gpu``, ``time=1-12:00:00``, ``setup=module load cuda``.

    Names are those of sbatch's long options, with or without submitit's ``slurm_`` before them;
    what submitit does not know goes to sbatch as it is.

    Returns:
        Parameters of submitit's executor.

    Raises:
        ShiftgymError: One is no ``name=value``, has a value of another kind, or is the sweep's own.
    """
    found: dict[str, Any] = {}
    plain: dict[str, Any] = {"requeue": True}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip().lstrip("-").removeprefix("slurm_").replace("-", "_")
        name = OTHER_NAMES.get(name, name)
        if not (name and equals and value):
            raise ShiftgymError(f"--slurm {text}: write name=value, such as partition=gpu.")
        if name in TAKEN:
            raise ShiftgymError(f"--slurm {text}: {TAKEN[name]}.")
        if name == "time":
            found["timeout_min"] = minutes(value)
        elif name in NUMBERS:
            found[_called(name)] = _number(text, value, NUMBERS[name])
        elif name in LISTS:
            found.setdefault(f"slurm_{name}", []).append(value)
        else:
            plain[name] = SWITCHES.get(value, value)
    told = {name: value for name, value in plain.items() if value is not None}
    return found | {"slurm_additional_parameters": told}


def minutes(text: str) -> int:
    """Read a time limit as sbatch writes it, in whole minutes, rounded up.

    Args:
        text: ``90``, ``90:30``, ``1:30:00``, ``2-12``, ``2-12:30`` or ``2-12:30:00``.

    Raises:
        ShiftgymError: It is none.
    """
    match = TIME.fullmatch(text)
    if match is None:
        raise ShiftgymError(
            f"--slurm time={text}: write minutes, hours:minutes:seconds or days-hours, such as "
            "time=90, time=12:00:00, time=2-12."
        )
    days, *rest = match.groups()
    given = [int(part) for part in rest if part is not None]
    if days is not None:
        hours, mins, seconds = given + [0] * (3 - len(given))
    else:
        hours, mins, seconds = {1: [0, *given, 0], 2: [0, *given], 3: given}[len(given)]
    total = ((int(days or 0) * 24 + hours) * 60 + mins) * 60 + seconds
    if not total:
        raise ShiftgymError(f"--slurm time={text}: a task needs at least a minute.")
    return -(-total // 60)


def _called(name: str) -> str:
    return f"slurm_{name}" if name == "signal_delay_s" else name


def _number(text: str, value: str, kind: type) -> Any:
    try:
        number = kind(value)
    except ValueError:
        number = 0
    if not 0 < number < float("inf"):
        what = "a whole number" if kind is int else "a number"
        raise ShiftgymError(f"--slurm {text}: write {what} above 0.")
    return number

"""``shiftgym train``: train a method on a pair of datasets, several seeds at once."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from shiftgym.basics.errors import ShiftgymError, StoppedError
from shiftgym.basics.ranges import Seed, Size
from shiftgym.reading.anywhere import own_name
from shiftgym_agents.core.agent import Agent, Config
from shiftgym_agents.methods.outside import short_name
from shiftgym_agents.methods.table import METHODS, method, settings, summary
from shiftgym_agents.training.asking import DataOptions, open_pair
from shiftgym_agents.training.hardware import in_a_line, unseen_gpu
from shiftgym_agents.training.run_config import TrainOptions
from shiftgym_agents.training.trainer import Trainer

Flat = tyro.conf.arg(name="")


@dataclass(frozen=True)
class PairOptions(DataOptions):
    """Choose the datasets, the score and the seeds."""

    seeds: Size = 1
    """How many runs train at once, each with its own seed."""
    first_seed: Seed = 0
    """Run k has seed first_seed + k."""


def train(name: Annotated[str, tyro.conf.Positional]) -> None:
    """Train a method offline on a source and a target dataset, several seeds at once.

    Args:
        name: The method.
    """
    method(name)  # reached only with a name that is no method: this says so


def _for_arguments(arguments: Sequence[str]) -> Callable[..., None]:
    """Make the command of one method: its options, with a preset's and a robot's defaults."""
    name = arguments[0] if arguments else ""
    if not name or name.startswith("-"):
        return train
    chosen = method(name)
    preset, target = _value(arguments, "--preset") or "ours", _value(arguments, "--target")
    known = None if target is None else own_name(target)
    default = settings(name, None if known is None else known.domain, preset)

    def command(name: str, pair: Any, options: Any, config: Any, preset: str, resume: bool) -> None:
        train_pair(name, config, pair, options, resume)

    kinds: dict[str, tuple[Any, Any]] = {  # argument -> type, default
        "name": (Annotated[str, tyro.conf.Positional], inspect.Parameter.empty),
        "pair": (Annotated[PairOptions, Flat], inspect.Parameter.empty),
        "options": (Annotated[TrainOptions, Flat], TrainOptions(out=default_out(name))),
        "config": (Annotated[chosen.config_class, Flat], default),
        "preset": (str, preset),
        "resume": (bool, False),
    }
    either = inspect.Parameter.POSITIONAL_OR_KEYWORD
    command.__signature__ = inspect.Signature(  # pyright: ignore[reportFunctionMemberAccess]
        [inspect.Parameter(key, either, default=d) for key, (_, d) in kinds.items()]
    )
    command.__annotations__ = {key: kind for key, (kind, _) in kinds.items()}
    command.__doc__ = explain(name, chosen)
    return command


train.for_arguments = _for_arguments  # pyright: ignore[reportFunctionMemberAccess]
train.__doc__ = (
    "Train a method offline on a source and a target dataset, several seeds at once.\n\n"
    + "\n\n".join(f"{name}: {text}" for name, (_, text) in METHODS.items())
    + "\n\nmy_file.py:MyMethod: a method of your own; packages offer theirs by name "
    "(docs/agents.md)."
    "\n\nshiftgym train METHOD --help explains one, with its hyperparameters."
    "\n\nExample: shiftgym train iql --source hopper/medium --target hopper-kinematic/medium "
    "--seeds 3 --steps 30000 --out runs/iql"
    "\n\nArgs:\n    name: The method."
)


def explain(name: str, chosen: type[Agent]) -> str:
    """Write the help text of one method: what it does, and an example."""
    source = "--source hopper/medium " if chosen.uses_source else ""
    about = inspect.getdoc(sys.modules[chosen.__module__]) or ""
    example = (
        f"Example: shiftgym train {name} {source}--target hopper-kinematic/medium --seeds 3 "
        f"--steps 30000 --out {default_out(name)}"
    )
    arguments = (
        f"Args:\n    name: {name}: {summary(name)}.\n    pair: datasets\n    options: how\n"
        "    config: hyperparameters\n"
        f"    preset: Where the defaults below come from: {', '.join(chosen.presets)}.\n"
        "    resume: Go on with the run in --out."
    )
    short = summary(name)
    return f"{short[0].upper()}{short[1:]}.\n\n{about}\n\n{example}\n\n{arguments}"


def default_out(name: str) -> Path:
    """Give the run directory of a method: `runs/iql`, `runs/MyMethod`."""
    return Path("runs") / short_name(name)


def train_pair(
    name: str, config: Config, chosen: PairOptions, options: TrainOptions, resume: bool
) -> None:
    """Train all seeds of a method on one pair and say where the result lies.

    Raises:
        ShiftgymError: Wrong data, device or directory, or too little memory.
        StoppedError: Ctrl-C or SIGTERM ended it early, after a checkpoint.
    """
    pair = open_pair(name, chosen)
    seeds = [chosen.first_seed + run for run in range(chosen.seeds)]
    try:
        trainer = Trainer(name, config, [pair] * chosen.seeds, seeds, options, resume)
        hidden = unseen_gpu() if options.device == "auto" else None
        if hidden is not None:
            print(f"Note: {hidden}", file=sys.stderr)
        print(f"Training {name}, {_counted(chosen.seeds)}, on {in_a_line(trainer.hardware)}")
        over = trainer.run()
    except (MemoryError, RuntimeError) as error:
        if not _lacks_memory(error):
            raise
        raise ShiftgymError(
            f"Out of memory on --device {options.device} with {chosen.seeds} runs: use fewer "
            f"--seeds, a smaller --batch or --width, or --device cpu. ({_first_line(error)})"
        ) from None
    if not over:
        raise StoppedError(
            f"Interrupted after {trainer.count} of {trainer.total} updates; to go on, add:\n"
            f"  --resume --out {options.out}",
            trainer.stop.number,
        )
    result = trainer.result()["runs"]
    unit = "return" if pair.reference is None else "score"
    found = f"{unit}s {[run[unit] for run in result]}"
    if pair.domain is None:
        found = "trained, evaluated nowhere"
    print(f"{name} on {' -> '.join(map(str, pair.names))}: {found}")
    for line in trainer.kept():
        print(line)
    print(f"Wrote {options.out}. Next: shiftgym report {options.out}")


def _value(arguments: Sequence[str], flag: str) -> str | None:
    """Find the value of a flag among arguments, `--flag value` or `--flag=value`."""
    for i, argument in enumerate(arguments):
        if argument == flag and i + 1 < len(arguments):
            return arguments[i + 1]
        if argument.startswith(f"{flag}="):
            return argument.partition("=")[2]
    return None


def _lacks_memory(error: MemoryError | RuntimeError) -> bool:
    """Say whether memory ran out; CUDA speaks of memory in errors of other kinds, too."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return "DefaultCPUAllocator" in str(error)  # a RuntimeError like any other


def _counted(seeds: int) -> str:
    return "1 run" if seeds == 1 else f"{seeds} runs"


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__

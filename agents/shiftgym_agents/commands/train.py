"""``shiftgym train``: train a method on a pair of datasets, several seeds at once."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

import shiftgym
from shiftgym.datasets.load import find, load
from shiftgym.errors import DomainError, ShiftgymError, StoppedError
from shiftgym.ranges import Seed, Size, check_ranges
from shiftgym.scores import MEASURED, default_reference
from shiftgym.scores import reference as find_reference
from shiftgym_agents.core.agent import Agent, Config
from shiftgym_agents.core.pairs import TrainingPair, target_only
from shiftgym_agents.methods.table import METHODS, method, settings
from shiftgym_agents.training.run_config import TrainOptions
from shiftgym_agents.training.trainer import Trainer

Flat = tyro.conf.arg(name="")


@dataclass(frozen=True)
class PairOptions:
    """Choose the datasets, the score and the seeds."""

    target: str
    """Dataset of the domain that policies are for: hopper-kinematic/medium."""
    source: str | None = None
    """Dataset of another domain of the same robot: hopper/medium."""
    reference: str | None = None
    """Table of reference returns for scores: shiftgym, otdf, odrl or d4rl; by default that of the
    target's origin, shiftgym for this package's own sets."""
    seeds: Size = 1
    """How many runs train at once, each with its own seed."""
    first_seed: Seed = 0
    """Run k has seed first_seed + k."""

    def __post_init__(self) -> None:
        """Refuse numbers outside the ranges of their fields."""
        check_ranges(self)


def train(name: Annotated[str, tyro.conf.Positional]) -> None:
    """Train a method offline on a source and a target dataset, several seeds at once.

    Args:
        name: The method.
    """
    method(name)  # reached only with a name that is no method: this says so


def _for_arguments(arguments: Sequence[str]) -> Callable[..., None]:
    """Make the command of one method: its options, with a preset's and a robot's defaults."""
    name = arguments[0] if arguments else ""
    if name not in METHODS:
        return train
    chosen = method(name)
    preset, target = _value(arguments, "--preset") or "ours", _value(arguments, "--target")
    default = settings(name, None if target is None else find(target).domain, preset)

    def command(name: str, pair: Any, options: Any, config: Any, preset: str, resume: bool) -> None:
        train_pair(name, config, pair, options, resume)

    kinds: dict[str, tuple[Any, Any]] = {  # argument -> type, default
        "name": (Annotated[str, tyro.conf.Positional], inspect.Parameter.empty),
        "pair": (Annotated[PairOptions, Flat], inspect.Parameter.empty),
        "options": (Annotated[TrainOptions, Flat], TrainOptions(out=Path("runs") / name)),
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
    + "\n\n".join(f"{name}: {summary}" for name, (_, summary) in METHODS.items())
    + "\n\nshiftgym train METHOD --help explains one, with its hyperparameters."
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
        f"--steps 30000 --out runs/{name}"
    )
    arguments = (
        f"Args:\n    name: {name}: {METHODS[name][1]}.\n    pair: datasets\n    options: how\n"
        "    config: hyperparameters\n"
        f"    preset: Where the defaults below come from: {', '.join(chosen.presets)}.\n"
        "    resume: Go on with the run in --out."
    )
    summary = METHODS[name][1]
    return f"{summary[0].upper()}{summary[1:]}.\n\n{about}\n\n{example}\n\n{arguments}"


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
        over = trainer.run()
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error).lower():
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
    unit = "return" if pair.reference is None else "score"
    found = [run[unit] for run in trainer.result()["runs"]]
    print(f"{name} on {' -> '.join(map(str, pair.names))}: {unit}s {found}")
    print(f"Wrote {options.out}. Next: shiftgym report {options.out}")


def open_pair(name: str, chosen: PairOptions) -> TrainingPair:
    """Load the datasets of a pair; methods for the target alone need no source.

    Raises:
        ShiftgymError: A dataset is not here (the message has the command that gets or makes it), or
            the two are of different robots.
    """
    if chosen.source is not None:
        pair = shiftgym.Pair(chosen.source, chosen.target, chosen.reference)
        return pair
    if method(name).uses_source:
        robot = find(chosen.target).domain.robot
        raise DomainError(f"{name} needs a source: add --source {robot}/medium.")
    target = find(chosen.target)
    table = chosen.reference or default_reference(target.domain, target.origin) or MEASURED
    scores = find_reference(target.domain, table)
    return target_only(load(target), target, target.domain, scores)


def _value(arguments: Sequence[str], flag: str) -> str | None:
    """Find the value of a flag among arguments, `--flag value` or `--flag=value`."""
    for i, argument in enumerate(arguments):
        if argument == flag and i + 1 < len(arguments):
            return arguments[i + 1]
        if argument.startswith(f"{flag}="):
            return argument.partition("=")[2]
    return None


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__

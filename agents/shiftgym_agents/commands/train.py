"""``shiftgym train``: train a method on a pair of datasets, several seeds at once."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from shiftgym.basics.errors import DomainError, ShiftgymError, StoppedError
from shiftgym.basics.ranges import CountOrNone, Number, Seed, Size, SomeShare, check_ranges
from shiftgym.reading.anywhere import own_name
from shiftgym_agents.core.agent import Agent, Config
from shiftgym_agents.data.opening import TARGETS, Wanted, open_wanted
from shiftgym_agents.data.pairs import TrainingPair
from shiftgym_agents.data.places import place
from shiftgym_agents.methods.outside import short_name
from shiftgym_agents.methods.table import METHODS, method, settings, summary
from shiftgym_agents.training.hardware import in_a_line, unseen_gpu
from shiftgym_agents.training.run_config import TrainOptions
from shiftgym_agents.training.trainer import Trainer

Flat = tyro.conf.arg(name="")


@dataclass(frozen=True)
class DataOptions:
    """Choose the datasets, the score, and where policies are evaluated."""

    target: str
    """Dataset of the domain that policies are for: hopper-kinematic/medium; or, of any robot, a
    Minari id (hf://ORGANISATION/ID fetches it), an HDF5 or npz file."""
    source: tuple[str, ...] = ()
    """Dataset of another domain of the same robot, hopper/medium; several make one union, whose
    kept shares are logged per source."""
    source_shares: tuple[SomeShare, ...] = ()
    """Part of each source that is kept, in whole trajectories; everything by default."""
    reference: str | None = None
    """Table of reference returns for scores: shiftgym, otdf, odrl or d4rl; by default that of the
    target's origin, shiftgym for this package's own sets."""
    reference_returns: tuple[Number, Number] | None = None
    """Returns that count as 0 and as 100, random and expert, where no table has them; without,
    returns are reported as returns."""
    eval_env: str | None = None
    """Where policies are evaluated: a Gymnasium id, module:Id-v0 or FILE.py:Id-v0, or none, which
    reports losses and diagnostics of the data alone; by default the target's own domain."""
    eval_steps: CountOrNone = 0
    """Cut episodes of --eval-env after so many steps; 0 for its own limit."""
    action_low: tuple[Number, ...] = ()
    """Lowest actions; by default those of where policies are evaluated, or of the data."""
    action_high: tuple[Number, ...] = ()
    """Highest actions; see --action-low."""
    terminal: str | None = None
    """FILE.py:FUNCTION or MODULE:FUNCTION that says which states (N, O) end an episode, (N,) bool;
    mobody and droco ask for it where the robot is none of shiftgym's."""

    def __post_init__(self) -> None:
        """Refuse numbers outside the ranges of their fields."""
        check_ranges(self)


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


def open_pair(name: str, chosen: DataOptions, tell: Callable[[str], None] = print) -> TrainingPair:
    """Load the datasets of a pair; methods for the target alone need no source.

    Args:
        name: The method.
        chosen: Which datasets.
        tell: Takes a sentence on what reading changed.

    Raises:
        ShiftgymError: A dataset is not here (the message has the command that gets or makes it) or
            cannot be learned from, nobody knows where to evaluate, or the two are of different
            robots.
    """
    if method(name).uses_source and not chosen.source:
        known = own_name(chosen.target)
        example = "FILE.hdf5" if known is None else f"{known.domain.robot}/medium"
        raise DomainError(f"{name} needs a source: add --source {example}.")
    if bool(chosen.action_low) != bool(chosen.action_high):
        raise DomainError("Give both --action-low and --action-high, or none of them.")
    if chosen.reference and chosen.reference_returns:
        raise DomainError("Give --reference or --reference-returns, not both.")
    where = TARGETS if chosen.eval_env is None else place(chosen.eval_env, chosen.eval_steps)
    wanted = Wanted(
        target=chosen.target,
        sources=chosen.source,
        shares=chosen.source_shares,
        where=where,
        worth=chosen.reference_returns or chosen.reference,
        bounds=(chosen.action_low, chosen.action_high) if chosen.action_low else None,
        terminal=chosen.terminal,
    )
    return open_wanted(wanted, tell)


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

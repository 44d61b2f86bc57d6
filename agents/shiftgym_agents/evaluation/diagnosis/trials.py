"""Train with and without the source, for a short budget, where there is an environment.

Run directories are plain ones (`shiftgym report` reads them), and what a stopped diagnosis left is
gone on with. Trainings are of the sizes of the laptop protocol, which learn most in few minutes. So
early in a training values are not yet right: advantages weigh at a temperature of 1 at most.
Pre-training is short, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from shiftgym.basics.errors import ShiftgymError, StoppedError
from shiftgym.domains import Domain
from shiftgym_agents.core.agent import Config
from shiftgym_agents.data.pairs import TrainingPair
from shiftgym_agents.data.places import Place
from shiftgym_agents.evaluation.selection import shortened
from shiftgym_agents.methods.outside import short_name
from shiftgym_agents.methods.table import settings
from shiftgym_agents.training.records import read_about
from shiftgym_agents.training.run_config import TrainOptions, describe_data
from shiftgym_agents.training.trainer import Trainer

ALONE = ("bc", "iql-target")
USING = ("iql", "otdf", "tabb")
TEMPERATURE = 1.0
SIZES = {"width": 128, "batch": 64, "learning_rate": 1e-3}  # of the laptop protocol
INPUTS = "target"  # observations are standardised by its rows, as there, by methods that can
PRETRAINING = 2_000  # updates of each stage
SUPPORT = 0.5  # published for pairs with the same joints
C = TypeVar("C", bound=Config)


@dataclass(frozen=True)
class Trials:
    """Hold final returns (scores, where there is a reference), one per seed.

    Attributes:
        unit: return or score.
        alone: by method, of those that learn from the target alone.
        using: by method, of those that use the source.
    """

    unit: str
    alone: Mapping[str, tuple[float, ...]]
    using: Mapping[str, tuple[float, ...]]


def supported(config: C, where: Place) -> C:
    """Choose OTDF's support where nothing is known of the robot."""
    given: Any = config
    if isinstance(where, Domain) or getattr(given, "support", SUPPORT) is not None:
        return config
    return replace(given, support=SUPPORT)


def short(name: str, where: Place, most: int) -> Config:
    """Give a method's hyperparameters for a short training."""
    config: Any = shortened(settings(name, where, steps=most, **SIZES), min(most, PRETRAINING))
    if hasattr(config, "normalize_states"):
        config = replace(config, normalize_states=INPUTS)
    if getattr(config, "temperature", 0.0) > TEMPERATURE:
        config = replace(config, temperature=TEMPERATURE)
    return supported(config, where)


def require_same(
    out: Path, pair: TrainingPair, seeds: Sequence[int], most: int, using: Sequence[str] = USING
) -> None:
    """Refuse a folder whose trainings are others, before minutes are spent.

    Raises:
        ShiftgymError: they are of other data, seeds or updates; the message names one.
    """
    wanted: list[dict[str, Any]] = []
    for name in (*ALONE, *using):
        path = out / short_name(name)
        if not (path / "config.json").exists():
            continue
        wanted = wanted or [describe_data(pair) | {"seed": seed} for seed in seeds]
        about = read_about(path)
        found = [{key: run.get(key) for key in wanted[0]} for run in about["runs"]]
        if found != wanted or about["config"].get("steps") != most:
            raise ShiftgymError(
                f"{path} holds a training of other data, seeds or updates: give the same, or "
                "another --out."
            )


def train(
    pair: TrainingPair,
    seeds: Sequence[int],
    most: int,
    options: TrainOptions,
    using: Sequence[str] = USING,
    configs: Mapping[str, Config] | None = None,
) -> Trials:
    """Train each method in a run directory of its own below `options.out`.

    Args:
        pair: the whole datasets, and where to evaluate.
        seeds: one per run; runs of a method train in lockstep.
        most: updates, and at most so many of each stage of pre-training.
        options: where and how; there is one evaluation, after the last update.
        using: methods that use the source.
        configs: hyperparameters by method, instead of `short`.

    Raises:
        StoppedError: a signal ended it; the same command goes on.
        ShiftgymError: from the trainings.
    """
    found: dict[str, tuple[float, ...]] = {}
    for name in (*ALONE, *using):
        config = (configs or {}).get(name) or short(name, pair.domain, most)
        out: Path = options.out / short_name(name)
        own = replace(options, out=out, evaluate_every=most)
        held = (out / "config.json").exists()
        if options.progress:
            print(f"training {name}", flush=True)
        trainer = Trainer(name, config, [pair] * len(seeds), seeds, own, held)
        if not trainer.run():
            raise StoppedError(
                f"Interrupted in the training of {name}; the same command goes on from there.",
                trainer.stop.number,
            )
        unit = "return" if pair.reference is None else "score"
        runs = trainer.result()["runs"]
        found[name] = tuple(float("nan") if r[unit] is None else float(r[unit]) for r in runs)
    unit = "return" if pair.reference is None else "score"
    return Trials(
        unit,
        {name: found[name] for name in ALONE},
        {name: values for name, values in found.items() if name not in ALONE},
    )

"""Diagnose a pair: every part in order, and the verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from shiftgym.basics.errors import DomainError
from shiftgym.basics.ranges import Count, Seed, Size, Threads, check_ranges
from shiftgym.describe import observation_names
from shiftgym.domains import Domain
from shiftgym_agents.data.pairs import TrainingPair
from shiftgym_agents.data.places import Place, slug_of
from shiftgym_agents.evaluation.diagnosis import dynamics, filters, overlap, trials, verdict, worth
from shiftgym_agents.evaluation.diagnosis.sample import Sample, draw
from shiftgym_agents.evaluation.selection import YARDSTICK, find, judges
from shiftgym_agents.training.artifacts import provenance
from shiftgym_agents.training.hardware import settle
from shiftgym_agents.training.run_config import TrainOptions, describe_data
from shiftgym_agents.training.running import Backend

Tell = Callable[[str, int, int], Any]


@dataclass(frozen=True)
class Options:
    """Say how much is done, and where."""

    out: Path = Path("runs/diagnosis")
    """Folder of the report, and of the trainings."""
    quick: bool = False
    """Look at the data alone and train no policies."""
    most: Count = 10_000
    """Updates of each model, classifier, pre-training stage and training, at most; 10,000 take
    minutes on two cores."""
    seeds: Size = 3
    """Seeds of models and trainings."""
    first_seed: Seed = 0
    """The first of them."""
    rows: Count = 10_000
    """Rows of either side that are looked at; trainings see all of them."""
    filters: tuple[str, ...] = filters.FILTERS
    """Methods that are asked which source rows they would keep; or my_file.py:MyMethod."""
    using: tuple[str, ...] = trials.USING
    """Methods that are trained with the source, beside bc and iql-target without it."""
    names: tuple[str, ...] = ()
    """What the numbers of an observation are called, in order; by default the joints of one of
    shiftgym's robots, and #0, #1, ... of another."""
    episodes: Size = 10
    """Episodes per seed after training."""
    device: str = "auto"
    """Where to train: auto (the GPU where there is one), cpu, cuda."""
    backend: Backend = "auto"
    """How updates run: captured or eager."""
    threads: Threads = 0
    """CPU threads; 0 for one per core."""
    progress: bool = True
    """Show progress bars."""

    def __post_init__(self) -> None:
        """Refuse numbers outside the ranges of their fields."""
        check_ranges(self)

    @property
    def chosen_seeds(self) -> list[int]:
        """List the seeds."""
        return [self.first_seed + k for k in range(self.seeds)]


RUNS = "runs"  # folder of the trainings
TRAININGS = "trainings"  # the part that tells of updates by itself
CLASSIFIER = 500  # updates: more learn the training half by heart
IMITATORS = 2_000
FILTERS = 2_000  # of each stage


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Hold what was found.

    Attributes:
        told: everything as JSON.
        raw: arrays that pictures are drawn of.
        verdict: the sentence.
    """

    told: dict[str, Any]
    raw: dict[str, Any] = field(repr=False)
    verdict: verdict.Verdict


@dataclass(frozen=True, eq=False)
class Work:
    """Hold what the parts of a diagnosis read, and what they fill.

    Attributes:
        pair: all of the data.
        sample: the rows that are looked at.
        names: of the coordinates.
        options: how much.
        how: device and backend.
        tell: told of updates.
        told: everything as JSON; each part adds to it.
        raw: arrays that pictures are drawn of, likewise.
    """

    pair: TrainingPair
    sample: Sample
    names: list[str]
    options: Options
    how: tuple[torch.device, Literal["eager", "captured"]]
    tell: Tell
    told: dict[str, Any] = field(default_factory=dict)
    raw: dict[str, Any] = field(default_factory=dict)


def diagnose(pair: TrainingPair, options: Options, tell: Tell | None = None) -> Diagnosis:
    """Ask whether a pair's source helps its target.

    Args:
        pair: the data, and where to evaluate; trainings are left out where that is nowhere.
        options: how much, and where.
        tell: called with a part's name, how many updates were taken just now, and how many it has;
            of trainings only that they begin.

    Raises:
        ShiftgymError: wrong data, options or folder; the message says what to change.
        StoppedError: a signal ended a training; the same call goes on.
    """
    begun = time.monotonic()
    check(pair, options)
    sample = draw(pair, options.rows)
    names = named(options.names, sample.source.obs.shape[1], pair.domain)
    where = settle(options.device, options.backend, "float32", options.threads)
    how = where.device, where.backend
    work = Work(pair, sample, names, options, how, tell or _quietly)
    told = work.told
    told |= {
        **describe_data(pair), "domain": slug_of(pair.domain), "budget": _budget(options),
        "sample": {"source_rows": len(sample.source.obs), "target_rows": len(sample.target.obs),
                   "trajectories_cut": sample.cut},
    }  # fmt: skip
    look = _overlap(work)
    found, scores = _dynamics(work, look)
    earned, gained = _worth(work)
    _filters(work, scores, look.near)
    evidence = verdict.Evidence(
        covered=look.pairs,
        compared=found.compared,
        gap=(found.called, found.value, found.low, found.high),
        coordinates=tuple(told["dynamics"]["coordinates_that_differ"]),
        elsewhere=tuple(told["dynamics"]["coordinates_elsewhere"]),
        earned=earned,
        poorer=worth.poorer(*work.raw["returns"]),
        advantage=(gained.mean, gained.low, gained.high),
    )
    tried = None
    told["data_alone"] = vars(verdict.judge(evidence))
    if pair.domain is not None and not options.quick:
        train = TrainOptions(
            out=options.out / RUNS, device=options.device, backend=options.backend,
            threads=options.threads, episodes=options.episodes, progress=options.progress,
        )  # fmt: skip
        work.tell(TRAININGS, 0, 0)
        tried = trials.train(pair, options.chosen_seeds, options.most, train, options.using)
        told["training"] = {
            "unit": tried.unit,
            "alone": {name: plain(v) for name, v in tried.alone.items()},
            "using": {name: plain(v) for name, v in tried.using.items()},
        }
    judged = verdict.judge(evidence, tried)
    told["verdict"] = vars(judged)
    told["seconds"] = round(time.monotonic() - begun, 1)
    told["provenance"] = provenance() | where.told
    return Diagnosis(told, work.raw, judged)


def check(pair: TrainingPair, options: Options) -> None:
    """Look at what is asked for before minutes are spent.

    Raises:
        DomainError: a method that scores no source rows, or one that uses none.
        ShiftgymError: the folder holds trainings of something else.
    """
    trains = not options.quick and pair.domain is not None
    for name in options.filters:
        if not judges(find(name)):
            raise DomainError(
                f"--filters {name}: it takes all source rows alike, and keeps them all."
            )
    for name in options.using if trains else ():
        if not find(name).uses_source:
            raise DomainError(f"--using {name}: it learns from the target alone.")
    if trains:
        trials.require_same(
            options.out / RUNS, pair, options.chosen_seeds, options.most, options.using
        )


def named(given: Sequence[str], size: int, where: Place = None) -> list[str]:
    """Name the coordinates: as given, else as the domain names them, else by number.

    Raises:
        DomainError: more or fewer names than coordinates.
    """
    if given and len(given) != size:
        raise DomainError(f"--names has {len(given)} names, observations are {size} numbers.")
    known = observation_names(where) if isinstance(where, Domain) else []
    return list(given) or (known if len(known) == size else [f"#{k}" for k in range(size)])


def plain(values: Any) -> list[float | None]:
    """List numbers as JSON can hold them: None for what is not finite."""
    return [float(v) if np.isfinite(v) else None for v in np.asarray(values, float)]


def _budget(options: Options) -> dict[str, Any]:
    kept = ("quick", "most", "seeds", "first_seed", "rows", "filters", "using", "episodes")
    return {name: getattr(options, name) for name in kept}


def _quietly(part: str, taken: int, total: int) -> None:
    """Tell nobody."""


def _overlap(work: Work) -> overlap.Coverage:
    """Compare states and actions."""
    source, target, options = work.sample.source, work.sample.target, work.options
    groups = source.group, target.group
    updates = min(options.most, CLASSIFIER)
    kinds = {"states": "obs", "states_and_actions": "obs_act", "transitions": "whole"}
    told: dict[str, Any] = {}
    for name, attribute in kinds.items():
        rows = getattr(source, attribute), getattr(target, attribute)
        apart = overlap.tell_apart(*rows, *groups, updates, options.first_seed)
        told[name] = apart.told()
        work.raw[name] = apart.source, apart.target
        work.tell("overlap", updates, updates * len(kinds))
    covered = overlap.cover(source, target, options.first_seed)
    work.told["overlap"] = told | covered.told()
    return covered


def _dynamics(work: Work, look: overlap.Coverage) -> tuple[dynamics.Gap, np.ndarray]:
    """Compare what follows; give the gap, and what the model makes of source rows."""
    sample, names, options = work.sample, work.names, work.options
    total = dynamics.config(options.most).model_steps
    errors, scores = dynamics.model_errors(
        sample, options.chosen_seeds, options.most, *work.how,
        lambda _, taken: work.tell("dynamics", taken, total),
    )  # fmt: skip
    weights = dynamics.weights_of(work.raw["states_and_actions"][0], look.near)
    gap = dynamics.gap(errors, sample.source.group, weights, options.first_seed)
    cost, own = dynamics.transport_cost(sample, options.first_seed)
    source, target = sample.source, sample.target
    means, largest = overlap.differences(source.obs, target.obs)
    work.told["dynamics"] = {
        "compared": gap.compared,
        "rows_worth": gap.worth,
        "gap": [gap.value, gap.low, gap.high] if gap.compared else None,
        "called": gap.called,
        "rows_that_look_foreign": gap.foreign if gap.compared else None,
        "held_out_error": float(np.sqrt((gap.unknown**2).mean())),
        "transport_cost": cost,
        "transport_cost_of_the_target_itself": own,
        "coordinates_that_differ": [n for n, c in zip(names, gap.each_called, strict=True) if c],
        "coordinates_elsewhere": [
            n for n, d in zip(names, largest, strict=True) if d > overlap.ELSEWHERE
        ],
        "coordinates": [
            {"name": name, "gap": one, "gap_low": low, "differs": bool(gap.each_called[k]),
             "held_out_error": float(gap.unknown[k]), "mean_difference": float(means[k]),
             "distribution_distance": float(largest[k])}
            for k, (name, one, low) in enumerate(
                zip(names, plain(gap.each), plain(gap.each_low), strict=True))
        ],
    }  # fmt: skip
    return gap, scores


def _worth(work: Work) -> tuple[Any, worth.Advantage]:
    """Compare returns, and the actions of both in target states."""
    pair, sample = work.pair, work.sample
    both = worth.earned(pair.source), worth.earned(pair.target)
    work.raw["returns"] = [each.returns for each in both]
    most = min(work.options.most, IMITATORS)
    gained = worth.advantage(
        sample.pair, sample.target.group, work.options.chosen_seeds, most, *work.how,
        lambda _, taken: work.tell("value", taken, 2 * most),
    )  # fmt: skip
    told: dict[str, Any] = {
        side: each.told() | {"score": None if each.mean is None else pair.score(each.mean)}
        for side, each in zip(("source", "target"), both, strict=True)
    }
    work.told["value"] = told | {"advantage_of_source_actions": vars(gained)}
    ends = [(each.mean, each.low, each.high) for each in both]
    return (None if any(None in each for each in ends) else tuple(ends)), gained


def _filters(work: Work, scores: np.ndarray, near: np.ndarray) -> None:
    """Ask methods which source rows they would keep."""
    sample, options = work.sample, work.options
    asked = filters.ask(
        options.filters, sample.pair, options.first_seed, min(options.most, FILTERS),
        options.device, options.backend,
        lambda _, taken, total: work.tell("filters", taken, total),
    )  # fmt: skip
    every = [filters.Filter(YARDSTICK, filters.HALF, scores), *asked]
    source = sample.source
    lines = []
    for each in every:
        kept = each.kept()
        line = {"name": each.name, "keep": each.keep, "near_target": float(near[kept].mean())}
        line["mean_reward"] = float(source.rewards[kept].mean())
        if len(sample.parts) > 1:
            line["kept_of_part"] = {
                name: float(kept[source.part == k].mean()) for k, name in enumerate(sample.parts)
            }
        lines.append(line)
    work.told["filters"] = {
        "mean_reward": float(source.rewards.mean()),
        "near_target": float(near.mean()),
        "each": lines,
        "rank_correlation": [plain(row) for row in filters.agreement(every)],
        "shared_half": [plain(row) for row in filters.overlaps(every)],
    }

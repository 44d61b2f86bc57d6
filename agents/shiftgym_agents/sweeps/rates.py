"""Estimate how long a plan takes here: a few updates of each kind of group are measured now.

What an update costs depends on the method, its settings, the widths of the data, the runs in
lockstep and the machine, so that no table of rates holds for long. Kinds are measured side by side,
as many at a time as groups will train, so that they share cores as those will. A group is

    its stages' updates x seconds each                 measured, in a group of as many runs
  + evaluations x steps of an episode x seconds each   measured; every episode counted as whole
  + work on source rows (transport, scores)            measured on few rows, in proportion
  + starting

and a plan is its groups, put one after the other to whichever place is free.
"""

from __future__ import annotations

import dataclasses
import heapq
import math
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.machine import usable_cpus
from shiftgym.datasets.flat import FIELDS, spaces
from shiftgym.datasets.load import find, load
from shiftgym_agents.core.agent import Agent, Stage
from shiftgym_agents.data.pairs import ArrayPair, TrainingPair
from shiftgym_agents.data.places import steps_of
from shiftgym_agents.data.sources import Arrays
from shiftgym_agents.methods.table import method
from shiftgym_agents.sweeps.backends.base import Room
from shiftgym_agents.sweeps.plan import Group, Plan, Planned
from shiftgym_agents.sweeps.sets import (
    NO_SOURCE,
    Facts,
    Library,
    is_here,
    is_plain,
    names_of,
    ours,
    read_sources,
    where_of,
)
from shiftgym_agents.sweeps.work import How
from shiftgym_agents.training.artifacts import read_json
from shiftgym_agents.training.evaluator import Evaluator
from shiftgym_agents.training.running import Running, pick_backend, pick_device

ROWS = 10_000  # of the source, when measured
SECONDS = 0.4  # at least so long are a stage's updates measured
STEPS = 40  # of the simulation, when measured
START, MAKING = 5.0, 100.0  # seconds to load and begin; to make a source of a million rows


@dataclass(frozen=True)
class Cost:
    """Hold what was measured of a kind of group.

    Attributes:
        stages: (name, updates, seconds of one update of all runs).
        step: seconds of one step of all runs' episodes.
        per_row: seconds per source row of a pair, once.
    """

    stages: Sequence[tuple[str, int, float]]
    step: float
    per_row: float


@dataclass(frozen=True)
class Estimate:
    """Hold hours: of the whole plan, and of each group alone; and how many run at a time."""

    hours: float
    groups: Mapping[str, float]
    jobs: int


def estimate(made: Plan, room: Room, how: How) -> Estimate:
    """Estimate what is left of a plan on this machine."""
    left, jobs = made.left, room.jobs or max(1, usable_cpus() // max(1, room.threads))
    kinds: dict[tuple[Any, ...], Planned] = {}
    for each in left:
        known = kinds.setdefault(_kind(each.group, made.facts), each)
        if len(each.group.runs) > len(known.group.runs):
            kinds[_kind(each.group, made.facts)] = each
    plain = [(each.group.plain(), dataclasses.asdict(how)) for each in kinds.values()]
    costs = dict(zip(kinds, _measure_all(plain, jobs), strict=True))
    seconds: dict[str, float] = {}
    for each in left:
        kind = _kind(each.group, made.facts)
        share = len(each.group.runs) / len(kinds[kind].group.runs)
        seconds[each.group.key] = _rest(each, _whole(each.group, costs[kind], share, made.facts))
    free = [0.0] * jobs
    for value in seconds.values():
        heapq.heapreplace(free, free[0] + value)
    total = max(free, default=0.0) + MAKING * len(made.missing)
    return Estimate(total / 3600, {key: value / 3600 for key, value in seconds.items()}, jobs)


def measure(given: Mapping[str, Any], how: Mapping[str, Any]) -> Cost:
    """Measure a kind of group with few updates on few rows."""
    group, options = Group.read(given, Path("group.json")), How(**how)
    device = pick_device(options.device)
    torch.set_num_threads(options.threads or usable_cpus())
    backend = pick_backend(options.updates, device)
    chosen = method(group.method)
    config = chosen.config_class(**group.config)
    source, target, _ = group.runs[0]
    if not chosen.uses_source:
        source = target
    pair = _sample(source, target) if _simple(group) else _first_rows(group, Library(_quiet))
    seeds = [seed for *_, seed in group.runs]
    fast = backend == "captured" and device.type == "cpu"
    agent: Agent[Any] = chosen(config, [pair] * len(seeds), seeds, device, fast=fast)
    stages, once = [], 0.0
    for stage in agent.stages():
        stages.append((stage.name, stage.steps, _update(agent, stage, backend)))
        began = time.perf_counter()
        if stage.finish is not None:
            stage.finish()
        once += time.perf_counter() - began
        agent.logged.clear()
    step = 0.0 if pair.domain is None else _step(agent, group, pair, options.threads)
    return Cost(stages, step, once / len(pair.source["rewards"]))


def _step(agent: Agent[Any], group: Group, pair: TrainingPair, threads: int) -> float:
    """Give the seconds of one step of all runs' episodes."""
    seeds = [seed for *_, seed in group.runs]
    evaluator = Evaluator([pair.domain] * len(seeds), seeds, group.episodes, threads)
    obs, _ = evaluator.envs.reset(seed=0)
    policy, began = agent.policy(), time.perf_counter()
    for _ in range(STEPS):
        actions = policy.act(obs.reshape(len(seeds), group.episodes, -1))
        obs, _, terminated, truncated, _ = evaluator.envs.step(actions.reshape(len(obs), -1))
        ended = terminated | truncated
        if evaluator.resets and ended.any():  # as the evaluator goes on
            obs, _ = evaluator.envs.reset(options={"reset_mask": ended})
    step = (time.perf_counter() - began) / STEPS
    evaluator.close()
    return step


def _update(agent: Agent[Any], stage: Stage, backend: Any) -> float:
    """Give the seconds of one update of a stage."""
    if not stage.steps:
        return 0.0
    running, count = Running(agent, stage, backend), 1
    running.run(2)  # warms up
    while True:
        began = time.perf_counter()
        running.run(count)
        spent = time.perf_counter() - began
        if spent > SECONDS or count >= stage.steps:
            if stage.check is not None:
                stage.check()
            return spent / count
        count = min(stage.steps, max(2 * count, int(1.2 * count * SECONDS / max(spent, 1e-6))))


def _sample(source: str, target: str) -> ArrayPair:
    """Pair the target with rows of itself, as often as needed: of its data if they are here.

    An update's time does not depend on what is in the rows.
    """
    name = find(target)
    rng = np.random.default_rng(0)
    if is_here(target):
        own: Arrays = load(name)
    else:
        obs, act = (space.shape[0] for space in spaces(name.domain))
        rows = min(name.size, ROWS)
        widths = {"observations": obs, "actions": act, "next_observations": obs}
        own = {
            key: rng.normal(size=(rows, widths[key]) if key in widths else rows).astype(np.float32)
            for key in FIELDS
        }
        own = {**own, "actions": np.tanh(own["actions"])}
        own |= {"terminated": np.zeros(rows, bool), "truncated": np.arange(rows) % 200 == 199}
        own["truncated"][-1] = True
    if source == target:
        return ArrayPair(own, own, name.domain, (NO_SOURCE, target), None)
    times = -(-ROWS // len(own["rewards"]))
    many = {key: np.concatenate([values] * times)[:ROWS] for key, values in own.items()}
    many["observations"] = many["observations"] + rng.normal(
        scale=1e-3, size=many["observations"].shape
    ).astype(np.float32)
    return ArrayPair(many, own, name.domain, (source, target), None)


def _simple(group: Group) -> bool:
    """Say whether all of a group's data are shiftgym's own, whose widths are known."""
    return all(is_plain(group.told, source, target) for source, target, _ in group.runs)


def _first_rows(group: Group, library: Library) -> TrainingPair:
    """Open a group's first pair that is here, with few rows of its source."""
    chosen = dict.fromkeys((source, target) for source, target, _ in group.runs)
    for source, target in chosen:
        known = [ours(name) is None or is_here(name) for name in names_of(source, target)]
        if not all(known):
            continue
        pair = library.open(group, source, target)
        if source == NO_SOURCE:
            return pair
        few = {key: np.array(values[:ROWS]) for key, values in pair.source.items()}
        few["truncated"][-1] |= not few["terminated"][-1]
        knowledge = {key: getattr(pair, key, None) for key in ("bounds", "terminal")}
        names = str(pair.names[0]), str(pair.names[1])
        return ArrayPair(few, pair.target, pair.domain, names, None, **knowledge)
    raise ShiftgymError(
        f"{', '.join(group.datasets)}: what training costs is measured on data that are here; make "
        "the missing sets first (shiftgym data make), or leave --dry out, which makes them."
    )


def _quiet(note: str) -> None:
    """Say nothing: planning has said it."""


def _measure_all(kinds: Sequence[tuple[Any, Any]], jobs: int) -> list[Cost]:
    """Measure kinds side by side."""
    if not kinds:
        return []
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(jobs, context) as pool:
        futures = [pool.submit(measure, *kind) for kind in kinds]
        bar = tqdm(futures, desc="measuring", unit="kind", leave=False, disable=None)
        return [future.result() for future in bar]


def _kind(group: Group, facts: Mapping[str, Facts]) -> tuple[Any, ...]:
    """Name what groups must share to cost the same per run: walker2d and halfcheetah do."""
    if _simple(group):
        widths = tuple(space.shape for space in spaces(find(group.runs[0][1]).domain))
    else:
        known = facts.get(group.runs[0][1])
        widths = group.robot, repr(sorted(group.told.items())), known and known.shape
    return group.method, repr(sorted(group.config.items())), widths, group.every, group.episodes


def _whole(group: Group, cost: Cost, share: float, facts: Mapping[str, Facts]) -> float:
    """Give a group's seconds; `share` is its runs as a part of those measured."""
    updates = sum(steps * each for _, steps, each in cost.stages) * share
    last = cost.stages[-1][1]
    steps = steps_of(where_of(group.told, group.runs[0][1]))
    simulated = math.ceil(last / group.every) * steps * cost.step * share
    pairs = {run[:2] for run in group.runs}
    rows = sum(_rows(source, facts) for source, _ in pairs)
    return START + updates + simulated + rows * cost.per_row


def _rows(source: str, facts: Mapping[str, Facts]) -> float:
    """Count the rows of a run's sources."""
    parts = zip(*read_sources(source), strict=True)
    sizes = ((facts[name].rows if name in facts else find(name).size, x) for name, x in parts)
    return sum(rows * share for rows, share in sizes)


def _rest(planned: Planned, seconds: float) -> float:
    """Take off what a begun group has done."""
    try:
        state = read_json(planned.out / "state.json")
        stages = read_json(planned.out / "started.json")["stages"]
        return seconds * (1 - state["count"] / max(1, sum(steps for _, steps in stages)))
    except (ShiftgymError, KeyError):
        return seconds

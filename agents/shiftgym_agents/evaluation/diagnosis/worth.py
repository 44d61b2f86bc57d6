"""Ask what the data earned, and whether the source's actions are any good in target states.

    returns     of the whole trajectories of either dataset
    advantage   min Q(s, b_source(s)) - min Q(s, b_target(s))   in target states s,

where b imitates either dataset, and Q are critics that IQL learned from the target data alone: in
units of the deviation of Q over the target's own rows. Critics know nothing of actions that are
far from the data; how far the two imitators act apart is told beside it. All are of the sizes of
the trainings, and read observations in deviations of the data that they learn from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from shiftgym.basics.statistics import bootstrap_interval
from shiftgym_agents.core.agent import Agent
from shiftgym_agents.data.pairs import ArrayPair
from shiftgym_agents.data.sources import Arrays, origins_of, parts_of
from shiftgym_agents.evaluation.diagnosis.trials import INPUTS, SIZES
from shiftgym_agents.methods.table import method, settings
from shiftgym_agents.training.running import run_stage

ROWS = 2_048  # target states that are asked


@dataclass(frozen=True)
class Earned:
    """Say what trajectories of a dataset earned.

    Attributes:
        rows: of the dataset.
        trajectories: that came to an end.
        mean: of their returns; None where none came to an end.
        low: lower end of its 95 % interval.
        high: upper end.
        length: mean steps.
        returns: each trajectory's, `(K,)`.
    """

    rows: int
    trajectories: int
    mean: float | None
    low: float | None
    high: float | None
    length: float | None
    returns: tuple[float, ...] = ()

    def told(self) -> dict[str, Any]:
        """Give what the report says."""
        return {k: v for k, v in vars(self).items() if k != "returns"}


def earned(arrays: Arrays) -> Earned:
    """Sum the rewards of trajectories."""
    sums: list[np.ndarray] = []
    lengths: list[np.ndarray] = []
    rows = 0
    for part in parts_of(arrays):
        trajectory = origins_of(part).trajectory
        over = np.asarray(part["terminated"], bool) | np.asarray(part["truncated"], bool)
        count = int(trajectory[-1]) + bool(over[-1])
        rows += len(over)
        sums.append(np.bincount(trajectory, np.asarray(part["rewards"], float))[:count])
        lengths.append(np.bincount(trajectory)[:count])
    returns = np.concatenate(sums)
    if not len(returns):
        return Earned(rows, 0, None, None, None, None)
    low, high = bootstrap_interval(returns)
    length = float(np.concatenate(lengths).mean())
    mean = float(returns.mean())
    return Earned(rows, len(returns), mean, low, high, length, tuple(returns.tolist()))


def poorer(one: Sequence[float], two: Sequence[float], changes: int = 10_000) -> float:
    """Give the chance that the mean of `two` is by so much above that of `one`, if they are alike.

    Returns change sides, as often as `changes` says (Fisher's permutation test, one-sided). An
    interval of five would be too narrow: what happens in one trajectory of fifty is in none.
    """
    if not len(one) or not len(two):
        return 1.0
    every, rng = np.concatenate([one, two]), np.random.default_rng(0)
    least = np.mean(two) - np.mean(one) - 1e-9 * np.abs(every).max()
    above = 0
    for _ in range(changes):
        rng.shuffle(every)
        above += every[len(one) :].mean() - every[: len(one)].mean() >= least
    return (1 + above) / (1 + changes)


@dataclass(frozen=True)
class Advantage:
    """Say how good the source's actions are in target states.

    Attributes:
        mean: over states and seeds.
        low: lower end of its 95 % interval over states and seeds.
        high: upper end.
        better: share of target states where they are better.
        apart: how far the imitators act apart, in half boxes.
    """

    mean: float
    low: float
    high: float
    better: float
    apart: float


def advantage(
    pair: ArrayPair,
    groups: np.ndarray,
    seeds: Sequence[int],
    most: int,
    device: torch.device,
    backend: Literal["eager", "captured"],
    progress: Callable[[str, int], Any] | None = None,
) -> Advantage:
    """Train critics of the target and imitators of both sides, and ask.

    Args:
        pair: drawn rows.
        groups: which stretch each target row is of, `(M,)`.
        seeds: one per training.
        most: updates of each.
        device: where to train.
        backend: how.
        progress: see `run_stage`.
    """
    other = replace(pair, source=pair.target, target=pair.source, names=pair.names[::-1])
    runs = len(seeds)
    critics = _trained("iql-target", [pair] * runs, seeds, most, device, backend, progress)
    pairs = [pair] * runs + [other] * runs
    imitators = _trained("bc", pairs, [*seeds, *seeds], most, device, backend, progress)
    count = len(pair.target["rewards"])
    picked = np.unique(np.linspace(0, count - 1, min(ROWS, count)).astype(int))
    size, acted = critics.obs_size, critics.act_size
    ours, theirs = _acts(imitators, np.asarray(pair.target["observations"])[picked])
    with torch.no_grad():
        rows = critics.data.rows_of("target", 0)[torch.from_numpy(picked).to(device)]
        obs = rows[:, :size].expand(runs, -1, -1)
        own = rows[:, size : size + acted].expand(runs, -1, -1)
        scale = critics.min_q(obs, own).std(1, keepdim=True).clamp(min=1e-6)
        gain: Tensor = (critics.min_q(obs, theirs) - critics.min_q(obs, ours)) / scale
        apart = float((ours - theirs).abs().mean())
    gains = gain[..., 0].double().cpu().numpy()
    low, high = _interval(gains, groups[picked])
    better = float((gains > 0).mean())
    return Advantage(float(gains.mean()), low, high, better, apart)


def _acts(imitators: Agent[Any], obs: np.ndarray) -> tuple[Tensor, Tensor]:
    """Give what imitators of the target and of the source do at `(N, O)`, in half boxes."""
    policy = imitators.policy()
    acts = policy.act(np.broadcast_to(obs, (len(policy.shift), *obs.shape)))
    ours, theirs = torch.from_numpy((acts - policy.center) / policy.half).float().chunk(2)
    return ours.to(imitators.device), theirs.to(imitators.device)


def _interval(gains: np.ndarray, groups: np.ndarray, resamples: int = 1_000) -> tuple[float, float]:
    """Redraw seeds and stretches, `(R, N)` and `(N,)`."""
    rng = np.random.default_rng(0)
    place = np.unique(groups, return_inverse=True)[1]
    sums = np.stack([np.bincount(place, row) for row in gains])
    sizes = np.bincount(place)
    seeds = rng.integers(len(gains), size=(resamples, len(gains)))
    stretches = rng.integers(len(sizes), size=(resamples, len(sizes)))
    means = [
        sums[s][:, g].mean(0).sum() / sizes[g].sum() for s, g in zip(seeds, stretches, strict=True)
    ]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _trained(
    name: str,
    pairs: Sequence[ArrayPair],
    seeds: Sequence[int],
    most: int,
    device: torch.device,
    backend: Literal["eager", "captured"],
    progress: Callable[[str, int], Any] | None,
) -> Agent[Any]:
    config = settings(name, pairs[0].domain, steps=most, normalize_states=INPUTS, **SIZES)
    fast = backend == "captured" and device.type == "cpu"
    agent = method(name)(config, list(pairs), list(seeds), device, fast=fast)
    for stage in agent.stages():
        run_stage(agent, stage, backend, progress=progress)
    return agent

"""Ask whether the same follows, where both datasets have been: the gap between the dynamics.

A model of the target's dynamics predicts target rows held out of its training, and source rows.
Its error on the former is what it does not know; only what it misses on source rows beyond that is
a gap:

    gap_k = sqrt( sum_i w_i e_ik^2 / sum_i w_i  /  mean_j e_jk^2 )       i: source, j: held out

for every coordinate k of the state, 1 where nothing differs. Source rows count only near to target
rows, and weigh as often as the target does what they do (w: the odds of the classifier of states
and actions), because a model errs more where it has seen little. A gap is called one where the
whole 99 % interval over stretches lies above `TOLERANCE`, or that of one coordinate, corrected for
how many there are, above `TOLERANCE_EACH`, and there are rows enough to compare.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from shiftgym_agents.components.transport import Transport, solve
from shiftgym_agents.evaluation.diagnosis.sample import Sample
from shiftgym_agents.evaluation.selection import shortened
from shiftgym_agents.evaluation.yardstick import TargetModel, TargetModelConfig
from shiftgym_agents.training.running import run_stage

TOLERANCE = 1.2  # times the held-out error, what a model may err more elsewhere
TOLERANCE_EACH = 1.5  # in one coordinate: the most that other behaviour in one domain has shown
ENOUGH = 50.0  # rows that the weighed source rows must be worth
CAP = 10.0  # largest weight of a row, as odds
RESAMPLES = 1_000
LEVEL = 99.0
FOREIGN = 0.95  # quantile of held-out errors beyond which a source row looks foreign
TRANSPORTED = 2_000  # rows


@dataclass(frozen=True, eq=False)
class Errors:
    """Hold squared errors of models of the target, in its usual changes.

    Attributes:
        held: of rows held out, `(H, O)`; each model has its own.
        groups: which model and stretch they are of, `(H,)`.
        source: of source rows, the mean over models, `(N, O)`.
    """

    held: np.ndarray = field(repr=False)
    groups: np.ndarray = field(repr=False)
    source: np.ndarray = field(repr=False)


@dataclass(frozen=True, eq=False)
class Gap:
    """Say how far dynamics differ.

    Attributes:
        value: of all coordinates, the root of the mean of squares; NaN where none can be told.
        low: lower end of its 99 % interval.
        high: upper end.
        worth: how many rows the weighed source rows are worth.
        called: whether it is called a gap.
        each: gap of each coordinate, `(O,)`.
        each_low: lower ends, `(O,)`, at 99 % of all coordinates together.
        each_called: which coordinates differ, `(O,)` bool.
        unknown: the model's held-out error, in the target's usual changes, `(O,)`: 1 for a model
            that knows nothing of a coordinate.
        foreign: share of source rows near to the target whose error is beyond 95 % of held-out
            ones: 0.05 where nothing differs.
    """

    value: float
    low: float
    high: float
    worth: float
    called: bool
    each: np.ndarray = field(repr=False)
    each_low: np.ndarray = field(repr=False)
    each_called: np.ndarray = field(repr=False)
    unknown: np.ndarray = field(repr=False)
    foreign: float

    @property
    def compared(self) -> bool:
        """Say whether there were rows enough to compare."""
        return self.worth >= ENOUGH


def config(most: int) -> TargetModelConfig:
    """Give the model's hyperparameters, with at most so many updates."""
    return shortened(TargetModel.presets["ours"], most)


def model_errors(
    sample: Sample,
    seeds: Sequence[int],
    most: int,
    device: torch.device,
    backend: Literal["eager", "captured"],
    progress: Callable[[str, int], Any] | None = None,
) -> tuple[Errors, np.ndarray]:
    """Train a model per seed, each with rows of its own held out.

    Returns:
        Its errors, and the scores of source rows that the yardstick gives, `(N,)`.
    """
    runs = len(seeds)
    fast = backend == "captured" and device.type == "cpu"
    agent = TargetModel([config(most)] * runs, [sample.pair] * runs, list(seeds), device, fast=fast)
    run_stage(agent, agent.stages()[0], backend, progress=progress)
    model = agent.model
    with torch.no_grad():
        held = (model.errors(model.held.batch()) ** 2).double().cpu().numpy()
        sweep = agent.data.sweep("source")
        parts = [(model.errors(batch) ** 2).double().mean(0) for _, batch in sweep]
        scores = agent.source_scores()
    places = model.held.places.cpu().numpy()
    stretch = sample.target.group[places] + np.arange(runs)[:, None] * (
        sample.target.group.max() + 1
    )
    found = Errors(
        held.reshape(-1, held.shape[-1]), stretch.reshape(-1), torch.cat(parts).cpu().numpy()
    )
    return found, scores.double().mean(0).cpu().numpy()


def gap(errors: Errors, groups: np.ndarray, weights: np.ndarray, seed: int = 0) -> Gap:
    """Compare errors on source rows with those held out.

    Args:
        errors: of the models.
        groups: which stretch each source row is of, `(N,)`.
        weights: of source rows, `(N,)`: 0 for rows that are not compared.
        seed: of resampling.
    """
    unknown = np.sqrt(errors.held.mean(0))
    floor = np.maximum(errors.held.mean(0), 1e-12)
    worth = float(weights.sum() ** 2 / max((weights**2).sum(), 1e-12))
    size = errors.held.shape[1]
    if worth < ENOUGH:
        blank = np.full(size, np.nan)
        none = np.zeros(size, bool)
        return Gap(np.nan, np.nan, np.nan, worth, False, blank, blank, none, unknown, np.nan)
    rng = np.random.default_rng(seed)
    top = _drawn(errors.source * weights[:, None] / floor, weights, groups, rng)
    bottom = _drawn(errors.held / floor, np.ones(len(errors.held)), errors.groups, rng)
    ratio = top / np.maximum(bottom, 1e-12)  # the first line is the data's own
    each, whole = np.sqrt(ratio), np.sqrt(ratio.mean(1))
    tail = (100 - LEVEL) / 2
    low, high = np.percentile(whole[1:], [tail, 100 - tail])
    each_low = np.percentile(each[1:], tail / size, 0)
    limit = np.quantile((errors.held / floor).mean(1), FOREIGN)
    beyond = (errors.source / floor).mean(1) > limit
    foreign = float((beyond * weights).sum() / weights.sum())
    called = each_low > TOLERANCE_EACH
    return Gap(
        float(whole[0]), float(low), float(high), worth, bool(low > TOLERANCE or called.any()),
        each[0], each_low, called, unknown, foreign,
    )  # fmt: skip


def _drawn(
    values: np.ndarray, weights: np.ndarray, groups: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Give means of values `(N, O)`, then those of groups drawn with replacement, `(1 + B, O)`."""
    place = np.unique(groups, return_inverse=True)[1]
    count = place.max() + 1
    sums = np.stack([np.bincount(place, column, count) for column in values.T], 1)
    heavy = np.bincount(place, weights, count)
    kept = heavy > 0
    sums, heavy = sums[kept], heavy[kept]
    times = rng.multinomial(len(heavy), np.full(len(heavy), 1 / len(heavy)), RESAMPLES)
    times = np.concatenate([np.ones((1, len(heavy)), int), times])
    return (times @ sums) / (times @ heavy)[:, None]


def weights_of(odds: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Weigh source rows as often as the target does what they do, from log-odds `(N,)`."""
    return np.exp(odds.clip(max=np.log(CAP))) * near


def transport_cost(sample: Sample, seed: int = 0) -> tuple[float, float]:
    """Give the mean cost of moving transitions to the target: the source's, and the target's own.

    Both are to the same half of the target's stretches, in deviations of the target: of as many
    source rows as the other half has, and of that other half itself.
    """
    rng = np.random.default_rng(seed)
    rows = sample.target.whole
    scale = rows.std(0) + 1e-6
    names = rng.permutation(np.unique(sample.target.group))
    if len(names) > 1:
        first = np.isin(sample.target.group, names[: len(names) // 2])
    else:
        first = np.arange(len(rows)) < len(rows) // 2
    there, own = (_some(rows[part] / scale, TRANSPORTED, rng) for part in (first, ~first))
    source = _some(sample.source.whole / scale, len(own), rng)
    costs = [
        -float(
            solve(torch.from_numpy(each), torch.from_numpy(there), Transport("euclidean")).mean()
        )
        for each in (source, own)
    ]
    width = float(np.sqrt(2 * rows.shape[1]))  # of unrelated rows, on average
    return costs[0] / width, costs[1] / width


def _some(rows: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    return rows[rng.permutation(len(rows))[:most]]

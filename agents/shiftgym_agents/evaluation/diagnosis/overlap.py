"""Ask whether two datasets visit the same states and actions.

A classifier learns to tell source from target rows on half of the stretches and is asked about the
other half, and the other way round. Its area under the curve on rows that it never saw is 0.5
where nothing tells them apart, and 1 where any row can be told. The test permutes which stretches
are called the target's: rows of one stretch are alike, and would make chance look sure.

Coverage is the share of target rows whose nearest source row is no farther than target rows are
from other stretches of the target, for all but a twentieth of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from shiftgym.basics.statistics import ranked
from shiftgym_agents.core.nets import Net, minimise
from shiftgym_agents.core.networks import run_generators
from shiftgym_agents.evaluation.diagnosis.sample import Side
from shiftgym_agents.evaluation.selection import auc

WIDTH, BATCH, RATE = 64, 128, 1e-3
PERMUTATIONS = 1_000
USUAL = 0.95  # share of target rows that count as near to the rest of the target
MOST = 5_000  # rows that distances are measured between
ELSEWHERE = 0.9  # distance of distribution functions that have next to nothing in common
LIMIT = 30.0  # log-odds beyond which nothing changes


@dataclass(frozen=True, eq=False)
class Apart:
    """Say how well rows are told apart.

    Attributes:
        auc: held-out area under the curve, the mean of both halves.
        p: how often chance does as well, at most.
        source: log-odds of being a target row, of every source row by the classifier that never
            saw it, `(N,)`.
        target: likewise of target rows.
    """

    auc: float
    p: float
    source: np.ndarray = field(repr=False)
    target: np.ndarray = field(repr=False)

    def told(self) -> dict[str, float]:
        """Give what the report says."""
        return {"auc": self.auc, "p": self.p}


def tell_apart(
    source: np.ndarray,
    target: np.ndarray,
    source_groups: np.ndarray,
    target_groups: np.ndarray,
    updates: int = 500,
    seed: int = 0,
) -> Apart:
    """Test whether rows `(N, D)` and `(M, D)` are of one distribution.

    Args:
        source: rows.
        target: rows.
        source_groups: which stretch each row is of; stretches count as independent.
        target_groups: likewise.
        updates: of the classifiers.
        seed: of halves, networks, batches and permutations.
    """
    rng = np.random.default_rng(seed)
    pooled = np.concatenate([source, target])
    shift, scale = pooled.mean(0), pooled.std(0) + 1e-6
    rows = [((each - shift) / scale).clip(-10, 10) for each in (source, target)]
    folds = [halves(groups, rng) for groups in (source_groups, target_groups)]
    nets = _trained(rows, folds, updates, seed, rng)
    logits: list[np.ndarray] = []
    for each, fold in zip(rows, folds, strict=True):
        with torch.no_grad():
            both = nets(torch.from_numpy(each).float().expand(2, -1, -1))[..., 0]
        own = both.clamp(-LIMIT, LIMIT).double().numpy()
        logits.append(own[fold, np.arange(len(fold))])
    areas, chances = [], []
    for k in (0, 1):
        held = [fold == k for fold in folds]
        scores = [own[h] for own, h in zip(logits, held, strict=True)]
        groups = [g[h] for g, h in zip((source_groups, target_groups), held, strict=True)]
        areas.append(auc(np.concatenate(scores), _labels(*scores)))
        chances.append(permuted(scores[0], scores[1], groups[0], groups[1], rng))
    return Apart(float(np.mean(areas)), min(1.0, 2 * min(chances)), logits[0], logits[1])


def halves(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Put whole groups into two halves at random, `(N,)` of 0 and 1; neither is empty."""
    names, place = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        return (np.arange(len(groups)) * 2 // len(groups)).astype(int)
    return (rng.permutation(len(names)) % 2)[place]


def permuted(
    source: np.ndarray,
    target: np.ndarray,
    source_groups: np.ndarray,
    target_groups: np.ndarray,
    rng: np.random.Generator,
) -> float:
    """Give how often scores of whole groups drawn at random are as high as the target's.

    Exact, whatever the scores, where groups are drawn independently from one distribution.
    """
    ranks = ranked(np.concatenate([source, target]))
    own = np.unique(source_groups, return_inverse=True)[1]
    others = np.unique(target_groups, return_inverse=True)[1] + own.max() + 1
    groups = np.concatenate([own, others])
    sums, sizes = np.bincount(groups, ranks), np.bincount(groups)
    count, foreign = len(sums), others.max() - own.max()
    picked = np.argsort(rng.random((PERMUTATIONS, count)), 1) < foreign
    picked = np.concatenate([(np.arange(count) > own.max())[None], picked])
    taken, rows = picked @ sums, picked @ sizes
    areas = (taken - rows * (rows + 1) / 2) / (rows * (sizes.sum() - rows))
    return float((areas >= areas[0] - 1e-12).mean())


def _labels(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    return np.arange(len(source) + len(target)) >= len(source)


def _trained(
    rows: list[np.ndarray],
    folds: list[np.ndarray],
    updates: int,
    seed: int,
    rng: np.random.Generator,
) -> Net:
    """Train a classifier for each half, on the rows of the other one."""
    sizes = (rows[0].shape[1], WIDTH, WIDTH, 1)
    nets = Net(sizes, run_generators([seed, seed + 1]), rate=RATE, decay_steps=updates)
    data = [torch.from_numpy(each).float() for each in rows]
    learned = [[np.flatnonzero(fold != k) for fold in folds] for k in (0, 1)]
    for _ in range(updates):
        drawn = [
            torch.cat([each[rng.choice(own, BATCH)] for each, own in zip(data, parts, strict=True)])
            for parts in learned
        ]
        logits = nets(torch.stack(drawn))[..., 0]
        losses = softplus(logits[:, :BATCH]).mean(1) + softplus(-logits[:, BATCH:]).mean(1)
        minimise(losses, nets)
    return nets


@dataclass(frozen=True, eq=False)
class Coverage:
    """Say how far two datasets cover each other.

    Attributes:
        states: share of target states that have a source state near.
        pairs: share of target states and actions that have a source row near.
        near: which source rows are near to a target row, in states and actions, `(N,)` bool.
    """

    states: float
    pairs: float
    near: np.ndarray = field(repr=False)

    def told(self) -> dict[str, float]:
        """Give what the report says."""
        found = {"target_states_covered": self.states, "target_pairs_covered": self.pairs}
        return found | {"source_rows_near": float(self.near.mean())}


def cover(source: Side, target: Side, seed: int = 0) -> Coverage:
    """Measure coverage in units of the target's deviations; at most `MOST` rows are asked."""
    rng = np.random.default_rng(seed)
    some = np.sort(rng.permutation(len(target.obs))[:MOST])
    other = np.sort(rng.permutation(len(source.obs))[: len(some)])
    found: list[float] = []
    near = np.zeros(len(source.obs), bool)
    for name in ("obs", "obs_act"):
        ours, theirs = getattr(target, name), getattr(source, name)
        scale = ours.std(0) + 1e-6
        mine, all_theirs = torch.from_numpy(ours[some] / scale), torch.from_numpy(theirs / scale)
        groups = torch.from_numpy(target.group[some])
        usual = np.quantile(nearest(mine, mine, groups, groups), USUAL)
        found.append(float((nearest(mine, all_theirs[other]) <= usual).mean()))
        near = nearest(all_theirs, mine) <= usual
    return Coverage(found[0], found[1], near)


def nearest(
    rows: Tensor, others: Tensor, own: Tensor | None = None, theirs: Tensor | None = None
) -> np.ndarray:
    """Give each row's distance to its nearest other one, of another group if groups are given."""
    found: list[Tensor] = []
    for start in range(0, len(rows), 1000):
        part = slice(start, start + 1000)
        away = torch.cdist(rows[part].float(), others.float())
        if own is not None and theirs is not None:
            away.masked_fill_(own[part][:, None] == theirs[None], torch.inf)
        found.append(away.amin(1))
    return torch.cat(found).double().numpy()


def differences(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compare columns `(N, D)` and `(M, D)`.

    Returns:
        How far the means are apart in deviations of the target, and the largest distance of the
        two distribution functions (Kolmogorov and Smirnov's), `(D,)` each.
    """
    means = (source.mean(0) - target.mean(0)) / (target.std(0) + 1e-9)
    largest = np.empty(source.shape[1])
    for k, (one, two) in enumerate(zip(source.T, target.T, strict=True)):
        one, two = np.sort(one), np.sort(two)
        at = np.concatenate([one, two])
        share = [np.searchsorted(each, at, "right") / len(each) for each in (one, two)]
        largest[k] = np.abs(share[0] - share[1]).max()
    return means, largest

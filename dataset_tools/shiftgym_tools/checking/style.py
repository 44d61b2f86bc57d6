"""Measure how the behaviour in a set moves: what it earns, how far, how smoothly, how noisily.

    returns    undiscounted, of whole episodes: those that a terminal state or the time limit ended
    length     steps of a whole episode
    speed      the robot's forward velocity as observed, mean over all rows, in m/s
    change     a' - a from step to step, root mean square over steps inside episodes and over the
               numbers of an action
    noise      what no deterministic policy explains of the actions: the root mean square of what a
               small network a = f(s), trained on four fifths of the rows, misses on the others
    saturated  share of the actions' numbers within 0.01 of a bound

Actions are in -1..1. Only NumPy is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from shiftgym.arrays import Array
from shiftgym.datasets.flat import episode_bounds
from shiftgym.domains import Domain, domain, episode_steps

FORWARD = {"hopper": 5, "walker2d": 8, "halfcheetah": 8, "ant": 13}  # where x' is observed
BOUND = 0.99
HIDDEN, EPOCHS, BATCH, STEP = 96, 80, 200, 2e-3  # of the network
DECAYS = (0.9, 0.999)  # Adam's
HELD_OUT = 5  # one row in so many
FAR = 10.0  # spreads at which a standardised observation is cut
DIGITS = 4


@dataclass(frozen=True)
class Style:
    """Hold a set's measures.

    Attributes:
        transitions: rows.
        episodes: also those that the set's end cuts.
        whole: episodes that a terminal state or the time limit ended.
        mean_return: mean return of whole episodes; None where none is whole.
        length: mean steps of whole episodes; None likewise.
        speed: m/s; None for hands, which run nowhere.
        change: root mean square of the step-to-step change of an action's numbers.
        noise: root mean square of the unexplained part of an action's numbers.
        saturated: share of the actions' numbers at a bound.
    """

    transitions: int
    episodes: int
    whole: int
    mean_return: float | None
    length: float | None
    speed: float | None
    change: float
    noise: float
    saturated: float

    def rounded(self) -> dict[str, Any]:
        """Give the measures for a JSON file."""
        return {
            key: round(value, DIGITS) if isinstance(value, float) else value
            for key, value in asdict(self).items()
        }


def measure_style(flat: Mapping[str, Array], where: str | Domain) -> Style:
    """Measure a set.

    Args:
        flat: ``observations, actions, rewards, terminated, truncated``, a row per transition;
            see :mod:`shiftgym.datasets.flat`.
        where: its domain.
    """
    of = domain(where)
    bounds = episode_bounds(dict(flat))
    lengths = np.diff(bounds)
    returns = np.add.reduceat(flat["rewards"].astype(np.float64), bounds[:-1])
    whole = flat["terminated"][bounds[1:] - 1] | (lengths >= episode_steps(of.robot))
    return Style(
        transitions=len(flat["rewards"]),
        episodes=len(lengths),
        whole=int(whole.sum()),
        mean_return=float(returns[whole].mean()) if whole.any() else None,
        length=float(lengths[whole].mean()) if whole.any() else None,
        speed=forward_speed(flat["observations"], of),
        change=action_change(flat["actions"], bounds),
        noise=unexplained(flat["observations"], flat["actions"]),
        saturated=float((np.abs(flat["actions"]) > BOUND).mean()),
    )


def forward_speed(observations: Array, of: Domain) -> float | None:
    """Give the mean observed forward velocity in m/s; None of a hand."""
    column = FORWARD.get(of.robot)
    return None if column is None else float(observations[:, column].mean(dtype=np.float64))


def action_change(actions: Array, bounds: Array) -> float:
    """Give the root mean square of a' - a over steps inside episodes and an action's numbers.

    Args:
        actions: (N, A).
        bounds: where episodes begin, and N at last, (E + 1,).
    """
    changes = np.square(np.diff(actions.astype(np.float64), axis=0))
    inside = np.ones(len(changes), dtype=bool)
    inside[bounds[1:-1] - 1] = False
    return float(np.sqrt(changes[inside].mean())) if inside.any() else 0.0


def unexplained(observations: Array, actions: Array, seed: int = 0) -> float:
    """Give the root mean square of what a network of the state misses on rows it has not seen.

    Two hidden layers of rectified units, Adam with a step that falls to 0 along a cosine. It is
    the same on every call; between processors it differs in the third digit at most.

    Args:
        observations: (N, O), N at least 5.
        actions: (N, A).
        seed: of the first weights and of the order of rows.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(actions))
    tried, known = np.split(order, [max(1, len(order) // HELD_OUT)])
    x = observations.astype(np.float32)
    x = ((x - x[known].mean(axis=0)) / (x[known].std(axis=0) + 1e-6)).clip(-FAR, FAR)
    y = actions.astype(np.float32)
    weights = _fit(x[known], y[known], rng)
    missed = _forward(weights, x[tried])[-1] - y[tried]
    return float(np.sqrt(np.mean(np.square(missed, dtype=np.float64))))


def _fit(x: Array, y: Array, rng: np.random.Generator) -> list[Array]:
    """Train the network: weights and biases of three layers, in turn."""
    sizes = (x.shape[1], HIDDEN, HIDDEN, y.shape[1])
    weights: list[Array] = []
    for width, out in zip(sizes[:-1], sizes[1:], strict=True):
        spread = np.float32(np.sqrt(2 / width))
        weights += [rng.standard_normal((width, out), np.float32) * spread]
        weights += [np.zeros(out, np.float32)]
    weights[4] *= np.float32(0.1)
    weights[5] += y.mean(axis=0)
    means, squares = ([np.zeros_like(w) for w in weights] for _ in range(2))
    starts = range(0, len(x), BATCH)
    updates = EPOCHS * len(starts)
    for update in range(updates):
        if update % len(starts) == 0:
            order = rng.permutation(len(x))
        rows = order[BATCH * (update % len(starts)) :][:BATCH]
        step = STEP * 0.5 * (1 + np.cos(np.pi * update / updates))
        corrections = [1 - decay ** (update + 1) for decay in DECAYS]
        for w, slope, mean, square in zip(
            weights, _slopes(weights, x[rows], y[rows]), means, squares, strict=True
        ):
            mean += (1 - DECAYS[0]) * (slope - mean)
            square += (1 - DECAYS[1]) * (slope * slope - square)
            w -= step / corrections[0] * mean / (np.sqrt(square / corrections[1]) + 1e-8)
    return weights


def _forward(weights: list[Array], x: Array) -> list[Array]:
    """Give the layers' outputs, the last of them the actions."""
    first = np.maximum(x @ weights[0] + weights[1], 0)
    second = np.maximum(first @ weights[2] + weights[3], 0)
    return [first, second, second @ weights[4] + weights[5]]


def _slopes(weights: list[Array], x: Array, y: Array) -> list[Array]:
    """Give the gradient of the mean squared error, in the order of the weights."""
    first, second, out = _forward(weights, x)
    back = (out - y) * np.float32(2 / y.size)
    found = [second.T @ back, back.sum(axis=0)]
    back = (back @ weights[4].T) * (second > 0)
    found = [first.T @ back, back.sum(axis=0), *found]
    back = (back @ weights[2].T) * (first > 0)
    return [x.T @ back, back.sum(axis=0), *found]

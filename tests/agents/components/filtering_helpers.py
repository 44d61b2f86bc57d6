"""Make the toy on which source rows of two kinds are told apart, and see which rows are kept."""

from __future__ import annotations

import numpy as np
from agent_helpers import nowhere
from torch import Tensor

from shiftgym_agents.data.batches import Batch
from shiftgym_agents.data.pairs import ArrayPair

ROWS = 600


def point_mass(rows: int, expert: np.ndarray, shifted: np.ndarray, seed: int) -> dict:
    """Make moves of a point in the plane: s' = s + 0.3 a, rewarded near the origin.

    Experts head for the origin, others move at random; the shift adds 0.15 to both coordinates.
    """
    rng = np.random.default_rng(seed)
    obs = rng.uniform(-1, 1, (rows, 2))
    act = np.where(expert[:, None], np.clip(-3 * obs, -1, 1), rng.uniform(-1, 1, (rows, 2)))
    after = obs + 0.3 * act + 0.15 * shifted[:, None] + 0.03 * rng.normal(size=(rows, 2))
    reward = -np.linalg.norm(after, axis=1)
    rows_of = {"observations": obs, "actions": act, "rewards": reward, "next_observations": after}
    found = {name: array.astype(np.float32) for name, array in rows_of.items()}
    nothing = np.zeros(rows, bool)
    return found | {"terminated": nothing, "truncated": nothing | (np.arange(rows) % 50 == 49)}


def two_kinds(seed: int = 0) -> ArrayPair:
    """Pair an unshifted target with a source of random unshifted and expert shifted rows.

    The second half of the source is the expert one.
    """
    late = np.arange(ROWS) >= ROWS // 2
    mixed = np.random.default_rng(seed).random(ROWS) < 0.5
    source = point_mass(ROWS, late, late, seed)
    target = point_mass(ROWS, mixed, np.zeros(ROWS, bool), seed + 1)
    return nowhere(source, target)


def firsts(batch: Batch) -> list[set[float]]:
    """Name source rows by their first observed number, per run."""
    return [set(row.tolist()) for row in batch.source.rows[..., 0]]


def top(scores: Tensor, batch: Batch, count: int) -> list[set[float]]:
    """Name the `count` source rows of highest score by sorting, per run."""
    chosen: list[set[float]] = []
    for run, row in enumerate(scores[..., 0].tolist()):
        order = sorted(range(len(row)), key=lambda i: row[i], reverse=True)[:count]
        chosen.append({float(batch.rows[run, i, 0]) for i in order})
    return chosen


def drawn(agent, updates: int = 1) -> list[Batch]:
    """Draw batches as the last stage does."""
    stage = agent.stages()[-1]
    places = agent.data.draw(agent.generators, updates, stage.source, stage.target)
    return [agent.data.batch(places[:, u], stage.source) for u in range(updates)]


def area_under_curve(above: Tensor, below: Tensor) -> float:
    """Give the chance that a number of `above` exceeds one of `below`."""
    return float((above[:, None] > below).double().mean())

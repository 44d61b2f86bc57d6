"""Make two domains whose dynamics are linear and Gaussian, so that their log-ratio is known."""

from __future__ import annotations

from typing import Any

import numpy as np
from agent_helpers import nowhere

from shiftgym_agents.data.pairs import ArrayPair

STD = 0.3


def moves(rows: int, seed: int, push: float = 0.0, lean: float = 0.0) -> dict[str, np.ndarray]:
    """Make transitions s' = s + a + push + N(0, STD^2), two numbers each, with actions leaning."""
    rng = np.random.default_rng(seed)
    obs = rng.normal(size=(rows, 2))
    act = np.tanh(0.5 * rng.normal(size=(rows, 2)) + lean)
    after = obs + act + push + STD * rng.normal(size=(rows, 2))
    found = {"observations": obs, "actions": act, "next_observations": after}
    found = {name: array.astype(np.float32) for name, array in found.items()}
    ends = np.zeros(rows, bool)
    rewards = obs[:, 0].astype(np.float32)
    return found | {"rewards": rewards, "terminated": ends, "truncated": ends}


def two_domains(rows: int = 4000, push: float = 0.0, lean: float = 0.0, **other: Any) -> ArrayPair:
    """Pair a source with a target whose moves are pushed, and whose actions lean otherwise."""
    return nowhere(moves(rows, 1), moves(rows, 2, push, lean), **other)


def true_ratio(arrays: dict[str, np.ndarray], push: float) -> np.ndarray:
    """Give log P_T(s'|s, a) - log P_S(s'|s, a) of rows, `(N,)`."""
    rest = arrays["next_observations"] - arrays["observations"] - arrays["actions"]
    return ((rest**2 - (rest - push) ** 2) / (2 * STD**2)).sum(1)

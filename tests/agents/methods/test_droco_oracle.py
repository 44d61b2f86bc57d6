"""Test DROCO's default against exact dynamic programming of the paper's operator.

Five states, two actions, and an ensemble that is known: three kernels near the target's. The source
jumps where the target does not, and some rewards are negative.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from agent_helpers import small

from shiftgym_agents.data.pairs import ArrayPair
from shiftgym_agents.kernels import native
from shiftgym_agents.methods.droco import DROCO
from shiftgym_agents.training.running import Running

STATES, GAMMA, LEVEL = 5, 0.9, 0.7
SOURCE = np.array([[1, 4], [2, 3], [0, 4], [1, 4], [4, 2]])  # next state by state and action
TARGET = np.array([[1, 2], [2, 1], [0, 1], [1, 0], [3, 2]])
OTHERS = [np.array([[2, 2], [2, 1], [1, 1], [1, 0], [4, 2]])]
OTHERS += [np.array([[1, 3], [3, 1], [0, 1], [1, 3], [3, 3]])]
MEMBERS = np.stack([TARGET, *OTHERS])
REWARD = np.array([[0.1, 0.0], [0.2, 0.1], [0.0, 0.3], [-0.6, -0.5], [1.0, 1.0]])
ROWS = {"source": [(s, a) for s in range(5) for a in range(2)]}
ROWS["target"] = [(s, a) for s in range(3) for a in range(2)]
BETAS = (0.0, 0.5, 1.0)
EYE = np.eye(STATES, dtype=np.float32)


def arrays(rows: list[tuple[int, int]], after: np.ndarray) -> dict[str, np.ndarray]:
    s, a = np.array(rows).T
    ends = np.ones(len(s), bool)
    found = {"observations": EYE[s], "actions": (2.0 * a[:, None] - 1).astype(np.float32)}
    found |= {"rewards": REWARD[s, a].astype(np.float32), "next_observations": EYE[after[s, a]]}
    return found | {"terminated": ~ends, "truncated": ends}


def expectile(x: np.ndarray, weights: np.ndarray) -> float:
    value = float(x.mean())
    for _ in range(60):
        own = np.where(x > value, LEVEL, 1 - LEVEL) * weights
        value = float((own * x).sum() / own.sum())
    return value


def solve(source: np.ndarray, beta: float, floor: float = -np.inf) -> np.ndarray:
    """Give Q of the data's robust expectile operator by dynamic programming."""
    q, v = np.zeros((STATES, 2)), np.zeros(STATES)
    shares = {side: np.zeros((STATES, 2)) for side in ROWS}
    for side, rows in ROWS.items():
        for row in rows:
            shares[side][row] = 1 / len(rows)
    total = shares["source"] + shares["target"]
    for _ in range(250):
        worst = np.maximum(v[MEMBERS].min(0), floor)
        there = v[source] - beta * np.maximum(0, v[source] - worst)
        y = REWARD + GAMMA * there, REWARD + GAMMA * v[TARGET]
        q = (shares["source"] * y[0] + shares["target"] * y[1]) / total
        v = np.array([expectile(q[s], total[s]) for s in range(STATES)])
    return q


@pytest.fixture(scope="module")
def learned() -> dict[float, np.ndarray]:
    """Train the default's critics with the known ensemble, one run for each beta."""
    try:
        native.load()
        how: dict[str, Any] = {"fast": True}
    except native.NativeUnavailableError:
        how = {}
    pair = ArrayPair(arrays(ROWS["source"], SOURCE), arrays(ROWS["target"], TARGET), None)
    sizes: dict[str, Any] = {"members": 3, "batch": 128, "width": 32, "tau": 0.05}
    sizes |= {"discount": GAMMA, "expectile": LEVEL, "learning_rate": 2e-3}
    sizes |= {"predicted_end": "never"}
    configs = [small("droco", steps=1600, beta=beta, **sizes) for beta in BETAS]
    agent = DROCO(configs, [pair] * 3, [0, 1, 2], **how)  # pyright: ignore

    def predictions(source: Any, noise: Any) -> torch.Tensor:
        s, a = source.obs.argmax(2), (source.act[..., 0] > 0).long()
        after = torch.from_numpy(MEMBERS)[:, s, a]  # (N, R, S)
        return torch.from_numpy(EYE)[after].transpose(0, 1)

    agent.predictions = predictions  # pyright: ignore[reportAttributeAccessIssue]
    Running(agent, agent.stages()[-1], "captured" if how else "eager").run(1600)
    states = torch.from_numpy(EYE).expand(3, -1, -1)
    with torch.no_grad():
        q = [
            agent.critic(torch.cat([states, torch.full((3, STATES, 1), a)], 2)).mean(1)[..., 0]
            for a in (-1.0, 1.0)
        ]
    return dict(zip(BETAS, torch.stack(q, 2).numpy(), strict=True))


@pytest.mark.parametrize("beta", BETAS)
def test_default_learns_the_papers_fixed_point(learned: Any, beta: float) -> None:
    exact = solve(SOURCE, beta)
    assert np.abs(learned[beta] - exact).max() < 0.15 < 0.15 * np.abs(exact).max()


@pytest.mark.parametrize("beta", BETAS)
def test_floor_at_what_rewards_allow_moves_no_fixed_point(beta: float) -> None:
    least = REWARD.min() / (1 - GAMMA)
    assert np.array_equal(solve(SOURCE, beta), solve(SOURCE, beta, least))
    floor = min(solve(SOURCE, beta).max(1)[TARGET[row]] for row in ROWS["target"])
    lifted = solve(SOURCE, beta, float(floor))  # at states that target rows lead to
    assert beta == 0 or np.abs(lifted - solve(SOURCE, beta)).max() > 0.1


def test_no_value_is_above_the_targets_own_where_the_ball_covers_it(learned: Any) -> None:
    """Proposition 4.4: at beta 1, with the target's kernel among the members."""
    own = solve(TARGET, 0.0)
    assert (solve(SOURCE, 1.0) <= own + 1e-9).all()
    assert (learned[1.0] <= own + 0.15).all()
    assert (solve(SOURCE, 0.0) > own + 0.5).any()  # without beta it is far above

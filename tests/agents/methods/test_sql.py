"""Test sparse Q-learning: closed forms of its value, what it imitates, its presets."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from agent_helpers import make_agent, make_arrays, make_pair, small
from torch import Tensor

from shiftgym_agents.core.losses import sparse_errors, sparse_weights
from shiftgym_agents.data.pairs import ArrayPair
from shiftgym_agents.methods.sql import SQL, norm_relu
from shiftgym_agents.training.running import Running


def best_value(q: Tensor, alpha: float) -> Tensor:
    """Find where the loss of states with equally likely actions `(S, n)` has gradient zero."""
    low, high = q.min(1).values - 2 * alpha, q.max(1).values
    for _ in range(60):
        v = ((low + high) / 2).requires_grad_()
        loss = sparse_errors(q, v[:, None].expand_as(q), alpha).mean(1)
        (slope,) = torch.autograd.grad(loss.sum(), v)
        v = v.detach()
        low, high = torch.where(slope < 0, v, low), torch.where(slope < 0, high, v)
    return (low + high) / 2


def values(states: int = 6, actions: int = 9) -> Tensor:
    return torch.randn(states, actions, generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize("alpha", [0.01, 0.1, 1.0, 10.0])
def test_weights_average_to_one_at_the_optimum_of_every_state(alpha: float) -> None:
    q = values()
    weights = sparse_weights(q - best_value(q, alpha)[:, None], alpha)
    torch.testing.assert_close(weights.mean(1), torch.ones(6).double(), atol=1e-6, rtol=0)


def test_slope_of_the_value_is_one_minus_the_mean_weight_over_alpha() -> None:
    q, alpha = values(), 0.3
    v = torch.linspace(-1, 1, 6, dtype=torch.float64).requires_grad_()
    loss = sparse_errors(q, v[:, None].expand_as(q), alpha).mean(1)
    (slope,) = torch.autograd.grad(loss.sum(), v)
    expected = (1 - sparse_weights(q - v[:, None], alpha).mean(1)) / alpha
    torch.testing.assert_close(slope, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.25, 0.4, 3.0])
def test_value_of_two_equally_likely_outcomes(alpha: float) -> None:
    found = best_value(torch.tensor([[0.0, 1.0]], dtype=torch.float64), alpha)
    assert abs(float(found) - max(1 - 2 * alpha, 0.5)) < 1e-9


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_value_when_only_the_upper_outcomes_count(share: float) -> None:
    q = (torch.arange(20) >= 20 * (1 - share)).double()[None]
    alpha = 0.04
    assert abs(float(best_value(q, alpha)) - (1 - 2 * alpha * (1 / share - 1))) < 1e-9


def test_value_goes_from_the_mean_to_the_best_action() -> None:
    q = values()
    torch.testing.assert_close(best_value(q, 100.0), q.mean(1), atol=1e-12, rtol=0)
    torch.testing.assert_close(best_value(q, 1e-4), q.max(1).values, atol=2e-3, rtol=0)
    found = torch.stack([best_value(q, alpha) for alpha in (1e-3, 0.03, 0.3, 3.0)])
    assert (found.diff(dim=0) < 1e-9).all()


@pytest.mark.parametrize("shape", [(2, 8), (8, 1), (1, 8, 1), (2, 8, 8)])
def test_values_that_would_broadcast_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        sparse_errors(torch.ones(2, 8, 1), torch.ones(shape), 0.1)


def bandit() -> ArrayPair:
    """Make one state where the first action's sign decides between rewards 1 and 0."""
    arrays = make_arrays(400, 0)
    good = arrays["actions"][:, 0] > np.median(arrays["actions"][:, 0])
    arrays["actions"] = np.where(good[:, None], 0.8, -0.8).repeat(3, 1).astype(np.float32)
    arrays["observations"] = np.ones_like(arrays["observations"])
    arrays["rewards"] = good.astype(np.float32)
    arrays["terminated"] = np.ones(400, bool)
    return dataclasses.replace(make_pair(), source=arrays, target=arrays)


@pytest.mark.parametrize("policy_weight", ["advantage", "sparse"])
def test_agent_finds_the_closed_form_and_imitates_the_better_action(policy_weight: str) -> None:
    changes = dict(learning_rate=3e-3, tau=0.1, batch=64, policy_weight=policy_weight)
    agent = make_agent("sql", small("sql", steps=500, **changes), pairs=[bandit()])
    assert isinstance(agent, SQL)
    running = Running(agent, agent.stages()[-1], "eager")
    running.run(400)
    agent.logged.clear()
    running.run(100)
    batch = agent.data.batch(torch.arange(200)[None], 0)
    with torch.no_grad():
        assert abs(float(agent.value(batch.obs).mean()) - 0.8) < 0.06
        acted = torch.tanh(agent.actor(batch.obs)[..., :3])
    assert abs(float(agent.logged["sparse_weight"]) / 100 - 1) < 0.1
    assert float(acted.min()) > 0.5


def test_actor_weighs_rows_by_the_clipped_advantage_or_the_density_ratio() -> None:
    advantage = torch.tensor([-3.0, -0.1, 0.0, 2.0, 500.0]).double()[None, :, None]
    found: dict[str, Tensor] = {}
    for kind in ("advantage", "sparse"):
        config = small("sql", policy_weight=kind)
        agent = make_agent("sql", config, runs=1, dtype=torch.float64)
        assert isinstance(agent, SQL)

        def note(imitation: Tensor, weights: Tensor, kind: str = kind) -> Tensor:
            found[kind] = weights
            return (imitation * weights).mean((1, 2))

        agent.actor_loss = note
        agent.update_actor(agent.data.batch(torch.arange(5)[None], 2), advantage, {})
    assert found["advantage"].flatten().tolist() == [0, 0, 0, 2, 100]
    expected = torch.tensor([0.0, 0.5, 1.0, 11.0, 2501.0]).double()
    torch.testing.assert_close(found["sparse"].flatten(), expected)


def test_layers_of_the_official_value_are_normalised() -> None:
    agent = make_agent("sql", dataclasses.replace(SQL.presets["official"], width=32))
    assert isinstance(agent, SQL)
    assert agent.value.activation is norm_relu and agent.critic.activation is torch.relu
    x = torch.randn(3, 4, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(norm_relu(5 * x + 2), norm_relu(x), atol=1e-4, rtol=0)


def test_presets_say_where_they_differ() -> None:
    ours, paper, official = (SQL.presets[name] for name in ("ours", "paper", "official"))
    assert (ours.alpha, paper.alpha, official.alpha) == (0.1, 1.0, 1.0)
    assert paper.policy_weight == "sparse" and official.policy_weight == "advantage"
    assert ours.normalize_reward == "none" and official.normalize_reward == "returns"

"""Test CQL against a plain implementation, and its penalty against closed forms and true values."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

import pytest
import torch
from agent_helpers import (
    ACT,
    distance,
    draw,
    draws,
    make_agent,
    make_arrays,
    make_pair,
    plain_net,
    small,
)
from test_td3bc import assert_same
from torch import nn
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.methods.cql import CQL, CQLConfig, overrated, squashed

ROWS = 16


def prepared(runs: int = 1, dtype: torch.dtype = torch.float64, **values: Any) -> CQL:
    pairs = values.pop("pairs", None)
    config = small("cql", **({"penalty_rows": 3, "candidates": 4} | values))
    agent = make_agent("cql", config, runs=runs, dtype=dtype, pairs=pairs)
    assert isinstance(agent, CQL)
    return agent


def test_default_candidates_miss_no_more_of_the_integral_than_published_ones() -> None:
    """Compare with quadrature: Q has one peak in six dimensions, the policy is broad."""
    size, count = 6, 4000
    grid = torch.linspace(-1, 1, 2001).double()
    one = torch.trapezoid(torch.exp(-5 * (grid - 0.5) ** 2), grid)
    exact, generator = size * float(one.log()), torch.Generator().manual_seed(0)

    def bias(candidates: int) -> float:
        shape = (count, candidates, size)
        anywhere = 2 * torch.rand(shape, generator=generator).double() - 1
        parts = [(anywhere, torch.full((count, candidates, 1), -size * math.log(2)).double())]
        mean, log_std = torch.zeros(shape).double(), torch.full(shape, math.log(0.3)).double()
        for _ in range(2):
            noise = torch.randn(shape, generator=generator).double()
            parts.append(squashed(mean, log_std, noise))
        actions, log_density = (torch.cat(each, 1) for each in zip(*parts, strict=True))
        q = -5 * ((actions - 0.5) ** 2).sum(2)
        gap = overrated(q, log_density[..., 0], torch.zeros(count, 1))
        return float(gap.mean()) - math.log(3 * candidates) - exact

    default = bias(CQLConfig().candidates)
    assert CQLConfig().candidates == CQL.presets["official"].candidates
    assert -2.5 < default < 0 and bias(1) < 2 * default


def squashed_normal(mean: torch.Tensor, log_std: torch.Tensor) -> TransformedDistribution:
    normal = Normal(mean, log_std.exp())
    squash = Independent(TransformedDistribution(normal, TanhTransform(cache_size=1)), 1)
    return squash  # pyright: ignore


@pytest.mark.parametrize(("penalty", "penalty_rows"), [(0.0, 1), (5.0, 3), (5.0, 0)])
def test_five_steps_equal_a_plain_implementation(penalty: float, penalty_rows: int) -> None:
    """At penalty 0 this is soft actor-critic."""
    values = {"penalty_rows": penalty_rows, "candidates": 2, "actor_rate": 1e-3}
    agent = prepared(penalty=penalty, **values)
    batches = draws(agent, 5)
    actor, critics = plain_net(agent.actor), [plain_net(agent.critic, j) for j in range(2)]
    lazy = copy.deepcopy(critics)
    log_weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    spread = nn.Parameter(torch.tensor([1.0, -1.0], dtype=torch.float64))
    by_entropy = torch.optim.Adam([log_weight], 1e-3)
    by_actor = torch.optim.Adam([*actor.parameters(), spread], 1e-3)
    by_critics = torch.optim.Adam([p for c in critics for p in c.parameters()], 3e-4)

    def policy(s: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, raw = actor(s).chunk(2, 1)
        return mean, (spread[0] * raw + spread[1]).clip(-20, 2)

    rows = penalty_rows or ROWS
    some = [*range(rows), *range(ROWS, ROWS + rows)]
    for batch, noise in batches:
        s, a, s2 = batch.obs[0], batch.act[0], batch.next_obs[0]
        mean, log_std = policy(s)
        action = torch.tanh(mean + log_std.exp() * noise["now"][0])
        log_prob = squashed_normal(mean, log_std).log_prob(action)
        weight = log_weight.exp().detach()
        entropy_loss = -(log_weight * (log_prob.detach() - ACT)).mean()
        q = torch.minimum(*(c(torch.cat([s, action], 1)) for c in critics))[:, 0]
        actor_loss = (weight * log_prob - q).mean()
        with torch.no_grad():
            after = policy(s2)
            a2 = torch.tanh(after[0] + after[1].exp() * noise["next"][0])
            worst = torch.minimum(*(c(torch.cat([s2, a2], 1)) for c in lazy))
            y = batch.reward[0] + 0.99 * (1 - batch.terminated[0]) * worst
        critic_loss: Any = 0.0
        for critic in critics:
            own = critic(torch.cat([s, a], 1))
            critic_loss = critic_loss + nn.functional.mse_loss(own, y)
            gaps: list[torch.Tensor] = []
            for place, row in enumerate(some):
                terms: list[torch.Tensor] = []
                for candidate in 2 * noise["candidates_anywhere"][0, place] - 1:
                    value = critic(torch.cat([s[row], candidate]))
                    terms.append(value - ACT * math.log(0.5))
                for of, name in (((mean, log_std), ""), (after, "next_")):
                    here = of[0][row].detach(), of[1][row].detach()
                    for xi in noise[f"{name}candidates"][0, place]:
                        candidate = torch.tanh(here[0] + here[1].exp() * xi)
                        value = critic(torch.cat([s[row], candidate]))
                        terms.append(value - squashed_normal(*here).log_prob(candidate))
                gaps.append(torch.logsumexp(torch.cat(terms), 0) - own[row, 0])
            critic_loss = critic_loss + penalty * torch.stack(gaps).mean()
        for optimiser, loss in (
            (by_entropy, entropy_loss),
            (by_actor, actor_loss),
            (by_critics, critic_loss),
        ):
            optimiser.zero_grad()
            owned = [p for group in optimiser.param_groups for p in group["params"]]
            for p, g in zip(
                owned, torch.autograd.grad(loss, owned, retain_graph=True), strict=True
            ):  # pyright: ignore
                p.grad = g
        for optimiser in (by_entropy, by_actor, by_critics):
            optimiser.step()
        for net, late in zip(critics, lazy, strict=True):
            for p, p_late in zip(net.parameters(), late.parameters(), strict=True):
                p_late.data.copy_(0.005 * p.data + 0.995 * p_late.data)
        agent.update(batch, noise)
    assert_same(agent.actor, actor)
    for j in range(2):
        assert_same(agent.critic, critics[j], j)
        assert_same(agent.critic_copy, lazy[j], j)
    torch.testing.assert_close(agent.spread.rows[0], spread.data)
    torch.testing.assert_close(agent.log_entropy_weight.rows[0], log_weight.data)


# --- the penalty ----------------------------------------------------------------------------------


def test_density_of_squashed_actions_is_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, log_std, noise = torch.randn(3, 50, ACT, generator=generator).double()
    action, log_density = squashed(mean, log_std, noise)
    expected = squashed_normal(mean, log_std).log_prob(action)
    torch.testing.assert_close(log_density[:, 0], expected, rtol=1e-6, atol=1e-6)
    far, log_far = squashed(mean + 40, log_std, noise)  # tanh is 1 there, its slope not quite 0
    assert torch.isfinite(log_far).all() and torch.equal(far, torch.ones_like(far))


def test_a_constant_critic_is_overrated_by_the_sum_of_inverse_densities() -> None:
    generator = torch.Generator().manual_seed(0)
    log_density = torch.randn(6, 30, generator=generator).double()
    q = torch.full((6, 1), -3.7).double()
    found = overrated(q.expand(6, 30), log_density, q)[:, 0]
    torch.testing.assert_close(found, (1 / log_density.exp()).sum(1).log())
    shifted = overrated(q.expand(6, 30) + 123.0, log_density, q + 123.0)[:, 0]
    torch.testing.assert_close(shifted, found)


def test_data_actions_are_pulled_up_by_exactly_their_share() -> None:
    q = torch.randn(1, 2, 8, 1, generator=torch.Generator().manual_seed(0)).requires_grad_()
    others = torch.randn(1, 2, 8, 30)
    gap = overrated(others, torch.zeros(1, 1, 8, 30), q)
    (10.0 * 2 * gap.flatten(1).mean(1)).sum().backward()  # as `update_critics` sums both critics
    assert q.grad is not None
    torch.testing.assert_close(q.grad, torch.full_like(q, -10 / 8))


def test_penalty_is_that_of_the_first_rows_of_each_dataset() -> None:
    agent = prepared(penalty_rows=4, batch=ROWS)
    batch, _ = draw(agent)
    kept = agent.some(batch.obs)
    expected = torch.cat([batch.source.obs[:, :4], batch.target.obs[:, :4]], 1)
    assert torch.equal(kept, expected)  # of rows drawn at random, the first are a random draw
    assert torch.equal(agent.some(batch.obs[:, None])[:, 0], expected)
    assert [prepared(penalty_rows=rows).penalised for rows in (0, 5, 99)] == [ROWS, 5, ROWS]
    with pytest.raises(ShiftgymError, match="penalty_rows must be"):
        prepared(penalty_rows=-1)


@pytest.mark.parametrize("penalty", [0.1, 1.0, 10.0])
def test_fixed_point_of_a_table_stays_below_the_truth_where_it_acts(penalty: float) -> None:
    """Of sum_a b (Q - r)^2 + penalty (log sum exp Q - sum_a b Q): Q = r - penalty/2 (p/b - 1).

    p is the softmax of Q, b how often the data take each action, and r the true values.
    """
    generator = torch.Generator().manual_seed(0)
    behaviour = torch.softmax(torch.randn(6, generator=generator).double(), 0)
    reward = torch.randn(6, generator=generator).double()
    q = torch.zeros(6).double().requires_grad_()
    for _ in range(1500):
        gap = overrated(q.view(1, 6), torch.zeros(1, 6), (behaviour * q).sum().view(1, 1))
        loss = (behaviour * (q - reward) ** 2).sum() + penalty * gap.sum()
        q.data.sub_(0.2 * torch.autograd.grad(loss, q)[0])
    q = q.detach()
    acts = torch.softmax(q, 0)
    torch.testing.assert_close(q, reward - penalty / 2 * (acts / behaviour - 1), rtol=0, atol=1e-4)
    assert float((acts * q).sum()) < float((acts * reward).sum())


# --- both datasets --------------------------------------------------------------------------------


def test_rows_of_both_datasets_are_treated_alike() -> None:
    """Trained on two copies of a dataset, it is CQL on one with batches twice as large."""
    arrays = make_arrays(300, 0)
    pair = dataclasses.replace(make_pair(), source=arrays, target=arrays)
    agents = [prepared(pairs=[pair], penalty_rows=0) for _ in range(2)]
    for batch, noise in draws(agents[0], 5):
        flipped = {name: values.flip(1) for name, values in noise.items()}
        places = torch.arange(2 * ROWS - 1, -1, -1)[None]
        agents[0].update(batch, noise)
        agents[1].update(batch.take(places, ROWS), flipped)
    assert distance(agents[0].tensors(), agents[1].tensors()) < 1e-9


def test_presets_are_those_published() -> None:
    for name, penalty in (("paper", 5.0), ("official", 10.0)):
        config = CQL.presets[name]
        assert (config.penalty, config.layers, config.candidates) == (penalty, 3, 10)
        assert config.penalty_rows == 0 and config.actor_rate == 3e-5
        hand = config.for_robot("door")
        assert (hand.penalty, hand.actor_rate) == (1.0, 1e-4)
    agent = prepared(layers=3, penalty_rows=0)
    assert agent.actor.sizes == (11, 32, 32, 32, 6) and agent.critic.sizes == (14, 32, 32, 32, 1)
    assert agent.penalised == ROWS
    values = agent.critic(draw(agent)[0].obs_act)
    assert float(values.detach().abs().max()) < 0.1  # the last layer starts at a hundredth

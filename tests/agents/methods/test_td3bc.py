"""Test TD3 and TD3+BC against a plain implementation, their limits, and the delayed update."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from agent_helpers import (
    ACT,
    OBS,
    distance,
    draw,
    draws,
    make_agent,
    make_arrays,
    make_pair,
    plain_net,
    small,
)
from torch import nn

from shiftgym_agents.core.losses import weighted_mean
from shiftgym_agents.core.nets import Net, Parameter
from shiftgym_agents.data.batches import Batch
from shiftgym_agents.methods.td3 import only_where, scale_free
from shiftgym_agents.methods.td3bc import TD3BC
from shiftgym_agents.training.running import Running


def prepared(runs: int = 1, **values: Any) -> TD3BC:
    agent = make_agent("td3bc", small("td3bc", **values), runs=runs, dtype=torch.float64)
    assert isinstance(agent, TD3BC)
    return agent


def assert_same(ours: Net, theirs: Any, copy: int = 0) -> None:
    for (weight, bias), layer in zip(ours.layers(), theirs[::2], strict=True):
        torch.testing.assert_close(weight[copy], layer.weight.T, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(bias[copy, 0], layer.bias, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"policy_delay": 3, "actor_q": "min"},
        {"target_actor": False, "policy_delay": 1, "smoothing": 0.0},
    ],
)
def test_twelve_steps_equal_a_plain_implementation(values: dict[str, Any]) -> None:
    agent = prepared(**values)
    config, batches = agent.config, draws(agent, 12)
    actor, critics = plain_net(agent.actor), [plain_net(agent.critic, j) for j in range(2)]
    lazy_actor, lazy = copy.deepcopy(actor), copy.deepcopy(critics)
    by_critics = torch.optim.Adam([p for c in critics for p in c.parameters()], 3e-4)
    by_actor = torch.optim.Adam(actor.parameters(), 3e-4)
    for u, (batch, noise) in enumerate(batches, 1):
        s, a, s2 = batch.obs[0], batch.act[0], batch.next_obs[0]
        with torch.no_grad():
            a2 = torch.tanh((lazy_actor if config.target_actor else actor)(s2))
            if config.smoothing:
                a2 = (a2 + (0.2 * noise["smoothing"][0]).clip(-0.5, 0.5)).clip(-1, 1)
            worst = torch.minimum(*(c(torch.cat([s2, a2], 1)) for c in lazy))
            y = batch.reward[0] + 0.99 * (1 - batch.terminated[0]) * worst
        loss = sum(nn.functional.mse_loss(c(torch.cat([s, a], 1)), y) for c in critics)
        by_critics.zero_grad()
        loss.backward()  # pyright: ignore
        by_critics.step()
        if u % config.policy_delay:
            continue
        pi = torch.tanh(actor(s))
        q = [c(torch.cat([s, pi], 1)) for c in critics]
        q = q[0] if config.actor_q == "first" else torch.minimum(*q)
        loss = -2.5 * q.mean() / q.abs().mean().detach() + nn.functional.mse_loss(pi, a)
        by_actor.zero_grad()
        loss.backward()
        by_actor.step()
        for net, late in zip([actor, *critics], [lazy_actor, *lazy], strict=True):
            for p, q in zip(net.parameters(), late.parameters(), strict=True):
                q.data.copy_(0.005 * p.data + 0.995 * q.data)
    for batch, noise in batches:
        agent.update(batch, noise)
    assert_same(agent.actor, actor)
    for j in range(2):
        assert_same(agent.critic, critics[j], j)
        assert_same(agent.critic_copy, lazy[j], j)
    if config.target_actor:
        assert_same(agent.next_actor, lazy_actor)


def actor_gradient(agent: TD3BC, batch: Batch) -> torch.Tensor:
    loss = agent.actor_loss(batch, torch.tanh(agent.actor(batch.obs)), {})
    return torch.autograd.grad(loss.sum(), agent.actor.rows)[0]


def test_weight_zero_is_imitation() -> None:
    agent = prepared(runs=2, weight=0.0)
    batch, _ = draw(agent)
    imitation = weighted_mean((torch.tanh(agent.actor(batch.obs)) - batch.act) ** 2)
    expected = torch.autograd.grad(imitation.sum(), agent.actor.rows)[0]
    torch.testing.assert_close(actor_gradient(agent, batch), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("factor", [1e-3, 7.0, 1e4])
def test_the_scale_of_the_critic_does_not_matter(factor: float) -> None:
    agent = prepared(runs=2)
    batch, _ = draw(agent)
    before = actor_gradient(agent, batch)
    with torch.no_grad():
        for part in agent.critic.layers()[-1]:
            part.mul_(factor)
    torch.testing.assert_close(actor_gradient(agent, batch), before, rtol=1e-9, atol=1e-12)
    q = torch.randn(3, 8, 1, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(scale_free(factor * q), scale_free(q))


def test_update_that_undoes_itself_equals_the_one_that_does_not_run() -> None:
    """A graph on a GPU takes the actor's step every time and undoes it; the CPU leaves it out."""
    agents = [prepared(runs=2, policy_delay=3) for _ in range(2)]
    batches = draws(agents[0], 10)
    for u, (batch, noise) in enumerate(batches, 1):
        agents[0].update(batch, noise)
        agents[1].device = torch.device("cuda")  # what `update` asks to know which it is on
        agents[1].update(batch, noise)
        assert int(agents[1].actor.state["steps"]) == u // 3
    assert distance(agents[0].tensors(), agents[1].tensors()) == 0
    torch.testing.assert_close(agents[0].logged["actor_loss"], agents[1].logged["actor_loss"])


@pytest.mark.parametrize("due", [False, True])
def test_what_is_not_due_is_undone_even_if_it_is_not_a_number(due: bool) -> None:
    parameter = Parameter(torch.ones(2, 3), 1e-2)
    with only_where(torch.tensor([due]), parameter):
        parameter.descend(torch.full((2, 3), torch.nan))
    assert bool(parameter.rows.isnan().any()) == due
    assert float(parameter.state["steps"]) == due


@pytest.mark.parametrize(("terminal", "expected"), [(False, 10.0), (True, 1.0)])
def test_endless_reward_is_summed_and_an_end_stops_it(terminal: bool, expected: float) -> None:
    arrays = make_arrays(200, 0)
    arrays["rewards"] = np.ones(200, np.float32)
    arrays["terminated"], arrays["truncated"] = np.full(200, terminal), np.full(200, not terminal)
    arrays["next_observations"] = np.roll(arrays["observations"], 1, 0)
    pair = dataclasses.replace(make_pair(), source=arrays, target=arrays)
    values: dict[str, Any] = {"discount": 0.9, "learning_rate": 3e-3, "tau": 0.2, "weight": 0.0}
    plain: dict[str, Any] = {"smoothing": 0.0, "policy_delay": 1}
    agent = make_agent("td3bc", small("td3bc", **values, **plain), pairs=[pair])
    assert isinstance(agent, TD3BC)
    running = Running(agent, agent.stages()[-1], "eager")
    for _ in range(12):
        running.run(50)
    q = agent.critic(agent.data.batch(torch.arange(100)[None], 0).obs_act).detach()
    assert abs(float(q.mean()) - expected) < 0.1 * expected  # the lower of two is a little low


def test_official_preset_leaves_out_what_td3_added() -> None:
    values = vars(TD3BC.presets["official"])
    kept = ("smoothing", "policy_delay", "target_actor", "actor_q", "normalize_states")
    official = prepared(**{name: values[name] for name in kept})
    ours = prepared()
    assert "actor_copy" in ours.parameters and "actor_copy" not in official.parameters
    assert not official.noise_shapes() and ours.noise_shapes()
    batch, noise = draw(official)
    official.update(batch, noise)
    assert int(official.actor.state["steps"]) == 1  # no delay
    raw = np.concatenate([official.data.rows_of(s, 0)[:, :OBS] for s in ("source", "target")])
    pair = make_pair()
    seen = np.concatenate([pair.source["observations"], pair.target["observations"]])
    np.testing.assert_allclose(raw, seen, rtol=1e-6)
    scaled = np.concatenate([ours.data.rows_of(s, 0)[:, :OBS] for s in ("source", "target")])
    twice = np.concatenate([seen[:400], seen[400:], seen[400:]])  # both datasets weigh half
    np.testing.assert_allclose(scaled, (seen - twice.mean(0)) / (twice.std(0) + 1e-3), atol=1e-5)
    action = torch.zeros(1, 32, ACT).double()
    both = official.critic(torch.cat([batch.obs, action], 2))
    assert torch.equal(official.action_values(batch.obs, action), torch.minimum(*both.unbind(1)))
    first = ours.critic(torch.cat([batch.obs, action], 2))[:, 0]
    assert torch.equal(ours.action_values(batch.obs, action), first)

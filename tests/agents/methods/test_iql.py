"""Test IQL against a plain implementation and oracles, and its guards."""

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
    make_agent,
    make_arrays,
    make_pair,
    plain_net,
    small,
    weights,
)
from torch import nn

from shiftgym_agents.core.losses import advantage_weights, expectile, huber, weighted_mean
from shiftgym_agents.core.nets import Net, Parameter, copy_net, minimise
from shiftgym_agents.core.networks import run_generators
from shiftgym_agents.data.batches import Batch, Data
from shiftgym_agents.data.pairs import ArrayPair
from shiftgym_agents.methods.iql import IQL, IQLConfig
from shiftgym_agents.methods.table import settings
from shiftgym_agents.training.running import Running

# --- against a plain implementation ---------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"advantage": "new_v"},
        {"bootstrap_v": "old"},
        {"bc_reduce": "sum"},
        {"policy_head": "gaussian"},
    ],
)
def test_ten_steps_equal_a_plain_implementation(options: dict[str, str]) -> None:
    config = dataclasses.replace(small("iql", steps=10), **options)
    agent = IQL(config, [make_pair()], [0], dtype=torch.float64)  # pyright: ignore
    value, actor = plain_net(agent.value), plain_net(agent.actor)
    critics = [plain_net(agent.critic, j) for j in range(2)]
    targets = [copy.deepcopy(critic) for critic in critics]
    log_std = nn.Parameter(torch.zeros(ACT, dtype=torch.float64))
    steps = [torch.optim.Adam(value.parameters(), 3e-4)]
    steps.append(torch.optim.Adam([p for c in critics for p in c.parameters()], 3e-4))
    policy = [*actor.parameters()] + ([log_std] if "policy_head" in options else [])
    steps.append(torch.optim.Adam(policy, 3e-4))
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(steps[2], 10)
    running = Running(agent, agent.stages()[-1], "eager")
    states = [g.get_state() for g in agent.generators]
    drawn = running.draw(10)
    for generator, state in zip(agent.generators, states, strict=True):
        generator.set_state(state)
    for u in range(10):
        batch = agent.data.batch(drawn[""][:, u], 16)
        s, a, s2 = batch.obs[0], batch.act[0], batch.next_obs[0]
        r, d = batch.reward[0, :, 0], batch.terminated[0, :, 0]
        sa = torch.cat([s, a], 1)
        with torch.no_grad():
            best = torch.minimum(targets[0](sa), targets[1](sa))[:, 0]
            before = value(s2)[:, 0]
        advantage = best - value(s)[:, 0]
        loss = torch.where(advantage < 0, 0.3, 0.7) * advantage.square()
        steps[0].zero_grad()
        loss.mean().backward()
        steps[0].step()
        with torch.no_grad():
            after = before if options.get("bootstrap_v") == "old" else value(s2)[:, 0]
            y = r + 0.99 * (1 - d) * after
            if options.get("advantage") == "new_v":
                advantage = best - value(s)[:, 0]
        steps[1].zero_grad()
        sum(nn.functional.mse_loss(c(sa)[:, 0], y) for c in critics).backward()  # pyright: ignore
        steps[1].step()
        for critic, target in zip(critics, targets, strict=True):
            for p, q in zip(critic.parameters(), target.parameters(), strict=True):
                q.data.copy_(0.005 * p.data + 0.995 * q.data)
        weight = torch.exp(3 * advantage.detach()).clamp(max=100)
        mean = torch.tanh(actor(s)[:, :ACT])
        if "policy_head" in options:
            normal = torch.distributions.Normal(mean, log_std.exp())
            each = -normal.log_prob(a).sum(1)
        else:
            each = (mean - a).square().sum(1) / (1 if "bc_reduce" in options else ACT)
        steps[2].zero_grad()
        (weight * each).mean().backward()
        steps[2].step()
        cosine.step()
    running.run(10)
    for ours, theirs in ((agent.value, value), (agent.actor, actor)):
        for (weight, bias), layer in zip(ours.layers(), theirs[::2], strict=True):
            torch.testing.assert_close(weight[0], layer.weight.T, rtol=1e-6, atol=1e-9)  # pyright: ignore
            torch.testing.assert_close(bias[0, 0], layer.bias, rtol=1e-6, atol=1e-9)  # pyright: ignore
    for j in range(2):
        for ours, theirs in ((agent.critic, critics[j]), (agent.critic_copy, targets[j])):
            for (weight, _), layer in zip(ours.layers(), theirs[::2], strict=True):
                torch.testing.assert_close(weight[j], layer.weight.T, rtol=1e-6, atol=1e-9)  # pyright: ignore


# --- oracles --------------------------------------------------------------------------------------


def test_middle_expectile_is_half_the_squared_error() -> None:
    u = torch.linspace(-2, 2, 9)
    assert torch.equal(expectile(u, 0.5), 0.5 * u**2)


@pytest.mark.parametrize("level", [0.5, 0.7, 0.9])
def test_value_of_two_equally_likely_outcomes_is_the_level(level: float) -> None:
    v = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    loss = expectile(0 - v, level) + expectile(1 - v, level)
    assert abs(float(v[loss.argmin()]) - level) < 1e-4


def test_expectile_grows_with_its_level_towards_the_maximum() -> None:
    q = torch.randn(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    v = torch.linspace(float(q.min()), float(q.max()), 4001, dtype=torch.float64)
    levels = (0.1, 0.5, 0.7, 0.9, 0.99, 0.9999)
    found = [float(v[expectile(q[:, None] - v, level).mean(0).argmin()]) for level in levels]
    assert found == sorted(found) and abs(found[-1] - float(q.max())) < 0.05


def test_at_temperature_zero_the_actor_imitates() -> None:
    agent = make_agent("iql", small("iql", temperature=0.0), runs=1, dtype=torch.float64)
    bc = make_agent("bc", small("bc"), runs=1, dtype=torch.float64)
    assert isinstance(agent, IQL)
    batch = agent.data.batch(torch.arange(32)[None], 16)
    zeros = torch.zeros(1, 32, 1, dtype=torch.float64)
    advantage = torch.randn(1, 32, 1, generator=torch.Generator().manual_seed(1)).double()
    weight = advantage_weights(advantage, agent.temperature, 100.0)
    output = agent.actor(batch.obs)
    loss = agent.actor_loss(agent.imitation(output, batch.act), weight)
    plain = weighted_mean((torch.tanh(output[..., :ACT]) - batch.act) ** 2)
    (one,) = torch.autograd.grad(loss.sum(), agent.actor.rows, retain_graph=True)
    (two,) = torch.autograd.grad(plain.sum(), agent.actor.rows)
    torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-15)
    assert zeros.shape == weight.shape and bc.runs == 1


def test_weights_belong_to_their_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    error, weight = torch.rand(2, 1, 8, 1, generator=generator)
    mean = weighted_mean(error, weight)
    assert not torch.allclose(mean, weighted_mean(error, weight.flip(1)))
    assert not torch.allclose(mean, weighted_mean(error) * weighted_mean(weight))
    assert torch.allclose(mean, (weight * error).mean((1, 2)))


@pytest.mark.parametrize("shape", [(2, 8), (8, 1), (1, 8, 1), (2, 1, 1), (2, 8, 8)])
def test_weights_that_would_broadcast_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="same shape"):
        weighted_mean(torch.ones(2, 8, 1), torch.ones(shape))


def test_a_loss_that_is_not_one_per_run_is_refused() -> None:
    net = Net((3, 8, 1), run_generators([0, 1]))
    with pytest.raises(ValueError, match="one loss per run"):
        minimise(net(torch.ones(2, 4, 3)).mean(), net)


def chain(terminal: bool) -> ArrayPair:
    """Make rows of reward 1 that never end, or all end."""
    arrays = make_arrays(200, 0)
    arrays["rewards"] = np.ones(200, np.float32)
    arrays["terminated"] = np.full(200, terminal)
    arrays["truncated"] = np.full(200, not terminal)
    arrays["next_observations"] = np.roll(arrays["observations"], 1, 0)
    return dataclasses.replace(make_pair(), source=arrays, target=arrays)


@pytest.mark.parametrize(("terminal", "expected"), [(False, 10.0), (True, 1.0)])
def test_endless_reward_is_summed_and_an_end_stops_it(terminal: bool, expected: float) -> None:
    values = dict(discount=0.9, learning_rate=3e-3, tau=0.1, steps=600)
    agent = make_agent("iql", small("iql", **values), pairs=[chain(terminal)])
    assert isinstance(agent, IQL)
    Running(agent, agent.stages()[-1], "eager").run(600)
    q = agent.critic(agent.data.batch(torch.arange(100)[None], 0).obs_act).detach()
    assert abs(float(q.mean()) - expected) < 0.05 * expected


def test_order_of_source_rows_changes_nothing() -> None:
    agents = [make_agent("iql", runs=1, dtype=torch.float64) for _ in range(2)]
    places = torch.arange(32)[None]
    mixed = torch.cat(
        [torch.randperm(16, generator=torch.Generator().manual_seed(0)), places[0, 16:]]
    )
    for agent, own in zip(agents, (places, mixed[None]), strict=True):
        agent.stages()[-1].update(agent.data.batch(own, 16), {})
    assert distance(weights(agents[0]), weights(agents[1])) < 1e-6


def test_polyak_copy_approaches_frozen_weights_geometrically() -> None:
    net = Net((3, 8, 1), run_generators([0]), dtype=torch.float64)
    lazy = copy_net(net)
    start = lazy.rows.clone() + 1
    lazy.rows.copy_(start)
    for _ in range(7):
        lazy.follow(net, 0.005)
    rows = net.rows.detach()
    torch.testing.assert_close(lazy.rows, rows + 0.995**7 * (start - rows), rtol=1e-12, atol=0)


def test_only_the_actors_step_size_falls_to_zero_over_the_steps_run() -> None:
    agent = make_agent("iql", small("iql", steps=10), runs=1)
    found = []
    for _ in range(11):
        found.append(float(agent.actor.rates()))
        agent.actor.state["steps"].add_(1)
    expected = [1.5e-4 * (1 + np.cos(np.pi * t / 10)) for t in range(11)]
    np.testing.assert_allclose(found, expected, atol=1e-18)
    assert found[0] == 3e-4 and abs(found[10]) < 1e-18
    for name in ("value", "critic"):
        agent.parameters[name].state["steps"].fill_(10)
        assert float(agent.parameters[name].rates()) == 3e-4


def test_adam_is_torchs() -> None:
    rows = torch.randn(2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ours, theirs = Parameter(rows.clone(), 1e-2), nn.Parameter(rows.clone())
    adam = torch.optim.Adam([theirs], 1e-2)
    for step in range(5):
        gradient = torch.sin(rows + step)
        ours.descend(gradient)
        theirs.grad = gradient
        adam.step()
    torch.testing.assert_close(ours.rows.detach(), theirs.detach(), rtol=1e-12, atol=0)


def test_share_of_capped_weights_is_logged() -> None:
    agent = make_agent("iql", small("iql", temperature=1e6), runs=1)
    Running(agent, agent.stages()[-1], "eager").run(4)
    assert 0 < float(agent.logged["capped_weights"]) / 4 < 1


def test_huber_is_quadratic_then_linear() -> None:
    e = torch.tensor([-3.0, -0.5, 0.0, 2.0, 5.0])
    torch.testing.assert_close(huber(e, 2.0), torch.tensor([4.0, 0.125, 0.0, 2.0, 8.0]))


# --- batches --------------------------------------------------------------------------------------


def test_batch_holds_what_the_arrays_hold() -> None:
    pair = make_pair()
    data = Data([pair, pair])
    places = torch.tensor([[3, 399, 7], [0, 1, 199]])
    batch = data.batch(places, 2)
    source, target = pair.source, pair.target
    assert np.array_equal(batch.obs[0, 1], source["observations"][399])
    assert np.array_equal(batch.source.act[1], source["actions"][:2])
    assert np.array_equal(batch.target.next_obs[1, 0], target["next_observations"][199])
    assert float(batch.reward[0, 2]) == target["rewards"][7]
    assert float(batch.terminated[0, 2]) == target["terminated"][7]
    assert batch.source.sources == 2 and batch.target.sources == 0
    assert len(data.rows) == 600  # shared by both runs, stored once


def test_best_source_rows_are_kept_with_their_columns() -> None:
    data = Data([make_pair()])
    data.add_column("source", "score", torch.arange(400.0)[None])
    batch = data.batch(torch.tensor([[5, 80, 20, 3, 0, 1]]), 4)
    kept = batch.keep_sources(batch.source.columns["score"], 2)
    assert kept.columns["score"].flatten().tolist() == [80, 20, 0, 0]
    assert kept.sources == 2 and torch.equal(kept.target.rows, batch.target.rows)
    assert torch.equal(kept.source.rows, batch.source.rows[:, [1, 2]])
    extended = kept.on_source(torch.full((1, 2, 1), 5.0), 1.0)
    assert extended.flatten().tolist() == [5, 5, 1, 1]


def test_sweep_visits_every_row_in_order() -> None:
    pair = make_pair()
    data = Data([pair, make_pair(1, source=300)])
    seen = torch.cat([batch.obs for _, batch in data.sweep("source", chunk=64)], 1)
    assert np.array_equal(seen[0], pair.source["observations"])
    assert torch.equal(seen[1, 299], seen[1, 399])  # the shorter set repeats its last row


def test_draws_are_uniform_over_each_runs_own_rows() -> None:
    data = Data([make_pair(), make_pair(1, source=50, target=20)])
    drawn = data.draw(run_generators([0, 1]), 500, 8, 8)
    assert drawn.shape == (2, 500, 16)
    assert drawn[0, :, :8].max() == 399 and drawn[1, :, :8].max() == 49
    assert drawn[1, :, 8:].max() == 19 and drawn.min() == 0


def test_states_and_rewards_are_scaled_where_asked() -> None:
    pair = make_pair()
    config = IQLConfig(steps=1, normalize_states="merged", normalize_reward="returns")
    agent = IQL(config, [pair], [0])
    merged = np.concatenate([pair.source["observations"], pair.target["observations"]])
    expected = (pair.target["observations"] - merged.mean(0)) / (merged.std(0) + 1e-3)
    rows = agent.data.rows_of("target", 0)
    np.testing.assert_allclose(rows[:, :OBS], expected, atol=1e-5)
    assert agent.data.shift.shape == (1, 1, OBS)
    returns: list[float] = []
    for arrays in (pair.source, pair.target):
        ends = np.flatnonzero(arrays["terminated"] | arrays["truncated"])
        returns += [r.sum() for r in np.split(arrays["rewards"], ends + 1)[: len(ends)]]
    factor = 1000 / (max(returns) - min(returns))
    for side, arrays in (("source", pair.source), ("target", pair.target)):  # one for both
        rows_ = agent.data.rows_of(side, 0)
        np.testing.assert_allclose(rows_[:, -2], arrays["rewards"] * factor, rtol=1e-4)
    obs = pair.target["observations"][None, :4]
    direct = torch.tanh(agent.actor(rows[None, :4, :OBS])[..., :ACT]).detach()
    np.testing.assert_allclose(agent.policy().act(obs), direct, atol=1e-5)


@pytest.mark.parametrize("name", ["iql", "sql", "iql-target"])
def test_rewards_are_scaled_for_the_robots_that_the_release_scales(name: str) -> None:
    for preset in ("paper", "official"):
        found = {r: settings(name, r, preset) for r in ("hopper", "walker2d", "ant", "pen")}  # pyright: ignore
        given = {robot: config.normalize_reward for robot, config in found.items()}  # pyright: ignore
        assert given == {"hopper": "returns", "walker2d": "returns", "ant": "none", "pen": "none"}
        assert found["hopper"].batch == (256 if name == "iql-target" else 128)
        floor = found["hopper"].log_std_floor  # pyright: ignore
        assert floor == (-5 if preset == "official" and name != "sql" else -20)


def test_a_method_without_source_scales_by_its_target_alone() -> None:
    pair = make_pair()
    values: dict[str, Any] = {"normalize_states": "merged", "normalize_reward": "returns"}
    config = small("iql-target", **values)
    agents = [
        make_agent("iql-target", config, pairs=[p])
        for p in (pair, dataclasses.replace(pair, source=pair.target))
    ]
    one, two = (agent.data.rows_of("target", 0) for agent in agents)
    assert torch.equal(one, two)


def test_relabelled_rewards_leave_the_data_alone() -> None:
    data = Data([make_pair()])
    batch: Batch = data.batch(torch.arange(4)[None], 4)
    changed = batch.relabelled(batch.reward + 1)
    assert torch.equal(changed.reward, batch.rows[..., -2:-1] + 1)
    with pytest.raises(ValueError, match="rewards"):
        batch.relabelled(batch.reward[..., 0])

"""Test DROCO's robust targets by brute force, its limits, and its operator on tabular problems."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from agent_helpers import ACT, OBS, distance, draw, make_pair, small

from shiftgym_agents.core.networks import mlp, unpack
from shiftgym_agents.data.batches import Batch
from shiftgym_agents.methods.droco import DROCO, DROCOConfig, pessimism
from shiftgym_agents.methods.iql import IQL
from shiftgym_agents.training.running import Running

BATCH, MEMBERS, GAMMA = 16, 4, 0.99


def prepared(runs: int = 2, spread: float = 1.0, **values: Any) -> DROCO:
    """Make an agent whose members, untrained, disagree by about `spread`."""
    config = small("droco", **({"members": MEMBERS} | values))
    pairs = [make_pair(k) for k in range(runs)]
    agent = DROCO(config, pairs, range(runs), dtype=torch.float64)  # pyright: ignore
    for stage in agent.stages()[:-1]:
        assert stage.finish is not None
        stage.finish()
    noise = torch.Generator().manual_seed(7)
    with torch.no_grad():
        rows = agent.ensemble.net.rows
        rows += spread * 0.2 * torch.randn(rows.shape, generator=noise, dtype=rows.dtype)
        for net in (agent.value, agent.critic):  # values that differ between states
            net.rows += 0.1 * torch.randn(net.rows.shape, generator=noise, dtype=rows.dtype)
    return agent


def targets(agent: DROCO, batch: Batch, noise: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        chosen, _ = agent.choose(batch, noise)
        return agent.targets(chosen, noise)


@pytest.mark.parametrize("minimum", ["value", "coordinate"])
@pytest.mark.parametrize("sample", ["std", "mean", "mean_plus_variance"])
@pytest.mark.parametrize(
    ("clamp", "cut", "floor", "end"),
    [
        (True, False, "rewards", "robot"),
        (True, True, "none", "never"),
        (False, False, "none", "robot"),
        (False, True, "rewards", "never"),
    ],
)
def test_robust_targets_are_those_found_row_by_row(
    minimum: str, sample: str, clamp: bool, cut: bool, floor: str, end: str
) -> None:
    how = {"clamp": clamp, "cut_states": cut, "value_floor": floor, "predicted_end": end}
    agent = prepared(minimum=minimum, sample=sample, beta=0.7, **how)
    batch, noise = draw(agent)
    with torch.no_grad():  # so that about half of the values are below it
        agent.floor.copy_(agent.value(batch.next_obs).median(1, keepdim=True).values)
    y = targets(agent, batch, noise)
    ensemble, seen, counts = agent.ensemble, set(), {"cut": 0, "floor": 0, "end": 0}

    def value(run: int, state: torch.Tensor) -> float:
        layers = unpack(agent.value.rows[run], agent.value.sizes)
        return float(mlp(state.view(1, 1, -1), layers).detach())

    def worth(run: int, state: torch.Tensor) -> float:
        found = value(run, state)
        if floor == "rewards":
            counts["floor"] += found < float(agent.floor[run])
            found = max(found, float(agent.floor[run]))
        fallen = not (state[0] > 0.7 and abs(state[1]) < 0.2)  # the hopper's rule
        counts["end"] += fallen and end == "robot"
        return 0.0 if fallen and end == "robot" else found

    known = [make_pair(run).target["next_observations"] for run in range(2)]
    for run, row in itertools.product(range(2), range(2 * BATCH)):
        low, high = torch.tensor(known[run].min(0)), torch.tensor(known[run].max(0))
        state, after = batch.obs[run, row], batch.next_obs[run, row]
        there = value(run, after)
        if row < BATCH:
            x = (batch.obs_act[run, row] - ensemble.shift[run, 0]) / ensemble.scale[run, 0]
            shift, scale = ensemble.aim_shift[run, 0, 1:], ensemble.aim_scale[run, 0, 1:]
            states: list[torch.Tensor] = []
            for member in range(MEMBERS):
                layers = unpack(ensemble.net.rows[run, member][None], ensemble.net.sizes)
                output = mlp(x.view(1, 1, -1), layers)[0, 0]
                mean, raw = output[1 : 1 + OBS] * scale + shift, output[OBS + 2 :]
                v = 0.5 - torch.log1p(torch.exp(0.5 - raw))
                variance = torch.exp(-10 + torch.log1p(torch.exp(v + 10))) * scale**2
                moved = {"mean": 0 * mean, "mean_plus_variance": variance}
                if sample == "std":
                    moved["std"] = variance.sqrt() * noise["dynamics"][run, member, row]
                states.append(state + mean + moved[sample])
                if cut:
                    kept = torch.clamp(states[-1], low, high)
                    counts["cut"] += int((kept != states[-1]).sum())
                    states[-1] = kept
            if minimum == "value":
                worst = min(worth(run, s) for s in states)
            else:
                worst = worth(run, torch.stack(states).amin(0))
            gap = there - worst
            seen.add(gap > 0)
            there -= 0.7 * (max(0.0, gap) if clamp else gap)
        expected = batch.reward[run, row] + GAMMA * (1 - batch.terminated[run, row]) * there
        assert float(y[run, row]) == pytest.approx(float(expected), rel=1e-9)
    assert minimum == "coordinate" or seen == {True, False}
    asked = {"cut": cut, "floor": floor == "rewards", "end": end == "robot"}
    assert {name: count > 0 for name, count in counts.items()} == asked


@pytest.mark.parametrize("least", [-2.0, 0.25])
def test_predicted_values_are_floored_at_what_rewards_allow(least: float) -> None:
    """Below the floor nothing is penalised, so that values that fell there fall no further."""
    pair = make_pair(0)
    for arrays in (pair.source, pair.target):
        arrays["rewards"] = np.maximum(arrays["rewards"], least)  # pyright: ignore
    config = small("droco", beta=1.0, predicted_end="never", members=MEMBERS)
    agent = DROCO(config, [pair], [0], dtype=torch.float64)  # pyright: ignore
    assert float(agent.floor) == pytest.approx(least if least > 0 else least / (1 - GAMMA))
    states = torch.randn(1, 20, OBS).double()
    with torch.no_grad():
        layers = unpack(agent.value.rows[0], agent.value.sizes)
        layers[-1][1].fill_(-1e6)
        assert torch.equal(agent.worth(states), agent.floor.expand(1, 20, 1))
        batch = agent.data.batch(torch.arange(2 * BATCH)[None], BATCH)
        noise = {"dynamics": torch.randn(1, MEMBERS, BATCH, OBS).double()}
        assert not agent.penalty(batch, agent.value(batch.next_obs), noise).any()


def test_predicted_states_that_the_robots_rule_ends_are_worth_nothing() -> None:
    agent = prepared(runs=1)
    states = torch.zeros(1, 4, OBS).double()
    states[0, :, 0] = torch.tensor([1.2, 0.6, 1.2, 1.2])
    states[0, 2, 1] = 0.3
    with torch.no_grad():
        value = agent.worth(states)[0, :, 0]
        own = agent.value(states)[0, :, 0]
    assert value[[1, 2]].tolist() == [0, 0] and torch.equal(value[[0, 3]], own[[0, 3]])


@pytest.mark.parametrize("delta", [float("inf"), 1e9, 100.0])
def test_beta_zero_is_iql(delta: float) -> None:
    """At `delta` 100 no error in these data is large enough to matter."""
    agent = prepared(beta=0.0, huber=delta)
    plain = IQL(small("iql"), [make_pair(k) for k in range(2)], range(2), dtype=torch.float64)  # pyright: ignore
    ours, theirs = agent.tensors(), plain.tensors()
    with torch.no_grad():
        for name, tensor in theirs.items():
            tensor.copy_(ours[name])
    drawn = Running(agent, agent.stages()[-1], "eager").draw(20)
    for update in range(20):
        batch = agent.data.batch(drawn[""][:, update], BATCH)
        agent.update(batch, {"dynamics": drawn["dynamics"][:, update]})
        plain.update(plain.data.batch(drawn[""][:, update], BATCH), {})
    assert distance(theirs, ours) < 1e-12
    assert torch.allclose(agent.logged["critic_loss"], plain.logged["critic_loss"], rtol=1e-12)


def test_members_that_know_the_source_leave_iql() -> None:
    how: dict[str, Any] = {"predicted_end": "never", "model_targets": "raw"}
    agent = prepared(sample="mean", beta=1.0, huber=float("inf"), spread=0.0, **how)
    step = torch.linspace(-0.2, 0.2, OBS, dtype=torch.float64)
    with torch.no_grad():
        net = agent.ensemble.net
        net.rows.zero_()
        layers = unpack(net.rows.view(-1, net.rows.shape[2]), net.sizes)
        layers[-1][1][:, 0, 1 : 1 + OBS] = step  # every member: the same step from everywhere
        start = OBS + ACT
        agent.data.rows[:, start : start + OBS] = agent.data.rows[:, :OBS] + step
    batch, noise = draw(agent)
    agent.beta.zero_()
    expected = targets(agent, batch, noise)
    agent.beta.fill_(1.0)
    assert torch.allclose(targets(agent, batch, noise), expected, rtol=0, atol=1e-12)


def test_targets_fall_with_beta_and_with_members() -> None:
    agent = prepared()
    batch, noise = draw(agent)
    found: list[torch.Tensor] = []
    for beta in (0.0, 0.1, 0.5, 1.0):
        agent.beta.fill_(beta)
        found.append(targets(agent, batch, noise))
    for more, less in itertools.pairwise(found):
        assert (less <= more + 1e-12).all()
        assert torch.equal(less[:, BATCH:], more[:, BATCH:])  # target rows are IQL's
    assert (found[-1][:, :BATCH] < found[0][:, :BATCH]).any()
    with torch.no_grad():
        states = agent.predictions(batch.source, noise)
        values = agent.worth(states.flatten(1, 2)).view(2, MEMBERS, BATCH, 1)
    least = torch.stack([values[:, :n].amin(1) for n in range(1, MEMBERS + 1)])
    assert (least[1:] <= least[:-1]).all()
    assert (least[-1] <= values.mean(1)).all()


def test_penalty_from_the_value_before_its_step() -> None:
    agents = [prepared(penalty_value=when, learning_rate=0.01) for when in ("new", "old")]
    batch, noise = draw(agents[0])
    before = agents[1].penalty(batch, agents[1].value(batch.next_obs), noise)
    ys: list[torch.Tensor] = []
    for agent in agents:
        chosen, _ = agent.choose(batch, noise)
        with torch.no_grad():
            agent.value.rows += 0.05
        ys.append(agent.targets(chosen, noise))
    keep = GAMMA * (1 - batch.source.terminated)
    with torch.no_grad():
        there = agents[1].value(batch.next_obs)
        after, there = agents[1].penalty(batch, there, noise), there[:, :BATCH]
    new, old = (y[:, :BATCH].detach() for y in ys)
    assert torch.allclose(old, batch.source.reward + keep * (there - before.detach()))
    assert torch.allclose(new, batch.source.reward + keep * (there - after))
    assert not torch.allclose(old, new)


def test_source_gradients_are_bounded_and_targets_carry_none() -> None:
    agent = prepared(huber=0.5, beta=1.0)
    batch, noise = draw(agent)
    y = targets(agent, batch, noise)
    assert not y.requires_grad
    q = (y[:, None] + torch.linspace(-9, 9, 2 * BATCH).view(1, 1, -1, 1)).repeat(1, 2, 1, 1)
    q.requires_grad_()
    errors = agent.critic_errors(q - y[:, None], batch)
    (2 * errors.flatten(1).mean(1)).sum().backward()
    assert q.grad is not None
    size = q.grad.abs()
    assert float(size[:, :, :BATCH].max()) == pytest.approx(0.5 / BATCH)
    error = (q.detach() - y[:, None])[:, :, BATCH:]  # of mean_T (error^2 / 2)
    assert torch.allclose(q.grad[:, :, BATCH:], error / BATCH)


def test_value_learns_nothing_from_the_penalty() -> None:
    agents = [prepared(beta=beta) for beta in (0.0, 1.0)]
    batch, noise = draw(agents[0])
    for agent in agents:
        agent.update(batch, noise)
    assert torch.equal(agents[0].value.rows, agents[1].value.rows)
    assert not torch.equal(agents[0].critic.rows, agents[1].critic.rows)
    for agent in agents:
        assert not agent.ensemble.net.rows.requires_grad


# --- the operator on tabular problems -------------------------------------------------------------


def robust(v: torch.Tensor, after: Any, members: Any, beta: float, clamp: bool) -> torch.Tensor:
    """Bootstrap from next states `after (.,)`, members' states `members (., N)`."""
    return v[..., after] - beta * pessimism(v[..., after], v[..., members].amin(-1), clamp)


@pytest.mark.parametrize("clamp", [True, False])
@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_operator_contracts(beta: float, clamp: bool) -> None:
    rng = np.random.default_rng(0)
    states, actions = 6, 2
    after = rng.integers(states, size=(states, actions))
    members = rng.integers(states, size=(states, actions, 3))
    reward = torch.from_numpy(rng.normal(size=(states, actions)))

    def backup(q: torch.Tensor) -> torch.Tensor:
        return reward + GAMMA * robust(q.amax(-1), after, members, beta, clamp)

    one, two = torch.from_numpy(rng.normal(size=(2, 1000, states, actions)) * 3)
    gap = (one - two).abs().amax((1, 2))
    assert ((backup(one) - backup(two)).abs().amax((1, 2)) / gap <= GAMMA + 1e-9).all()
    one, two = one[:1], two[-1:]
    for _ in range(1500):
        one, two = backup(one), backup(two)
    assert torch.allclose(one, two, atol=1e-4)  # one fixed point, from anywhere


def test_operator_need_not_contract_beyond_one() -> None:
    one, two = torch.tensor([11.0, -1.0]), torch.tensor([10.0, 0.0])  # of s', of the members' state
    gap = [robust(v, 0, [1], 1.5, True) for v in (one, two)]
    assert GAMMA * abs(float(gap[0] - gap[1])) == pytest.approx(GAMMA * (2 * 1.5 - 1))


def test_worst_case_over_a_ball_is_the_mean_of_worst_neighbours() -> None:
    """Compare with every kernel that moves each atom by at most one place (Wasserstein-inf)."""
    rng = np.random.default_rng(1)
    for _ in range(5):
        v, p = torch.from_numpy(rng.normal(size=5)), torch.from_numpy(rng.dirichlet(np.ones(5)))
        near = torch.tensor([[max(i - 1, 0), i, min(i + 1, 4)] for i in range(5)])
        ours = float(p @ robust(v, torch.arange(5), near, 1.0, True))
        moves = itertools.product(range(3), repeat=5)
        brute = min(float(sum(p[i] * v[near[i, m]] for i, m in enumerate(k))) for k in moves)
        assert ours == pytest.approx(brute, abs=1e-9)


def test_states_out_of_the_targets_reach_are_not_hoped_for() -> None:
    """Let one action jump to riches in the source; in the target it leads to the poor neighbour."""
    reward = torch.tensor([[0.0, 0.0], [0.1, 0.1], [1.0, 1.0]], dtype=torch.float64)
    source = np.array([[0, 2], [1, 1], [2, 2]])
    target = np.array([[0, 1], [1, 1], [2, 2]])

    def solve(after: np.ndarray, beta: float) -> torch.Tensor:
        q = torch.zeros(3, 2, dtype=torch.float64)
        for _ in range(1500):
            q = reward + GAMMA * robust(q.amax(-1), after, target[..., None], beta, True)
        return q.amax(-1)

    best = solve(target, 0.0)
    assert torch.allclose(solve(source, 1.0), best, atol=1e-4)
    assert float(solve(source, 0.0)[0]) > 5 * float(best[0])


# --- settings -------------------------------------------------------------------------------------


def test_beta_follows_the_robot_and_warns_above_one() -> None:
    found = {
        r: DROCOConfig().for_robot(r).beta for r in ("hopper", "walker2d", "halfcheetah", "ant")
    }
    assert found == {"hopper": 0.1, "walker2d": 1.0, "halfcheetah": 0.3, "ant": 0.5}
    assert DROCOConfig().for_robot("pen").temperature == 0.5
    with pytest.warns(UserWarning, match="need not contract"):
        prepared(beta=1.5)


def test_presets_say_where_paper_and_release_differ() -> None:
    ours, paper = DROCOConfig(), DROCO.presets["paper"]
    official, early = DROCO.presets["official"], DROCO.presets["early"]
    assert (paper.minimum, paper.sample, paper.clamp) == ("value", "std", False)
    assert (official.minimum, official.sample, official.clamp) == (
        "coordinate",
        "mean_plus_variance",
        True,
    )
    assert (ours.value_floor, ours.predicted_end) == ("rewards", "robot") and not ours.cut_states
    for other in (paper, official, early):
        assert (other.value_floor, other.predicted_end) == ("none", "never")
        assert (other.model_layers, other.model_targets) == (4, "raw") and not other.cut_states
    assert (official.penalty_value, official.model_hold_out) == ("old", 0.0)
    assert replace(early, huber_rows="source", model_hold_out=0.0) == official
    assert {p.members for p in DROCO.presets.values()} == {7}


def test_hubers_loss_of_all_rows_bounds_the_targets_too() -> None:
    agent = prepared(huber=0.5, huber_rows="all")
    batch, _ = draw(agent)
    q = torch.linspace(-9, 9, 2 * BATCH).double().view(1, 1, -1, 1).repeat(2, 2, 1, 1)
    q.requires_grad_()
    agent.critic_errors(q, batch).sum().backward()
    assert q.grad is not None and float(q.grad.abs().max()) == pytest.approx(1.0)

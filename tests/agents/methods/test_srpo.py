"""Test SRPO's discriminator, the bonus that it pays, and the release's cut logit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from agent_helpers import distance, draw, draws, make_agent, make_pair, small

from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.methods.iql import IQL
from shiftgym_agents.methods.srpo import SRPO, log_ratio


def prepared(runs: int = 2, **values: Any) -> SRPO:
    agent = make_agent("srpo", small("srpo", **values), runs=runs, dtype=torch.float64)
    assert isinstance(agent, SRPO)
    return agent


def test_bonus_zero_is_iql() -> None:
    agent = prepared(bonus=0.0)
    plain = make_agent("iql", small("iql"), dtype=torch.float64)
    assert isinstance(plain, IQL)
    ours, theirs = agent.tensors(), plain.tensors()
    with torch.no_grad():
        for name, tensor in theirs.items():
            tensor.copy_(ours[name])
    for batch, _ in draws(agent, 20):
        agent.update(batch, {})
        plain.update(batch, {})
    assert distance(theirs, ours) == 0


def test_bonus_is_that_of_the_discriminator_after_its_step() -> None:
    agent = prepared(bonus=0.5, discriminator_rate=0.05)
    for batch, _ in draws(agent, 5):
        with torch.no_grad():
            paid = agent.relabel(batch, {})
            odds = agent.discriminator(batch.obs).sigmoid()
            ratio = (odds / (1 - odds)).clamp(0.1, 10)
        assert torch.allclose(paid.reward, batch.reward + 0.5 * ratio.log())
        assert torch.equal(paid.rows, batch.rows)
        assert float((paid.reward - batch.reward).abs().max()) <= 0.5 * math.log(10) + 1e-12


def test_bonus_is_bounded_by_the_ratio_of_ten() -> None:
    x = torch.linspace(-50, 50, 101).double()
    found = log_ratio(x)
    assert float(found.max()) == pytest.approx(math.log(10)) == -float(found.min())
    small_enough = x.abs() < math.log(10)
    assert torch.equal(found[small_enough], x[small_enough])


def test_values_of_a_batch_are_ranked_within_their_run() -> None:
    agent = prepared(top=0.25)
    batch, _ = draw(agent)
    value = torch.randn(2, 32, 1, generator=torch.Generator().manual_seed(3)).double()
    logit = agent.discriminator(batch.obs).detach()
    agent.update_discriminator(batch, value)
    expected: list[float] = []
    for run in range(2):
        order = sorted(range(32), key=lambda i: float(value[run, i]), reverse=True)
        losses = [-float(torch.sigmoid(logit[run, i]).log()) for i in order[:8]]
        losses += [-float(torch.sigmoid(-logit[run, i]).log()) for i in order[8:]]
        expected.append(float(np.mean(losses)))
    np.testing.assert_allclose(agent.logged["discriminator_loss"], expected)


def test_discriminator_sees_states_only_and_moves_nothing_else() -> None:
    agents = [prepared() for _ in range(2)]
    with torch.no_grad():
        agents[1].data.rows[:, agents[1].obs_size :] += 5.0  # actions, next states, rewards, ends
    before = {name: tensor.detach().clone() for name, tensor in agents[0].tensors().items()}
    for agent in agents:
        with torch.no_grad():
            agent.relabel(draw(agent)[0], {})
    assert torch.equal(agents[0].discriminator.rows, agents[1].discriminator.rows)
    for name, tensor in agents[0].tensors().items():
        assert torch.equal(tensor, before[name]) != name.startswith("discriminator"), name


def trained_on(value_of: Any, top: float = 0.5) -> tuple[SRPO, torch.Tensor, torch.Tensor]:
    """Train the discriminator alone; give it with new states and its logits there, sorted."""
    agent = prepared(runs=1, top=top, discriminator_rate=3e-3)
    agent.data.rows[:, : agent.obs_size] = 0
    agent.data.rows[:, 0] = torch.rand(len(agent.data.rows), dtype=torch.float64)
    for batch, _ in draws(agent, 400):
        agent.update_discriminator(batch, value_of(batch.obs[..., :1]))
    states = torch.zeros(1, 101, agent.obs_size).double()
    states[..., 0] = torch.linspace(0, 1, 101)
    return agent, states[0, :, 0], agent.discriminator(states)[0, :, 0].detach()


@pytest.mark.parametrize("top", [0.5, 0.25])
def test_logit_rises_with_value_and_crosses_zero_where_the_best_begin(top: float) -> None:
    _, states, logits = trained_on(lambda s: s**3, top)
    assert torch.equal(logits.argsort().double(), torch.arange(101).double())
    assert float(states[(logits > 0).nonzero()[0]]) == pytest.approx(1 - top, abs=0.1)


def test_a_neutral_discriminator_pays_nothing_but_the_official_one_charges() -> None:
    _, _, logits = trained_on(torch.rand_like)  # values say nothing of states
    assert abs(float(log_ratio(logits).mean())) < 0.2
    charged = log_ratio(logits, SRPO.presets["official"].bonus_form)
    assert float(charged.mean()) < -1.5
    zero = torch.zeros(3)
    assert torch.equal(log_ratio(zero), zero)
    assert torch.allclose(log_ratio(zero, "logit"), zero - math.log(10))  # -2.3
    ties = log_ratio(torch.tensor([-9.0, 0.0, 0.1]), "logit")
    assert torch.equal(ties, ties[:1].expand(3))


def test_a_share_that_leaves_no_state_is_refused() -> None:
    for top in (0.0, 1.0):
        with pytest.raises(ShiftgymError, match="top"):
            make_agent("srpo", small("srpo", top=top), pairs=[make_pair()])

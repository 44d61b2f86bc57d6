"""Test VOUCH: its p-values against loops, its limits, and worlds where who may join is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from agent_helpers import distance_from_iql, draw, make_agent, nowhere, small, train

from shiftgym_agents.core.losses import advantage_weights
from shiftgym_agents.methods.iql import IQL
from shiftgym_agents.methods.vouch import SURE, VOUCH, VOUCHED

ALONE = {"source_critic": False, "source_policy": False}


def vouch(pairs: Any = None, **changes: Any) -> VOUCH:
    """Make a small agent."""
    agent = make_agent("vouch", small("vouch", **changes), pairs=pairs, dtype=torch.float64)
    assert isinstance(agent, VOUCH)
    return agent


def world(rows: int, seed: int, gain: float = 0.5, habit: float = 1.0) -> dict[str, np.ndarray]:
    """Make episodes of a point that its action moves by `gain`, acting by a wavy habit."""
    rng = np.random.default_rng(seed)
    state = np.zeros((rows + 1, 2))
    act, after = np.zeros((rows, 2)), np.zeros((rows, 2))
    ends = np.arange(1, rows + 1) % 20 == 0
    state[0] = rng.normal(size=2)
    for k in range(rows):
        act[k] = np.tanh(-habit * np.sin(2 * state[k]) + 0.3 * rng.normal(size=2))
        after[k] = state[k] + gain * act[k] + 0.02 * rng.normal(size=2)
        state[k + 1] = rng.normal(size=2) if ends[k] else after[k]
    found = {
        "observations": state[:-1], "actions": act, "next_observations": after,
        "rewards": -(after**2).sum(1),
    }  # fmt: skip
    arrays = {name: values.astype(np.float32) for name, values in found.items()}
    return arrays | {"terminated": np.zeros(rows, bool), "truncated": ends}


def pretrained(source: dict[str, np.ndarray]) -> VOUCH:
    """Ask whether a source may join 600 target rows."""
    steps = {"model_steps": 600, "clone_steps": 1500, "look_every": 50}
    agent = vouch([nowhere(source, world(600, 9))], learning_rate=3e-3, batch=64, **steps)
    return train(agent, updates=0)  # pyright: ignore[reportReturnType]


def test_weights_are_p_values_over_the_level_of_each_run() -> None:
    agent = vouch(level=0.25)
    train(agent, updates=0)
    weights = agent.data.columns["source"][VOUCHED]
    with torch.no_grad():
        usual = (agent.model.errors(agent.model.held.batch()) ** 2).mean(1)
        own = (agent.model.errors(agent.model.held.batch()) ** 2 / usual[:, None]).mean(-1)
        found = [agent.model.errors(batch) ** 2 for _, batch in agent.data.sweep("source")]
    misses = (torch.cat(found, 1) / usual[:, None]).mean(-1)
    for run in range(2):
        for row in range(0, 400, 37):
            above = sum(float(each) >= float(misses[run, row]) for each in own[run])
            p = (1 + above) / (1 + own.shape[1])
            assert float(weights[run, row]) == pytest.approx(min(1, p / 0.25))
    assert torch.equal(agent.source_scores(), -agent.model.misses())  # pyright: ignore


def test_rows_of_the_targets_own_domain_join_and_others_do_not() -> None:
    """Same dynamics and habit; other dynamics; the same dynamics by another habit.

    By the same habit even rows of other dynamics may help to imitate: that is not asked.
    """
    own, shifted, other = (
        pretrained(world(4000, 1)),
        pretrained(world(4000, 1, gain=0.2)),
        pretrained(world(4000, 1, habit=0.2)),
    )
    mean = {"own": own, "shifted": shifted, "other": other}
    shares = {k: float(a.data.columns["source"][VOUCHED].mean()) for k, a in mean.items()}
    assert shares["own"] > 0.85 and shares["other"] > 0.6 and shares["shifted"] < 0.5
    assert float(own.joins) == 1 and float(other.joins) == 0
    assert float(own.told[VOUCHED]) == pytest.approx(shares["own"])
    assert float(own.told["source_policy"]) == 1


def test_a_conformal_weight_counts_nine_tenths_of_true_rows_in_full() -> None:
    weights = pretrained(world(4000, 1)).data.columns["source"][VOUCHED]
    assert float((weights == 1).double().mean()) == pytest.approx(0.9, abs=0.08)


@pytest.mark.parametrize("joins", [0.0, 1.0])
def test_value_and_policy_learn_from_source_rows_only_where_they_join(joins: float) -> None:
    agent = vouch(imitation=0.3)
    train(agent, updates=0)
    agent.joins.fill_(joins)
    batch, _ = draw(agent)
    rows = agent.vouched(batch)
    assert (rows[:, batch.sources :] == 1).all()
    column = batch.source.columns[VOUCHED]
    assert torch.equal(rows[:, : batch.sources], joins * column)
    advantage = torch.randn(rows.shape, dtype=rows.dtype)
    found = agent.actor_weights(advantage, batch)
    best = advantage_weights(advantage, agent.temperature, agent.weight_cap)
    for run in range(2):
        mean = float((rows[run] * best[run]).sum() / rows[run].sum())
        expected = rows[run] * (0.3 + 0.7 * best[run] / mean)
        assert torch.allclose(found[run], expected)
    # no share of the loss is lost or won by weights
    assert found.sum(1).flatten().tolist() == pytest.approx(rows.sum(1).flatten().tolist())


def test_imitation_alone_weighs_all_target_rows_alike() -> None:
    agent = vouch(imitation=1.0, **ALONE)
    train(agent, updates=0)
    batch, _ = draw(agent)
    weights = agent.actor_weights(torch.randn(2, 32, 1, dtype=torch.float64), batch)
    assert (weights[:, : batch.sources] == 0).all() and (weights[:, batch.sources :] == 1).all()
    _, critics = agent.choose(batch, {})
    assert critics is not None and (critics[:, : batch.sources] == 0).all()


def test_the_limit_lies_beyond_what_chance_does() -> None:
    """Of clones that are equally good, the second joins in less than a thousandth."""
    rng = np.random.default_rng(0)
    gains = rng.standard_t(4, size=(20_000, 25))
    t = gains.mean(1) / (gains.std(1, ddof=1) / 5)
    assert (t > SURE).mean() < 0.001


def test_without_imitation_and_doubt_it_is_iql_but_for_the_scale_of_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agent = vouch(imitation=0.0, normalize_states="none")
    train(agent, updates=0)
    agent.joins.fill_(1.0)
    agent.data.columns["source"][VOUCHED].fill_(1.0)
    monkeypatch.setattr(VOUCH, "actor_weights", IQL.actor_weights)
    assert distance_from_iql(agent) < 1e-12

"""Test the min-Q attack against brute force."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from agent_helpers import NAMES, make_agent, make_pair, small, train
from robustness_helpers import make_subject

from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.evaluation.attack import MinQAttack
from shiftgym_agents.evaluation.perturb import ATTACK, NOISE, suite_levels
from shiftgym_agents.evaluation.robustness import measure


@pytest.fixture(params=["iql", "tabb", "droco"])
def agent(request: pytest.FixtureRequest) -> Any:
    return train(make_agent(request.param, small(request.param, steps=100)))


def observations(runs: int, scales: int, episodes: int) -> np.ndarray:
    one = np.random.default_rng(3).normal(size=(runs, 1, episodes, 11))
    return one.repeat(scales, 1)


def q_of(agent: Any, obs: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Compute Q(s, pi(s')) plainly, one state at a time in float64."""
    flat = [torch.from_numpy(x.reshape(len(x), -1, 11)).float() for x in (obs, seen)]
    with torch.no_grad():
        act = torch.tanh(agent.actor(flat[1])[..., : agent.act_size])
        return agent.min_q(flat[0], act).numpy().reshape(obs.shape[:3])


def test_attack_never_raises_q_and_grows_with_its_scale(agent: Any) -> None:
    scales = [0.0, 0.05, 0.2, 1.0]
    obs = observations(2, len(scales), 8)
    attack = MinQAttack(agent, [0, 1])
    found = attack.offsets(obs, scales, np.ones(obs.shape[:3], bool))
    clean, attacked = q_of(agent, obs, obs), q_of(agent, obs, obs + found)
    assert (attacked <= clean + 1e-5 * np.abs(clean).max()).all()
    assert not found[:, 0].any() and np.array_equal(attacked[:, 0], clean[:, 0])
    assert (attacked[:, 3] < clean[:, 3]).mean() > 0.9
    spread = np.stack([np.std(make_pair(k).target["observations"], 0) for k in range(2)])
    widths = np.array(scales)[:, None, None] * spread[:, None, None] + 1e-6
    assert (np.abs(found) <= widths).all()
    assert (np.diff(attacked.mean((0, 2))) <= 0).all()


def test_noise_is_the_first_candidate_whatever_it_is_worth(agent: Any) -> None:
    obs, scales = observations(2, 3, 4), [0.2, 0.2, 0.4]
    everywhere = np.ones((2, 3, 4), bool)
    attack = MinQAttack(agent, [5, 9], 7)
    found = attack.offsets(obs, scales, everywhere, [False, True, True])
    for run, seed in enumerate((5, 9)):
        first = np.random.default_rng((0, seed)).uniform(-1, 1, (4, 7, 11))[:, 0]
        spread = np.std(make_pair(run).target["observations"], 0)
        np.testing.assert_allclose(found[run, 1], 0.2 * spread * first, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found[run, 2], 2 * found[run, 1], rtol=1e-4, atol=1e-6)
    attack.restart()
    alone = attack.offsets(obs[:, :1], scales[:1], everywhere[:, :1])
    assert np.array_equal(found[:, :1], alone)  # the attack is as without its control


def test_noise_needs_no_critic() -> None:
    agent = make_agent("bc")
    noise = MinQAttack(agent, [0, 1], 3, blind=True)
    found = noise.offsets(observations(2, 1, 4), [0.2], np.ones((2, 1, 4), bool), [True])
    assert np.abs(found).min() > 0
    levels = suite_levels(NOISE, "hopper", [0.0, 0.5])
    assert [(level.suite, level.strength) for level in levels] == [("noise", 0.0), ("noise", 0.5)]
    subject = replace(make_subject("hopper"), policy=agent.policy())
    measured = measure(subject, levels, 2, 0, noise)
    assert np.array_equal(measured.returns[:, 0], measured.returns[:, 1])  # scale 0
    assert not np.array_equal(measured.returns[:, 0], measured.returns[:, 2])


def test_attack_is_the_best_of_its_candidates(agent: Any) -> None:
    obs, scale, count = observations(2, 1, 3), 0.5, 7
    found = MinQAttack(agent, [5, 9], count).offsets(obs, [scale], np.ones((2, 1, 3), bool))
    for run, seed in enumerate((5, 9)):
        units = np.random.default_rng((0, seed)).uniform(-1, 1, (3, count, 11))
        spread = np.std(make_pair(run).target["observations"], 0)
        for episode in range(3):
            near = np.concatenate([np.zeros((1, 11)), scale * spread * units[episode]])
            s = np.zeros((2, 1 + count, 1, 11)) + obs[:, 0, episode][:, None, None]
            q = q_of(agent, s, s + near[:, None])[run, :, 0]
            picked = int(np.abs(near - found[run, 0, episode]).sum(1).argmin())
            assert np.allclose(near[picked], found[run, 0, episode], atol=1e-5)
            assert q[picked] <= q.min() + 1e-5 * np.abs(q).max()


def test_attack_draws_the_same_whatever_else_is_attacked(agent: Any) -> None:
    every = np.ones((2, 3, 4), bool)
    obs = observations(2, 3, 4)
    many = MinQAttack(agent, [0, 1]).offsets(obs, [0.1, 0.2, 0.3], every)
    one = MinQAttack(agent, [0, 1]).offsets(obs[:, :1], [0.2], every[:, :1])
    assert np.allclose(one[:, 0], many[:, 1])
    some = every.copy()
    some[:, 0] = False
    left = MinQAttack(agent, [0, 1]).offsets(obs, [0.1, 0.2, 0.3], some)
    assert not left[:, 0].any() and np.allclose(left[:, 1:], many[:, 1:])


def test_attack_sees_observations_scaled_as_in_training() -> None:
    config = replace(small("iql", steps=50), normalize_states="merged")  # pyright: ignore
    agent = train(make_agent("iql", config))
    obs = observations(2, 1, 50)
    found = MinQAttack(agent, [0, 1]).offsets(obs, [0.3], np.ones((2, 1, 50), bool))
    spread = np.stack([np.std(make_pair(k).target["observations"], 0) for k in range(2)])
    share = np.abs(found).max((1, 2)) / (0.3 * spread)
    assert (share <= 1 + 1e-5).all() and (share > 0.9).all()
    policy = agent.policy()

    def q(seen: np.ndarray) -> np.ndarray:
        act = torch.from_numpy(policy.act(seen[:, 0]))
        scaled = (obs[:, 0] - agent.data.shift) / agent.data.scale
        with torch.no_grad():
            return agent.min_q(torch.from_numpy(scaled).float(), act).numpy()

    assert (q(obs + found) <= q(obs) + 1e-4).all()


def test_attack_at_the_perturbed_state_lowers_that_q() -> None:
    agent = train(make_agent("iql"))
    obs = observations(2, 1, 10)
    found = MinQAttack(agent, [0, 1], at="perturbed").offsets(obs, [0.5], np.ones((2, 1, 10), bool))
    assert (q_of(agent, obs + found, obs + found) <= q_of(agent, obs, obs) + 1e-5).all()


def test_scale_zero_returns_exactly_what_clean_does() -> None:
    agent = train(make_agent("iql"))
    subject = replace(make_subject("hopper"), policy=agent.policy())
    attack = MinQAttack(agent, [0, 1])
    levels = suite_levels(ATTACK, "hopper", [0.0, 0.5])
    found = measure(subject, levels, 3, 0, attack)
    assert np.array_equal(found.returns[:, 1], found.returns[:, 0])
    assert not np.array_equal(found.returns[:, 2], found.returns[:, 0])
    again = measure(subject, levels, 3, 0, attack)
    assert np.array_equal(found.returns, again.returns)


def test_methods_without_a_critic_are_named() -> None:
    with pytest.raises(ShiftgymError, match="BC learns no critic"):
        MinQAttack(make_agent("bc"), [0, 1])


@pytest.mark.parametrize("name", NAMES)
def test_every_method_with_a_critic_can_be_attacked(name: str) -> None:
    agent = make_agent(name, small(name, steps=4))
    obs, act = torch.randn(2, 5, agent.obs_size), torch.rand(2, 5, agent.act_size)
    if "critic" not in agent.parameters:
        with pytest.raises(ShiftgymError, match="no critic"):
            agent.min_q(obs, act)
        return
    q, other = agent.min_q(obs, act), agent.min_q(obs, -act)
    assert q.shape == (2, 5, 1) and q.isfinite().all() and (q != other).all()

"""Test how the pen imitates its own episodes: other targets against the simulator, choices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_hands import ACT, OBS, PEN, SMALL, made_up_expert, tiny

import shiftgym
from shiftgym.basics.errors import ShiftgymError
from shiftgym_tools.behaviours.hands.experts import convert
from shiftgym_tools.behaviours.hands.hindsight import Hindsight, HindsightConfig
from shiftgym_tools.behaviours.hands.pen_goals import (
    DIRECTION,
    OFF,
    PLACE_OFF,
    TARGET,
    directions,
    judge,
    relabel,
)
from shiftgym_tools.behaviours.hands.ppo import PPO
from shiftgym_tools.behaviours.hands.rollout import Rollout
from shiftgym_tools.behaviours.hands.trainer import HandTrainer

torch.set_num_threads(1)


def played(slug, steps, envs=4, size=0.2):
    """Play the same actions towards several targets; give observations (N, T, 45) and rewards."""
    of = shiftgym.make_vec([slug] * envs, autoreset_mode="disabled", num_threads=1)
    obs, _ = of.reset(seed=0)
    rng, seen, paid = np.random.default_rng(0), [obs], []
    for _ in range(steps):
        action = np.repeat(size * rng.normal(size=(1, PEN[1])), envs, 0).astype(np.float32)
        obs, reward, terminated, _, _ = of.step(action)
        assert not terminated.any()
        seen.append(obs)
        paid.append(reward)
    of.close()
    return torch.from_numpy(np.stack(seen, 1)), torch.from_numpy(np.stack(paid, 1))


@pytest.mark.parametrize("slug", ["pen", "pen-morph-medium"])
def test_relabelled_episodes_are_those_that_the_simulator_gives_with_that_target(slug):
    obs, paid = played(slug, steps=12)
    targets = obs[:, 0, TARGET]
    assert len(targets.unique(dim=0)) == len(targets)
    for own in range(len(obs)):
        alike = relabel(obs[own].expand_as(obs), targets[:, None])
        torch.testing.assert_close(alike, obs, rtol=0, atol=1e-12)
    earned, held = judge(obs, torch.full((len(obs),), obs.shape[1]), targets)
    torch.testing.assert_close(earned, paid.sum(1).expand_as(earned), rtol=0, atol=1e-9)
    assert not held.any()


def test_holding_a_target_counts_near_it_and_until_the_episode_ends():
    obs = torch.zeros(3, 40, 45)
    obs[..., DIRECTION] = torch.tensor([0.0, 0.0, 1.0])
    obs[1, :20, PLACE_OFF] = 0.1  # too far off for half of the time
    lengths = torch.tensor([40, 40, 21])  # the observation that an episode starts from pays nothing
    aside = torch.tensor([[0.0, 0.3, 0.9539], [0.0, 0.4, 0.9165], [1.0, 0.0, 0.0]])
    earned, held = judge(obs, lengths, aside)
    assert held.tolist() == [[39, 0, 0], [20, 0, 0], [20, 0, 0]]
    assert earned[0].tolist() == pytest.approx([39 * 60.9539, 39 * 10.9165, 0], abs=1e-2)
    assert earned[2, 0] == pytest.approx(20 * 60.9539, abs=1e-2)


def test_drawn_targets_are_those_of_resets():
    of = shiftgym.make_vec(["pen"] * 300, autoreset_mode="disabled", num_threads=1)
    drawn = of.reset(seed=3)[0][:, TARGET]
    of.close()
    x, y = np.arctan2(-drawn[:, 1], drawn[:, 2]), np.arcsin(drawn[:, 0])
    again = directions(torch.from_numpy(np.stack([x, y], 1)))
    np.testing.assert_allclose(again, drawn, atol=1e-9)
    assert max(abs(x).max(), abs(y).max()) <= 1.0 and min(np.ptp(x), np.ptp(y)) > 1.9


def rollout_towards(holds, steps=30):
    """Give one agent's rollout whose episodes hold directions (E, 3), each with its own action."""
    obs = torch.zeros(1, steps, len(holds), 45)
    obs[..., DIRECTION] = holds
    obs[..., TARGET] = torch.tensor([0.0, 0.0, 1.0])
    actions = torch.arange(len(holds)).float()[:, None].expand(1, steps, -1, 2).clone()
    blank = torch.zeros(1, steps, len(holds))
    return Rollout(obs, actions, blank, obs, blank, blank.clone())


def test_every_target_takes_the_episode_that_served_it_and_none_where_none_did():
    holds = directions(torch.tensor([[0.0, 0.6], [0.0, -0.6], [0.5, 0.0]]))
    config = HindsightConfig(steps=1, targets=300, memory=2)
    hindsight = Hindsight(config, (1, 30, 3, 45, 2))
    rollout = rollout_towards(holds)
    rollout.ended[0, 10, 1] = 1.0  # the second drops the pen before it succeeds
    hindsight.remember(rollout)
    obs, actions, share = hindsight.choose([torch.Generator().manual_seed(0)], 500)
    episode = actions[0, :, 0].long()
    assert set(episode.tolist()) == {0, 2} and 0.05 < share[0] < 0.4
    cosine = (holds[episode] * obs[0, :, TARGET]).sum(1)
    assert (cosine > 0.95).all()
    torch.testing.assert_close(obs[0, :, OFF], obs[0, :, DIRECTION] - obs[0, :, TARGET])
    strict = Hindsight(replace(config, hold=29), (1, 30, 3, 45, 2))
    strict.remember(rollout)
    assert strict.choose([torch.Generator().manual_seed(0)], 4)[2].tolist() == [0.0]
    for _ in range(2):  # forgotten once the memory has gone round
        nothing = rollout_towards(holds)
        nothing.ended[:, 3] = 1.0
        hindsight.remember(nothing)
    assert hindsight.choose([torch.Generator().manual_seed(0)], 4)[2].tolist() == [0.0]


def test_imitation_brings_likely_actions_nearer_and_leaves_the_others_alone():
    ppo = PPO(OBS, ACT, SMALL, [0, 1], convert(made_up_expert(OBS, ACT)))
    before = ppo.state["actors"].clone()
    obs = torch.randn(2, 64, OBS, generator=torch.Generator().manual_seed(0))
    wanted = torch.zeros(2, 64, ACT)
    going = torch.tensor([[True], [False]])
    losses = torch.stack([ppo.imitate(obs, wanted, 1e-2, going) for _ in range(30)])
    assert losses[-1, 0] < 0.7 * losses[0, 0] and losses[-1, 1] == losses[0, 1]
    assert torch.equal(ppo.state["actors"][1], before[1])
    assert torch.equal(ppo.state["actors"][0, -ACT:], before[0, -ACT:])  # the noise


def test_rollouts_with_hindsight_begin_with_whole_episodes(tmp_path):
    pen = dict(robot="pen", domains=("pen",), rollout_steps=7, episode_steps=7)
    trainer = HandTrainer(tiny(tmp_path, hindsight=HindsightConfig(steps=2, batch=8), **pen))
    for _ in range(2):
        first = trainer.obs.copy()
        trainer.collect()
        np.testing.assert_allclose(first[:, 24:36], trainer.obs[:, 24:36], atol=1e-6)
        assert trainer.rollout.ended[:, -1].all() and not trainer.ages.any()


def test_only_the_pen_has_other_targets(tmp_path):
    with pytest.raises(ShiftgymError, match="leave out --hindsight.steps for the door"):
        HandTrainer(tiny(tmp_path, hindsight=HindsightConfig(steps=2)))

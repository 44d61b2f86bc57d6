"""Test the hands' SAC: other targets against the simulator, the guide, and going on after a kill."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_hands import PEN, made_up_expert
from training_helpers import finish, trainer_process

import shiftgym
from shiftgym.errors import DomainError
from shiftgym.policies import read_policy
from shiftgym_agents.artifacts import read_checkpoint
from shiftgym_tools.curves import read_curves
from shiftgym_tools.hand_experts import ATTRIBUTION
from shiftgym_tools.hand_sac import HandSACConfig, HandSACTrainer
from shiftgym_tools.pen_goals import DIRECTION, TARGET, directions, is_goal, relabel

torch.set_num_threads(1)


def played(slug, steps=60, envs=6):
    """Play the same actions towards several targets until a pen drops: rows (T, N, D)."""
    of = shiftgym.make_vec([slug] * envs, autoreset_mode="disabled", num_threads=1)
    obs, _ = of.reset(seed=0)
    rng, rows = np.random.default_rng(0), []
    for _ in range(steps):
        action = np.repeat(0.3 * rng.normal(size=(1, PEN[1])), envs, 0).astype(np.float32)
        after, reward, terminated, _, _ = of.step(action)
        ends = np.stack([reward, terminated], 1)
        rows.append(np.concatenate([obs, action, after, ends], 1))
        obs = after
        if terminated.any():
            break
    of.close()
    return np.stack(rows)


@pytest.mark.parametrize("slug", ["pen", "pen-morph-medium"])
def test_relabelled_transitions_are_those_of_an_episode_with_that_target(slug):
    rows = played(slug)
    others = np.roll(rows, 1, axis=1)
    for own, other in zip(rows, others, strict=True):
        assert not np.array_equal(own[:, TARGET], other[:, TARGET])
        np.testing.assert_allclose(relabel(own, other[:, TARGET]), other, atol=1e-12)


def test_relabelling_pays_for_the_direction_that_was_reached():
    row = played("pen", steps=1, envs=1)[0]
    after = row[:, -2 - PEN[0] : -2]
    assert row[0, -2] < 1.0
    assert relabel(row, after[:, DIRECTION])[0, -2] == pytest.approx(61, abs=0.05)


def test_targets_are_those_that_resets_draw():
    of = shiftgym.make_vec(["pen"] * 200, autoreset_mode="disabled", num_threads=1)
    drawn = of.reset(seed=3)[0][:, TARGET]
    of.close()
    assert is_goal(drawn).all()
    angles = np.random.default_rng(0).uniform(-1, 1, (200, 2))
    ours = directions(angles)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1)
    np.testing.assert_allclose(ours.mean(0), drawn.mean(0), atol=0.12)
    np.testing.assert_allclose(ours.std(0), drawn.std(0), atol=0.08)
    assert is_goal(ours).all() and not is_goal(directions(angles + 2.5)).any()


TINY = """
--robot pen --domains pen pen-morph-medium --updates 12 --sac.width 32 --sac.batch 16
--envs-per-agent 4 --updates-per-block 4 --steps-per-update 2 --random-steps 32 --evaluate-every 4
--evaluation-episodes 1 --checkpoint-minutes 0 --capacity 400 --no-progress
""".split()


def tiny(out, **changes):
    from dataclasses import replace

    from shiftgym_tools.sac import SACConfig

    base = HandSACConfig(
        domains=("pen", "pen-morph-medium"), out=out, sac=SACConfig(width=32, batch=16),
        envs_per_agent=4, updates_per_block=4, random_steps=32, evaluate_every=4,
        evaluation_episodes=1, checkpoint_minutes=0, capacity=400, progress=False, updates=8,
    )  # fmt: skip
    return replace(base, **changes)

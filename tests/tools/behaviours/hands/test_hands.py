"""Test hand training: the expert's conversion, PPO against plain loops, runs apart, and kill -9."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import training_helpers
from training_helpers import finish, stored_updates

from shiftgym.basics.errors import DomainError, ShiftgymError
from shiftgym.evaluation import evaluate, policy_act
from shiftgym.policies import read_policy
from shiftgym_agents.training.artifacts import read_checkpoint
from shiftgym_tools.behaviours.hands.config import HandConfig, PPOConfig
from shiftgym_tools.behaviours.hands.experts import ATTRIBUTION, convert, read_start
from shiftgym_tools.behaviours.hands.ppo import METRICS, PPO, clipped_loss
from shiftgym_tools.behaviours.hands.rollout import Rollout, advantages
from shiftgym_tools.behaviours.hands.trainer import HandTrainer

OBS, ACT = 6, 3
PEN, DOOR = (45, 24), (39, 28)
SMALL = PPOConfig(width=16, epochs=2, minibatches=2, warmup=1)
torch.set_num_threads(1)
EXPERTS = os.environ.get("SHIFTGYM_ADROIT_EXPERTS", "")


def made_up_expert(obs, act, width=8, seed=0):
    """Give arrays in the layout of a DAPG expert, with weights drawn at random."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    return {
        "W0": draw(width, obs), "b0": draw(width), "W1": draw(width, width), "b1": draw(width),
        "W2": draw(act, width), "b2": draw(act), "in_shift": draw(obs),
        "in_scale": draw(obs) ** 2 + 0.1, "out_shift": draw(act), "out_scale": draw(act) * 0.3,
        "log_std": -np.abs(draw(act)).clip(0, 2), "nonlinearity": np.array("tanh"),
    }  # fmt: skip


def made_up_rollout(runs, steps=8, envs=4, seed=0):
    """Give a rollout with a few endings, each run's numbers from a generator of its own."""
    parts = [torch.Generator().manual_seed(seed + run) for run in range(runs)]
    draw = lambda *shape: torch.stack([torch.randn(shape, generator=g) for g in parts])  # noqa: E731
    terminated = (draw(steps, envs) > 1).float()
    ended = torch.maximum(terminated, (draw(steps, envs) > 1).float())
    obs, actions, rewards = draw(steps, envs, OBS), draw(steps, envs, ACT), draw(steps, envs)
    return Rollout(obs, actions, rewards, draw(steps, envs, OBS), terminated, ended)


# --- what training starts from -------------------------------------------------------------------


def test_converted_expert_acts_as_its_formula_says():
    e = made_up_expert(OBS, ACT)
    obs = np.random.default_rng(1).normal(size=(5, OBS)).astype(np.float32)
    x = (obs - e["in_shift"]) / (e["in_scale"] + 1e-8)
    hidden = np.tanh(e["W1"] @ np.tanh(e["W0"] @ x.T + e["b0"][:, None]) + e["b1"][:, None])
    expected = e["out_shift"] + e["out_scale"] * (e["W2"] @ hidden + e["b2"][:, None]).T
    arrays = convert(e)
    assert all(array.dtype == np.float32 for array in arrays.values())
    ppo = PPO(OBS, ACT, SMALL, [0, 1], arrays)
    seen = torch.from_numpy(obs).expand(2, -1, -1)
    for run in range(2):
        np.testing.assert_allclose(ppo.means(seen)[run], expected, atol=1e-5)
        back = ppo.policy_arrays(run)
        assert all(np.array_equal(back[name], array) for name, array in arrays.items())


def test_files_that_are_no_expert_are_refused_with_the_reason(tmp_path):
    with pytest.raises(ShiftgymError, match="No policy file"):
        read_start(tmp_path / "none.npz", *PEN)
    path = tmp_path / "expert.npz"
    path.write_bytes(b"no archive")
    with pytest.raises(ShiftgymError, match="Cannot read an expert"):
        read_start(path, *PEN)
    np.save(path.with_suffix(".npy"), np.zeros(3))
    with pytest.raises(ShiftgymError, match="Cannot read an expert"):
        read_start(path.with_suffix(".npy"), *PEN)
    good = made_up_expert(*PEN)
    bad = {
        "lacks log_std": {k: v for k, v in good.items() if k != "log_std"},
        "units of relu": good | {"nonlinearity": np.array("relu")},
        "do not fit together: b1": good | {"b1": np.zeros(3)},
        "not finite": good | {"b2": np.full(24, np.nan)},
        "Cannot read": good | {"W0": np.array([{"an": "object"}])},
    }
    for message, arrays in bad.items():
        np.savez(path, **arrays)
        with pytest.raises(ShiftgymError, match=message):
            read_start(path, *PEN)
    np.savez(path, **good)
    assert read_start(path, *PEN).about["attribution"] == ATTRIBUTION
    with pytest.raises(ShiftgymError, match="another robot"):
        read_start(path, *DOOR)


@pytest.mark.parametrize(("robot", "sizes", "least"), [("pen", PEN, 0.5), ("door", DOOR, 0.8)])
def test_expert_succeeds_in_the_source_domain(robot, sizes, least):
    path = Path(EXPERTS) / f"{robot}.npz"
    if not EXPERTS or not path.exists():
        pytest.skip("SHIFTGYM_ADROIT_EXPERTS is not a folder with DAPG experts pen.npz, door.npz")
    policy = read_start(path, *sizes).policy(robot)
    found = evaluate(policy_act(policy), robot, episodes=12, seed=1000)
    assert found.successes is not None and found.successes.mean() >= least


# --- the learner ---------------------------------------------------------------------------------


def test_advantages_equal_a_plain_loop():
    roll = made_up_rollout(2)
    values, after = torch.randn(2, 2, 8, 4, generator=torch.Generator().manual_seed(0))
    found = advantages(roll, values, after, 0.9, 0.8)
    for run in range(2):
        for env in range(4):
            for start in range(8):
                total, weight = 0.0, 1.0
                for t in range(start, 8):
                    at = (run, t, env)
                    bootstrap = 0.0 if roll.terminated[at] else 0.9 * float(after[at])
                    total += weight * (float(roll.rewards[at]) + bootstrap - float(values[at]))
                    weight *= 0.9 * 0.8
                    if roll.ended[at]:
                        break
                assert float(found[run, start, env]) == pytest.approx(total, abs=1e-4)


def test_clipping_takes_the_gradient_where_the_ratio_has_gone_far_enough():
    log_ratio = torch.tensor([0.0, 0.0, 0.5, -0.5, -0.5, 0.5], requires_grad=True)
    advantage = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    clipped_loss(log_ratio, advantage, 0.2).sum().backward()
    assert log_ratio.grad is not None
    assert log_ratio.grad.sign().tolist() == [-1, 1, 0, 0, -1, 1]


def test_learning_makes_well_paid_actions_likelier():
    """One-step episodes that pay for a large first action: its mean must rise, others' must not."""
    config = replace(SMALL, warmup=0, learning_rate=3e-3, epochs=4)
    ppo = PPO(OBS, ACT, config, [0, 1])
    for _ in range(15):
        obs = torch.zeros(2, 1, 64, OBS)
        actions = ppo.act(obs[:, 0], ppo.draw(64, ACT))[:, None]
        one = torch.ones(2, 1, 64)
        ppo.learn(Rollout(obs, actions, actions[..., 0].clone(), obs, one, one))
    mean = ppo.means(torch.zeros(2, 1, OBS))[:, 0]
    assert (mean[:, 0] > 0.15).all() and (mean[:, 0] > 2 * mean[:, 1:].abs().amax(1)).all()
    assert (ppo.state["metrics"][:, 2] > 0).all()


def test_warmup_keeps_policies_and_kl_limit_lets_them_rest():
    steps = SMALL.epochs * SMALL.minibatches
    far = replace(SMALL, warmup=0, learning_rate=1e-2, kl_limit=1e9)
    for config, taken in ((SMALL, 0), (replace(far, kl_limit=1e-4), 1), (far, steps)):
        ppo = PPO(OBS, ACT, config, [0, 1], convert(made_up_expert(OBS, ACT)))
        policies, critics = (ppo.state[name].clone() for name in ("actors", "critics"))
        ppo.learn(made_up_rollout(2))
        assert ppo.state["metrics"][:, METRICS.index("policy_steps")].tolist() == [taken, taken]
        assert torch.equal(policies, ppo.state["actors"]) == (taken == 0)
        assert not torch.equal(critics, ppo.state["critics"])


def test_log_std_starts_as_told_and_keeps_its_floor():
    start = convert(made_up_expert(OBS, ACT))
    config = replace(SMALL, warmup=0, initial_log_std=-1.0, min_log_std=-1.0, learning_rate=0.1)
    ppo = PPO(OBS, ACT, config, [0], start)
    assert np.allclose(ppo.policy_arrays(0)["log_std"], -1.0)
    ppo.learn(made_up_rollout(1))
    assert ppo.policy_arrays(0)["log_std"].min() >= -1.0


def test_noise_is_led_down_to_where_it_should_end_and_never_up():
    start = convert(made_up_expert(OBS, ACT)) | {"log_std": np.float32([-0.5, -1.0, -4.0])}
    config = replace(SMALL, anneal=(2, 6), final_log_std=-2.0, min_log_std=-5.0, entropy_bonus=1.0)
    ppo = PPO(OBS, ACT, config, [0], start)
    seen = []
    for i in range(8):
        ppo.learn(made_up_rollout(1, seed=i))
        seen.append(ppo.policy_arrays(0)["log_std"])
    assert (seen[1] > [-0.51, -1.01, -4.01]).all()  # free until it begins
    middle = np.stack(seen)[2:6, :2]
    assert (np.diff(middle, axis=0) < 0).all() and (middle[1] > -1.9).all()
    assert (seen[5][:2] <= -2.0 + 1e-5).all() and (seen[7][:2] <= -2.0 + 1e-5).all()
    assert abs(seen[7][2] + 4.0) < 0.05


def test_moving_return_spread_keeps_the_predictions():
    ppo = PPO(OBS, ACT, replace(SMALL, value_learning_rate=1e-30), [0, 1])
    ppo.learn(made_up_rollout(2))
    obs = made_up_rollout(2, seed=9).obs.flatten(1, 2)

    def predictions():
        return ppo.values(obs) * ppo.state["return_var"].sqrt() + ppo.state["return_mean"]

    before, spread = predictions(), ppo.state["return_var"].clone()
    means = ppo.state["obs_mean"].clone(), ppo.state["obs_var"].clone()
    roll = made_up_rollout(2, seed=5)
    ppo.learn(replace(roll, rewards=roll.rewards * 30 + 7))
    ppo.state["obs_mean"], ppo.state["obs_var"] = means
    assert not torch.allclose(spread, ppo.state["return_var"], rtol=0.1)
    torch.testing.assert_close(predictions(), before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scratch", [True, False])
def test_learner_alone_equals_learner_among_others(scratch):
    start = None if scratch else convert(made_up_expert(OBS, ACT))
    several = PPO(OBS, ACT, SMALL, [3, 4, 5], start)
    alone = PPO(OBS, ACT, SMALL, [4], start)
    for i in range(4):
        rollout = made_up_rollout(3, seed=10 * i)
        if i == 2:  # what one run does must not reach another, not even through its clipping
            rollout.rewards[0] *= 1e6
            several.state["actors"][2] *= 50
        several.learn(rollout)
        own = (getattr(rollout, name)[1:2] for name in Rollout.__dataclass_fields__)
        alone.learn(Rollout(*own))
    for name, tensor in alone.state.items():
        torch.testing.assert_close(several.state[name][1:2], tensor, rtol=1e-4, atol=1e-5)


# --- the trainer, end to end ---------------------------------------------------------------------

TINY = """
--robot pen --domains pen pen-morph-medium --updates 4 --ppo.width 16 --ppo.warmup 1
--ppo.minibatches 2 --ppo.epochs 2 --envs-per-agent 3 --rollout-steps 30 --evaluate-every 2
--evaluation-episodes 1 --checkpoint-minutes 0 --no-progress --episode-steps 25 --shaping 5
--ppo.anneal 1 3 --hindsight.steps 2 --hindsight.batch 16 --hindsight.memory 2
""".split()


@pytest.fixture(scope="module")
def expert_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("expert") / "pen.npz"
    np.savez(path, **made_up_expert(*PEN))
    return path


def trainer_process(out, *extra):
    return training_helpers.trainer_process("train-hands", [*TINY, *extra], out)


def timeless_curves(out):
    rows = [line.split(",") for line in (out / "curves.csv").read_text().splitlines()]
    kept = [i for i, name in enumerate(rows[0]) if "seconds" not in name]
    return [[row[i] for i in kept] for row in rows]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, expert_file):
    out = tmp_path_factory.mktemp("hands") / "whole"
    finish(trainer_process(out, "--expert", str(expert_file)))
    return out


def test_killed_and_resumed_equals_never_stopped(uninterrupted, expert_file, tmp_path):
    out = tmp_path / "killed"
    process = trainer_process(out, "--expert", str(expert_file))
    threshold = int(np.random.default_rng().integers(0, 3))
    while process.poll() is None and stored_updates(out) < threshold:
        time.sleep(0.002)
    time.sleep(float(np.random.default_rng().uniform(0, 0.05)))
    assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    finish(trainer_process(out, "--expert", str(expert_file)))
    expected, found = read_checkpoint(uninterrupted), read_checkpoint(out)
    assert expected and found and expected[0].keys() == found[0].keys()
    for name, array in expected[0].items():
        assert np.array_equal(found[0][name], array), name
    assert timeless_curves(out) == timeless_curves(uninterrupted)
    for path in sorted((uninterrupted / "snapshots").iterdir()):
        ours, theirs = read_policy(path).arrays, read_policy(out / "snapshots" / path.name).arrays
        assert all(np.array_equal(ours[name], theirs[name]) for name in theirs), path.name


def test_run_folder_holds_policies_that_say_where_they_come_from(uninterrupted, expert_file):
    assert (uninterrupted / "curves.png").stat().st_size > 1000
    assert len(timeless_curves(uninterrupted)) == 1 + 2 * 3
    first = read_policy(uninterrupted / "snapshots" / "pen-morph-medium-00000000.safetensors")
    start = read_start(expert_file, *PEN)
    assert all(np.array_equal(first.arrays[name], array) for name, array in start.arrays.items())
    path = uninterrupted / "snapshots" / "pen-morph-medium-00000004.safetensors"
    about = read_policy(path).metadata
    assert about["attribution"] == ATTRIBUTION
    assert about["expert_sha256"] == start.about["expert_sha256"]
    assert about["domain"] == "pen-morph-medium" and about["kind"] == "gaussian"
    assert about["step"] == "360" and about["seed"] == "1" and about["mujoco"] and about["git"]
    assert float(about["return_mean"]) and 0 <= float(about["success"]) <= 1
    again = read_start(path, *PEN)  # a policy of our own starts further training
    assert again.about["attribution"] == ATTRIBUTION and again.about["start_sha256"]


def tiny(out, **changes):
    base = HandConfig(
        robot="door", domains=("door", "door-kinematic-hard"), out=out, ppo=SMALL, updates=1,
        envs_per_agent=2, rollout_steps=12, evaluation_episodes=1, progress=False,
    )  # fmt: skip
    return replace(base, **changes)


def test_agent_alone_equals_agent_among_others(tmp_path):
    both = HandTrainer(tiny(tmp_path / "both"))
    alone = HandTrainer(tiny(tmp_path / "one", domains=("door-kinematic-hard",), seed=1))
    for trainer in (both, alone):
        trainer.collect()
        trainer.ppo.learn(trainer.rollout)
    for name in Rollout.__dataclass_fields__:
        ours, theirs = getattr(both.rollout, name)[1:], getattr(alone.rollout, name)
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    for name in ("actors", "critics"):
        torch.testing.assert_close(
            both.ppo.state[name][1:], alone.ppo.state[name], rtol=1e-3, atol=1e-4
        )


def test_cut_episodes_end_without_terminating_and_start_anew(tmp_path):
    trainer = HandTrainer(tiny(tmp_path, episode_steps=5))
    first = trainer.obs.copy()
    trainer.collect()
    kept = trainer.rollout
    assert (kept.ended.nonzero()[:, 1].unique() == torch.tensor([4, 9])).all()
    assert not kept.terminated.any() and kept.ended[:, 4].all()
    arm = slice(0, 27)  # the door stands elsewhere, the arm starts as it always does
    again = kept.obs[:, 5].flatten(0, 1).numpy()
    np.testing.assert_allclose(again[:, arm], first[:, arm], atol=1e-6)
    assert not np.allclose(kept.next_obs[:, 4].flatten(0, 1)[:, arm], first[:, arm], atol=1e-3)
    assert all(len(own) == 4 for own in trainer.returns)


def test_shaping_pays_the_learner_and_leaves_returns_true(tmp_path):
    pen = dict(robot="pen", domains=("pen",), rollout_steps=6, episode_steps=6)
    plain, shaped = (
        HandTrainer(tiny(tmp_path / str(weight), shaping=weight, **pen)) for weight in (0.0, 8.0)
    )
    for trainer in (plain, shaped):
        trainer.collect()
    assert plain.returns[0] == shaped.returns[0]
    extra = (shaped.rollout.rewards - plain.rollout.rewards)[0]
    after = plain.rollout.next_obs[0]
    cosine = 1 - (after[..., 42:45] ** 2).sum(-1) / 2  # of unit vectors, from their difference
    torch.testing.assert_close(extra, 8 * (1 + cosine) / 2, rtol=1e-4, atol=1e-4)


def test_training_ends_once_every_agent_succeeds_often_enough(tmp_path):
    trainer = HandTrainer(tiny(tmp_path, updates=3, evaluate_every=2, enough=0.7))
    trainer.successes[0].extend([True] * 100)
    trainer.successes[1].extend([True] * 75 + [False] * 25)
    assert trainer.learned
    trainer.successes[1].extend([False] * 10)
    assert not trainer.learned
    assert trainer.run() and trainer.ppo.updates == 3
    assert [row["updates"] for row in trainer.curves.rows[::2]] == ["0", "2", "3"]


def test_divergence_is_reported_by_domain(tmp_path):
    trainer = HandTrainer(tiny(tmp_path))
    trainer.ppo.state["critics"][1] = float("nan")
    with pytest.raises(ShiftgymError, match="in door-kinematic-hard after"):
        trainer.run()


def test_another_configuration_or_robot_is_refused(uninterrupted, tmp_path):
    with pytest.raises(ValueError, match="another configuration(.|\n)*envs_per_agent"):
        HandTrainer(tiny(uninterrupted, robot="pen", domains=("pen", "pen-morph-medium")))
    with pytest.raises(DomainError, match="not of the robot door"):
        HandTrainer(tiny(tmp_path, domains=("door", "pen")))

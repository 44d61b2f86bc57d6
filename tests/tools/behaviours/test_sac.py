"""Test the stacked SAC learner against autograd, itself, and kill -9."""

from __future__ import annotations

import dataclasses
import math
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import training_helpers
from training_helpers import finish, stored_updates

from shiftgym.basics.errors import ShiftgymError
from shiftgym.policies import read_policy
from shiftgym_agents.core.networks import StackedMLP, init_mlp, mlp, pack, run_generators, unpack
from shiftgym_agents.kernels import native
from shiftgym_agents.kernels.building import NativeUnavailableError, _compiler
from shiftgym_agents.training.artifacts import read_checkpoint
from shiftgym_tools.behaviours import sac_native
from shiftgym_tools.behaviours.config import BehaviourConfig, SACConfig
from shiftgym_tools.behaviours.curves import read_curves
from shiftgym_tools.behaviours.replay_buffer import Replay
from shiftgym_tools.behaviours.sac import LOG_STD_RANGE, SAC
from shiftgym_tools.behaviours.sac_native import load
from shiftgym_tools.behaviours.trainer import Trainer, warm_start

OBS, ACT, ROW = 5, 2, 2 * 5 + 2 + 2
SMALL = SACConfig(width=32, batch=24, learning_rate=1e-3)


@pytest.fixture
def backend_native():
    try:
        load()
    except NativeUnavailableError as error:
        pytest.skip(str(error))


def filled_replay(path, runs, rows=200):
    replay = Replay(path, runs, ROW, capacity=rows, margin=50)
    draws = [np.random.default_rng(run).normal(size=(rows, ROW)) for run in range(runs)]
    data = np.stack(draws).astype(np.float32)
    data[..., -1] = data[..., -1] > 1
    replay.commit(0)
    for start in range(0, rows, 50):
        replay.add(data[:, start : start + 50])
        replay.commit(replay.written)
    return replay


def test_pack_and_unpack_are_inverse_and_share_memory():
    layers = init_mlp((OBS, 32, 3), run_generators([0, 1]))
    rows = pack(layers)
    views = unpack(rows, (OBS, 32, 3))
    for (w, b), (w2, b2) in zip(layers, views, strict=True):
        assert torch.equal(w, w2) and torch.equal(b, b2)
    rows.zero_()
    assert not views[0][0].any()
    with pytest.raises(ValueError, match="weights"):
        unpack(rows, (OBS, 64, 3))


@pytest.mark.parametrize("layer_norm", [False, True])
def test_a_run_alone_equals_the_run_among_others(layer_norm):
    many = StackedMLP((OBS, 32, 32, 3), run_generators([7, 8, 9]), layer_norm)
    alone = StackedMLP((OBS, 32, 32, 3), run_generators([8]), layer_norm)
    x = torch.randn(3, 10, OBS, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(many(x)[1:2], alone(x[1:2]))


def autograd_gradients(sac, rows, noise):
    """Write the three losses as in the paper and let autograd differentiate them."""
    size, runs = rows.shape[1], sac.runs
    obs_act, obs, next_obs, reward, terminated = sac.split(rows)
    names = ("critics", "actors", "log_alphas")
    critics, actors, log_alphas = (sac.state[n].clone().requires_grad_() for n in names)
    actor = unpack(actors, sac.actor_sizes)

    def policy(x, eps):
        mean, raw = mlp(x, actor).chunk(2, -1)
        normal = torch.distributions.Normal(mean, raw.clamp(*LOG_STD_RANGE).exp())
        pre = mean + normal.stddev * eps
        act = torch.tanh(pre)
        return act, (normal.log_prob(pre) - torch.log(1 - act**2)).sum(-1, keepdim=True)

    def twin(x, flat):
        layers = [unpack(flat[:, j].contiguous(), sac.critic_sizes) for j in range(2)]
        return torch.stack([mlp(x, net) for net in layers])

    alpha = log_alphas.exp()[:, :, None]
    with torch.no_grad():
        act, log_prob = policy(next_obs, noise[:, size:])
        q = twin(torch.cat([next_obs, act], -1), sac.state["targets"]).amin(0)
        y = reward + 0.99 * (1 - terminated) * (q - alpha * log_prob)
    critic_loss = 0.5 * ((twin(obs_act, critics) - y) ** 2).mean(2).sum()
    (grad_critics,) = torch.autograd.grad(critic_loss, critics)
    act, log_prob = policy(obs, noise[:, :size])
    q = twin(torch.cat([obs, act], -1), critics.detach()).amin(0)
    actor_loss = (alpha.detach() * log_prob - q).mean(1).sum()
    (grad_actors,) = torch.autograd.grad(actor_loss, actors)
    alpha_loss = -(log_alphas * (log_prob.detach() - ACT).mean(1)).sum()
    (grad_alphas,) = torch.autograd.grad(alpha_loss, log_alphas)
    assert grad_alphas.shape == (runs, 1)
    return grad_critics, grad_actors, grad_alphas


def test_hand_written_gradients_equal_autograd(tmp_path):
    sac = SAC(OBS, ACT, SMALL, [0, 1, 2], backend="eager")
    replay = filled_replay(tmp_path / "ring", 3)
    rows = replay.gather(replay.sample(sac.generators, (24,)))
    noise = sac.draw(48, ACT)
    for ours, theirs in zip(
        sac.gradients(rows, noise), autograd_gradients(sac, rows, noise), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("width", [1, 7, 20, 32, 45])
def test_native_equals_eager(width, tmp_path, backend_native):
    learners = {}
    config = dataclasses.replace(SMALL, width=width)
    for backend in ("eager", "native"):
        sac = SAC(OBS, ACT, config, [3, 4, 5], backend=backend, threads=2)
        sac.train(filled_replay(tmp_path / backend, 3), 10)
        learners[backend] = sac.save()
    for name, eager in learners["eager"].items():
        torch.testing.assert_close(learners["native"][name], eager, rtol=2e-3, atol=2e-4, msg=name)


def test_native_run_alone_is_bitwise_the_run_among_others(tmp_path, backend_native):
    many = SAC(OBS, ACT, SMALL, [3, 4], threads=2)
    many.train(filled_replay(tmp_path / "many", 2), 20)
    alone = SAC(OBS, ACT, SMALL, [3])
    alone.train(filled_replay(tmp_path / "alone", 1), 20)
    for name, tensor in alone.save().items():
        among = many.save()[name]
        assert torch.equal(among[: len(tensor)], tensor), name


def test_native_result_does_not_depend_on_threads(tmp_path, backend_native):
    found = []
    for threads in (1, 2, 4):
        sac = SAC(OBS, ACT, SMALL, [3, 4, 5], threads=threads)
        sac.train(filled_replay(tmp_path / str(threads), 3), 50)
        found.append(sac.save())
    for name, tensor in found[0].items():
        assert torch.equal(tensor, found[1][name]) and torch.equal(tensor, found[2][name]), name


def test_native_block_stays_inside_its_buffers(tmp_path, backend_native):
    """Run blocks of odd shapes under an address sanitizer."""
    program, tools = tmp_path / "widths", sac_native.SOURCE.parent
    flags = ["-O0", "-g", "-std=c++20", "-pthread", "-march=native", "-fsanitize=address"]
    folders = [f"-I{tools}", f"-I{native.SOURCE.parent}"]
    here = Path(__file__).with_name("sac_widths.cpp")
    command = [_compiler(), *flags, *folders, str(here), "-o", str(program)]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(made.stderr[-300:])
    done = subprocess.run([program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_saved_and_loaded_learner_goes_on_bit_for_bit(tmp_path):
    replay = filled_replay(tmp_path / "ring", 2)
    one = SAC(OBS, ACT, SMALL, [0, 1], backend="eager")
    one.train(replay, 3)
    two = SAC(OBS, ACT, SMALL, [8, 9], backend="eager")
    two.load({name: tensor.clone() for name, tensor in one.save().items()})
    one.train(replay, 3)
    two.train(replay, 3)
    for name, tensor in one.save().items():
        assert torch.equal(tensor, two.save()[name]), name


def test_truncation_is_not_in_the_row_and_termination_stops_bootstrapping():
    sac = SAC(OBS, ACT, SMALL, [0], backend="eager")
    rows = torch.randn(1, 4, ROW, generator=torch.Generator().manual_seed(0))
    rows[..., -1] = 1
    noise = torch.zeros(1, 8, ACT)
    ended = sac.gradients(rows, noise)[0].clone()
    sac.state["targets"].fill_(7.0)
    assert torch.equal(ended, sac.gradients(rows, noise)[0])
    rows[..., -1] = 0
    assert not torch.equal(ended, sac.gradients(rows, noise)[0])


def test_deterministic_action_is_numpys_tanh_of_mean():
    sac = SAC(OBS, ACT, SMALL, [0, 1], backend="eager")
    obs = np.random.default_rng(0).normal(size=(2, 3, OBS))
    w = sac.actor_arrays(1)
    hidden = np.maximum(np.maximum(obs[1] @ w["W0"] + w["b0"], 0) @ w["W1"] + w["b1"], 0)
    np.testing.assert_allclose(
        sac.act(obs)[1], np.tanh(hidden @ w["W2"] + w["b2"])[:, :ACT], atol=1e-5
    )


def test_ring_keeps_the_window_a_checkpoint_saw(tmp_path):
    path = tmp_path / "ring"
    ring = Replay(path, 1, 1, capacity=6, margin=4)
    for value in range(8):
        if not ring.room:
            ring.commit(ring.flush())
        ring.add(np.full((1, 1, 1), value, np.float32))
    ring.commit(ring.flush())
    for value in range(8, 12):
        ring.add(np.full((1, 1, 1), value, np.float32))
    with pytest.raises(RuntimeError, match="checkpoint first"):
        ring.add(np.zeros((1, 1, 1), np.float32))
    del ring
    resumed = Replay(path, 1, 1, capacity=6, margin=4, written=8)
    slots = resumed.sample(run_generators([0]), (500,))
    assert set(resumed.gather(slots).flatten().tolist()) == {2, 3, 4, 5, 6, 7}


def test_sampling_is_uniform(tmp_path):
    ring = filled_replay(tmp_path / "ring", 2, rows=100)
    counts = torch.bincount(ring.sample(run_generators([0, 1]), (20000,))[1])
    expected = 200
    assert abs(counts[counts > 0].float().mean() - expected) < 1
    assert counts.max() < expected + 6 * math.sqrt(expected)


# --- the trainer, end to end ---------------------------------------------------------------------

TINY = """
--robot hopper --domains hopper hopper-kinematic --updates 640 --sac.width 32 --sac.batch 32
--envs-per-agent 4 --updates-per-block 16 --random-steps 200 --capacity 600 --evaluate-every 200
--evaluation-episodes 2 --checkpoint-minutes 0.003 --threads 2 --multi-step 3 --no-progress
""".split()


def trainer_process(out, *extra):
    return training_helpers.trainer_process("train", [*TINY, *extra], out)


def timeless_curves(out):
    rows = read_curves(out / "curves.csv", Trainer.columns)
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    out = tmp_path_factory.mktemp("behaviours") / "whole"
    finish(trainer_process(out))
    return out


def test_killed_and_resumed_equals_never_stopped(uninterrupted, tmp_path):
    out = tmp_path / "killed"
    rng = np.random.default_rng()
    kills = 0
    for threshold in sorted(rng.integers(0, 500, size=3).tolist()):
        process = trainer_process(out)
        while process.poll() is None and stored_updates(out) < threshold:
            time.sleep(0.002)
        time.sleep(float(rng.uniform(0, 0.05)))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
    assert kills
    finish(trainer_process(out))
    expected, found = read_checkpoint(uninterrupted), read_checkpoint(out)
    assert expected and found and expected[0].keys() == found[0].keys()
    for name, array in expected[0].items():
        assert np.array_equal(found[0][name], array), name
    assert timeless_curves(out) == timeless_curves(uninterrupted)
    for policy in sorted((uninterrupted / "snapshots").iterdir()):
        ours, theirs = (
            read_policy(policy).arrays,
            read_policy(out / "snapshots" / policy.name).arrays,
        )
        assert all(np.array_equal(ours[name], theirs[name]) for name in theirs), policy.name


def test_run_folder_holds_policies_curves_and_a_picture(uninterrupted):
    assert (uninterrupted / "curves.png").stat().st_size > 1000
    rows = read_curves(uninterrupted / "curves.csv", Trainer.columns)
    assert [row["updates"] for row in rows[::2]] == ["0", "208", "400", "608", "640"]
    policy = uninterrupted / "snapshots" / "hopper-kinematic-00000608.safetensors"
    arrays, about = read_policy(policy).arrays, read_policy(policy).metadata
    assert {name: array.shape for name, array in arrays.items()} == {
        "W0": (11, 32),
        "b0": (32,),
        "W1": (32, 32),
        "b1": (32,),
        "W2": (32, 6),
        "b2": (6,),
    }
    assert about["kind"] == "sac" and about["domain"] == "hopper-kinematic"
    assert about["updates"] == "608"
    assert float(about["return_mean"]) > 0 and about["git"] and about["mujoco"]


def test_another_configuration_is_refused_with_the_difference(uninterrupted):
    process = trainer_process(uninterrupted, "--sac.batch", "64")
    text, _ = process.communicate(timeout=300)
    assert process.returncode != 0 and "another configuration" in text and "batch" in text


def test_interrupt_checkpoints_and_says_how_to_go_on(tmp_path):
    process = trainer_process(tmp_path / "run", "--updates", "100000")
    while process.poll() is None and stored_updates(tmp_path / "run") < 32:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert "the same command goes on" in finish(process, 128 + signal.SIGINT)


def test_warm_start_takes_actor_from_policy_and_all_from_folder(uninterrupted):
    config = SACConfig(width=32, batch=32)
    slugs = ("hopper-kinematic", "hopper-morph")
    found = read_checkpoint(uninterrupted)
    assert found
    sac = SAC(11, 3, config, [5, 6], backend="eager")
    warm_start(sac, uninterrupted, slugs)
    for name in ("actors", "critics", "targets"):
        assert np.array_equal(sac.state[name].numpy(), found[0][f"sac.{name}"][[1, 0]])
    sac = SAC(11, 3, config, [5, 6], backend="eager")
    policy = uninterrupted / "snapshots" / "hopper-00000608.safetensors"
    warm_start(sac, policy, slugs)
    for name, array in read_policy(policy).arrays.items():
        assert np.array_equal(sac.actor_arrays(1)[name], array)
    with pytest.raises(ValueError, match="width"):
        warm_start(SAC(11, 3, SACConfig(width=64), [5, 6]), policy, slugs)


def test_divergence_is_reported_by_domain(tmp_path):
    config = BehaviourConfig(
        domains=("hopper", "hopper-morph"),
        out=tmp_path,
        sac=SACConfig(width=32, batch=32),
        envs_per_agent=4,
        updates=100,
        evaluation_episodes=1,
        random_steps=100,
        progress=False,
    )
    trainer = Trainer(config)
    trainer.sac.state["critics"][1] = float("nan")
    with pytest.raises(ShiftgymError, match="in hopper-morph after"):
        trainer.run()


def tiny(out, **changes):
    return BehaviourConfig(
        domains=("hopper",), out=out, sac=SACConfig(width=32, batch=32), envs_per_agent=4,
        updates=0, evaluation_episodes=1, random_steps=100, progress=False, **changes,
    )  # fmt: skip


def test_shaping_changes_stored_rewards_alone(tmp_path):
    plain, shaped = (
        Trainer(tiny(tmp_path / "a")),
        Trainer(tiny(tmp_path / "b", reward_bonus=-0.5, control_refund=0.25)),
    )
    for trainer in (plain, shaped):
        trainer.collect()
    assert np.array_equal(plain.running, shaped.running)
    ours, theirs = (t.replay.gather(torch.arange(16)[None]).numpy()[0] for t in (plain, shaped))
    effort = np.square(ours[:, 11:14]).sum(1)
    np.testing.assert_allclose(theirs[:, -2], ours[:, -2] - 0.5 + 0.25 * effort, atol=1e-5)
    assert np.array_equal(np.delete(ours, -2, 1), np.delete(theirs, -2, 1))


def test_block_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="envs_per_agent"):
        _ = BehaviourConfig(envs_per_agent=5).rounds

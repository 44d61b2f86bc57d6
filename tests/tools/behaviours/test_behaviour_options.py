"""Test what training of behaviours can do besides soft actor-critic: schedules, recordings."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch

import shiftgym
from shiftgym_agents.core.networks import run_generators
from shiftgym_tools.behaviours.config import BehaviourConfig, SACConfig
from shiftgym_tools.behaviours.demonstrations import read_demonstrations
from shiftgym_tools.behaviours.multi_step import MultiStep
from shiftgym_tools.behaviours.replay_buffer import Replay
from shiftgym_tools.behaviours.trainer import Trainer

OBS, ACT, ROWS = 11, 3, 40


def tiny(out, **changes):
    sac = SACConfig(width=32, batch=16, anneal=(8, 16), final_entropy=-3.0)
    small = dict(out=out, robot="hopper", domains=("hopper",), sac=sac, random_steps=64)
    small |= dict(capacity=500, envs_per_agent=4, progress=False, evaluate_every=10_000, updates=32)
    small |= dict(updates_per_block=16, evaluation_episodes=1)
    return BehaviourConfig(**(small | changes))


@pytest.fixture
def recording(tmp_path):
    """Write two episodes in OTDF's layout: the second begins at row 25."""
    rng = np.random.default_rng(0)
    path, obs = tmp_path / "recorded.hdf5", rng.normal(size=(ROWS + 1, OBS)).astype(np.float32)
    after = obs[1:].copy()
    after[24] = 7.0  # not the next row's observation
    with h5py.File(path, "w") as file:
        file["observations"], file["next_observations"] = obs[:-1], after
        file["actions"] = rng.uniform(-1, 1, (ROWS, ACT)).astype(np.float32)
        file["rewards"] = np.arange(ROWS, dtype=np.float32)[:, None]
        file["terminals"] = np.zeros((ROWS, 1), np.float32)
    return path


def test_step_size_and_entropy_fall_in_a_line_and_stay(tmp_path):
    config = SACConfig(learning_rate=1e-3, anneal=(100, 300), final_rate=0.1, final_entropy=-3.0)
    assert config.schedule(0) == config.schedule(100) == (1e-3, -1.0)
    assert config.schedule(200) == pytest.approx((5.5e-4, -2.0))
    assert config.schedule(300) == config.schedule(10_000) == pytest.approx((1e-4, -3.0))
    assert SACConfig().schedule(10_000) == (SACConfig().learning_rate, -1.0)


@pytest.mark.parametrize("backend", ["eager", "native"])
def test_the_learner_follows_the_schedule_on_every_backend(tmp_path, backend):
    trainer = Trainer(tiny(tmp_path / backend, backend=backend))
    assert trainer.run()
    assert float(trainer.sac._rate) == pytest.approx(trainer.config.sac.schedule(16)[0])
    assert float(trainer.sac._entropy) == pytest.approx(-3.0 * ACT)


def test_changed_actions_cost_what_the_schedule_says(tmp_path):
    plain = Trainer(tiny(tmp_path / "plain"))
    priced = Trainer(tiny(tmp_path / "priced", smoothing=0.5))
    for trainer in (plain, priced):
        trainer.collect()
    rows = [trainer.replay.file[0, : plain.replay.written] for trainer in (plain, priced)]
    np.testing.assert_array_equal(rows[0][:, :-2], rows[1][:, :-2])
    actions = rows[0][:, OBS : OBS + ACT].reshape(plain.rounds, 4, ACT)
    change = np.square(np.diff(actions, axis=0)).sum(-1)
    change[rows[0][:-4, -1].reshape(-1, 4) > 0] = 0  # nor does that of the next one
    cost = (rows[0] - rows[1])[:, -2].reshape(plain.rounds, 4)
    assert not cost[0].any()  # an episode's first action changes nothing
    np.testing.assert_allclose(cost[1:], 0.5 * change, atol=1e-5)
    growing = BehaviourConfig(smoothing=0.4, smooth=(100, 200))
    assert [growing.smoothing_after(u) for u in (0, 100, 150, 200, 900)] == [0, 0, 0.2, 0.4, 0.4]


def test_recordings_sum_rewards_within_their_episodes(recording):
    rows = read_demonstrations(recording, OBS, ACT, MultiStep(2, 0.5, 1, OBS, 2 * OBS + ACT + 2))
    assert rows.shape == (ROWS - 1, 2 * OBS + ACT + 2)
    assert rows[3, -2] == 3 + 0.5 * 4
    assert rows[24, -2] == 24 and not np.any(rows[24, OBS + ACT : -2] - 7.0)  # an episode's last
    with pytest.raises(shiftgym.ShiftgymError, match="this robot has 17 and 6"):
        read_demonstrations(recording, 17, 6, MultiStep(1, 0.5, 1, 17, 42))


def test_half_of_every_batch_is_of_the_recording(tmp_path):
    kept = np.full((5, 4), 9.0, np.float32)
    replay = Replay(tmp_path / "ring", 2, 4, capacity=30, margin=10, kept=kept)
    for _ in range(4):
        replay.add(np.zeros((2, 10, 4), np.float32))
        replay.commit(replay.written)
    replay.add(np.ones((2, 10, 4), np.float32))
    rows = replay.gather(replay.sample(run_generators([0, 1]), (200,)))
    np.testing.assert_array_equal((rows[..., 0] == 9).sum(1), [100, 100])
    own = rows[rows[..., 0] != 9][:, 0]
    assert set(own.tolist()) == {0.0, 1.0} and 0.2 < float(own.mean()) < 0.5
    assert torch.equal(replay.rows[:, -5:], torch.from_numpy(kept).expand(2, -1, -1))


def test_training_beside_a_recording_learns_from_it_too(tmp_path, recording):
    shown = Trainer(tiny(tmp_path / "shown", demonstrations=recording))
    alone = Trainer(tiny(tmp_path / "alone"))
    assert shown.replay.kept == ROWS and shown.run() and alone.run()
    assert not torch.equal(shown.sac.state["critics"], alone.sac.state["critics"])


def test_all_agents_can_start_from_one_domains(tmp_path):
    two = ("hopper", "hopper-morph")
    first = Trainer(tiny(tmp_path / "first", domains=two, updates=0))
    first.checkpoint()
    options = dict(domains=two, updates=0, warm_start=tmp_path / "first", seed=9)
    for domain, rows in (("", [0, 1]), ("hopper-morph", [1, 1])):
        later = Trainer(tiny(tmp_path / f"later{domain}", warm_domain=domain, **options))
        assert torch.equal(later.sac.state["actors"], first.sac.state["actors"][rows])
    with pytest.raises(ValueError, match="it has hopper, hopper-morph"):
        Trainer(tiny(tmp_path / "none", warm_domain="ant", **options))


def test_a_window_ends_after_it_starts():
    for wrong in (lambda: SACConfig(anneal=(9, 9)), lambda: BehaviourConfig(smooth=(9, 9))):
        with pytest.raises(shiftgym.ShiftgymError, match="must end after it starts"):
            wrong()

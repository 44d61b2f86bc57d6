"""The environments repeat published transitions, and the replay can tell when they do not."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from published_files import FILES, JOINS, published

import shiftgym
from shiftgym.errors import ShiftgymError
from shiftgym_tools.checking.fidelity import fidelity, file_domain, read_transitions
from shiftgym_tools.checking.replay import FIELDS, Transitions, replay

LOCOMOTION = ["hopper", "walker2d", "halfcheetah", "ant"]


def record(slug: str, steps: int = 300, width: int = 8, fast: bool = False) -> Transitions:
    """Record random transitions in file order, as float32, from shiftgym's own environments.

    ``fast`` starts with a spin that exceeds the clip of observed velocities.
    """
    parts: dict[str, list] = {name: [] for name in FIELDS}
    robot = shiftgym.domain(slug).robot
    for episode in range(width):
        env = shiftgym.domain(slug).make()
        rng = np.random.default_rng(episode)
        observation, _ = env.reset(seed=episode)
        if fast:
            base = env.unwrapped
            velocities = base.data.qvel.copy()
            velocities[-1] = 9.9  # the last joint is soon beyond 10 rad/s
            base.set_state(base.data.qpos, velocities)
            observation = base.observe()
        for _ in range(steps // width):
            action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
            if fast:
                action[-1] = 1.0
            after, reward, terminated, _, _ = env.step(action)
            for name, value in zip(
                FIELDS, (observation, action, after, reward, terminated), strict=True
            ):
                parts[name].append(value)
            observation = after
            if terminated:
                break
    arrays = {name: np.asarray(values, dtype=np.float32) for name, values in parts.items()}
    if robot == "ant":
        for name in ("observations", "next_observations"):
            arrays[name] = np.pad(arrays[name], ((0, 0), (0, 84)))
    return Transitions(**arrays)


def write(path: Path, transitions: Transitions, **changes) -> Path:
    arrays = {name: getattr(transitions, name) for name in FIELDS} | changes
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            if values is not None:
                file[name] = values
    return path


@published
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_published_transitions_are_repeated(path):
    transitions = read_transitions(path)
    where = file_domain(path)
    ours = replay(where, transitions)
    assert np.flatnonzero(ours.joins).tolist() == JOINS.get(path.stem, [])
    kept = ours.kept()
    assert kept.mean() > 0.99
    errors = ours.errors[kept]
    assert np.median(errors) < 1e-6
    assert np.percentile(errors, 99) < 1e-3
    bound = 1e-3 if where.robot == "ant" else 1e-5
    assert np.median(ours.reward_errors[kept]) < bound
    assert (ours.terminated == transitions.terminals)[kept].all()
    source = replay(where.robot, transitions, start=ours)
    assert np.median(source.errors[kept]) > 1e4 * np.median(errors)


@pytest.mark.parametrize("robot", LOCOMOTION)
@pytest.mark.parametrize("shift", ["", "-kinematic", "-morph", "-gravity-x0p5"])
def test_own_transitions_are_repeated(robot, shift):
    transitions = record(robot + shift)
    found = replay(robot + shift, transitions)
    assert found.usable.all() and not found.joins.any()
    assert np.median(found.errors) < 1e-6
    assert np.percentile(found.errors, 99) < 1e-3
    assert np.median(found.reward_errors) < 1e-6
    assert (found.terminated == transitions.terminals).all()


@pytest.mark.parametrize("robot", LOCOMOTION)
@pytest.mark.parametrize("shift", ["-morph", "-gravity-x0p5"])
def test_another_domain_is_detected(robot, shift):
    transitions = record(robot + shift)
    ours = replay(robot + shift, transitions)
    source = replay(robot, transitions, start=ours)
    assert np.median(source.errors) > 1e4 * np.median(ours.errors)


@pytest.mark.parametrize("robot", ["hopper", "walker2d"])
def test_clipped_velocities_come_from_the_row_before(robot):
    transitions = record(robot, fast=True)
    positions = shiftgym.domain(robot).make().unwrapped.model.nq - 1
    clipped = (np.abs(transitions.observations[:, positions:]) >= 10).any(axis=1)
    assert clipped.sum() > 5
    found = replay(robot, transitions)
    assert found.usable.all()
    assert np.median(found.errors[clipped]) < 1e-5
    assert (np.abs(found.qvel[clipped]).max(axis=1) > 10).all()

    first = int(np.flatnonzero(clipped)[0])
    cut = Transitions(**{name: getattr(transitions, name)[first:] for name in FIELDS})
    left_out = replay(robot, cut)
    assert not left_out.usable[0] and np.isnan(left_out.errors[0])


def test_ant_reward_knows_the_lag_of_the_torso_frame():
    transitions = record("ant", steps=400, width=4)
    found = replay("ant", transitions)
    assert np.percentile(found.reward_errors, 95) < 1e-5
    shuffled = np.random.default_rng(0).permutation(len(transitions))
    apart = Transitions(**{name: getattr(transitions, name)[shuffled] for name in FIELDS})
    assert np.median(replay("ant", apart).reward_errors) < 1e-2


@pytest.mark.parametrize("robot", LOCOMOTION)
def test_rows_that_join_two_episodes_are_named(robot):
    transitions = record(robot, steps=240, width=4)
    starts = np.flatnonzero(~transitions.follows())[1:]
    after = transitions.next_observations.copy()
    after[starts - 1] = transitions.observations[starts]
    terminals = transitions.terminals.copy()
    terminals[starts[0] - 1] = False
    joined = Transitions(
        transitions.observations, transitions.actions, after, transitions.rewards, terminals
    )
    assert len(starts) == 3
    found = replay(robot, joined)
    assert np.flatnonzero(found.joins).tolist() == (starts - 1).tolist()


def test_more_rows_than_one_call_takes(monkeypatch):
    transitions = record("walker2d-kinematic", fast=True)
    whole = replay("walker2d-kinematic", transitions)
    monkeypatch.setattr("shiftgym_tools.checking.replay.CHUNK", 37)
    chunked = replay("walker2d-kinematic", transitions)
    np.testing.assert_array_equal(whole.errors, chunked.errors)
    np.testing.assert_array_equal(whole.reward_errors, chunked.reward_errors)


@pytest.mark.parametrize("robot", ["pen", "door"])
def test_hands_cannot_be_rebuilt(robot):
    with pytest.raises(ShiftgymError, match="cannot be rebuilt from its observations"):
        replay(robot, record("hopper", steps=8))


def test_arrays_of_another_robot_are_refused():
    with pytest.raises(ShiftgymError, match="observations are 11 wide; the walker2d's are 17"):
        replay("walker2d", record("hopper", steps=8))
    ant = record("ant", steps=8)
    ant.observations[0, 50] = 1.0
    with pytest.raises(ShiftgymError, match="not zero"):
        replay("ant", ant)


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("hopper_kinematic_medium", "hopper-kinematic"),
        ("ant_gravity_0.5_medium_expert", "ant-gravity-x0p5"),
        ("halfcheetah_friction_2.0_expert", "halfcheetah-friction-x2"),
        ("walker2d_kinematic_footjnt_hard_medium_replay", "walker2d-kinematic-footjnt-hard"),
        ("hopper_random", "hopper"),
    ],
)
def test_names_of_published_files(name, slug):
    assert file_domain(Path(f"{name}.hdf5")).slug == slug


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hopper_kinemtic_medium", "'hopper_kinematic'"),
        ("hoper_morph_medium", "hopper"),
        ("hopper_morph_mediun", "Did you mean 'medium'"),
        ("transitions", "<robot>_<shift>_<quality>"),
    ],
)
def test_unreadable_names_get_the_nearest(name, message):
    with pytest.raises(ShiftgymError, match=message) as error:
        file_domain(Path(f"{name}.hdf5"))
    assert name in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": None}, "no array rewards"),
        ({"rewards": np.zeros(3)}, "same N"),
        ({"actions": np.zeros(24)}, "two axes"),
        ({"rewards": np.full(24, np.nan)}, "rewards are not finite, first in row 0"),
        ({"terminals": np.full(24, 2.0)}, "0 or 1"),
        ({"next_observations": np.zeros((24, 12))}, "differ in shape"),
        ({"actions": np.zeros((24, 5))}, "actions are 5 wide; the hopper takes 3"),
    ],
)
def test_broken_files_are_named(tmp_path, changes, message):
    write(tmp_path / "hopper_morph_medium.hdf5", record("hopper-morph", steps=24), **changes)
    with pytest.raises(ShiftgymError, match=message) as error:
        fidelity(tmp_path)
    assert "hopper_morph_medium.hdf5" in str(error.value)


def test_truncated_and_foreign_files_are_named(tmp_path):
    path = write(tmp_path / "ant_morph_medium.hdf5", record("hopper", steps=24))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ShiftgymError, match="ant_morph_medium.hdf5 cannot be read as HDF5"):
        read_transitions(path)
    path.write_text("not HDF5")
    with pytest.raises(ShiftgymError, match="cannot be read as HDF5"):
        read_transitions(path)


def test_no_files(tmp_path):
    with pytest.raises(ShiftgymError, match="holds no"):
        fidelity(tmp_path)
    with pytest.raises(ShiftgymError, match="is not a folder"):
        fidelity(tmp_path / "nowhere")


def test_report_of_own_files(tmp_path, capsys):
    write(tmp_path / "hopper_gravity_0.5_medium.hdf5", record("hopper-gravity-x0p5"))
    page, figures = tmp_path / "docs/page.md", tmp_path / "docs/figures.json"
    (report,) = fidelity(tmp_path, out=page, json=figures)
    assert report.domain == "hopper-gravity-x0p5"
    assert report.error.median < 1e-6 and report.ratio > 1e4 and report.terminals_wrong == 0
    assert "hopper_gravity_0.5_medium" in capsys.readouterr().out
    assert "hopper-gravity-x0p5" in page.read_text() and str(tmp_path) not in page.read_text()
    assert json.loads(figures.read_text())["files"][0]["rows"] == report.rows

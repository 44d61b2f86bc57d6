"""Train every method on robots that are none of shiftgym's: from the command line and Python."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
import pytest
from agent_helpers import NAMES, QUICK, make_arrays, small, train
from robot_helpers import HERE, ROBOTS, flags, recorded, tiny

import shiftgym_agents
from shiftgym.basics.errors import ShiftgymError
from shiftgym.cli import main as shiftgym
from shiftgym_agents.core.policy import Policy
from shiftgym_agents.data.pairs import ArrayPair
from shiftgym_agents.data.places import GymEnv, place
from shiftgym_agents.data.sources import Sources
from shiftgym_agents.evaluation.robustness import read_subject
from shiftgym_agents.methods.bc import BC
from shiftgym_agents.methods.table import method
from shiftgym_agents.training.artifacts import read_checkpoint
from shiftgym_agents.training.evaluator import Evaluator
from shiftgym_agents.training.metrics import read_metrics
from shiftgym_agents.training.restore import restore_agent
from shiftgym_agents.training.run_config import TrainOptions
from shiftgym_agents.training.trainer import Trainer
from shiftgym_agents.training.vectorised import make_envs


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a pendulum's data as users have them: HDF5 by D4RL's names, and npz."""
    folder = tmp_path_factory.mktemp("logs")
    with h5py.File(folder / "source.hdf5", "w") as file:
        for name, array in recorded("HeavyPendulum-v0", "source", 200).items():
            file[{"terminated": "terminals", "truncated": "timeouts"}.get(name, name)] = array
    np.savez(folder / "target.npz", **recorded("HeavyPendulum-v0", "target", 100))  # pyright: ignore
    return folder


def command(name: str, logs: Path, out: Path, *more: str, steps: int = 10) -> list[str]:
    """Write the command that trains a method on the pendulum's data."""
    words = ["train", name, "--target", str(logs / "target.npz"), "--out", str(out)]
    if method(name).uses_source:
        words += ["--source", str(logs / "source.hdf5")]
    words += ["--eval-env", f"{HERE}:HeavyPendulum-v0", "--terminal", f"{HERE}:never"]
    words += flags(tiny(name, steps), method(name).presets["ours"])
    words += ["--seeds", "2", "--device", "cpu", "--backend", "eager", "--threads", "1"]
    return [*words, "--evaluate-every", "5", "--episodes", "1", "--no-progress", *more]


@pytest.mark.parametrize("name", NAMES)
def test_the_command_line_trains_evaluates_and_reports(
    name: str, logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert shiftgym(command(name, logs, out)) == 0, capsys.readouterr().err
    assert shiftgym(["eval", str(out), "--episodes", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out.partition("\n[")[2].join(["[", ""]))
    assert [entry["score"] for entry in told] == [None, None] and told[0]["length"] == 20
    assert shiftgym(["report", str(out), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["runs"][0]
    assert shown["unit"] == "return" and shown["last"]["mean"] < 0
    actions = shiftgym_agents.load(out, run=1).act(np.random.default_rng(0).normal(size=(50, 3)))
    assert np.isfinite(actions).all() and np.abs(actions).max() <= 2


def trainer(name: str, out: Path, resume: bool = False) -> Trainer:
    robot = "Slider-v0"
    sides = (recorded(robot, side, rows) for side, rows in (("source", 200), ("target", 100)))
    pair = ArrayPair(*sides, robot, terminal=ROBOTS[robot]["terminal"], reference=(0.0, 20.0))  # pyright: ignore
    options = TrainOptions(out=out, **(QUICK | {"evaluate_every": 60, "backend": "eager"}))
    return Trainer(name, tiny(name, 60), [pair] * 2, [0, 1], options, resume)


@pytest.mark.parametrize("name", NAMES)
def test_python_trains_and_resumes_in_a_model_of_ones_own(name: str, tmp_path: Path) -> None:
    assert trainer(name, tmp_path / "whole").run()
    stopped = trainer(name, tmp_path / "stopped")
    block = stopped._block

    def stopping(running: Any, stage: Any) -> int:
        """Ask to stop in the middle of the last stage, as a signal does."""
        stopped.stop.requested = stage.evaluate
        return block(running, stage)

    stopped._block = stopping
    assert not stopped.run() and 0 < stopped.step < 60
    assert trainer(name, tmp_path / "stopped", resume=True).run()
    one, two = (read_checkpoint(tmp_path / place) for place in ("whole", "stopped"))
    assert one is not None and two is not None
    assert all(np.array_equal(array, two[0][key], equal_nan=True) for key, array in one[0].items())
    result = json.loads((tmp_path / "stopped" / "result.json").read_text())["runs"][0]
    assert result["domain"] == "Slider-v0" and 0 < result["score"] <= 100


@pytest.mark.parametrize("name", ["bc", "otdf", "cql"])
def test_nowhere_to_evaluate_gives_diagnostics(
    name: str, logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = command(name, logs, out)
    words[words.index("--eval-env") + 1] = "none"
    assert shiftgym(words) == 0
    last = read_metrics(out / "metrics.csv")[-1]
    assert 0 < float(last["policy_gap"]) < 2 and not last.get("return")
    assert ("policy_q" in last) == (name != "bc")
    assert json.loads((out / "result.json").read_text())["runs"][0]["return"] is None
    assert shiftgym([*words, "--resume"]) == 0
    assert shiftgym(["report", str(out)]) == 0
    assert "evaluated nowhere: mean distance" in capsys.readouterr().out
    assert shiftgym(["eval", str(out)]) == 1
    assert "--env" in capsys.readouterr().err
    again = ["eval", str(out), "--env", f"{HERE}:HeavyPendulum-v0", "--episodes", "1"]
    assert shiftgym(again) == 0


def test_a_run_is_restored_from_its_files(logs: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    more = ("--source", str(logs / "source.hdf5"), str(logs / "target.npz"))
    assert shiftgym(command("iql", logs, out, *more, "--source-shares", "0.5", "1")) == 0
    agent = restore_agent(out)
    obs = np.zeros((2, 4, 3), np.float32)
    assert np.array_equal(agent.policy().act(obs), read_subject(out).policy.act(obs))
    about = json.loads((out / "config.json").read_text())["runs"][0]
    assert about["source"] == f"{logs / 'source.hdf5'} x0.5 + {logs / 'target.npz'}"
    assert [part["rows"] for part in about["sources"]] == [100, 100]
    whole = json.loads((out / "config.json").read_text())
    for bent in ({"sources": 3}, {"sources": [{}]}, {"bounds": 1}, {"domain": {"env": "x"}}):
        runs = [entry | bent for entry in whole["runs"]]
        (out / "config.json").write_text(json.dumps(whole | {"runs": runs}))
        with pytest.raises(ShiftgymError, match="damaged"):
            restore_agent(out)


# --- actions --------------------------------------------------------------------------------------


def wide(factor: float) -> dict[str, np.ndarray]:
    """Make data whose behaviour acts with factor * 0.95 tanh(w s)."""
    arrays = make_arrays(300, 0, obs=5)
    act = 0.95 * np.tanh(arrays["observations"] @ np.random.default_rng(1).normal(size=(5, 2)))
    return arrays | {"actions": (factor * act).astype(np.float32)}


@pytest.mark.parametrize("bounds", [(-2, 2), ([-2, -2], [2, 2])])
def test_wide_actions_are_learned_as_narrow_ones(bounds: Any) -> None:
    raw = ArrayPair(wide(2), wide(2), None, bounds=bounds)
    halved = ArrayPair(wide(1), wide(1), None, bounds=([-1, -1], [1, 1]))
    config = small("bc", steps=60, learning_rate=0.01)
    policies = [train(BC(config, [pair], [0])).policy() for pair in (raw, halved)]  # pyright: ignore
    obs = wide(1)["observations"][None]
    actions = policies[0].act(obs)
    np.testing.assert_array_equal(actions, 2 * policies[1].act(obs))
    kept = Policy.from_arrays(policies[0].arrays())
    np.testing.assert_array_equal(kept.act(obs), actions)
    assert np.abs(actions).max() > 1


@pytest.mark.parametrize(
    ("where", "bounds", "low", "high"),
    [
        ("Pendulum-v1", None, -2, 2),
        (None, (-3, 5), -3, 5),
        (None, None, -1.5, 1.0),
        ("Pendulum-v1", (-1.75, 1.5), -1.75, 1.5),
    ],
)
def test_the_box_is_the_given_one_else_the_environments_else_the_datas(
    where: Any, bounds: Any, low: float, high: float
) -> None:
    arrays = make_arrays(40, 0, obs=3)
    arrays["actions"] = np.linspace(-1.5, 1, 40, dtype=np.float32)[:, None]
    agent = BC(small("bc"), [ArrayPair(arrays, arrays, where, bounds=bounds)], [0])  # pyright: ignore
    policy = agent.policy()
    assert policy.center.item() - policy.half.item() == low
    assert policy.center.item() + policy.half.item() == high
    assert float(agent.data.rows_of("target", 0)[:, 3].abs().max()) <= 1


# --- refusals -------------------------------------------------------------------------------------


class Pixels(gym.Env):
    observation_space = gym.spaces.Box(0, 255, (8, 8, 3), np.uint8)
    action_space = gym.spaces.Box(-1, 1, (1,))


class Endless(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (3,))
    action_space = gym.spaces.Box(-1, 1, (1,))


PENDULUM = {"where": "Pendulum-v1", "acts": 1.0, "obs": 3, "size": 1}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"where": "CartPole-v1", "obs": 4}, "actions are Discrete.*continuous"),
        ({"where": lambda: gym.wrappers.TimeLimit(Pixels(), 5)}, "encode or flatten images"),
        ({"where": Endless}, "--eval-steps 1000"),
        ({"where": "Pendulun-v1"}, "cannot be made.*Pendulum"),
        ({"where": "nowhere.py:Robot-v0"}, "Cannot read nowhere.py"),
        ({"obs": 5}, "Pendulum-v1 observes 3 numbers, the data have 5"),
        ({"size": 2}, "acts with 1 numbers, the data have 2"),
        ({"acts": 2.5}, "beyond those of Pendulum-v1.*--action-low"),
    ],
)
def test_what_does_not_go_together_is_refused_before_training(
    change: dict[str, Any], says: str, tmp_path: Path
) -> None:
    asked = PENDULUM | change
    arrays = make_arrays(40, 0, obs=asked["obs"])
    arrays["actions"] = np.full((40, asked["size"]), asked["acts"], np.float32)
    options = TrainOptions(out=tmp_path / "run", **QUICK)
    with pytest.raises(ShiftgymError, match=says):
        pair = ArrayPair(arrays, arrays, asked["where"])
        Trainer("bc", small("bc"), [pair], [0], options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "flag"), [("otdf", "--support"), ("mobody", "--terminal"), ("droco", "--terminal")]
)
def test_knowledge_that_a_method_needs_is_asked_for_by_name(
    name: str, flag: str, logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command(name, logs, tmp_path / "run")
    del words[words.index(flag) : words.index(flag) + 2]
    assert shiftgym(words) == 1
    assert flag in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("--eval-env", None), "Nobody knows where"),
        (("--source", "nothing.hdf5"), "nothing.hdf5 cannot be opened"),
        (("--terminal", "x.py:never"), "Cannot read x.py"),
        (("--action-low", "-2"), "both --action-low and --action-high"),
        (("--reference", "otdf"), "--reference-returns RANDOM EXPERT"),
    ],
)
def test_the_command_says_what_is_missing(
    change: tuple[str, str | None], says: str, logs: Path, tmp_path: Path, capsys
) -> None:
    words = command("mobody", logs, tmp_path / "run")
    name, value = change
    if name in words:
        del words[words.index(name) : words.index(name) + 2]
    words += [] if value is None else [name, value]
    assert shiftgym(words) in (1, 2)
    assert says in capsys.readouterr().err


# --- evaluation -----------------------------------------------------------------------------------


def walker(runs: int) -> Policy:
    rng = np.random.default_rng(0)
    layers = [(rng.normal(size=(2, 3, 1)).astype(np.float32)[-runs:], np.zeros((runs, 1, 1)))]
    blank = np.zeros((runs, 1, 3))
    return Policy(layers, blank, blank + 1, 1, half=np.full((1, 1, 1), 2.0))


def test_a_run_earns_alone_what_it_earns_among_others() -> None:
    where = place("Pendulum-v1", steps=30)
    many, one = Evaluator([where] * 2, [3, 4], 2), Evaluator([where], [4], 2)
    found, alone = many.evaluate(walker(2), 1), one.evaluate(walker(1), 1)
    assert np.array_equal(found.returns[1:], alone.returns) and (found.lengths == 30).all()
    for evaluator in (many, one):
        evaluator.close()
    env, earned = gym.make("Pendulum-v1", max_episode_steps=30), 0.0  # by hand
    seen, over = env.reset(seed=10_000 * (1 + 4) + 2)[0], False
    while not over:
        seen, reward, _, over, _ = env.step(walker(1).act(seen[None, None])[0, 0])
        earned += float(reward)
    assert alone.returns[0, 0] == pytest.approx(earned)


def test_an_environments_own_vector_is_used_where_each_run_can_be_seeded() -> None:
    own, other = make_envs([GymEnv("ShiftHopper-v0")] * 2), make_envs([GymEnv("Pendulum-v1")] * 2)
    assert type(own).__module__.startswith("shiftgym")
    assert isinstance(other, gym.vector.SyncVectorEnv)
    for envs in (own, other):
        envs.close()
    with pytest.raises(ShiftgymError, match="train them apart"):
        make_envs([GymEnv("Pendulum-v1"), None])


# --- several sources ------------------------------------------------------------------------------


def test_three_sources_of_a_hopper_train_and_say_what_was_kept(tmp_path: Path, capsys) -> None:
    places = ("kinematic", "morph", "friction-x0p5")
    sources = [f"hopper-{where}/medium" for where in places]
    words = ["train", "igdf", "--source", *sources, "--target", "hopper-gravity-x0p5/medium"]
    words += ["--source-shares", "1", "1", "0.4", "--out", str(tmp_path / "run"), "--keep", "0.25"]
    default = method("igdf").presets["ours"]
    words += flags(dataclasses.replace(tiny("igdf", 40), batch=64, keep=0.25), default)
    words += ["--seeds", "2", "--device", "cpu", "--backend", "eager", "--threads", "1"]
    words += ["--evaluate-every", "40", "--episodes", "1", "--no-progress"]
    assert shiftgym(words) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    rows = read_metrics(tmp_path / "run" / "metrics.csv")
    sizes = np.array([s["rows"] for s in json.loads(_config(tmp_path))["runs"][0]["sources"]])
    assert sizes[0] == sizes[1] == 5_000 and 2_000 <= sizes[2] < 3_000
    for row in rows[-2:]:
        kept = np.array([float(row[f"kept[{name}]"]) for name in sources])
        assert (kept * sizes).sum() / sizes.sum() == pytest.approx(0.25, abs=1e-4)
    assert all(f"source {name}: kept 0." in said for name in sources)


def _config(folder: Path) -> str:
    return (folder / "run" / "config.json").read_text()


@pytest.mark.parametrize("name", ["iql", "otdf", "bosa", "tabb"])
def test_a_run_of_several_sources_is_the_same_alone_as_among_others(name: str) -> None:
    import torch
    from agent_helpers import distance, make_agent, make_pair, weights

    parts = [make_arrays(rows, rows) for rows in (90, 150, 60)]
    chosen = ([0, 1], [1, 2, 0], [2])
    pairs = [
        dataclasses.replace(
            make_pair(), source=Sources([parts[k] for k in own], [str(k) for k in own])
        )
        for own in chosen
    ]
    config = small(name, steps=30)
    many = train(make_agent(name, config, pairs=pairs, dtype=torch.float64))
    alone = method(name)([config], pairs[1:2], [1], dtype=torch.float64)  # pyright: ignore
    assert distance(weights(train(alone)), weights(many, 1)) < 1e-10

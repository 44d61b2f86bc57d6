"""Test the run directory: kill -9 and resume, records, divergence, refusals."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from agent_helpers import NAMES, QUICK, make_pair, make_trainer, small
from toy_training import start

from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.core.policy import Policy
from shiftgym_agents.methods.iql import IQL
from shiftgym_agents.training.artifacts import hash_arrays, read_checkpoint
from shiftgym_agents.training.evaluator import Evaluator
from shiftgym_agents.training.metrics import Metrics, read_metrics
from shiftgym_agents.training.run_config import TrainOptions
from shiftgym_agents.training.running import pick_backend, pick_device
from shiftgym_agents.training.trainer import Trainer


def count(out: Path) -> int:
    state = out / "state.json"
    return json.loads(state.read_text())["count"] if state.exists() else -1


@pytest.mark.parametrize("name", NAMES)
def test_killed_and_resumed_equals_never_stopped(name: str, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    trainer = make_trainer(name, whole, steps=150)
    trainer.run()
    process = start(name, killed, resume=False)
    threshold = random.randint(1, trainer.total - 1)
    while process.is_alive() and count(killed) < threshold:
        time.sleep(0.002)
    time.sleep(random.uniform(0, 0.02))
    process.kill()
    process.join()
    if not (killed / "result.json").exists():
        process = start(name, killed, resume=True)
        process.join(300)
        assert process.exitcode == 0
    expected, found = read_checkpoint(whole), read_checkpoint(killed)
    assert expected and found and expected[0].keys() == found[0].keys()
    for key, array in expected[0].items():
        assert np.array_equal(array, found[0][key], equal_nan=True), key
    assert (whole / "metrics.csv").read_bytes() == (killed / "metrics.csv").read_bytes()
    ours, theirs = (json.loads((d / "result.json").read_text()) for d in (whole, killed))
    assert ours["runs"] == theirs["runs"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "iql"
    assert make_trainer("iql", out, steps=100).run()
    return out


def test_run_directory_holds_what_it_says(finished: Path) -> None:
    config = json.loads((finished / "config.json").read_text())
    assert config["method"] == "iql" and config["config"]["expectile"] == 0.7
    assert config["runs"][1]["seed"] == 1 and config["provenance"]["git"]
    assert config["runs"][0]["target_sha256"] == hash_arrays(make_pair(0).target)
    rows = read_metrics(finished / "metrics.csv")
    assert [row["update"] for row in rows] == ["40", "40", "80", "80", "100", "100"]
    assert {"value_loss", "critic_loss", "actor_loss", "capped_weights", "return"} <= rows[0].keys()
    result = json.loads((finished / "result.json").read_text())
    for k, run in enumerate(result["runs"]):
        own = [float(row["score"]) for row in rows if row["run"] == str(k)]
        assert run["score"] == pytest.approx(own[-1], abs=1e-4)
        assert run["score_last5"] == pytest.approx(np.mean(own), abs=1e-4)
    assert list((finished / "tensorboard").iterdir())


def test_scores_are_the_pairs_own(finished: Path) -> None:
    for row in read_metrics(finished / "metrics.csv"):
        assert float(row["score"]) == pytest.approx(make_pair().score(float(row["return"])), 1e-4)


def test_another_run_is_not_overwritten(finished: Path) -> None:
    with pytest.raises(ShiftgymError, match="--resume"):
        make_trainer("iql", finished)


def test_resuming_with_other_values_lists_them(finished: Path) -> None:
    options = TrainOptions(out=finished, **QUICK)  # pyright: ignore[reportArgumentType]
    pairs = [make_pair(0), make_pair(1)]
    config = small("iql", steps=100, expectile=0.9)
    with pytest.raises(ShiftgymError, match="config.expectile: 0.7 there, 0.9 now"):
        Trainer("iql", config, pairs, [0, 1], options, resume=True)
    with pytest.raises(ShiftgymError, match="target_sha256"):
        pairs = [make_pair(0), make_pair(2)]
        Trainer("iql", small("iql", steps=100), pairs, [0, 1], options, resume=True)


def test_resuming_nothing_is_an_error(tmp_path: Path) -> None:
    options = TrainOptions(out=tmp_path, **QUICK)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ShiftgymError, match="no checkpoint"):
        Trainer("bc", small("bc"), [make_pair()], [0], options, resume=True)


def test_killed_before_the_first_update_can_be_resumed(tmp_path: Path) -> None:
    make_trainer("bc", tmp_path, steps=20)  # and never runs
    options = TrainOptions(out=tmp_path, **QUICK)  # pyright: ignore[reportArgumentType]
    pairs = [make_pair(0), make_pair(1)]
    assert Trainer("bc", small("bc", steps=20), pairs, [0, 1], options, resume=True).run()


def test_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    make_trainer("bc", tmp_path, steps=20).run()
    (arrays,) = tmp_path.glob("checkpoint-*.safetensors")
    arrays.write_bytes(arrays.read_bytes()[:100])
    with pytest.raises(ShiftgymError, match="damaged"):
        read_checkpoint(tmp_path)


def test_run_that_diverges_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    trainer = make_trainer("iql", tmp_path, steps=80)
    assert isinstance(trainer.agent, IQL)
    with torch.no_grad():
        trainer.agent.critic.rows[1] = torch.inf
    assert trainer.run()
    runs = json.loads((tmp_path / "result.json").read_text())["runs"]
    assert runs[0]["diverged"] is None and runs[0]["score"] is not None
    assert "train update" in runs[1]["diverged"] and runs[1]["score"] is None
    rows = read_metrics(tmp_path / "metrics.csv")
    assert [row["score"] == "nan" for row in rows] == [False, True] * 2


def test_training_stops_when_every_run_diverged(tmp_path: Path) -> None:
    trainer = make_trainer("bc", tmp_path)
    with torch.no_grad():
        trainer.agent.actor.rows.fill_(torch.nan)
    with pytest.raises(ShiftgymError, match="smaller --learning-rate"):
        trainer.run()


def test_interrupt_checkpoints(tmp_path: Path) -> None:
    trainer = make_trainer("bc", tmp_path, steps=100_000)
    block = trainer._block

    def interrupted(*arguments: Any) -> int:
        if trainer.step == 40:
            os.kill(os.getpid(), signal.SIGINT)
        return block(*arguments)

    trainer._block = interrupted  # pyright: ignore[reportAttributeAccessIssue]
    assert not trainer.run()
    assert 40 < count(tmp_path) < 200 and not (tmp_path / "result.json").exists()


def test_evaluation_of_a_run_alone_is_the_one_among_others() -> None:
    pairs = [make_pair(0), make_pair(1)]
    agent = IQL(small("iql"), pairs, [3, 4])  # pyright: ignore[reportArgumentType]
    policy, domains = agent.policy(), [pair.domain for pair in pairs]
    both = Evaluator(domains, [3, 4], 3, threads=1)
    alone = Evaluator(domains[:1], [4], 3, threads=1)
    layers = [(w[1:], b[1:]) for w, b in policy.layers]
    single = Policy(layers, policy.shift[1:], policy.scale[1:], policy.act_size)
    found, expected = both.submit(policy, 1).result(), alone.submit(single, 1).result()
    np.testing.assert_allclose(found.returns[1], expected.returns[0], rtol=1e-4)
    assert not np.array_equal(found.returns, both.evaluate(policy, 2).returns)
    both.close()
    alone.close()


def test_policies_read_back_act_the_same() -> None:
    agent = IQL(small("iql"), [make_pair()], [0])  # pyright: ignore[reportArgumentType]
    obs = np.random.default_rng(0).normal(size=(1, 4, 11))
    policy = agent.policy()
    assert np.array_equal(Policy.from_arrays(policy.arrays()).act(obs), policy.act(obs))


def test_records_after_the_checkpoint_and_half_lines_are_dropped(tmp_path: Path) -> None:
    rows = [
        {"stage": "train", "update": u, "run": 0, "source": "a", "target": "b", "seed": 0, "x": 0.5}
        for u in (10, 20, 30)
    ]
    metrics = Metrics(tmp_path, None)
    metrics.add(rows, 30)
    metrics.close()
    with open(tmp_path / "metrics.csv", "a") as file:
        file.write("train,40,0,a")
    again = Metrics(tmp_path, {"train": 20}, 20)
    again.add([rows[2] | {"y": 1.0}], 30)
    again.close()
    found = read_metrics(tmp_path / "metrics.csv")
    assert [row["update"] for row in found] == ["10", "20", "30"]
    assert [row["y"] for row in found] == ["", "", "1"]


@pytest.mark.parametrize(
    ("name", "says"), [("cuda:7", "is not there"), ("tpu", "Unknown device"), ("meta", "Unknown")]
)
def test_device_that_is_not_there_is_named(name: str, says: str) -> None:
    with pytest.raises(ShiftgymError, match=says):
        pick_device(name)


def test_without_a_compiler_auto_is_eager_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from shiftgym_agents.kernels import native

    def missing() -> None:
        raise native.NativeUnavailableError("no C++ compiler found: install g++")

    monkeypatch.setattr(native, "load", missing)
    with pytest.warns(UserWarning, match="install g"):
        assert pick_backend("auto", torch.device("cpu")) == "eager"
    with pytest.raises(ShiftgymError, match="install g"):
        pick_backend("captured", torch.device("cpu"))

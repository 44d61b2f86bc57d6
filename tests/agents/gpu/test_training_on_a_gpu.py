"""Train, kill and resume on a GPU, on either GPU, from one kind of device to the other."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from agent_helpers import QUICK
from test_every_method_on_a_gpu import make

from shiftgym_agents.core.capturing import capture, unchanged
from shiftgym_agents.methods.table import method
from shiftgym_agents.training.artifacts import read_checkpoint
from shiftgym_agents.training.checking import shrunk, toy_pair
from shiftgym_agents.training.run_config import TrainOptions
from shiftgym_agents.training.running import NUMBERS, Running, block_of
from shiftgym_agents.training.trainer import Trainer

STEPS = 24


def trainer(
    name: str, out: Path, device: str = "cuda", resume: bool = False, **how: Any
) -> Trainer:
    """Make a trainer of two runs whose blocks are short."""
    given: dict[str, Any] = QUICK | {"evaluate_every": 10, "device": device, "episodes": 1} | how
    pairs = [toy_pair(0), toy_pair(1)]
    config = shrunk(method(name).presets["ours"], STEPS)
    return Trainer(name, config, pairs, [0, 1], TrainOptions(out=out, **given), resume)


def stopped(made: Trainer, after: int) -> Trainer:
    """Let a trainer stop, as by Ctrl-C, after so many updates of all stages."""
    block = made._block

    def once(*arguments: Any) -> int:
        made.stop.requested = made.count + 5 >= after
        return block(*arguments)

    made._block = once  # pyright: ignore[reportAttributeAccessIssue]
    assert not made.run()
    return made


def ends(out: Path) -> dict[str, np.ndarray]:
    found = read_checkpoint(out)
    assert found is not None
    return found[0]


def same(one: dict[str, np.ndarray], two: dict[str, np.ndarray]) -> bool:
    return one.keys() == two.keys() and all(
        np.array_equal(one[name], two[name], equal_nan=True) for name in one
    )


@pytest.mark.parametrize("name", ["td3bc", "dara"])
def test_stopped_and_resumed_is_never_stopped(name: str, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert trainer(name, whole).run()
    stopped(trainer(name, parts), after=15)
    assert trainer(name, parts, resume=True).run()
    assert same(ends(whole), ends(parts))
    assert (whole / "metrics.csv").read_bytes() == (parts / "metrics.csv").read_bytes()


def test_either_gpu_trains_the_same(tmp_path: Path) -> None:
    outs = [tmp_path / name for name in ("cuda:0", "cuda:1")]
    for out in outs:
        assert trainer("iql", out, out.name).run()
    assert same(*map(ends, outs))


def test_eager_through_the_trainer_is_captured_but_for_rounding(tmp_path: Path) -> None:
    """The fused steps that a captured training takes round differently than torch's operations."""
    for backend in ("eager", "captured"):
        assert trainer("iql", tmp_path / backend, backend=backend).run()
    one, two = (ends(tmp_path / backend) for backend in ("eager", "captured"))
    for name in one:
        if name.endswith(".rows"):
            np.testing.assert_allclose(one[name], two[name], rtol=2e-3, atol=2e-5, err_msg=name)


@pytest.mark.parametrize(("first", "then"), [("cuda", "cpu"), ("cpu", "cuda")])
def test_a_run_goes_on_on_the_other_kind_of_device_and_says_so(
    first: str, then: str, tmp_path: Path
) -> None:
    finals: list[dict[str, np.ndarray]] = []
    for out in (tmp_path / "one", tmp_path / "two"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            stop = stopped(trainer("bc", out, first), after=12)
        with pytest.warns(UserWarning, match="another kind of device than " + then):
            again = trainer("bc", out, then, resume=True)
        assert again.count >= 10 and again.run()
        finals.append(ends(out))
    assert same(*finals)  # other numbers than without the move, but the same every time
    result = json.loads((tmp_path / "one" / "result.json").read_text())
    assert [entry["kind"] for entry in result["trained_on"]] == [first, then]
    assert [entry["from_update"] for entry in result["trained_on"]] == [0, stop.count]


def test_a_stage_whose_runs_have_all_stopped_takes_no_more_updates() -> None:
    agent = make("mobody", "ours")
    stage = next(stage for stage in agent.stages() if stage.idle is not None)
    assert stage.idle is not None
    running = Running(agent, stage, "captured")
    running.run(2)
    updates = []
    running._replay = updates.append  # pyright: ignore[reportAttributeAccessIssue]
    running.run(2)
    assert len(updates) == 2
    held = agent.dynamics.held  # pyright: ignore[reportAttributeAccessIssue]
    held.active.zero_()
    held._over = None  # as after a look
    states = [generator.get_state() for generator in agent.generators]
    running.run(2)
    assert len(updates) == 2
    assert all(
        not torch.equal(before, generator.get_state())
        for before, generator in zip(states, agent.generators, strict=True)
    )  # what a later stage draws does not depend on when this one stopped


@pytest.mark.parametrize("name", ["iql", "mobody", "bosa", "cql"])
def test_numbers_drawn_together_are_bounded_whatever_the_runs(name: str) -> None:
    config = method(name).presets["official"]
    small = shrunk(config, 4)
    agent = method(name)(small, [toy_pair(0)], [0], "cuda")
    for stage in agent.stages():
        block = block_of(stage, torch.device("cuda"))
        drawn = Running(agent, stage, "eager").draw(block)
        assert sum(values[0].numel() for values in drawn.values()) <= NUMBERS
        assert 1 <= block <= 100


def test_sac_captures_on_its_own_gpu(tmp_path: Path) -> None:
    from shiftgym_tools.behaviours.replay_buffer import Replay
    from shiftgym_tools.behaviours.sac import SAC, SACConfig

    ends: list[dict[str, torch.Tensor]] = []
    for device, backend in (("cuda:0", "eager"), ("cuda:0", "graph"), ("cuda:1", "graph")):
        sac = SAC(5, 2, SACConfig(width=16, batch=8), [0, 1], device, backend)
        path = tmp_path / f"{device}{backend}"
        replay = Replay(path, 2, 14, 64, 64, device)
        rng = np.random.default_rng(0)
        for _ in range(3):
            replay.add(rng.normal(size=(2, 16, 14)).astype(np.float32))
            sac.train(replay, 3)
        ends.append(sac.save())
    for other in ends[1:]:
        assert all(torch.equal(ends[0][name], other[name]) for name in ends[0])
    moved = SAC(5, 2, SACConfig(width=16, batch=8), [0, 1], "cpu", "eager")
    with pytest.warns(UserWarning, match="another kind of device than cpu"):
        moved.load(ends[0])


def test_behaviour_policies_learn_on_the_gpu_that_is_there(tmp_path: Path) -> None:
    from shiftgym_tools.behaviours.config import BehaviourConfig
    from shiftgym_tools.behaviours.sac import SACConfig
    from shiftgym_tools.behaviours.trainer import Trainer as BehaviourTrainer

    small: dict[str, Any] = dict(robot="hopper", domains=("hopper",), random_steps=16, updates=8)
    small |= dict(envs_per_agent=2, updates_per_block=4, capacity=64, evaluate_every=10_000)
    small |= dict(sac=SACConfig(width=16, batch=8), progress=False, device="auto", threads=1)
    finals: list[dict[str, np.ndarray]] = []
    for backend in ("graph", "eager"):
        out = tmp_path / backend
        made = BehaviourTrainer(BehaviourConfig(out=out, backend=backend, **small))
        assert made.run() and made.replay.rows.device.type == "cuda"
        told = json.loads((out / "config.json").read_text())["trained_on"]
        assert told["device"] == "stand-in" and told["backend"] == backend
        finals.append(ends(out))
    assert same(*finals)


def test_an_attack_asks_the_networks_where_they_are() -> None:
    from shiftgym_agents.evaluation.attack import MinQAttack

    here, there = make("iql", "ours", "cpu"), make("iql", "ours", "cuda:1")
    there.load_tensors(here.save())
    obs = np.random.default_rng(3).normal(size=(2, 2, 3, 11))
    alive = np.ones(obs.shape[:3], bool)
    found = [MinQAttack(agent, [0, 1]).offsets(obs, [0.1, 0.5], alive) for agent in (here, there)]
    np.testing.assert_allclose(*found, rtol=1e-6)
    assert np.abs(found[0]).max() > 0


def test_a_capture_is_on_the_device_asked_for_whichever_is_current() -> None:
    x = torch.zeros(1, device="cuda:1")
    with torch.cuda.device(0), unchanged([x]):
        graph = capture(lambda: x.add_(1), torch.device("cuda:1"), "a step")
    assert x.tolist() == [0]
    graph.replay()
    assert x.tolist() == [1]

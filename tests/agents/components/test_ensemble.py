"""Test the dynamics ensemble and held-out rows against known systems and by hand."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from agent_helpers import distance, make_arrays, make_pair, small, train, weights

import shiftgym
from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.components.answers import answers, tellable
from shiftgym_agents.components.dynamics import each, split
from shiftgym_agents.components.ensemble import (
    DECAY,
    LOG_VARIANCE_RANGE,
    Ensemble,
    aims,
    bounded,
    decays,
    small_normal_mlp,
)
from shiftgym_agents.components.holdout import stretches
from shiftgym_agents.core.networks import mlp, run_generators, unpack
from shiftgym_agents.data.pairs import ArrayPair
from shiftgym_agents.methods.droco import DROCO, DROCOConfig
from shiftgym_agents.training.running import Running

NOISE = np.array([0.3, 0.1, 0.2])  # deviations of reward and of the change of state
BOX = 6.0  # beyond all actions, which networks see as shares of it
SLOPE = np.array([[1.0, 0.2, -0.1], [-0.5, 0.1, 0.3], [0.7, -0.2, 0.1]])  # of the same, in (s, a)


def linear_gaussian(rows: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(rows, 3))
    outputs = inputs @ SLOPE + NOISE * rng.normal(size=(rows, 3))
    return {
        "observations": inputs[:, :2],
        "actions": inputs[:, 2:],
        "rewards": outputs[:, 0],
        "next_observations": inputs[:, :2] + outputs[:, 1:],
        "terminated": np.zeros(rows, bool),
        "truncated": np.arange(rows) % 50 == 49,
    }


def make_droco(runs: int = 2, pairs: Any = None, **values: Any) -> DROCO:
    config = small("droco", **({"members": 3, "model_batch": 32} | values))
    chosen = pairs or [make_pair(k) for k in range(runs)]
    options: dict[str, Any] = {"dtype": torch.float64}
    return DROCO(config, chosen, range(len(chosen)), **options)  # pyright: ignore


@dataclass
class Trained:
    agent: DROCO
    first_loss: float


@pytest.fixture(scope="module")
def known() -> Trained:
    """Learn a linear-Gaussian system."""
    bounds = -BOX, BOX
    pair = ArrayPair(linear_gaussian(50, 0), linear_gaussian(6000, 1), None, bounds=bounds)
    sizes: dict[str, Any] = {"members": 3, "model_batch": 256, "model_steps": 700}
    config = replace(small("droco", predicted_end="never"), model_rate=3e-3, **sizes)
    agent = DROCO(config, [pair], [0])  # pyright: ignore[reportArgumentType]
    stage, first = agent.stages()[0], math.nan
    running = Running(agent, stage, "eager")
    for update in range(0, stage.steps, stage.every):
        running.run(stage.every)
        if update == 0:
            first = float(agent.logged["dynamics_loss"]) / stage.every
            agent.logged.clear()
        agent.ensemble.look()
    agent.ensemble.finish()
    return Trained(agent, first)


def test_linear_gaussian_system_is_recovered(known: Trained) -> None:
    test = linear_gaussian(1500, 2)
    inputs = np.concatenate([test["observations"], test["actions"]], 1)
    asked = torch.from_numpy(inputs / [1, 1, BOX])[None].float()
    mean, log_variance = known.agent.ensemble(asked)
    assert mean.shape == log_variance.shape == (1, 3, 1500, 3)
    error = mean[0].detach().numpy() - inputs @ SLOPE  # reward first, then the change of state
    assert (np.sqrt((error**2).mean((0, 1))) < 0.35 * NOISE).all()
    variance = np.exp(log_variance[0].detach().numpy()).mean((0, 1))
    assert variance == pytest.approx(NOISE**2, rel=0.1)


def test_likelihood_rises(known: Trained) -> None:
    agent = known.agent
    with torch.no_grad():
        rows = next(iter(agent.data.sweep("target")))[1]
        mean, log_variance = agent.ensemble(rows.obs_act)
        error = (mean - aims(rows)[:, None]) ** 2
        losses = (error * torch.exp(-log_variance) + log_variance).mean((-1, -2))
    best = float((1 + np.log(NOISE**2)).mean())  # of the true model
    assert float(losses.sum()) < known.first_loss
    assert losses.squeeze().tolist() == pytest.approx([best] * 3, abs=0.1)


def test_log_variance_is_bounded_and_split_off_last() -> None:
    output = torch.linspace(-50, 50, 60).view(1, 10, 6)
    mean, log_variance = bounded(output)
    low, high = LOG_VARIANCE_RANGE
    assert torch.equal(mean, output[..., :3])
    assert float(log_variance.min()) >= low and float(log_variance.max()) <= high + 1e-4
    assert float(bounded(torch.full((1, 1, 2), -3.0))[1]) == pytest.approx(-3, abs=0.04)


def test_each_member_sees_rows_of_its_own() -> None:
    agent = make_droco()
    net = agent.ensemble.net
    x = torch.randn(2, 3, 5, 14, dtype=torch.float64)
    y = each(net, x)
    assert y.shape == (2, 3, 5, 24)
    for run in range(2):
        for member in range(3):
            layers = unpack(net.rows[run, member][None], net.sizes)
            assert torch.allclose(mlp(x[run, member][None], layers)[0], y[run, member])
            assert torch.allclose(net(x[:, member])[run, member], y[run, member])
    assert split(torch.arange(12).view(1, 6, 2), 3)[0, 1].tolist() == [[4, 5], [6, 7]]


def test_loss_is_the_members_sum_and_decay() -> None:
    agent = make_droco(runs=1, model_hold_out=0.0)
    stage = agent.stages()[0]
    assert stage.check is None
    running = Running(agent, stage, "eager")
    states = [g.get_state() for g in agent.generators]
    places = running.draw(1)[""][:, 0]
    agent.generators[0].set_state(states[0])
    net, ensemble = agent.ensemble.net, agent.ensemble
    batch, expected = agent.data.batch(places, 0), torch.zeros((), dtype=torch.float64)
    for member in range(3):
        own = slice(32 * member, 32 * (member + 1))
        mean, v = ensemble.standard(batch.obs_act[:, own])
        aim = (aims(batch)[0, own] - ensemble.aim_shift[0]) / ensemble.aim_scale[0]
        error = (mean[0, member] - aim) ** 2
        expected = expected + (error * torch.exp(-v[0, member]) + v[0, member]).mean()
        layers = unpack(net.rows[0, member][None], net.sizes)
        for (weight, _), cost in zip(layers, decays(len(layers)), strict=True):
            expected = expected + cost / 2 * (weight**2).sum()
    (gradient,) = torch.autograd.grad(expected, [net.rows])
    running.run(1)
    assert torch.allclose(net.state["m"] * 10, gradient, atol=1e-12)


def test_decay_is_published_for_four_layers_and_in_between_for_fewer() -> None:
    assert tuple(decays(5)) == DECAY and decays(3) == [DECAY[0], DECAY[2], DECAY[4]]


def test_inputs_and_targets_are_standardised_over_training_rows() -> None:
    agent = make_droco()
    ensemble = agent.ensemble
    assert ensemble.held is not None
    for run in range(2):
        keep = np.ones(200, bool)
        keep[ensemble.held.places[run].numpy()] = False
        rows = agent.data.rows_of("target", run)[:, :14].numpy()[keep]
        assert ensemble.shift[run, 0].numpy() == pytest.approx(rows.mean(0))
        assert ensemble.scale[run, 0].numpy() == pytest.approx(rows.std(0))
        whole = agent.data.rows_of("target", run).numpy()[keep]
        change = whole[:, 14 : 14 + 11] - whole[:, :11]
        aim = np.concatenate([whole[:, -2:-1], change], 1)
        assert ensemble.aim_shift[run, 0].numpy() == pytest.approx(aim.mean(0))
        assert ensemble.aim_scale[run, 0].numpy() == pytest.approx(aim.std(0))
        assert ensemble.usual[1][run, 0].numpy() == pytest.approx(change.std(0))


def test_initial_weights_are_small_and_cut() -> None:
    layers = small_normal_mlp((100, 200, 3), run_generators([0]))
    std = 0.5 / 10
    assert float(layers[0][0].abs().max()) <= 2 * std
    assert float(layers[0][0].std()) == pytest.approx(0.88 * std, rel=0.03)  # of a cut normal
    assert not layers[1][1].any()


# --- held-out rows --------------------------------------------------------------------------------


def test_held_out_rows_do_not_train_and_weights_average_to_one() -> None:
    agent = make_droco()
    held = agent.ensemble.held
    assert held is not None and held.places.shape == (2, 20)
    for run in range(2):
        assert len(set(held.places[run].tolist())) == 20
    everything = next(iter(agent.data.sweep("target")))[1]
    given = held.training_weights(everything)
    assert given.mean((1, 2)).tolist() == pytest.approx([1, 1])
    assert sorted(given.unique().tolist()) == pytest.approx([0, 200 / 180])
    assert (given[0, held.places[0]] == 0).all()
    poisoned = make_droco()
    for run in range(2):
        poisoned.data.rows[poisoned.data.offset["target"][run] + held.places[run], -2] += 1e3
    for one in (agent, poisoned):
        Running(one, one.stages()[0], "eager").run(5)
    assert torch.equal(agent.ensemble.net.rows, poisoned.ensemble.net.rows)


def test_best_members_are_kept_and_runs_stop() -> None:
    agent = make_droco(runs=2, model_patience=2)
    net, held = agent.ensemble.net, agent.ensemble.held
    assert held is not None
    seen: list[torch.Tensor] = []

    def look(*errors: list[float]) -> None:
        with torch.no_grad():
            net.rows.normal_()
        seen.append(net.rows.detach().clone())
        table = torch.tensor(errors, dtype=torch.float64)[..., None, None]
        held.look(table.expand(2, 3, 20, 1))

    look([5, 5, 5], [1, 1, 1])
    look([4, 6, 5], [2, 2, 0.999])  # less than 1 % better is not better
    assert held.active.tolist() == [1, 1] and not held.over
    look([4, 6, 6], [2, 2, 2])
    assert held.active.tolist() == [1, 0]
    look([4, 6, 2], [0, 0, 0])  # too late for the second run
    look([9, 9, 9], [0, 0, 0])
    look([9, 9, 9], [0, 0, 0])
    assert held.over
    running = Running(agent, agent.stages()[0], "eager")
    running.run(1)
    assert torch.equal(net.rows, seen[-1])  # nothing left to learn
    agent.ensemble.finish()
    assert not net.rows.requires_grad and not net.state["m"].any()
    best = {0: (1, 0, 3), 1: (0, 0, 0)}
    for run, members in best.items():
        for member, when in enumerate(members):
            assert torch.equal(net.rows[run, member], seen[when][run, member])
    assert not {*held.columns.values()} & agent.data.columns["target"].keys()
    agent.ensemble.finish()  # again, as when training resumes
    assert torch.equal(net.rows[0, 2], seen[3][0, 2])


def test_no_run_stops_on_the_plateau_that_training_opens_with() -> None:
    """The first run knows no more than the mean change; the second learned, and then no more."""
    agent = make_droco(runs=2, model_patience=3)
    held = agent.ensemble.held
    assert held is not None
    plateau = torch.tensor([[1.0, 1.02, 0.97], [0.5, 0.6, 0.5]], dtype=torch.float64)
    for _ in range(10):
        held.look(plateau[..., None, None].expand(2, 3, 20, 1), torch.ones(2).double())
    assert held.active.tolist() == [1, 0]
    for _ in range(4):
        held.look(0.5 * plateau[..., None, None].expand(2, 3, 20, 1), torch.ones(2).double())
    assert held.over


def test_looks_compare_with_knowing_the_mean_change_alone(monkeypatch: Any) -> None:
    found: dict[str, Any] = {}
    for targets in ("standard", "raw"):
        agent = make_droco(model_targets=targets)
        held = agent.ensemble.held
        assert held is not None
        monkeypatch.setattr(held, "look", lambda *given, to=targets: found.update({to: given}))
        with torch.no_grad():
            agent.ensemble.net.rows.zero_()  # predicts 0 in the units that are learned
        agent.ensemble.look()
        errors, blank = found[targets]
        own = held.mean(errors)[:, 0]
        assert blank.shape == own.shape == (2,)
        assert torch.allclose(own, blank) is (targets == "standard") and (own >= blank - 0.1).all()


def test_neighbours_are_held_out_together() -> None:
    places = stretches(5000, 500, torch.Generator().manual_seed(0))
    assert len(places.unique()) == 500
    assert int((places.sort().values.diff() != 1).sum()) < 6  # five stretches of 100 rows
    assert len(stretches(7, 3, torch.Generator().manual_seed(0)).unique()) == 3


# --- how good it is -------------------------------------------------------------------------------


def test_quality_is_that_of_the_simulators_answers() -> None:
    """The packaged rows are their domain's own: it answers them by their next states."""
    flat = shiftgym.load("hopper-kinematic/medium")
    own = {name: np.asarray(flat[name][:600]) for name in make_arrays(1, 0)}
    rows = tellable(shiftgym.domain("hopper-kinematic"), own["observations"])
    own = {name: array[rows] for name, array in own.items()}

    def judged(where: str, predict: Any) -> dict[str, float]:
        domain = shiftgym.domain(where)
        agent = make_droco(pairs=[ArrayPair(own, own, domain)])
        agent.ensemble.predict = lambda obs, act: predict(domain, obs, act)
        agent.ensemble.judge()
        return {name: float(values[0]) for name, values in agent.told.items()}

    def still(domain: Any, obs: torch.Tensor, act: torch.Tensor) -> torch.Tensor:
        return obs[:, None].expand(-1, 3, -1, -1)

    def right(domain: Any, obs: torch.Tensor, act: torch.Tensor) -> torch.Tensor:
        found = torch.from_numpy(answers(domain, obs[0].numpy(), act[0].numpy()))
        return found.expand(1, 3, -1, -1)

    with pytest.warns(UserWarning, match="smaller than the model's error"):
        found = judged("hopper-kinematic", still)
    assert found["model_shift"] < 1e-3 and found["model_held_out"] == pytest.approx(1)
    assert found["model_on_source"] > 0.3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = judged("hopper-morph", right)
    assert found["model_shift"] > 0.1 and found["model_on_source"] < 1e-6


@pytest.mark.parametrize("name", ["pen", "halfcheetah", "hopper"])
def test_states_are_told_by_observations_that_hold_them(name: str) -> None:
    width = {"pen": 45, "halfcheetah": 17, "hopper": 11}[name]
    seen = np.zeros((3, width))
    seen[1, -1] = 10.0  # clipped, in the hopper
    told = tellable(shiftgym.domain(f"{name}-kinematic{'-medium' * (name == 'pen')}"), seen)
    expected = {"pen": [False] * 3, "halfcheetah": [True] * 3, "hopper": [True, False, True]}
    assert told.tolist() == expected[name]


# --- runs of other sizes --------------------------------------------------------------------------


def test_runs_hold_out_a_share_of_their_own_rows() -> None:
    pairs = [make_pair(0, target=200), make_pair(1, target=90)]
    both = make_droco(pairs=pairs, model_every=10)
    alone = DROCO(both.config, pairs[1:], [1], dtype=torch.float64)
    held = both.ensemble.held
    assert held is not None
    assert held.weights[1, :9].flatten().tolist() == [20 / 9] * 9 and not held.weights[1, 9:].any()
    for agent in (both, alone):
        train(agent, updates=0)
    found, expected = weights(both, 1), weights(alone)
    names = [name for name in found if "best_rows" not in name and "dynamics" in name]
    assert distance({n: expected[n] for n in names}, found) < 1e-10


def test_one_row_is_refused() -> None:
    row = {name: array[:1] for name, array in make_arrays(2, 0).items()}
    pair = replace(make_pair(), target=row)
    with pytest.raises(ShiftgymError, match="one row"):
        make_droco(pairs=[pair])


def test_source_dynamics_can_be_learned_too() -> None:
    class Both(DROCO):
        def build(self) -> None:
            super().build()
            self.other = Ensemble(self, self.config, "source_dynamics", "source")

    agent = Both(small("droco"), [make_pair()], [0])  # pyright: ignore[reportArgumentType]
    stage = agent.other.stage()
    assert (stage.name, stage.target) == ("source_dynamics", 0) and stage.source > 0
    before = agent.other.net.rows.detach().clone()
    Running(agent, stage, "eager").run(2)
    agent.other.look()
    agent.other.finish()
    assert not torch.equal(before, agent.other.net.rows)


def test_defaults_are_those_of_the_file() -> None:
    config = DROCOConfig()
    assert (config.members, config.model_width, config.model_rate) == (7, 200, 1e-3)
    assert (config.model_batch, config.model_hold_out, config.model_patience) == (256, 0.1, 5)
    assert (config.model_layers, config.model_targets) == (2, "standard")

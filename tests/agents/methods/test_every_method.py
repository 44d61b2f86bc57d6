"""Hold every method of the registry to the same promises; a new one is tested with no new code."""

from __future__ import annotations

import dataclasses
import re
from typing import get_type_hints

import numpy as np
import pytest
import torch
from agent_helpers import NAMES, distance, make_agent, make_pair, small, train, weights

from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.ranges import ranges_of
from shiftgym_agents.core.agent import Config
from shiftgym_agents.kernels import native
from shiftgym_agents.methods.table import METHODS, method
from shiftgym_agents.training.running import Running

every_method = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def kernels() -> None:
    try:
        native.load()
    except native.NativeUnavailableError as error:
        pytest.skip(str(error))


@every_method
def test_run_alone_is_the_run_among_others(name: str) -> None:
    config = small(name, steps=200)
    many = train(make_agent(name, config, runs=3, dtype=torch.float64))
    alone = train(make_agent(name, config, runs=1, first=1, dtype=torch.float64))
    assert distance(weights(alone), weights(many, 1)) < 1e-10


@every_method
def test_captured_step_is_the_eager_step_500_times(name: str, kernels: None) -> None:
    """Compare one update from the same state at each of 500 updates of the last stage.

    Left to themselves two float32 trainings that round differently part after some hundred updates,
    whatever computes them: Adam's first steps are the signs of gradients. See the next test.
    """
    config = small(name, steps=500)
    eager = make_agent(name, config)
    stages = eager.stages()
    for stage in stages[:-1]:
        Running(eager, stage, "eager").run(min(stage.steps, 20))
        if stage.finish is not None:
            stage.finish()
    eager.logged.clear()
    fast = make_agent(name, config, fast=True)
    slow, quick = (Running(agent, agent.stages()[-1], "eager") for agent in (eager, fast))
    fast.load(eager.save())
    for stage in fast.stages()[:-1]:
        if stage.finish is not None:
            stage.finish()
    mine, theirs = eager.tensors(), fast.tensors()
    gaps: list[float] = []
    for _ in range(500):
        with torch.no_grad():
            for key, tensor in theirs.items():
                tensor.copy_(mine[key])
        slow.run(1)
        quick.run(1)
        learned = [key for key in mine if key.endswith((".m", ".v", ".rows"))]
        gaps.append(distance({k: mine[k] for k in learned}, {k: theirs[k] for k in learned}))
    # rarely a hidden unit within rounding of zero falls on the other side of its ReLU
    assert sorted(gaps)[-6] < 1e-5 and max(gaps) < 0.05


def test_captured_training_parts_from_eager_no_more_than_rounding_does(kernels: None) -> None:
    config = small("iql", steps=500)
    eager = train(make_agent("iql", config))
    captured = train(make_agent("iql", config, fast=True), backend="captured")
    nudged = make_agent("iql", config)
    with torch.no_grad():
        for parameter in nudged.parameters.values():
            parameter.rows.mul_(1 + 2**-23)
    train(nudged)
    own = weights(eager)
    assert distance(own, weights(captured)) < max(1e-5, 10 * distance(own, weights(nudged)))


@every_method
def test_not_a_number_in_one_run_stays_there_and_is_seen(name: str) -> None:
    agents = [make_agent(name, runs=3) for _ in range(2)]
    sick, healthy = agents
    with torch.no_grad():
        for parameter in sick.parameters.values():
            parameter.rows[1] = torch.nan
    for agent in agents:
        train(agent)
    assert sick.finite().tolist() == [True, False, True]
    for run in (0, 2):
        assert distance(weights(healthy, run), weights(sick, run)) == 0
    acted = sick.policy().act(np.zeros((3, 2, 11), np.float32))
    assert np.isfinite(acted).all() and not acted[1].any()


@every_method
def test_saved_and_loaded_agent_goes_on_bit_for_bit(name: str) -> None:
    one = train(make_agent(name), updates=20)
    two = make_agent(name, first=0)
    two.load(one.save())
    for stage in two.stages()[:-1]:
        if stage.finish is not None:
            stage.finish()
    for agent in (one, two):
        Running(agent, agent.stages()[-1], "eager").run(20)
    assert all(np.array_equal(a, b) for a, b in zip(*_pair(one.save(), two.save()), strict=True))


def _pair(one: dict, two: dict) -> tuple[list, list]:
    assert one.keys() == two.keys()
    return list(one.values()), [two[name] for name in one]


@every_method
def test_runs_may_differ_in_numbers_only(name: str) -> None:
    config = small(name)
    other = dataclasses.replace(config, learning_rate=1e-3)
    mixed = train(make_agent(name, [config, other]))  # pyright: ignore[reportArgumentType]
    alone = train(make_agent(name, other, runs=1, first=1))
    assert distance(weights(alone), weights(mixed, 1)) < 1e-4
    with pytest.raises(ValueError, match="share width"):
        make_agent(name, [config, dataclasses.replace(config, width=48)])  # pyright: ignore


def nudged(name: str, config: Config) -> Config:
    """Change every number of a configuration that runs may differ in."""
    hints, changed = get_type_hints(type(config), include_extras=True), {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, float):
            (allowed,) = ranges_of(hints[field.name])
            tries = (0.8 * value, 0.3, 50.0)
            changed[field.name] = next(x for x in tries if x in allowed and x != value)
    changed.pop("target_share")
    while True:  # what runs have to share is said so
        other = dataclasses.replace(config, **changed)
        try:
            train(make_agent(name, [config, other]))  # pyright: ignore[reportArgumentType]
            return other
        except ShiftgymError as error:
            found = re.search(r"share (?:one --)?(\w+)", str(error))
            assert found and changed.pop(found[1].replace("-", "_"), None) is not None, error


@every_method
def test_every_number_is_a_runs_own_or_refused(name: str) -> None:
    config = small(name, steps=12)
    other = nudged(name, config)
    mixed = train(make_agent(name, [config, other]))  # pyright: ignore[reportArgumentType]
    alone = train(make_agent(name, other, runs=1, first=1))
    assert distance(weights(alone), weights(mixed, 1)) < 1e-4


PRESETS = [(name, preset) for name in NAMES for preset in method(name).presets]


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_presets_train(name: str, preset: str) -> None:
    chosen = method(name).presets[preset]
    shapes = {k: v for k, v in vars(small(name, steps=4)).items() if k.endswith(("steps", "width"))}
    shapes = {k: v for k, v in shapes.items() if isinstance(v, int)} | {"batch": 16}
    agent = train(make_agent(name, dataclasses.replace(chosen, **shapes)))
    assert agent.finite().all()


@every_method
def test_every_hyperparameter_has_a_line_of_help(name: str) -> None:
    import inspect

    for owner in inspect.getmro(method(name).config_class):
        if dataclasses.is_dataclass(owner) and issubclass(owner, Config):
            source = inspect.getsource(owner).splitlines()
            for i, line in enumerate(source):
                if line.startswith("    ") and line[4:5].isalpha() and ": " in line and "=" in line:
                    if not line.strip().startswith(("def ", "return")):
                        assert source[i + 1].strip().startswith('"""'), line


def test_registry_describes_every_method() -> None:
    for name, (_, summary) in METHODS.items():
        chosen = method(name)
        assert summary and issubclass(chosen.config_class, Config), name
        assert {"ours", "paper", "official"} <= set(chosen.presets), name
        assert all(isinstance(c, chosen.config_class) for c in chosen.presets.values()), name


@every_method
def test_a_method_without_source_ignores_it(name: str) -> None:
    if method(name).uses_source:
        pytest.skip("uses the source")
    other = dataclasses.replace(make_pair(0), source=make_pair(5).source)
    one = train(make_agent(name, pairs=[make_pair(0)]))
    two = train(make_agent(name, pairs=[other]))
    assert distance(weights(one), weights(two)) == 0

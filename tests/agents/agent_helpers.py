"""Make small datasets and agents for the agents' tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import shiftgym
from shiftgym.scores import reference
from shiftgym_agents.core.agent import Agent, Config
from shiftgym_agents.core.nets import Net
from shiftgym_agents.data.batches import Batch
from shiftgym_agents.data.pairs import ArrayPair
from shiftgym_agents.methods.table import METHODS, method
from shiftgym_agents.training.run_config import TrainOptions
from shiftgym_agents.training.running import Running
from shiftgym_agents.training.trainer import Trainer

NAMES = tuple(METHODS)
QUICK: dict[str, Any] = dict(device="cpu", evaluate_every=40, episodes=2, progress=False, threads=1)
OBS, ACT = 11, 3  # a hopper's, so that policies can be evaluated


def make_arrays(rows: int, seed: int, shift: float = 0.0, obs: int = OBS) -> dict[str, np.ndarray]:
    """Make transitions of a random walk with episodes of about 25 steps, ended either way."""
    rng = np.random.default_rng(seed)
    observations = rng.normal(size=(rows, obs)).astype(np.float32)
    actions = np.tanh(rng.normal(size=(rows, ACT)) + observations[:, :ACT]).astype(np.float32)
    steps = 0.3 * rng.normal(size=(rows, obs)) + shift
    ends = rng.random(rows) < 0.04
    ends[-1] = True
    terminated = ends & (rng.random(rows) < 0.5)
    return {
        "observations": observations,
        "actions": actions,
        "rewards": (observations[:, 0] + actions[:, 0]).astype(np.float32),
        "next_observations": (observations + steps).astype(np.float32),
        "terminated": terminated,
        "truncated": ends & ~terminated,
    }


def make_pair(seed: int = 0, source: int = 400, target: int = 200) -> ArrayPair:
    """Pair a large with a small set; evaluation is in the hopper with OTDF's reference."""
    where = shiftgym.domain("hopper-kinematic")
    parts = make_arrays(source, seed), make_arrays(target, 1000 + seed, shift=0.2)
    return ArrayPair(*parts, where, ("toy/source", "toy/target"), reference(where, "otdf"))


def nowhere(source: Any, target: Any, **other: Any) -> ArrayPair:
    """Pair toy data of no environment; actions are from -1 to 1 unless told otherwise."""
    return ArrayPair(source, target, None, **({"reference": None, "bounds": (-1, 1)} | other))


def small(name: str, steps: int = 60, **values: Any) -> Config:
    """Give a method's default configuration with every stage and network made small."""
    config = method(name).presets["ours"]
    for field in dataclasses.fields(config):
        given = getattr(config, field.name)
        if field.name.endswith("_steps") and isinstance(given, int):
            values.setdefault(field.name, 20)
        elif field.name.endswith("width") and isinstance(given, int):
            values.setdefault(field.name, 32)
    return dataclasses.replace(config, **({"steps": steps, "batch": 16} | values))


def make_agent(
    name: str, config: Config | None = None, runs: int = 2, first: int = 0, **options: Any
) -> Agent:
    """Make an agent on toy pairs, run k with seed and data `first + k`."""
    pairs: Sequence[ArrayPair] = options.pop("pairs", None) or [
        make_pair(first + k) for k in range(runs)
    ]
    seeds = [first + k for k in range(len(pairs))]
    return method(name)(config or small(name), pairs, seeds, **options)


def make_trainer(
    name: str, out: Path, steps: int = 60, resume: bool = False, **options: Any
) -> Trainer:
    """Make a trainer of two runs on toy pairs."""
    chosen = TrainOptions(out=out, **(QUICK | options))
    pairs = [make_pair(0), make_pair(1)]
    return Trainer(name, small(name, steps=steps), pairs, [0, 1], chosen, resume)


def train(agent: Agent, updates: int | None = None, backend: Any = "eager") -> Agent:
    """Run all stages, at most `updates` of the last one."""
    stages = agent.stages()
    for stage in stages:
        steps = stage.steps
        if stage is stages[-1] and updates is not None:
            steps = updates
        running, done = Running(agent, stage, backend), 0
        while done < steps:
            block = min(50, steps - done, stage.every or 50)
            running.run(block)
            done += block
            if stage.check is not None and (done % stage.every == 0 or done == steps):
                stage.check()
        if stage is not stages[-1]:
            if stage.finish is not None:
                stage.finish()
            agent.logged.clear()
    return agent


def draws(agent: Agent, updates: int) -> list[tuple[Batch, dict[str, torch.Tensor]]]:
    """Draw a block of batches and random numbers of the last stage."""
    stage = agent.stages()[-1]
    drawn = Running(agent, stage, "eager").draw(updates)
    places = drawn.pop("")
    return [
        (
            agent.data.batch(places[:, u], stage.source),
            {name: values[:, u] for name, values in drawn.items()},
        )
        for u in range(updates)
    ]


def draw(agent: Agent) -> tuple[Batch, dict[str, torch.Tensor]]:
    """Draw one batch and the random numbers of the last stage."""
    return draws(agent, 1)[0]


def plain_net(net: Net, copy: int = 0) -> nn.Sequential:
    """Make torch.nn layers with the weights of run 0, of one of its copies."""
    layers: list[nn.Module] = []
    for weight, bias in net.layers():
        linear = nn.Linear(weight.shape[1], weight.shape[2], dtype=torch.float64)
        linear.weight.data.copy_(weight[copy].T)
        linear.bias.data.copy_(bias[copy, 0])
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def weights(agent: Agent, run: int = 0) -> dict[str, torch.Tensor]:
    """Copy everything one run has learned."""
    return {
        name: tensor[run].detach().clone()
        for name, tensor in agent.tensors().items()
        if len(tensor) == agent.runs and not name.endswith(".steps")
    }


def distance(one: Mapping[str, torch.Tensor], two: Mapping[str, torch.Tensor]) -> float:
    """Give the largest relative distance, in norm, of tensors of the same name."""
    worst = 0.0
    for name, tensor in one.items():
        one_, two_ = tensor.detach().double(), two[name].detach().double()
        size, gap = float(one_.norm()), float((one_ - two_).norm())
        worst = max(worst, gap / size if size else gap)
    return worst


def distance_from_iql(ours: Agent) -> float:
    """Give how far an agent of `make_agent`'s data and IQL's weights is from IQL an update later.

    For methods that add to IQL, set so that nothing is left of what they add.
    """
    base = make_agent("iql", runs=ours.runs, dtype=ours.dtype)
    with torch.no_grad():
        for name, parameter in base.parameters.items():
            ours.parameters[name].rows.copy_(parameter.rows)
    places = torch.arange(32).expand(ours.runs, -1)
    for one in (ours, base):
        one.stages()[-1].update(one.data.batch(places, 16), {})
    mine = {name: tensor for name, tensor in weights(ours).items() if name in weights(base)}
    return distance(weights(base), mine)

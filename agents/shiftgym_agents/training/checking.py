"""Train a method for some updates of every stage on two paths, and name what ends apart.

Data are a random walk of a hopper's shape, networks and batches small: an update's Python is the
same at any size, and Python is what a CUDA graph lacks (see `core/capturing.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from shiftgym.making import domain
from shiftgym_agents.core.agent import Agent, Config
from shiftgym_agents.data.pairs import ArrayPair
from shiftgym_agents.training.running import Running

ROBOT, OBS, ACT = "hopper", 11, 3
SIZES = {"steps": None, "width": 32, "every": 5, "batch": 16}  # ends of names of whole numbers
LARGEST = 200  # any other whole number
BLOCK = 4  # updates whose numbers are drawn together: several blocks in a few updates
APART = 0.2  # of its way: what rounding does to a training on a GPU within a few updates
C = TypeVar("C", bound=Config)


def toy_pair(seed: int = 0, source: int = 400, target: int = 200) -> ArrayPair:
    """Pair two random walks with episodes of about 25 steps, the target's with a drift."""
    where = domain(f"{ROBOT}-kinematic")
    return ArrayPair(_walk(source, seed, 0.0), _walk(target, 1000 + seed, 0.2), where)


def _walk(rows: int, seed: int, drift: float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    observations = rng.normal(size=(rows, OBS)).astype(np.float32)
    actions = np.tanh(rng.normal(size=(rows, ACT)) + observations[:, :ACT]).astype(np.float32)
    ends = rng.random(rows) < 0.04
    ends[-1] = True
    terminated = ends & (rng.random(rows) < 0.5)
    after = observations + 0.3 * rng.normal(size=(rows, OBS)) + drift
    return {
        "observations": observations,
        "actions": actions,
        "rewards": (observations[:, 0] + actions[:, 0]).astype(np.float32),
        "next_observations": after.astype(np.float32),
        "terminated": terminated,
        "truncated": ends & ~terminated,
    }


def shrunk(config: C, updates: int) -> C:
    """Make every stage and network of a configuration small."""
    small: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, bool) or not isinstance(value, int) or not value:
            continue
        size = SIZES.get(field.name.rpartition("_")[2], LARGEST)
        small[field.name] = min(value, updates if size is None else size)
    return dataclasses.replace(config, **small)


def train(
    agent: Agent[Any], backend: Literal["eager", "captured"], updates: int
) -> dict[str, Tensor]:
    """Run at most so many updates of every stage; return what they logged, by stage and name."""
    stages = agent.stages()
    kept: dict[str, Tensor] = {}
    for stage in stages:
        running, done = Running(agent, stage, backend), 0
        steps = min(stage.steps, updates)
        while done < steps:
            block = min(BLOCK, steps - done)
            running.run(block)
            done += block
            running.check()
        kept |= {f"{stage.name}: log of {n}": x.clone() for n, x in agent.logged.items()}
        if stage is not stages[-1]:
            if stage.finish is not None:
                stage.finish()
            agent.logged.clear()
    return kept


def compare(
    make: Callable[[], Agent[Any]], updates: int, exact: bool = True
) -> tuple[list[str], list[str]]:
    """Train an agent eagerly and one captured; return the stages and what ends apart.

    Args:
        make: Makes the agent, the same every time.
        updates: Of each stage, at most.
        exact: Bit for bit, logs as well; else only what is far apart for the way it went.

    Raises:
        CaptureError: A stage cannot be captured, or parts at its first replay.
    """
    begun, eager, captured = make(), make(), make()
    logs = train(eager, "eager", updates), train(captured, "captured", updates)
    stages = [stage.name for stage in eager.stages()]
    one, two, start = eager.tensors(), captured.tensors(), begun.tensors()
    if exact:
        one, two = one | logs[0], two | logs[1]
        return stages, [
            name for name in one | two if name not in one or name not in two
            or not torch.equal(_numbers(one[name]), _numbers(two[name]))
        ]  # fmt: skip
    apart: list[str] = []
    for name, rows in ((f"{name}.rows", p.rows) for name, p in eager.parameters.items()):
        way = float((rows - start[name]).norm())
        if float((two[name] - rows).norm()) > APART * way:
            apart.append(name)
    return stages, apart


def _numbers(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().nan_to_num(7.0)

"""Record data of robots that are none of shiftgym's, and make tiny trainings of them."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from agent_helpers import small
from own_robots import fallen, never

from shiftgym.datasets.flat import FIELDS

HERE = Path(__file__).with_name("own_robots.py")
ROBOTS: dict[str, dict[str, Any]] = {
    "HeavyPendulum-v0": {"source": 1.0, "target": 2.0, "terminal": never},
    "Slider-v0": {"source": 2.0, "target": 1.0, "terminal": fallen},
}


@cache
def recorded(robot: str, side: str, rows: int) -> dict[str, np.ndarray]:
    """Record random actions in a robot of the side's mass, as rows."""
    env = gym.make(robot, mass=ROBOTS[robot][side])
    env.action_space.seed(rows)
    found: dict[str, list[Any]] = {name: [] for name in FIELDS}
    seen, over = env.reset(seed=rows)[0], False
    while len(found["rewards"]) < rows:
        action = env.action_space.sample()
        after, reward, terminated, truncated, _ = env.step(action)
        row = (seen, action, reward, after, terminated, truncated)
        for values, value in zip(found.values(), row, strict=True):
            values.append(value)
        over = terminated or truncated
        seen = env.reset()[0] if over else after
    env.close()
    found["truncated"][-1] = not found["terminated"][-1]
    return {name: np.array(values) for name, values in found.items()}


def tiny(name: str, steps: int) -> Any:
    """Give a method's configuration at a tiny size, with what a foreign robot must bring."""
    config = small(name, steps=steps)
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        given = getattr(config, field.name)
        if field.name.endswith("_steps") and isinstance(given, int):
            changes[field.name] = min(given, 5)
        elif field.name.startswith("rollout_") and isinstance(given, int):
            changes[field.name] = min(given, 50)
    if hasattr(config, "model_capacity"):
        changes["model_capacity"] = 200
    if hasattr(config, "support"):
        changes["support"] = 0.5
    return dataclasses.replace(config, **changes)


def flags(config: Any, default: Any) -> list[str]:
    """Write a configuration as options of the command."""
    words: list[str] = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value != getattr(default, field.name):
            words += [f"--{field.name.replace('_', '-')}", str(value)]
    return words

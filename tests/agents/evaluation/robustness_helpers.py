"""Make policies to test the robustness harness with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import shiftgym
from shiftgym_agents.core.policy import Policy
from shiftgym_agents.evaluation.robustness import Subject


def make_policy(robot: str, runs: int = 2, seed: int = 0) -> Policy:
    rng = np.random.default_rng(seed)
    env: Any = shiftgym.domain(robot).make()
    obs, act = env.observation_space.shape[0], env.action_space.shape[0]
    env.close()
    sizes = [obs, 32, 32, act]
    layers = [
        (
            (rng.normal(size=(runs, i, o)) / np.sqrt(i)).astype(np.float32),
            np.zeros((runs, 1, o), np.float32),
        )
        for i, o in zip(sizes[:-1], sizes[1:], strict=True)
    ]
    blank = np.zeros((runs, 1, obs), np.float32)
    return Policy(layers, blank, blank + 1, act)


def make_subject(slug: str, runs: int = 2, reference: dict[str, float] | None = None) -> Subject:
    own = shiftgym.domain(slug)
    about = {"source": "toy/source", "target": "toy/target", "reference": reference}
    entries = [about | {"seed": seed, "domain": own.kwargs()} for seed in range(runs)]
    return Subject(Path("x"), "toy", 0, entries, [own] * runs, make_policy(own.robot, runs))

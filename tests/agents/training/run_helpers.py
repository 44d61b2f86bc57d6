"""Write run directories without training, for tests of what reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from shiftgym_agents.core.policy import Policy
from shiftgym_agents.training.artifacts import write_checkpoint, write_json


def some_policy(obs: int, act: int, runs: int = 2, spare: int = 0, box: float = 1.0) -> Policy:
    """Make policies of random weights, whose last layers have ``spare`` outputs more."""
    rng = np.random.default_rng(0)
    sizes = [obs, 16, 16, act + spare]
    layers = [
        (
            rng.normal(size=(runs, i, o)).astype(np.float32) / np.float32(i**0.5),
            rng.normal(size=(runs, 1, o)).astype(np.float32),
        )
        for i, o in zip(sizes[:-1], sizes[1:], strict=True)
    ]
    shift = rng.normal(size=(runs, 1, obs)).astype(np.float32)
    scale = rng.uniform(0.5, 2, (runs, 1, obs)).astype(np.float32)
    center = np.full((runs, 1, act), box - 1, np.float32)
    return Policy(layers, shift, scale, act, center, np.full((runs, 1, act), box, np.float32))


def write_run(out: Path, policy: Policy, place: dict[str, Any] | None) -> Path:
    """Write a run directory of a policy that was evaluated in some place."""
    out.mkdir()
    run = {"source": "toy/source", "target": "toy/target", "domain": place, "reference": None}
    runs = [run | {"seed": 7 + k} for k in range(len(policy.shift))]
    write_json(out / "config.json", {"method": "bc", "config": {}, "runs": runs})
    write_checkpoint(out, policy.arrays(), {"count": 5})
    return out

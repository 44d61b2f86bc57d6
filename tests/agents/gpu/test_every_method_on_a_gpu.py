"""Hold every method and preset to one promise: captured as a CUDA graph it is the eager method."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from shiftgym_agents.core.agent import Agent
from shiftgym_agents.methods.table import METHODS, method
from shiftgym_agents.training.checking import compare, shrunk, toy_pair

PRESETS = [
    (name, preset)
    for name in METHODS
    for preset in ("ours", "paper", "official")
    if preset == "ours" or method(name).presets[preset] != method(name).presets["ours"]
]


def make(name: str, preset: str, device: str = "cuda", updates: int = 8) -> Agent[Any]:
    config = shrunk(method(name).presets[preset], updates)
    return method(name)(config, [toy_pair(0), toy_pair(1)], [0, 1], device)


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_captured_is_eager_in_every_stage(name: str, preset: str) -> None:
    stages, apart = compare(lambda: make(name, preset), updates=8)
    assert stages[-1] == "train" and not apart


def test_every_number_moves_so_equal_says_something() -> None:
    from shiftgym_agents.training.checking import train

    agent, start = make("iql", "ours"), make("iql", "ours")
    train(agent, "captured", 8)
    before, after = start.tensors(), agent.tensors()
    for name in before:
        if name.endswith((".rows", ".m")):
            assert not torch.equal(before[name].cpu(), after[name].cpu()), name

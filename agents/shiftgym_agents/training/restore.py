"""Rebuild the agent of a run directory, to ask its networks what a policy alone does not know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from shiftgym.datasets.load import load
from shiftgym.datasets.pair import Pair
from shiftgym.errors import ShiftgymError
from shiftgym.scores import MEASURED
from shiftgym_agents.core.agent import Agent
from shiftgym_agents.core.pairs import ArrayPair, TrainingPair
from shiftgym_agents.methods.table import method
from shiftgym_agents.training.artifacts import hash_arrays, read_checkpoint
from shiftgym_agents.training.records import configs_of, domain_of, read_about, reference_of


def restore_agent(out: Path, device: torch.device | str = "cpu") -> Agent[Any]:
    """Make the agent that a run directory's checkpoint was written by, on any device.

    Its datasets are loaded again, for their scaling and statistics.

    Raises:
        ShiftgymError: There is no checkpoint; a dataset is not here, or not the one it was trained
            on.
    """
    about, found = read_about(out), read_checkpoint(out)
    if found is None:
        raise ShiftgymError(f"{out} holds no checkpoint yet: let it train on.")
    chosen = method(about["method"])
    configs = configs_of(about, chosen.config_class, out)
    pairs: dict[str, TrainingPair] = {}
    for entry in about["runs"]:
        key = f"{entry['source']} -> {entry['target']}"
        if key not in pairs:
            pairs[key] = _pair(entry, out)
    each = [pairs[f"{entry['source']} -> {entry['target']}"] for entry in about["runs"]]
    agent = chosen(configs, each, [entry["seed"] for entry in about["runs"]], device)
    agent.load_tensors(found[0])
    return agent


def _pair(entry: dict[str, Any], out: Path) -> TrainingPair:
    """Load the datasets of one run."""
    names = entry["source"], entry["target"]
    worth = reference_of(entry, out)
    if names[0] == "none":
        target = load(names[1])
        pair: TrainingPair = ArrayPair(target, target, domain_of(entry, out), names, worth)
    else:
        pair = Pair(*names, worth or MEASURED)
    for side, name in zip(("source", "target"), names, strict=True):
        if hash_arrays(getattr(pair, side)) != entry.get(f"{side}_sha256"):
            raise ShiftgymError(
                f"{name} is not the dataset that {out} was trained on: it was made or imported "
                "anew since."
            )
    return pair

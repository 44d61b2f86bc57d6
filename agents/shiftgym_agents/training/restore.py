"""Rebuild the agent of a run directory, to ask its networks what a policy alone does not know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.core.agent import Agent
from shiftgym_agents.data.opening import reopen
from shiftgym_agents.data.pairs import TrainingPair
from shiftgym_agents.methods.outside import recalled
from shiftgym_agents.methods.table import method
from shiftgym_agents.training.artifacts import read_checkpoint
from shiftgym_agents.training.records import configs_of, domain_of, read_about, reference_of
from shiftgym_agents.training.run_config import describe_data


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
    chosen = method(recalled(about, out))
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
    where, worth = domain_of(entry, out), reference_of(entry, out)
    try:
        pair = reopen(entry, where, worth)
    except ShiftgymError:
        raise
    except (TypeError, KeyError, ValueError, AttributeError, IndexError) as error:
        raise ShiftgymError(f"{out / 'config.json'} is damaged: its data: {error}") from None
    hashes = describe_data(pair)
    for side, name in zip(("source", "target"), (entry["source"], entry["target"]), strict=True):
        if hashes[f"{side}_sha256"] != entry.get(f"{side}_sha256"):
            raise ShiftgymError(
                f"{name} is not the dataset that {out} was trained on: it was made or imported "
                "anew since."
            )
    return pair

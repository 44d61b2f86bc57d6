"""Measure how well a method tells source rows of the target's dynamics from others.

    labelled pairs (truth.py) -> agent, pre-trained on the pairs alone -> source_scores() -> AUC

Any method that answers `Agent.source_scores` is measured alike, and so is a file of one's own; a
plain model of the target's dynamics (yardstick.py) says what is attainable. Needs no simulator and
no policy, and takes minutes where a comparison of returns takes days: a first thing to look at,
while what it finds is no return. A method may be right to keep a false row that is worth keeping.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch

from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.statistics import ranked
from shiftgym_agents.core.agent import Agent, Config
from shiftgym_agents.data.pairs import TrainingPair
from shiftgym_agents.evaluation.yardstick import TargetModel
from shiftgym_agents.methods.table import method, settings
from shiftgym_agents.training.running import Backend, pick_backend, pick_device, run_stage

YARDSTICK = "target-model"
UNUSED: dict[str, dict[str, Any]] = {  # by method: pre-training that its scores do not need
    "otdf": {"cvae_steps": 0},
    "dvdf-otdf": {"cvae_steps": 0},
    "mobody": {"model_share": 0.0},
}
C = TypeVar("C", bound=Config)


def auc(scores: np.ndarray, true: np.ndarray) -> float:
    """Give the area under the ROC curve: how often a true row scores above a false one.

    Args:
        scores: `(N,)`, higher for more like the target; ties count half.
        true: `(N,)` bool.

    Returns:
        1 for a score that tells all, 0.5 for one that tells nothing; NaN if a score is NaN.

    Raises:
        ShiftgymError: all rows are true, or none is.
    """
    known, ones = _checked(scores, true)
    if np.isnan(known).any():
        return float("nan")
    count = ones.sum()
    over = ranked(known)[ones].sum() - count * (count + 1) / 2
    return float(over / (count * (len(ones) - count)))


def kept_true(scores: np.ndarray, true: np.ndarray, keep: float = 0.5) -> float:
    """Give the share of true rows among the share `keep` of highest scores.

    Of equal scores at the edge, as many count as fit, of both kinds alike. Arguments as for `auc`.
    """
    known, ones = _checked(scores, true)
    if np.isnan(known).any():
        return float("nan")
    _, place, counts = np.unique(-known, return_inverse=True, return_counts=True)
    room = max(1.0, keep * len(ones))
    before = counts.cumsum() - counts
    taken = (room - before).clip(0, counts) / counts
    return float((taken[place] * ones).sum() / room)


def _checked(scores: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    known, ones = np.asarray(scores, np.float64), np.asarray(true, bool)
    if known.ndim != 1 or known.shape != ones.shape:
        raise ValueError(f"scores {known.shape} and labels {ones.shape} must be (N,) both")
    if ones.all() or not ones.any():
        raise ShiftgymError("Rows of both kinds are needed to tell them apart.")
    return known, ones


def find(name: str) -> type[Agent]:
    """Find a method as `methods.table.method` does, or the yardstick."""
    return TargetModel if name == YARDSTICK else method(name)


def judges(chosen: type[Agent]) -> bool:
    """Say whether a method scores source rows at all."""
    return chosen.uses_source and chosen.source_scores is not Agent.source_scores


def configured(name: str, pair: TrainingPair, preset: str = "ours", most: int = 0) -> Config:
    """Give a method's hyperparameters for a pair, without pre-training that no score needs.

    Args:
        name: a method, or the yardstick.
        pair: the pair; its domain decides about some of them.
        preset: the method's.
        most: see `shortened`; 0 for whole pre-training.
    """
    if name == YARDSTICK:
        return shortened(TargetModel.presets["ours"], most)
    chosen = settings(name, pair.domain, preset, **UNUSED.get(name, {}))
    return shortened(chosen, most)


def shortened(config: C, most: int) -> C:
    """Let no pre-training take more than `most` updates, 0 for no limit.

    Pre-training is what fields with names ending in ``_steps`` count.
    """
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    short: dict[str, Any] = {
        name: most
        for name, value in values.items()
        if most and name.endswith("_steps") and isinstance(value, int) and value > most
    }
    return dataclasses.replace(config, **short)


def score_source(
    chosen: type[Agent],
    configs: Sequence[Config],
    pairs: Sequence[TrainingPair],
    seeds: Sequence[int],
    *,
    updates: int = 0,
    device: str = "cpu",
    backend: Backend = "auto",
    progress: Callable[[str, int, int], Any] | None = None,
) -> np.ndarray | None:
    """Pre-train a method on pairs of one robot, in lockstep, and ask for its source scores.

    Args:
        chosen: the method.
        configs: one per pair; they may differ in numbers only.
        pairs: the pairs.
        seeds: one per pair.
        updates: of the last stage, for methods that have no answer before.
        device: auto, cpu, cuda.
        backend: auto, eager, captured.
        progress: called with a stage's name, how many updates were taken just now, and how many
            there are in all.

    Returns:
        `(R, N)` float64; None of a method that takes all source rows alike.

    Raises:
        ShiftgymError: it has no answer after `updates` either, or one of another shape.
    """
    if not judges(chosen):
        return None
    where = pick_device(device)
    picked = pick_backend(backend, where)
    fast = picked == "captured" and where.type == "cpu"
    agent = chosen(list(configs), list(pairs), list(seeds), where, fast=fast)
    *before, last = agent.stages()
    total = sum(stage.steps for stage in before)

    def tell(name: str, taken: int) -> None:
        if progress is not None:
            progress(name, taken, total)

    for stage in before:
        run_stage(agent, stage, picked, progress=tell)
    with torch.no_grad():
        found = agent.source_scores()
    if found is None and updates:
        total += updates
        run_stage(agent, last, picked, updates, tell)
        with torch.no_grad():
            found = agent.source_scores()
    if found is None:
        raise ShiftgymError(
            f"{chosen.__name__}.source_scores has no answer after pre-training and {updates} "
            "updates of training: let it train for more."
        )
    shape = agent.runs, max(agent.data.sizes["source"])
    if tuple(found.shape) != shape:
        raise ShiftgymError(
            f"{chosen.__name__}.source_scores gave {tuple(found.shape)}: one number for each of "
            f"(runs, source rows) = {shape}, please."
        )
    return found.detach().double().cpu().numpy()

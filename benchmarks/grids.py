"""Name the grids of trainings that `grid.py` runs: methods x pairs x seeds, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shiftgym_agents.methods.table import METHODS

HEADLINE = ("bc", "iql-target", "iql", "otdf", "dvdf-otdf", "droco", "tabb")
# Pre-training where IQL itself takes only some 10,000 updates, so that no method takes hours.
SHORT = {
    "advantage_steps": 10_000,
    "contrast_steps": 3_000,
    "cvae_steps": 5_000,
    "density_steps": 10_000,
    "model_steps": 2_000,
    "representation_steps": 10_000,
    "finetune_steps": 2_000,
    "anchor_steps": 10_000,
    "classifier_steps": 2_000,
}
# A few thousand updates on both datasets do not bear the default of 3: three seeds of IQL fell at
# once on hopper-kinematic/medium when trained for 5,000 (scores 2 to 3). What the default does in
# longer training is the grid cpu-greedy.
GENTLE = {"temperature": 1.0}


@dataclass(frozen=True)
class Grid:
    """Say what is trained.

    Attributes:
        pairs: (source, target), any number per robot; those of one robot train in lockstep.
        methods: on every pair; those for the target alone draw no source rows.
        updates: of the last stage.
        seeds: per pair.
        evaluate_every: updates between evaluations.
        episodes: per run and evaluation.
        settings: values that differ from the preset "ours", for every method that has the field.
    """

    pairs: tuple[tuple[str, str], ...]
    methods: tuple[str, ...]
    updates: int
    seeds: int = 3
    evaluate_every: int = 5_000
    episodes: int = 10
    settings: Mapping[str, Any] = field(default_factory=dict)


def from_medium(
    robots: tuple[str, ...], shifts: tuple[str, ...], qualities: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    """Pair each robot's medium source with targets."""
    return tuple(
        (f"{robot}/medium", f"{robot}-{shift}/{quality}")
        for robot in robots
        for shift in shifts
        for quality in qualities
    )


GRIDS = {
    "cpu-five": Grid(
        pairs=(
            ("hopper/medium", "hopper-kinematic/medium"),
            ("halfcheetah/medium", "halfcheetah-morph/medium"),
        ),
        methods=HEADLINE,
        updates=30_000,
        settings=SHORT | GENTLE,
    ),
    "cpu-greedy": Grid(  # cpu-five's Hopper at the default temperature
        pairs=(("hopper/medium", "hopper-kinematic/medium"),),
        methods=("iql-target", "iql"),
        updates=30_000,
        settings=SHORT,
    ),
    "cpu-all": Grid(
        pairs=(("walker2d/medium", "walker2d-morph/medium"),),
        methods=tuple(METHODS),
        updates=20_000,
        settings=SHORT | GENTLE,
    ),
    "cpu-reverse": Grid(  # whose runs docs/make_robustness.py perturbs
        pairs=(
            ("hopper-kinematic/medium-200k", "hopper/medium-20k"),
            ("walker2d-morph/medium-200k", "walker2d/medium-20k"),
        ),
        methods=("iql", "igdf", "otdf", "droco"),
        updates=20_000,
        settings=SHORT | GENTLE,
    ),
    "gpu-five": Grid(
        pairs=from_medium(("hopper", "halfcheetah"), ("kinematic", "morph"), ("medium", "expert")),
        methods=HEADLINE,
        updates=500_000,
        seeds=5,
        evaluate_every=25_000,
    ),
    "gpu-all": Grid(
        pairs=from_medium(("walker2d", "ant"), ("kinematic", "morph"), ("medium",)),
        methods=tuple(METHODS),
        updates=500_000,
        seeds=5,
        evaluate_every=25_000,
    ),
}

"""Say what a run directory trains, and compare that with what is asked for when it is resumed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.ranges import Amount, Count, Size, Threads, check_ranges
from shiftgym_agents.core.agent import Config
from shiftgym_agents.data.pairs import TrainingPair
from shiftgym_agents.data.places import kwargs_of
from shiftgym_agents.data.sources import Arrays, Sources
from shiftgym_agents.methods.table import recorded
from shiftgym_agents.training.artifacts import hash_arrays
from shiftgym_agents.training.hardware import Precision
from shiftgym_agents.training.running import Backend

RESUMABLE = (
    "device",
    "backend",
    "threads",
    "checkpoint_minutes",
    "progress",
    "out",
)  # may differ on resuming


@dataclass(frozen=True)
class TrainOptions:
    """Say where and how to train."""

    out: Path = Path("runs/run")
    """Run directory."""
    device: str = "auto"
    """Where to train: auto (the GPU where there is one), cpu, cuda or cuda:1."""
    backend: Backend = "auto"
    """How updates run: captured (C++ kernels on the CPU, a CUDA graph on a GPU) or eager."""
    precision: Precision = "float32"
    """How a GPU multiplies: float32, or tf32, faster with 10 bits; other results, so it is off."""
    threads: Threads = 0
    """CPU threads for updates and simulation; 0 for one per core."""
    evaluate_every: Count = 10_000
    """Updates between evaluations; there is one after the last update, too."""
    episodes: Size = 10
    """Deterministic episodes per run and evaluation."""
    checkpoint_minutes: Amount = 5.0
    """Minutes between checkpoints."""
    progress: bool = True
    """Show a progress bar."""

    def __post_init__(self) -> None:
        """Refuse numbers outside the ranges of their fields."""
        check_ranges(self)


def names_of(pair: TrainingPair) -> dict[str, str]:
    """Give the names of a pair's datasets as records show them."""
    return dict(zip(("source", "target"), map(str, pair.names), strict=True))


def describe_run(
    name: str,
    configs: Sequence[Config],
    pairs: Sequence[TrainingPair],
    seeds: Sequence[int],
    options: TrainOptions,
) -> dict[str, Any]:
    """Say what is trained, as JSON."""
    known: dict[int, str] = {}
    runs = [
        {
            **describe_data(pair, known),
            "domain": kwargs_of(pair.domain),
            "reference": pair.reference and dataclasses.asdict(pair.reference),
            "seed": seed,
            **_extras(pair, known),
        }
        for pair, seed in zip(pairs, seeds, strict=True)
    ]
    plain = [dataclasses.asdict(config) for config in configs]
    about = {
        **recorded(name),
        "config": plain[0],
        "options": dataclasses.asdict(options),
        "runs": runs,
    }
    if any(config != plain[0] for config in plain):
        about["configs"] = plain
    return json.loads(json.dumps(about, default=str))


def describe_data(pair: TrainingPair, known: dict[int, str] | None = None) -> dict[str, Any]:
    """Give the names and SHA-256 of a pair's datasets; `known` holds those of arrays by id."""
    known = {} if known is None else known
    hashes = {f"{side}_sha256": _hash(getattr(pair, side), known) for side in ("source", "target")}
    return names_of(pair) | hashes


def _hash(arrays: Arrays, known: dict[int, str]) -> str:
    """Give the SHA-256 of a dataset, or of those of its parts."""
    if isinstance(arrays, Sources):
        parts = [f"{_hash(part, known)} {arrays.shares[k]}" for k, part in enumerate(arrays.whole)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()
    if id(arrays) not in known:
        known[id(arrays)] = hash_arrays(arrays)
    return known[id(arrays)]


def _extras(pair: TrainingPair, known: dict[int, str]) -> dict[str, Any]:
    """Say what only some pairs have: several sources, bounds of actions, a rule of ends."""
    found: dict[str, Any] = {}
    if isinstance(pair.source, Sources):
        own = pair.source
        found["sources"] = [
            {"name": name, "share": share, "rows": len(part["rewards"]), "sha256": _hash(w, known)}
            for name, share, part, w in zip(
                own.names, own.shares, own.parts, own.whole, strict=True
            )
        ]
    if (bounds := getattr(pair, "bounds", None)) is not None:
        found["bounds"] = [np.asarray(end, float).reshape(-1).tolist() for end in bounds]
    if (rule := getattr(pair, "terminal", None)) is not None:
        found["terminal"] = rule if isinstance(rule, str) else f"{rule.__module__}:{rule.__name__}"
    return found


def require_same(stored: dict[str, Any], ours: dict[str, Any], out: Path) -> None:
    """Refuse to resume a run of another configuration.

    Raises:
        ShiftgymError: The message lists what differs.
    """
    differ: list[str] = []

    def compare(there: Any, now: Any, path: str) -> None:
        if isinstance(there, dict) and isinstance(now, dict):
            for key in {**there, **now}:
                if not (path == "options." and key in RESUMABLE) and path + key != "origin.file":
                    compare(there.get(key), now.get(key), f"{path}{key}.")
        elif isinstance(there, list) and isinstance(now, list) and len(there) == len(now):
            for i, pair in enumerate(zip(there, now, strict=True)):
                compare(*pair, f"{path}{i}.")
        elif there != now:
            differ.append(f"  {path.removesuffix('.')}: {there} there, {now} now")

    stored = {key: value for key, value in stored.items() if key != "provenance"}
    later = dataclasses.asdict(TrainOptions())  # options that an earlier version did not have
    stored["options"] = json.loads(json.dumps(later, default=str)) | stored.get("options", {})
    compare(stored, ours, "")
    if differ:
        lines = [f"{out} holds a run of another configuration:", *differ]
        raise ShiftgymError("\n".join([*lines, "Resume with the same values, or change --out."]))

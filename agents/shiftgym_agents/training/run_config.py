"""Say what a run directory trains, and compare that with what is asked for when it is resumed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftgym.errors import ShiftgymError
from shiftgym.ranges import Amount, Count, Size, Threads, check_ranges
from shiftgym_agents.core.agent import Config
from shiftgym_agents.core.pairs import TrainingPair
from shiftgym_agents.training.artifacts import hash_arrays
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
    hashes: dict[int, str] = {}
    for pair in pairs:
        for arrays in (pair.source, pair.target):
            if id(arrays) not in hashes:
                hashes[id(arrays)] = hash_arrays(arrays)
    runs = [
        {
            **names_of(pair),
            "source_sha256": hashes[id(pair.source)],
            "target_sha256": hashes[id(pair.target)],
            "domain": pair.domain.kwargs(),
            "reference": pair.reference and dataclasses.asdict(pair.reference),
            "seed": seed,
        }
        for pair, seed in zip(pairs, seeds, strict=True)
    ]
    plain = [dataclasses.asdict(config) for config in configs]
    about = {
        "method": name,
        "config": plain[0],
        "options": dataclasses.asdict(options),
        "runs": runs,
    }
    if any(config != plain[0] for config in plain):
        about["configs"] = plain
    return json.loads(json.dumps(about, default=str))


def require_same(stored: dict[str, Any], ours: dict[str, Any], out: Path) -> None:
    """Refuse to resume a run of another configuration.

    Raises:
        ShiftgymError: The message lists what differs.
    """
    differ: list[str] = []

    def compare(there: Any, now: Any, path: str) -> None:
        if isinstance(there, dict) and isinstance(now, dict):
            for key in {**there, **now}:
                if not (path == "options." and key in RESUMABLE):
                    compare(there.get(key), now.get(key), f"{path}{key}.")
        elif isinstance(there, list) and isinstance(now, list) and len(there) == len(now):
            for i, pair in enumerate(zip(there, now, strict=True)):
                compare(*pair, f"{path}{i}.")
        elif there != now:
            differ.append(f"  {path.removesuffix('.')}: {there} there, {now} now")

    compare({key: value for key, value in stored.items() if key != "provenance"}, ours, "")
    if differ:
        lines = [f"{out} holds a run of another configuration:", *differ]
        raise ShiftgymError("\n".join([*lines, "Resume with the same values, or change --out."]))

"""Race loading a large dataset against a raw HDF5 read and against Minari's episodes, in one run.

    python benchmarks/datasets.py --out docs/data/dataset_benchmarks.json

Three contestants take turns (A, B, C, A, B, C, ...) on 1,000,000 transitions of the Hopper:

    raw       h5py reads the six flat arrays from contiguous datasets: the same bytes, nothing else
    shiftgym  shiftgym.load(name), from the flat cache, checksums included
    minari    iterate over the episodes of the very same set and join them into flat arrays

and so does the first load, which makes the cache. A ratio is the median of the per-round ratios.
Exits with 1 if a bar is missed: at most 1.5 times the raw read, at least 10 times less than Minari.
"""

from __future__ import annotations

import datetime
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import figures
import h5py
import numpy as np
from tqdm import tqdm

import shiftgym
from shiftgym.datasets.cache import cache_path
from shiftgym.datasets.flat import FIELDS, Flat
from shiftgym.datasets.store import read_dataset, write_dataset

PACKAGES = ("shiftgym", "h5py", "minari", "numpy", "safetensors")
MOST_OF_RAW, LEAST_OF_MINARI = 1.5, 10.0


@dataclass
class Options:
    """Choose what runs.

    Attributes:
        out: write the figures as JSON here.
        rows: transitions.
        steps: steps of an episode; the medium Hopper's are about 500 long.
        rounds: turns of the fast contestants; Minari has a third as many.
        place: folder to write to, so that another disk can be measured.
    """

    out: Path | None = None
    rows: int = 1_000_000
    steps: int = 500
    rounds: int = 9
    place: Path | None = None


def main(options: Options) -> int:
    """Run, print, write; give 1 if a bar is missed."""
    with tempfile.TemporaryDirectory(dir=options.place) as folder:
        found = measure(options, Path(folder))
    for name, entry in found["seconds"].items():
        print(f"{name:<11} {entry['median']:8.3f} s  [{entry['min']:.3f}, {entry['max']:.3f}]")
    for bar in found["bars"]:
        print(f"{bar['name']:<20} {bar['value']:8.2f}  bar {bar['bar']}  met: {bar['met']}")
    figures.write(options.out, found)
    return 0 if all(bar["met"] for bar in found["bars"]) else 1


def measure(options: Options, folder: Path) -> dict[str, Any]:
    """Write the data once, and let the contestants take turns."""
    os.environ["MINARI_DATASETS_PATH"] = str(folder)
    flat, load = drawn(options.rows, options.steps), figures.load()
    name = shiftgym.dataset_name("hopper/medium").sized(options.rows)
    started = time.perf_counter()
    path = write_dataset(flat, name, {})
    written = time.perf_counter() - started
    with h5py.File(folder / "raw.hdf5", "w") as file:
        for field in FIELDS:
            file[field] = flat[field]

    def first() -> Flat:
        cache_path(path).unlink()
        return read_dataset(path)

    runners: dict[str, Callable[[], Flat]] = {
        "raw": lambda: raw(folder / "raw.hdf5"),
        "shiftgym": lambda: shiftgym.load(name),
        "minari": lambda: episodes(name.minari),
        "first load": first,
    }
    slow = ("minari", "first load")
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for runner in runners.values():  # warm, and check that all give the same
        for field, array in runner().items():
            np.testing.assert_array_equal(array, flat[field])
    for turn in tqdm(range(options.rounds), unit="round"):
        for who, run in runners.items():
            if who in slow and turn % 3:
                continue
            started = time.perf_counter()
            run()
            seconds[who].append(time.perf_counter() - started)
    ours = np.array(seconds["shiftgym"])
    of_raw = float(np.median(ours / np.array(seconds["raw"])))
    of_minari = float(np.median(np.array(seconds["minari"]) / ours[::3]))
    return {
        "date": datetime.date.today().isoformat(),
        "machine": figures.machine(load),
        "versions": figures.versions(PACKAGES),
        "rows": options.rows,
        "megabytes": round(sum(array.nbytes for array in flat.values()) / 1e6, 1),
        "write_seconds": round(written, 3),
        "seconds": {who: _summary(values) for who, values in seconds.items()},
        "bars": [
            _bar("shiftgym / raw", of_raw, MOST_OF_RAW, of_raw <= MOST_OF_RAW),
            _bar("minari / shiftgym", of_minari, LEAST_OF_MINARI, of_minari >= LEAST_OF_MINARI),
        ],
    }


def drawn(rows: int, steps: int) -> Flat:
    """Draw a set of the Hopper's shapes."""
    rng = np.random.default_rng(0)
    chain = rng.normal(size=(rows + 1, 11)).astype(np.float32)
    truncated = np.arange(1, rows + 1) % steps == 0
    truncated[-1] = True
    return {
        "observations": chain[:-1].copy(),
        "actions": rng.uniform(-1, 1, (rows, 3)).astype(np.float32),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "next_observations": chain[1:].copy(),
        "terminated": np.zeros(rows, np.bool_),
        "truncated": truncated,
    }


def raw(path: Path) -> Flat:
    """Read flat arrays as fast as h5py does."""
    with h5py.File(path) as file:
        return {field: file[field][()] for field in FIELDS}  # pyright: ignore


def episodes(name: str) -> Flat:
    """Read a set as Minari's users do, episode after episode."""
    import minari

    found: dict[str, list[np.ndarray]] = {field: [] for field in FIELDS}
    for episode in minari.load_dataset(name).iterate_episodes():
        found["observations"].append(episode.observations[:-1])
        found["actions"].append(episode.actions)
        found["rewards"].append(episode.rewards)
        found["next_observations"].append(episode.observations[1:])
        found["terminated"].append(episode.terminations)
        found["truncated"].append(episode.truncations)
    return {field: np.concatenate(parts) for field, parts in found.items()}


def _summary(values: list[float]) -> dict[str, float]:
    found = {"median": np.median(values), "min": min(values), "max": max(values)}
    return {key: round(float(value), 4) for key, value in found.items()}


def _bar(name: str, value: float, bar: float, met: bool) -> dict[str, Any]:
    return {"name": name, "value": round(value, 3), "bar": bar, "met": met}


if __name__ == "__main__":
    figures.command(main, Options, __doc__)

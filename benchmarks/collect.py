"""Race `shiftgym data make` against bare vector stepping of the same episodes, in one run.

    python benchmarks/collect.py --name hopper/medium --size 1000000
    python benchmarks/collect.py --name hopper/medium --policy my.safetensors --rounds 3 --size 100k

A round makes a dataset in a process of its own (policy, rows, blocks, HDF5, checksums, cache, all
told), then steps the same simulations once more: same seeds, same actions from memory, no policy,
nothing recorded. The ratio is make / bare, so everything but stepping counts against `make`; the
policy's share of it is given too. Exits with 1 if a bar is missed.

On a busy machine wall times say little; CPU seconds do: what `make` spends beyond stepping happens
on one core while the others wait, so on C cores the ratio is 1 + C (make - bare) / bare of them.
"""

from __future__ import annotations

import datetime
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import figures
import numpy as np

from shiftgym.basics.machine import usable_cpus
from shiftgym.datasets.flat import Flat, episode_bounds
from shiftgym.datasets.store import dataset_path, read_dataset
from shiftgym.policies import load_policy
from shiftgym_tools.making.blas import one_blas_thread
from shiftgym_tools.making.collect import RANDOM, STREAM_SEEDS
from shiftgym_tools.making.jobs import Job, plan_job, wanted_name

BARS = {"make / bare": 1.3, "memory_gb": 1.5}
MEASURING = """
import resource, sys, time
from shiftgym.cli import main
start, begun = time.perf_counter(), time.process_time()
code = main(sys.argv[1:])
seconds = time.perf_counter() - start
used = resource.getrusage(resource.RUSAGE_SELF)
print("measured", seconds, time.process_time() - begun, used.ru_maxrss / 1e6)
sys.exit(code)
"""


@dataclass
class Options:
    """Choose what runs.

    Attributes:
        name: the dataset to make.
        policy: behaviours instead of the quality's own.
        size: transitions.
        streams: simulations side by side; as `data make` chooses by default.
        rounds: turns of each; ratios are medians over them.
        bars: whether a missed bar fails.
        out: write the figures as JSON here.
    """

    name: str = "hopper/medium"
    policy: tuple[str, ...] = ()
    size: str = "100k"
    streams: int | None = None
    rounds: int = 1
    bars: bool = True
    out: Path | None = None


def main(options: Options) -> int:
    """Run, print, write; give 1 if a bar is missed."""
    load = figures.load()
    job = plan_job(wanted_name(options.name, options.size, None), options.policy, options.streams)
    rounds = []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory(prefix="shiftgym-") as root:
            seconds, cpu, memory = make(options, Path(root))
            flat = read_dataset(dataset_path(job.name, Path(root)))
        bare, bare_cpu = step_bare(job, flat)
        rounds.append({
            "make": seconds, "bare": bare, "policy": act_only(job, flat), "memory_gb": memory,
            "make_cpu": cpu, "bare_cpu": bare_cpu,
        })  # fmt: skip
        print({key: round(value, 3) for key, value in rounds[-1].items()}, flush=True)
    cores = usable_cpus()
    middle = {key: statistics.median(entry[key] for entry in rounds) for key in rounds[0]}
    ratios = {
        "make / bare": statistics.median(r["make"] / r["bare"] for r in rounds),
        "make without policy / bare": statistics.median(
            (r["make"] - r["policy"]) / r["bare"] for r in rounds
        ),
        "from CPU seconds": statistics.median(
            1 + cores * (r["make_cpu"] - r["bare_cpu"]) / r["bare_cpu"] for r in rounds
        ),
    }
    print(
        f"{job.name}, {job.name.size:,} transitions in {sum(p.streams for p in job.parts)} streams "
        f"on {cores} cores: make {middle['make']:.1f} s, bare {middle['bare']:.1f} s, "
        f"policy {middle['policy']:.1f} s, peak memory {middle['memory_gb']:.2f} GB"
    )
    for key, value in ratios.items():
        print(f"  {key} {value:.3f}")
    found = {
        "date": datetime.date.today().isoformat(), "name": job.name.short, "rounds": rounds,
        "median": middle, "ratios": ratios, "cores": cores, "load_before": load,
    }  # fmt: skip
    figures.write(options.out, found)
    reached = ratios | {"memory_gb": max(r["memory_gb"] for r in rounds)}
    missed = [key for key, bar in BARS.items() if reached[key] > bar]
    print("Bars met." if not missed else f"Bars missed: {', '.join(missed)}")
    return 1 if missed and options.bars else 0


def make(options: Options, root: Path) -> tuple[float, float, float]:
    """Make the dataset in a fresh process; give seconds, CPU seconds and peak GB."""
    command = [sys.executable, "-c", MEASURING, "data", "make", options.name]
    command += ["--size", options.size, "--root", str(root)]
    command += ["--policy", *options.policy] if options.policy else []
    command += ["--streams", str(options.streams)] if options.streams else []
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    _, seconds, cpu, memory = done.stdout.splitlines()[-1].split()
    return float(seconds), float(cpu), float(memory)


def step_bare(job: Job, flat: Flat) -> tuple[float, float]:
    """Step the same simulations from memory; give seconds and CPU seconds."""
    shares = [share for part in job.parts for share in part.shares()]
    firsts = np.cumsum([0, *shares])
    steps, streams = max(shares), len(shares)
    actions = np.zeros((steps, streams, flat["actions"].shape[1]), np.float32)
    for stream, share in enumerate(shares):
        actions[:share, stream] = flat["actions"][firsts[stream] : firsts[stream] + share]
    env: Any = job.name.domain.make_vec(streams, autoreset_mode="disabled")
    episodes = np.ones(streams, dtype=np.int64)
    start, begun = time.perf_counter(), time.process_time()
    env.reset(seed=[job.seed + STREAM_SEEDS * stream for stream in range(streams)])
    for step in range(steps):
        _, _, terminated, truncated, _ = env.step(actions[step])
        ended = terminated | truncated
        if ended.any():
            seeds: list[int | None] = [None] * streams
            for stream in np.flatnonzero(ended).tolist():
                seeds[stream] = job.seed + STREAM_SEEDS * stream + int(episodes[stream])
            episodes += ended
            env.reset(seed=seeds, options={"reset_mask": ended})
    seconds, cpu = time.perf_counter() - start, time.process_time() - begun
    env.close()
    expected = len(episode_bounds(flat)) - 1
    assert abs(int(episodes.sum()) - expected) <= 2 * streams, "bare stepping went another way"
    return seconds, cpu


def act_only(job: Job, flat: Flat) -> float:
    """Draw the actions of the same observations, in batches of the same sizes; give seconds."""
    first, total = 0, 0.0
    rng = np.random.default_rng(0)
    for part in job.parts:
        if part.policy != RANDOM:
            policy, rows = load_policy(part.policy), flat["observations"]
            with one_blas_thread():
                start = time.perf_counter()
                for row in range(first, first + part.size, part.streams):
                    policy.act(rows[row : row + part.streams], rng)
                total += time.perf_counter() - start
        first += part.size
    return total


if __name__ == "__main__":
    figures.command(main, Options, __doc__)

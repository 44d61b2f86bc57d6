"""Race every method, with 1, 5 and 40 runs, against a plain one-run PyTorch IQL.

    python benchmarks/agents.py --out docs/data/agent_benchmarks.json
    python benchmarks/agents.py --methods iql bc --runs 5 --rounds 3

Contestants take turns, a block of updates each per round; a ratio is the median over rounds of the
ratio to the plain IQL of the same round. Other work on the same cores slows PyTorch's own threads
more than the kernels', so a busy machine flatters the ratio: the load is printed and stored. Data
are random transitions of a hopper's shape: an update's time does not depend on what is in them.
Exits with 1 if a bar is missed: IQL with 5 runs at least 1.7 times the plain run-updates a second,
every other method at least half of IQL's.
"""

from __future__ import annotations

import cProfile
import pstats
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import figures
import numpy as np
import torch
from plain_iql import PlainIQL
from tqdm import tqdm

import shiftgym
from shiftgym.basics.machine import usable_cpus
from shiftgym_agents.core.agent import Config
from shiftgym_agents.data.pairs import ArrayPair
from shiftgym_agents.methods.table import METHODS, method
from shiftgym_agents.training.artifacts import provenance
from shiftgym_agents.training.evaluator import Evaluator
from shiftgym_agents.training.hardware import device_name
from shiftgym_agents.training.running import Running, has_kernels, pick_backend, pick_device

BARS = {"iql": 1.7, "other": 0.5}
OBS, ACT = 11, 3
PROFILED = 5  # runs at which the parts of an update are timed


@dataclass
class Options:
    """Choose what runs.

    Attributes:
        out: write the figures as JSON here.
        methods: which methods.
        runs: numbers of runs in lockstep.
        rounds: turns per contestant; ratios are medians over them.
        seconds: time of one turn.
        threads: CPU threads; 0 for one per core.
        device: cpu, cuda or auto.
        eager: measure the eager path, too.
        evaluation: measure evaluation steps per second, too.
    """

    out: Path | None = None
    methods: tuple[str, ...] = tuple(METHODS)
    runs: tuple[int, ...] = (1, 5, 40)
    rounds: int = 5
    seconds: float = 2.0
    threads: int = 0
    device: str = "auto"
    eager: bool = False
    evaluation: bool = True


def arrays(rows: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    obs = rng.normal(size=(rows + 1, OBS)).astype(np.float32)
    return {
        "observations": obs[:-1],
        "actions": np.tanh(rng.normal(size=(rows, ACT))).astype(np.float32),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "next_observations": obs[1:],
        "terminated": rng.random(rows) < 0.01,
        "truncated": np.arange(rows) % 500 == 499,
    }


def random_pair() -> ArrayPair:
    return ArrayPair(arrays(100_000, 0), arrays(5_000, 1), shiftgym.domain("hopper-kinematic"))


def contestant(
    name: str,
    runs: int,
    backend: Any,
    pair: ArrayPair,
    device: torch.device,
    look: Callable[[Running], None] | None = None,
    config: Config | None = None,
) -> Running:
    """Make the last stage of a method ready to run, its pre-training cut to a few updates.

    `look` is shown every earlier stage that has updates, ready to run. The configuration is that of
    the preset `ours` by default.
    """
    fast = backend == "captured" and has_kernels(device)
    config = config or method(name).presets["ours"]
    agent = method(name)(config, [pair] * runs, range(runs), device, fast=fast)
    *before, last = agent.stages()
    for stage in before:
        running = Running(agent, stage, backend)
        running.run(min(stage.steps, 10))
        if stage.steps and look is not None:
            look(running)
        running.check()
        if stage.finish is not None:
            stage.finish()
    agent.logged.clear()
    return Running(agent, last, backend)


def turn(update: Callable[[], None], block: int, seconds: float, device: torch.device) -> float:
    """Give blocks' updates per second over about so many seconds."""
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        update()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        done += block
    return done / (time.perf_counter() - start)


def evaluation_rate(pair: ArrayPair, runs: int, running: Running) -> float:
    """Give environment steps per second of one evaluation of all runs x 10 episodes."""
    evaluator = Evaluator([pair.domain] * runs, list(range(runs)), 10)
    start = time.perf_counter()
    found = evaluator.evaluate(running.agent.policy(), 0)
    steps = int(found.lengths.max()) * found.lengths.size
    evaluator.close()
    return steps / (time.perf_counter() - start)


def main(options: Options) -> int:
    device = pick_device(options.device)
    torch.set_num_threads(options.threads or usable_cpus())
    pair = random_pair()
    load = figures.load()
    if load > 0.5:
        print(f"load {load:.1f} before the start: these figures will not be an idle machine's")
    plain = PlainIQL(pair.source, pair.target, str(device))
    backends = ["captured", "eager"] if options.eager else ["captured"]
    pick_backend("captured", device)
    rows: list[dict[str, Any]] = []
    wanted = [(n, r, b) for r in options.runs for n in options.methods for b in backends]
    for name, runs, backend in tqdm(wanted, unit="contestant"):
        running = contestant(name, runs, backend, pair, device)
        running.run(5)
        block = 10 if device.type == "cpu" else 100
        ratios, rates, yard = [], [], []
        for _ in range(options.rounds):
            yard.append(turn(plain.update, 1, options.seconds, device))
            rate = turn(lambda r=running, n=block: r.run(n), block, options.seconds, device)
            rates.append(rate * runs)
            ratios.append(rate * runs / yard[-1])
        row: dict[str, Any] = {"method": name, "runs": runs, "path": backend}
        row |= {"run_updates_per_second": statistics.median(rates)}
        row |= {"plain_updates_per_second": statistics.median(yard)}
        row |= {"ratio": statistics.median(ratios)}
        if options.evaluation and name == options.methods[0]:
            row["evaluation_steps_per_second"] = evaluation_rate(pair, runs, running)
        if device.type == "cuda":
            row["device_memory_mb"] = torch.cuda.max_memory_allocated() / 2**20
            torch.cuda.reset_peak_memory_stats()
        if runs == PROFILED and device.type == "cpu":
            row["shares"] = shares(running)
        rows.append(row)
        tqdm.write(
            f"{name:<12} {runs:>3} runs {backend:<9} {row['run_updates_per_second']:8.0f}/s "
            f"plain {row['plain_updates_per_second']:6.0f}/s  ratio {row['ratio']:.2f}"
        )
    found = {
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "rounds": options.rounds,
        "load_before": load,
        "versions": provenance(),
    }
    found["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found["rows"] = rows
    figures.write(options.out, found)
    missed = misses(rows)
    print("\n".join(missed) or "every bar is met")
    return 1 if missed else 0


def shares(running: Running, updates: int = 30) -> dict[str, float]:
    """Give the share of time that each part of an update takes: draw, batch, and its own calls."""
    profile = cProfile.Profile()
    profile.runcall(running.run, updates)
    known: Any = pstats.Stats(profile)
    whole = known.total_tt
    parts: dict[str, float] = {}
    for (_, _, name), (*_, callers) in known.stats.items():
        for (path, _, caller), (*_, seconds) in callers.items():
            inside = caller == "update" and "shiftgym_agents" in path
            outside = (caller, name) in {("run", "draw"), ("_update", "batch")}
            if inside or outside:
                parts[name] = parts.get(name, 0.0) + seconds / whole
    parts = {name: round(share, 3) for name, share in parts.items() if share >= 0.02}
    parts["other"] = round(1 - sum(parts.values()), 3)
    return dict(sorted(parts.items(), key=lambda item: -item[1]))


def misses(rows: list[dict[str, Any]]) -> list[str]:
    """Say which bars are missed."""
    found: list[str] = []
    at = {(r["method"], r["runs"]): r["ratio"] for r in rows if r["path"] == "captured"}
    base = at.get(("iql", 5))
    if base is None:
        return found
    if base < BARS["iql"]:
        found.append(f"IQL with 5 runs: {base:.2f} times plain, bar {BARS['iql']}")
    for (name, runs), ratio in at.items():
        if runs == 5 and ratio < BARS["other"] * base:
            found.append(
                f"{name} with 5 runs: {ratio / base:.2f} of IQL's rate, bar {BARS['other']}"
            )
    return found


if __name__ == "__main__":
    figures.command(main, Options, __doc__)

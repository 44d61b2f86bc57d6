"""Measure every method on a GPU: CUDA graphs against eager, memory, hours of a full training.

    python benchmarks/gpu.py --out docs/data/gpu_benchmarks.json
    python benchmarks/gpu.py --methods iql tabb --runs 5 --full

Per method and number of runs in lockstep:

    captured, eager    run-updates per second of the last stage, medians over rounds
    parted             how far 20 updates of each path from the same start end apart, as a share of
                       how far they moved: rounding and Adam's first steps, which are signs of
                       gradients, give some per cent; above 0.2 something is wrong
    memory             peak of the tensors on the device, with the graph's own
    5 runs x 1M        every stage's updates at its measured rate, plus 100 evaluations of 10 full
                       episodes one after the other: an extrapolation, said so, from above because
                       evaluations run beside training; --full trains and measures instead

Data are random transitions of a hopper's shape. Exits with 2 where there is no GPU, and with 1 if
a captured path parted from the eager one.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import figures
import torch

from agents import contestant, evaluation_rate, random_pair, turn
from shiftgym.domains import episode_steps
from shiftgym_agents.core.agent import Config
from shiftgym_agents.data.pairs import ArrayPair
from shiftgym_agents.methods.table import method
from shiftgym_agents.training.artifacts import provenance
from shiftgym_agents.training.hardware import device_name
from shiftgym_agents.training.run_config import TrainOptions
from shiftgym_agents.training.running import Running, block_of, pick_device
from shiftgym_agents.training.trainer import Trainer

UPDATES, EVERY, EPISODES = 1_000_000, 10_000, 10  # of the training whose time is told
FULL_RUNS = 5  # in lockstep in it
PARTED = 0.2
HEADLINE = ("iql", "otdf", "dvdf-otdf", "droco", "tabb")


@dataclass
class Options:
    """Choose what runs.

    Attributes:
        out: write the figures as JSON here.
        methods: which methods.
        runs: numbers of runs in lockstep.
        rounds: turns per path; rates are medians over them.
        seconds: time of one turn.
        full: train 5 runs for 1M updates of each method, in place of extrapolating.
    """

    out: Path | None = None
    methods: tuple[str, ...] = HEADLINE
    runs: tuple[int, ...] = (1, 5, 40)
    rounds: int = 3
    seconds: float = 2.0
    full: bool = False


def measure(
    name: str,
    runs: int,
    pair: ArrayPair,
    device: torch.device,
    options: Options,
    config: Config | None = None,
) -> dict[str, Any]:
    """Measure one method with one number of runs."""
    row: dict[str, Any] = {"method": name, "runs": runs}
    before: dict[str, float] = {}  # earlier stage -> seconds that all its updates take

    def look(running: Running) -> None:
        stage = running.stage
        before[stage.name] = stage.steps / rate_of(running, options, device, rounds=1)

    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    captured = contestant(name, runs, "captured", pair, device, look, config)
    row["captured"] = runs * rate_of(captured, options, device)
    if device.type == "cuda":
        row["memory_mb"] = torch.cuda.max_memory_allocated(device) / 2**20
    eager = Running(captured.agent, captured.stage, "eager")
    with captured.agent.plainly():
        row["eager"] = runs * rate_of(eager, options, device)
        row["parted"] = parted(captured, eager)
    if runs == FULL_RUNS:
        rate = evaluation_rate(pair, runs, captured)
        episode = episode_steps(pair.domain.robot) * runs * EPISODES / rate
        row["stage_seconds"] = before | {captured.stage.name: UPDATES * runs / row["captured"]}
        row["evaluation_seconds"] = episode * UPDATES / EVERY
        row["extrapolated_hours"] = (
            sum(row["stage_seconds"].values()) + row["evaluation_seconds"]
        ) / 3600
    return row


def rate_of(running: Running, options: Options, device: torch.device, rounds: int = 0) -> float:
    """Give updates per second, warmed up."""
    block = block_of(running.stage, device)
    running.run(5)
    turns = rounds or options.rounds
    found = [turn(lambda: running.run(block), block, options.seconds, device) for _ in range(turns)]
    return statistics.median(found)


def parted(captured: Running, eager: Running, updates: int = 20) -> float:
    """Give how far both paths end apart from one start, as a share of how far they moved."""
    agent = captured.agent
    tensors, generators = agent.tensors(), agent.generators
    start = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    states = [generator.get_state() for generator in generators]
    ends: list[torch.Tensor] = []
    for running in (captured, eager):
        with torch.no_grad():
            for name, tensor in tensors.items():
                tensor.copy_(start[name])
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        running.run(updates)
        moved = [p.rows.detach() - start[f"{name}.rows"] for name, p in agent.parameters.items()]
        ends.append(torch.cat([rows.flatten() for rows in moved]))
    gap, way = float((ends[0] - ends[1]).norm()), float(ends[1].norm())
    return gap / way if way else gap


def full_hours(name: str, pair: ArrayPair, device: torch.device, updates: int = UPDATES) -> float:
    """Train 5 runs to the end with evaluations, and give the hours it took."""
    config = replace(method(name).presets["ours"], steps=updates)
    with tempfile.TemporaryDirectory() as folder:
        how = TrainOptions(
            Path(folder) / "run", str(device), evaluate_every=EVERY, episodes=EPISODES
        )
        start = time.perf_counter()
        whole = Trainer(name, config, [pair] * FULL_RUNS, range(FULL_RUNS), how).run()
        if not whole:
            raise KeyboardInterrupt
        return (time.perf_counter() - start) / 3600


def main(options: Options) -> int:
    """Run, print, write."""
    device = pick_device("cuda")
    pair = random_pair()
    found: dict[str, Any] = {"device": device_name(device), "versions": provenance()}
    found |= {"cuda": torch.version.cuda, "rows": []}
    print(f"{found['device']}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}")
    print(f"{'method':<12} runs  captured/s   eager/s  ratio  parted  memory MB  5 runs x 1M")
    for name in options.methods:
        for runs in options.runs:
            row = measure(name, runs, pair, device, options)
            hours = ""
            if runs == FULL_RUNS and options.full:
                row["measured_hours"] = full_hours(name, pair, device)
                hours = f"{row['measured_hours']:.2f} h measured"
            elif runs == FULL_RUNS:
                hours = f"{row['extrapolated_hours']:.2f} h extrapolated"
            found["rows"].append(row)
            print(
                f"{name:<12} {runs:>4} {row['captured']:11,.0f} {row['eager']:9,.0f} "
                f"{row['captured'] / row['eager']:6.1f} {row['parted']:7.4f} "
                f"{row['memory_mb']:10,.0f}  {hours}".rstrip(),
                flush=True,
            )
            figures.write(options.out, found, say=False)  # so far
    wrong = [r for r in found["rows"] if not r["parted"] < PARTED]
    for row in wrong:
        print(f"{row['method']}, {row['runs']} runs: captured and eager end {row['parted']:.2f} "
              "of their way apart")  # fmt: skip
    return 1 if wrong else 0


if __name__ == "__main__":
    figures.command(main, Options, __doc__, failed=2)

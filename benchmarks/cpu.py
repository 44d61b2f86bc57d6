"""Measure CPU training against the processor's own products, and beside other work.

    python benchmarks/cpu.py --out docs/data/cpu_benchmarks.json
    python benchmarks/cpu.py --kinds native --methods iql --rounds 3

Workers are processes that wait until told to run for a second; the kernels, eager PyTorch and plain
matrix products take turns, so a ratio compares the same minutes. A share of products is the share
of the processor's own rate (the better of one large product and `runs` small ones, by PyTorch) that
the products of an update reach, all else included. Then each path runs alone and beside other work
in turns: beside a process of lowest priority, one busy process per core, its twin. On a processor
with AVX-512 the kind `x86-64-v3` stands for one without. Exits with 1 if a bar is missed.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import figures
import torch

from agents import contestant, random_pair, turn
from shiftgym.basics.machine import processor_name, usable_cpus
from shiftgym_agents.kernels import native
from shiftgym_agents.training.artifacts import provenance

BARS = {"products": 0.65, "lowest": 0.8, "busy": 0.45, "twin": 0.45}
BUSY = [sys.executable, "-c", "while True: pass"]
# What makes PyTorch, too, leave AVX-512 alone:
PLAIN = {"MKL_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}


@dataclass
class Options:
    """Choose what runs.

    Attributes:
        out: write the figures as JSON here; what it holds of other kinds and methods stays.
        kinds: what the kernels are compiled for: native, x86-64-v3.
        methods: which methods.
        runs: runs in lockstep.
        rounds: turns per contestant; ratios are medians over them.
        seconds: time of one turn.
        threads: CPU threads; 0 for one per core.
        beside: paths to measure beside other work, too.
        worker: be a worker of this kind, method and path (the script starts these).
    """

    out: Path | None = None
    kinds: tuple[str, ...] = ("native", "x86-64-v3")
    methods: tuple[str, ...] = ("iql", "bc")
    runs: int = 5
    rounds: int = 5
    seconds: float = 1.0
    threads: int = 0
    beside: tuple[str, ...] = ("captured", "eager")
    worker: tuple[str, str, str] | None = None


def worker(options: Options) -> None:
    """Run a second for every line read, and answer with the rate."""
    assert options.worker is not None
    kind, name, path = options.worker
    cores = options.threads or usable_cpus()
    torch.set_num_threads(cores)
    native.FLAGS = native.FLAGS.replace("-march=native", f"-march={kind}")
    if path == "products":
        large, small = torch.randn(1024, 1024), torch.randn(options.runs, 256, 256)
        work = [lambda: large @ large, lambda: torch.bmm(small, small)]
        flops = [2 * 1024**3, 2 * options.runs * 256**3]
        block, scale = 1, 1e-9
    else:
        running = contestant(name, options.runs, path, random_pair(), torch.device("cpu"))
        running.run(5)
        block, scale = 5, options.runs
        work, flops = [lambda: running.run(block)], [1]
    print("ready", flush=True)
    for line in sys.stdin:
        span = float(line) / len(work)
        rates = [turn(each, block, span, torch.device("cpu")) for each in work]
        print(max(r * f for r, f in zip(rates, flops, strict=True)) * scale, flush=True)


def gigaflops(name: str) -> float:
    """Count the multiplications and additions in products of one run's update, by PyTorch."""
    from torch.utils.flop_counter import FlopCounterMode

    running = contestant(name, 1, "eager", random_pair(), torch.device("cpu"))
    with FlopCounterMode(display=False) as counter:
        running.run(1)
    return counter.get_total_flops() / 1e9


class Worker:
    """Hold one worker process."""

    def __init__(self, options: Options, kind: str, name: str, path: str) -> None:
        command = [sys.executable, __file__, "--worker", kind, name, path]
        command += ["--runs", str(options.runs), "--threads", str(options.threads)]
        environment = os.environ | (PLAIN if kind != "native" else {})
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, env=environment
        )

    def start(self, seconds: float) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()

    def wait(self) -> str:
        assert self.process.stdout is not None
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError("a worker ended")
        return answer

    def run(self, seconds: float) -> float:
        self.start(seconds)
        return float(self.wait())


@contextlib.contextmanager
def company(kind: str) -> Iterator[None]:
    """Keep the cores busy: lowest (one process, nice 19) or busy (one per core)."""
    count = 1 if kind == "lowest" else usable_cpus()
    command = ["nice", "-n", "19", *BUSY] if kind == "lowest" else BUSY
    others = [subprocess.Popen(command) for _ in range(count)]
    time.sleep(0.2)
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def beside(first: Worker, second: Worker, kind: str, seconds: float) -> float:
    """Give a worker's rate beside other work."""
    if kind == "twin":
        second.start(seconds)
        rate = first.run(seconds)
        second.wait()
        return rate
    with company(kind):
        return first.run(seconds)


def measure(options: Options, kind: str, name: str) -> list[dict[str, Any]]:
    """Give a row for each path of one method on one kind of processor."""
    paths = ["captured", "eager"]
    workers = {path: Worker(options, kind, name, path) for path in [*paths, "products"]}
    twins = {path: Worker(options, kind, name, path) for path in options.beside}
    work, rows = gigaflops(name), []
    for each in [*workers.values(), *twins.values()]:
        each.wait()
    alone: dict[str, list[float]] = {path: [] for path in workers}
    for _ in range(options.rounds):
        for path, each in workers.items():
            alone[path].append(each.run(options.seconds))
    for path in paths:
        pairs = list(zip(alone[path], alone["products"], alone["eager"], strict=True))
        row: dict[str, Any] = {"kind": kind, "method": name, "path": path}
        row["run_updates_per_second"] = statistics.median(alone[path])
        row["products"] = statistics.median(r * work / p for r, p, _ in pairs)
        row["eager"] = statistics.median(r / e for r, _, e in pairs)
        for company_kind in ("lowest", "busy", "twin") if path in options.beside else ():
            ratios = []
            for _ in range(options.rounds):
                rate = beside(workers[path], twins[path], company_kind, options.seconds)
                ratios.append(rate / workers[path].run(options.seconds))
            row[company_kind] = statistics.median(ratios)
        row["product_gigaflops"] = statistics.median(alone["products"])
        rows.append(row)
        told = {k: round(v, 2) if isinstance(v, float) else v for k, v in row.items()}
        print(" ".join(f"{k} {v}" for k, v in told.items()), flush=True)
    for each in [*workers.values(), *twins.values()]:
        each.process.kill()
        each.process.wait()
    return rows


def misses(rows: list[dict[str, Any]]) -> list[str]:
    """Say which bars the kernels miss."""
    return [
        f"{row['method']} on {row['kind']}: {bar} {row[bar]:.2f}, bar {least}"
        for row in rows
        for bar, least in ({"eager": 1.0} | BARS).items()
        if row["path"] == "captured" and row.get(bar, least) < least
        if bar != "products" or row["method"] == "iql"
    ]


def main(options: Options) -> int:
    if options.worker:
        worker(options)
        return 0
    load = figures.load()
    rows = [row for k in options.kinds for m in options.methods for row in measure(options, k, m)]
    missed = misses(rows)
    if options.out and options.out.exists():
        measured = {(row["kind"], row["method"]) for row in rows}
        kept = json.loads(options.out.read_text())["rows"]
        rows = [row for row in kept if (row["kind"], row["method"]) not in measured] + rows
    found: dict[str, Any] = {"device": processor_name()}
    found |= {"cores": usable_cpus(), "runs": options.runs}
    found |= {"load_before": load, "versions": provenance(), "rows": rows}
    figures.write(options.out, found)
    print("\n".join(missed) or "every bar is met")
    return 1 if missed else 0


if __name__ == "__main__":
    figures.command(main, Options, __doc__)

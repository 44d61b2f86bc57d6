"""Count the kernels, bytes and operations of an update on a GPU, without one, and estimate rates.

    python -m shiftgym_agents.standin benchmarks/gpu_kernels.py --out docs/data/gpu_kernels.json
    python -m shiftgym_agents.standin benchmarks/gpu_kernels.py --methods iql --top 12

An update of each method's last stage runs at its real size on the stand-in device, which notes what
it launches. Two ways are counted: `plain`, torch operations and weights sliced out of their rows
one by one, and `fused`, what a captured training does. From counts at 1 and at 2 runs follow those
at any number. The estimate adds up, kernel by kernel, the constants below: assumptions about an
H100, of which the sum is right within perhaps 40 %. `benchmarks/gpu.py` measures.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import figures
import torch
from torch import Tensor

from shiftgym_agents.core import nets, networks
from shiftgym_agents.core.networks import Layers
from shiftgym_agents.methods.table import METHODS, method
from shiftgym_agents.standin.machine import Launch, Shape, machine
from shiftgym_agents.training.checking import toy_pair
from shiftgym_agents.training.running import Running

LAUNCH = 2e-6  # seconds: a small kernel in a graph
PRODUCT = {"float32": (6e-6, 40e12), "tf32": (4e-6, 200e12)}  # least seconds, operations a second
MEMORY, CACHE, CACHED = 2.6e12, 5e12, 25e6  # bytes a second; what moves fewer bytes stays in L2
PRODUCTS = ("mm", "bmm", "baddbmm", "addmm")
WRITES = frozenset("zero_ fill_ zeros ones full new_zeros zeros_like ones_like new_full".split())
WAYS = {"plain": False, "fused": True}
COUNTED = (2, 3)  # runs at which kernels are counted; others lie on the line through them
RUNS = (1, 5, 40)


@dataclass
class Options:
    """Choose what is counted.

    Attributes:
        out: write the figures as JSON here.
        methods: which methods.
        preset: of theirs.
        top: print this many kinds of kernels of each, by their time at 40 runs.
    """

    out: Path | None = None
    methods: tuple[str, ...] = tuple(METHODS)
    preset: str = "ours"
    top: int = 0


@dataclass(frozen=True)
class Kernel:
    """Count one kernel: its name, the bytes it moves, the operations of its product."""

    name: str
    bytes: float
    operations: float = 0.0

    def seconds(self, precision: str) -> float:
        if self.operations:
            least, rate = PRODUCT[precision]
            return max(least, self.operations / rate, self.bytes / MEMORY)
        return max(LAUNCH, self.bytes / (CACHE if self.bytes < CACHED else MEMORY))


def kernels_of(launch: Launch) -> Iterator[Kernel]:
    """Say which kernels CUDA runs for one operation of PyTorch."""
    read, written = (sum(map(size_of, shapes)) for shapes in (launch.inputs, launch.outputs))
    if launch.name in PRODUCTS:
        left, right = launch.inputs[-2:]
        yield Kernel(launch.name, read + written, 2 * math.prod(left[0]) * right[0][-1])
        if launch.name == "baddbmm":  # the bias is copied into the result first
            yield Kernel("bias", size_of(launch.inputs[0]) + written)
    elif launch.name in ("slice_backward", "select_backward"):
        yield Kernel(f"{launch.name}: zeros", written)
        yield Kernel(launch.name, 2 * read)
    else:
        yield Kernel(launch.name, written if launch.name in WRITES else read + written)


def size_of(shape: Shape) -> int:
    """Give the bytes of a tensor; a dimension that repeats is read once."""
    sizes, strides, kind = shape
    counted = (n for n, stride in zip(sizes, strides, strict=True) if stride or not n)
    return math.prod(counted) * kind.itemsize


def sliced(rows: Tensor, sizes: Sequence[int]) -> Layers:
    """Take weights out of rows one by one, which costs a gradient as long as the row for each."""
    layers: Layers = []
    start = 0
    for i, o in zip(sizes[:-1], sizes[1:], strict=True):
        middle, end = start + i * o, start + (i + 1) * o
        layers.append((rows[:, start:middle].view(-1, i, o), rows[:, middle:end].view(-1, 1, o)))
        start = end
    return layers


@contextmanager
def as_it_was() -> Iterator[None]:
    with patch.object(networks, "unpack", sliced), patch.object(nets, "unpack", sliced):
        yield


def launches(name: str, preset: str, runs: int, fast: bool) -> list[Kernel]:
    """Give the kernels of one update of a method's last stage."""
    config = method(name).presets[preset]
    small = {
        field.name: 2 if field.name.endswith("steps") else min(value, 256)
        for field in dataclasses.fields(config)
        if type(value := getattr(config, field.name)) is int
    }
    pairs = [toy_pair(run, 2000, 1000) for run in range(runs)]
    agent = method(name)(
        dataclasses.replace(config, **small), pairs, range(runs), "cuda", fast=fast
    )
    *before, last = agent.stages()
    for stage in before:
        running = Running(agent, stage, "eager")
        running.run(min(1, stage.steps))
        running.check()
        if stage.finish is not None:
            stage.finish()
    agent.logged.clear()
    running = Running(agent, last, "eager")
    running.run(2)
    given = {key: block[:, 0] for key, block in running.draw(1).items()}
    machine().log = found = []
    try:
        running._update(given)
    finally:
        machine().log = None
    return [kernel for launch in found for kernel in kernels_of(launch)]


def measure(name: str, preset: str, way: str) -> tuple[dict[str, Any], list[Kernel]]:
    """Count one method one way; return the figures, and its kernels at 40 runs."""
    if way == "plain":
        with as_it_was():
            one, two = (launches(name, preset, runs, WAYS[way]) for runs in COUNTED)
    else:
        one, two = (launches(name, preset, runs, WAYS[way]) for runs in COUNTED)
    assert [kernel.name for kernel in one] == [kernel.name for kernel in two], name

    def at(runs: int) -> list[Kernel]:
        return [
            Kernel(
                a.name,
                a.bytes + (b.bytes - a.bytes) * (runs - COUNTED[0]),
                a.operations + (b.operations - a.operations) * (runs - COUNTED[0]),
            )
            for a, b in zip(one, two, strict=True)
        ]

    most = max(RUNS)
    row: dict[str, Any] = {"method": name, "way": way, "kernels": len(one)}
    row["products"] = sum(kernel.operations > 0 for kernel in one)
    row["gflop_per_run"] = round(sum(kernel.operations for kernel in at(most)) / most / 1e9, 3)
    row["mb_per_run"] = round(sum(kernel.bytes for kernel in at(most)) / most / 1e6, 1)
    for precision in PRODUCT:
        seconds = {runs: sum(k.seconds(precision) for k in at(runs)) for runs in RUNS}
        row[precision] = {str(runs): round(runs / s) for runs, s in seconds.items()}
    return row, at(most)


def main(options: Options) -> int:
    """Count, print, write."""
    if torch.cuda.get_device_name() != "stand-in":
        print("gpu_kernels: run it with python -m shiftgym_agents.standin", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    print(f"{'method':<12}{'way':<7}kernels products GFLOP/run MB/run  run-updates/s at {RUNS}")
    for name in options.methods:
        for way in WAYS:
            row, kernels = measure(name, options.preset, way)
            rows.append(row)
            rates = "  ".join(
                f"{precision} " + " ".join(f"{rate:8,}" for rate in row[precision].values())
                for precision in PRODUCT
            )
            print(
                f"{name:<12}{way:<7}{row['kernels']:>7} {row['products']:>8} "
                f"{row['gflop_per_run']:>9.2f} {row['mb_per_run']:>6.1f}  {rates}",
                flush=True,
            )
            times: Counter[str] = Counter()
            for kernel in kernels:
                times[kernel.name] += round(1e9 * kernel.seconds("float32"))
            for kind, nanoseconds in times.most_common(options.top):
                own = [kernel for kernel in kernels if kernel.name == kind]
                moved = sum(kernel.bytes for kernel in own) / 1e6
                print(f"    {kind:<28}{len(own):>4} {moved:>8.0f} MB {nanoseconds / 1e3:>7.0f} us")
            if options.out:
                about = {"preset": options.preset, "torch": torch.__version__, "rows": rows}
                options.out.write_text(json.dumps(about, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    figures.command(main, Options, __doc__)

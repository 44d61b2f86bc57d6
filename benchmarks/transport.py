"""Time optimal transport: seconds per block of 10,000 source rows against 5,000 target rows.

    python benchmarks/transport.py --out docs/data/transport_benchmarks.json

On the CPU and on every kind of GPU that PyTorch finds, `solve` of
`shiftgym_agents.components.transport` on rows of
a Hopper's length (25 numbers). On the CPU the processor's own time stands beside the wall clock's:
divided by the number of threads, it is what a machine that does nothing else would need.
"""

from __future__ import annotations

import datetime
import resource
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import figures
import torch

from shiftgym.basics.machine import usable_cpus
from shiftgym_agents.components.transport import Transport, solve

PACKAGES = ("shiftgym", "pot", "torch", "numpy")


@dataclass
class Options:
    """Choose what runs.

    Attributes:
        out: write the figures as JSON here.
        source: source rows of a block.
        target: target rows.
        size: numbers per row.
        blocks: blocks per device, after one that warms up.
        device: one device, instead of the CPU and the GPU where there is one.
        threads: CPU threads; 0 for all cores.
    """

    out: Path | None = None
    source: int = 10_000
    target: int = 5_000
    size: int = 25
    blocks: int = 3
    device: str | None = None
    threads: int = 0


def main(options: Options) -> None:
    """Run, print, write."""
    load = figures.load()
    torch.set_num_threads(options.threads or usable_cpus())
    devices = [options.device] if options.device else ["cpu"]
    if options.device is None and torch.cuda.is_available():
        devices.append("cuda")
    found = {
        "date": datetime.date.today().isoformat(),
        "machine": figures.machine(load) | {"threads": torch.get_num_threads()},
        "versions": figures.versions(PACKAGES),
        "settings": asdict(Transport(block=options.source)),
        "rows": {"source": options.source, "target": options.target, "size": options.size},
        "devices": [measure(device, options) for device in devices],
    }
    for entry in found["devices"]:
        extra = "" if entry["cpu_seconds"] is None else f", {entry['cpu_seconds']:.2f} s processor"
        print(
            f"{entry['device']:<30} {entry['seconds']:.3f} s per block{extra}, "
            f"peak {entry['peak_megabytes']:.0f} MB"
        )
    figures.write(options.out, found)


def measure(device: str, options: Options) -> dict[str, Any]:
    """Time blocks on one device; medians."""
    gpu = torch.device(device).type == "cuda"
    draw = torch.Generator().manual_seed(0)
    settings = Transport(block=options.source)
    source = torch.randn(options.source, options.size, generator=draw).to(device)
    target = torch.randn(options.target, options.size, generator=draw).add(0.3).to(device)
    if gpu:
        torch.cuda.reset_peak_memory_stats(device)
    walls, works = [], []
    for turn in range(options.blocks + 1):
        start, begun = time.perf_counter(), time.process_time()
        solve(source, target, settings)
        if gpu:
            torch.cuda.synchronize(device)
        if turn:
            walls.append(time.perf_counter() - start)
            works.append(time.process_time() - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << (20 if MAC else 10))
    if gpu:
        peak = torch.cuda.max_memory_allocated(device) / (1 << 20)
    middle = options.blocks // 2
    return {
        "device": torch.cuda.get_device_name(device) if gpu else "cpu",
        "seconds": sorted(walls)[middle],
        "cpu_seconds": None if gpu else sorted(works)[middle],
        "all_seconds": walls,
        "peak_megabytes": peak,
    }


MAC = sys.platform == "darwin"  # where ru_maxrss counts bytes

if __name__ == "__main__":
    figures.command(main, Options, __doc__)

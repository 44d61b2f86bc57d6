"""Race the C++ kernels against eager PyTorch once per machine, and remember who won.

Which is faster depends on the processor and on the products that PyTorch has for it. The times lie
beside the compiled kernels, so they are taken anew with another processor, compiler, PyTorch or
number of threads.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import torch

from shiftgym_agents.core.nets import Net
from shiftgym_agents.core.networks import run_generators
from shiftgym_agents.kernels import native

RUNS, ROWS, SIZES = 5, 256, (17, 256, 256, 1)  # of a usual training
TURNS, PATIENCE = 12, 1.0  # at most so many turns, at most so many seconds


def kernels_win() -> bool:
    """Say whether the kernels are at least as fast as eager PyTorch with the threads now set.

    Raises:
        NativeUnavailableError: there are no kernels.
    """
    library = Path(native.load()._name)
    kind = f"{torch.get_num_threads()}-threads.torch-{torch.__version__}"
    path = library.with_name(f"{library.stem}.{kind}.json")
    times = _read(path)
    if times is None:
        times = race()
        _write(path, times)
    return times["kernels"] <= times["eager"]


def race() -> dict[str, float]:
    """Give the least seconds that one update of a usual network takes on each path."""
    x = torch.randn(RUNS, ROWS, SIZES[0], generator=torch.Generator().manual_seed(0))
    nets = {path: Net(SIZES, run_generators(range(RUNS))) for path in ("kernels", "eager")}
    nets["kernels"].native = True
    least = dict.fromkeys(nets, float("inf"))
    start = time.perf_counter()
    for turn in range(TURNS):
        for path, net in nets.items():
            began = time.perf_counter()
            with native.undisturbed() if net.native else nullcontext():
                net.descend(torch.autograd.grad(net(x).square().sum(), net.rows)[0])
            if turn:  # the first one warms up
                least[path] = min(least[path], time.perf_counter() - began)
        if turn and time.perf_counter() - start > PATIENCE:
            break
    return least


def _read(path: Path) -> dict[str, float] | None:
    """Read times; None where there are none, or none that make sense."""
    try:
        found = json.loads(path.read_text())
        times = {name: float(found[name]) for name in ("kernels", "eager")}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return times if all(value > 0 for value in times.values()) else None


def _write(path: Path, times: dict[str, float]) -> None:
    """Keep times, whole or not at all; where they cannot be kept, the next start races again."""
    try:
        handle, temporary = tempfile.mkstemp(".tmp", ".times-", path.parent)
        with os.fdopen(handle, "w") as file:
            json.dump(times, file)
        os.replace(temporary, path)
    except OSError:
        return

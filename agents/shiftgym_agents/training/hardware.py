"""Say which device trains, and how exactly it multiplies: it is recorded and printed."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.machine import processor_name, usable_cpus
from shiftgym_agents.training.running import Backend, has_kernels, pick_backend, pick_device

Precision = Literal["float32", "tf32"]
DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Settled:
    """Hold where a training runs and how, and what is told of it."""

    device: torch.device
    backend: Literal["eager", "captured"]
    fast: bool
    told: dict[str, str]


def settle(device: str, backend: Backend, precision: Precision, threads: int) -> Settled:
    """Turn options into a place to train at, and set PyTorch's threads and precision.

    Raises:
        ShiftgymError: The device is not there, or does not do what is asked for.
    """
    place = pick_device(device)
    torch.set_num_threads(threads or usable_cpus())
    set_precision(precision, place)
    chosen = pick_backend(backend, place)
    fast = chosen == "captured" and has_kernels(place)
    return Settled(place, chosen, fast, describe(place, chosen, precision))


def describe(device: torch.device, backend: str, precision: Precision) -> dict[str, str]:
    """Describe what trains: kind, device, backend and precision; on a GPU driver and CUDA, too."""
    found = {"kind": device.type, "device": device_name(device), "backend": backend}
    found["precision"] = precision
    if device.type == "cuda":
        found |= {"driver": driver_version() or "unknown", "cuda": torch.version.cuda or "none"}
    return found


def in_a_line(told: dict[str, str]) -> str:
    """Write a description as one line."""
    facts = [told["backend"], told["precision"]]
    facts += [f"driver {told['driver']}, CUDA {told['cuda']}"] if "driver" in told else []
    return f"{told['device']} ({', '.join(facts)})"


def set_precision(precision: Precision, device: torch.device) -> None:
    """Let a GPU multiply float32 matrices exactly, or with the 10 bits of TF32.

    Raises:
        ShiftgymError: TF32 was asked for where there is none.
    """
    if device.type != "cuda":
        if precision != "float32":
            raise ShiftgymError(f"--precision {precision} needs a GPU: leave it out on a CPU.")
        return
    if precision == "tf32" and torch.cuda.get_device_capability(device) < (8, 0):
        raise ShiftgymError(
            f"{torch.cuda.get_device_name(device)} has no TF32: leave --precision out."
        )
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")


def unseen_gpu() -> str | None:
    """Say that there is an NVIDIA driver whose GPUs PyTorch does not see; None if it sees one."""
    version = driver_version()
    if version is None or torch.cuda.is_available():
        return None
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a CPU build"
    return (
        f"this machine has an NVIDIA driver ({version}), but PyTorch {torch.__version__}, {built}, "
        "sees no GPU and trains on the CPU: docs/install.md says which build fits which driver."
    )


def driver_version() -> str | None:
    """Give the version of the NVIDIA driver; None where there is none."""
    if DRIVER.exists():
        found = re.search(r"Kernel Module\D*(\d+(\.\d+)+)", DRIVER.read_text())
        return found[1] if found else "unknown"
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    asked = [command, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else "unknown"


def device_name(device: torch.device) -> str:
    """Name a GPU, or the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return processor_name() or "CPU"

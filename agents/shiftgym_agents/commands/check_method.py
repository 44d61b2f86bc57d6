"""``shiftgym check-method``: does a method stay itself as a CUDA graph? With a GPU or without."""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated, Literal

import tyro

from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.ranges import Size, require

CHILD = ["-m", "shiftgym_agents.commands.checking"]
STANDIN = ["-m", "shiftgym_agents.standin"]


def check_method(
    name: Annotated[str, tyro.conf.Positional],
    preset: str = "",
    updates: int = 8,
    device: Literal["auto", "cuda", "stand-in"] = "auto",
) -> None:
    """Check that a method trains on a GPU as it does on the CPU, on toy data, in some seconds.

    On a GPU one update becomes a CUDA graph, which repeats kernels and no Python. Every stage is
    trained eagerly and captured, and what ends apart is named. Without a GPU a stand-in device
    keeps CUDA's rules: what waits for the device, what mixes devices, what a graph freezes.

    Example: shiftgym check-method examples/own_method.py

    Args:
        name: A Python file with a method of your own, or the name of a method.
        preset: One of its presets; all of them by default.
        updates: Updates of each stage.
        device: cuda, the stand-in, or whichever is here.

    Raises:
        ShiftgymError: It does not; what is printed before says where.
    """
    require("updates", updates, Size)
    program = CHILD if device == "cuda" or (device == "auto" and _gpu()) else [*STANDIN, *CHILD]
    done = subprocess.run([sys.executable, *program, name, preset, str(updates)])
    if done.returncode:
        raise ShiftgymError(f"{name} is not ready for a GPU, or could not be checked: see above.")


def _gpu() -> bool:
    import torch

    return torch.cuda.is_available()

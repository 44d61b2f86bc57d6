"""Write and read policies and checkpoints: safetensors and JSON, atomically, nothing pickled.

A policy file holds float32 arrays of one actor, readable with numpy alone:

    W0 (obs, W)  b0 (W,)  W1 (W, W)  b1 (W,)  W2 (W, 2A)  b2 (2A,)

    h = max(obs @ W0 + b0, 0);  h = max(h @ W1 + b1, 0);  mean, log_std = split(h @ W2 + b2, 2)
    deterministic action = tanh(mean)
    stochastic action    = tanh(mean + exp(clip(log_std, -20, 2)) * standard normal)

and, as strings in its metadata, where it comes from (domain, step, seed, return, versions).

A checkpoint is `checkpoint-<steps>.safetensors` plus `state.json` that names it. The JSON is
renamed into place last and is the commit: whenever the process dies, one complete pair is on disk.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

Arrays = dict[str, np.ndarray]


def provenance() -> dict[str, str]:
    """Name the versions and the git revision that a result depends on."""
    found = {"python": platform.python_version()}
    for package in ("shiftgym", "mujoco", "gymnasium", "torch", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "source tree"
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
        found["git"] = done.stdout.strip() or "unknown"
    except (OSError, subprocess.TimeoutExpired):
        found["git"] = "unknown"
    return found


def write_arrays(path: Path, arrays: Arrays, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file to a temporary name, sync it, and rename it into place.

    Equal contents give equal bytes: safetensors itself writes metadata in any order.
    """
    content = save({name: np.ascontiguousarray(a) for name, a in arrays.items()}, metadata)
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True).encode()
    header += b" " * (-len(header) % 8)
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.write(memoryview(content)[end:])
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON to a temporary name, sync it, and rename it into place."""
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "w") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_checkpoint(out: Path, arrays: Arrays, state: dict[str, Any]) -> None:
    """Replace the checkpoint in `out` by this one; `state` must hold `steps`."""
    name = f"checkpoint-{state['steps']:010d}.safetensors"
    write_arrays(out / name, arrays)
    write_json(out / "state.json", state | {"arrays": name})
    for old in out.glob("checkpoint-*.safetensors"):
        if old.name != name:
            old.unlink()


def read_checkpoint(out: Path) -> tuple[Arrays, dict[str, Any]] | None:
    """Return the checkpoint's arrays and state, or None where there is none."""
    if not (out / "state.json").exists():
        return None
    state = json.loads((out / "state.json").read_text())
    return load_file(out / state["arrays"]), state


def section(arrays: Arrays, prefix: str) -> Arrays:
    """Give the arrays whose names start with `prefix`, without it."""
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

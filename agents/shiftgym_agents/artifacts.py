"""Write and read what a run directory holds: safetensors and JSON, atomically, nothing pickled.

A checkpoint is `checkpoint-<count>.safetensors` plus `state.json` that names it. The JSON is
renamed into place last and is the commit: whenever the process dies, one complete pair is on disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from shiftgym.errors import ShiftgymError

PACKAGES = ("shiftgym", "mujoco", "gymnasium", "torch", "numpy")


def provenance() -> dict[str, str]:
    """Name the versions and the git revision that a result depends on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
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


def hash_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """Give the SHA-256 of arrays: of names, dtypes, shapes and bytes, in order of names."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.view(np.uint8).data if array.size else b"")
    return digest.hexdigest()


def write_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], metadata: dict[str, str] | None = None
) -> None:
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


def write_text(path: Path, content: str) -> None:
    """Write text to a temporary name, sync it, and rename it into place."""
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "w", newline="") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON to a temporary name, sync it, and rename it into place."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of a run directory.

    Raises:
        ShiftgymError: There is none, or it cannot be read.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise ShiftgymError(
            f"{path.parent} is not a run directory: no {path.name} there."
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ShiftgymError(f"Cannot read {path}: {error}") from None


def write_checkpoint(out: Path, arrays: Mapping[str, np.ndarray], state: dict[str, Any]) -> None:
    """Replace the checkpoint in `out` by this one; `state["count"]` must grow with training."""
    name = f"checkpoint-{state['count']:012d}.safetensors"
    write_arrays(out / name, arrays)
    write_json(out / "state.json", state | {"arrays": name})
    for old in out.glob("checkpoint-*.safetensors"):
        if old.name != name:
            old.unlink()


def read_checkpoint(out: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """Return the checkpoint's arrays and state, or None where there is none.

    Raises:
        ShiftgymError: The files are damaged.
    """
    if not (out / "state.json").exists():
        return None
    state = read_json(out / "state.json")
    try:
        return load_file(out / state["arrays"]), state
    except (OSError, KeyError, SafetensorError) as error:
        raise ShiftgymError(
            f"The checkpoint in {out} is damaged ({error}): start afresh with another --out."
        ) from None


def section(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Give the arrays whose names start with `prefix`, without it."""
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

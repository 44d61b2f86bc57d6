"""Write and read what a run directory holds: safetensors and JSON, atomically, nothing pickled.

A checkpoint is `checkpoint-<count>.safetensors` plus `state.json` that names it and holds the
SHA-256 of both. The JSON is renamed into place last and is the commit: whenever the process dies,
one complete pair is on disk. One process at a time writes (`owned`); any number may read beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from shiftgym.datasets.folders import explained
from shiftgym.datasets.locks import acquire, lock_at, lock_left, release
from shiftgym.datasets.places import NEW
from shiftgym.errors import ShiftgymError
from shiftgym.plain_files import open_plain

ELSEWHERE = "give --out a folder"  # where else runs may be written
LOCK = ".lock"
CHECKPOINT = re.compile(r"checkpoint-\d{12,}\.safetensors")
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


@contextmanager
def owned(out: Path) -> Iterator[None]:
    """Be the only writer of a run directory inside the block; make it if need be.

    What killed writers left half written is removed. A directory that nothing was put into is
    removed again.

    Raises:
        ShiftgymError: Another process writes there; the message says which, and since when.
    """
    made, advice = not out.exists(), "Wait for it, or stop it, or choose another --out."
    try:
        with explained(out, ELSEWHERE):
            out.mkdir(parents=True, exist_ok=True)
            descriptor = acquire(out / LOCK, f"Run {out}", wait=False, advice=advice)
        try:
            sweep(out)
            yield
        finally:
            release(descriptor, out / LOCK)
    finally:
        if made:
            with suppress(OSError):
                out.rmdir()


def sweep(folder: Path) -> None:
    """Remove files that dead writers left half written; those being written are locked."""
    for left in folder.glob(f".*{NEW}*"):
        with suppress(OSError):
            if left.is_file() and (descriptor := lock_left(left)) is not None:
                release(descriptor, left)
    for left in folder.glob(".*.tmp"):  # as versions before 0.1 called them
        with suppress(OSError):
            left.unlink()


def write_bytes(path: Path, *parts: bytes | memoryview) -> None:
    """Write a file to a name of its own, sync it, and rename it into place.

    Raises:
        ShiftgymError: The disk is full, or writing is not allowed; what was there is kept.
    """
    temporary = path.with_name(f".{path.name}{NEW}{secrets.token_hex(4)}")
    with explained(path, ELSEWHERE):
        descriptor = lock_at(temporary, wait=True)
        assert descriptor is not None
        try:
            with os.fdopen(descriptor, "wb") as file:
                for part in parts:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
                if sys.platform == "win32":
                    file.close()  # what is open cannot be renamed there
                temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise


def write_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], metadata: dict[str, str] | None = None
) -> str:
    """Write a safetensors file; return the SHA-256 of its bytes.

    Equal contents give equal bytes: safetensors itself writes metadata in any order.
    """
    content = save({name: np.ascontiguousarray(a) for name, a in arrays.items()}, metadata)
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True).encode()
    header += b" " * (-len(header) % 8)
    parts = len(header).to_bytes(8, "little") + header, memoryview(content)[end:]
    write_bytes(path, *parts)
    digest = hashlib.sha256(parts[0])
    digest.update(parts[1])
    return digest.hexdigest()


def write_text(path: Path, content: str) -> None:
    """Write text; see `write_bytes`."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON; see `write_bytes`."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of a run directory.

    Raises:
        ShiftgymError: There is none, or it cannot be read.
    """
    try:
        with open_plain(path) as file:
            found = json.loads(file.readall())
    except (FileNotFoundError, NotADirectoryError):
        raise ShiftgymError(
            f"{path.parent} is not a run directory: no {path.name} there."
        ) from None
    except (OSError, ValueError, RecursionError) as error:  # ValueError: encoding, JSON, long ints
        raise ShiftgymError(f"Cannot read {path}: {error}") from None
    if not isinstance(found, dict):
        raise ShiftgymError(f"Cannot read {path}: it holds no JSON object.")
    return found


def write_checkpoint(out: Path, arrays: Mapping[str, np.ndarray], state: dict[str, Any]) -> None:
    """Replace the checkpoint in `out` by this one; `state["count"]` must grow with training."""
    name = f"checkpoint-{state['count']:012d}.safetensors"
    state = state | {"arrays": name, "arrays_sha256": write_arrays(out / name, arrays)}
    write_json(out / "state.json", state | {"sha256": _digest(state)})
    for old in out.glob("checkpoint-*.safetensors"):
        if old.name != name:
            old.unlink()


def read_checkpoint(out: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """Return the checkpoint's arrays and state, or None where there is none.

    A writer may put a newer one into place meanwhile: then that one is read.

    Raises:
        ShiftgymError: The files are damaged.
    """
    gone = None
    while (out / "state.json").exists():
        state = read_json(out / "state.json")
        name = state.get("arrays")
        if not isinstance(name, str) or not CHECKPOINT.fullmatch(name):
            raise _damaged(out, "state.json names no checkpoint")
        try:
            with open_plain(out / name) as file:
                content = file.readall()
        except FileNotFoundError:
            if name == gone:
                raise _damaged(out, f"{name} is missing") from None
            gone = name
            continue
        except OSError as error:
            raise _damaged(out, str(error)) from None
        return _checked(out, content, state), state
    return None


def _checked(out: Path, content: bytes, state: dict[str, Any]) -> dict[str, np.ndarray]:
    """Read a checkpoint's arrays, if they and the state are as they were written.

    Checkpoints of early versions have neither checksum.
    """
    if "sha256" in state or "arrays_sha256" in state:
        own = {key: value for key, value in state.items() if key != "sha256"}
        if state.get("sha256") != _digest(own):
            raise _damaged(out, "state.json is not as it was written")
        if state.get("arrays_sha256") != hashlib.sha256(content).hexdigest():
            raise _damaged(out, f"{state['arrays']} is not as it was written")
    if not isinstance(state.get("count"), int):
        raise _damaged(out, "state.json lacks the count of updates")
    try:
        return load(content)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise _damaged(out, str(error)) from None


def _damaged(out: Path, reason: str) -> ShiftgymError:
    return ShiftgymError(
        f"The checkpoint in {out} is damaged ({reason}): train anew with another --out."
    )


def _digest(state: Mapping[str, Any]) -> str:
    """Give the SHA-256 of a state, the same before it is written as JSON and after."""
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def section(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Give the arrays whose names start with `prefix`, without it."""
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

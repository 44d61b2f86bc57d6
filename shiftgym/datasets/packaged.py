"""The datasets inside the package: small files, one per set, listed with checksums.

    assets/datasets/index.json                      name -> file, SHA-256, size, episodes, return,
                                                    and what the set tells of itself
    assets/datasets/hopper-kinematic/medium.hdf5    observations (N + E, O): an episode of T steps
                                                    has T + 1, none is stored twice
                                                    actions (N, A)  rewards (N,)
                                                    terminated, truncated (N,)

Everything is float32 and lossless: shuffled and deflated column by column, to about three quarters.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from shiftgym.datasets.flat import Flat, check_flat, episode_bounds, episode_returns, mean_return
from shiftgym.datasets.folders import clean, write_file
from shiftgym.datasets.locks import locked
from shiftgym.datasets.names import DatasetName, dataset_name
from shiftgym.domains import ASSETS, episode_steps
from shiftgym.errors import ShiftgymError

PACKAGED = ASSETS / "datasets"
INDEX = "index.json"
LIMIT = 60e6  # bytes, all sets together
STORED = ("observations", "actions", "rewards", "terminated", "truncated")
MOST_EXPANSION = 64  # bytes of arrays per byte of file


def packaged_index() -> dict[str, dict[str, Any]]:
    """List the packaged sets by short name: file, sha256, size, episodes, return, about."""
    path = PACKAGED / INDEX
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ShiftgymError(f"{path} is damaged ({error}): reinstall shiftgym.") from None


def package_dataset(
    flat: Flat, name: DatasetName | str, about: Mapping[str, Any], folder: Path | None = None
) -> Path:
    """Put a set into the package: its file and its row in the index.

    Args:
        flat: the transitions; as many as the name says.
        name: the set; one that is there is replaced.
        about: as for :func:`shiftgym.datasets.store.write_dataset`; ``episode_seeds`` in it are
            given on as that function's own argument when the set is installed.
        folder: the package's own folder by default.

    Returns:
        The file.

    Raises:
        ShiftgymError: the data are not in order, or all sets together get too large.
    """
    name, folder = dataset_name(name), folder or PACKAGED
    check_flat(flat, name.domain)
    rows = len(flat["rewards"])
    if rows != name.size:
        raise ShiftgymError(f"{name} names {name.size:,} transitions, got {rows:,}.")
    path = folder / name.domain.slug / f"{name.label}.hdf5"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = pack(flat)
    with locked(folder / ".lock"):
        clean(folder)
        clean(path.parent)
        write_file(path, content)
        listed = folder / INDEX
        index = json.loads(listed.read_bytes()) if listed.exists() else {}
        whole = episode_returns(flat, episode_steps(name.domain.robot))
        index[name.short] = {
            "file": f"{name.domain.slug}/{path.name}",
            "sha256": _digest(content),
            "size": rows,
            "episodes": len(episode_bounds(flat)) - 1,
            "widths": [flat["observations"].shape[1], flat["actions"].shape[1]],
            "return": mean_return(whole),
            "about": dict(about),
        }
        write_file(listed, json.dumps(dict(sorted(index.items())), indent=1).encode() + b"\n")
    total = sum((folder / entry["file"]).stat().st_size for entry in index.values())
    if total > LIMIT:
        raise ShiftgymError(f"The packaged sets take {total / 1e6:.1f} of {LIMIT / 1e6:.0f} MB.")
    return path


def withdraw(names: Iterable[str]) -> None:
    """Take sets out of the package: their rows in the index, then their files."""
    with locked(PACKAGED / ".lock"):
        index = packaged_index()
        files = [PACKAGED / index.pop(short)["file"] for short in names if short in index]
        content = json.dumps(dict(sorted(index.items())), indent=1).encode() + b"\n"
        write_file(PACKAGED / INDEX, content)
        for file in files:
            file.unlink(missing_ok=True)


def load_packaged(name: DatasetName | str) -> Flat:
    """Read a packaged set.

    Raises:
        ShiftgymError: not packaged, or the file is not the one that was.
    """
    name = dataset_name(name)
    entry = packaged_index().get(name.short)
    if entry is None:
        raise ShiftgymError(f"{name} is not packaged. shiftgym data list shows what is.")
    path = PACKAGED / entry["file"]
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ShiftgymError(f"Cannot read {path}: {error}. Reinstall shiftgym.") from None
    if _digest(content) != entry["sha256"]:
        raise ShiftgymError(f"{path} is damaged: its SHA-256 differs. Reinstall shiftgym.")
    flat = unpack(content, entry["size"], entry["episodes"], tuple(entry["widths"]))
    check_flat(flat)
    return flat


def pack(flat: Flat) -> bytes:
    """Give the content of a packaged set's file."""
    bounds = episode_bounds(flat)
    rows, episodes = int(bounds[-1]), len(bounds) - 1
    states = np.empty((rows + episodes, flat["observations"].shape[1]), np.float32)
    states[_state_rows(bounds)] = flat["observations"]
    states[bounds[1:] + np.arange(episodes)] = flat["next_observations"][bounds[1:] - 1]
    with h5py.File("packed", "w", driver="core", backing_store=False, libver="v110") as file:
        for field in STORED:
            array = states if field == "observations" else flat[field]
            chunks = (len(array), 1)[: array.ndim]
            options = {"compression": "gzip", "compression_opts": 9, "shuffle": True}
            file.create_dataset(field, data=array, chunks=chunks, track_times=False, **options)
        file.flush()
        return file.id.get_file_image()


def unpack(content: bytes, rows: int, episodes: int, widths: tuple[int, int]) -> Flat:
    """Read the content of a packaged set's file.

    Args:
        content: the file.
        rows: number of transitions it must hold.
        episodes: number of episodes it must hold.
        widths: numbers per observation and per action.

    Raises:
        ShiftgymError: damaged, or other shapes; nothing large has been allocated.
    """
    needed = 4 * ((rows + episodes) * widths[0] + rows * widths[1])
    if not 0 < episodes <= rows or needed > MOST_EXPANSION * len(content) + (1 << 20):
        raise ShiftgymError(f"{len(content):,} bytes cannot hold {rows:,} transitions.")
    shapes = {"observations": (rows + episodes, widths[0]), "actions": (rows, widths[1])}
    flat = {}
    try:
        fapl = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
        fapl.set_fapl_core(backing_store=False)
        fapl.set_file_image(content)
        with h5py.File(h5py.h5f.open(b"packed", h5py.h5f.ACC_RDONLY, fapl=fapl)) as file:
            for field in STORED:
                flat[field] = _read(file, field, shapes.get(field, (rows,)))
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        if isinstance(error, ShiftgymError):
            raise
        raise ShiftgymError(f"This is no packaged set, or it is damaged: {error}") from None
    bounds = episode_bounds(flat)
    if bounds[-1] != rows or len(bounds) != episodes + 1:
        raise ShiftgymError(f"The set holds other episodes than the {episodes} it should.")
    states, here = flat["observations"], _state_rows(bounds)
    return flat | {"observations": states[here], "next_observations": states[here + 1]}


def _read(file: h5py.File, field: str, shape: tuple[int, ...]) -> np.ndarray:
    dtype = np.dtype(np.bool_ if field in STORED[3:] else np.float32)
    if file.get(field, getlink=True).__class__ is not h5py.HardLink:
        raise ShiftgymError(f"The set's {field} are elsewhere.")
    block = file[field]
    if not isinstance(block, h5py.Dataset) or block.shape != shape or block.dtype != dtype:
        raise ShiftgymError(f"The set's {field} are not {shape} {dtype}.")
    if block.external or block.is_virtual:
        raise ShiftgymError(f"The set's {field} are elsewhere.")
    array = block[()]
    if dtype == np.bool_ and array.view(np.uint8).max() > 1:
        raise ShiftgymError(f"The set's {field} are not true or false.")
    return array


def _state_rows(bounds: np.ndarray) -> np.ndarray:
    """Give the row of each transition's state among the N + E stored ones, (N,) int64."""
    lengths = np.diff(bounds)
    return np.arange(bounds[-1]) + np.repeat(np.arange(len(lengths)), lengths)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

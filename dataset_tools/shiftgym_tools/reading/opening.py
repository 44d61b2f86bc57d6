"""Find and open datasets of any known layout; shapes are checked before a row is read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from shiftgym.datasets.store import minari_root
from shiftgym.errors import ShiftgymError
from shiftgym_tools.reading.hdf5_reading import (
    MOST_EXPANSION,
    SMALL,
    check_regular,
    child,
    explained,
    names_in,
    numbers,
    open_hdf5,
)
from shiftgym_tools.reading.layouts import LAYOUTS, MINARI, NEEDED, FlatSource, MinariSource, Source

EPISODE = ("observations", "actions", "rewards", "terminations", "truncations")
MINARI_ID = re.compile(r"([-_\w]+/)*[-_\w]+-v\d+")


@contextmanager
def open_source(text: str | Path) -> Iterator[Source]:
    """Open a dataset of any known layout.

    Args:
        text: an HDF5 file, a Minari folder, or the id of a set in the local Minari root.

    Raises:
        ShiftgymError: nothing there, or nothing that can be read; the message says what it is.
    """
    path, label, metadata = locate(text)
    with open_hdf5(path) as file:
        size = check_regular(path)
        with explained(label):
            if metadata or isinstance(child(file, "episode_0", label), h5py.Group):
                source = _minari(file, label, path, size, metadata)
            else:
                source = _flat(file, label, path, size)
        yield source


def locate(text: str | Path) -> tuple[Path, str, dict[str, Any]]:
    """Find a dataset's HDF5 file.

    Returns:
        The file, a name for messages, and the metadata of a Minari set (empty for other files).

    Raises:
        ShiftgymError: nothing is there.
    """
    text = str(text)
    path = Path(text)
    if not _there(path) and MINARI_ID.fullmatch(text):
        path = minari_root() / text
        if not _there(path):
            raise ShiftgymError(
                f"No file {text}, and no set of that id in {minari_root()}. "
                f"Fetch it first: minari download {text}"
            )
    if not _there(path):
        raise ShiftgymError(f"Nothing is at {path}: give an HDF5 file, a Minari folder or its id.")
    if not path.is_dir():
        folder = path.parent
        if path.name != "main_data.hdf5" or not (folder / "metadata.json").is_file():
            return path, path.name, {}
        metadata = _metadata(folder / "metadata.json")
        return path, str(metadata.get("dataset_id") or folder.parent.name), metadata
    folder = path / "data" if (path / "data").is_dir() else path
    file = folder / "main_data.hdf5"
    if (folder / "metadata.json").is_file():
        metadata = _metadata(folder / "metadata.json")
        kind = metadata.get("data_format", "hdf5")
        if kind != "hdf5":
            raise ShiftgymError(f"{path} is a Minari set stored as {kind}; HDF5 is read here.")
        return file, str(metadata.get("dataset_id") or path.name), metadata
    if file.is_file():
        return file, path.name, {}
    raise ShiftgymError(f"{path} is a folder without a Minari dataset (data/main_data.hdf5).")


def _there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, or with a null character
        return False


def _metadata(path: Path) -> dict[str, Any]:
    """Read a Minari set's metadata, which must be a JSON object of a sane size."""
    if check_regular(path) > 4 * SMALL:
        raise ShiftgymError(f"{path} is larger than any metadata.")
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ShiftgymError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(found, dict):
        raise ShiftgymError(f"{path} must hold a JSON object, got {type(found).__name__}.")
    return found or {"dataset_id": path.parent.parent.name}


def _flat(file: h5py.File, label: str, path: Path, size: int) -> FlatSource:
    arrays = {}
    for name in (*NEEDED, "next_observations", "timeouts"):
        if (found := numbers(file, name, label, size)) is not None:
            arrays[name] = found
    if missing := [name for name in NEEDED if name not in arrays]:
        raise ShiftgymError(
            f"{label}: no array {', '.join(missing)}; the file holds {names_in(file)}."
        )
    rows = arrays["observations"].shape[0] if arrays["observations"].ndim else 0
    for name, found in arrays.items():
        wide = "observations" in name or name == "actions"
        if wide and found.ndim != 2:
            raise ShiftgymError(f"{label}: {name} must have two axes, got {found.shape}.")
        if not wide and found.shape not in ((rows,), (rows, 1)) or not rows:
            raise ShiftgymError(
                f"{label}: every array must have the same N > 0 rows, got {name} {found.shape} "
                f"and observations {arrays['observations'].shape}."
            )
        if wide and (found.shape[0] != rows or not found.shape[1]):
            raise ShiftgymError(f"{label}: {name} have shape {found.shape}, of {rows} rows.")
    state = arrays["observations"].shape
    if "next_observations" in arrays and arrays["next_observations"].shape != state:
        raise ShiftgymError(
            f"{label}: observations {state} and next_observations "
            f"{arrays['next_observations'].shape} differ in shape."
        )
    has = frozenset(arrays) - frozenset(NEEDED)
    layout = next(layout for layout in LAYOUTS if layout.has == has)
    widths = (state[1], arrays["actions"].shape[1])
    return FlatSource(label, layout, rows, widths, path, arrays=arrays)


def _minari(
    file: h5py.File, label: str, path: Path, size: int, metadata: dict[str, Any]
) -> MinariSource:
    """Index a Minari file: every episode's arrays and shapes are checked before any is read."""
    count = len(file)
    lengths: list[int] = []
    widths: tuple[int, int] | None = None
    total = 0
    for k in range(count):
        group = child(file, f"episode_{k}", label)
        if not isinstance(group, h5py.Group):
            raise ShiftgymError(f"{label}: no group episode_{k}; the file holds {names_in(file)}.")
        shapes = []
        for name in EPISODE:
            found = numbers(group, name, f"{label}: episode_{k}", size)
            if found is None:
                raise ShiftgymError(f"{label}: episode_{k} has no array {name}.")
            total += found.id.get_storage_size()
            shapes.append(found.shape)
        steps = shapes[2][0] if len(shapes[2]) in (1, 2) else 0
        flags = ((steps,), (steps, 1))
        if widths is None and len(shapes[0]) == len(shapes[1]) == 2:
            widths = (shapes[0][1], shapes[1][1])
        wide = widths is not None and shapes[:2] == [(steps + 1, widths[0]), (steps, widths[1])]
        if not steps or not wide or not min(widths or (0,)) or {*shapes[2:]} - {*flags}:
            raise ShiftgymError(
                f"{label}: episode_{k} needs T + 1 observations and T > 0 of "
                f"{', '.join(EPISODE[1:])}, got shapes {shapes}."
            )
        lengths.append(steps)
    if widths is None:
        raise ShiftgymError(f"{label} holds no episodes.")
    rows = sum(lengths)
    if 4 * rows * sum(widths) > MOST_EXPANSION * size + SMALL:
        raise ShiftgymError(f"{label} claims {rows} rows, more than its {size:,} bytes can hold.")
    bounds = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    return MinariSource(label, MINARI, rows, widths, path, metadata, file=file, bounds=bounds)

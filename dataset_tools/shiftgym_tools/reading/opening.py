"""Find and open datasets of any known layout; shapes are checked before a row is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from shiftgym.basics.errors import ShiftgymError
from shiftgym.reading.hdf5_reading import (
    MOST_EXPANSION,
    SMALL,
    check_regular,
    child,
    explained,
    names_in,
    numbers,
    open_hdf5,
)
from shiftgym.reading.locating import locate
from shiftgym_tools.reading.layouts import LAYOUTS, MINARI, NEEDED, FlatSource, MinariSource, Source

EPISODE = ("observations", "actions", "rewards", "terminations", "truncations")


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

"""The flat cache of a large set: its arrays as they are in memory, in one safetensors file.

It lies beside the set under a hidden name and belongs to one state of the data file: that file's
size and times are in its header, and it is made anew when they differ. Every array carries a
checksum (the wrapping sum of its 8-byte words), so that a damaged cache is made anew as well.
"""

from __future__ import annotations

import json
import os
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np

from shiftgym.datasets.flat import DTYPES, FIELDS, Flat
from shiftgym.datasets.locks import lock_at, lock_left, release
from shiftgym.plain_files import open_plain

FROM_ROWS = 100_000
SUFFIX = ".flat.safetensors"
PART = ".flat.part"
BLOCK = 1 << 20
NAMES = {np.dtype(np.float32): "F32", np.dtype(np.bool_): "BOOL"}
LONGEST_HEADER = 1 << 16


def cache_path(folder: Path) -> Path:
    """Give the cache's place for a dataset's folder."""
    return folder.with_name(f".{folder.name}{SUFFIX}")


def part_path(folder: Path) -> Path:
    """Give the place to write a cache at, which its writer holds locked."""
    return folder.with_name(f".{folder.name}{PART}")


def key_of(file: Path) -> str:
    """Give what changes whenever a data file does: its size and the times of its last change."""
    try:
        found = file.stat()
    except OSError:
        return ""
    return f"{found.st_size}-{found.st_mtime_ns}-{found.st_ctime_ns}"


class CacheWriter:
    """Write a cache row after row, beside the set it is for.

    A cache is a convenience: where it cannot be written, a warning says so and the set goes on
    without.
    """

    def __init__(self, path: Path, rows: int, widths: tuple[int, int]):
        self._path, self._row = path, 0
        self._shapes = _shapes(rows, widths)
        body = len(_header("", self._shapes))
        self._starts = {field: body + at for field, at in _offsets(self._shapes).items()}
        self._file = None
        try:
            descriptor = lock_at(path, wait=False)
            if descriptor is not None:  # otherwise another process is writing the same
                os.ftruncate(descriptor, 0)
                self._file = os.fdopen(descriptor, "wb+", buffering=0)
        except OSError as error:
            self._give_up(error)

    def add(self, flat: Flat) -> None:
        """Write the next rows."""
        try:
            for field, start in self._starts.items():
                if self._file is None:
                    return
                array = np.ascontiguousarray(flat[field])
                self._file.seek(start + self._row * (array.nbytes // len(array)))
                _write_all(self._file, array.data.cast("B"))
            self._row += len(flat["rewards"])
        except OSError as error:
            self._give_up(error)

    def finish(self, target: Path, data: Path) -> None:
        """Complete the cache of a data file, and put it into place."""
        if self._file is None:
            return
        try:
            sums = {}
            self._file.seek(self._starts[FIELDS[0]])
            for field in FIELDS:
                sums[field] = _sum_file(self._file, self._shapes[field], DTYPES[field])
            self._file.seek(0)
            _write_all(self._file, memoryview(_header(key_of(data), self._shapes, sums)))
            os.replace(self._path, target)
            self._file.close()
        except OSError as error:
            self._give_up(error)

    def abandon(self) -> None:
        """Remove what was written, if it was not finished."""
        if self._file is not None:
            self._file.close()
            self._file = None
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _give_up(self, error: OSError) -> None:
        self.abandon()
        warnings.warn(f"No cache, so loading stays slow: {error}", stacklevel=4)


def _shapes(rows: int, widths: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    wide = {"observations": widths[0], "actions": widths[1], "next_observations": widths[0]}
    return {field: (rows, wide[field]) if field in wide else (rows,) for field in FIELDS}


def _bytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    return int(np.prod(shape)) * dtype.itemsize


def _offsets(shapes: dict[str, tuple[int, ...]]) -> dict[str, int]:
    found, end = {}, 0
    for field in FIELDS:
        found[field] = end
        end += _bytes(shapes[field], DTYPES[field])
    return found


def _header(
    key: str, shapes: dict[str, tuple[int, ...]], sums: dict[str, int] | None = None
) -> bytes:
    """Give the header; its length depends on the shapes alone."""
    header = {}
    for field, start in _offsets(shapes).items():
        end = start + _bytes(shapes[field], DTYPES[field])
        kind, shape = NAMES[DTYPES[field]], list(shapes[field])
        header[field] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
    told = {field: f"{(sums or {}).get(field, 0):016x}" for field in FIELDS}
    text = json.dumps({"__metadata__": {"key": f"{key:<80}"} | told} | header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _write_all(file, view: memoryview) -> None:
    while view:
        view = view[file.write(view) :]


def _sum_bytes(raw: np.ndarray) -> int:
    whole = len(raw) // 8 * 8
    words = int(raw[:whole].view(np.uint64).sum(dtype=np.uint64))
    return words + int.from_bytes(raw[whole:].tobytes(), "little")


def _sum_file(file, shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Sum an array that lies in a file, from where the file stands."""
    left, total = _bytes(shape, dtype), 0
    while left:
        part = np.empty(min(BLOCK, left), np.uint8)
        total += _fill(file, part)
        left -= len(part)
    return total % 2**64


def _fill(file, raw: np.ndarray) -> int:
    """Read bytes into an array and sum them while they are in the processor's cache."""
    total = 0
    for start in range(0, len(raw), BLOCK):
        part = raw[start : start + BLOCK]
        view = part.data
        while view:
            got = file.readinto(view)
            if not got:
                raise OSError("it ends too early")
            view = view[got:]
        total += _sum_bytes(part)
    return total % 2**64


def read(folder: Path, data: Path, rows: int, widths: tuple[int, int]) -> Flat | None:
    """Read the cache of a set.

    Returns:
        Flat arrays, or None where there is no cache of this very data file that is whole.
    """
    shapes = _shapes(rows, widths)
    try:
        with open_plain(cache_path(folder)) as file:
            length = int.from_bytes(file.read(8), "little")
            if length > LONGEST_HEADER:
                return None
            raw = file.read(length)
            told = json.loads(raw)["__metadata__"]
            sums = {field: int(told[field], 16) for field in FIELDS}
            if length.to_bytes(8, "little") + raw != _header(key_of(data), shapes, sums):
                return None  # of another data file, or of other shapes
            body = sum(_bytes(shapes[field], DTYPES[field]) for field in FIELDS)
            if os.fstat(file.fileno()).st_size != 8 + length + body:
                return None
            flat = {}
            for field in FIELDS:
                flat[field] = np.empty(shapes[field], DTYPES[field])
                if _fill(file, flat[field].reshape(-1).view(np.uint8)) != sums[field]:
                    return None
            return flat
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def clean(parent: Path) -> None:
    """Remove the caches of sets that are gone, and unfinished ones."""
    for left in (*parent.glob(f".*{SUFFIX}"), *parent.glob(f".*{PART}")):
        with suppress(OSError):
            if left.name.endswith(PART):
                descriptor = lock_left(left)
                if descriptor is not None:
                    release(descriptor, left)
            elif not (parent / left.name[1 : -len(SUFFIX)]).exists():
                left.unlink()

"""Episodes in Minari's HDF5 layout, written and read in bulk.

    episode_0/  observations (T + 1, O)  actions (T, A)  rewards, terminations, truncations (T,)
                attributes: id, total_steps, seed
    episode_1/  ...

Every array is one contiguous, uncompressed block. HDF5's low-level calls are used because a set may
hold tens of thousands of short episodes. Links, external storage and virtual datasets, which would
make HDF5 open other files, are refused, and so are arrays larger than the file could hold.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from h5py import h5a, h5d, h5f, h5fd, h5g, h5l, h5p, h5s, h5t  # pyright: ignore

from shiftgym.datasets.flat import Flat
from shiftgym.errors import ShiftgymError
from shiftgym.plain_files import require_plain

MOST_EXPANSION = 64  # bytes of arrays per byte of file; float data compress to a third at best
SMALL = 1 << 20
FLOAT, FLAG = np.dtype("<f4"), np.dtype(np.bool_)
TYPES = {FLOAT: h5t.IEEE_F32LE, FLAG: h5t.py_create(FLAG, logical=True)}
COUNT = h5t.STD_I64LE
PARTS = {  # in the order of REST, after the observations
    b"observations": FLOAT,
    b"actions": FLOAT,
    b"rewards": FLOAT,
    b"terminations": FLAG,
    b"truncations": FLAG,
}
REST = ("actions", "rewards", "terminated", "truncated")
METADATA_BLOCK = 1 << 16  # bytes of HDF5's own bookkeeping put together


class _Disk:
    """Be the file that HDF5 writes to, and keep a full disk from it: HDF5 would crash.

    Attributes:
        error: what writing failed with first; nothing is written any more then.
    """

    def __init__(self, path: Path):
        self.error: OSError | None = None
        self._file = open(path, "xb+", buffering=0)  # noqa: SIM115 -- closed by close

    def write(self, content: memoryview) -> int:
        try:
            left = memoryview(content)
            while left and self.error is None:
                left = left[self._file.write(left) :]
        except OSError as error:
            self.error = error
        return len(content)

    def readinto(self, buffer: memoryview) -> int:
        return self._file.readinto(buffer)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def truncate(self, size: int) -> int:
        return self._file.truncate(size)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self._file.close()


class EpisodeWriter:
    """Write episodes one after another into a new file; use it as a context manager.

    Raises:
        OSError: the disk is full, or writing fails otherwise; from any of its methods.
    """

    def __init__(self, path: Path):
        self._disk = _Disk(path)
        access = h5p.create(h5p.FILE_ACCESS)
        access.set_fileobj_driver(h5fd.fileobj_driver, self._disk)
        access.set_libver_bounds(h5f.LIBVER_V110, h5f.LIBVER_V110)
        access.set_fclose_degree(h5f.CLOSE_STRONG)
        access.set_meta_block_size(METADATA_BLOCK)
        self._layout = h5p.create(h5p.DATASET_CREATE)
        self._layout.set_layout(h5d.CONTIGUOUS)
        self._layout.set_obj_track_times(False)
        self._layout.set_fill_time(h5d.FILL_TIME_NEVER)
        self._group = h5p.create(h5p.GROUP_CREATE)
        self._group.set_obj_track_times(False)
        plan = h5p.create(h5p.FILE_CREATE)
        plan.set_obj_track_times(False)
        self._scalar = h5s.create(h5s.SCALAR)
        self._file = h5f.create(bytes(path), h5f.ACC_TRUNC, plan, access)
        self.episodes = 0
        self.rows = 0

    def write(self, episode: Flat, seed: int | None = None) -> None:
        """Append one whole episode of T rows."""
        group = h5g.create(self._file, b"episode_%d" % self.episodes, gcpl=self._group)
        last = episode["next_observations"][-1:]
        states = np.concatenate((episode["observations"], last))
        arrays = (states, *(episode[field] for field in REST))
        for (name, dtype), array in zip(PARTS.items(), arrays, strict=True):
            space = h5s.create_simple(array.shape)
            block = h5d.create(group, name, TYPES[dtype], space, self._layout)
            block.write(h5s.ALL, h5s.ALL, np.ascontiguousarray(array))
        rows = len(episode["rewards"])
        facts = [(b"id", self.episodes), (b"total_steps", rows)]
        for name, value in [*facts, *([(b"seed", seed)] if seed is not None else [])]:
            h5a.create(group, name, COUNT, self._scalar).write(np.array(value, np.int64))
        self.episodes += 1
        self.rows += rows
        if self._disk.error is not None:
            raise self._disk.error

    def __enter__(self) -> EpisodeWriter:
        """Give the writer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Flush and close the file."""
        self._file.close()
        self._disk.close()
        if self._disk.error is not None:
            raise self._disk.error


def read_episodes(path: Path, rows: int, widths: tuple[int, int]) -> Flat:
    """Read a Minari HDF5 file of flat arrays in bulk.

    Args:
        path: the file.
        rows: number of transitions it must hold.
        widths: numbers per observation and per action.

    Returns:
        Flat arrays of exactly these shapes; their values are for the caller to check.

    Raises:
        ShiftgymError: not HDF5, damaged, not Minari's layout, other shapes, or too large to be
            true.
    """
    try:
        require_plain(path)
        needed = rows * (4 * (widths[0] + widths[1] + 1) + 2)
        if rows < 1 or needed > MOST_EXPANSION * path.stat().st_size + SMALL:
            raise ShiftgymError(f"{path} cannot hold the {rows:,} transitions it claims.")
        file = h5f.open(bytes(path), h5f.ACC_RDONLY)
        try:
            raw = np.memmap(path, np.uint8, "r")
            return _read(file, raw, rows, widths, path)
        finally:
            file.close()
    except ShiftgymError:
        raise
    except (OSError, KeyError, RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise ShiftgymError(f"{path} is damaged, or no Minari file: {error}") from None


def _read(
    file: h5f.FileID, raw: np.ndarray, rows: int, widths: tuple[int, int], path: Path
) -> Flat:
    flat = {
        "observations": np.empty((rows, widths[0]), np.float32),
        "actions": np.empty((rows, widths[1]), np.float32),
        "rewards": np.empty(rows, np.float32),
        "next_observations": np.empty((rows, widths[0]), np.float32),
        "terminated": np.zeros(rows, np.bool_),
        "truncated": np.zeros(rows, np.bool_),
    }
    row, root = 0, h5g.open(file, b"/")
    count = root.get_num_objs()
    for k in range(count):
        name = b"episode_%d" % k
        if not _is_here(root, name):
            raise ShiftgymError(f"{path} lacks episode_{k} of {count}.")
        episode = h5g.open(root, name)
        states, *parts = (_block(episode, part, raw, path) for part in PARTS)
        steps = len(parts[1]) if parts[1].ndim else 0
        if not 0 < steps <= rows - row:
            raise ShiftgymError(f"{path} does not hold {rows:,} transitions in whole episodes.")
        for field, part in [
            ("observations", states[:-1]),
            ("next_observations", states[1:]),
        ] + list(zip(REST, parts, strict=True)):
            if part.shape != (steps, *flat[field].shape[1:]):
                raise ShiftgymError(f"{path}: {field} of episode_{k} are {part.shape}.")
            flat[field][row : row + steps] = part
        row += steps
    if row != rows:
        raise ShiftgymError(f"{path} holds {row:,} transitions, not {rows:,}.")
    for name in ("terminated", "truncated"):
        if flat[name].view(np.uint8).max() > 1:
            raise ShiftgymError(f"{path}: {name} are not true or false.")
    return flat


def _is_here(group: h5g.GroupID, name: bytes) -> bool:
    """Say whether a group has a member that is no link to elsewhere."""
    return group.links.exists(name) and group.links.get_info(name).type == h5l.TYPE_HARD


def _block(episode: h5g.GroupID, name: bytes, raw: np.ndarray, path: Path) -> np.ndarray:
    """View one array of an episode, which must be a plain block of this very file."""
    if not _is_here(episode, name):
        raise ShiftgymError(f"{path}: an episode lacks {name.decode()}.")
    block = h5d.open(episode, name)
    dtype, offset = PARTS[name], block.get_offset()
    if offset is None or not block.get_type().equal(TYPES[dtype]):
        raise ShiftgymError(f"{path}: {name.decode()} are no plain block of {dtype.name}.")
    size = math.prod(block.shape) * dtype.itemsize
    if offset + size > len(raw):
        raise ShiftgymError(f"{path} is cut short.")
    return raw[offset : offset + size].view(dtype).reshape(block.shape)

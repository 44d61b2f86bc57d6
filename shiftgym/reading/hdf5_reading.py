"""Open HDF5 files that others made: numbers are read, and nothing else can happen.

HDF5 can make a reader open other files (external and soft links, external storage, virtual
datasets), run filters from plug-ins, build Python objects, or allocate more memory than there is.
Only whole, hard-linked arrays of numbers inside the file itself, no larger than the file could
hold, are given out; everything else is a :class:`ShiftgymError` that names the file.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

import h5py
from h5py import h5d, h5g, h5l  # pyright: ignore

from shiftgym.basics.errors import ShiftgymError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
OTHERS = {  # how files begin that are given another name by mistake
    b"PK\x03\x04": "a zip archive (or .npz); unpack it first",
    b"\x1f\x8b": "a gzip archive; unpack it first",
    b"\x93NUMPY": "a NumPy array",
    b"\x80": "a pickle, which is not opened because it could run code",
    b"<": "a web page, so the download failed",
    b"version https://git-lfs": "a Git LFS pointer; fetch the file itself",
}
FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}  # these ship with h5py
MOST_EXPANSION = 64  # bytes of arrays per byte of file; float data compress to a third at best
SMALL = 1 << 20
LARGEST_CHUNK = 1 << 29  # bytes that reading one row may have to decompress
TROUBLE = (
    OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError, MemoryError,
    AttributeError, IndexError,
)  # what h5py raises on damaged files  # fmt: skip


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn whatever h5py raises into a ShiftgymError that begins with a file's name."""
    try:
        yield
    except ShiftgymError:
        raise
    except TROUBLE as error:
        text = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise ShiftgymError(
            f"{name} cannot be read as HDF5 (truncated, or not HDF5): {text}. Fetch it again."
        ) from None


def check_regular(path: Path) -> int:
    """Check that a path is a regular file, so that reading it ends.

    Returns:
        Its size in bytes.

    Raises:
        ShiftgymError: nothing there, or a folder, pipe, socket or device.
    """
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ShiftgymError(f"{path} cannot be opened: {reason}.") from None
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe, socket or device"
        raise ShiftgymError(f"{path} is {kind}, not a file.")
    return found.st_size


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    Raises:
        ShiftgymError: not a regular file, not HDF5 (and what it is instead, where that shows),
            or damaged.
    """
    size = check_regular(path)
    with explained(path.name):
        with open(path, "rb") as file:
            head = file.read(32)
        if not head.startswith(SIGNATURE):
            what = "empty" if not size else next(
                (what for start, what in OTHERS.items() if head.startswith(start)), "something else"
            )  # fmt: skip
            raise ShiftgymError(f"{path.name} cannot be read as HDF5: it is {what}.")
        file = h5py.File(path, "r", rdcc_nbytes=1 << 25)
    try:
        yield file
    finally:
        file.close()


def child(group: h5py.Group, key: str, label: str) -> Any:
    """Give what a group holds under a key, without ever following a link elsewhere.

    Args:
        group: an open group.
        key: one name, no path.
        label: the file's name, for messages.

    Returns:
        An h5py object, or None where there is nothing.

    Raises:
        ShiftgymError: a soft or external link.
    """
    opened = h5g.open(group.id, b".")
    if not opened.links.exists(key.encode()):
        return None
    kind = opened.links.get_info(key.encode()).type
    if kind != h5l.TYPE_HARD:
        raise ShiftgymError(
            f"{label}: {key} is a link to somewhere else (soft or external), not an array of this "
            "file. Copy the data into one file, for instance with h5repack."
        )
    return group[key]


def numbers(group: h5py.Group, key: str, label: str, size: int) -> h5py.Dataset | None:
    """Give an array of numbers, checked before anything of it is read.

    Args:
        group: an open group.
        key: the array's name in it.
        label: the file's name, for messages.
        size: the file's size in bytes, which bounds what it can hold.

    Returns:
        The dataset, not yet read, or None where the group has none of that name.

    Raises:
        ShiftgymError: not an array; not numbers; stored in another file; filters that h5py does
            not bring; more than the file can hold.
    """
    found = child(group, key, label)
    if found is None:
        return None
    if not isinstance(found, h5py.Dataset):
        raise ShiftgymError(f"{label}: {key} must be an array, got a {type(found).__name__}.")
    shape, kind = found.shape, found.dtype
    if shape is None or kind.kind not in "fiub" or kind.hasobject:
        what = "nothing" if shape is None else kind
        raise ShiftgymError(f"{label}: {key} must be numbers, got {what}.")
    made = found.id.get_create_plist()
    layout = made.get_layout()
    if layout == h5d.VIRTUAL or made.get_external_count():
        raise ShiftgymError(f"{label}: {key} is stored in other files, which are not opened.")
    used = [made.get_filter(k)[0] for k in range(made.get_nfilters())]
    if unknown := [number for number in used if number not in FILTERS]:
        raise ShiftgymError(
            f"{label}: {key} is packed with HDF5 filter {unknown[0]}; repack it with gzip "
            "(h5repack -f GZIP=4)."
        )
    total = prod(shape) * kind.itemsize
    chunk = prod(made.get_chunk()) * kind.itemsize if layout == h5d.CHUNKED else 0
    wide = len(shape) != 1 and shape[1:] != (1,)  # flags compress a thousandfold; rows bind
    allowed = (MOST_EXPANSION if wide else 16 * MOST_EXPANSION) * size + SMALL
    if total > allowed or chunk > min(LARGEST_CHUNK, max(16 * SMALL, total)):
        raise ShiftgymError(
            f"{label}: {key} claims shape {shape}, more than a file of {size:,} bytes holds."
        )
    return found


def names_in(group: h5py.Group, most: int = 12) -> str:
    """List a group's first names for a message."""
    names = list(islice(group, most + 1))
    shown = ", ".join(sorted(names[:most])) or "nothing"
    return shown + (", ..." if len(names) > most else "")

"""Open plain files only: a pipe would be waited for, and a device may never end.

What is to be written asks first whether its folder is there, before work is spent on it.
"""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

from shiftgym.basics.errors import ShiftgymError

KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}
READING = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def require_plain(path: str | Path) -> None:
    """Check that a path leads to a plain file, before a library opens it.

    Raises:
        OSError: nothing is there.
        ShiftgymError: a pipe, device, socket or folder is.
    """
    _refuse_others(path, os.stat(path).st_mode)


def open_plain(path: str | Path) -> io.FileIO:
    """Open a plain file to read its bytes, unbuffered, without waiting for anything.

    Raises:
        OSError: it cannot be opened.
        ShiftgymError: it is a pipe, device, socket or folder.
    """
    descriptor = os.open(path, READING)
    try:
        _refuse_others(path, os.fstat(descriptor).st_mode)
        return io.FileIO(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def require_folder(path: Path) -> Path:
    """Give back where a file is to be written, if there is a folder to hold it.

    Raises:
        ShiftgymError: there is none.
    """
    if not path.parent.is_dir():
        raise ShiftgymError(f"There is no folder {path.parent}; make it first.")
    return path


def read_plain(path: str | Path, largest: int) -> bytes:
    """Read a plain file of at most `largest` bytes.

    Raises:
        OSError: it cannot be read.
        ShiftgymError: it is no plain file, or larger.
    """
    with open_plain(path) as file:
        parts, left = [], largest + 1
        while left > 0 and (part := file.read(left)):
            parts.append(part)
            left -= len(part)
    if left <= 0:
        raise ShiftgymError(f"{path} is larger than {largest:,} bytes, which no such file is.")
    return b"".join(parts)


def _refuse_others(path: str | Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = KINDS.get(stat.S_IFMT(mode), "something else")
        raise ShiftgymError(f"{path} is {kind}, not a plain file.")

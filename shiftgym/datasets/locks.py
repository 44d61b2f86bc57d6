"""One at a time: locks that say who holds them, and that die with their holder.

A lock is a file that somebody holds locked; it is removed by its holder, or by whoever finds that
a killed one left it. A link or a device in its place is refused, never followed.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shiftgym.errors import ShiftgymError
from shiftgym.plain_files import read_plain

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

OPENING = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
GRACE = 1.0  # seconds in which a lock may just be passing through other hands
PAUSE = 0.05  # seconds between tries
LONGEST_NOTE = 1000  # bytes that a holder says about itself


def try_lock(path: Path, wait: bool, create: bool = True) -> int | None:
    """Lock a file, making it if need be; the lock dies with the process.

    Args:
        path: the file.
        wait: wait for another holder.
        create: make the file where there is none.

    Returns:
        A descriptor that holds the lock until closed, or None if `wait` is False and another
        process holds it.

    Raises:
        OSError: the file cannot be opened, or is a link or a device.
    """
    try:
        descriptor = os.open(path, OPENING | (os.O_CREAT if create else 0), 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a symbolic link, which is not followed") from None
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no plain file")
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        os.close(descriptor)
        if not wait and error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            return None
        raise
    return descriptor


def lock_at(path: Path, wait: bool) -> int | None:
    """Lock the file that a path leads to, also when its holder takes the file away just then.

    Returns:
        As :func:`try_lock`.
    """
    while True:
        descriptor = try_lock(path, wait)
        if descriptor is None or _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)


def lock_left(path: Path) -> int | None:
    """Lock a file that is there, if nobody else does.

    Returns:
        A descriptor that holds the lock until closed; None where it is held, or gone.
    """
    try:
        descriptor = try_lock(path, wait=False, create=False)
    except OSError:
        return None
    if descriptor is not None and not _is_at(descriptor, path):
        os.close(descriptor)
        return None
    return descriptor


def release(descriptor: int, path: Path) -> None:
    """Remove a locked file, and give up its lock."""
    with suppress(OSError):
        path.unlink()
    os.close(descriptor)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file's lock, and remove the file afterwards; others wait."""
    descriptor = lock_at(path, wait=True)
    assert descriptor is not None
    try:
        yield
    finally:
        release(descriptor, path)


def acquire(path: Path, what: str, wait: bool, advice: str = "") -> int:
    """Lock a file and note in it who holds it.

    Args:
        path: the lock file.
        what: what is about to be done, for messages.
        wait: wait for another holder, and say so, instead of raising.
        advice: what to do about another holder.

    Returns:
        The descriptor to :func:`release`.

    Raises:
        ShiftgymError: another process holds it; the message says which, and since when.
        OSError: the file cannot be made or locked.
    """
    started, told = time.monotonic(), False
    while (descriptor := lock_at(path, wait=False)) is None:
        if time.monotonic() - started > GRACE:
            if not wait:
                raise ShiftgymError(f"{what}: {holder(path)} is at it already. {advice}".rstrip())
            if not told:
                print(f"{what}: waiting for {holder(path)}.", flush=True)
            told = True
        time.sleep(PAUSE)
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        os.ftruncate(descriptor, 0)
        note = f"process {os.getpid()} on {socket.gethostname()}, since {since},"
        os.write(descriptor, note.encode())
    except BaseException:
        release(descriptor, path)
        raise
    return descriptor


def holder(path: Path) -> str:
    """Give what the holder of a lock noted about itself."""
    with suppress(OSError, ValueError):
        return read_plain(path, LONGEST_NOTE).decode().strip() or "another process"
    return "another process"


def _is_at(descriptor: int, path: Path) -> bool:
    """Say whether a path still leads to an open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False

"""Put folders and files into place whole or not at all, also when killed, full or raced.

    <parent>/.medium-v0.new-x7f3/     being written, locked by its writer; Minari skips hidden names
    <parent>/.medium-v0.old/          what is being replaced, for the moment between two renames
    <parent>/medium-v0/               complete, always
    <root>/.shiftgym.lock             there for the moments of starting, renaming and cleaning

A writer that dies leaves a ``.new-`` folder without a lock; the next writer beside it removes it,
and puts an ``.old`` back whose successor never came.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shiftgym.errors import ShiftgymError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

FULL = (errno.ENOSPC, errno.EDQUOT if hasattr(errno, "EDQUOT") else errno.ENOSPC)
DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
DATASETS = "set MINARI_DATASETS_PATH to a folder"  # where else datasets may be written
OLD, NEW, ALIVE = ".old", ".new-", ".alive"


def try_lock(path: Path, wait: bool) -> int | None:
    """Lock a file, making it if need be; the lock dies with the process.

    Returns:
        A descriptor that holds the lock until closed, or None if `wait` is False and another
        process holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
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


def _is_at(descriptor: int, path: Path) -> bool:
    """Say whether a path still leads to an open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


@contextmanager
def new_folder(final: Path, replace: bool = False, lock: Path | None = None) -> Iterator[Path]:
    """Give a folder to fill; when the block ends well, it becomes `final`.

    Args:
        final: where the folder is to be.
        replace: take the place of a folder that is there.
        lock: the lock file; ``.lock`` beside the folder by default.

    Raises:
        ShiftgymError: something is there already, the disk is full, or writing is not allowed;
            what was there is kept, and nothing half-made remains.
    """
    temporary, lock = None, lock or final.parent / ".lock"
    with explained(final):
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            with locked(lock):
                _clean(final.parent)
                _refuse_existing(final, replace)
                prefix = f".{final.name}{NEW}"
                temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=final.parent))
                alive = try_lock(temporary / ALIVE, wait=True)
            try:
                yield temporary
                (temporary / ALIVE).unlink()
                temporary.chmod(0o777 & ~_umask())
                _sync(temporary)
                with locked(lock):
                    _refuse_existing(final, replace)
                    _swap(temporary, final)
            finally:
                assert alive is not None
                os.close(alive)
        finally:
            if temporary is not None and temporary.exists():
                shutil.rmtree(temporary, ignore_errors=True)


def write_file(path: Path, content: bytes) -> None:
    """Write a file to a temporary name, sync it, and rename it into place."""
    with explained(path):
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}{NEW}", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o666 & ~_umask())
            os.replace(name, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise


@contextmanager
def explained(path: Path, instead: str = DATASETS) -> Iterator[None]:
    """Turn the errors of a full disk and of missing permission into words.

    Args:
        path: what is written.
        instead: how to have it written elsewhere; ``of your own`` or ``on another disk`` follows.
    """
    try:
        yield
    except OSError as error:
        text = str(error)
        if error.errno in FULL or "No space left" in text or "errno = 28" in text:
            raise ShiftgymError(
                f"The disk of {path} is full: nothing new was put there, and what was there is "
                f"kept. Make room, or {instead} on another disk."
            ) from error
        if error.errno in DENIED:
            raise ShiftgymError(
                f"No permission to write {path}. {instead[0].upper()}{instead[1:]} of your own."
            ) from error
        raise ShiftgymError(f"Cannot write {path}: {error}") from error


def require_room(path: Path, size: int) -> None:
    """Check that a folder's disk has room for `size` bytes before anything is written."""
    free = shutil.disk_usage(path).free
    if free < size:
        raise OSError(errno.ENOSPC, f"{size / 1e6:.0f} MB are needed and {free / 1e6:.0f} are free")


def _refuse_existing(final: Path, replace: bool) -> None:
    if final.exists() and not replace:
        raise ShiftgymError(f"{final} is there already; say replace to write it anew.")


def _swap(temporary: Path, final: Path) -> None:
    """Rename into place; what was there steps aside first and is removed last."""
    old = final.with_name(f".{final.name}{OLD}")
    if final.exists():
        final.rename(old)
    temporary.rename(final)
    _sync_folder(final.parent)
    if old.exists():
        shutil.rmtree(old, ignore_errors=True)


def _clean(parent: Path) -> None:
    """Remove what dead writers left, and put back what they took away; the lock is held."""
    for left in parent.glob(f".*{OLD}"):
        final = left.with_name(left.name[1 : -len(OLD)])
        if final.exists():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.rename(final)
    for left in parent.glob(f".*{NEW}*"):
        if not left.is_dir():
            continue
        alive = try_lock(left / ALIVE, wait=False)
        if alive is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(alive)


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb+") as file:
                os.fsync(file.fileno())
        else:
            _sync_folder(path)
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current

"""Put folders and files into place whole or not at all, also when killed, full or raced.

A folder has one writer at a time, which holds its lock; names are those of
:mod:`shiftgym.datasets.places`. What a killed writer leaves is removed by the next writer, and a
folder whose successor never came is put back.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from shiftgym.datasets.locks import acquire, lock_at, lock_left, release
from shiftgym.datasets.places import (
    FETCH,
    LOCK,
    NEW,
    OLD,
    beside,
    fresh,
    if_free,
    present,
    put_right,
    remove,
)
from shiftgym.errors import ShiftgymError

FULL = (errno.ENOSPC, errno.EDQUOT if hasattr(errno, "EDQUOT") else errno.ENOSPC)
DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
DATASETS = "set MINARI_DATASETS_PATH to a folder"  # where else datasets may be written


@dataclass(frozen=True)
class Owner:
    """Stand for the right to write one folder; only :func:`owned` gives it.

    Attributes:
        final: the folder.
    """

    final: Path


@contextmanager
def owned(
    final: Path, what: str | None = None, wait: bool = False, advice: str = ""
) -> Iterator[Owner]:
    """Be the one writer of a folder inside the block; what earlier ones left is put right first.

    Args:
        final: the folder, whether or not it is there.
        what: what is being done, for messages.
        wait: wait for another writer instead of raising.
        advice: what to do about another writer.

    Raises:
        ShiftgymError: another process is writing it (the message says which, and since when), or
            nothing can be written there.
    """
    lock = beside(final, LOCK)
    with explained(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        descriptor = acquire(lock, what or f"Writing {final}", wait, advice)
    try:
        with explained(final):
            spent = put_right(final)
        for left in spent:
            remove(left)
        yield Owner(final)
    finally:
        release(descriptor, lock)


@contextmanager
def new_folder(final: Path, replace: bool = False, owner: Owner | None = None) -> Iterator[Path]:
    """Give a folder to fill; when the block ends well, it becomes `final`.

    Args:
        final: where the folder is to be.
        replace: take the place of a folder that is there.
        owner: the right to write it, where the caller has it already.

    Raises:
        ShiftgymError: something is there already, another process is writing it, the disk is full,
            or writing is not allowed; what was there is kept, and nothing half-made remains.
    """
    assert owner is None or owner.final == final
    with nullcontext() if owner else owned(final), explained(final):
        refuse_existing(final, replace)
        prefix = f".{final.name}{NEW}"
        temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=final.parent))
        try:
            yield temporary
            temporary.chmod(0o777 & ~_umask())
            _sync(temporary)
            refuse_existing(final, replace)
            _swap(temporary, final)
        finally:
            if temporary.exists():
                shutil.rmtree(temporary, ignore_errors=True)


def refuse_existing(final: Path, replace: bool = False) -> None:
    """Check that nothing is in a folder's place, or that it may be replaced.

    Raises:
        ShiftgymError: it is there, and must not be replaced.
    """
    if not replace and present(final).exists():
        raise ShiftgymError(
            f"{final} is there already. --replace (replace=True in Python) writes it anew."
        )


def own_folder(path: Path) -> None:
    """Make a folder to work in, unless it is there; a link to another folder is refused.

    Raises:
        OSError: it cannot be made, or is a link.
    """
    path.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        raise OSError(errno.ELOOP, "it is a symbolic link, which is not followed")


def discard(path: Path, final: Path) -> None:
    """Remove a folder that served to write `final`, so that it is gone at once or left whole."""
    gone = fresh(final)
    path.rename(gone)
    remove(gone)


def write_file(path: Path, content: bytes) -> None:
    """Write a file to a temporary name, sync it, and rename it into place.

    The temporary file is locked while it is written, so that others know it is no leftover.
    """
    with explained(path):
        while (descriptor := lock_at(name := fresh(path), wait=False)) is None:
            pass  # somebody who cleans up was faster
        try:
            with os.fdopen(os.dup(descriptor), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if sys.platform == "win32":  # where an open file cannot be renamed
                os.close(descriptor)
                descriptor = None
            os.replace(name, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise
        finally:
            if descriptor is not None:
                os.close(descriptor)


def clean(parent: Path) -> None:
    """Remove what killed writers left in a folder; what somebody is writing is left alone."""
    for path in list(parent.glob(".*")):
        name = path.name[1:]
        if name.endswith(LOCK):
            final = name.removesuffix(LOCK)
        elif name.endswith(OLD):
            final = name.removesuffix(OLD)
        elif name.endswith(FETCH):
            final = name.removesuffix(FETCH)
        elif NEW in name:
            final = name.rpartition(NEW)[0]
        else:
            continue
        with suppress(OSError):
            if path.is_dir() or path.name.endswith(LOCK):
                _clean_after(parent / final)
            elif (descriptor := lock_left(path)) is not None:
                release(descriptor, path)


def _clean_after(final: Path) -> None:
    """Put right what a writer of a folder left, unless one is at it."""
    with if_free(final) as free:
        spent = put_right(final) if free else []
    for left in spent:  # no writer knows these names, so nobody has to wait for this
        remove(left)


@contextmanager
def explained(path: Path, instead: str = DATASETS) -> Iterator[None]:
    """Turn the errors of a full disk and of missing permission into words."""
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


def _swap(temporary: Path, final: Path) -> None:
    """Rename into place; what was there steps aside first and is removed last."""
    aside = beside(final, OLD)
    if final.exists():
        final.rename(aside)
    temporary.rename(final)
    _sync_folder(final.parent)
    if aside.exists():
        aside.rename(temporary)  # which the caller removes


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

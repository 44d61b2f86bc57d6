"""Where a folder is at any moment, while others write, replace and clean up beside it.

    <parent>/.medium-v0.lock          who is writing medium-v0; one at a time, others wait or leave
    <parent>/.medium-v0.new-x7f3/     being written; Minari skips hidden names
    <parent>/.medium-v0.old/          what is being replaced, for the moment between two renames
    <parent>/.medium-v0.fetch/        what of it has come from a remote; of no use when it is there
    <parent>/medium-v0/               complete, always

Readers take no lock: they ask :func:`present`, and read again with :func:`settled` where a folder
went while they read it.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from shiftgym.datasets.locks import lock_at, release
from shiftgym.errors import ShiftgymError

OLD, NEW, FETCH, LOCK = ".old", ".new-", ".fetch", ".lock"
LOOKS = 10  # times that a folder is read anew because another took its place

T = TypeVar("T")


def present(final: Path) -> Path:
    """Say where a folder is now: at its place, or aside while another takes its place.

    One that stands aside for a writer that is gone is put back, where that is allowed.
    """
    aside = beside(final, OLD)
    if final.exists() or not aside.exists():
        return final  # also if it was aside at the first look: its successor has come since
    with suppress(OSError), if_free(final) as free:
        if free:
            put_right(final)
            return final
    return aside


def settled(final: Path, read: Callable[[Path], T]) -> T:
    """Read a folder; where another took its place meanwhile, read that one.

    Args:
        final: the folder's place.
        read: given where the folder is, reads it.

    Raises:
        ShiftgymError: what `read` raises of a folder that stayed.
    """
    for _ in range(LOOKS):
        here = present(final)
        before = _identity(here)
        try:
            return read(here)
        except (OSError, ShiftgymError):
            now = present(final)
            if (now, _identity(now)) == (here, before):
                raise
    return read(present(final))


def _identity(folder: Path) -> tuple[int, ...] | None:
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns


@contextmanager
def if_free(final: Path) -> Iterator[bool]:
    """Be the one writer of a folder inside the block, or say that there is another.

    Raises:
        OSError: its lock cannot be made.
    """
    lock = beside(final, LOCK)
    descriptor = lock_at(lock, wait=False)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            release(descriptor, lock)


def names_in(parent: Path) -> set[str]:
    """List the folders of a folder by name, those included that stand aside for a moment."""
    names = {path.name for path in parent.iterdir() if path.is_dir()}
    aside = {name[1 : -len(OLD)] for name in names if name.startswith(".") and name.endswith(OLD)}
    return {name for name in names if not name.startswith(".")} | aside


def put_right(final: Path) -> list[Path]:
    """Put back a folder whose successor never came; the lock is held.

    Returns:
        What is to be removed.
    """
    aside = beside(final, OLD)
    if aside.exists():
        if final.exists():
            aside.rename(fresh(final))
        else:
            aside.rename(final)
    spent = [path for path in final.parent.glob(f".{final.name}{NEW}*") if path.is_dir()]
    fetched = beside(final, FETCH)
    return [*spent, fetched] if final.exists() and fetched.exists() else spent


def remove(path: Path) -> None:
    """Remove a folder as far as that is allowed, or a link to one."""
    with suppress(OSError):
        if path.is_symlink():
            path.unlink()
        else:
            shutil.rmtree(path, ignore_errors=True)


def fresh(path: Path) -> Path:
    """Give a name for something that is not yet, or no longer, at its place."""
    return beside(path, NEW + secrets.token_hex(4))


def beside(final: Path, ending: str) -> Path:
    """Give the hidden name beside a folder or file that has some part in its writing."""
    return final.with_name(f".{final.name}{ending}")

"""One at a time: a lock that says who holds it, and that dies with its holder."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shiftgym.datasets.folders import DATASETS, explained, lock_at, release
from shiftgym.errors import ShiftgymError

PAUSE = 0.3  # seconds between tries
KEPT = "Wait for it (--wait does), or stop it; what it has collected is kept."


@contextmanager
def held(
    path: Path, what: str, wait: bool = False, otherwise: str = KEPT, instead: str = DATASETS
) -> Iterator[None]:
    """Hold the lock of a file inside the block; the file tells others who does.

    Args:
        path: the lock file, made when needed and removed afterwards.
        what: what is being done, for the message.
        wait: wait for another holder instead of raising.
        otherwise: what the message says to do about another holder.
        instead: what the message says to do where the file cannot be written.

    Raises:
        ShiftgymError: another process holds it; the message says which, and since when.
    """
    descriptor, told = None, False
    while descriptor is None:
        with explained(path, instead):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = lock_at(path, wait=False)
        if descriptor is None:
            if not wait:
                raise ShiftgymError(f"{what}: {_holder(path)} is at it already. {otherwise}")
            if not told:
                print(f"{what}: waiting for {_holder(path)}.", flush=True)
            told = True
            time.sleep(PAUSE)
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        with explained(path, instead):
            os.truncate(path, 0)
            text = f"process {os.getpid()} on {socket.gethostname()}, since {since},"
            os.write(descriptor, text.encode())
        yield
    finally:
        release(descriptor, path)


def _holder(path: Path) -> str:
    with suppress(OSError):
        return path.read_text().strip() or "another process"
    return "another process"

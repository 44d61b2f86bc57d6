"""Say where what can be computed again is kept: solved transports, compiled kernels.

They lie in `$SHIFTGYM_CACHE/<kind>` where that is set, in `$XDG_CACHE_HOME/shiftgym/<kind>` where
that is an absolute path, else in `~/.cache/shiftgym/<kind>` (or the platform's folder for caches).
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from shiftgym.basics.errors import ShiftgymError


def cache_folder(kind: str) -> Path:
    """Give the absolute folder of one kind of cached things; it need not exist.

    An empty setting counts as none, and so does a relative XDG_CACHE_HOME (as the XDG base
    directory specification has it): what is run from a cache must not depend on the current folder.

    Raises:
        ShiftgymError: there is no home folder either.
    """
    own, shared = os.environ.get("SHIFTGYM_CACHE"), os.environ.get("XDG_CACHE_HOME", "")
    if own:
        return Path(own).absolute() / kind
    if os.path.isabs(shared):
        return Path(shared) / "shiftgym" / kind
    try:
        home = Path.home()
    except RuntimeError:
        raise ShiftgymError(
            "There is no home folder to keep caches in: set SHIFTGYM_CACHE to a folder of your own."
        ) from None
    if sys.platform == "darwin":
        root = home / "Library" / "Caches"
    elif sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    else:
        root = home / ".cache"
    return root / "shiftgym" / kind


def own_folder(path: Path) -> Path:
    """Make a folder that nobody else can write into, or check that it is one.

    Returns:
        The folder without links in its path.

    Raises:
        OSError: it cannot be made.
        ShiftgymError: it belongs to somebody else, or others can write into it or exchange it.
    """
    for place in reversed([path, *path.parents]):
        if not place.exists():
            place.mkdir(mode=0o700, exist_ok=True)
    path = path.resolve()
    reason = foreign(path)
    if reason:
        raise ShiftgymError(f"{path} {reason}")
    for place in path.parents:
        mode = place.stat().st_mode
        if os.name == "posix" and mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise ShiftgymError(f"{path} can be exchanged by anyone who can write {place}")
    return path


def foreign(path: Path) -> str | None:
    """Say why a file or folder may hold what somebody else wrote; None if it cannot."""
    if sys.platform == "win32":
        return None
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        return "is a link"
    if found.st_uid != os.geteuid():
        return f"belongs to user {found.st_uid}, not to you"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"can be written by others: chmod go-w {path}"
    return None

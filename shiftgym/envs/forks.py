"""Threads do not survive a fork: say so where they are missed, instead of waiting for them.

A child process made by ``os.fork`` has the memory of its parent but only the thread that forked.
A ``mujoco.batch`` in it would wait for its threads for ever, at the next step and when it is freed.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any
from weakref import WeakSet

from shiftgym.errors import ShiftgymError

_owners: WeakSet[Any] = WeakSet()  # what has a ``_batch``


class LeftBehind:
    """Stand for a batch whose threads stayed in the parent process: any use of it is refused."""

    def __getattr__(self, name: str) -> Any:
        """Refuse.

        Raises:
            ShiftgymError: always.
        """
        raise ShiftgymError(
            "This vector environment was made in another process, and its threads stayed there: a "
            "fork copies none. Make it in this process, or start processes by 'spawn' or "
            "'forkserver'."
        )


def guard(owner: Any) -> None:
    """Put a :class:`LeftBehind` into ``owner._batch`` in every forked child."""
    _owners.add(owner)


def _in_child() -> None:
    for owner in list(_owners):
        # Freeing the batch waits for its threads, too: keep it for the life of the process.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner._batch))
        owner._batch = LeftBehind()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_in_child)

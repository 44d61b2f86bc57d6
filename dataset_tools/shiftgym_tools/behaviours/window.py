"""Let a setting change in a line from one update to another."""

from __future__ import annotations

from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.ranges import CountOrNone

Window = tuple[CountOrNone, CountOrNone]
"""The update at which a change begins, and the one at which it is complete."""


def require_window(name: str, window: Window | None) -> None:
    """Refuse a window that does not end after it starts.

    Raises:
        ShiftgymError: The message names the setting.
    """
    if window is not None and window[0] >= window[1]:
        raise ShiftgymError(f"{name} must end after it starts, got {window}.")


def passed(updates: int, window: Window) -> float:
    """Give the share of a window that has passed after some updates, 0 to 1."""
    start, stop = window
    return min(max((updates - start) / (stop - start), 0.0), 1.0)

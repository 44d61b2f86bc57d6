"""Read several run directories, so that one that cannot be read does not hide the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from shiftgym.errors import ShiftgymError

T = TypeVar("T")


def gather(
    outs: Iterable[Path], read: Callable[[Path], T], left_out: list[str]
) -> list[tuple[Path, T]]:
    """Read each directory once, also where it is given twice, and note those that cannot be.

    Args:
        outs: The directories.
        read: What reads one.
        left_out: Sentences on those that are left out are added here.

    Raises:
        ShiftgymError: None could be read; if there is but one, the error is its own.
    """
    unique: dict[Path, Path] = {}
    for out in outs:
        unique.setdefault(out.resolve(), out)
    chosen, found = list(unique.values()), []
    for out in chosen:
        try:
            found.append((out, read(out)))
        except ShiftgymError as error:
            if len(chosen) == 1:
                raise
            left_out.append(str(error) if str(out) in str(error) else f"{out}: {error}")
    if not found:
        raise ShiftgymError("\n".join(["Nothing is left:", *left_out]))
    return found


def finish(left_out: Sequence[str]) -> None:
    """End a command that did what it could: fail, naming what was left out.

    Raises:
        ShiftgymError: Something was.
    """
    if left_out:
        raise ShiftgymError("\n".join(["done without", *left_out]))

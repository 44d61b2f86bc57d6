"""Errors that name the mistake and the nearest valid choice."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST = 200  # characters of a wrong word that are compared
MOST = 4_000  # characters of a message: what it quotes may be a damaged file's


class ShiftgymError(ValueError):
    """Report something the user can put right; the message says how.

    Attributes:
        exit_code: what the ``shiftgym`` command ends with: 1, it failed, or 2, bad usage.
    """

    exit_code: int = 1

    def __str__(self) -> str:
        """Give the message, cut where it is longer than anybody reads."""
        text = super().__str__()
        return text if len(text) <= MOST else f"{text[:MOST]}... ({len(text):,} characters)"


class DomainError(ShiftgymError):
    """Report an unknown robot, shift, level or element, or an edit that cannot be made."""

    exit_code = 2


class StoppedError(ShiftgymError):
    """Report work that a signal stopped before its end, and how to go on with it.

    Args:
        message: what was done, and what goes on from there.
        signal_number: what stopped it; the command ends with 128 more, as shells have it.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class ActionError(ShiftgymError):
    """Report an action of the wrong shape, or one that is not finite."""


class EngineError(ShiftgymError, ImportError):
    """Report a MuJoCo that shiftgym cannot use, and how to install one that it can."""


class RenderError(ShiftgymError):
    """Report that no picture can be made here, and what to pass, set or install."""


def shown(value: object, longest: int = 200) -> str:
    """Show a value of somebody's file in a message: its ``repr``, cut short."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # thousands of digits, or of brackets
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= longest else f"{text[:longest]}..."


def nearest(wrong: str, valid: Iterable[str]) -> str:
    """Say which valid choice is nearest to a wrong one, and list the others.

    Args:
        wrong: what the user gave.
        valid: every accepted spelling.

    Returns:
        A sentence such as ``"Did you mean 'hopper'? Valid choices: ant, hopper."``
    """
    choices = sorted(set(valid))
    close = get_close_matches(wrong[:LONGEST], choices, n=1, cutoff=0.4)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    listed = ", ".join(choices[:40]) + (", ..." if len(choices) > 40 else "")
    return f"{hint}Valid choices: {listed or 'none'}."

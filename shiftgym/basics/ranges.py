"""Say which numbers a setting may have, beside the setting, and check them before work begins.

A field or parameter carries its range in its type::

    steps: Count = 1_000_000
    discount: Share = 0.99

:func:`check_ranges` looks at a dataclass's own values (call it in ``__post_init__``), and
:func:`ranged` at the arguments of a function, so that the command line and Python meet one check.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Any, ParamSpec, TypeVar, get_args, get_type_hints

from shiftgym.basics.errors import ShiftgymError

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """Hold the numbers from `low` to `high`.

    Attributes:
        low: the least.
        high: the greatest.
        open_low: leave `low` itself out.
        open_high: leave `high` itself out.
        multiple: whole numbers only that are multiples of this; 0 for any number.
        infinite: allow infinity.
    """

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    multiple: int = 0
    infinite: bool = False

    def __contains__(self, value: object) -> bool:
        """Say whether a value is a number of this range."""
        if isinstance(value, bool) or not isinstance(value, Real):
            return False
        whole = isinstance(value, Integral)
        value = int(value) if whole else float(value)
        if not whole and not math.isfinite(value):
            return self.infinite and value == math.inf
        if self.multiple and (not whole or value % self.multiple):
            return False
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        """Describe the range as a message ends: ``a whole number from 1 on``."""
        kind = {0: "a number", 1: "a whole number"}.get(self.multiple, "")
        kind = kind or f"a multiple of {self.multiple}"
        low = f" above {self.low:g}" if self.open_low else f" from {self.low:g}"
        low = "" if self.low == -math.inf else low
        high = f" below {self.high:g}" if self.open_high else f" to {self.high:,.15g}"
        if self.high == math.inf:
            high = " on" if low and not self.open_low else ""
        elif self.open_high and low:
            high = f" and{high}"
        return f"{kind}{low}{high}" + (" or inf" if self.infinite else "")


LONG = 10**12  # more updates, rows or milliseconds than anything here lives to see
Count = Annotated[int, Range(1, LONG, multiple=1)]
"""How many, at least one."""
CountOrNone = Annotated[int, Range(0, LONG, multiple=1)]
"""How many, or none."""
Size = Annotated[int, Range(1, 2**20, multiple=1)]
"""How many that take memory together: rows of a batch, units of a layer, members."""
SizeOrNone = Annotated[int, Range(0, 2**20, multiple=1)]
"""Likewise, or none."""
Threads = Annotated[int, Range(0, 4096, multiple=1)]
"""CPU threads; 0 where that means one per core."""
SomeThreads = Annotated[int, Range(1, 4096, multiple=1)]
"""CPU threads."""
Seed = Annotated[int, Range(0, 2**32 - 1, multiple=1)]
"""A seed; a million more of them fit above it."""
Number = Annotated[float, Range()]
"""Any finite number."""
Amount = Annotated[float, Range(0)]
"""A weight, cost or duration, or none."""
AmountOrInf = Annotated[float, Range(0, infinite=True)]
"""An amount without an upper end: inf means that nothing, or everything, passes."""
Positive = Annotated[float, Range(0, open_low=True)]
"""A step size, a scale."""
Limit = Annotated[float, Range(0, open_low=True, infinite=True)]
"""Where something is cut, or inf for never."""
Share = Annotated[float, Range(0, 1)]
"""A part of a whole, or none."""
SomeShare = Annotated[float, Range(0, 1, open_low=True)]
"""A part of a whole, not none."""
Level = Annotated[float, Range(0, 1, open_low=True, open_high=True)]
"""Strictly between 0 and 1."""
HeldOut = Annotated[float, Range(0, 0.5)]
"""A part that is kept from training, at most half, or none."""
SomeHeldOut = Annotated[float, Range(0, 0.5, open_low=True)]
"""A part that is kept from training, at most half."""


def ranges_of(hint: Any) -> Iterator[Range]:
    """List the ranges that a type carries, also inside unions and tuples."""
    yield from (each for each in getattr(hint, "__metadata__", ()) if isinstance(each, Range))
    for inner in get_args(hint):
        if inner is not hint and not isinstance(inner, str | Range):
            yield from ranges_of(inner)


def check_ranges(settings: Any) -> None:
    """Refuse a dataclass whose numbers are outside the ranges of their fields.

    Raises:
        ShiftgymError: The message names the field, its range and what was given.
    """
    hints = _hints(type(settings))
    for field in dataclasses.fields(settings):
        require(field.name, getattr(settings, field.name), hints[field.name])


def ranged(function: Callable[P, T]) -> Callable[P, T]:
    """Make a function check its arguments against the ranges of their types.

    Raises:
        ShiftgymError: From the function, before it does anything, as :func:`check_ranges`.
    """

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        hints = _hints(function)
        bound = inspect.signature(function).bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            require(name, value, hints.get(name))
        return function(*args, **kwargs)

    return checked


def require(name: str, value: Any, hint: Any) -> None:
    """Check a number, or every number of a tuple, by the one range that its type has.

    Raises:
        ShiftgymError: As :func:`check_ranges`.
    """
    allowed = next(ranges_of(hint), None)
    if allowed is None or value is None:
        return
    for each in value if isinstance(value, tuple) else (value,):
        if each not in allowed:
            given = f"{str(each)[:40]}..." if len(str(each)) > 40 else each
            raise ShiftgymError(f"{name} must be {allowed}, got {given}.")


@functools.cache
def _hints(of: Any) -> dict[str, Any]:
    return get_type_hints(of, include_extras=True)

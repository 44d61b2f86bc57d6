"""Simulation states and random generators as plain arrays, to save, compare and restore exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from shiftgym.basics.arrays import Array
from shiftgym.basics.errors import ShiftgymError
from shiftgym.engine import mujoco

# What a step depends on, warm start included: stepping from it repeats the original bit for bit.
INTEGRATION = mujoco.mjtState.mjSTATE_INTEGRATION
WORDS = 6  # numbers that hold a generator
_LOW = (1 << 64) - 1


def pack_rng(rng: np.random.Generator) -> Array:
    """Write a PCG64 generator's state as six uint64 numbers."""
    state = rng.bit_generator.state
    if state["bit_generator"] != "PCG64":
        raise TypeError(f"Only PCG64 generators can be packed, got {state['bit_generator']}.")
    words = []
    for number in (state["state"]["state"], state["state"]["inc"]):
        words += [number >> 64, number & _LOW]
    return np.array([*words, state["has_uint32"], state["uinteger"]], dtype=np.uint64)


def seed_of(seed: int | None, rng: np.random.Generator) -> int:
    """Give the seed that an environment's other generators start from.

    A generator that the user put there himself, of unknown seed (-1), is asked for one.
    """
    if seed is None or seed < 0:
        return int(rng.integers(1 << 62))
    return seed


def unpack_rng(words: Array) -> np.random.Generator:
    """Give the generator that :func:`pack_rng` wrote."""
    high, low, inc_high, inc_low, has_uint32, uinteger = (int(word) for word in words)
    bits = np.random.PCG64()
    bits.state = {
        "bit_generator": "PCG64",
        "state": {"state": high << 64 | low, "inc": inc_high << 64 | inc_low},
        "has_uint32": has_uint32,
        "uinteger": uinteger,
    }
    return np.random.Generator(bits)


def check_state(state: Any, like: Mapping[str, Array], otherwise: str) -> dict[str, Array]:
    """Give a saved state as arrays, after comparing it with one that fits.

    Args:
        state: what the user gives back.
        like: a state that fits.
        otherwise: what a state of other shapes is of.

    Raises:
        ShiftgymError: not a state, a part is missing, or a shape is another.
    """
    if not isinstance(state, Mapping):
        raise ShiftgymError(f"A state is what get_state() gives, a dictionary; got {type(state)}.")
    for name, expected in like.items():
        if name not in state:
            raise ShiftgymError(f"The state lacks {name!r}; give what get_state() gave.")
        if np.shape(state[name]) != expected.shape:
            raise ShiftgymError(
                f"A state whose {name} has shape {np.shape(state[name])} does not fit "
                f"{expected.shape}: {otherwise}."
            )
    return {name: np.asarray(state[name]) for name in like}

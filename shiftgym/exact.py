"""Arithmetic that gives the same bits on every processor, thread count and batch size.

A product of matrices sums in the order its kernel likes, and kernels are chosen for the processor;
numpy's exp and tanh have a version per instruction set. A float32 sum in another order is another
number, a simulation that starts from it is soon another episode.

Here a product is made of integers. With the row x of largest number below 2^e, and a column of
weights w whose absolute values sum to less than 2^f,

    x  ~  2^(e - 24) X,   X whole, |X| <= 2^24            y = 2^(e - 24) 2^(f - 28) X W
    w  ~  2^(f - 28) W,   W whole, sum |W| < 2^28 + K

every product and every partial sum of X W, in any order, fused or not, is a whole number below 2^53
(K, the length of the sum, may be as large as 2^20): float64 holds it without rounding. What is
rounded is x and w, by as much as float32 rounds them, and always the same way.

Everything else is done element by element with +, -, *, / and rint, which IEEE 754 defines to the
last bit, and with powers of two.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial, frexp, fsum

import numpy as np

from shiftgym.arrays import Array

INPUT_BITS, WEIGHT_BITS = 24, 28
MOST_TERMS = 1 << 20
LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
PER_LN2 = 1.4426950408889634  # k * LN2_HIGH is exact to k = 2^20
SERIES = tuple(1 / factorial(k) for k in range(9, -1, -1))  # to |r| = ln(2) / 2: within 1e-11
NOISE_GRID = 2.0**16


@dataclass(frozen=True)
class Weights:
    """Hold a matrix as whole numbers W and their unit: ``W * unit`` is the matrix, rounded.

    Attributes:
        whole: (K, M) whole numbers, float64.
        unit: a power of two.
    """

    whole: Array
    unit: float

    @classmethod
    def of(cls, matrix: Array) -> Weights:
        """Round a matrix (K, M) to whole multiples of a unit, about 2^-28 of its largest column."""
        wide = np.asarray(matrix, dtype=np.float64)
        if len(wide) > MOST_TERMS:
            raise ValueError(f"Sums of {len(wide):,} terms are too long to be exact.")
        largest = max(fsum(column) for column in np.abs(wide).T.tolist())
        unit = 2.0 ** (frexp(largest)[1] - WEIGHT_BITS)
        return cls(np.rint(wide / unit), unit)


def product(x: Array, weights: Weights) -> Array:
    """Multiply rows by a matrix, the same bits whatever multiplies.

    Args:
        x: (N, K) or (K,), finite.
        weights: (K, M).

    Returns:
        (N, M) or (M,), float64, each row a function of its own row of `x` alone.
    """
    power = np.frexp(np.abs(x).max(axis=-1, keepdims=True))[1]
    whole = x * np.ldexp(1.0, INPUT_BITS - power)
    found = np.rint(whole, out=whole) @ weights.whole
    found *= np.ldexp(weights.unit, power - INPUT_BITS)
    return found


def exp(x: Array) -> Array:
    """Give e^x to 1e-11 of itself, float64; x from -700 to 700."""
    power = np.rint(x * PER_LN2)
    rest = (x - power * LN2_HIGH) - power * LN2_LOW
    total = rest * SERIES[0]
    for term in SERIES[1:-1]:
        total += term
        total *= rest
    total += SERIES[-1]
    return np.ldexp(total, power.astype(np.int32), out=total)


def tanh(x: Array) -> Array:
    """Give the hyperbolic tangent to 1e-11, float64."""
    found = exp(np.minimum(np.maximum(x, -20.0), 20.0) * 2.0)
    found += 1.0
    np.divide(-2.0, found, out=found)
    found += 1.0
    return found


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Draw standard normal numbers, multiples of 2^-16, float64.

    numpy's ziggurat takes them from the generator's bits by tables and products, but 1 in 3,900,
    from the tail, through log1p of the C library, whose last bit may depend on the processor, and
    about 1 in 100 after a comparison with its exp. A difference of 1e-15 outlives rounding to
    2^-16 in 1 of 10^10 of the former, and decides 1 of 10^15 of the latter: expect it once in 10^13
    numbers. A dataset of a million transitions draws at most 3 * 10^7.
    """
    return np.rint(rng.standard_normal(shape) * NOISE_GRID) / NOISE_GRID

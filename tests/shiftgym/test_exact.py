"""The same bits whatever the processor, the library of matrix products and the batch."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from shiftgym import exact
from shiftgym.policies import Policy

PINNED = "e9cce594548356895c3aa56219571db58cc04ffc85249ef9a5ae3ef15be92958"
WAYS = {
    "as it is": {},
    "another kernel": {"OPENBLAS_CORETYPE": "Sandybridge"},
    "a kernel with fused products": {"OPENBLAS_CORETYPE": "Haswell"},
    "no wide instructions in numpy": {"NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4"},
    "no fused products in libm": {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4"},
    "two threads": {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"},
}


def spread(*shape: int) -> np.ndarray:
    """Give numbers in [-1, 1) that no library decides: a linear congruence."""
    count = int(np.prod(shape))
    words = (np.arange(1, count + 1, dtype=np.uint64) * np.uint64(2654435761)) % np.uint64(2**32)
    return (words.astype(np.float64) / 2.0**31 - 1).reshape(shape).astype(np.float32)


def policy(kind: str, obs: int = 17, act: int = 6, hidden: int = 64) -> Policy:
    """Build a policy without drawing anything."""
    out = 2 * act if kind == "sac" else act
    shapes = {"W0": (obs, hidden), "W1": (hidden, hidden), "W2": (hidden, out)}
    arrays = {name: spread(*shape) for name, shape in shapes.items()}
    arrays |= {f"b{k}": spread(arrays[f"W{k}"].shape[1]) for k in range(3)}
    arrays |= {"in_shift": spread(obs), "in_scale": 2 + spread(obs)}
    arrays |= {"out_shift": spread(act), "out_scale": spread(act), "log_std": spread(act)}
    return Policy(arrays, {"kind": kind})


def signature() -> str:
    """Give the SHA-256 of some actions, deterministic and stochastic, of both kinds."""
    digest = hashlib.sha256()
    rows = 10 * spread(200, 17)
    for kind in ("sac", "gaussian"):
        acting = policy(kind)
        digest.update(acting.act(rows).tobytes())
        digest.update(acting.act(rows, np.random.default_rng(5)).tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("way", WAYS)
def test_actions_are_the_same_bits_on_any_processor(way: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import test_exact; print(test_exact.signature())"],
        env=os.environ | WAYS[way], cwd=os.path.dirname(__file__), check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.strip() == PINNED


@pytest.mark.parametrize("kind", ["sac", "gaussian"])
def test_a_row_alone_is_that_row_in_any_batch(kind: str) -> None:
    acting, rows = policy(kind), 5 * spread(97, 17)
    together = acting.act(rows)
    assert all(np.array_equal(acting.act(row), together[k]) for k, row in enumerate(rows))
    assert np.array_equal(acting.act(rows[::-1]), together[::-1])
    assert np.array_equal(acting.act(rows[:41]), together[:41])
    drawn = acting.act(rows[:41], np.random.default_rng(1))
    assert np.array_equal(drawn, acting.act(rows, np.random.default_rng(1))[:41])


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_a_product_is_exact_whatever_the_order_of_its_sum(scale: float) -> None:
    rng = np.random.default_rng(3)
    x, matrix = rng.normal(0, scale, (7, 300)), rng.standard_cauchy((300, 5))
    found = exact.product(x, exact.Weights.of(matrix))
    for _ in range(5):
        order = rng.permutation(300)
        assert np.array_equal(exact.product(x[:, order], exact.Weights.of(matrix[order])), found)
    weights = exact.Weights.of(matrix)
    unit = 2.0 ** (int(np.ceil(np.log2(np.abs(x[0]).max()))) - exact.INPUT_BITS)
    whole = [Fraction(int(np.rint(value / unit))) for value in x[0]]
    sums = [
        sum(a * Fraction(int(b)) for a, b in zip(whole, column, strict=True))
        for column in weights.whole.T
    ]
    assert [Fraction(value) for value in found[0]] == [
        total * Fraction(unit) * Fraction(weights.unit) for total in sums
    ]
    bound = np.abs(x) @ np.abs(matrix)
    assert (np.abs(found - x @ matrix) < 1e-6 * bound.max(axis=1, keepdims=True)).all()


def test_no_partial_sum_can_exceed_what_float64_holds() -> None:
    matrix = np.random.default_rng(0).standard_cauchy((1000, 40)) * 1e3
    largest = np.abs(exact.Weights.of(matrix).whole).sum(axis=0).max()
    assert largest * 2**exact.INPUT_BITS <= 2**53
    assert largest > 2 ** (exact.WEIGHT_BITS - 1) - 1000  # and the room is used
    zero = exact.product(np.zeros((2, 3)), exact.Weights.of(np.zeros((3, 2))))
    assert (zero == 0).all()
    with pytest.raises(ValueError, match="too long"):
        exact.Weights.of(np.zeros((exact.MOST_TERMS + 1, 1), np.float32))


def test_exp_and_tanh_are_those_of_numpy_to_eleven_digits() -> None:
    x = np.concatenate((np.linspace(-690, 690, 4001), np.linspace(-1, 1, 2001), [0.0]))
    np.testing.assert_allclose(exact.exp(x), np.exp(x), rtol=2e-11)
    np.testing.assert_allclose(exact.tanh(x), np.tanh(x), atol=2e-11)
    assert exact.exp(np.zeros(1)) == 1 and exact.tanh(np.array([np.inf, -np.inf])).tolist() == [
        1, -1
    ]  # fmt: skip


def test_noise_is_normal_and_on_a_grid() -> None:
    drawn = exact.normal(np.random.default_rng(0), (200_000,))
    assert abs(drawn.mean()) < 0.01 and drawn.std() == pytest.approx(1, abs=0.01)
    assert np.array_equal(drawn * 2**16, np.rint(drawn * 2**16))


def test_there_is_one_zero() -> None:
    acting = policy("gaussian")
    still = {name: np.zeros_like(array) for name, array in acting.arrays.items()}
    found = Policy(still | {"out_scale": -1 - still["out_scale"]}, acting.metadata).act(
        np.ones((3, 17))
    )
    assert not np.signbit(found).any()

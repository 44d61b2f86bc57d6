"""Call the C++ kernels that run stacked MLPs and Adam on CPU cores.

`mlp.cpp` is compiled once with the machine's own C++ compiler (`$CXX`, else `g++`, `c++` or
`clang++`) and kept in the user's cache (`building.py`). Without a compiler, `load` raises and
`--backend eager` does the same job slower.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import c_float, c_int64, c_void_p
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from shiftgym_agents.kernels.building import NativeUnavailableError, build

__all__ = ["NativeUnavailableError", "StackedMLP", "adam_", "follow_", "load", "undisturbed"]

SOURCE = Path(__file__).parent / "mlp.cpp"
FLAGS = "-O3 -march=native -ffp-contract=fast -fno-math-errno -fno-trapping-math -std=c++20"
FLAGS += " -shared -fPIC -pthread"
SHAPE = [c_int64] * 5 + [c_void_p] * 2 + [c_int64, c_void_p, c_int64, c_int64]
SIGNATURES = {
    "mlp_forward": [*SHAPE, c_void_p, c_void_p],
    "mlp_backward": [*SHAPE, c_void_p, c_void_p, c_void_p, c_void_p],
    "adam": [c_int64] * 3 + [c_void_p] * 6 + [c_float] * 4,
    "follow": [c_int64, c_int64, c_void_p, c_void_p, c_float],
}


@cache
def load() -> ctypes.CDLL:
    """Return the kernels, compiled; errors as :func:`shiftgym_agents.kernels.building.build`."""
    loaded = build(SOURCE, FLAGS)
    for name, arguments in SIGNATURES.items():
        function = getattr(loaded, name)
        function.argtypes, function.restype = arguments, None
    return loaded


_own: list[int] = []  # threads of the kernels, where they are not PyTorch's


def threads() -> int:
    """Say how many threads the kernels use."""
    return _own[-1] if _own else torch.get_num_threads()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Leave PyTorch's threads to the kernels, and PyTorch's own small operations to one.

    After every operation that it shares out, PyTorch's OpenMP keeps its threads spinning for
    milliseconds, on the cores that the kernels' threads need.
    """
    _own.append(threads())
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _own.pop()


class StackedMLP(torch.autograd.Function):
    """Apply `N = R * C` MLPs with ReLU to `R` batches, `C` networks to each batch.

    Shapes: x `(R, B, in)` (last axis dense), rows `(R, C, P)`, result `(R, C, B, out)`.
    """

    @staticmethod
    def forward(ctx, x: Tensor, rows: Tensor, sizes: tuple[int, ...]) -> Tensor:  # pyright: ignore
        """Run the networks and keep the hidden units for the backward pass."""
        _require(x, rows)
        runs, copies, _ = rows.shape
        batch, nets = x.shape[1], runs * copies
        keep = nets * batch * sum(sizes[1:-1]) if any(ctx.needs_input_grad) else 0
        hidden = x.new_empty(keep)
        y = x.new_empty(runs, copies, batch, sizes[-1])
        shape = _shape(x, rows, sizes)
        load().mlp_forward(*shape, hidden.data_ptr() if keep else 0, y.data_ptr())
        ctx.save_for_backward(x, rows, hidden)
        ctx.sizes = sizes
        return y

    @staticmethod
    def backward(ctx, gy: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # pyright: ignore
        """Give the gradients of batches and weights that are asked for."""
        x, rows, hidden = ctx.saved_tensors
        gy, (to_x, to_rows, _) = gy.contiguous(), ctx.needs_input_grad
        runs, copies, _ = rows.shape
        gx = x.new_empty(runs, copies, *x.shape[1:]) if to_x else None
        grad = torch.empty_like(rows) if to_rows else None
        pointers = [t.data_ptr() if t is not None else 0 for t in (hidden, gy, grad, gx)]
        load().mlp_backward(*_shape(x, rows, ctx.sizes), *pointers)
        return gx.sum(1) if gx is not None else None, grad, None


def _shape(x: Tensor, rows: Tensor, sizes: tuple[int, ...]) -> tuple[object, ...]:
    runs, copies, total = rows.shape
    layers = len(sizes) - 1
    head = (threads(), runs * copies, copies, x.shape[1], layers, _sizes(sizes))
    return *head, rows.data_ptr(), total, x.data_ptr(), x.stride(0), x.stride(1)


@cache
def _sizes(sizes: Sequence[int]) -> ctypes.Array[c_int64]:
    return (c_int64 * len(sizes))(*sizes)


def _require(x: Tensor, rows: Tensor) -> None:
    good = x.dtype == rows.dtype == torch.float32 and x.device.type == rows.device.type == "cpu"
    if not good or x.stride(2) != 1 or not rows.is_contiguous():
        raise ValueError("native kernels take float32 CPU tensors, dense along the last axis")


def adam_(
    p: Tensor,
    m: Tensor,
    v: Tensor,
    g: Tensor,
    rate: Tensor,
    second: Tensor,
    betas: tuple[float, float],
    epsilon: float,
) -> None:
    """Take one Adam step in place on rows `(R, ...)`; rate and second are float32 `(R,)`."""
    runs = len(p)
    pointers = [tensor.data_ptr() for tensor in (p, m, v, g, rate, second)]
    count = threads()
    shares = 1 - betas[0], betas[1], 1 - betas[1]  # in float64: 1 - 0.999 is 5e-5 off in float32
    load().adam(count, runs, p.numel() // runs, *pointers, *shares, epsilon)


def follow_(to: Tensor, source: Tensor, share: float) -> None:
    """Move rows in place by a share of the way to `source`."""
    count = threads()
    load().follow(count, to.numel(), to.data_ptr(), source.data_ptr(), share)

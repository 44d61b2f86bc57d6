"""Capture a step of training as a CUDA graph, on whatever GPU it runs, and hold graphs to the step.

A graph is a recording: replaying it runs the kernels of one update again, at the same addresses,
and none of its Python. So it freezes what an update keeps outside of declared tensors: counters,
schedules, attributes that are bound to new tensors. `parted` tells such a graph by its results.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from shiftgym.basics.errors import ShiftgymError

WARM_UPS = 3  # PyTorch's libraries choose their ways in the first calls
SHARE = (
    0.1  # of a tensor's numbers may part: units within rounding of zero, signs of tiny gradients
)
ADVICE = "--backend eager trains without; docs/agents.md says what a graph freezes."


class CaptureError(ShiftgymError):
    """Say why a step cannot be a CUDA graph, or is another one there."""


def capture(step: Callable[[], None], device: torch.device, what: str) -> torch.cuda.CUDAGraph:
    """Run a step to warm up, and record it as a graph of a device, whichever is the current one.

    Args:
        step: Changes tensors in place; it takes WARM_UPS steps here (see `unchanged`).
        device: Where all of it runs.
        what: Names the step in errors.

    Raises:
        CaptureError: The step does what no graph can: waits for the device, copies from the CPU.
        torch.OutOfMemoryError: There is too little memory.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device):  # or the stream is the first GPU's, and the graph empty
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                step()
        torch.cuda.current_stream().wait_stream(stream)
        try:
            with torch.cuda.graph(graph, stream=stream):
                step()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            first = _first(error)
            raise CaptureError(
                f"{what} cannot be a CUDA graph: {str(first).splitlines()[0]} ({line_of(first)}). "
                f"An update reads no value on the CPU and takes none from there. {ADVICE}"
            ) from error
    return graph


@contextmanager
def unchanged(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Give tensors back what they hold now when the block is over."""
    kept = [(tensor, tensor.detach().clone()) for tensor in tensors]
    yield
    put_back(kept)


@torch.no_grad()
def put_back(kept: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Copy the second of each pair into the first."""
    for tensor, before in kept:
        tensor.copy_(before)


def parted(
    start: Mapping[str, Tensor], one: Mapping[str, Tensor], two: Mapping[str, Tensor]
) -> list[str]:
    """Name the tensors in which two ends of one update from the same start part.

    Kernels may round differently, so a number may differ by a thousandth of its way, and a share of
    a tensor's numbers by more: a unit within rounding of zero falls on the other side of its ReLU.
    """
    wrong: list[str] = []
    for name, tensor in two.items():
        ends = [x.detach().double().nan_to_num(7.0, 7e30, -7e30) for x in (one[name], tensor)]
        if not tensor.numel():
            continue
        moved = (ends[1] - start[name].detach().double().nan_to_num(7.0, 7e30, -7e30)).abs()
        typical = moved.square().mean().sqrt()
        allowed = 1e-3 * moved + 1e-4 * typical + 5e-7 * ends[1].abs()
        off = ((ends[0] - ends[1]).abs() > allowed).double().mean()
        if float(off) > SHARE:
            wrong.append(name)
    return wrong


def _first(error: BaseException) -> BaseException:
    """Find the error that came first: ending a broken capture raises another one."""
    while isinstance(error.__context__, RuntimeError):
        error = error.__context__
    return error


def line_of(error: BaseException) -> str:
    """Name the last line of an error's way that is not PyTorch's own, nor a stand-in's."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if not {"torch", "standin"} & set(path.parts) and path.exists():
            return f"{path.name}:{frame.lineno}"
    return "?"

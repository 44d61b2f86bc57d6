"""Record operations in place of a CUDA graph, and run them again at the same addresses.

Nothing that runs while a graph is captured changes memory from outside, and memory allocated inside
holds NaN until the first replay: a value kept from the capture shows. Numbers on the CPU are baked
in. `replay` runs the recorded operations in order, and no Python of the method.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from shiftgym_agents.standin.machine import (
    SILENT,
    DeviceTensor,
    leaves,
    machine,
    mapped,
    place,
)

SPOILT = "CUDA error: operation failed due to a previous error during capture"
EMPTY = (
    "The CUDA Graph is empty. This usually means that the graph was attempted to be captured on "
    "wrong device or stream."
)


class Step(NamedTuple):
    """Hold one operation with what it was given and where its new results lie."""

    call: Callable[..., Any]
    args: Any
    kwargs: Any
    results: list[Tensor]
    fresh: set[int]  # places among `results` that this operation made


class Graph:
    """Stand in for `torch.cuda.CUDAGraph`."""

    def __init__(self, keep_graph: bool = False) -> None:
        self.tape: list[Step] = []
        self.outside: dict[int, tuple[Any, Any]] = {}  # storages that are written, as they were
        self.own: dict[int, Any] = {}
        self.device = self.stream = -1
        self.over = self.broken = False

    def begin(self, device: int, stream: int) -> None:
        """Start recording what goes to a stream."""
        if machine().capture is not None:
            raise RuntimeError("a graph is being captured already")
        if stream == 0:
            raise RuntimeError("CUDA graphs must be captured on a non-default stream.")
        self.device, self.stream = device, stream
        machine().capture = self

    def require_current(self, name: str, home: torch.device) -> None:
        """Refuse what a capture would not record."""
        stream = machine().library.standin_stream(home.index)
        if home.index != self.device or stream != self.stream:
            raise RuntimeError(
                f"{name} went to stream {stream} of {home} while stream {self.stream} of "
                f"cuda:{self.device} is captured: the graph would lack it (at {place()})"
            )

    def before(self, func: Any, args: Any, kwargs: Any, given: Any) -> tuple[Any, Any]:
        """Keep what an operation is about to write to; bake numbers on the CPU in."""
        for place_, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                found = args[place_] if place_ < len(args) else kwargs.get(argument.name)
                self.keep([x for x in leaves(found) if isinstance(x, Tensor)])
        on_device = {id(x.raw) for x in leaves(given) if isinstance(x, DeviceTensor)}

        def bake(x: Tensor) -> Tensor:
            return x.clone() if x.dim() == 0 and id(x) not in on_device else x

        return mapped(args, bake), kwargs

    def keep(self, written: list[Tensor]) -> None:
        """Remember memory from outside as it is before the capture writes to it."""
        for x in written:
            storage = x.untyped_storage()
            if storage._cdata not in self.own and storage._cdata not in self.outside:
                self.outside[storage._cdata] = storage, storage.clone()

    def record(
        self, call: Any, args: Any, kwargs: Any, results: list[Tensor], fresh: list[Tensor]
    ) -> None:
        """Append an operation."""
        new = {id(x) for x in fresh}
        if call in SILENT:
            new = set()
            fresh = results
        for x in fresh:
            self.own[x.untyped_storage()._cdata] = x.untyped_storage()
        places = {i for i, x in enumerate(results) if id(x) in new}
        self.tape.append(Step(call, args, kwargs, results, places))

    def end(self) -> None:
        """Stop recording: outside, nothing has happened."""
        machine().capture = None
        for storage, before in self.outside.values():
            storage.copy_(before)
        for step in self.tape:
            for x in step.results:
                if x.is_floating_point() and x.untyped_storage()._cdata in self.own:
                    torch.empty(0, dtype=x.dtype).set_(x.untyped_storage()).fill_(float("nan"))
        if self.broken:
            raise RuntimeError(SPOILT)
        self.over = True
        if not self.tape:
            warnings.warn(EMPTY, stacklevel=3)

    def replay(self) -> None:
        """Run what was recorded."""
        if not self.over:
            raise RuntimeError("replay() called without a preceding successful capture")
        machine().counts["replay"] += 1
        off = torch._C._DisableTorchDispatch()  # pyright: ignore[reportAttributeAccessIssue]
        with torch.no_grad():
            for step in self.tape:
                if step.call in SILENT:
                    continue
                out = step.call(*step.args, **step.kwargs)
                if step.fresh:
                    new = [x for x in leaves(out) if isinstance(x, Tensor)]
                    for i in step.fresh:
                        step.results[i].copy_(new[i])
        del off

    def reset(self) -> None:
        """Forget what was recorded."""
        self.tape.clear()

    def pool(self) -> tuple[int, int]:
        """Name the graph's memory."""
        return 0, 0

"""Run a stage's updates in blocks: eagerly, through the C++ kernels, or as a CUDA graph.

Batches and random numbers of a block are drawn before it, from the runs' own generators, so that
every path sees the same ones. Paths:

    eager      stacked torch operations: the reference, on any device
    captured   on the CPU the same Python with networks and Adam as C++ kernels (`native.py`);
               on a GPU one update captured as a CUDA graph and replayed
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, Literal

import torch
from torch import Tensor

from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.core import native
from shiftgym_agents.core.agent import Agent, Stage
from shiftgym_agents.core.nets import Net
from shiftgym_agents.core.racing import kernels_win

Backend = Literal["auto", "eager", "captured"]
BLOCK = {"cpu": 50, "cuda": 100}  # updates whose random numbers are drawn together


def pick_device(name: str) -> torch.device:
    """Find a device by name; `auto` is the GPU where there is one.

    Raises:
        ShiftgymError: The device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ShiftgymError(f"Unknown device {name!r}: use auto, cpu, cuda or cuda:0.") from None
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise ShiftgymError(
                f"--device {name} is not there: PyTorch {torch.__version__} sees {count} GPUs. "
                "Use --device cpu, or install a PyTorch built for your driver."
            )
    elif device.type != "cpu":
        raise ShiftgymError(f"Unknown device {name!r}: use auto, cpu, cuda or cuda:0.")
    return device


def pick_backend(name: Backend, device: torch.device) -> Literal["eager", "captured"]:
    """Choose how updates run; `auto` on a CPU is whatever is faster there (`racing.py`).

    Where `auto` must do without the C++ kernels, it warns. Threads must be set before.

    Raises:
        NativeUnavailableError: `captured` was asked for, and there are no C++ kernels.
    """
    if name == "eager" or device.type == "cuda":
        return "eager" if name == "eager" else "captured"
    try:
        native.load()
        return "captured" if name == "captured" or kernels_win() else "eager"
    except native.NativeUnavailableError as error:
        if name == "captured":
            raise
        warnings.warn(f"training eagerly, about half as fast: {error}", stacklevel=2)
        return "eager"


class Running:
    """Run the updates of one stage.

    Args:
        agent: The runs, made with `fast` if `backend` is captured on a CPU.
        stage: One of its stages.
        backend: eager or captured.
    """

    def __init__(self, agent: Agent, stage: Stage, backend: Literal["eager", "captured"]) -> None:
        self.agent, self.stage = agent, stage
        self.graphed = backend == "captured" and agent.device.type == "cuda"
        nets = [each for each in agent.parameters.values() if isinstance(each, Net)]
        self._kernels_only = agent.fast and all(net.uses_kernels for net in nets)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: dict[str, Tensor] = {}

    def run(self, updates: int) -> None:
        """Draw a block of batches and random numbers, and run its updates."""
        with native.undisturbed() if self._kernels_only else nullcontext():
            self._run(updates)

    def _run(self, updates: int) -> None:
        drawn = self.draw(updates)
        for u in range(updates):
            given = {name: block[:, u] for name, block in drawn.items()}
            if self.graphed:
                self._replay(given)
            else:
                self._update(given)

    def draw(self, updates: int) -> dict[str, Tensor]:
        """Draw places of rows `(R, U, S + T)` and random numbers `(R, U, *shape)` of a block."""
        agent, stage = self.agent, self.stage
        drawn = {"": agent.data.draw(agent.generators, updates, stage.source, stage.target)}
        for draw, shapes in ((torch.randn, stage.normal), (torch.rand, stage.uniform)):
            for name, shape in shapes.items():
                size, kind = (updates, *shape), {"dtype": agent.dtype, "device": agent.device}
                runs = [draw(size, generator=g, **kind) for g in agent.generators]
                drawn[name] = torch.stack(runs)
        return drawn

    def _update(self, given: Mapping[str, Tensor]) -> None:
        noise = {name: values for name, values in given.items() if name}
        self.stage.update(self.agent.data.batch(given[""], self.stage.source), noise)

    def _replay(self, given: Mapping[str, Tensor]) -> None:
        if self._graph is None:
            self._capture(given)
        assert self._graph is not None
        for name, values in given.items():
            self._inputs[name].copy_(values)
        self._graph.replay()

    def _capture(self, given: Mapping[str, Tensor]) -> None:
        """Capture one update; warming up changes nothing that training keeps."""
        agent = self.agent
        self._inputs = {name: values.clone() for name, values in given.items()}
        kept = {name: tensor.detach().clone() for name, tensor in agent.tensors().items()}
        logged = {name: tensor.clone() for name, tensor in agent.logged.items()}
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(agent.device):  # or the stream is the first GPU's
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(3):
                    self._update(self._inputs)
            torch.cuda.current_stream().wait_stream(stream)
            with torch.cuda.graph(graph, stream=stream):
                self._update(self._inputs)
        with torch.no_grad():
            for name, tensor in agent.tensors().items():
                tensor.copy_(kept[name])
            for name, tensor in agent.logged.items():
                tensor.copy_(logged[name]) if name in logged else tensor.zero_()
        self._graph = graph


def run_stage(
    agent: Agent,
    stage: Stage,
    backend: Literal["eager", "captured"],
    updates: int | None = None,
    progress: Callable[[str, int], Any] | None = None,
) -> None:
    """Run a stage from its beginning: its updates, its checks and, where it is over, its finish.

    Args:
        agent: The runs.
        stage: One of its stages; those before it are over.
        backend: eager or captured.
        updates: At most so many, or all of them.
        progress: Called after every block with the stage's name and the updates in it.
    """
    running, done = Running(agent, stage, backend), 0
    wanted = stage.steps if updates is None else min(updates, stage.steps)
    while done < wanted:
        block = min(BLOCK[agent.device.type], wanted - done)
        if stage.every:
            block = min(block, stage.every - done % stage.every)
        running.run(block)
        done += block
        if stage.check is not None and stage.every:
            if done == stage.steps or done % stage.every == 0:
                stage.check()
        if progress is not None:
            progress(stage.name, block)
    if done == stage.steps and stage.finish is not None:
        stage.finish()
    agent.logged.clear()

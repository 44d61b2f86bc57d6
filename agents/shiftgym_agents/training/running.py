"""Run a stage's updates in blocks: eagerly, through the C++ kernels, or as a CUDA graph.

Batches and random numbers of a block are drawn before it, from the runs' own generators, so that
every path sees the same ones. Paths:

    eager      stacked torch operations: the reference, on any device
    captured   on the CPU the same Python with networks and Adam as C++ kernels (`native.py`);
               on a GPU one update captured as a CUDA graph and replayed, after the first replay was
               compared with an eager update from the same state
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, Literal

import torch
from torch import Tensor

from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.core.agent import Agent, Stage
from shiftgym_agents.core.capturing import (
    ADVICE,
    CaptureError,
    capture,
    parted,
    put_back,
    unchanged,
)
from shiftgym_agents.core.nets import BETAS, EPSILON, Net
from shiftgym_agents.core.racing import kernels_win
from shiftgym_agents.kernels import fused, native

Backend = Literal["auto", "eager", "captured"]
BLOCK = {"cpu": 50, "cuda": 100}  # updates whose random numbers are drawn together, at most
NUMBERS = 1 << 20  # that are drawn together for one run, at most: 40 runs then take 168 MB


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


def has_kernels(device: torch.device) -> bool:
    """Say whether a captured training has kernels to take steps with; on a GPU, warn if not."""
    if device.type == "cpu":
        return True
    try:
        fused.load(device, BETAS, EPSILON, 0.0)
        return True
    except native.NativeUnavailableError as error:
        warnings.warn(f"training with PyTorch's own steps, slower: {error}", stacklevel=2)
        return False


def block_of(stage: Stage, device: torch.device) -> int:
    """Give how many updates of a stage draw their random numbers together, whatever the runs."""
    shapes = [*stage.normal.values(), *stage.uniform.values()]
    each = stage.source + stage.target + sum(map(math.prod, shapes))
    return max(1, min(BLOCK[device.type], NUMBERS // max(1, each)))


def next_after(done: int, every: int) -> int:
    """Give the first multiple of `every` beyond `done`."""
    return (done // every + 1) * every


class Running:
    """Run the updates of one stage.

    Args:
        agent: The runs, made with `fast` if `backend` is captured (on a GPU that is a choice).
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
        self._compare, self._checked = True, False

    def run(self, updates: int) -> None:
        """Draw a block of batches and random numbers, and run its updates.

        Raises:
            CaptureError: On a GPU, updates cannot be a graph, or are another update as one.
        """
        with native.undisturbed() if self._kernels_only else nullcontext():
            self._run(updates)

    def block(self, done: int, mark: int) -> int:
        """Run updates up to the next place where something else happens, and check there if due.

        That is the mark, a check, the end of the stage, or of what draws its numbers together.

        Args:
            done: Updates of the stage that were taken before.
            mark: Stop at this update of the stage at the latest; beyond `done`.

        Returns:
            How many were taken now.
        """
        stage = self.stage
        ends = [stage.steps, done + block_of(stage, self.agent.device), mark]
        if stage.every:
            ends.append(next_after(done, stage.every))
        end = min(ends)
        self.run(end - done)
        if stage.every and (end == stage.steps or end % stage.every == 0):
            self.check()
        return end - done

    def check(self) -> None:
        """Let the stage look at what it learned; after the first time, graphs are compared anew."""
        if self.stage.check is not None:
            self.stage.check()
            self._compare |= not self._checked
            self._checked = True

    def _run(self, updates: int) -> None:
        drawn = self.draw(updates)
        if self.stage.idle is not None and self.stage.idle():
            return
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
        for fill, shapes in (("normal_", stage.normal), ("uniform_", stage.uniform)):
            for name, shape in shapes.items():
                size = agent.runs, updates, *shape
                drawn[name] = torch.empty(size, dtype=agent.dtype, device=agent.device)
                for own, generator in zip(drawn[name], agent.generators, strict=True):
                    getattr(own, fill)(generator=generator)
        return drawn

    def _update(self, given: Mapping[str, Tensor]) -> None:
        noise = {name: values for name, values in given.items() if name}
        self.stage.update(self.agent.data.batch(given[""], self.stage.source), noise)

    def _replay(self, given: Mapping[str, Tensor]) -> None:
        if self._graph is None:
            self._capture(given)
        for name, values in given.items():
            self._inputs[name].copy_(values)
        assert self._graph is not None
        if self._compare:
            self._compared(self._graph)
            self._compare = False
        else:
            self._graph.replay()

    def _capture(self, given: Mapping[str, Tensor]) -> None:
        """Capture one update; warming up changes nothing that training keeps."""
        agent = self.agent
        self._inputs = {name: values.clone() for name, values in given.items()}
        before = dict(agent.logged)
        with unchanged([*agent.tensors().values(), *before.values()]):
            self._graph = capture(
                lambda: self._update(self._inputs), agent.device, f"the update of {self._name}"
            )
        for name, tensor in agent.logged.items():
            if name not in before:
                tensor.zero_()

    def _compared(self, graph: torch.cuda.CUDAGraph) -> None:
        """Replay one update, and refuse to go on if an eager one from the same state parts from it.

        Means that are logged may be shares of few rows, so they must only be of the same size.
        """
        agent = self.agent
        logged = {f"log of {name}": tensor for name, tensor in agent.logged.items()}
        tensors = agent.tensors() | logged
        start = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        graph.replay()
        ends = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        put_back((tensor, start[name]) for name, tensor in tensors.items())
        with agent.plainly():
            self._update(self._inputs)
        wrong = parted(start, ends, {name: tensors[name] for name in agent.tensors()})
        for name, tensor in logged.items():
            moved = (tensor - start[name]).abs()
            far = (ends[name] - tensor).abs() > 0.5 * moved + 1e-4 * tensor.abs() + 1e-6
            if bool(far.any()):
                wrong.append(name)
        if wrong:
            raise CaptureError(
                f"The update of {self._name} is another one as a CUDA graph: from the same state, "
                f"{', '.join(wrong[:6])}{' and others' if len(wrong) > 6 else ''} end elsewhere "
                "than after an eager update. A graph freezes Python's counters and schedules, "
                "attributes bound to new tensors, and tensors that change without being declared "
                f"in build. {ADVICE}"
            )
        put_back((tensor, ends[name]) for name, tensor in tensors.items())

    @property
    def _name(self) -> str:
        return f"{type(self.agent).__name__}'s stage {self.stage.name}"


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
        block = running.block(done, wanted)
        done += block
        if progress is not None:
            progress(stage.name, block)
    if done == stage.steps and stage.finish is not None:
        stage.finish()
    agent.logged.clear()

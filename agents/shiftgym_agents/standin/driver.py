"""Put the stand-in where PyTorch looks for CUDA: `torch.cuda`, streams, generators, graphs.

library = loading.load()      # before torch is imported
machine = driver.install(library)
torch.ones(2, device="cuda:1")
"""

from __future__ import annotations

import ctypes
import hashlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from shiftgym_agents.standin.graphs import Graph
from shiftgym_agents.standin.kernels import compile_kernel
from shiftgym_agents.standin.machine import DeviceTensor, Machine, machine, switch_on

NAME = "stand-in"
MARK = 0x5AFE << 32  # seeds of the C++ generators that stand for one on a device


def install(library: ctypes.CDLL) -> Machine:
    """Switch the stand-in on for the rest of the process."""
    made = Machine(library)
    for name, value in _torch_cuda(made).items():
        setattr(torch.cuda, name, value)
    torch.Generator, torch.tensor = Generator, tensor  # pyright: ignore
    torch._C._set_only_lift_cpu_tensors(True)  # pyright: ignore[reportAttributeAccessIssue]
    switch_on(made)
    return made


def _torch_cuda(made: Machine) -> dict[str, Any]:
    count = made.library.standin_count()

    def number(device: Any) -> int:
        found = made.device("cuda" if device is None else device)
        if not 0 <= (found.index or 0) < count:
            raise RuntimeError("CUDA error: invalid device ordinal")
        return found.index

    def synchronize(device: Any = None) -> None:
        made.wait("synchronize")

    return {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: count,
        "current_device": lambda: made.library.standin_device(),
        "set_device": lambda device: made.library.standin_set_device(number(device)),
        "current_stream": lambda device=None: Stream(
            number(device), id=made.library.standin_stream(number(device))
        ),
        "default_stream": lambda device=None: Stream(number(device), id=0),
        "device": OnDevice,
        "stream": OnStream,
        "Stream": Stream,
        "CUDAGraph": Graph,
        "graph": Capturing,
        "synchronize": synchronize,
        "empty_cache": lambda: None,
        "memory_allocated": lambda device=None: 0,
        "max_memory_allocated": lambda device=None: 0,
        "reset_peak_memory_stats": lambda device=None: None,
        "get_device_name": lambda device=None: NAME,
        "get_device_properties": lambda device=None: SimpleNamespace(
            name=NAME, major=9, minor=0, total_memory=1 << 30, multi_processor_count=132
        ),
        "get_device_capability": lambda device=None: (9, 0),
        "is_current_stream_capturing": lambda: made.capture is not None,
        "_compile_kernel": compile_kernel,
    }


class Stream:
    """Stand in for `torch.cuda.Stream`."""

    def __init__(self, device: Any = None, priority: int = 0, id: int | None = None) -> None:
        self.device = machine().device("cuda" if device is None else device)
        self.id = machine().library.standin_new_stream() if id is None else id

    def wait_stream(self, other: Stream) -> None:
        """Wait for another stream: everything is over here."""

    def synchronize(self) -> None:
        """Let the host wait."""
        machine().wait("synchronize")


class OnDevice:
    """Stand in for `torch.cuda.device`."""

    def __init__(self, device: Any) -> None:
        self.index = machine().device(device).index or 0
        self.before: list[int] = []

    def __enter__(self) -> None:  # noqa: D105
        self.before.append(machine().library.standin_device())
        machine().library.standin_set_device(self.index)

    def __exit__(self, *_: object) -> None:  # noqa: D105
        machine().library.standin_set_device(self.before.pop())


class OnStream:
    """Stand in for `torch.cuda.stream`."""

    def __init__(self, stream: Stream) -> None:
        self.stream, self.device = stream, OnDevice(stream.device)
        self.before = 0

    def __enter__(self) -> None:  # noqa: D105
        self.device.__enter__()
        self.before = machine().library.standin_stream(self.device.index)
        machine().library.standin_set_stream(self.device.index, self.stream.id)

    def __exit__(self, *_: object) -> None:  # noqa: D105
        machine().library.standin_set_stream(self.device.index, self.before)
        self.device.__exit__()


class Capturing:
    """Stand in for `torch.cuda.graph`; without a stream it takes one of the device now current."""

    shared: Stream | None = None

    def __init__(
        self,
        cuda_graph: Graph,
        pool: Any = None,
        stream: Stream | None = None,
        capture_error_mode: str = "global",
    ) -> None:
        if stream is None:  # the first one that is made serves the whole process, as PyTorch's does
            stream = Capturing.shared = Capturing.shared or Stream()
        self.graph, self.on = cuda_graph, OnStream(stream)

    def __enter__(self) -> None:  # noqa: D105
        self.on.__enter__()
        self.graph.begin(self.on.device.index, self.on.stream.id)

    def __exit__(self, *_: object) -> None:  # noqa: D105
        try:
            self.graph.end()
        finally:
            self.on.__exit__()


class Generator(torch._C.Generator):
    """Be a generator of either kind; one on a device draws by seed and offset, as Philox does."""

    place: torch.device
    seed_: int
    offset: int

    def __new__(cls, device: Any = "cpu") -> Generator:  # noqa: D102
        made = super().__new__(cls, "cpu")  # pyright: ignore
        made.place = machine().device(device)
        made.seed_, made.offset = 0, 0
        if made.place.type == "cuda":  # operations are handed the C++ half alone: it bears a mark
            known = machine().generators
            torch._C.Generator.manual_seed(made, MARK + len(known))
            known[MARK + len(known)] = made
        return made

    def __init__(self, device: Any = "cpu") -> None:
        pass

    @property
    def device(self) -> torch.device:  # noqa: D102
        return self.place

    def manual_seed(self, seed: int) -> Generator:  # noqa: D102
        self.seed_, self.offset = seed, 0
        if self.place.type == "cpu":
            super().manual_seed(seed)
        return self

    def next(self) -> torch._C.Generator:
        """Give a CPU generator that stands where this one is, and move on."""
        digest = hashlib.sha256(f"{self.seed_} {self.offset}".encode()).digest()
        self.offset += 4
        return torch._C.Generator("cpu").manual_seed(int.from_bytes(digest[:6], "little"))

    def get_state(self) -> torch.Tensor:
        """Give 16 bytes on a device, and 5,056 on the CPU."""
        if self.place.type == "cpu":
            return super().get_state()
        state = np.array([self.seed_, self.offset], np.int64).view(np.uint8).copy()
        return torch.from_numpy(state)

    def set_state(self, state: torch.Tensor) -> Any:  # noqa: D102
        if self.place.type == "cpu":
            return super().set_state(state)
        if state.device.type != "cpu" or state.dtype != torch.uint8:
            raise TypeError("expected a torch.ByteTensor")
        if state.numel() not in (8, 16):
            raise RuntimeError("RNG state is wrong size")
        self.seed_, self.offset = (int(x) for x in state.numpy().copy().view(np.int64))
        return self


_plain_tensor = torch.tensor


def tensor(data: Any, **options: Any) -> torch.Tensor:
    """Stand in for `torch.tensor`, which reads tensors on a device one by one."""

    def read(x: Any) -> Any:
        if isinstance(x, DeviceTensor):
            return x.tolist()
        return type(x)(map(read, x)) if isinstance(x, list | tuple) else x

    return _plain_tensor(read(data), **options)

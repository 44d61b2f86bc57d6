"""Carry out what is asked of the stand-in's devices, on CPU memory and under CUDA's rules.

    mixing      an operation on tensors of two devices is an error
    waiting     `.item()`, `bool()`, masks, copies to the CPU: the host waits for the device;
                refused while a graph is captured, and so are copies from the CPU
    generators  draw on their own device only, and not while a graph is captured
    streams     while a graph is captured, what goes to another stream or device is not in it: here
                an error
    numpy       is refused for tensors on a device

What is not emulated: time, limits of memory, the rounding of CUDA's kernels, CUDA's own failures.
"""

from __future__ import annotations

import ctypes
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
CPU = torch.device("cpu")
SILENT = {  # give memory, launch nothing
    aten.empty.memory_format,
    aten.empty_strided.default,
    aten.empty_like.default,
    aten.new_empty.default,
    aten.new_empty_strided.default,
}
WAITING = {
    aten._local_scalar_dense.default: ".item()",
    aten.nonzero.default: "nonzero",
    aten.masked_select.default: "masked_select",
    aten.equal.default: "equal",
    aten._unique2.default: "unique",
    aten.unique_dim.default: "unique",
    aten.repeat_interleave.Tensor: "repeat_interleave",
}
TO_HOST = (aten._local_scalar_dense.default, aten.equal.default)  # give no tensor
COPIES = (aten.copy_.default, aten._to_copy.default)
INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_")
RANDOM = frozenset(
    "normal_ normal randn rand randint uniform_ random_ randperm bernoulli_ bernoulli exponential_ "
    "multinomial native_dropout randn_like rand_like randint_like poisson geometric_ cauchy_ "
    "log_normal_".split()
)
NO_SCALARS = frozenset("mm bmm baddbmm addmm cat stack gather scatter index_select".split())
DENIED = "CUDA error: operation not permitted when stream is capturing"
UNPINNED = (
    "Cannot copy between CPU and CUDA tensors during CUDA graph capture unless the CPU tensor is "
    "pinned"
)
MIXED = "Expected all tensors to be on the same device, but found at least two devices, {} and {}!"
Shape = tuple[tuple[int, ...], tuple[int, ...], torch.dtype]  # sizes, strides, dtype


class DeviceTensor(Tensor):
    """Be a tensor on cuda whose numbers lie in `raw`, on the CPU."""

    raw: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore

    @staticmethod
    def __new__(cls: type, raw: Tensor, device: torch.device) -> Any:  # noqa: D102
        made = Tensor._make_wrapper_subclass(  # pyright: ignore[reportAttributeAccessIssue]
            cls,
            raw.shape,
            strides=raw.stride(),
            storage_offset=raw.storage_offset(),
            dtype=raw.dtype,
            device=device,
        )
        made.raw = raw
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):  # noqa: D105
        return machine().run(func, args, kwargs or {})

    def tolist(self) -> Any:  # noqa: D102
        return self.cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:  # noqa: D102
        if force:
            return self.detach().cpu().numpy()
        raise TypeError(
            f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() to copy "
            "the tensor to host memory first."
        )

    def __array__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: D105
        return self.numpy()

    def __repr__(self, **_: Any) -> str:  # noqa: D105
        return f"DeviceTensor({self.raw!r}, device={self.device})"


@dataclass(frozen=True)
class Launch:
    """Describe one kernel that a device was asked for.

    Attributes:
        name: Of the operation.
        inputs: Tensors that it reads.
        outputs: Tensors that it writes.
        place: The line of code that asked.
    """

    name: str
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    place: str


class Machine(TorchDispatchMode):
    """Run, count and record the operations of all devices.

    Attributes:
        capture: The graph being captured (`graphs.Graph`), or None.
        counts: How often the host waited, copied from the CPU, replayed a graph, ...
        log: Launches, where somebody set it to a list.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        super().__init__()
        self.library = library
        self.capture: Any = None
        self.counts: Counter[str] = Counter()
        self.log: list[Launch] | None = None
        self.generators: dict[int, Any] = {}  # mark -> generator; see driver.Generator

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here, and importing the compiler takes seconds."""
        return False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: D105
        return self.run(func, args, kwargs or {})

    def device(self, name: Any) -> torch.device:
        """Complete a device's name: cuda is the current one."""
        found = torch.device("cuda", name) if isinstance(name, int) else torch.device(name)
        if found.type == "cuda" and found.index is None:
            return torch.device("cuda", self.library.standin_device())
        return found

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation of PyTorch."""
        tensors = [x for x in leaves((args, kwargs)) if isinstance(x, Tensor)]
        ours = [x for x in tensors if isinstance(x, DeviceTensor)]
        asked = kwargs.get("device")
        goes = None if asked is None else self.device(asked)
        if not ours and (goes is None or goes.type != "cuda"):
            return func(*args, **kwargs)
        home = ours[0].device if ours else goes
        assert home is not None
        if goes is not None:
            kwargs = kwargs | {"device": CPU}
        name = func.overloadpacket.__name__
        self._check(func, name, args, tensors, home, goes or home)
        if name in RANDOM:
            kwargs = self._drawing(kwargs, home)
        raw_args, raw_kwargs = plain(args), plain(kwargs)
        if self.capture is not None:
            self.capture.require_current(name, home)
            raw_args, raw_kwargs = self.capture.before(func, raw_args, raw_kwargs, args)
        out = func(*raw_args, **raw_kwargs)
        results = [x for x in leaves(out) if isinstance(x, Tensor)]
        given = [x for x in leaves((raw_args, raw_kwargs)) if isinstance(x, Tensor)]
        known = {x.untyped_storage()._cdata for x in given}
        fresh = [x for x in results if x.untyped_storage()._cdata not in known]
        writes = func._schema.is_mutable
        if writes or fresh:
            if self.log is not None and func not in SILENT:
                self.launched(name, given, results)
            if self.capture is not None:
                keeps = func in SILENT
                self.capture.record(func, raw_args, raw_kwargs, results, [] if keeps else fresh)
        if func in TO_HOST or (goes == CPU and func is not aten.copy_.default):
            return out
        if writes and name.endswith("_"):
            return args[0]
        back = {id(x.raw): x for x in ours}

        def own(x: Tensor) -> Tensor:
            known = back.get(id(x))
            return DeviceTensor(x, goes or home) if known is None else known

        return mapped(out, own)

    def launched(self, name: str, given: list[Tensor], results: list[Tensor]) -> None:
        """Note a kernel."""
        if self.log is not None:
            self.log.append(Launch(name, _shapes(given), _shapes(results), place()))

    def wait(self, what: str) -> None:
        """Let the host wait for the device.

        Raises:
            RuntimeError: A graph is being captured.
        """
        self.counts[f"wait: {what} at {place()}"] += 1
        if self.capture is not None:
            self.capture.broken = True
            raise RuntimeError(f"{DENIED} ({what} at {place()})")

    # --- rules ------------------------------------------------------------------------------------

    def _check(
        self,
        func: Any,
        name: str,
        args: tuple[Any, ...],
        tensors: list[Tensor],
        home: torch.device,
        goes: torch.device,
    ) -> None:
        if func in COPIES:
            return self._copying(func, args, goes)
        if func in WAITING:
            self.wait(WAITING[func])
        indices = leaves(args[1]) if name in INDEXING else []
        masks = [x for x in indices if isinstance(x, Tensor)]
        if any(x.dtype in (torch.bool, torch.uint8) for x in masks):
            self.wait("rows by mask")
        first, _, values = (*args, None, None, None)[:3]
        for x in tensors:
            if x.device == home:
                continue
            index = name in INDEXING and x is not first and not (x is values and x.numel() != 1)
            if x.device.type == "cpu" and x.dim() == 0 and name not in NO_SCALARS:
                continue  # read by the host, and put into the kernel's arguments
            if x.device.type == "cpu" and index:
                self._upload(f"{name} by indices on the CPU")
                continue
            raise RuntimeError(MIXED.format(home, x.device) + f" ({name} at {place()})")

    def _copying(self, func: Any, args: tuple[Any, ...], goes: torch.device) -> None:
        source = args[0 if func is aten._to_copy.default else 1].device
        to = goes if func is aten._to_copy.default else args[0].device
        if source == to:
            return
        if to.type == "cpu":
            self.wait("copy to the CPU")
        elif source.type == "cpu":
            self._upload("copy")

    def _upload(self, what: str) -> None:
        self.counts[f"upload: {what} at {place()}"] += 1
        if self.capture is not None:
            raise RuntimeError(f"{UNPINNED} ({what} at {place()})")

    def _drawing(self, kwargs: dict[str, Any], home: torch.device) -> dict[str, Any]:
        """Let a generator of the device draw; CUDA lets its default one draw in a graph, too."""
        generator = kwargs.get("generator")
        if generator is None:
            self.counts[f"default generator at {place()}"] += 1
            return kwargs
        generator = self.generators.get(generator.initial_seed(), generator)
        if generator.device.type != "cuda":
            raise RuntimeError(
                "Expected a 'cuda' device type for generator but found "
                f"'{generator.device.type}' (at {place()})"
            )
        if generator.device != home:
            raise RuntimeError(f"generator on {generator.device}, tensor on {home} (at {place()})")
        if self.capture is not None:
            raise RuntimeError(
                "Attempt to increase offset for a CUDA generator not in capture mode "
                f"(at {place()})"
            )
        return kwargs | {"generator": generator.next()}


_installed: list[Machine] = []


def machine() -> Machine:
    """Give the process's one machine."""
    return _installed[0]


def switch_on(made: Machine) -> None:
    """Let a machine run whatever this process asks of its devices."""
    _installed.append(made)
    made.__enter__()


def leaves(x: Any) -> list[Any]:
    """List what tuples, lists and dictionaries hold."""
    if isinstance(x, list | tuple):
        return [leaf for each in x for leaf in leaves(each)]
    if isinstance(x, dict):
        return [leaf for each in x.values() for leaf in leaves(each)]
    return [x]


def mapped(x: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Change every tensor in tuples, lists and dictionaries."""
    if isinstance(x, Tensor):
        return change(x)
    if isinstance(x, dict):
        return {key: mapped(value, change) for key, value in x.items()}
    if type(x) in (list, tuple):
        return type(x)([mapped(each, change) for each in x])
    if isinstance(x, tuple) and any(isinstance(each, Tensor) for each in x):
        return type(x)(*[mapped(each, change) for each in x])  # named
    return x


def plain(x: Any) -> Any:
    """Put the numbers in CPU memory in place of tensors on devices."""
    return mapped(x, lambda each: each.raw if isinstance(each, DeviceTensor) else each)


def _shapes(tensors: list[Tensor]) -> tuple[Shape, ...]:
    return tuple((tuple(x.shape), x.stride(), x.dtype) for x in tensors)


def place() -> str:
    """Name the nearest line that is neither PyTorch's nor the stand-in's."""
    frame, own = sys._getframe(1), str(Path(__file__).parent)
    while frame is not None:
        path = frame.f_code.co_filename
        if "/torch/" not in path and not path.startswith(own) and "<" not in path:
            return f"{Path(path).name}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"

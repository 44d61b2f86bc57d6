"""Run a kernel written in CUDA C++ on the CPU: the same source, compiled by the machine's compiler.

Threads run one after the other, so a kernel here may use neither shared memory nor barriers.
"""

from __future__ import annotations

import ctypes
import hashlib
import re
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from shiftgym_agents.kernels.building import build
from shiftgym_agents.kernels.caches import cache_folder, own_folder
from shiftgym_agents.standin.machine import DeviceTensor, machine

FLAGS = "-O2 -std=c++17 -w -shared -fPIC"
HEAD = """
#include <cmath>
#define __global__
struct Dim { unsigned x, y, z; };
static thread_local Dim blockIdx, threadIdx, blockDim, gridDim;
"""
TAIL = """
extern "C" void launch(const unsigned* d, {parameters}) {{
  gridDim = {{d[0], d[1], d[2]}}, blockDim = {{d[3], d[4], d[5]}};
  for (blockIdx.z = 0; blockIdx.z < d[2]; ++blockIdx.z)
    for (blockIdx.y = 0; blockIdx.y < d[1]; ++blockIdx.y)
      for (blockIdx.x = 0; blockIdx.x < d[0]; ++blockIdx.x)
        for (threadIdx.z = 0; threadIdx.z < d[5]; ++threadIdx.z)
          for (threadIdx.y = 0; threadIdx.y < d[4]; ++threadIdx.y)
            for (threadIdx.x = 0; threadIdx.x < d[3]; ++threadIdx.x) {name}({names});
}}
"""


class Kernel:
    """Stand in for what `torch.cuda._compile_kernel` returns."""

    def __init__(self, name: str, library: ctypes.CDLL, constant: Sequence[bool]) -> None:
        self.name, self.function, self.constant = name, library.launch, constant
        self.function.restype = None

    def __call__(
        self,
        grid: tuple[int, int, int] = (1, 1, 1),
        block: tuple[int, int, int] = (1, 1, 1),
        args: Sequence[Any] = (),
        shared_mem: int = 0,
        stream: Any = None,
    ) -> None:
        """Launch it on the current stream: now, or whenever a graph is replayed."""
        for x in args:
            if isinstance(x, Tensor) and not isinstance(x, DeviceTensor):
                raise ValueError("All tensor arguments must be CUDA tensors")
        dims = (ctypes.c_uint * 6)(*grid, *block)
        given = [x.raw if isinstance(x, DeviceTensor) else x for x in args]
        pairs = [*zip(given, self.constant, strict=True)]
        raw = {id(x): x for x in given if isinstance(x, Tensor)}  # one may be given twice
        written = {id(x): x for x, same in pairs if isinstance(x, Tensor) and not same}
        if (capture := machine().capture) is not None:
            home = next(x.device for x in args if isinstance(x, DeviceTensor))
            capture.require_current(self.name, home)
            capture.keep([*written.values()])
            capture.record(self._launch, (dims, given), {}, [], [])
        machine().launched(self.name, [*raw.values()], [*written.values()])
        self._launch(dims, given)

    def _launch(self, dims: Any, given: Sequence[Any]) -> None:
        self.function(
            dims,
            *(
                ctypes.c_void_p(x.data_ptr())
                if isinstance(x, Tensor)
                else ctypes.c_double(x)
                if isinstance(x, float)
                else ctypes.c_int(x)
                for x in given
            ),
        )


def compile_kernel(kernel_source: str, kernel_name: str, **_: Any) -> Kernel:
    """Compile one kernel of a source; parameters are pointers, int and double.

    Raises:
        RuntimeError: The source has no kernel of that name.
        NativeUnavailableError: It does not compile.
    """
    found = re.search(rf"__global__\s+void\s+{kernel_name}\s*\(([^)]*)\)", kernel_source)
    if found is None:
        raise RuntimeError(f"no kernel named {kernel_name}")
    parameters = [part.strip() for part in found[1].split(",")]
    names = ", ".join(part.split()[-1].lstrip("*") for part in parameters)
    text = HEAD + kernel_source
    text += TAIL.format(parameters=found[1].strip(), name=kernel_name, names=names)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    source = own_folder(cache_folder("kernels")) / f"{kernel_name}-{digest}.cpp"
    source.write_text(text)
    constant = [part.startswith("const ") for part in parameters]
    return Kernel(kernel_name, build(source, FLAGS), constant)

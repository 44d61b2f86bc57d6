"""Build and call the C++ block of SAC updates that trains many agents on CPU cores.

`sac_kernel.cpp` is compiled once with the machine's own C++ compiler (`$CXX`, else `g++`, `c++` or
`clang++`) and kept in the user's cache, under a name that contains the hash of source, compiler and
processor. Without a compiler, `load` raises and `SAC(backend="eager")` does the same job slower.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from torch import Tensor

SOURCE = Path(__file__).with_name("sac_kernel.cpp")
FLAGS = "-O3 -march=native -ffast-math -fno-finite-math-only -std=c++17 -shared -fPIC -pthread"
INTEGERS = "runs updates batch obs act width capacity threads step".split()
FLOATS = "discount tau rate target_entropy reward_scale log_std_min log_std_max".split()
POINTERS = (
    "critics targets actors log_alphas critic_m critic_v actor_m actor_v alpha_m alpha_v "
    "rows indices noise metrics"
).split()


class Block(ctypes.Structure):
    """Mirror `struct Block` of `sac_kernel.cpp`, field by field."""

    _fields_ = (
        [(name, ctypes.c_int64) for name in INTEGERS]
        + [(name, ctypes.c_float) for name in FLOATS]
        + [(name, ctypes.c_void_p) for name in POINTERS]
    )


class NativeUnavailableError(RuntimeError):
    """Say why the C++ block cannot be built here, and what to do instead."""


def _compiler() -> str:
    for name in (os.environ.get("CXX"), "g++", "c++", "clang++"):
        found = shutil.which(name) if name else None
        if found:
            return found
    raise NativeUnavailableError(
        "no C++ compiler found for the fast CPU trainer: install g++ (or set CXX), "
        "or train with --backend eager"
    )


def _processor() -> str:
    """Identify the processor, since -march=native code must not travel to another one."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        return "".join(sorted({x for x in lines if x.startswith(("model name", "flags"))}))
    return platform.machine() + platform.processor()


@cache
def load() -> ctypes.CDLL:
    """Return the compiled library, building it first where the cache has none.

    Raises:
        NativeUnavailableError: No compiler, or the compiler failed (its message is included).
    """
    compiler = _compiler()
    key = "\0".join((SOURCE.read_text(), FLAGS, compiler, _processor()))
    root = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "shiftgym"
    library = root / f"sac_kernel-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    if not library.exists():
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root) as folder:
            built = Path(folder) / library.name
            command = [compiler, *FLAGS.split(), "-o", str(built), str(SOURCE)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise NativeUnavailableError(
                    f"building {SOURCE.name} failed; train with --backend eager, or mend this:\n"
                    f"{' '.join(command)}\n{done.stderr[-2000:]}"
                )
            built.replace(library)
    loaded = ctypes.CDLL(str(library))
    loaded.sac_block.argtypes = [ctypes.POINTER(Block)]
    loaded.sac_block.restype = None
    return loaded


def sac_block(
    integers: dict[str, int], floats: dict[str, float], tensors: dict[str, Tensor]
) -> None:
    """Run one block of updates in place on `tensors` (names as in `POINTERS`), releasing the GIL.

    Raises:
        ValueError: A tensor is not a contiguous CPU tensor of float32 (`indices`: int64).
    """
    for name, tensor in tensors.items():
        wanted = "torch.int64" if name == "indices" else "torch.float32"
        contiguous = tensor.is_contiguous() or name == "rows"
        if str(tensor.dtype) != wanted or tensor.device.type != "cpu" or not contiguous:
            raise ValueError(f"{name} must be a contiguous {wanted} CPU tensor")
    pointers = {name: tensors[name].data_ptr() for name in POINTERS}
    load().sac_block(ctypes.byref(Block(**integers, **floats, **pointers)))

"""Compile the stand-in's C++ half and load it, before PyTorch is imported: hooks are read once."""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from pathlib import Path

from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.kernels.building import NativeUnavailableError, build

SOURCE = Path(__file__).parent / "device.cpp"
FLAGS = "-O1 -std=c++20 -w -shared -fPIC"
LIBRARIES = ("libtorch_global_deps.so", "libc10.so", "libtorch_cpu.so")


class StandinUnavailableError(ShiftgymError):
    """Say why there can be no stand-in device in this process."""


def load() -> ctypes.CDLL:
    """Compile, or find compiled, and load; PyTorch then holds tensors on two CUDA devices.

    Raises:
        StandinUnavailableError: PyTorch is imported already, missing, or a CUDA build (which has
            devices of its own, or none), or the stand-in does not compile with this version.
    """
    if "torch" in sys.modules:
        raise StandinUnavailableError("the stand-in device must be loaded before torch is imported")
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        raise StandinUnavailableError("the stand-in device needs torch")
    root = Path(found.origin).parent
    if (root / "lib" / "libtorch_cuda.so").exists():
        raise StandinUnavailableError(
            "the stand-in device needs a CPU build of PyTorch, and this one is built for CUDA: "
            "take a machine with a GPU, or an environment with a CPU build"
        )
    version = _version(root)
    for name in LIBRARIES:
        ctypes.CDLL(str(root / "lib" / name), ctypes.RTLD_GLOBAL)
    try:
        library = build(SOURCE, f"{FLAGS} -DTORCH={version}", [root / "include"])
    except NativeUnavailableError as error:
        raise StandinUnavailableError(
            f"the stand-in device does not compile with PyTorch {version}: {error}"
        ) from None
    library.standin_stream.restype = library.standin_new_stream.restype = ctypes.c_int64
    library.standin_set_stream.argtypes = [ctypes.c_int, ctypes.c_int64]
    return library


def _version(root: Path) -> str:
    """Read PyTorch's version without importing it."""
    for line in (root / "version.py").read_text().splitlines():
        if line.startswith("__version__"):
            return line.partition("=")[2].strip(" '\"")
    return "unknown"

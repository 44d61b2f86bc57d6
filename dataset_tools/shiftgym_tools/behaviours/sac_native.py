"""Call the C++ block of SAC updates that trains many agents on CPU cores.

`sac_kernel.cpp` is compiled once, as :mod:`shiftgym_agents.kernels.building` says, with the
products of the agents' kernels. Without a compiler, `load` raises and `SAC(backend="eager")` does
the same job slower.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

from torch import Tensor

from shiftgym_agents.kernels import native
from shiftgym_agents.kernels.building import build

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


@cache
def load() -> ctypes.CDLL:
    """Return the compiled block; errors as :func:`shiftgym_agents.kernels.building.build`."""
    loaded = build(SOURCE, FLAGS, [native.SOURCE.parent])
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

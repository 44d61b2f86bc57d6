"""Take Adam and Polyak steps on a GPU with two small kernels of our own, in place of some thirty.

`adam.cu` is compiled when it is first used, by the compiler that CUDA builds of PyTorch
bring along (no CUDA toolkit is needed). The torch operations of `nets.py` stay the reference: every
training compares the first replay of its graphs, which take these steps, with an update that takes
those (`training/running.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shiftgym_agents.kernels.building import NativeUnavailableError

SOURCE = Path(__file__).parent / "adam.cu"
BLOCK, MOST_BLOCKS = 256, 4096


@cache
def load(
    device: torch.device, betas: tuple[float, float], epsilon: float, share: float
) -> tuple[Any, Any]:
    """Return the kernels `adam_scales` and `adam_step` for a device, compiled.

    Raises:
        NativeUnavailableError: This PyTorch compiles no kernels.
    """
    compiler = getattr(torch.cuda, "_compile_kernel", None)
    numbers = {"FIRST": betas[0], "SECOND": betas[1], "EPSILON": epsilon, "SHARE": share}
    head = "".join(f"#define {name} {value!r}\n" for name, value in numbers.items())
    if compiler is None:
        raise NativeUnavailableError(f"PyTorch {torch.__version__} compiles no CUDA kernels")
    try:
        with torch.cuda.device(device), _without_toolkit():
            text = head + SOURCE.read_text()
            return compiler(text, "adam_scales"), compiler(text, "adam_step")
    except (RuntimeError, OSError, ImportError) as error:
        raise NativeUnavailableError(f"{SOURCE.name} does not compile: {error}") from error


@contextmanager
def _without_toolkit() -> Iterator[None]:
    """Compile where there is no CUDA toolkit: PyTorch asks for its headers, which nothing reads."""
    if torch.version.cuda is None:
        yield
        return
    from torch.utils import cpp_extension

    before = cpp_extension.CUDA_HOME
    cpp_extension.CUDA_HOME = before or str(SOURCE.parent)
    try:
        yield
    finally:
        cpp_extension.CUDA_HOME = before


def adam_(
    state: dict[str, Tensor],
    gradient: Tensor,
    rate: Tensor,
    decay_steps: int | None,
    numbers: tuple[tuple[float, float], float],
    copy: Tensor | None = None,
    share: float = 0.0,
) -> None:
    """Take one Adam step in place; see `nets.Parameter.descend`, whose equations these are.

    Args:
        state: `rows`, `m`, `v` `(R, ...)` in float32, and `steps` `(1,)` in float64.
        gradient: As `rows`.
        rate: Step size of each run `(R,)` in float64.
        decay_steps: As for `Parameter`.
        numbers: Adam's betas and epsilon.
        copy: Rows that follow by `share`.
        share: How far they go.

    Raises:
        NativeUnavailableError: There are no kernels.
    """
    rows = state["rows"]
    runs, count = len(rows), rows.numel()
    follows = share if copy is not None else 0.0
    scales_of, step = load(rows.device, *numbers, follows)
    scales = torch.empty(runs, 2, device=rows.device)
    with torch.cuda.device(rows.device):
        scales_of(args=[state["steps"], scales, rate, runs, decay_steps or 0])
        step(
            grid=(min(-(-count // BLOCK), MOST_BLOCKS), 1, 1),
            block=(BLOCK, 1, 1),
            args=[
                rows,
                state["m"],
                state["v"],
                rows if copy is None else copy,
                gradient.contiguous(),
                scales,
                count,
                count // runs,
            ],
        )

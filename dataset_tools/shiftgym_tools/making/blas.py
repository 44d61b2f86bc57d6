"""Keep numpy's matrix products on one thread while the simulations use the cores."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

SUFFIXES = ("64_", "")


@contextmanager
def one_blas_thread() -> Iterator[bool]:
    """Run numpy's own OpenBLAS on one thread inside the block.

    A behaviour policy's products are small: on several threads they gain nothing and wait for the
    threads that step the simulations. Results do not depend on it.

    Yields:
        Whether numpy carries an OpenBLAS to set; with another BLAS nothing is changed.
    """
    found = _openblas()
    if found is None:
        yield False
        return
    get, put = found
    before = get()
    put(1)
    try:
        yield True
    finally:
        put(before)


@cache
def _openblas() -> tuple[Any, Any] | None:
    """Find the functions of the OpenBLAS in numpy's wheel that read and set its threads."""
    home = Path(np.__file__).parent
    for folder in (home.parent / "numpy.libs", home / ".dylibs"):
        for path in sorted(folder.glob("*openblas*")):
            library = ctypes.CDLL(str(path))
            for suffix in SUFFIXES:
                names = [f"scipy_openblas_{verb}_num_threads{suffix}" for verb in ("get", "set")]
                if all(hasattr(library, name) for name in names):
                    return getattr(library, names[0]), getattr(library, names[1])
    return None

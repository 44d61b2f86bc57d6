"""Compile C++ with the machine's own compiler, once, and load it from the user's cache.

    <cache>/kernels/                               of mode 0700; see `caches.own_folder`
        mlp-<what it was made from>-<SHA-256>.so   named after its own content, which is checked
        mlp-<what it was made from>-...-times.json    measured on it, see `native.faster`
        .new-x7f3/                                 being compiled, under the lock
        .lock                                      while somebody compiles

A library that is not the user's own is not loaded; one that is cut or damaged is made anew.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from shiftgym.basics.errors import ShiftgymError
from shiftgym.datasets.locks import locked
from shiftgym_agents.kernels.caches import cache_folder, foreign, own_folder

NEW = ".new-"


class NativeUnavailableError(ShiftgymError):
    """Say why the C++ kernels cannot be built or loaded here, and what to do instead."""


def build(source: Path, flags: str, include: Sequence[Path] = ()) -> ctypes.CDLL:
    """Return a compiled library, building it first where the cache has none.

    Args:
        source: the C++ file; headers lie beside it or in `include`.
        flags: of the compiler.
        include: further folders of headers.

    Raises:
        NativeUnavailableError: No compiler, it failed (its message is included), or there is no
            folder of the user's own to keep the library in.
    """
    compiler = _compiler()
    command = [compiler, *flags.split(), *(f"-I{folder}" for folder in include), str(source)]
    name = f"{source.stem}-{_key(source, flags, include, compiler)}"
    try:
        folder = own_folder(cache_folder("kernels"))
        found = _load(folder, name)
        if found is not None:
            return found
        with locked(folder / ".lock"):
            found = _load(folder, name)  # somebody else's, made while this one waited
            if found is None:
                for left in folder.glob(f"{NEW}*"):  # by one that was killed: the lock is ours
                    shutil.rmtree(left, ignore_errors=True)
                found = ctypes.CDLL(str(_compile(command, folder, name)))
        return found
    except NativeUnavailableError:
        raise
    except (OSError, ShiftgymError) as error:
        raise NativeUnavailableError(
            f"cannot keep the compiled {source.name}: {error}. "
            "Set SHIFTGYM_CACHE to a folder of your own, or train with --backend eager"
        ) from error


def _compiler() -> str:
    for name in (os.environ.get("CXX"), "g++", "c++", "clang++"):
        found = shutil.which(name) if name else None
        if found:
            return found
    raise NativeUnavailableError(
        "no C++ compiler found for the fast CPU path: install g++ (or set CXX), "
        "or train with --backend eager"
    )


def _key(source: Path, flags: str, include: Sequence[Path], compiler: str) -> str:
    """Identify what a library is made from and for: text, compiler, processor, C library."""
    headers = [path for folder in (source.parent, *include) for path in folder.glob("*.hpp")]
    texts = [path.read_text() for path in (source, *sorted(headers))]
    made = os.stat(compiler)
    version = (os.path.realpath(compiler), str(made.st_size), str(made.st_mtime_ns))
    parts = (*texts, flags, *version, _processor(), *platform.libc_ver())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _processor() -> str:
    """Identify the processor, since -march=native code must not travel to another one."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        return "".join(sorted({x for x in lines if x.startswith(("model name", "flags"))}))
    return platform.machine() + platform.processor()


def _load(folder: Path, name: str) -> ctypes.CDLL | None:
    """Load a library that is the user's own and what its name says; remove any other."""
    for path in sorted(folder.glob(f"{name}-*.so")):
        if foreign(path) is None and path.is_file() and path.stem.endswith(_digest(path)):
            try:
                return ctypes.CDLL(str(path))
            except OSError:  # for another C library, say
                pass
        path.unlink(missing_ok=True)
    return None


def _compile(command: list[str], folder: Path, name: str) -> Path:
    """Compile into the folder, whole or not at all, also when the power goes."""
    with tempfile.TemporaryDirectory(prefix=NEW, dir=folder) as new:
        made = Path(new) / "made.so"
        command = [*command, "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if done.returncode or not made.is_file() or not made.stat().st_size:
            said = done.stderr[-2000:] or f"it ended with {done.returncode} and wrote nothing"
            raise NativeUnavailableError(
                "building the C++ kernels failed; train with --backend eager, or mend this:\n"
                f"{' '.join(command)}\n{said}"
            )
        made.chmod(0o700)
        _sync(made)
        library = folder / f"{name}-{_digest(made)}.so"
        made.replace(library)
    _sync(folder)
    return library


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

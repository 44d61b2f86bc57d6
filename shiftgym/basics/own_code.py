"""Take a name out of a user's own Python: `my_robot.py:fallen`, or `my_package.robots:fallen`."""

from __future__ import annotations

import hashlib
import sys
import traceback
from importlib import import_module
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from shiftgym.basics.errors import DomainError, ShiftgymError, nearest
from shiftgym.basics.plain_files import read_plain

LARGEST = 1 << 22  # bytes of a file


def load_named(text: str, what: str) -> Any:
    """Give what `FILE.py:NAME` or `MODULE:NAME` names.

    Args:
        text: the name.
        what: what it is wanted for, for messages: ``--terminal``.

    Raises:
        DomainError: not of this form, or nothing of that name there.
        ShiftgymError: the file or module cannot be read or run.
    """
    place, colon, name = text.rpartition(":")
    if not colon or not place or not name.isidentifier():
        raise DomainError(f"{what} {text}: write FILE.py:NAME or MODULE:NAME.")
    module = load_place(place, what)
    if not hasattr(module, name):
        known = [key for key in vars(module) if not key.startswith("_")]
        raise DomainError(f"{what} {text}: {place} has no {name!r}. {nearest(name, known)}")
    return getattr(module, name)


def load_place(place: str, what: str) -> ModuleType:
    """Run `FILE.py`, or import a module.

    Raises:
        ShiftgymError: it cannot be read or run.
    """
    if place.endswith(".py"):
        return load_module(place)
    try:
        return import_module(place)
    except Exception as error:
        raise ShiftgymError(
            f"{what}: {place} cannot be imported: {type(error).__name__}: {error}. "
            "A file is named with its path: my_robot.py:NAME."
        ) from error


def load_module(file: str | Path) -> ModuleType:
    """Run a Python file and give its module; the same content is run once.

    Raises:
        ShiftgymError: it cannot be read, or running it failed; the message names the line.
    """
    path = Path(file).resolve()
    try:
        digest = hashlib.sha256(content := read_plain(path, LARGEST)).hexdigest()
    except OSError as error:
        raise ShiftgymError(f"Cannot read {file}: {error.strerror or error}.") from None
    # the path is part of the name: equal files beside other neighbours are other modules
    place = hashlib.sha256(str(path).encode()).hexdigest()
    name = f"shiftgym_file_{path.stem}_{place[:8]}_{digest[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    loader = SourceFileLoader(name, str(path))
    module = module_from_spec(ModuleSpec(name, loader, origin=str(path)))
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses look their module up here
    sys.path.insert(0, str(path.parent))
    try:
        exec(compile(content, str(path), "exec", dont_inherit=True), vars(module))
    except ShiftgymError:
        del sys.modules[name]
        raise
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ShiftgymError(f"{file} cannot be run: {_where(error, path)}") from error
    finally:
        sys.path.remove(str(path.parent))
    return module


def _where(error: BaseException, path: Path) -> str:
    """Say what went wrong, and in which line of the file."""
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {what}"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    return f"line {lines[-1]}: {what}" if lines else what

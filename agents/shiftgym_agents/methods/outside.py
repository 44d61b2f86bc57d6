"""Find methods that live outside this package: in a file, or in another installed package.

    shiftgym train my_file.py:MyMethod ...      a file, and the class in it
    shiftgym train my-method ...                an entry point of the group `shiftgym.methods`

A file is run once per content, as a script would be: what lies beside it can be imported. A run
directory keeps where its method came from (`described`), so that it is found again (`recalled`).
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from shiftgym.basics.errors import DomainError, ShiftgymError, nearest
from shiftgym.basics.own_code import LARGEST, load_module
from shiftgym.basics.plain_files import read_plain

if TYPE_CHECKING:  # what lists methods needs no torch
    from shiftgym_agents.core.agent import Agent

GROUP = "shiftgym.methods"


def in_file(name: str) -> bool:
    """Say whether a name is of a class in a file: `my_file.py:MyMethod`, or the file alone."""
    return name.rpartition(":")[0].endswith(".py") or name.endswith(".py")


def short_name(name: str) -> str:
    """Give the part of a method's name that a folder can be called by: `iql`, `MyMethod`."""
    return name.rpartition(":")[2]


def from_file(name: str) -> type[Agent]:
    """Load the method `my_file.py:MyMethod`.

    Raises:
        DomainError: There is no such class in the file, or it is no method; the message says why.
        ShiftgymError: The file cannot be read or run.
    """
    file, attribute = _parts(name)
    module = load_module(file)
    methods = methods_in(module)
    if not attribute:
        listed = " or ".join(f"{file}:{each}" for each in methods) or "a subclass of Agent in it"
        raise DomainError(f"Name the class, too: {listed}.")
    if not hasattr(module, attribute):
        raise DomainError(f"{file} has no class {attribute!r}. {nearest(attribute, methods)}")
    return checked(getattr(module, attribute), f"{file}:{attribute}")


def methods_in(module: ModuleType) -> list[str]:
    """Name the methods that a module itself defines, in order."""
    from shiftgym_agents.core.agent import Agent

    return [
        name
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and issubclass(value, Agent)
        and value.__module__ == module.__name__
        and not inspect.isabstract(value)
    ]


def checked(kind: Any, name: str) -> type[Agent]:
    """Give a class back if it is a method: an agent with hyperparameters and a preset.

    Raises:
        DomainError: The message says what it lacks.
    """
    from shiftgym_agents.core.agent import Agent, Config

    if not (inspect.isclass(kind) and issubclass(kind, Agent)):
        raise DomainError(f"{name} is no method: it must be a class that extends Agent, or IQL.")
    if missing := sorted(getattr(kind, "__abstractmethods__", ())):
        raise DomainError(f"{name} is not a whole method: it lacks {', '.join(missing)}.")
    config, presets = getattr(kind, "config_class", None), getattr(kind, "presets", None)
    if not (inspect.isclass(config) and issubclass(config, Config)):
        raise DomainError(f"{name} needs config_class, a dataclass that extends Config.")
    if not isinstance(presets, Mapping) or "ours" not in presets:
        raise DomainError(f"{name} needs presets = {{'ours': {config.__name__}()}}.")
    for preset, values in presets.items():
        if not isinstance(values, config):
            raise DomainError(
                f"{name}: preset {preset!r} is a {type(values).__name__}, but config_class is "
                f"{config.__name__}: a method with hyperparameters of its own has presets of its "
                "own."
            )
    return kind


def offered() -> dict[str, list[EntryPoint]]:
    """List what installed packages offer in the group `shiftgym.methods`, by name."""
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, []).append(point)
    return found


def from_package(name: str) -> type[Agent]:
    """Load a method that an installed package offers.

    Raises:
        DomainError: Two packages offer it, or what is offered is no method.
        ShiftgymError: Importing it failed.
    """
    points = offered()[name]
    if len(points) > 1:
        packages = " and ".join(sorted(_package(point)["package"] for point in points))
        raise DomainError(f"{packages} both offer a method {name!r}: uninstall one of them.")
    where = f"{name} of {_package(points[0])['package']}"
    try:
        kind = points[0].load()
    except ShiftgymError:
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise ShiftgymError(f"{where} cannot be imported: {what}") from error
    return checked(kind, where)


def described(name: str) -> dict[str, Any]:
    """Give what a run directory keeps of a method: what it is called, and where it came from.

    Returns:
        `{"method": "my_file.py:MyMethod", "origin": {"file": .., "sha256": ..}}`, or an origin
        `{"package": .., "version": ..}`.
    """
    if in_file(name):
        file, attribute = _parts(name)
        path = Path(file).resolve()
        digest = hashlib.sha256(read_plain(path, LARGEST)).hexdigest()
        origin = {"file": str(path), "sha256": digest}
        return {"method": f"{path.name}:{attribute}", "origin": origin}
    return {"method": name, "origin": _package(offered()[name][0])}


def recalled(about: Mapping[str, Any], out: Path) -> str:
    """Give the name by which a run directory's method is found again.

    Raises:
        ShiftgymError: Its file is gone, or its package is not installed; the message says which.
    """
    name, origin = about["method"], about.get("origin") or {}
    if file := origin.get("file"):
        if not Path(file).is_file():
            raise ShiftgymError(
                f"The method of {out}, {name}, came from {file}, which is not there any more: put "
                f"the file back, or correct origin.file in {out / 'config.json'}."
            )
        return f"{file}:{name.rpartition(':')[2]}"
    if (package := origin.get("package")) and name not in offered():
        raise ShiftgymError(
            f"The method of {out}, {name}, came from the package {package} "
            f"{origin.get('version', '')}, which is not installed here."
        )
    return name


def _parts(name: str) -> tuple[str, str]:
    """Split `my_file.py:MyMethod`; the class is empty where it was left out."""
    return (
        (name, "") if name.endswith(".py") else (name.rpartition(":")[0], name.rpartition(":")[2])
    )


def _package(point: EntryPoint) -> dict[str, str]:
    if point.dist is None:
        return {"package": "an unnamed package", "version": ""}
    return {"package": point.dist.name, "version": point.dist.version}

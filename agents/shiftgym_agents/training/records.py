"""Read what a run directory says of itself, and refuse what no training wrote.

`config.json` and `result.json` are compared with the shapes below before anything is made of them,
so that a damaged or foreign file is one sentence, whoever reads it.
"""

from __future__ import annotations

import dataclasses
import math
import types
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.ranges import Seed, ranges_of
from shiftgym.scores import Reference
from shiftgym_agents.data.places import Place, from_record
from shiftgym_agents.training.artifacts import read_json

if TYPE_CHECKING:  # what acts with a trained run needs no torch
    from shiftgym_agents.core.agent import Config

NOTHING = type(None)
RUN = {
    "source": str,
    "target": str,
    "seed": Seed,
    "domain": (
        {"robot": str, "shift": str | dict | None},
        {"env": str, "options": dict, "own": bool},
        None,
    ),
    "reference": dict | None,
}
ABOUT = {"method": str, "config": dict, "runs": [RUN]}
RESULT = {"seconds": float}


def read_about(out: Path) -> dict[str, Any]:
    """Read `config.json`: what a run directory trains.

    Raises:
        ShiftgymError: This is no run directory of a method, or the file is damaged.
    """
    about = read_json(out / "config.json")
    _require(about, ABOUT, out / "config.json")
    each = about.get("configs", [about["config"]] * len(about["runs"]))
    if not fits(each, [dict]) or len(each) != len(about["runs"]):
        raise _damaged(out / "config.json", "configs")
    if not fits(about.get("origin"), dict | None):
        raise _damaged(out / "config.json", "origin")
    for entry in about["runs"]:
        reference_of(entry, out)
    return about


def read_result(out: Path) -> dict[str, Any] | None:
    """Read `result.json`; None where training is not over.

    Raises:
        ShiftgymError: The file is damaged.
    """
    if not (out / "result.json").exists():
        return None
    result = read_json(out / "result.json")
    _require(result, RESULT, out / "result.json")
    return result


def reference_of(entry: dict[str, Any], out: Path) -> Reference | None:
    """Give the returns that count as 0 and 100 for a run; None where there are none.

    Raises:
        ShiftgymError: What `config.json` says of them is damaged.
    """
    if entry["reference"] is None:
        return None
    try:
        found = Reference(**entry["reference"])
    except TypeError:
        raise _damaged(out / "config.json", "reference") from None
    if not fits([found.random, found.expert], [float]) or found.random == found.expert:
        raise _damaged(out / "config.json", "reference")
    return found


def domain_of(entry: dict[str, Any], out: Path) -> Place:
    """Give the place that a run is evaluated in.

    Raises:
        ShiftgymError: What `config.json` says of it is damaged.
    """
    try:
        return from_record(entry["domain"])
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise ShiftgymError(f"{out / 'config.json'} is damaged: domain: {error}") from None


def configs_of(about: dict[str, Any], kind: type[Config], out: Path) -> list[Config]:
    """Give every run's configuration.

    Raises:
        ShiftgymError: It is none of this method, or damaged.
    """
    each = about.get("configs", [about["config"]] * len(about["runs"]))
    hints = get_type_hints(kind, include_extras=True)
    names = {field.name for field in dataclasses.fields(kind)}
    for plain in each:
        wrong = names.symmetric_difference(plain)
        wrong |= {name for name in names & plain.keys() if not fits(plain[name], hints[name])}
        if wrong:
            raise _damaged(out / "config.json", f"config: {', '.join(sorted(wrong)[:5])}")
    return [kind(**plain) for plain in each]


def fits(value: Any, shape: Any) -> bool:
    """Say whether a JSON value has a shape: a type, `[shape]` of some, or `{name: shape}`.

    A tuple is of shapes of which it has one.
    """
    if isinstance(shape, tuple):
        return any(fits(value, inner) for inner in shape)
    if isinstance(shape, dict):
        named = isinstance(value, dict) and shape.keys() <= value.keys()
        return named and all(fits(value[name], inner) for name, inner in shape.items())
    if isinstance(shape, list):
        some = isinstance(value, list) and len(value) > 0
        return some and all(fits(each, shape[0]) for each in value)
    if get_origin(shape) is Literal:
        return any(type(value) is type(each) and value == each for each in get_args(shape))
    if get_origin(shape) in (Union, types.UnionType):
        return any(fits(value, inner) for inner in get_args(shape))
    if get_origin(shape) is Annotated:
        (allowed,) = ranges_of(shape)
        return value in allowed
    if shape is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and abs(value) < 1e300 and math.isfinite(value)
    return isinstance(value, NOTHING if shape is None else shape)


def _require(found: dict[str, Any], shapes: dict[str, Any], path: Path) -> None:
    for name, shape in shapes.items():
        if name not in found or not fits(found[name], shape):
            raise _damaged(path, name)


def _damaged(path: Path, what: str) -> ShiftgymError:
    return ShiftgymError(f"{path} is damaged: {what} is missing, or not what a training writes.")

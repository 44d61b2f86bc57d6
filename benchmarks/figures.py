"""What benchmarks write beside their figures: the processor, its load, versions; and the file."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import tyro

from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.machine import processor_name, usable_cpus

T = TypeVar("T")


def command(
    main: Callable[[T], int | None], options: type[T], about: str | None, failed: int = 0
) -> None:
    """Run a benchmark with the options of its command line, and end the process with its status.

    What the user can mend is told in a line, and ends it with `failed`, or else as `shiftgym` does.
    """
    flags = (tyro.conf.FlagCreatePairsOff,)
    try:
        sys.exit(main(tyro.cli(options, description=about, config=flags)))
    except ShiftgymError as error:
        print(f"{Path(sys.argv[0]).stem}: {error}", file=sys.stderr)
        sys.exit(failed or error.exit_code)


def load() -> float:
    """Give how many processes wanted the cores in the last minute: ask before the start."""
    return round(os.getloadavg()[0], 2)


def machine(load_before: float) -> dict[str, Any]:
    """Describe the hardware and how busy it was."""
    found = {"cpu": processor_name(), "cores": usable_cpus(), "system": platform.system()}
    return found | {"load_before": load_before}


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Give the versions of Python and of what took part, as far as it is installed."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write(out: Path | None, found: Mapping[str, Any], say: bool = True) -> None:
    """Write figures as JSON where `out` says so."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(found, indent=1) + "\n")
        if say:
            print(f"Wrote {out}")

"""What benchmarks write beside their figures: the processor, its load, versions; and the file."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from shiftgym.basics.machine import processor_name, usable_cpus


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

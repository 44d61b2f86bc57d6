"""What this machine gives a process."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def usable_cpus() -> int:
    """Count the CPUs this process may run on; all of them where the system cannot say."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux has it, macOS and Windows do not
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def processor_name() -> str:
    """Name the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()

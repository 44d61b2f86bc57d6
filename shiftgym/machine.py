"""What this machine gives a process."""

from __future__ import annotations

import os


def usable_cpus() -> int:
    """Count the CPUs this process may run on; all of them where the system cannot say."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux has it, macOS and Windows do not
    return len(affinity(0)) if affinity else os.cpu_count() or 1

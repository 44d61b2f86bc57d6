"""Test that nothing depends on calls that only some systems have."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from shiftgym_helpers import run_python

from shiftgym.machine import usable_cpus

ROOT = Path(__file__).parents[2]
SOURCES = [
    path
    for folder in ("shiftgym", "agents", "dataset_tools", "benchmarks", "examples", "docs")
    for path in (ROOT / folder).rglob("*.py")
]
ELSEWHERE = """
import os
del os.sched_getaffinity
if hasattr(os, "register_at_fork"):
    del os.register_at_fork, os.fork
from shiftgym.machine import usable_cpus
assert usable_cpus() == os.cpu_count()
import shiftgym
for envs in (shiftgym.make_vec("hopper", 3), shiftgym.domain("pen").make()):
    envs.reset(seed=0)
    envs.step(envs.action_space.sample())
"""


def test_cpus_are_counted_with_and_without_affinity(monkeypatch: pytest.MonkeyPatch):
    if hasattr(os, "sched_getaffinity"):
        assert usable_cpus() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert usable_cpus() == os.cpu_count()
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cpus() == 1


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="already such a system")
def test_environments_work_where_linux_calls_are_missing():
    done = run_python(ELSEWHERE)
    assert done.returncode == 0, done.stderr


def test_cpus_are_counted_in_one_place_alone():
    asks = re.compile(r"sched_getaffinity|cpu_count\(\) or|or os\.cpu_count")
    found = [path.name for path in SOURCES if asks.search(path.read_text(encoding="utf-8"))]
    assert found == ["machine.py"]

"""Fixtures that say what this machine has: OpenGL, and the published data."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PUBLISHED_VARIABLE = "SHIFTGYM_PUBLISHED"  # folder of published HDF5 files
GL_PROBE = """
import gymnasium as gym, shiftgym
env = gym.make("ShiftHopper-v0", render_mode="rgb_array", width=32, height=32)
env.reset(seed=0)
assert env.render().shape == (32, 32, 3)
"""

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as under nohup, and children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def published() -> Path:
    """Give the folder of published HDF5 files, or skip."""
    folder = os.environ.get(PUBLISHED_VARIABLE)
    if not folder:
        pytest.skip(f"{PUBLISHED_VARIABLE} is not set to a folder of published HDF5 files")
    return Path(folder)


@cache
def _why_no_gl(backend: str) -> str | None:
    """Try to render in another process, because a broken OpenGL may abort it."""
    command = [sys.executable, "-c", GL_PROBE]
    environment = os.environ | {"MUJOCO_GL": backend}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
    except subprocess.TimeoutExpired:
        return "rendering takes more than two minutes"
    return None if done.returncode == 0 else (done.stderr.strip() or "aborted").splitlines()[-1]


@pytest.fixture
def gl(monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the OpenGL backend to render with, or skip."""
    backend = os.environ.get("MUJOCO_GL") or "egl"
    reason = _why_no_gl(backend)
    if reason is not None:
        pytest.skip(f"no OpenGL here with MUJOCO_GL={backend}: {reason}")
    monkeypatch.setenv("MUJOCO_GL", backend)
    return backend

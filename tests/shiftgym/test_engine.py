"""Test what is said of engines that shiftgym cannot use, or on which robots are others."""

from __future__ import annotations

import re
import tomllib
import warnings
from pathlib import Path

import mujoco
import pytest
from shiftgym_helpers import run_python

from shiftgym import EngineError, ShiftgymError
from shiftgym.engine import check_version

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
FAKE = """
import sys
from pathlib import Path

folder = Path(sys.argv[1]) / "mujoco"
folder.mkdir()
(folder / "__init__.py").write_text(sys.argv[2])
sys.path.insert(0, sys.argv[1])
import shiftgym
try:
    shiftgym.domain("hopper").make()
except shiftgym.ShiftgymError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("version", ["2.3.7", "3.3.7", "3.16.1"])
def test_an_old_engine_is_refused_with_the_fix(version: str):
    with pytest.raises(EngineError, match=f"this is {version}.*pip install 'mujoco>=3.17,<4'"):
        check_version(version)


@pytest.mark.parametrize("version", ["3.17.0", "3.17.1", "3.18.0.dev3", "3.20.0"])
def test_an_engine_within_the_pins_is_taken_quietly(version: str):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_version(version)


@pytest.mark.parametrize("version", ["4.0.0", "4.0.1", "4.2.0", "5.0.0"])
def test_a_newer_engine_is_warned_of_with_the_robots_that_differ(version: str):
    with pytest.warns(UserWarning, match="Ant and Pen are other robots.*'mujoco>=3.17,<4'"):
        check_version(version)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("__version__ = '3.3.7'", "EngineError shiftgym needs MuJoCo 3.17 or newer, and this is 3"),
        (
            "raise ImportError(\"core bindings ('mujoco-core') are missing\")",
            "EngineError MuJoCo is installed in parts.*pip uninstall -y mujoco mujoco-core",
        ),
    ],
)
def test_making_an_environment_says_what_is_wrong_with_the_engine(tmp_path, source: str, said: str):
    done = run_python(FAKE, str(tmp_path), source)
    assert re.search(said, done.stdout), done.stdout + done.stderr
    assert issubclass(EngineError, ShiftgymError) and issubclass(EngineError, ImportError)


def test_the_pins_admit_what_the_check_takes_quietly():
    wanted = tomllib.loads(PROJECT.read_text())["project"]["dependencies"]
    assert "mujoco>=3.17,<4" in wanted
    check_version(mujoco.__version__)

"""Run this folder's tests in a process of their own: the stand-in must be loaded before torch."""

from __future__ import annotations

import multiprocessing
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
MAKEFILE = HERE.parents[2] / "Makefile"


def may_lack(said: str) -> bool:
    """Say whether there may be no stand-in here: it compiles with the tested PyTorch, at least."""
    (tested,) = re.findall(r"^TORCH \?= torch==([\d.]+)$", MAKEFILE.read_text(), re.M)
    mine = "does not compile" in said and "no C++ compiler" not in said
    return not (mine and version("torch").partition("+")[0] == tested)


class Child:
    """A process with the stand-in, started when it is first asked."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.calls: Connection | None = None

    def start(self) -> Connection:
        ours, theirs = multiprocessing.Pipe()
        command = [sys.executable, "-m", "shiftgym_agents.standin", str(HERE / "child.py")]
        environment = os.environ | {"STANDIN_CALLS": str(theirs.fileno())}
        self.process = subprocess.Popen(
            command,
            env=environment,
            pass_fds=[theirs.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        theirs.close()
        return ours

    def call(self, module: str, function: str, arguments: dict[str, Any]) -> str | None:
        self.calls = self.calls or self.start()
        try:
            self.calls.send((module, function, arguments))
            return self.calls.recv()
        except (EOFError, BrokenPipeError):
            assert self.process is not None and self.process.stderr is not None
            said = self.process.stderr.read().strip()
            self.calls = None
            if said.startswith("stand-in:") and may_lack(said):
                pytest.skip(said)
            return f"the process ended: {said[-2000:]}"

    def stop(self) -> None:
        if self.calls is not None:
            self.calls.close()
        if self.process is not None and self.process.stderr is not None:
            self.process.wait(30)
            self.process.stderr.close()


_child = Child()


@pytest.fixture(scope="session", autouse=True)
def standin() -> Iterator[None]:
    yield
    _child.stop()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Call the test over there."""
    if HERE not in pyfuncitem.path.parents:
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    wrong = _child.call(pyfuncitem.path.stem, pyfuncitem.originalname, arguments)
    if wrong is not None:
        pytest.fail(wrong, pytrace=False)
    return True

"""Call functions of test modules in a process that has the stand-in device."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]


def serve(calls: Connection) -> None:
    """Answer (module, function, arguments) with None, or with what went wrong."""
    torch.set_num_threads(1)
    while True:
        try:
            module, function, arguments = calls.recv()
        except EOFError:
            return
        calls.send(call(getattr(importlib.import_module(module), function), arguments))


def call(function: Any, arguments: dict[str, Any]) -> str | None:
    from shiftgym_agents.standin.machine import machine

    torch.manual_seed(0)
    machine().capture = None
    machine().counts.clear()
    try:
        function(**arguments)
    except BaseException:
        return traceback.format_exc()
    return None


if __name__ == "__main__":
    serve(Connection(int(os.environ["STANDIN_CALLS"])))

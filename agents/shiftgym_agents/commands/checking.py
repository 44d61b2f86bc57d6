"""Check methods in a process whose PyTorch has a GPU, or a stand-in: see `check_method`."""

from __future__ import annotations

import sys
from typing import Any

import torch

from shiftgym.basics.errors import DomainError, ShiftgymError, nearest
from shiftgym.basics.own_code import load_module
from shiftgym_agents.core.agent import Agent
from shiftgym_agents.core.capturing import line_of
from shiftgym_agents.methods.outside import checked, methods_in, short_name
from shiftgym_agents.methods.table import method
from shiftgym_agents.training.checking import compare, shrunk, toy_pair


def methods_of(name: str) -> dict[str, type[Agent[Any]]]:
    """Find a method by name, `my_file.py:MyMethod` too, or all those of `my_file.py`.

    Raises:
        DomainError: There is no such method.
        ShiftgymError: The file cannot be run, or has no method.
    """
    if not name.endswith(".py"):
        return {short_name(name): method(name)}
    module = load_module(name)
    found = {each: checked(getattr(module, each), each) for each in methods_in(module)}
    if not found:
        raise ShiftgymError(f"{name} has no method: a class that extends Agent, IQL or TD3.")
    return found


def check(name: str, kind: type[Agent[Any]], preset: str, updates: int) -> bool:
    """Check one preset and print what came of it."""
    config = shrunk(kind.presets[preset], updates)
    pairs = [toy_pair(0), toy_pair(1)]
    exact = torch.cuda.get_device_name() == "stand-in"
    try:
        stages, apart = compare(lambda: kind(config, pairs, [0, 1], "cuda"), updates, exact)
    except ShiftgymError as error:
        print(f"{name}, {preset}: {error}", flush=True)
        return False
    except Exception as error:  # the method's own: it fails on a GPU on any path
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        print(f"{name}, {preset}: fails at {line_of(error)}: {said}", flush=True)
        return False
    where = f"{updates} updates of {', '.join(stages)}"
    if apart:
        print(f"{name}, {preset}: after {where} captured and eager part in {', '.join(apart)}")
        return False
    print(f"{name}, {preset}: captured = eager in {where}", flush=True)
    return True


def main(name: str, preset: str, updates: str) -> int:
    """Check a file's methods.

    Returns:
        0 where all is well, 1 where something parts or fails, 2 where there is nothing to check.
    """
    try:
        found = methods_of(name)
        for kind in found.values():
            if preset and preset not in kind.presets:
                raise DomainError(f"no preset {preset!r}. {nearest(preset, kind.presets)}")
    except ShiftgymError as error:
        print(f"check-method: {error}", file=sys.stderr)
        return error.exit_code
    torch.set_num_threads(1)
    print(f"on {torch.cuda.get_device_name()}, toy data, two runs")
    good = [
        check(each, kind, chosen, int(updates))
        for each, kind in found.items()
        for chosen in ([preset] if preset else kind.presets)
    ]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

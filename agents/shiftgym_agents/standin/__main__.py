"""Run a program with the stand-in: python -m shiftgym_agents.standin [-m MODULE | FILE] ..."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from shiftgym_agents.standin.loading import StandinUnavailableError, load


def main(arguments: list[str]) -> int:
    """Load the stand-in, then become the program.

    Returns:
        2 where there is no program, or no stand-in; else whatever the program exits with.
    """
    module = arguments[:1] == ["-m"]
    program = arguments[1:] if module else arguments
    if not program:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        library = load()
    except StandinUnavailableError as error:
        print(f"stand-in: {error}", file=sys.stderr)
        return 2
    from shiftgym_agents.standin.driver import install

    install(library)
    sys.argv = program
    if module:
        runpy.run_module(program[0], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(Path(program[0]).parent))
        runpy.run_path(program[0], run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The ``shiftgym`` command: a table of commands, each a function in a module of its own."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from importlib import import_module

import tyro

from shiftgym.basics.errors import ShiftgymError, nearest
from shiftgym.basics.terminal import INSTALL, help_without_importing, survive_any_encoding

# name -> (function that tyro turns into a command line, what it does)
COMMANDS = {
    "envs": ("shiftgym.commands.envs:envs", "list the domains and what each one changes"),
    "render": (
        "shiftgym.commands.render:render",
        "make a picture or a video of a domain or a run",
    ),
    "fidelity": ("shiftgym_tools.comparing.fidelity:fidelity", "replay published transition files"),
    "policies": ("shiftgym.commands.policies:policies", "list the packaged behaviour policies"),
    "policies measure": ("shiftgym.commands.policies:measure", "measure a policy anew"),
    "policies train": (
        "shiftgym_tools.behaviours.trainer:train",
        "train behaviour policies with SAC",
    ),
    "policies train-hands": (
        "shiftgym_tools.behaviours.hands.trainer:train",
        "train the hands' policies with PPO",
    ),
    "policies grade": (
        "shiftgym_tools.behaviours.grading:grade",
        "choose and measure trained policies",
    ),
    "policies package": (
        "shiftgym_tools.behaviours.packaging:package",
        "put graded policies into the package",
    ),
    "data list": ("shiftgym.commands.data:list_sets", "list the datasets"),
    "data get": ("shiftgym.commands.data:get", "install datasets for Minari, or fetch them"),
    "data publish": ("shiftgym_tools.publish:publish", "send datasets to a Minari remote"),
    "scores measure": ("shiftgym_tools.reference_scores:measure", "measure reference returns"),
    "data make": ("shiftgym_tools.making.make:make", "make a dataset from behaviour policies"),
    "data package": ("shiftgym_tools.making.target_sets:package", "make the packaged target sets"),
    "data canonical": (
        "shiftgym_tools.making.canonical_sets:canonical",
        "fill the table of checksums of made sets",
    ),
    "data import": ("shiftgym_tools.importers:import_dataset", "import D4RL, OTDF, ODRL or Minari"),
    "train": ("shiftgym_agents.commands.train:train", "train an agent on a source and a target"),
    "check-method": (
        "shiftgym_agents.commands.check_method:check_method",
        "check a method of your own for GPUs, without one",
    ),
    "eval": ("shiftgym_agents.commands.evaluate:evaluate", "evaluate trained agents anew"),
    "diagnose": (
        "shiftgym_agents.commands.diagnose:diagnose",
        "does this source help this target? numbers, trials and a verdict, in minutes",
    ),
    "sweep": (
        "shiftgym_agents.commands.sweep:sweep",
        "train a grid of runs: here, on Ray or on Slurm",
    ),
    "leaderboard": (
        "shiftgym_agents.commands.leaderboard:leaderboard",
        "rank the methods of a sweep, with intervals and bars",
    ),
    "report": ("shiftgym_agents.commands.report:report", "tables and curves of trained agents"),
    "export": ("shiftgym_agents.commands.export:export", "write a trained policy as ONNX"),
    "protocols": (
        "shiftgym_agents.commands.protocols:protocols",
        "published experiments, their numbers, and the commands that run them",
    ),
    "data verify": ("shiftgym_tools.checking.verify:verify", "check any dataset, row by row"),
}
EXTRAS = ("torch", "ot", "matplotlib", "tensorboard")  # what the extra [agents] brings
OK, FAILED, BAD_USAGE = 0, 1, 2
INTERRUPTED = 128 + signal.SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; ``sys.argv[1:]`` by default.

    Returns:
        0, 1 (it failed), 2 (bad usage), 130 (Ctrl-C) or 143 (SIGTERM).
    """
    survive_any_encoding()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return OK
    if arguments[0] == "--version":
        from shiftgym import __version__

        print(f"shiftgym {__version__}")
        return OK
    words = 2 if " ".join(arguments[:2]) in COMMANDS else 1
    name, rest = " ".join(arguments[:words]), arguments[words:]
    if name not in COMMANDS:
        print(f"shiftgym: unknown command {name!r}. {nearest(name, COMMANDS)}", file=sys.stderr)
        return BAD_USAGE
    try:
        module, _, function = COMMANDS[name][0].partition(":")
        command = getattr(import_module(module), function)
        command = getattr(command, "for_arguments", lambda _, same=command: same)(rest)
        flags = (tyro.conf.FlagCreatePairsOff,)
        tyro.cli(command, prog=f"shiftgym {name}", args=rest, config=flags)
    except ShiftgymError as error:
        print(f"shiftgym {name}: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        if {"-h", "--help"} & set(rest):
            print(help_without_importing(COMMANDS[name][0], name, error.name))
            return OK
        print(f"shiftgym {name}: needs {error.name}: {INSTALL}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(f"shiftgym {name}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader, such as head, has seen enough
        sys.stderr.close()
    except SystemExit as leaving:  # tyro's own exit: --help, or arguments it cannot read
        return leaving.code if isinstance(leaving.code, int) else BAD_USAGE
    return OK


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(
        ["usage: shiftgym COMMAND [options]      shiftgym COMMAND --help explains one", "", *lines]
    )


if __name__ == "__main__":
    sys.exit(main())

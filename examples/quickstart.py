"""Train five methods for a hopper that 5,000 transitions are known of, and compare them.

Plenty of data of the unshifted hopper (the source) are made first; the target's are in the package.
Run again after an interruption, it goes on where it was.

    python examples/quickstart.py
    python examples/quickstart.py --updates 100000 --out runs/longer
"""

import shlex
import sys
from pathlib import Path

import tyro

from shiftgym.cli import main

GRID = "quickstart"  # sweeps/grids/quickstart.toml: the laptop protocol, fewer seeds


def quickstart(
    updates: int = 20_000,
    device: str = "auto",
    out: Path = Path("runs/quickstart"),
    picture: Path = Path("quickstart/curves.png"),
) -> int:
    """Make the source, train every method with 3 seeds, print scores, draw curves.

    Args:
        updates: Updates per run.
        device: auto, cpu or cuda.
        out: Folder of the run directories.
        picture: Where the learning curves go.
    """
    picture.parent.mkdir(parents=True, exist_ok=True)
    for command in commands(updates, device, out, picture):
        print(f"\n$ shiftgym {command}", flush=True)
        if main(shlex.split(command)) != 0:
            print("Not finished. Run the same command again to go on.", file=sys.stderr)
            return 1
    return 0


def commands(updates: int, device: str, out: Path, picture: Path) -> list[str]:
    """List the commands: train, collect, draw curves, compare with the data and their policy."""
    sweep = f"sweep {GRID} --out {shlex.quote(str(out))}"
    sweep += f" --set steps={updates} every={max(1, updates // 10)}"
    table = shlex.quote(str(out / f"{GRID}.csv"))
    return [
        f"{sweep} --device {device} --checkpoint-minutes 1",
        f"{sweep} --collect",
        f"report {table} --out {shlex.quote(str(picture))}",
        f"leaderboard {table}",
    ]


if __name__ == "__main__":
    sys.exit(tyro.cli(quickstart))

"""Train four agents for a hopper that 5,000 transitions are known of, and compare them.

Plenty of data of the unshifted hopper (the source) are made first; the target's are in the package.
Run again after an interruption, it goes on where it was.

    python examples/quickstart.py
    python examples/quickstart.py --updates 30000 --out runs/longer
"""

import shlex
import sys
from pathlib import Path

import tyro

from shiftgym.cli import main
from shiftgym.datasets.packaged import packaged_index
from shiftgym.scores import MEASURED, default_reference, normalized_score
from shiftgym_agents.reports import report

SOURCE, TARGET = "hopper/medium-100k", "hopper-kinematic/medium"
GENTLE = f"--source {SOURCE} --temperature 1"  # so few updates make 3, the default, too greedy
OPTIONS = {  # pre-training in place of the methods' own, which suit a hundred times as many updates
    "bc": "",
    "iql": GENTLE,
    "otdf": f"{GENTLE} --cvae-steps 2000",
    "tabb": f"{GENTLE} --representation-steps 2000 --finetune-steps 1000 --anchor-steps 2000",
}


def quickstart(
    updates: int = 5_000,
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
    if not run(f"data make {SOURCE}"):
        return 1
    for name in OPTIONS:
        if not (out / name / "result.json").exists():
            run(train_command(name, updates, device, out))
        if not (out / name / "result.json").exists():
            print("Not finished. Run the same command again to go on.", file=sys.stderr)
            return 1
    groups = report.read_groups([out / name for name in OPTIONS])
    picture.parent.mkdir(parents=True, exist_ok=True)
    report.draw_curves(groups, picture)
    own = packaged_index()[TARGET]["return"]
    print(f"\n{report.table(groups)}\n")
    place = TARGET.partition("/")[0]
    table = default_reference(place) or MEASURED
    print(f"{TARGET}, the data themselves: {normalized_score(place, own, table):.1f} ({table})")
    print(f"Scores: 0 random, 100 expert. Curves: {picture}")
    return 0


def train_command(name: str, updates: int, device: str, out: Path) -> str:
    """Write the command that trains one method, or goes on with it."""
    folder = out / name
    command = f"train {name} --target {TARGET} {OPTIONS[name]} --seeds 3 --steps {updates} "
    command += f"--evaluate-every {max(1, updates // 5)} --checkpoint-minutes 1 --device {device} "
    command += f"--out {shlex.quote(str(folder))}"
    return command + (" --resume" if (folder / "config.json").exists() else "")


def run(command: str) -> bool:
    """Run a command of shiftgym; say whether it went well."""
    print(f"\n$ shiftgym {command}", flush=True)
    return main(shlex.split(command)) == 0


if __name__ == "__main__":
    sys.exit(tyro.cli(quickstart))

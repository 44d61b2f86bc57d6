"""Ask VOUCH's two tests about sources of known kind: which join critics, which join the policy?

    python benchmarks/vouch.py --out docs/data/vouch_tests.csv

For each robot, sources of the target's own domain and policy (which ought to join) and of the
unshifted robot (which ought not to join the policy) beside the target's packaged 5,000 transitions,
in the laptop protocol's settings. Printed is the mean weight of source rows in the critics, how far
the second clone's held-out error is of the first one's, by how many deviations it is better, and
what is decided. Nothing is trained but what comes before the policy.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import torch
import tyro

from shiftgym.basics.pages import markdown
from shiftgym.datasets.names import dataset_name
from shiftgym.datasets.pair import Pair
from shiftgym_agents.methods.vouch import VOUCH, VOUCHED, VouchConfig
from shiftgym_agents.sweeps.grid import read_grids
from shiftgym_agents.training.artifacts import write_text
from shiftgym_agents.training.running import run_stage

ROBOTS = ("hopper", "walker2d", "halfcheetah", "ant")
SHIFTS = ("kinematic", "morph", "gravity-x0p5", "friction-x0p5", "friction-x5")
OWN = ("kinematic", "morph")
COLUMNS = ("source", "target", "seed", "vouched", "ratio", "deviations", "joins")


def main(
    robots: tuple[str, ...] = ROBOTS, seeds: int = 3, size: str = "100k", out: Path | None = None
) -> None:
    """Print the table.

    Args:
        robots: whose pairs.
        seeds: from 0.
        size: of sources.
        out: write the rows as CSV here, too.
    """
    torch.set_num_threads(1)
    (grid,) = read_grids("laptop")
    rows: list[tuple[str, ...]] = []
    if out is not None and out.exists():  # robots that were measured before stay
        with out.open(newline="") as file:
            known = [tuple(row) for row in csv.reader(file)][1:]
        rows = [row for row in known if dataset_name(row[1]).domain.robot not in robots]
    for robot in robots:
        asked = [(f"{robot}-{s}/medium-{size}", f"{robot}-{s}/medium") for s in OWN]
        asked += [(f"{robot}/medium-{size}", f"{robot}-{s}/medium") for s in SHIFTS]
        opened = {names: Pair(*names) for names in asked}
        runs = [(names, seed) for names in asked for seed in range(seeds)]
        config = VouchConfig(**grid.config("vouch", robot, {}))
        pairs = [opened[names] for names, _ in runs]
        agent = VOUCH([config] * len(runs), pairs, [seed for _, seed in runs], fast=True)
        for stage in agent.stages()[:-1]:
            run_stage(agent, stage, "captured")
        for run, (names, seed) in enumerate(runs):
            found = (agent.told[VOUCHED], agent.told["clones_ratio"], agent.told["clones_better"])
            numbers = (f"{float(values[run]):.3f}" for values in found)
            rows.append((*names, str(seed), *numbers, f"{float(agent.joins[run]):.0f}"))
        print("\n".join(markdown(COLUMNS, rows[-len(runs) :], "lllrrrr")), flush=True)
        if out is not None:
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
            write_text(out, text.getvalue())


if __name__ == "__main__":
    tyro.cli(main)

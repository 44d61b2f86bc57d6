"""Check the scores that methods learn of source rows against known truth, at a grid's budget.

    python benchmarks/learned_scores.py --grid laptop --pairs hopper-kinematic halfcheetah-morph

A method that keeps or weighs source rows is only itself if its score finds what it looks for:

    dynamics    source = rows of the unshifted robot's medium policy, and as many fresh rows of the
                target's medium policy in the target's own domain: which rows are the latter?
    value       source = rows of the unshifted robot's medium policy and of its expert: which are
                the latter?

Printed is the area under the ROC curve: 0.5 is chance, 1 finds all. Settings are the grid's;
nothing is trained but what comes before the policy. Scores that are learned along with the policy
(DARA's classifiers, DROCO's ensemble) are not among them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

import shiftgym
from shiftgym.datasets.flat import Flat, concatenate
from shiftgym_agents.core.agent import Agent
from shiftgym_agents.data.pairs import ArrayPair
from shiftgym_agents.evaluation.selection import auc
from shiftgym_agents.methods.table import method
from shiftgym_agents.reports.report import lay_out
from shiftgym_agents.sweeps.grid import read_grids
from shiftgym_agents.training.running import run_stage
from shiftgym_tools.making.collect import collect

SCORES = {  # method -> (what it looks for, column of source rows, sign: higher is kept)
    "igdf": ("dynamics", "cosine", 1),
    "otdf": ("dynamics", "deviation", 1),
    "tabb": ("dynamics", "tbm", -1),
    "dvdf-igdf": ("value", "advantage", 1),
    "dvdf-otdf": ("value", "advantage", 1),
}


def main(
    grid: str = "laptop",
    pairs: tuple[str, ...] = ("hopper-kinematic", "halfcheetah-morph"),
    methods: tuple[str, ...] = tuple(SCORES),
    rows: int = 5_000,
    threads: int = 0,
    out: Path | None = None,
) -> None:
    """Print the areas.

    Args:
        grid: whose settings.
        pairs: shifted domains.
        methods: which methods.
        rows: of each half of a source.
        threads: CPU threads; 0 for PyTorch's own choice.
        out: write them as JSON here, too.
    """
    if threads:
        torch.set_num_threads(threads)
    (chosen,) = read_grids(grid)
    lines, told = [("domain", "method", "looks for", "AUC")], []
    for slug in pairs:
        robot = shiftgym.domain(slug).robot
        sources = {
            "dynamics": half(robot, f"{robot}/medium", slug, f"{slug}/medium", rows),
            "value": half(robot, f"{robot}/medium", robot, f"{robot}/expert", rows),
        }
        for name in methods:
            sought, column, sign = SCORES[name]
            source, true = sources[sought]
            target = shiftgym.load(f"{slug}/medium")
            pair = ArrayPair(source, target, shiftgym.domain(slug), (f"{robot}/mixed", slug))
            config = method(name).config_class(**chosen.config(name, robot, {}))
            agent: Agent[Any] = method(name)(config, [pair], [0])
            for stage in agent.stages()[:-1]:
                run_stage(agent, stage, "eager")
            scores = sign * agent.data.columns["source"][column][0].flatten().double().numpy()
            area = auc(scores[: len(true)], true)
            told.append({"domain": slug, "method": name, "sought": sought, "auc": round(area, 4)})
            lines.append((slug, name, sought, f"{area:.3f}"))
            print("  ".join(lines[-1]), flush=True)
    print(f"\n{lay_out(lines)}")
    if out is not None:
        out.write_text(json.dumps(told, indent=1) + "\n")


def half(where: str, policy: str, there: str, other: str, rows: int) -> tuple[Flat, np.ndarray]:
    """Join rows of one behaviour with rows of another; say which are the latter."""
    parts = [
        chunk
        for k, (place, actor) in enumerate(((where, policy), (there, other)))
        for chunk in collect(place, [(actor, rows)], seed=1 + k)
    ]
    return concatenate(parts), np.arange(2 * rows) >= rows


if __name__ == "__main__":
    tyro.cli(main)

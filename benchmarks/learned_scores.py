"""Check the scores that methods learn of source rows against known truth, at a grid's budget.

    python benchmarks/learned_scores.py --grid laptop --pairs hopper-kinematic halfcheetah-morph

A method that keeps or weighs source rows is only itself if its score finds what it looks for:

    dynamics    half of the source is collected in the target's own domain by its medium policy,
                half in the unshifted robot's by that one's: which rows are the former?
    value       half of the source is of the unshifted robot's expert, half of its medium policy:
                which rows are the former? DVDF's ranking is asked without its dynamics score

Printed is the area under the ROC curve: 0.5 is chance, 1 finds all. Settings are the grid's;
nothing is trained but what comes before the policy. Scores that are learned along with the policy
(DARA's classifiers, DROCO's ensemble) are not among them. `selection.py` asks all methods for the
dynamics, on more data and at one budget.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import torch
import tyro

import shiftgym
from shiftgym_agents.data.pairs import ArrayPair
from shiftgym_agents.evaluation.selection import UNUSED, auc, score_source
from shiftgym_agents.evaluation.truth import STREAM_SEEDS, labelled, shuffled, simulate
from shiftgym_agents.methods.table import method
from shiftgym_agents.reports.report import lay_out
from shiftgym_agents.sweeps.grid import read_grids

SOUGHT = {  # method -> what its score looks for
    "igdf": "dynamics",
    "otdf": "dynamics",
    "tabb": "dynamics",
    "dvdf-igdf": "value",
    "dvdf-otdf": "value",
}
ALONE = {"dynamics": {}, "value": {"trade_off": 0.0}}  # the ranking is then the advantage's


def main(
    grid: str = "laptop",
    pairs: tuple[str, ...] = ("hopper-kinematic", "halfcheetah-morph"),
    methods: tuple[str, ...] = tuple(SOUGHT),
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
        for name in methods:
            sought = SOUGHT[name]
            pair, true = source_of(sought, slug, rows)
            settings = chosen.config(name, robot, UNUSED.get(name, {}) | ALONE[sought])
            config = method(name).config_class(**settings)
            found = score_source(method(name), [config], [pair], [0], backend="eager")
            assert found is not None
            area = auc(found[0], true)
            told.append({"domain": slug, "method": name, "sought": sought, "auc": round(area, 4)})
            lines.append((slug, name, sought, f"{area:.3f}"))
            print("  ".join(lines[-1]), flush=True)
    print(f"\n{lay_out(lines)}")
    if out is not None:
        out.write_text(json.dumps(told, indent=1) + "\n")


@cache
def source_of(sought: str, slug: str, rows: int) -> tuple[ArrayPair, np.ndarray]:
    """Pair a target with a source; say which of its rows are sought."""
    if sought == "dynamics":
        made = labelled("mixture", slug, rows=2 * rows)
        return made.pair, made.true
    target = shiftgym.domain(slug)
    robot = shiftgym.domain(target.robot)
    halves = [
        simulate([robot], f"{robot.slug}/{quality}", rows, k * STREAM_SEEDS)[0]
        for k, quality in enumerate(("expert", "medium"))
    ]
    source, true = shuffled(halves, np.random.default_rng(1))
    names = f"{robot.slug}/mixed", f"{slug}/medium"
    return ArrayPair(source, shiftgym.load(names[1]), target, names, None), true


if __name__ == "__main__":
    tyro.cli(main)

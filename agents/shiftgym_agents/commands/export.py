"""``shiftgym export``: a trained policy as a file that other programs run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from shiftgym.basics.plain_files import require_folder
from shiftgym_agents.training.onnx_export import export_onnx
from shiftgym_agents.training.trained import load


def export(
    run: Annotated[Path, tyro.conf.Positional],
    onnx: Path | None = None,
    index: int = 0,
) -> None:
    """Write the deterministic policy of a trained run as an ONNX graph.

    The graph takes observations (N, O) as the environment gives them, scales them itself, and gives
    actions (N, A) in the environment's own bounds, both float32. It is compared with numpy before
    it is written: no action differs by more than 1e-5 of half its range. Needs the package onnx:
    pip install 'shiftgym[onnx]'.

    Example: shiftgym export runs/otdf --onnx policy.onnx --index 1

    Args:
        run: The run directory.
        onnx: Where to write; policy-INDEX.onnx in the run directory by default.
        index: Which of its runs.
    """
    path = require_folder(onnx or run / f"policy-{index}.onnx")
    policy = load(run, index)
    worst = export_onnx(policy, path)
    told = f"{policy.method}, run {index}, seed {policy.seed}, {policy.updates:,} updates"
    print(f"Wrote {path} ({told}; within {worst:.1e} of numpy). How to use it: docs/trained.md")

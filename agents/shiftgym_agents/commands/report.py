"""``shiftgym report``: tables and learning curves of run directories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import tyro

from shiftgym.errors import ShiftgymError
from shiftgym_agents import comparison, protocols
from shiftgym_agents import report as reports


def report(
    run: Annotated[Path, tyro.conf.Positional],
    others: Annotated[tuple[Path, ...], tyro.conf.Positional] = (),
    out: Path | None = None,
    protocol: str | None = None,
    json_: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """Compare run directories: mean score with 95 % bootstrap interval over seeds, IQM, curves.

    Example: shiftgym report runs/bc runs/iql --out curves.png

    With --protocol, runs stand beside the numbers that a paper printed for the same pairs, with
    scores made anew from returns by the paper's reference; what is missing is listed, and so are
    runs that are of no pair of it, or of the other direction.

    Args:
        run: A run directory; unfinished ones are marked.
        others: More of them, to compare.
        out: Where the picture of the learning curves goes; curves.png beside the first run's files
            by default.
        protocol: Compare with a published experiment; shiftgym protocols lists them.
        json_: Print JSON for programs, with every seed's score, and draw nothing unless --out.
    """
    published = None if protocol is None else protocols.protocol(protocol)
    groups = reports.read_groups((run, *others))
    picture = out or (None if json_ or published else run / "curves.png")
    if picture is not None:
        if picture.suffix not in (".png", ".pdf", ".svg"):
            raise ShiftgymError(f"--out {picture}: pictures end in .png, .pdf or .svg.")
        if not picture.parent.is_dir():
            raise ShiftgymError(f"There is no folder {picture.parent}; make it first.")
        reports.draw_curves(groups, picture)
    if published is not None:
        made = comparison.compare(published, groups)
        text = json.dumps(comparison.describe(made), indent=1) if json_ else comparison.table(made)
        print(text if json_ else f"{text}\n\nNext: shiftgym protocols {protocol} --commands")
        return
    if json_:
        found = {"runs": [reports.describe(g) for g in groups], "methods": reports.overall(groups)}
        print(json.dumps(found, indent=1))
        return
    print(reports.table(groups))
    print(f"\nScores: 0 random, 100 expert. Curves: {picture}. Next: shiftgym eval {run}")

"""``shiftgym report``: tables and learning curves of run directories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import tyro

from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.plain_files import require_folder
from shiftgym_agents.commands.members import finish, gather
from shiftgym_agents.reports import comparison, protocols
from shiftgym_agents.reports import report as reports
from shiftgym_agents.reports.results import is_table, read_results


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

    A table that shiftgym sweep --collect wrote (CSV or Parquet) is read like the run directories
    that it was collected from.

    What is no run directory, damaged, or without an evaluation yet is left out and named, and the
    exit code is 1. Runs without a score reference are shown in returns, in a table of their own.

    Args:
        run: A run directory, or a table of many; unfinished ones are marked.
        others: More of them, to compare.
        out: Where the picture of the learning curves goes; curves.png beside the first run's files
            by default.
        protocol: Compare with a published experiment; shiftgym protocols lists them.
        json_: Print JSON for programs, with every seed's score, and draw nothing unless --out.
    """
    published = None if protocol is None else protocols.protocol(protocol)
    left_out: list[str] = []
    read = gather((run, *others), read_any, left_out)
    groups = [group for _, own in read for group in own]
    home = run.parent if is_table(run) else read[0][0]
    picture = out or (None if json_ or published else home / "curves.png")
    if picture is not None:
        if picture.suffix not in (".png", ".pdf", ".svg"):
            raise ShiftgymError(f"--out {picture}: pictures end in .png, .pdf or .svg.")
        reports.draw_curves(groups, require_folder(picture))
    if published is not None:
        made = comparison.compare(published, groups)
        text = json.dumps(comparison.describe(made), indent=1) if json_ else comparison.table(made)
        print(text if json_ else f"{text}\n\nNext: shiftgym protocols {protocol} --commands")
    elif json_:
        found = {"runs": [reports.describe(g) for g in groups], "methods": reports.overall(groups)}
        print(json.dumps(found, indent=1))
    else:
        print(reports.table(groups))
        told = "Scores: 0 random, 100 expert. " if any(group.scored for group in groups) else ""
        after = f"leaderboard {run}" if is_table(run) else f"eval {read[0][0]}"
        print(f"\n{told}Curves: {picture}. Next: shiftgym {after}")
    finish(left_out)


def read_any(path: Path) -> list[reports.Group]:
    """Read the groups of a run directory, or of a table."""
    return read_results(path).groups() if is_table(path) else reports.read_run(path)

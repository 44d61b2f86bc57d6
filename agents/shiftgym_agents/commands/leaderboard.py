"""``shiftgym leaderboard``: rank the methods of collected results, with intervals and bars."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import tyro

from shiftgym.basics.errors import DomainError, ShiftgymError
from shiftgym.datasets.folders import explained
from shiftgym_agents.reports.leaderboard import SCORE, describe, join_variants, sections, table
from shiftgym_agents.reports.leaderboard_page import page as write_page
from shiftgym_agents.reports.results import ENDINGS, is_table, read_results
from shiftgym_agents.training.artifacts import ELSEWHERE, write_text

PICTURES = (".png", ".pdf", ".svg")


def leaderboard(
    results: Annotated[Path, tyro.conf.Positional],
    grids: tuple[str, ...] = (),
    join: bool = False,
    out: Path | None = None,
    page: Path | None = None,
    json_: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """Rank the methods of a sweep: IQM and mean with 95 % intervals, chances of improvement, bars.

    Intervals redraw seeds within every pair (Agarwal et al. 2021). P(> iql-target) and P(> bc) are
    the probabilities that a run beats one of the methods that never see the source. Two bars need
    no learning: the mean score of the target data themselves, and of the policy that made them
    without its noise, over 100 episodes: agents act without noise, so that beating the data alone
    may mean no more. A score is bold (marked * here) where its whole interval is above the whole
    intervals of both. Returns, where nothing says what they are worth, have tables of their own,
    one per environment, and no bar of a policy that nobody knows.

    Example: shiftgym leaderboard runs/sweeps/leaderboard.csv --out leaderboard.png

    Args:
        results: The table that shiftgym sweep GRID --collect wrote, CSV or Parquet.
        grids: Only these of its grids; all by default.
        join: Show a grid's variants in one table, as methods of their own.
        out: Draw totals, chances and performance profiles here (.png, .pdf, .svg).
        page: Write an HTML page here whose columns sort.
        json_: Print JSON for programs.
    """
    if not is_table(results):
        raise ShiftgymError(
            f"{results} is no table ({', '.join(ENDINGS)}); shiftgym sweep GRID --collect writes "
            "one, and shiftgym report shows run directories."
        )
    if out is not None and out.suffix not in PICTURES:
        raise ShiftgymError(f"--out {out}: pictures end in {', '.join(PICTURES)}.")
    read = read_results(results)
    found = sections(join_variants(read) if join else read)
    names = [section.name for section in found]
    if grids:
        found = [each for each in found if {each.name, each.name.partition(",")[0]} & {*grids}]
    if not found:
        raise DomainError(f"{results} has none of these grids; it has {', '.join(names)}.")
    print(
        json.dumps([describe(section) for section in found], indent=1)
        if json_
        else "\n\n".join(table(section) for section in found)
    )
    written = []
    if out is not None:
        from shiftgym_agents.reports.leaderboard_pictures import draw

        draw(found, out)
        written.append(str(out))
    if page is not None:
        with explained(page, ELSEWHERE):
            page.parent.mkdir(parents=True, exist_ok=True)
        write_text(page, write_page(found))
        written.append(str(page))
    if not json_:
        scored = any(section.unit == SCORE for section in found)
        legend = "Scores: 0 random, 100 expert. * above both bars, intervals and all."
        print(f"\n{legend}" if scored else "\nReturns: nothing says what they are worth.")
        told = f"Wrote {', '.join(written)}. " if written else ""
        published = " --protocol tabb-locomotion" if scored else ""
        print(f"{told}Next: shiftgym report {results}{published}")

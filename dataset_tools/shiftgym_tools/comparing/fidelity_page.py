"""Lay out the fidelity report, as a table for the terminal and as a page for ``docs/``."""

from __future__ import annotations

from collections.abc import Sequence

from shiftgym.basics.pages import markdown, name_versions
from shiftgym_tools.comparing.fidelity_measures import FileReport, Spread

INTRODUCTION = """\
# Fidelity: published transitions, replayed

These files were published with OTDF (ICLR 2025). They were recorded in shifted robots with
mujoco-py on MuJoCo 2.1.0, by people who had nothing to do with shiftgym. Every row is replayed on
its own: the state is rebuilt from `observations`, one environment step is taken with `actions`, and
the result is compared with `next_observations`, `rewards` and `terminals`. The rows are replayed
in their own domain, and again in the unshifted robot, from the same states.

**Error** is the largest absolute difference over all observed positions and velocities after one
step (m, rad, m/s, rad/s). The files store float32 numbers, so 1e-7 to 1e-6 is rounding, carried
through one step; nothing smaller can be expected.
"""

HOW = """\
## How a state is rebuilt

- x (and y for the Ant) is not observed; it is taken as 0, which nothing depends on.
- Hopper and Walker2d clip observed velocities to ±10. The true velocity comes from the step
  before, replayed, when that row belongs to the same episode; a row whose velocity cannot be known
  is left out and counted.
- The Ant's files are 111 wide: 27 numbers and 84 zeros (checked).
- The Ant is paid for the motion of its torso frame as the integrator's last stage left it; how far
  that lags behind the position is known from the row before. An episode's first row starts in step.
- Rare errors above 1e-4 are contacts that switch within the step, on the last bit of the state.
"""


def table(reports: Sequence[FileReport]) -> str:
    """Lay out reports for the terminal."""
    head = ("file", "rows", "error med", "p90", "p99", "source med", "p90", "p99", "ratio",
            "reward med", "max", "terminals")  # fmt: skip
    lines: list[tuple[str, ...]] = [head]
    for report in reports:
        lines.append(
            (
                report.file.removesuffix(".hdf5"),
                str(report.rows),
                *_cells(report.error, "median p90 p99"),
                *_cells(report.source_error, "median p90 p99"),
                f"{report.ratio:.1e}",
                *_cells(report.reward, "median max"),
                _terminals(report),
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    rows = [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    notes = [
        f"{report.file}: rows {_joins(report)} join two episodes (t = terminal); left out."
        for report in reports
        if report.joins
    ]
    notes += [
        f"{report.file}: {report.left_out} rows left out, their clipped velocities are unknown."
        for report in reports
        if report.left_out
    ]
    return "\n".join(rows + notes)


def page(reports: Sequence[FileReport], versions: dict[str, str]) -> str:
    """Lay out reports as a Markdown page."""
    return "\n".join(
        [
            INTRODUCTION,
            f"Made with {name_versions(versions)}; `physics=\"mujoco210\"` unless said "
            "otherwise.\n",
            "```\nshiftgym fidelity FOLDER --out docs/fidelity.md --json docs/data/fidelity.json\n"
            "```\n",
            "The files carry no licence and are not part of shiftgym. The figures as JSON: "
            "[fidelity.json](data/fidelity.json).\n",
            "## One-step error\n",
            *_table(
                ["file", "domain", "rows", "median", "p90", "p99",
                 "unshifted: median", "p90", "p99", "ratio of medians"],
                [
                    [f"`{r.file}`", f"`{r.domain}`", str(r.rows),
                     *_cells(r.error, "median p90 p99"),
                     *_cells(r.source_error, "median p90 p99"), f"{r.ratio:.1e}"]
                    for r in reports
                ],
            ),
            "## Rewards and terminals\n",
            "Difference of the reward in the file's own domain, and rows whose `terminals` equals "
            "the domain's own `terminated`.\n",
            *_table(
                ["file", "reward: median", "p99", "max", "terminals that agree"],
                [
                    [f"`{r.file}`", *_cells(r.reward, "median p99 max"), _terminals(r)]
                    for r in reports
                ],
            ),
            "## Rows that are wrong in the files\n",
            "Where an episode's last row was given the next row as its next observation, it jumps "
            "into another episode's initial state. A row is named here if its error exceeds 1e-2 "
            "and its next observation could have been drawn by a reset. These rows, and rows whose "
            "clipped velocities are unknown, are left out of every figure on this page.\n",
            *_wrong(reports),
            "## Why the physics is corrected\n",
            "MuJoCo has changed since 2.1.0: capsules weigh and rotate exactly, and contact "
            "margins add. `physics=\"installed\"` leaves today's engine alone. The same rows then "
            "miss by as much as below, and the domain is only a few times, not millions of times, "
            "closer than the unshifted robot:\n",
            *_table(
                ["file", "corrected: median", "p90", "installed: median", "p90",
                 "installed, unshifted: median", "ratio of medians"],
                [
                    [f"`{r.file}`", *_cells(r.error, "median p90"),
                     *_cells(r.installed_error, "median p90"),
                     *_cells(r.installed_source_error, "median"),
                     f"{r.installed_ratio:.1f}"]
                    for r in reports
                ],
            ),
            HOW,
        ]
    )  # fmt: skip


def _wrong(reports: Sequence[FileReport]) -> list[str]:
    found = [report for report in reports if report.joins or report.left_out]
    if not found:
        return ["None in these files.\n"]
    rows = [[f"`{r.file}`", _joins(r) or "none", str(r.left_out)] for r in found]
    headings = ["file", "rows that join two episodes (0-based; t: marked terminal)", "left out"]
    return [*_table(headings, rows), "No such rows in the other files.\n"]


def _joins(report: FileReport) -> str:
    return ", ".join(
        f"{row}" if row in report.joins_bootstrapped else f"{row}t" for row in report.joins
    )


def _terminals(report: FileReport) -> str:
    judged = report.rows - report.left_out - len(report.joins)
    return f"{judged - report.terminals_wrong}/{judged}"


def _cells(spread: Spread, names: str) -> list[str]:
    values = (getattr(spread, name) for name in names.split())
    return ["-" if value is None else f"{value:.1e}" for value in values]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    align = "".join("r" if cell[:1].isdigit() else "l" for cell in rows[0])
    return [*markdown(head, rows, align), ""]

"""``shiftgym protocols``: published experiments, their numbers, and the commands that run them."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from shiftgym.basics.errors import DomainError, ShiftgymError, nearest
from shiftgym.datasets.listing import makeable
from shiftgym.datasets.load import locate
from shiftgym.datasets.names import DatasetName
from shiftgym_agents.methods.table import method
from shiftgym_agents.reports import comparison
from shiftgym_agents.reports.protocols import UNKNOWN, Protocol, Row, names, protocol
from shiftgym_agents.reports.report import lay_out
from shiftgym_agents.reports.results import read_results

WIDTH = 100
SIDES = {
    "shifted target": "source data of the unshifted robot, few transitions of the shifted one",
    "shifted source": "source data of the shifted robot, few transitions of the unshifted one",
}


def protocols(
    name: Annotated[str | None, tyro.conf.Positional] = None,
    methods: tuple[str, ...] = (),
    robot: str | None = None,
    commands: bool = False,
    results: Path | None = None,
    json_: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """List published experiments, or show one: its numbers and the commands that run it anew.

    A protocol is a grid of pairs (source dataset -> target dataset), the methods of a paper, and
    the scores it printed. In one direction the target is shifted (OTDF, TABB), in the other the
    source is (DROCO, DVDF): numbers of the two never compare. bc and iql-target, which train on the
    target alone, are added to each: they tell what a source is worth.

    Example: shiftgym protocols otdf-morph --robot hopper --methods otdf bc

    To run a part of one: shiftgym protocols otdf-morph --methods otdf --commands > run.sh,
    then sh run.sh, and shiftgym report runs/otdf-morph/* --protocol otdf-morph to compare. To run
    all of it, on several machines if need be: shiftgym sweep otdf-morph.

    Args:
        name: The protocol to show; all are listed without it.
        methods: Commands of these methods; all that are in the package by default.
        robot: Pairs of this robot only.
        commands: Print the commands alone, for a shell.
        results: A table that shiftgym sweep --collect wrote: show it beside the published numbers.
        json_: Print JSON for programs.
    """
    if name is None:
        shown = [protocol(each) for each in names()]
        if methods or robot or commands or results:
            raise DomainError("Say of which protocol: shiftgym protocols otdf-morph ...")
        print(json.dumps([outline(each) for each in shown], indent=1) if json_ else listing(shown))
        return
    found = protocol(name)
    for wanted in methods:
        if wanted in found.missing_methods:
            raise DomainError(f"{wanted} is not in this package; its published numbers are shown.")
        method(wanted)
    if results is not None:
        made = comparison.compare(found, read_results(results).groups())
        print(json.dumps(comparison.describe(made), indent=1) if json_ else comparison.table(made))
        return
    rows = _rows(found, robot)
    lines = [each for key in methods or found.methods for each in found.commands(key, robot)]
    made, lacking = data_commands(rows)
    if commands:
        print("\n".join([f"# {text}" for text in lacking] + made + lines))
    elif json_:
        pairs = [_json(row) for row in rows]
        about = {"pairs": pairs, "totals": dict(found.totals), "data": made, "not_here": lacking}
        print(json.dumps(outline(found) | about | {"commands": lines}, indent=1))
    else:
        print("\n".join([*head(found), "", table(found, rows), ""]))
        if not found.rows:
            print("Its pairs are not known: there is nothing to train or to compare.")
            return
        if lacking:
            print("\n".join(["Data that have to be imported:", *lacking, ""]))
        print("\n".join(["Data to be made first:", *made, ""] if made else []))
        print(
            "\n".join([f"Training ({len(lines)} commands; --commands prints them alone):", *lines])
        )
        print(f"\nNext: shiftgym report runs/{name}/* --protocol {name}")


def listing(shown: Sequence[Protocol]) -> str:
    """Lay out one line per protocol."""
    lines = [("protocol", "direction", "pairs", "methods", "numbers", "what")]
    for each in shown:
        here = f"{len(each.columns)}, {len(each.columns) - len(each.missing_methods)} here"
        numbers = f"{_numbers(each)} of {each.size * len(each.columns)}"
        lines.append((each.name, each.direction, str(each.size), here, numbers, each.title))
    ends = "\n".join(f"{side}: {text}." for side, text in SIDES.items())
    sources = "\n".join(_wrapped(f"{each.name}: {each.source}.") for each in shown)
    return f"{lay_out(lines)}\n\n{ends}\n\n{sources}\n\nNext: shiftgym protocols {shown[0].name}"


def head(found: Protocol) -> list[str]:
    """Say what a protocol is, where its numbers come from, and what to know about them."""
    references = sorted({row.reference for row in found.rows})
    scores = f"scores by the reference returns of {' and '.join(references)}; " * bool(references)
    told = [
        f"{found.name}: {found.title}",
        f"{found.direction}: {SIDES[found.direction]}",
        f"{scores}{found.seeds} seeds, {found.steps:,} updates",
        f"numbers: {found.source}",
        *(f"- {remark}" for remark in found.remarks),
    ]
    if found.missing_methods:
        told.append(f"- Not in this package, numbers only: {', '.join(found.missing_methods)}.")
    return [_wrapped(text) for text in told]


def table(found: Protocol, rows: Sequence[Row]) -> str:
    """Lay out the published scores of some rows, and the totals where all are shown."""
    lines = [("source", "target", *(each.label for each in found.columns.values()))]
    for row in rows:
        cells = [
            row.published[key].text if key in row.published else UNKNOWN for key in found.columns
        ]
        lines.append((str(row.source), str(row.target), *cells))
    if found.totals and len(rows) == len(found.rows):
        totals = [str(found.totals.get(key, UNKNOWN)) for key in found.columns]
        lines.append(("total", f"{found.size} pairs", *totals))
    return lay_out(lines)


def data_commands(rows: Sequence[Row]) -> tuple[list[str], list[str]]:
    """Say what brings the datasets that are not here: commands, and names no command makes."""
    made: list[str] = []
    lacking: list[str] = []
    recipes = {(name.domain.slug, name.quality) for name in makeable()}
    for name in dict.fromkeys(name for row in rows for name in (row.source, row.target)):
        if not _is_here(name):
            known = (name.domain.slug, name.quality) in recipes
            missing = f"{name}: no packaged policy makes it (shiftgym data import --help)"
            made.append(f"shiftgym data make {name}") if known else lacking.append(missing)
    return made, lacking


def outline(found: Protocol) -> dict[str, Any]:
    """Describe a protocol without its pairs, as JSON."""
    return {
        "name": found.name,
        "title": found.title,
        "direction": found.direction,
        "size": found.size,
        "numbers": _numbers(found),
        "seeds": found.seeds,
        "steps": found.steps,
        "source": found.source,
        "remarks": list(found.remarks),
        "methods": {
            key: {"label": each.label, "preset": each.preset, "here": key in found.methods}
            for key, each in found.columns.items()
        },
    }


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent="  ")


def _json(row: Row) -> dict[str, Any]:
    published = {key: {"mean": cell.mean, "std": cell.std} for key, cell in row.published.items()}
    about = {"source": str(row.source), "target": str(row.target), "reference": row.reference}
    return about | {"published": published}


def _rows(found: Protocol, robot: str | None) -> list[Row]:
    there = dict.fromkeys(row.target.domain.robot for row in found.rows)
    if robot is not None and robot not in there:
        raise DomainError(f"{found.name} has no pair of {robot!r}. {nearest(robot, there)}")
    return [row for row in found.rows if robot in (None, row.target.domain.robot)]


def _numbers(found: Protocol) -> int:
    return sum(len(row.published) for row in found.rows)


def _is_here(name: DatasetName) -> bool:
    try:
        locate(name)
    except ShiftgymError:
        return False
    return True

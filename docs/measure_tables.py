"""Tables of what sets measure, for the pages that docs/make_*.py write; not a maker itself."""

from __future__ import annotations

import json
import statistics
from functools import cache
from typing import Any

from make_measures import MEASURES, MISSED, PUBLISHED

from shiftgym.basics.pages import interval, markdown
from shiftgym_tools.comparing.bands import (
    POINTS,
    SHARES,
    TIMES,
    points_off,
    share_of_maximum,
    top_set,
)
from shiftgym_tools.comparing.published_sets import Published, read_table

COLUMNS = (  # measure, its head, how it is written
    ("mean_return", "return", ",.0f"),
    ("length", "length", ",.0f"),
    ("speed", "speed", ".2f"),
    ("change", "change", ".2f"),
    ("noise", "noise", ".2f"),
    ("saturated", "saturated", ".1%"),
    ("episodes", "episodes", ",d"),
)
FEW = 3  # values that have no median worth telling
HOW_TO_COMPARE = """\
**Return** and **length** are means over whole episodes; **speed** is the observed forward velocity
in m/s, mean over all rows; **change** the root mean square of what an action's numbers change from
step to step; **noise** the root mean square of what a network of the state cannot tell of them on
rows it has not seen; **saturated** the share of an action's numbers within 0.01 of a bound.
**Episodes** count the one that the set's end cuts too. `python docs/make_measures.py` measures.
"""
BESIDE = """\
## Beside the published sets

Ours / that of the same name that accompanies OTDF (ICLR 2025), most of 5,000 transitions too. An
empty place: not measured ([as numbers](data/published_sets.csv)). **Points** are how far our return
lies above the published one, of 100 between OTDF's references.
"""
ALONE = """\
## What the sets measure

The field has published no sets of these domains to lay beside them.
"""


@cache
def ours() -> dict[str, dict[str, Any]]:
    """Read what our sets measure, by name."""
    return json.loads(MEASURES.read_text())


@cache
def theirs() -> dict[str, Published]:
    """Read what the published sets measure, by name."""
    return read_table(PUBLISHED)


@cache
def missed() -> list[dict[str, Any]]:
    """Read which bars are missed."""
    return json.loads(MISSED.read_text())


def earned(measured: dict[str, Any]) -> str:
    """Write what a policy earned in one way of acting, with its interval."""
    return interval(
        measured["return"], measured["return_low"], measured["return_high"], form=",.0f"
    )


def compared(names: list[str]) -> list[str]:
    """Lay out the section that puts sets beside the published ones, or alone."""
    beside = any(name in theirs() for name in names)
    lines = [BESIDE if beside else ALONE, *styles(names), "", HOW_TO_COMPARE]
    return lines + (bars(names) if beside else [])


def styles(names: list[str]) -> list[str]:
    """Lay out the table of measures: ours, or ours / the published set's."""
    beside = any(name in theirs() for name in names)
    heads = [head for _, head, _ in COLUMNS]
    if beside:
        heads.insert(1, "points")
    rows = []
    for name in names:
        published = theirs().get(name)
        cells = [_cell(name, key, form, published) for key, _, form in COLUMNS]
        if beside:
            cells.insert(1, _points(name, published))
        rows.append([f"`{name}`", *cells])
    return markdown(["set", *heads], rows, "l" + "r" * len(heads))


def bars(names: list[str]) -> list[str]:
    """Say which bars these sets miss."""
    domains = {name.partition("/")[0] for name in names}
    rows = [row for row in missed() if row["domain"] in domains]
    lines = ["### Bars", ""]
    lines += [
        f"A medium is to lie within {POINTS:.0f} points of the published one, an expert to earn "
        f"at least {SHARES[0]:g} of the published maximum ({SHARES[1]:g} is its second bar); noise "
        f"and change are to be at most {TIMES:g} times the published set's."
    ]
    if not rows:
        return [*lines, "", "All are reached.", ""]
    lines += [f"Of {7 * len(domains)} bars {len(rows)} are missed:", ""]
    cells = [
        [f"`{row['domain']}`", row["measure"], f"{row['value']:.2f}", f"{row['bar']:g}"]
        for row in rows
    ]
    return [*lines, *markdown(("domain", "measure", "value", "bar"), cells, "llrr"), ""]


def tiers() -> list[str]:
    """Lay out a table of how our tiers compare with the published ones, over all 12 domains."""
    heads = ("return, share of the published", "points", "change, multiple", "noise, multiple")
    rows = []
    for tier in ("medium", "medium-expert", "expert"):
        pairs = [
            (name, ours()[name], row) for name, row in theirs().items()
            if name.endswith(f"/{tier}") and name in ours()
        ]  # fmt: skip
        earned = [(n, o, r) for n, o, r in pairs if o["mean_return"] is not None]
        cells = [
            _spread([o["mean_return"] / r.mean_return for _, o, r in earned], ".2f"),
            _spread([points_off(n.split("/")[0], o["mean_return"], r.mean_return)
                     for n, o, r in earned], "+.1f"),
            _spread([o["change"] / r.change for _, o, r in pairs], ".2f"),
            _spread([o["noise"] / r.noise for _, o, r in pairs if r.noise], ".2f"),
        ]  # fmt: skip
        rows.append([tier, *cells])
    return markdown(("tier", *heads), rows, "lrrrr")


def experts_below(share: float) -> list[str]:
    """List the judged domains whose expert set earns less than a share of the published maximum."""
    slugs = dict.fromkeys(name.split("/")[0] for name in theirs())
    return [
        slug for slug in slugs
        if share_of_maximum(slug, ours()[top_set(slug, ours())]["mean_return"] or 0) < share
    ]  # fmt: skip


def _spread(values: list[float], form: str) -> str:
    if len(values) < FEW:
        return "not measured"
    low, high = min(values), max(values)
    return f"{statistics.median(values):{form}} ({low:{form}} to {high:{form}})"


def _cell(name: str, key: str, form: str, published: Published | None) -> str:
    mine = ours()[name][key]
    text = "" if mine is None else f"{mine:{form}}"
    if published is None:
        return text
    there = getattr(published, key)
    return f"{text} / {'' if there is None else f'{there:{form}}'}".rstrip()


def _points(name: str, published: Published | None) -> str:
    mine = ours()[name]["mean_return"]
    if published is None or mine is None:
        return ""
    return f"{points_off(name.partition('/')[0], mine, published.mean_return):+.1f}"

"""Write a leaderboard as a piece of HTML whose columns sort: a page of its own, or part of one.

It needs nothing else: no network, no library, ASCII only.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from shiftgym_agents.reports.leaderboard import (
    BASES,
    Pair,
    Section,
    bar_text,
    bar_total,
    bold_text,
    cell_of,
    chance,
    describe,
    total_cells,
)
from shiftgym_agents.reports.report import interval

STYLE = """
<style>
.leaderboard { overflow-x: auto; margin: 1em 0; }
.leaderboard table { border-collapse: collapse; font-size: 85%; white-space: nowrap; }
.leaderboard th, .leaderboard td { padding: 0.2em 0.7em; text-align: right; }
.leaderboard th:first-child, .leaderboard td:first-child { text-align: left; }
.leaderboard thead th { cursor: pointer; border-bottom: 1px solid; vertical-align: bottom; }
.leaderboard thead th[aria-sort=descending]::after { content: " \\25BC"; }
.leaderboard thead th[aria-sort=ascending]::after { content: " \\25B2"; }
.leaderboard tbody.bars td { font-style: italic; border-bottom: 1px dotted; }
.leaderboard small { opacity: 0.7; }
</style>
"""
SCRIPT = """
<script>
for (const head of document.querySelectorAll(".leaderboard thead th")) {
  head.tabIndex = 0;
  const sort = () => {
    const row = head.parentNode, body = row.closest("table").querySelector("tbody.methods");
    const place = [...row.children].indexOf(head);
    const now = head.getAttribute("aria-sort");
    const down = place ? now !== "descending" : now === "ascending";
    for (const other of row.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = line => {
      const cell = line.children[place], number = parseFloat(cell.dataset.value);
      return place ? (isNaN(number) ? -Infinity : number) : cell.textContent;
    };
    const lines = [...body.children].sort((a, b) => {
      const x = value(a), y = value(b);
      return (x < y ? 1 : x > y ? -1 : 0) * (down ? 1 : -1);
    });
    body.append(...lines);
  };
  head.addEventListener("click", sort);
  head.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
}
</script>
"""


def page(found: Sequence[Section]) -> str:
    """Write sections as HTML."""
    parts = [STYLE.strip()]
    for section in found:
        about = describe(section)
        parts += [f"<h2>{_plain(section.name)}</h2>", f"<p>{_plain(section.title)}.</p>"]
        parts.append(_total(section, about))
        for robot, pairs in section.by_robot().items():
            parts += [f"<h3>{_plain(robot)}</h3>", _robot(section, about, pairs)]
    return "\n".join([*parts, SCRIPT.strip()]) + "\n"


def _total(section: Section, about: Mapping[str, Any]) -> str:
    heads = ["method", "IQM", "mean", *(f"P(&gt; {_plain(base)})" for base in BASES), "bold"]
    bars = [
        [_cell(told), _cell(""), _cell(bar_total(section, bar)), *[_cell("")] * (1 + len(BASES))]
        for bar, told in section.known_bars.items()
    ]
    lines = []
    for each in about["methods"]:
        iqm, mean = total_cells(each["total"])
        total = each["total"] or {}
        cells = [_cell(each["method"]), _cell(iqm, total.get("iqm"))]
        cells.append(_cell(mean, total.get("mean")))
        for base in BASES:
            won = each["improvement"].get(base)
            cells.append(_cell(chance(won), won and won["mean"]))
        lines.append([*cells, _cell(bold_text(section, each), each["bold"])])
    return _table(heads, bars, lines)


def _robot(section: Section, about: Mapping[str, Any], pairs: Sequence[Pair]) -> str:
    heads = ["method"]
    for source, target in pairs:
        above = "" if source == "none" else f"<small>{_plain(source)} -&gt;</small><br>"
        heads.append(above + _plain(target))
    bars = [
        [_cell(told), *(_cell(bar_text(section.bars.get(t, {}).get(bar))) for _, t in pairs)]
        for bar, told in section.known_bars.items()
    ]
    lines = []
    for each in about["methods"]:
        cells = [_cell(each["method"])]
        for pair in pairs:
            cell = cell_of(each, pair)
            if cell is None:
                cells.append(_cell("-"))
            else:
                seeds = ", ".join("-" if s is None else f"{s:.1f}" for s in cell["scores"])
                cells.append(_cell(interval(dict(cell)), cell["mean"], cell["bold"], seeds))
        lines.append(cells)
    return _table(heads, bars, lines)


def _table(heads: Sequence[str], bars: Sequence[list[str]], lines: Sequence[list[str]]) -> str:
    rows = [f"<tr>{''.join(cells)}</tr>" for cells in bars]
    own = [f"<tr>{''.join(cells)}</tr>" for cells in lines]
    head = "".join(f"<th>{text}</th>" for text in heads)
    return "\n".join(
        [
            '<div class="leaderboard"><table>',
            f"<thead><tr>{head}</tr></thead>",
            '<tbody class="bars">', *rows, "</tbody>",
            '<tbody class="methods">', *own, "</tbody>",
            "</table></div>",
        ]
    )  # fmt: skip


def _cell(text: str, value: float | None = None, bold: bool = False, seeds: str = "") -> str:
    """Write a cell; the number first, its interval smaller."""
    number, gap, rest = text.partition(" [")
    shown = f"<b>{_plain(number)}</b>" if bold else _plain(number)
    shown += f" <small>{_plain(gap[1:] + rest)}</small>" if gap else ""
    told = "" if value is None else f' data-value="{value:.6g}"'
    told += f' title="seeds: {_plain(seeds)}"' if seeds else ""
    return f"<td{told}>{shown}</td>"


def _plain(text: str) -> str:
    return html.escape(text).encode("ascii", "xmlcharrefreplace").decode()

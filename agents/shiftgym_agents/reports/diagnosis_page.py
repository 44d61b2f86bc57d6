"""Write a diagnosis as one HTML page that needs nothing else: no network, no other file."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping
from typing import Any

from shiftgym_agents.reports.diagnosis import Table, tables
from shiftgym_agents.reports.diagnosis_pictures import pictures

COLORS = {"helps": "#1c7c3c", "harms": "#a8261f"}
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1b1b1b; max-width: 1080px;
  margin: 2em auto; padding: 0 1.2em; }
h1 { font-size: 1.35em; margin: 0; } h2 { font-size: 1em; margin: 1.6em 0 0.4em; }
footer { margin-top: 2em; }
p.about, footer { color: #666; font-size: 0.85em; }
.verdict { border-left: 6px solid; padding: 0.5em 1em; margin: 1em 0; background: #f6f6f4; }
.verdict b { font-size: 1.1em; } .verdict ul { margin: 0.4em 0; padding-left: 1.2em; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 1em; }
figure { margin: 0; } figure img { width: 100%; } figcaption { font-size: 0.85em; color: #444; }
div.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85em; font-variant-numeric: tabular-nums; }
th, td { padding: 0.15em 0.8em; text-align: right; white-space: nowrap; }
th { border-bottom: 1px solid #999; font-weight: 600; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
tr.differs td { color: #a8501d; font-weight: 600; }
"""


def page(told: Mapping[str, Any], raw: Mapping[str, Any]) -> str:
    """Write the page.

    Args:
        told: what `Diagnosis.told` holds.
        raw: what `Diagnosis.raw` holds.
    """
    verdict, sample = told["verdict"], told["sample"]
    title = f"{told['source']} \u2192 {told['target']}"
    about = (
        f"{sample['source_rows']} source and {sample['target_rows']} target rows looked at; "
        f"policies evaluated in: {told['domain']}; {told['seconds']:.0f} s."
    )
    if sample["trajectories_cut"]:
        about += " So few trajectories were cut into stretches, which are alike: p is optimistic."
    because = list(verdict["because"])
    if verdict["basis"] == "training":
        because.append(f"Before training: {told['data_alone']['sentence']}")
    color = COLORS.get(verdict["word"], "#777")
    shown = "".join(
        f'<figure><img alt="{_plain(name)}" src="data:image/png;base64,'
        f'{base64.b64encode(picture).decode()}"><figcaption>{_plain(name)}</figcaption></figure>'
        for name, picture in pictures(told, raw).items()
    )
    body = [
        f"<h1>{_plain(title)}</h1>",
        f'<p class="about">{_plain(about)}</p>',
        f'<div class="verdict" style="border-color: {color}"><b>{_plain(verdict["sentence"])}</b>',
        f"<ul>{''.join(f'<li>{_plain(each)}</li>' for each in because)}</ul></div>",
        f'<div class="pictures">{shown}</div>',
        *(_table(each) for each in tables(told)),
        f"<footer>{_plain(_made(told))}</footer>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_plain(title)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _table(table: Table) -> str:
    title, (head, *lines) = table
    rows = []
    for cells in lines:
        mark = ' class="differs"' if "DIFFERS" in cells else ""
        rows.append(f"<tr{mark}>{''.join(f'<td>{_plain(cell)}</td>' for cell in cells)}</tr>")
    heads = "".join(f"<th>{_plain(cell)}</th>" for cell in head)
    return (
        f'<h2>{_plain(title)}</h2><div class="wide"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _made(told: Mapping[str, Any]) -> str:
    budget = told["budget"]
    return (
        f"shiftgym diagnose: at most {budget['most']} updates of each training, "
        f"{budget['seeds']} seeds from {budget['first_seed']}. "
        "docs/diagnose.md says what each number means."
    )


def _plain(text: str) -> str:
    return html.escape(text).encode("ascii", "xmlcharrefreplace").decode()

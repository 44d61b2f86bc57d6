"""Write what pages and reports have in common: Markdown tables, intervals, lines of versions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

RULES = {"l": "---", "r": "---:"}


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]], align: str) -> list[str]:
    """Lay out a table in Markdown, as lines.

    Args:
        head: a heading for each column.
        rows: as many cells each.
        align: for each column ``l`` (text) or ``r`` (numbers).

    Raises:
        ValueError: a row, or `align`, has more columns than `head`, or fewer.
    """
    lines = [head, [RULES[way] for way in align], *rows]
    if wrong := [line for line in lines if len(line) != len(head)]:
        raise ValueError(f"{len(head)} columns, but {list(wrong[0])}")
    return ["| " + " | ".join(line) + " |" for line in lines]


def interval(value: float, low: float, high: float, form: str = ".1f") -> str:
    """Write a number with its interval: ``12.3 [11.0, 13.6]``."""
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def name_versions(versions: Mapping[str, str], names: Iterable[str] | None = None) -> str:
    """Name versions in a line: ``shiftgym 0.1.0, torch 2.9``; all of them, or those of `names`.

    A git revision is shortened to ten digits, and keeps its mark of uncommitted changes.
    """
    parts = []
    for name in versions if names is None else names:
        told = versions[name]
        parts.append(f"{name} {told[:10] + told[40:] if name == 'git' else told}")
    return ", ".join(parts)

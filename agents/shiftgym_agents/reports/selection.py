"""Keep and lay out what `evaluation/selection.py` measures: a row per method, target, design, seed.

selection.csv     method,target,other,design,seed,auc,kept_true,ceiling
selection.json    what all rows share, and how each method was measured on each robot
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.evaluation.selection import YARDSTICK
from shiftgym_agents.training.artifacts import read_json, write_json, write_text

KEY = ("method", "target", "other", "design", "seed")
COLUMNS = (*KEY, "auc", "kept_true", "ceiling")
Row = Mapping[str, str]


def key_of(row: Row) -> tuple[str, ...]:
    """Give what a row is of."""
    return tuple(row[name] for name in KEY)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the rows; none where there is no file.

    Raises:
        ShiftgymError: the file is something else.
    """
    if not path.exists():
        return []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    if tuple(reader.fieldnames or ()) != COLUMNS or any(None in row.values() for row in rows):
        raise ShiftgymError(f"{path} is not what benchmarks/selection.py writes: choose another.")
    return rows


def read_facts(path: Path, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Read how rows beside this CSV file were measured.

    Raises:
        ShiftgymError: they were measured with other settings, so that they do not compare.
    """
    beside = path.with_suffix(".json")
    if not beside.exists():
        return []
    about = read_json(beside)
    other = [f"{k} {about['settings'].get(k)}" for k in settings
             if about["settings"].get(k) != settings[k]]  # fmt: skip
    if other:
        raise ShiftgymError(
            f"{path} was measured with {', '.join(other)}: ask for the same, or give another --out."
        )
    return about["measured"]


def write_records(
    path: Path,
    rows: Iterable[Row],
    settings: Mapping[str, Any],
    measured: Sequence[Mapping[str, Any]],
) -> None:
    """Write rows, in order of what they are of, and the JSON beside them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([row[name] for name in COLUMNS] for row in sorted(rows, key=key_of))
    write_text(path, text.getvalue())
    write_json(path.with_suffix(".json"), {"settings": settings, "measured": list(measured)})


def mean_of(rows: Sequence[Row], measure: str) -> float | None:
    """Average a measure over rows, None of none."""
    values = [float(row[measure]) for row in rows]
    return float(np.mean(values)) if values else None


def ordered_methods(rows: Sequence[Row]) -> list[str]:
    """List the methods, the yardstick first."""
    return sorted({row["method"] for row in rows}, key=lambda name: (name != YARDSTICK, name))


def table(rows: Sequence[Row], design: str, measure: str = "auc") -> list[str]:
    """Lay out a design as Markdown: a line per target, a column per method, means over seeds.

    The best method is bold; the yardstick is none. A column bounds what is attainable where twins
    are equal.
    """
    chosen = [row for row in rows if row["design"] == design]
    methods = ordered_methods(chosen)
    targets = sorted({(row["target"], row["other"]) for row in chosen}, key=_by_shift)
    bounded = any(float(row["ceiling"]) < 1 for row in chosen)
    head = ["target", *(["attainable"] if bounded else []), *(f"`{name}`" for name in methods)]
    lines = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    parts = [(_title(of), _only(of)) for of in targets]
    for name, own in parts + [("*mean*", lambda row: True)] * (len(parts) > 1):
        here = [row for row in chosen if own(row)]
        cells = {m: mean_of([r for r in here if r["method"] == m], measure) for m in methods}
        if name == "*mean*":  # of methods that were measured everywhere
            count = len({key_of(row)[1:] for row in here})
            some = {m for m in methods if sum(r["method"] == m for r in here) < count}
            cells = {m: None if m in some else value for m, value in cells.items()}
        top = max((v for m, v in cells.items() if v is not None and m != YARDSTICK), default=None)
        written = [_cell(value, m != YARDSTICK and value == top) for m, value in cells.items()]
        limit = [_cell(mean_of(here, "ceiling"), False)] if bounded else []
        lines.append(f"| {' | '.join([name, *limit, *written])} |")
    return lines


def _only(of: tuple[str, str]) -> Callable[[Row], bool]:
    return lambda row: (row["target"], row["other"]) == of


def _title(of: tuple[str, str]) -> str:
    target, other = of
    return target if other == target.partition("-")[0] else f"{target} / {other}"


def _by_shift(of: tuple[str, str]) -> tuple[str, str, str]:
    robot, _, shift = of[0].partition("-")
    return robot, shift, of[1]


def _cell(value: float | None, bold: bool) -> str:
    if value is None:
        return ""
    text = "diverged" if np.isnan(value) else f"{value:.2f}"
    return f"**{text}**" if bold else text

"""Record learning curves as CSV and draw them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from shiftgym.datasets.folders import explained
from shiftgym.errors import ShiftgymError
from shiftgym_agents.training.artifacts import ELSEWHERE, write_text

COLUMNS = (
    "step updates domain return_mean return_std length train_return critic_loss q entropy "
    "temperature seconds"
).split()
NUMBERS = {"updates": int, "return_mean": float, "train_return": float}  # what readers read


class Curves:
    """Append one row per domain and evaluation to `curves.csv`.

    Args:
        path: The CSV file.
        updates: Rows beyond this count are dropped: they were written after the checkpoint that
            training resumes from, and will be written again.
    """

    def __init__(self, path: Path, updates: int) -> None:
        self.path = path
        rows = [row for row in read_curves(path) if int(row["updates"]) <= updates]
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(COLUMNS)
        writer.writerows(_cells(rows))
        write_text(path, text.getvalue())

    def add(self, rows: list[dict[str, object]]) -> None:
        """Append rows with the keys of `COLUMNS`."""
        with explained(self.path, ELSEWHERE), open(self.path, "a", newline="") as file:
            csv.writer(file).writerows(_cells(rows))


def _cells(rows: Iterable[Mapping[str, Any]]) -> list[list[Any]]:
    return [[row[column] for column in COLUMNS] for row in rows]


def read_curves(path: Path) -> list[dict[str, str]]:
    """Read complete rows of a curves file; an unfinished last line is ignored.

    Raises:
        ShiftgymError: The file is damaged.
    """
    if not path.exists():
        return []
    try:
        text = path.read_bytes().decode()
        lines = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
        rows = [row for row in lines if all(row.get(column) for column in COLUMNS)]
        for row in rows:
            for name, kind in NUMBERS.items():
                kind(row[name])
    except (OSError, ValueError, csv.Error) as error:
        raise ShiftgymError(f"{path} is damaged ({error}): remove it, and go on.") from None
    return rows


def draw_curves(path: Path, picture: Path) -> None:
    """Draw each domain's evaluation (line) and training (dotted) return against updates."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = read_curves(path)
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for i, domain in enumerate(dict.fromkeys(row["domain"] for row in rows)):
        own = [row for row in rows if row["domain"] == domain]
        updates = [int(row["updates"]) for row in own]
        color = f"C{i % 10}"
        axes.plot(updates, [float(r["return_mean"]) for r in own], color=color, label=domain)
        axes.plot(updates, [float(r["train_return"]) for r in own], ":", color=color, alpha=0.6)
    axes.set(xlabel="updates per agent", ylabel="return (line: deterministic, dots: training)")
    if rows:
        axes.legend(fontsize=7)
    figure.savefig(picture, dpi=120)
    pyplot.close(figure)

"""Record learning curves as CSV and draw them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

COLUMNS = (
    "step updates domain return_mean return_std length train_return critic_loss q entropy "
    "temperature seconds"
).split()


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
        temporary = path.with_name(f".{path.name}.tmp")
        with open(temporary, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(_cells(rows))
        temporary.replace(path)

    def add(self, rows: list[dict[str, object]]) -> None:
        """Append rows with the keys of `COLUMNS`."""
        with open(self.path, "a", newline="") as file:
            csv.writer(file).writerows(_cells(rows))


def _cells(rows: Iterable[Mapping[str, Any]]) -> list[list[Any]]:
    return [[row[column] for column in COLUMNS] for row in rows]


def read_curves(path: Path) -> list[dict[str, str]]:
    """Read complete rows of a curves file; an unfinished last line is ignored."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return [row for row in csv.DictReader(file) if all(row.get(c) for c in COLUMNS)]


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

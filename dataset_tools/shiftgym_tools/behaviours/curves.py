"""Record learning curves as CSV and draw them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.training.artifacts import write_text

NUMBERS = {"step": float, "updates": int}  # what is read as a number, beside what is drawn


@dataclass(frozen=True)
class Drawn:
    """Name two columns that are drawn together.

    Attributes:
        evaluated: the column of evaluations, drawn as a line.
        training: the column of training episodes, drawn dotted.
        label: what both measure.
    """

    evaluated: str
    training: str
    label: str


class Curves:
    """Keep one row per domain and evaluation in `curves.csv`.

    Args:
        path: The CSV file.
        columns: Names of its columns, `updates` and `domain` among them.
        drawn: What `draw` draws, a panel each.
        updates: Rows beyond this count are dropped: they were written after the checkpoint that
            training resumes from, and will be written again.

    Raises:
        ShiftgymError: The file is damaged.
    """

    def __init__(
        self, path: Path, columns: Sequence[str], drawn: Sequence[Drawn], updates: int
    ) -> None:
        self.path, self.columns, self.drawn = path, columns, drawn
        numbers = NUMBERS | {c: float for one in drawn for c in (one.evaluated, one.training)}
        found = read_curves(path, columns, numbers)
        self.rows = [row for row in found if int(row["updates"]) <= updates]
        self.add([])

    @property
    def last(self) -> int:
        """Give the updates of the last evaluation; -1 before the first."""
        return int(self.rows[-1]["updates"]) if self.rows else -1

    def add(self, rows: Iterable[dict[str, str]]) -> None:
        """Write the file anew with rows of all columns more; it is whole at any moment."""
        self.rows += rows
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())

    def draw(self, picture: Path) -> None:
        """Draw each domain's evaluations (line) and training episodes (dotted) against steps."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        count = len(self.drawn)
        size = (3 + 4.5 * count, 4.5)
        figure, axes = pyplot.subplots(1, count, figsize=size, layout="constrained", squeeze=False)
        for axis, one in zip(axes[0], self.drawn, strict=True):
            for i, domain in enumerate(dict.fromkeys(row["domain"] for row in self.rows)):
                own = [row for row in self.rows if row["domain"] == domain]
                steps = [float(row["step"]) / 1e6 for row in own]
                line, dots = ([float(row[c]) for row in own] for c in (one.evaluated, one.training))
                axis.plot(steps, line, color=f"C{i % 10}", label=domain)
                axis.plot(steps, dots, ":", color=f"C{i % 10}", alpha=0.6)
            axis.set(xlabel="million steps per agent")
            axis.set(ylabel=f"{one.label} (line: deterministic, dots: training)")
        if self.rows:
            axes[0, 0].legend(fontsize=7)
        figure.savefig(picture, dpi=120)
        pyplot.close(figure)


def read_curves(
    path: Path, columns: Sequence[str], numbers: Mapping[str, type] = NUMBERS
) -> list[dict[str, str]]:
    """Read the rows of a curves file; none where there is no file.

    Args:
        path: The file.
        columns: Its columns.
        numbers: Which of them hold numbers, and of what type.

    Raises:
        ShiftgymError: The file is damaged, or has other columns.
    """
    if not path.exists():
        return []
    try:
        lines = csv.DictReader(io.StringIO(path.read_bytes().decode(), newline=""), strict=True)
        rows = list(lines)
        if list(lines.fieldnames or ()) != list(columns):
            raise ValueError("other columns")
        for number, row in enumerate(rows, 1):
            if None in row or None in row.values():
                raise ValueError(f"row {number} has more cells than columns, or fewer")
            for name, kind in numbers.items():
                kind(row[name])
    except (OSError, ValueError, csv.Error) as error:
        raise ShiftgymError(f"{path} is damaged ({error}): remove it, and go on.") from None
    return rows

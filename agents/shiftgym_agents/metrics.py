"""Record what training measures: `metrics.csv` always, TensorBoard events beside it.

One row per run and record: which stage and update, which run, source, target and seed; then the
means of the method's losses since the last record, and, where policies were evaluated, return,
score and episode length. A column that appears later leaves earlier rows empty.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shiftgym_agents.artifacts import write_text

LAST = 5  # evaluations that the second reported score averages
KEYS = ("stage", "update", "run", "source", "target", "seed")
EVALUATED = ("return", "score", "length")
Row = Mapping[str, Any]


class Metrics:
    """Append rows to a run directory's records.

    Args:
        out: The run directory.
        progress: Updates done by the checkpoint that training goes on from, by stage: later rows
            were written after it, are dropped, and will be written again. None to start afresh.
        clock: Updates of all stages done by that checkpoint.
    """

    def __init__(self, out: Path, progress: Mapping[str, int] | None, clock: int = 0) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        self.path = out / "metrics.csv"
        kept = read_metrics(self.path) if progress is not None else []
        done = progress or {}
        self.rows: list[dict[str, Any]] = [
            dict(row) for row in kept if int(row["update"]) <= done.get(row["stage"], -1)
        ]
        self.columns: list[str] = list(KEYS)
        self._extend(self.rows)
        self._rewrite()
        self.events = SummaryWriter(str(out / "tensorboard"), purge_step=clock)

    def add(self, rows: Sequence[Row], clock: int) -> None:
        """Append rows; `clock` is the number of updates of all stages, for TensorBoard."""
        plain = [{key: _text(value) for key, value in row.items()} for row in rows]
        self.rows += plain
        if self._extend(plain):
            self._rewrite()
        else:
            with open(self.path, "a", newline="") as file:
                file.write(self._format(plain))
        for row in rows:
            for name, value in row.items():
                if name not in KEYS and isinstance(value, float) and math.isfinite(value):
                    tag = f"{row['stage']}/{name}/run{row['run']}"
                    self.events.add_scalar(tag, value, clock)
        self.events.flush()

    def close(self) -> None:
        """Close the event file."""
        self.events.close()

    def _extend(self, rows: Sequence[Row]) -> bool:
        new = [key for row in rows for key in row if key not in self.columns]
        self.columns += dict.fromkeys(new)
        return bool(new)

    def _rewrite(self) -> None:
        header = ",".join(self.columns) + "\r\n"
        write_text(self.path, header + self._format(self.rows))

    def _format(self, rows: Sequence[Row]) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, restval="")
        writer.writerows(rows)
        return text.getvalue()


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def written(value: float) -> float:
    """Round a number to what a row keeps of it."""
    return float(_text(float(value)))


def read_metrics(path: Path) -> list[dict[str, str]]:
    """Read complete rows; an unfinished last line is ignored."""
    if not path.exists():
        return []
    text = path.read_bytes().decode()
    whole = text[: text.rfind("\n") + 1]
    return [
        row for row in csv.DictReader(io.StringIO(whole, newline="")) if None not in row.values()
    ]

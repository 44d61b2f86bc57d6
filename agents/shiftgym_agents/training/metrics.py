"""Record what training measures: `metrics.csv` always, TensorBoard events beside it.

One row per run and record: which stage and update, which run, source, target and seed; then the
means of the method's losses since the last record, and, where policies were evaluated, return,
score and episode length. A column that appears later leaves earlier rows empty.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.plain_files import open_plain
from shiftgym.datasets.folders import explained
from shiftgym_agents.core.columns import EVALUATED, KEYS
from shiftgym_agents.training.artifacts import ELSEWHERE, write_text

LAST = 5  # evaluations that the second reported score averages
Row = Mapping[str, Any]


class Metrics:
    """Append rows to a run directory's records.

    Args:
        out: The run directory.
        progress: Updates done by the checkpoint that training goes on from, by stage: later rows
            were written after it, are dropped, and will be written again. None to start afresh.
        clock: Updates of all stages done by that checkpoint; TensorBoard hides later events.

    Raises:
        ShiftgymError: The rows are damaged, or cannot be written.
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
        first = 0 if progress is None else clock + 1  # the events of this step and later go
        with explained(out, ELSEWHERE):
            self.events = SummaryWriter(str(out / "tensorboard"), purge_step=first)

    def add(self, rows: Sequence[Row], clock: int) -> None:
        """Append rows; `clock` is the number of updates of all stages, for TensorBoard."""
        plain = [{key: _text(value) for key, value in row.items()} for row in rows]
        self.rows += plain
        if self._extend(plain):
            self._rewrite()
        else:
            with explained(self.path, ELSEWHERE), open(self.path, "a", newline="") as file:
                file.write(self._format(plain))
        with explained(self.path.parent / "tensorboard", ELSEWHERE):
            for row in rows:
                for name, value in row.items():
                    if name not in KEYS and isinstance(value, float) and math.isfinite(value):
                        tag = f"{row['stage']}/{name}/run{row['run']}"
                        self.events.add_scalar(tag, value, clock)
            self.events.flush()

    def close(self) -> None:
        """Close the event file."""
        with explained(self.path.parent / "tensorboard", ELSEWHERE):
            self.events.close()

    def _extend(self, rows: Sequence[Row]) -> bool:
        new = [key for row in rows for key in row if key not in self.columns]
        self.columns += dict.fromkeys(new)
        return bool(new)

    def _rewrite(self) -> None:
        header = io.StringIO()
        csv.writer(header).writerow(self.columns)
        write_text(self.path, header.getvalue() + self._format(self.rows))

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
    """Read complete rows; an unfinished last line is ignored.

    Returns:
        A row for each run and record, or nothing where there is no file. `update`, `run` and `seed`
        are whole numbers, and what evaluations found is numbers, or empty.

    Raises:
        ShiftgymError: The file is damaged; the message says where.
    """
    try:
        text = ""
        if path.exists():
            with open_plain(path) as file:
                text = file.readall().decode()
        lines = list(csv.reader(io.StringIO(text[: text.rfind("\n") + 1], newline=""), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ShiftgymError(f"{path} is damaged: {error}.") from None
    if not lines:
        return []
    head, found = lines[0], []
    if head[: len(KEYS)] != list(KEYS) or len(set(head)) < len(head):
        raise ShiftgymError(f"{path} is damaged: its first line names no columns of a training.")
    for number, line in enumerate(lines[1:], 2):
        row = dict(zip(head, line, strict=False))
        if len(line) != len(head) or not _sound(row):
            raise ShiftgymError(f"{path} is damaged: row {number} is not what a training writes.")
        found.append(row)
    return found


def _sound(row: Mapping[str, str]) -> bool:
    """Say whether a row's numbers are numbers."""
    counts = all(re.fullmatch(r"\d{1,18}", row[name]) for name in ("update", "run", "seed"))
    return counts and all(_number(row.get(name, "")) for name in EVALUATED)


def _number(text: str) -> bool:
    """Say whether a cell is empty, or holds a number or NaN as records write them."""
    return re.fullmatch(r"(nan|-?inf|-?\d{1,18}(\.\d{1,18})?(e[+-]\d{1,2})?)?", text) is not None

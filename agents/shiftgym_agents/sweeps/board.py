"""Show how a sweep goes: a line a group, from what its directory says, whoever trains it.

On a terminal the table is drawn over itself; elsewhere a line is written when a group begins, is
evaluated or ends.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.sweeps.plan import STARTED, Planned
from shiftgym_agents.sweeps.work import Outcome
from shiftgym_agents.training.artifacts import LOCK, read_json
from shiftgym_agents.training.metrics import read_metrics

LONGEST = 20  # lines of groups on a terminal; the others are counted
ORDER = ("running", "failed", "stopped", "waiting", "done")


@dataclass
class Line:
    """Hold what is known of one group."""

    planned: Planned
    state: str
    reason: str = ""
    done: int = 0
    total: int = 0
    score: float | None = None
    unit: str = "score"
    size: int = -1
    seen: list[tuple[float, int]] = field(default_factory=list)

    @property
    def rate(self) -> float | None:
        """Give updates of a run per second, from the first to the last progress seen."""
        if len(self.seen) < 2:
            return None
        (began, first), (last, now) = self.seen[0], self.seen[-1]
        return (now - first) / (last - began) if last > began and now > first else None

    def text(self, width: int) -> str:
        """Write the line."""
        group = self.planned.group
        what = f"{group.key:<{width}}  {len(group.runs):>3} runs  {self.state:<8}"
        if self.state == "failed":
            return f"{what}{self.reason}"
        parts = []
        if self.total:
            parts.append(f"{self.done:,}/{self.total:,}")
        if self.state == "running" and self.rate:
            left = (self.total - self.done) / self.rate
            parts.append(f"{self.rate * len(group.runs):,.0f} run-updates/s, {duration(left)} left")
        if self.score is not None:
            parts.append(f"{self.unit} {self.score:.1f}")
        return f"{what}{', '.join(parts)}".rstrip()


class Board:
    """Follow the groups of a sweep.

    Args:
        groups: all of them.
        stream: where to write; stderr by default.
    """

    def __init__(self, groups: Sequence[Planned], stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.began, self._clock = time.monotonic(), time.time()
        states = {"new": "waiting", "begun": "waiting", "failed": "waiting", "done": "done"}
        self.lines = {each.group.key: Line(each, states[each.state]) for each in groups}
        for line in self.lines.values():
            if line.state == "done":
                self._look(line)
        self._before = self._work()[0]
        self._drawn = 0

    def end(self, key: str, outcome: Outcome) -> None:
        """Note how a group ended."""
        line = self.lines[key]
        self._look(line)
        told = line.state == outcome.state
        line.state, line.reason = outcome.state, outcome.reason
        if not told:
            self._tell(line)

    def say(self, text: str) -> None:
        """Write a sentence above the table."""
        self._erase()
        print(text, file=self.stream, flush=True)

    def show(self) -> None:
        """Look at the directories of what runs, and draw."""
        for line in self.lines.values():
            if line.state in ("waiting", "running"):
                before = line.state, line.score
                self._look(line)
                if line.state == "running" and (line.planned.out / "result.json").exists():
                    line.state = "done"
                if (line.state, line.score) != before:
                    self._tell(line)
        if self.stream.isatty():
            self._draw()

    def summary(self) -> str:
        """Count the groups by how they ended, and list the failed ones with their reasons."""
        counts = {state: [x for x in self.lines.values() if x.state == state] for state in ORDER}
        text = ", ".join(f"{len(own)} {state}" for state, own in counts.items() if own)
        failed = [f"  {x.planned.out}: {x.reason}" for x in counts["failed"]]
        return "\n".join([f"{len(self.lines)} groups: {text or 'none'}.", *failed])

    def _look(self, line: Line) -> None:
        """Read a group's progress from its directory."""
        home = line.planned.out
        if line.state == "waiting" and _touched(home / LOCK, self._clock):
            line.state = "running"
        size = _size(home / "metrics.csv")
        if size == line.size:
            return
        line.size = size
        try:
            stages = read_json(home / STARTED)["stages"] if (home / STARTED).exists() else []
            rows = read_metrics(home / "metrics.csv") if stages else []
        except (ShiftgymError, KeyError):  # being written just now
            return
        line.total = sum(steps for _, steps in stages)
        line.done = _progress(stages, rows)
        if rows and (not line.seen or line.done != line.seen[-1][1]):
            line.seen.append((time.monotonic(), line.done))
        last = rows[-len(line.planned.group.runs) :]
        for unit in ("score", "return"):
            values = [float(row.get(unit) or "nan") for row in last]
            if np.isfinite(values).any():
                line.score, line.unit = float(np.nanmean(values)), unit
                break

    def _tell(self, line: Line) -> None:
        if not self.stream.isatty():
            print(line.text(0), file=self.stream, flush=True)

    def _draw(self) -> None:
        """Draw the table over itself."""
        self._erase()
        columns, rows = shutil.get_terminal_size()
        lines = sorted(self.lines.values(), key=lambda each: ORDER.index(each.state))
        shown = lines[: min(LONGEST, max(1, rows - 4))]
        width = max(len(each.planned.group.key) for each in shown) if shown else 0
        texts = [each.text(width)[: columns - 1] for each in shown]
        if len(lines) > len(shown):
            texts.append(f"... and {len(lines) - len(shown)} more groups")
        ended = sum(each.state == "done" for each in lines)
        spent = time.monotonic() - self.began
        texts.append(f"{ended}/{len(lines)} groups done, {duration(spent)} so far" + self._left())
        print("\n".join(texts), file=self.stream, flush=True)
        self._drawn = len(texts)

    def _left(self) -> str:
        """Say how long the rest takes, if it goes on as it has gone."""
        done, total = self._work()
        if done <= self._before:
            return ""
        spent = time.monotonic() - self.began
        return f", about {duration(spent * (total - done) / (done - self._before))} left"

    def _work(self) -> tuple[float, float]:
        """Count run-updates, done and in all; groups that have not begun count like the others."""
        known = [line.total for line in self.lines.values() if line.total]
        usual = sum(known) / len(known) if known else 0.0
        parts = [(len(x.planned.group.runs), x.done, x.total or usual) for x in self.lines.values()]
        return sum(runs * done for runs, done, _ in parts), sum(r * total for r, _, total in parts)

    def _erase(self) -> None:
        if self._drawn:
            print(f"\x1b[{self._drawn}A\x1b[J", end="", file=self.stream)
            self._drawn = 0


def duration(seconds: float) -> str:
    """Write a duration: ``40 s``, ``12 min``, ``3.4 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _progress(stages: Sequence[tuple[str, int]], rows: Sequence[dict[str, Any]]) -> int:
    """Count the updates that the last row tells of."""
    if not rows:
        return 0
    names = [name for name, _ in stages]
    if rows[-1]["stage"] not in names:
        return 0
    before = names.index(rows[-1]["stage"])
    return sum(steps for _, steps in stages[:before]) + int(rows[-1]["update"])


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _touched(path: Path, since: float) -> bool:
    """Say whether a file is there that was written since."""
    try:
        return path.stat().st_mtime >= since - 1.0
    except OSError:
        return False

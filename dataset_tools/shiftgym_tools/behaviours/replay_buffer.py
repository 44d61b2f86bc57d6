"""Keep each agent's transitions in one ring of rows, on disk and where the learner runs.

One float32 row per transition, so that a batch is one gather:

    | observation (O) | action (A) | next observation (O) | reward | terminated |   D = 2O + A + 2

The ring has `capacity + margin` slots per agent; only the last `capacity` rows are sampled. A
checkpoint stores nothing but the number of rows written: rows written after it go to slots outside
the window it sees, as long as there are at most `margin` of them. So a process killed at any moment
resumes with exactly the rows it had, however large the ring, and a checkpoint costs no copying.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shiftgym.datasets.folders import explained
from shiftgym.errors import ShiftgymError
from shiftgym_agents.training.artifacts import ELSEWHERE

AFRESH = "Put it back, or start afresh with another --out."


class Replay:
    """Map a ring of transitions from a file; on a GPU hold a copy of it on the device.

    Args:
        path: File of raw float32 `(R, capacity + margin, D)`; created if absent.
        runs: Number of agents `R`.
        row: Floats per row, `2 * obs + act + 2`.
        capacity: Rows per agent that sampling sees.
        margin: Rows per agent that may be written between two checkpoints.
        device: Where `rows` lives.
        written: Rows per agent that the last checkpoint counted; 0 for a new ring.
        kept: Rows `(K, D)` or `(R, K, D)` beside the ring that half of each batch is drawn from.

    Raises:
        ShiftgymError: The file lacks rows that the checkpoint counted, or is of another ring; or
            the disk has no room for all of it.
    """

    def __init__(
        self,
        path: Path,
        runs: int,
        row: int,
        capacity: int,
        margin: int,
        device: torch.device | str = "cpu",
        written: int = 0,
        kept: np.ndarray | None = None,
    ) -> None:
        self.slots, self.kept = capacity + margin, 0 if kept is None else kept.shape[-2]
        shape = (runs, self.slots + self.kept, row)
        size = 4 * math.prod(shape)
        if written and not path.exists():
            raise ShiftgymError(f"{path} is missing, which the checkpoint goes on from. {AFRESH}")
        if path.exists() and path.stat().st_size != size:
            raise ShiftgymError(
                f"{path} has {path.stat().st_size} bytes, expected {size}: it was cut, or is of "
                f"another capacity. {AFRESH}"
            )
        _reserve(path, size)
        self.file = np.memmap(path, np.float32, "r+", shape=shape)
        if kept is not None:
            self.file[:, self.slots :] = kept
        self.capacity, self.margin = capacity, margin
        self.written = self.committed = written
        self.rows: Tensor = torch.from_numpy(self.file).to(device)
        self._first = torch.arange(runs, device=device)[:, None]

    @property
    def size(self) -> int:
        """Count the rows per agent that sampling sees."""
        return min(self.written, self.capacity)

    @property
    def room(self) -> int:
        """Count the rows per agent that may still be written before the next checkpoint."""
        return self.margin - (self.written - self.committed)

    def add(self, rows: np.ndarray) -> None:
        """Write `k` rows per agent, `(R, k, D)`.

        Raises:
            RuntimeError: More rows than `room`: call `commit` with a checkpoint first.
        """
        count = rows.shape[1]
        if count > self.room:
            raise RuntimeError(f"no room for {count} rows: checkpoint first (margin {self.margin})")
        slots = np.arange(self.written, self.written + count) % self.slots
        self.file[:, slots] = rows
        if self.rows.device.type != "cpu":
            at = torch.from_numpy(slots).to(self.rows.device)
            self.rows[:, at] = torch.from_numpy(rows).to(self.rows.device, torch.float32)
        self.written += count

    def sample(self, generators: Sequence[torch.Generator], shape: tuple[int, ...]) -> Tensor:
        """Draw slots `(R, *shape)` uniformly from the window, one generator per agent.

        Where rows are kept beside the ring, every other slot of the last axis is one of theirs.
        """
        slots = (self.written - 1 - _draw(self.size, shape, generators)) % self.slots
        if self.kept:
            half = (*shape[:-1], (shape[-1] + 1) // 2)
            slots[..., ::2] = self.slots + _draw(self.kept, half, generators)
        return slots

    def gather(self, slots: Tensor) -> Tensor:
        """Return the rows `(R, B, D)` at slots `(R, B)`."""
        return self.rows[self._first, slots]

    def flush(self) -> int:
        """Write pending rows to disk and return the number of rows a checkpoint must store."""
        self.file.flush()
        return self.written

    def commit(self, written: int) -> None:
        """Note that a finished checkpoint counts `written` rows: older slots may be reused."""
        self.committed = written


def _draw(below: int, shape: tuple[int, ...], generators: Sequence[torch.Generator]) -> Tensor:
    draws = [torch.randint(below, shape, generator=g, device=g.device) for g in generators]
    return torch.stack(draws)


def _reserve(path: Path, size: int) -> None:
    """Give a file room for `size` bytes: a mapped file that the disk cannot hold is a SIGBUS.

    Rows that are there stay. Where the system cannot reserve, the file is only made as long.
    """
    made = not path.exists()
    with explained(path, ELSEWHERE):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, 0, size)
            else:
                os.truncate(descriptor, size)
        except OSError:
            if made:
                with suppress(OSError):
                    path.unlink()
            raise
        finally:
            os.close(descriptor)

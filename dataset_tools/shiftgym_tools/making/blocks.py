"""Blocks: the steps of all streams for a while, one file each, and flat rows made from them.

A stream is one simulation that collects its share of a dataset in a row, episode after episode.
Streams are stepped together, so a block holds S streams side by side:

                   step  0    1    2    3  ..  T - 1        (S, T, ...) float32 and bool
    stream 0            s0   s1   s2 | s0'
    stream 1            s0   s1 | s0'  s1'
    ..
    state.*             everything the next block depends on, after the last step

    block-00000.safetensors  block-00001.safetensors  ..    written, then renamed: whole or absent

The dataset holds stream 0's rows first, then stream 1's; the last row of a stream's share is cut
(truncated) where no episode ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from shiftgym.datasets.flat import FIELDS, Flat, concatenate, ends
from shiftgym.datasets.folders import write_file

Arrays = dict[str, np.ndarray]
STATE = "state."
CHUNK_ROWS = 65_536  # rows of one stream given at a time


@dataclass(frozen=True)
class Block:
    """Point to a block's file.

    Attributes:
        path: the file.
        first: number of its first step.
        steps: number of steps, T.
    """

    path: Path
    first: int
    steps: int

    @property
    def end(self) -> int:
        """Give the number of the step after the last."""
        return self.first + self.steps

    def rows(self, stream: int, stop: int) -> Flat:
        """Read one stream's rows up to step `stop` of the stream, at most T."""
        count = min(self.steps, stop - self.first)
        with safe_open(self.path, "numpy") as file:
            return {name: file.get_slice(name)[stream, :count] for name in FIELDS}

    def state(self) -> Arrays:
        """Read what the next block depends on."""
        with safe_open(self.path, "numpy") as file:
            names = [name for name in file.keys() if name.startswith(STATE)]  # noqa: SIM118
            return {name.removeprefix(STATE): file.get_tensor(name) for name in names}


def write_block(folder: Path, number: int, first: int, rows: Flat, state: Arrays) -> Block:
    """Write a block: rows (S, T, ...), and the state after them.

    Raises:
        ShiftgymError: the disk is full, or writing is not allowed; blocks before are kept.
    """
    steps = rows["rewards"].shape[1]
    arrays = rows | {STATE + name: array for name, array in state.items()}
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    path = folder / f"block-{number:05d}.safetensors"
    write_file(path, save(arrays, {"first": str(first), "steps": str(steps)}))
    return Block(path, first, steps)


def read_blocks(folder: Path) -> list[Block]:
    """Find a folder's blocks, as far as they are whole and follow one another."""
    found: list[Block] = []
    for number, path in enumerate(sorted(folder.glob("block-*.safetensors"))):
        try:
            with safe_open(path, "numpy") as file:
                told = file.metadata() or {}
                block = Block(path, int(told["first"]), int(told["steps"]))
        except (OSError, SafetensorError, KeyError, ValueError):
            break
        follows = block.first == (found[-1].end if found else 0)
        if path.name != f"block-{number:05d}.safetensors" or not follows:
            break
        found.append(block)
    return found


def flat_chunks(blocks: Sequence[Block], shares: Sequence[int]) -> Iterator[Flat]:
    """Give the dataset's rows, stream after stream, in chunks of bounded size.

    Args:
        blocks: all blocks, in order.
        shares: transitions wanted of each stream, (S,).
    """
    for stream, share in enumerate(shares):
        held: list[Flat] = []
        rows = 0
        for block in blocks:
            if block.first >= share:
                break
            held.append(block.rows(stream, share))
            rows += len(held[-1]["rewards"])
            last = block.end >= share
            if last:  # the share's last row ends its episode, by a cut if by nothing else
                held[-1]["truncated"][-1] |= not held[-1]["terminated"][-1]
            if last or rows >= CHUNK_ROWS:
                yield concatenate(held)
                held, rows = [], 0


def count_episodes(blocks: Sequence[Block], shares: Sequence[int]) -> list[int]:
    """Count the episodes in each stream's share, a last one that is cut included; (S,)."""
    counts = [0] * len(shares)
    for block in blocks:
        for stream, share in enumerate(shares):
            if block.first < share:
                over = ends(block.rows(stream, share))
                cut = block.end >= share and not over[-1]
                counts[stream] += int(over.sum()) + int(cut)
    return counts

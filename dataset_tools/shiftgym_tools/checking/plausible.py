"""Look at a dataset as a whole: is it a recording at all, and of episodes that occur once?"""

from __future__ import annotations

import numpy as np

from shiftgym_tools.checking.episodes import Episodes
from shiftgym_tools.checking.scanning import Scan

PIECES = 5  # steps: no reset leads to a terminal state, and no environment stops, sooner
LEAST_LIMIT = 10  # steps of the shortest time limit that is believed


def implausible(episodes: Episodes) -> list[str]:
    """Say why rows cannot be a recording of episodes, in words."""
    found = []
    lengths = episodes.lengths
    pieces = int((lengths < PIECES).sum())
    if pieces > max(2, len(lengths) // 2):
        found.append(
            f"{pieces:,} of {len(lengths):,} episodes are shorter than {PIECES} steps (the longest "
            f"of all: {int(lengths.max())}): the rows are in no order, or cut to pieces"
        )
    elif episodes.limit is not None and episodes.limit < LEAST_LIMIT:
        found.append(f"no environment has a time limit of {episodes.limit} steps")
    return found


def repeated_episodes(found: Scan, episodes: Episodes) -> tuple[int, int]:
    """Count episodes and rows (observation and action) that occur again, each after its first."""
    keys, ends = found.key, np.cumsum(episodes.kept_lengths)
    rows = len(keys) - len(np.unique(keys))
    if not len(ends):
        return 0, rows
    hashes = np.add.reduceat(keys[episodes.kept], ends - episodes.kept_lengths)
    return len(hashes) - len(np.unique(hashes)), rows

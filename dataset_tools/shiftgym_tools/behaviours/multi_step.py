"""Sum rewards over n steps before a transition enters the replay.

Every environment step brings one row per sub-environment and releases the row n - 1 steps older,
which by then reaches n steps ahead, or to the end of its episode:

    | s_t | a_t | s_{t+k} | r_t + g r_{t+1} + .. + g^(k-1) r_{t+k-1} | 1 - g^(k-1) (1 - d_{t+k-1}) |

with k = n, or fewer steps at an episode's end. A learner that computes r + g (1 - d) V(s') from
such a row bootstraps with g^k (1 - d): n-step returns need no change in it (Sutton 1988; without
off-policy correction, as in D4PG, Barth-Maron et al. 2018, arXiv:1804.08617).
"""

from __future__ import annotations

import numpy as np


class MultiStep:
    """Hold the last n rows of every sub-environment until they reach n steps ahead.

    Args:
        steps: n; 1 releases every row at once, unchanged.
        discount: g.
        envs: number of sub-environments.
        obs_size: length of an observation.
        row: length of a row, `2 obs + act + 2`.
    """

    def __init__(self, steps: int, discount: float, envs: int, obs_size: int, row: int) -> None:
        if steps < 1:
            raise ValueError(f"n-step returns need at least 1 step, not {steps}")
        self.steps, self.discount = steps, discount
        self.after = slice(row - 2 - obs_size, row - 2)
        self.rows = np.zeros((steps, envs, row), np.float32)
        self.open = np.zeros((steps, envs), bool)  # the episode of a row still runs
        self.filled = 0

    def push(self, rows: np.ndarray, ended: np.ndarray) -> np.ndarray | None:
        """Take one-step rows `(E, D)` and return those of n - 1 steps ago, once there are any.

        Args:
            rows: the step's rows, reward and termination flag last.
            ended: whether each sub-environment's episode ended with this step, `(E,)`.
        """
        self.rows[:-1], self.open[:-1] = self.rows[1:], self.open[1:]
        self.rows[-1], self.open[-1] = rows, True
        for slot in range(self.steps - 1):
            power = self.discount ** (self.steps - 1 - slot)
            older, more = self.rows[slot], self.open[slot]
            older[more, self.after] = rows[more, self.after]
            older[more, -2] += power * rows[more, -2]
            older[more, -1] = 1 - power * (1 - rows[more, -1])
        self.open[:, ended] = False
        self.filled = min(self.filled + 1, self.steps)
        return self.rows[0].copy() if self.filled == self.steps else None

    def save(self) -> dict[str, np.ndarray]:
        """Return what `load` needs to go on."""
        return {"rows": self.rows, "open": self.open, "filled": np.asarray([self.filled])}

    def load(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from what `save` returned."""
        self.rows[:], self.open[:] = arrays["rows"], arrays["open"]
        self.filled = int(arrays["filled"][0])

"""Act with a trained run in one's own loop, with numpy alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shiftgym.basics.errors import DomainError, ShiftgymError
from shiftgym_agents.core.policy import Policy
from shiftgym_agents.training.artifacts import read_checkpoint
from shiftgym_agents.training.records import read_about


@dataclass(frozen=True)
class TrainedPolicy:
    """Act as one run of a run directory does, deterministically.

    Attributes:
        policy: the run's weights.
        method: what trained it.
        source: its source dataset.
        target: its target dataset.
        seed: its seed.
        updates: how many its checkpoint has had, those of all stages.
    """

    policy: Policy
    method: str
    source: str
    target: str
    seed: int
    updates: int

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Choose the action (A,) at one observation (O,), or actions (N, A) at (N, O).

        Raises:
            ShiftgymError: observations of another length than it learned from.
        """
        rows = np.atleast_2d(np.asarray(observation, np.float32))
        self.policy.require_fit(rows)
        actions = self.policy.act(rows[None])[0]
        return actions if np.ndim(observation) > 1 else actions[0]


def load(out: str | Path, run: int = 0) -> TrainedPolicy:
    """Load a trained run's policy from its run directory.

    Args:
        out: the run directory, as `--out` named it.
        run: which of its runs; run k was trained with the k-th seed.

    Example:
        >>> policy = shiftgym_agents.load("runs/otdf", run=1)
        >>> action = policy.act(observation)

    Raises:
        DomainError: there is no such run; the message says how many there are.
        ShiftgymError: no run directory, one without a checkpoint yet, or a run that diverged.
    """
    about, found = read_about(Path(out)), read_checkpoint(Path(out))
    if found is None:
        raise ShiftgymError(f"{out} holds no checkpoint yet: let it train on.")
    runs = about["runs"]
    if not 0 <= run < len(runs):
        raise DomainError(f"{out} holds runs 0 to {len(runs) - 1}, not {run}.")
    policy = Policy.from_arrays(found[0]).take([run])
    if not policy.finite(0):
        raise ShiftgymError(f"Run {run} of {out} diverged in training: its weights are not finite.")
    told = runs[run]
    facts = {key: told[key] for key in ("source", "target", "seed")}
    return TrainedPolicy(policy, about["method"], **facts, updates=found[1]["count"])

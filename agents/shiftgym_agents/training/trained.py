"""Act with a trained run in one's own loop, with numpy alone: nothing here imports torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from shiftgym.basics.errors import DomainError, ShiftgymError
from shiftgym.domains import Domain
from shiftgym_agents.core.policy import Policy
from shiftgym_agents.data.places import Place, from_record
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
        record: what `config.json` keeps of the place that it was evaluated in; None for nowhere.
    """

    policy: Policy
    method: str
    source: str
    target: str
    seed: int
    updates: int
    record: Mapping[str, Any] | None = field(default=None, repr=False)

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Choose the action (A,) at one observation (O,), or actions (N, A) at (N, O).

        Actions are float32, in the box of the data's or the environment's own actions.

        Raises:
            ShiftgymError: no numbers, NaN or infinity, or of another length than it learned from.
        """
        try:
            rows = np.asarray(observation, np.float32)
        except (TypeError, ValueError):
            raise ShiftgymError(
                f"Observations are arrays of numbers, (O,) or (N, O), got {observation!r:.100}."
            ) from None
        if rows.ndim not in (1, 2):
            raise ShiftgymError(f"Observations are (O,) or (N, O), got {rows.shape}.")
        self.policy.require_fit(rows)
        if not np.isfinite(rows).all():
            raise ShiftgymError("Observations must be finite: there is NaN or infinity in them.")
        actions = self.policy.act(rows.reshape(1, -1, rows.shape[-1]))[0].astype(np.float32)
        return actions.reshape(*rows.shape[:-1], self.policy.act_size)

    @property
    def low(self) -> np.ndarray:
        """Give the lowest actions, (A,)."""
        return (self.policy.center - self.policy.half)[0, 0]

    @property
    def high(self) -> np.ndarray:
        """Give the highest actions, (A,)."""
        return (self.policy.center + self.policy.half)[0, 0]

    def place(self) -> Place:
        """Give where it was evaluated: a domain, another environment, or None.

        Raises:
            ShiftgymError: a function of a script made that environment.
        """
        return from_record(self.record)

    def make(self, **options: Any) -> gym.Env:
        """Make the environment that it was evaluated in.

        Args:
            options: as for `gymnasium.make`: `render_mode="human"`.

        Raises:
            ShiftgymError: it was evaluated nowhere, or in what a function of a script makes.
        """
        where = self.place()
        if where is None:
            raise ShiftgymError(
                "This policy was evaluated nowhere (--eval-env none): make an environment yourself."
            )
        if isinstance(where, Domain):
            return where.make(**options)
        return replace(where, options=json.dumps(json.loads(where.options) | options)).build()


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
    count = found[1]["count"]
    return TrainedPolicy(policy, about["method"], **facts, updates=count, record=told["domain"])

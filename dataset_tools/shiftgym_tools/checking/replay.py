"""Replay recorded transitions one step at a time, in any domain of their robot.

Every row's state is rebuilt from its observation, all rows are stepped at once on a
``mujoco.batch``, and the outcome is compared with what the row says came next:

    observation -> qpos, qvel --step(action)--> observation', reward', terminated'
                                                    |           |          |
    row's own                             next_observation    reward    terminal

What an observation lacks comes from the row before, if that is of the same episode: velocities
that were clipped, and how far the Ant's torso frame lagged behind its position. x (and y) is taken
as 0: nothing here depends on it.

Observation, reward and termination are the environment's own functions (``shiftgym.envs``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mujoco.batch import Batch

from shiftgym.arrays import Array
from shiftgym.domains import Domain, domain
from shiftgym.engine import mujoco
from shiftgym.envs.locomotion import Locomotion
from shiftgym.envs.task import Sims
from shiftgym.envs.tasks import TASKS
from shiftgym.errors import ShiftgymError
from shiftgym.modelling import build_model

CHUNK = 4096  # rows stepped in one call
JUMP = 1e-2  # an error this large, into a state that a reset may draw, joins two episodes
Physics = str | Callable[[Domain], mujoco.MjModel]
ANT_D4RL_WIDTH = 111  # 27 numbers and 84 zeros, where mujoco-py left contact forces empty


@dataclass(frozen=True)
class Transitions:
    """Hold N recorded steps in file order, checked to be whole and finite.

    Args:
        observations: (N, O).
        actions: (N, A).
        next_observations: (N, O).
        rewards: (N,) or (N, 1).
        terminals: (N,) or (N, 1), bool or 0 and 1.

    Raises:
        ShiftgymError: shapes that do not belong together, no rows, NaN or infinity.
    """

    observations: Array
    actions: Array
    next_observations: Array
    rewards: Array
    terminals: Array

    def __post_init__(self):
        """Flatten rewards and terminals, and check everything."""
        for name in FIELDS:
            values = np.asarray(getattr(self, name))
            if values.dtype.kind not in "fiub":
                raise ShiftgymError(f"{name} must be numbers, got dtype {values.dtype}.")
            if name in ("rewards", "terminals"):
                if values.ndim == 2 and values.shape[1] == 1:
                    values = values[:, 0]
                if values.ndim != 1:
                    raise ShiftgymError(f"{name} must be (N,) or (N, 1), got {values.shape}.")
            elif values.ndim != 2:
                raise ShiftgymError(f"{name} must have two axes, got {values.shape}.")
            if not np.isfinite(values).all():
                row = np.argwhere(~np.isfinite(values))[0][0]
                raise ShiftgymError(f"{name} are not finite, first in row {row}.")
            object.__setattr__(self, name, values)
        if not np.isin(self.terminals, (0, 1)).all():
            raise ShiftgymError("terminals must be 0 or 1.")
        object.__setattr__(self, "terminals", self.terminals.astype(bool))
        lengths = {name: len(getattr(self, name)) for name in FIELDS}
        if len(set(lengths.values())) > 1 or not len(self):
            raise ShiftgymError(f"Every array must have the same N > 0 rows, got {lengths}.")
        if self.observations.shape != self.next_observations.shape:
            raise ShiftgymError(
                f"observations {self.observations.shape} and next_observations "
                f"{self.next_observations.shape} differ in shape."
            )

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.observations)

    def follows(self) -> Array:
        """Say which rows start where the row before ended, (N,) bool."""
        found = np.zeros(len(self), dtype=bool)
        same = (self.observations[1:] == self.next_observations[:-1]).all(axis=1)
        found[1:] = same & ~self.terminals[:-1]
        return found


FIELDS = ("observations", "actions", "next_observations", "rewards", "terminals")


@dataclass(frozen=True)
class Replay:
    """Tell how a domain's own steps compare with recorded ones; every array has N rows.

    Attributes:
        domain: where the rows were replayed.
        errors: largest absolute difference over the observed positions (m, rad) and velocities
            (m/s, rad/s) after the step; NaN where a row is not usable.
        reward_errors: absolute difference of the reward; NaN likewise.
        rewards: the domain's own reward, (N,); NaN likewise.
        arrived: observation that the replay arrives with, (N, O); NaN likewise.
        terminated: whether the state the replay arrives in is terminal.
        usable: False where a clipped velocity cannot be known, so nothing was replayed.
        joins: rows whose next observation is the initial state of another episode.
        qpos: positions each row started from, (N, nq).
        qvel: velocities each row started from, (N, nv).
    """

    domain: Domain
    errors: Array
    reward_errors: Array
    rewards: Array
    arrived: Array
    terminated: Array
    usable: Array
    joins: Array
    qpos: Array
    qvel: Array

    def kept(self) -> Array:
        """Say which rows can be judged: usable, and not joining two episodes; (N,) bool."""
        return self.usable & ~self.joins


def replay(
    where: str | Domain,
    transitions: Transitions,
    *,
    physics: Physics = "mujoco210",
    start: Replay | None = None,
    progress: Callable[[int], Any] | None = None,
) -> Replay:
    """Replay transitions in a domain of their robot, each row from its own state.

    Args:
        where: the domain, as anything :func:`shiftgym.domain` takes.
        transitions: recorded steps in file order; Ant observations may be 27 or 111 wide.
        physics: ``mujoco210`` or ``installed``, or a function that builds the domain's model.
        start: a replay of the same rows whose start states are used again. Give the replay in
            the rows' own domain when trying another: its steps know the clipped velocities.
        progress: called with the number of rows just done.

    Returns:
        The comparison, row by row.

    Raises:
        ShiftgymError: a hand, whose state is not in its observations; arrays that are not this
            robot's.

    Example:
        >>> found = replay("hopper-kinematic", transitions)
        >>> np.median(found.errors[found.kept()])
    """
    work = _Replayer(domain(where), transitions, physics, start, progress or (lambda rows: None))
    return work.run()


@dataclass
class _Replayer:
    """Carry the batch and the results of one replay."""

    domain: Domain
    transitions: Transitions
    physics: Physics
    start: Replay | None
    progress: Callable[[int], Any]
    task: Locomotion = field(init=False)

    def __post_init__(self):
        task = TASKS[self.domain.robot]
        if not isinstance(task, Locomotion):
            raise ShiftgymError(
                f"The {self.domain.robot}'s state cannot be rebuilt from its observations (no hand "
                "velocities in them), so its transitions cannot be replayed one by one. Replay "
                "whole episodes from a stored get_state() instead."
            )
        self.task = task
        rows = self.transitions
        self.now = _trim(self.domain.robot, task, rows.observations, "observations")
        self.next = _trim(self.domain.robot, task, rows.next_observations, "next_observations")
        physics = self.physics
        model = physics(self.domain) if callable(physics) else build_model(self.domain, physics)
        if rows.actions.shape[1] != model.nu:
            raise ShiftgymError(
                f"actions are {rows.actions.shape[1]} wide; the {self.domain.robot} takes "
                f"{model.nu}."
            )
        self.model = model
        self.batch = Batch(model, min(len(rows), CHUNK))
        names = ("qpos", "qvel", *task.outputs)
        self.sims = Sims(model, task, {name: self.batch.bind(name) for name in names})
        self.ctrl = self.batch.bind("ctrl")

    def run(self) -> Replay:
        """Replay the rows that are whole, then those that wait for the row before them."""
        rows, task = self.transitions, self.task
        count, positions = len(rows), self.model.nq - task.hidden
        self.follows: Array = rows.follows()
        self.errors = np.full(count, np.nan)
        self.reward_errors = np.full(count, np.nan)
        self.rewards = np.full(count, np.nan)
        self.arrived = np.full(self.next.shape, np.nan)
        self.terminated = np.zeros(count, dtype=bool)
        self.joins = np.zeros(count, dtype=bool)
        self.done = np.zeros(count, dtype=bool)
        self.lag = np.zeros(count)
        self.after = np.full((count, self.model.nv), np.nan)  # velocities a step arrived with
        if self.start is not None:
            self.qpos, self.qvel = self.start.qpos, self.start.qvel
            self._replay(np.flatnonzero(self.start.usable))
        else:
            self.qpos = np.zeros((count, self.model.nq))
            self.qpos[:, task.hidden :] = self.now[:, :positions]
            self.qvel = self.now[:, positions:].astype(float)
            clipped = self._clipped()
            waiting = np.any(clipped, axis=1)
            self._replay(np.flatnonzero(~waiting))
            while len(ready := self._known_before(np.flatnonzero(waiting))):
                known = np.maximum(np.abs(self.after[ready - 1]), np.abs(self.qvel[ready]))
                known = np.copysign(known, self.qvel[ready])
                self.qvel[ready] = np.where(clipped[ready], known, self.qvel[ready])
                self._replay(ready)
                waiting[ready] = False
        self.progress(count - int(self.done.sum()))
        return Replay(
            self.domain, self.errors, self.reward_errors, self.rewards, self.arrived,
            self.terminated, self.done, self.joins, self.qpos, self.qvel,
        )  # fmt: skip

    def _clipped(self) -> Array:
        """Say which velocities were clipped when they were recorded, (N, nv) bool."""
        if self.task.clip is None:
            return np.zeros(self.qvel.shape, dtype=bool)
        return np.abs(self.qvel) >= self.task.clip

    def _known_before(self, rows: Array) -> Array:
        """Choose the rows that follow, within an episode, a row that has been replayed."""
        known = self.follows[rows] & self.done[rows - 1] & ~self.joins[rows - 1]
        return rows[known]

    def _replay(self, rows: Array) -> None:
        """Step rows, given in file order, from their qpos and qvel."""
        for first in range(0, len(rows), CHUNK):
            self._replay_chunk(rows[first : first + CHUNK])

    def _replay_chunk(self, rows: Array) -> None:
        task, sims, batch, used = self.task, self.sims, self.batch, slice(len(rows))
        ids = np.arange(len(rows))
        actions = np.zeros((len(sims), self.model.nu))
        actions[used] = self.transitions.actions[rows]
        batch.reset(ids=ids, stage=mujoco.mjtStage.mjSTAGE_NONE)
        sims.qpos[used], sims.qvel[used] = self.qpos[rows], self.qvel[rows]
        batch.forward(ids=ids)
        task.remember(sims, ids)
        self.ctrl[used] = task.control(sims, actions)[used]
        batch.step(ids=ids, nstep=task.frame_skip)

        self.arrived[rows] = task.observe(sims)[used]
        difference = np.abs(self.arrived[rows] - self.next[rows])
        self.errors[rows] = difference.max(axis=1)
        self.after[rows] = sims.qvel[used]
        self.terminated[rows] = task.terminated(sims)[used]
        self.joins[rows] = (self.errors[rows] > JUMP) & self._initial(self.next[rows])
        self.lag[rows] = (task.position(sims) - sims.qpos[:, 0])[used]
        self.done[rows] = True
        # The position that is rewarded may lag behind qpos; how far is known from the row before.
        known = self._known_before(rows)
        x = sims.memory["x"]
        x[np.searchsorted(rows, known)] += self.lag[known - 1]
        rewards, _ = task.reward(sims, actions)
        self.rewards[rows] = rewards[used]
        self.reward_errors[rows] = np.abs(rewards[used] - self.transitions.rewards[rows])
        self.progress(len(rows))

    def _initial(self, observations: Array) -> Array:
        """Say which observations a reset may have drawn, with room to spare; (n,) bool."""
        task, positions = self.task, self.model.nq - self.task.hidden
        offsets = np.abs(observations[:, :positions] - self.model.qpos0[task.hidden :])
        speeds = np.abs(observations[:, positions:])
        fastest = task.noise * (6.0 if task.normal_velocities else 1.5)
        return (offsets < 1.5 * task.noise).all(axis=1) & (speeds < fastest).all(axis=1)


def _trim(robot: str, task: Locomotion, observations: Array, name: str) -> Array:
    """Give observations of the environment's own width, as float64."""
    width, wanted = observations.shape[1], task.observation_size
    if robot == "ant" and width == ANT_D4RL_WIDTH:
        if observations[:, wanted:].any():
            raise ShiftgymError(
                f"{name} are {width} wide, as in D4RL's Ant, but columns {wanted} and on are not "
                "zero: these are contact forces, from another environment."
            )
        width = wanted
    if width != wanted:
        also = f" (or {ANT_D4RL_WIDTH})" if robot == "ant" else ""
        raise ShiftgymError(f"{name} are {width} wide; the {robot}'s are {wanted}{also}.")
    return observations[:, :wanted].astype(float)

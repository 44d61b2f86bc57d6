"""Check data of the hands, whose observations are too few to replay a step.

An observation holds no velocities of the hand, so nothing can be stepped. What can be checked is
that its parts agree with each other, that rewards follow from the state they were paid in, that
dropped pens end episodes, and that joints stay near the limits that a kinematic shift sets. Finger
sizes (morph shifts) and the engine leave no trace that a row could show.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from shiftgym.arrays import Array
from shiftgym.domains import Domain, catalogue
from shiftgym.envs.adroit import PenTask
from shiftgym.envs.tasks import TASKS
from shiftgym.modelling import build_model
from shiftgym_tools.reading.layouts import Block

CLOSE = 1e-4  # float32 numbers of size 1 that were computed from each other
FEW = 0.01  # fraction of rows that may fail a check: rewards at a threshold, rounding
BEYOND = 0.5  # rad that a finger or thumb may be pushed beyond its soft limit
OFTEN = 0.05  # fraction of rows that may be pushed further
JOINTS = "FFJ0 FFJ1 FFJ2 FFJ3 THJ0 THJ1 THJ2 THJ3 THJ4".split()
FIRST_JOINT = {"pen": 0, "door": 1}  # the first position that is observed
NOT_CHECKED = (
    "not checked: the hand's velocities are not in its observations, so no step was replayed; "
    "finger sizes and the engine are taken on trust"
)


def _same(a: Array, b: Array) -> Array:
    return np.all(np.abs(a - b) < CLOSE, axis=1)


def _pen_parts(seen: Array) -> Array:
    return _same(seen[:, 42:45], seen[:, 33:36] - seen[:, 36:39])


def _door_parts(seen: Array) -> Array:
    opened = np.where(seen[:, 28] > 1.0, 1.0, -1.0)
    near = np.abs(seen[:, 28] - 1.0) < CLOSE
    return _same(seen[:, 35:38], seen[:, 29:32] - seen[:, 32:35]) & (near | (seen[:, 38] == opened))


def _pen_reward(after: Array, rewards: Array) -> dict[str, Array]:
    """Compare with the reward of mj_envs, which the observation determines."""
    distance = np.linalg.norm(after[:, 39:42], axis=1)
    cosine = (after[:, 33:36] * after[:, 36:39]).sum(axis=1)
    near = distance < 0.075
    paid = cosine - distance + 10.0 * (near & (cosine > 0.9)) + 50.0 * (near & (cosine > 0.95))
    paid = paid - 5.0 * (after[:, 26] < PenTask.dropped_height)
    return {"original": np.abs(rewards - paid) < 1e-3, "sparse": _sparse(rewards)}


def _door_reward(after: Array, rewards: Array) -> dict[str, Array]:
    """Compare with the original reward, but for its cost of speed, which is small and unseen."""
    hinge, apart = after[:, 28], np.linalg.norm(after[:, 35:38], axis=1)
    paid = 2.0 * (hinge > 0.2) + 8.0 * (hinge > 1.0) + 10.0 * (hinge > 1.35)
    paid = paid - 0.1 * np.square(hinge - 1.57)

    def within(left: Array) -> Array:
        return (left < 1e-3) & (left > -1.0)

    return {
        "original": within(rewards - (paid - 0.1 * apart)),
        "flipped": within(rewards - (paid + 0.1 * apart)),
        "sparse": _sparse(rewards),
    }


def _sparse(rewards: Array) -> Array:
    return (np.abs(rewards + 0.1) < 1e-6) | (rewards == 10.0)


PARTS: dict[str, Callable[[Array], Array]] = {"pen": _pen_parts, "door": _door_parts}
REWARDS = {"pen": _pen_reward, "door": _door_reward}


@dataclass
class HandCheck:
    """Gather what the blocks of a dataset show; use :meth:`note`, then the summaries.

    Attributes:
        domain: the claimed domain.
        rows: rows seen.
        wrong_parts: observations whose parts contradict each other.
        paid: rows whose reward follows each rule (``original``, ``flipped``, ``sparse``).
        dropped_on: pens dropped without the episode ending there.
        ended_held: numbers of the terminal rows whose pen was not dropped, or, of the door, which
            never ends, of all terminal rows.
        pushed: rows with a joint far beyond its limits, by slug of the robot's domains.
    """

    domain: Domain
    rows: int = 0
    wrong_parts: int = 0
    paid: dict[str, int] = field(default_factory=dict)
    dropped_on: int = 0
    ended_held: list[int] = field(default_factory=list)
    pushed: dict[str, int] = field(default_factory=dict)

    def note(self, block: Block) -> None:
        """Look at a block; rows without a known next observation are left out."""
        finite = np.isfinite(block.observations).all(axis=1) & np.isfinite(block.rewards)
        good = block.known & finite & np.isfinite(block.next_observations).all(axis=1)
        after, rewards = block.next_observations[good], block.rewards[good]
        self.rows += len(rewards)
        self.wrong_parts += int((~PARTS[self.domain.robot](after)).sum())
        for rule, follows in REWARDS[self.domain.robot](after, rewards).items():
            self.paid[rule] = self.paid.get(rule, 0) + int(follows.sum())
        ended = TASKS[self.domain.robot].terminal(after)
        self.dropped_on += int((ended & ~block.terminals[good]).sum())
        false = np.zeros(len(good), dtype=bool)
        false[good] = block.terminals[good] & ~ended
        if self.domain.robot == "door":
            false = block.terminals
        self.ended_held += (block.first + np.flatnonzero(false)).tolist()
        for slug, (columns, low, high) in limits(self.domain).items():
            joints = after[:, columns]
            far = ((joints > high + BEYOND) | (joints < low - BEYOND)).any(axis=1)
            self.pushed[slug] = self.pushed.get(slug, 0) + int(far.sum())

    @property
    def reward_rule(self) -> str | None:
        """Name the rule that the rewards follow; None where they follow none that is known."""
        for rule, count in self.paid.items():
            if self.rows and count >= (1 - FEW) * self.rows:
                return rule
        return None

    def fitting(self) -> list[str]:
        """List the slugs of the robot's domains whose joint limits the data respect."""
        return [slug for slug, count in self.pushed.items() if count <= OFTEN * max(1, self.rows)]

    def problems(self) -> list[str]:
        """Say what contradicts the claim."""
        found = []
        if self.wrong_parts > FEW * self.rows:
            found.append(
                f"{self.wrong_parts} of {self.rows} observations contradict themselves: they are "
                f"not the {self.domain.robot}'s, or in another order"
            )
        if self.domain.slug in self.pushed and self.domain.slug not in self.fitting():
            others = ", ".join(self.fitting()) or "no domain of the catalogue"
            found.append(
                f"joints go far beyond the limits of {self.domain.slug} in "
                f"{self.pushed[self.domain.slug]} of {self.rows} rows; they fit {others}"
            )
        return found

    def notes(self) -> list[str]:
        """Say what is worth knowing, and what was not checked."""
        found = [NOT_CHECKED]
        if self.reward_rule == "flipped":
            found.append(
                "rewards have gymnasium-robotics' wrong sign: the distance from palm to handle is "
                "added; --mend-rewards subtracts it, as this package's environment does"
            )
        if self.reward_rule == "sparse":
            found.append("rewards are the sparse ones (10 or -0.1), not this package's dense ones")
        if self.dropped_on:
            found.append(
                f"{self.dropped_on} steps with the pen dropped do not end their episode, as they "
                "do in this package's environment and in mj_envs"
            )
        return found


def limits(of: Domain) -> dict[str, tuple[list[int], Array, Array]]:
    """Give the columns of index finger and thumb, and their limits (rad), by domain of a robot."""
    domains = [d for d in catalogue().values() if d.robot == of.robot]
    found = {}
    for where in domains if of in domains else [*domains, of]:
        model = build_model(where)
        ids = [k for k in range(model.njnt) if any(model.joint(k).name.endswith(n) for n in JOINTS)]
        low, high = model.jnt_range[ids].astype(np.float32).T
        found[where.slug] = ([k - FIRST_JOINT[of.robot] for k in ids], low, high)
    return found


def mended_door_rewards(rewards: Array, next_observations: Array) -> Array:
    """Turn gymnasium-robotics' flipped Door rewards (n,) into the original ones."""
    apart = np.linalg.norm(next_observations[:, 35:38].astype(np.float64), axis=1)
    return (rewards - 0.2 * apart).astype(np.float32)

"""Gymnasium ids for every domain of the catalogue, and vector environments of any domains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym

from shiftgym.basics.errors import DomainError
from shiftgym.domains import Domain, catalogue, episode_steps
from shiftgym.making import domain


def register_all() -> None:
    """Register every domain of the catalogue with Gymnasium; safe to call twice."""
    for entry in catalogue().values():
        if entry.env_id not in gym.registry:
            gym.register(
                id=entry.env_id,
                entry_point="shiftgym.envs.env:ShiftEnv",
                vector_entry_point="shiftgym.envs.vector:ShiftVectorEnv",
                max_episode_steps=episode_steps(entry.robot),
                kwargs=entry.kwargs(),
            )


def make_vec(
    domains: str | Domain | Sequence[str | Domain], num_envs: int | None = None, **kwargs: Any
) -> gym.vector.VectorEnv:
    """Make a vector environment of one domain, or of several domains of one robot.

    Args:
        domains: a domain, or one per sub-environment.
        num_envs: number of sub-environments; 1 for one domain, and given by the list for several.
        kwargs: as for :class:`shiftgym.envs.vector.ShiftVectorEnv`.

    Raises:
        DomainError: no domains, several robots, or a ``num_envs`` that contradicts the list.

    Example:
        >>> envs = make_vec(["hopper", "hopper-kinematic"], autoreset_mode="same_step")
        >>> observations, infos = envs.reset(seed=0)
    """
    if isinstance(domains, str | Domain):
        return domain(domains).make_vec(1 if num_envs is None else num_envs, **kwargs)
    found = [domain(entry) for entry in domains]
    if not found:
        raise DomainError("Give at least one domain.")
    if num_envs not in (None, len(found)):
        raise DomainError(f"num_envs={num_envs}, but {len(found)} domains are listed.")
    if len({entry.robot for entry in found}) > 1:
        robots = sorted({entry.robot for entry in found})
        raise DomainError(f"One vector environment holds one robot, got {', '.join(robots)}.")
    shifts = [entry.kwargs()["shift"] for entry in found]
    return found[0].make_vec(len(found), **({"shift": shifts} | kwargs))

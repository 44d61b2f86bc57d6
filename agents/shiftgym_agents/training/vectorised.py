"""Make one vector environment of all the places where runs are evaluated."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import shiftgym
from shiftgym.basics.errors import ShiftgymError
from shiftgym.domains import Domain
from shiftgym_agents.data.places import GymEnv, Place, slug_of


def make_envs(places: Sequence[Place], threads: int = 0) -> Any:
    """Make a vector environment, one sub-environment for each place.

    Domains of a robot share shiftgym's own. Any other environment brings its own vector environment
    if it has one that takes a seed for each sub-environment; else they are stepped one by one.

    Args:
        places: where, one per sub-environment.
        threads: C++ threads of shiftgym's own; 0 for one per CPU.

    Raises:
        ShiftgymError: they cannot be made, or not together.
    """
    domains = [where for where in places if isinstance(where, Domain)]
    others = [where for where in places if isinstance(where, GymEnv)]
    if len(domains) == len(places):
        return shiftgym.make_vec(domains, autoreset_mode="disabled", num_threads=threads)
    if len(others) < len(places):
        named = ", ".join(dict.fromkeys(map(slug_of, places)))
        raise ShiftgymError(
            f"Runs in lockstep are evaluated in domains of one robot, all in other environments, "
            f"or all nowhere, got {named}: train them apart."
        )
    return _native(others) or _one_by_one(others)


def _one_by_one(places: Sequence[GymEnv]) -> Any:
    try:
        return SyncVectorEnv(
            [where.build for where in places], autoreset_mode=AutoresetMode.DISABLED
        )
    except ShiftgymError:
        raise
    except Exception as error:  # spaces that differ, and whatever environments raise
        raise ShiftgymError(
            f"{places[0].slug} cannot be made {len(places)} times: {type(error).__name__}: {error}"
        ) from error


def _native(places: Sequence[GymEnv]) -> Any:
    """Make an environment's own vector environment; None unless each run can be seeded there.

    Equal seeds must give equal starts, or a run would not earn alone what it earns among others.
    """
    first = places[0]
    if first.make is not None or first.steps or len(set(places)) > 1:
        return None
    name = first.registered()
    if name not in gym.registry or gym.registry[name].vector_entry_point is None:
        return None
    envs: Any = gym.make_vec(
        name,
        num_envs=len(places),
        vectorization_mode="vector_entry_point",
        **json.loads(first.options),
    )
    try:
        seen = np.asarray(envs.reset(seed=[7] * len(places))[0])
        if (seen == seen[:1]).all():
            return envs
    except Exception:  # it takes one seed only, for instance
        pass
    envs.close()
    return None

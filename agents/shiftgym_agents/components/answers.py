"""Ask a domain's own simulator what it answers at observed states, to judge what was learned of it.

No training reads these answers: they only say how good a model is, as evaluation says it of a
policy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from shiftgym.domains import Domain
from shiftgym.envs.locomotion import Locomotion
from shiftgym.envs.tasks import TASKS
from shiftgym_agents.data.places import Place, robot_of

EDGE = 1e-3  # velocities so near to where they are clipped may have been clipped


def tellable(domain: Place, obs: np.ndarray) -> np.ndarray:
    """Say which observations `(N, O)` tell the simulation's state, `(N,)` bool.

    Hands observe no velocities, and a velocity that was clipped is not known.
    """
    robot = robot_of(domain)
    task = None if robot is None else TASKS.get(robot)
    if not isinstance(task, Locomotion) or obs.shape[1] != task.observation_size:
        return np.zeros(len(obs), bool)
    if task.clip is None:
        return np.asarray(np.isfinite(obs).all(1))
    return np.asarray((np.abs(obs) < task.clip - EDGE).all(1))


def answers(domain: Place, obs: np.ndarray, act: np.ndarray) -> np.ndarray:
    """Step a domain once from each observed state.

    Args:
        domain: Where.
        obs: Raw observations `(N, O)`, all of which are `tellable`.
        act: Actions `(N, A)`.

    Returns:
        The next observations `(N, O)`.
    """
    task = TASKS[robot_of(domain) or ""]
    assert isinstance(domain, Domain) and isinstance(task, Locomotion)
    found = np.empty(obs.shape)
    env = domain.make()
    try:
        env.reset(seed=0)
        world: Any = env.unwrapped
        positions = world.model.nq - task.hidden
        for row, (state, action) in enumerate(zip(obs.astype(np.float64), act, strict=True)):
            qpos = np.concatenate([np.zeros(task.hidden), state[:positions]])
            world.set_state(qpos, state[positions:])
            found[row] = world.step(np.asarray(action, np.float32))[0]
    finally:
        env.close()
    return found

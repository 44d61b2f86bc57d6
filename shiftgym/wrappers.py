"""Observations as older data files have them."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv, VectorObservationWrapper

from shiftgym.arrays import Array
from shiftgym.errors import ShiftgymError

D4RL_ANT = 111  # 27 numbers and 84 contact forces that mujoco-py never filled


def _padded_space(space: gym.Space, size: int) -> Box:
    if not isinstance(space, Box) or len(space.shape) != 1 or space.shape[0] > size:
        raise ShiftgymError(f"Cannot pad observations {space} to {size} numbers.")
    return Box(-np.inf, np.inf, (size,), space.dtype.type)


class PadObservation(gym.ObservationWrapper, RecordConstructorArgs):
    """Append zeros to observations, so that Ant's have the 111 numbers of D4RL's files.

    Args:
        env: a single environment.
        size: length of the padded observation.

    Example:
        >>> import gymnasium, shiftgym
        >>> PadObservation(gymnasium.make("ShiftAnt-v0")).reset(seed=0)[0].shape
        (111,)
    """

    def __init__(self, env: gym.Env, size: int = D4RL_ANT):
        RecordConstructorArgs.__init__(self, size=size)
        super().__init__(env)
        self.observation_space = _padded_space(env.observation_space, size)

    def observation(self, observation: Array) -> Array:
        """Append the zeros."""
        return np.pad(observation, (0, self.observation_space.shape[0] - len(observation)))  # type: ignore[index]


class PadVectorObservation(VectorObservationWrapper):
    """Append zeros to a vector environment's observations; modes ``next_step`` and ``disabled``.

    Args:
        env: a vector environment.
        size: length of one padded observation.
    """

    def __init__(self, env: VectorEnv, size: int = D4RL_ANT):
        super().__init__(env)
        self.single_observation_space = _padded_space(env.single_observation_space, size)
        self.observation_space = gym.vector.utils.batch_space(
            self.single_observation_space, env.num_envs
        )

    def observations(self, observations: Array) -> Array:
        """Append the zeros."""
        missing = self.observation_space.shape[1] - observations.shape[1]  # type: ignore[index]
        return np.pad(observations, ((0, 0), (0, missing)))

"""Hold what agents did since their last update, and estimate how much better than expected it was.

Advantages are those of GAE (Schulman et al. 2016, arXiv:1506.02438). With rewards r, values V, the
true next observation s', `terminated` d and `ended` e (terminated or truncated), per agent:

    delta_t = r_t + gamma (1 - d_t) V(s'_t) - V(s_t)         a truncated step bootstraps, too
    A_t     = delta_t + gamma lambda (1 - e_t) A_{t+1}       returns are A_t + V(s_t)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rollout:
    """Hold `T` steps of `E` sub-environments per agent, float32.

    Attributes:
        obs: observations acted on, (R, T, E, obs).
        actions: actions as drawn, before the environment clips them, (R, T, E, act).
        rewards: (R, T, E).
        next_obs: true next observations, also of ended episodes, (R, T, E, obs).
        terminated: 1 where an episode reached a terminal state, (R, T, E).
        ended: 1 where an episode terminated or was truncated, (R, T, E).
    """

    obs: Tensor
    actions: Tensor
    rewards: Tensor
    next_obs: Tensor
    terminated: Tensor
    ended: Tensor

    @classmethod
    def empty(cls, runs: int, steps: int, envs: int, obs: int, act: int) -> Rollout:
        """Make room for a rollout."""
        shape = (runs, steps, envs)
        widths = ((obs,), (act,), (), (obs,), (), ())
        return cls(*(torch.zeros(*shape, *width) for width in widths))


def advantages(
    rollout: Rollout, values: Tensor, next_values: Tensor, discount: float, gae_lambda: float
) -> Tensor:
    """Estimate advantages (R, T, E) by GAE from values of observations and next observations."""
    going = discount * (1 - rollout.terminated)
    delta = rollout.rewards + going * next_values - values
    decay = discount * gae_lambda * (1 - rollout.ended)
    found, ahead = torch.empty_like(delta), torch.zeros_like(delta[:, 0])
    for t in reversed(range(delta.shape[1])):
        ahead = delta[:, t] + decay[:, t] * ahead
        found[:, t] = ahead
    return found

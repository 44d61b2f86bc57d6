"""Give the pen's episodes other targets: the hand and the pen move as they do for any.

A target is a direction for the pen and nothing that anything touches, so an episode that misses its
own target may be a perfect one for another direction. Of the observation only the two entries that
speak of the target change (hindsight relabelling, Andrychowicz et al. 2017, arXiv:1707.01495):

    | 24 hand | 3 place | 6 speed | 3 direction | 3 target | 3 place off its own | 3 direction off |
    0         24        27        33            36         39                    42               45
"""

from __future__ import annotations

import torch
from torch import Tensor

DIRECTION, TARGET, PLACE_OFF, OFF = slice(33, 36), slice(36, 39), slice(39, 42), slice(42, 45)
WIDEST = 1.0  # radians: a reset turns the target by two angles of at most this
NEAR, ALIGNED, FACING = 0.075, 0.9, 0.95  # metres, cosines: where the reward's bonuses begin


def directions(angles: Tensor) -> Tensor:
    """Turn Euler angles `(..., 2)` in radians into target directions `(..., 3)`, as resets do."""
    x, y = angles.unbind(-1)
    return torch.stack([y.sin(), -x.sin() * y.cos(), x.cos() * y.cos()], -1)


def relabel(obs: Tensor, targets: Tensor) -> Tensor:
    """Return observations `(..., 45)` as they would be with other target directions `(..., 3)`."""
    obs = obs.clone()
    obs[..., TARGET] = targets
    obs[..., OFF] = obs[..., DIRECTION] - targets
    return obs


def judge(obs: Tensor, lengths: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Say what episodes would have earned, and how long they held the pen, with other targets.

    Args:
        obs: observations `(N, T, 45)`; the reward of a step is that of the observation it leads to.
        lengths: observations `(N,)` that belong to the episode.
        targets: directions `(G, 3)`.

    Returns:
        Returns `(N, G)`, and the steps that end with the pen as its target is `(N, G)`.
    """
    cosine = obs[..., DIRECTION] @ targets.T
    distance = obs[..., PLACE_OFF].norm(dim=-1, keepdim=True)
    steps = torch.arange(obs.shape[1])
    mine = ((steps >= 1) & (steps < lengths[:, None]))[..., None]
    near = mine & (distance < NEAR)
    facing = near & (cosine > FACING)
    earned = (cosine - distance) * mine + 10.0 * (near & (cosine > ALIGNED)) + 50.0 * facing
    return earned.sum(1), facing.sum(1)

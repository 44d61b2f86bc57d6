"""Finish a snapshot into the policy that is kept: less noise, half the bytes.

    noise      the standard deviations of all actions are scaled by one number, so that what the
               noise changes in the executed actions is at most `NOISE` (root mean square over
               visited states, in units of the action). Soft actor-critic keeps exploring as long
               as it trains; recorded data of the field are close to deterministic
    weights    rounded to float16, which a file holds in half the bytes; they are read as float32

The hands' policies stay as they are. Both come before any measurement: what is graded is what is
packaged.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from shiftgym.basics.arrays import Array
from shiftgym.domains import Domain
from shiftgym.evaluation import evaluate, policy_act
from shiftgym.policies import Policy

NOISE = 0.05
LEAST = 0.02  # no scale below: noise that small is none
SEED, EPISODES, EVERY = 400_000, 4, 20  # states to measure noise in: one of twenty steps


def finish(policy: Policy, where: str | Domain, quiet: bool = True) -> Policy:
    """Give a snapshot of soft actor-critic as it is kept; see the module's text.

    Args:
        policy: the snapshot.
        where: the domain whose states count.
        quiet: whether to scale the noise; False keeps that of training.
    """
    if policy.metadata["kind"] != "sac":
        return policy
    scale = noise_scale(policy, visited(policy, where)) if quiet else 1.0
    arrays = dict(policy.arrays)
    if scale != 1.0:
        mean, log_std = np.split(arrays["b2"], 2)
        arrays["b2"] = np.concatenate([mean, log_std + np.float32(np.log(scale))])
    arrays = {name: array.astype(np.float16).astype(np.float32) for name, array in arrays.items()}
    return replace(policy, arrays=arrays, metadata=policy.metadata | {"noise_scale": f"{scale:g}"})


def visited(policy: Policy, where: str | Domain) -> Array:
    """Collect states (N, obs) that the policy visits as it trains."""
    act, seen = policy_act(policy, SEED), []

    def watched(observations: Array) -> Array:
        seen.append(observations)
        return act(observations)

    evaluate(watched, where, EPISODES, SEED)
    return np.concatenate(seen[::EVERY])


def noise_scale(policy: Policy, states: Array) -> float:
    """Give the factor on the standard deviations that leaves `NOISE`, at most 1; two digits."""
    mean, log_std = policy.before_tanh(states)
    normal = np.random.default_rng(SEED).standard_normal(mean.shape)

    def noise(scale: float) -> float:
        moved = np.tanh(mean + scale * np.exp(log_std) * normal) - np.tanh(mean)
        return float(np.sqrt(np.square(moved).mean()))

    if noise(1.0) <= NOISE:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if noise(middle) < NOISE else (low, middle)
    return max(LEAST, float(f"{low:.2g}"))

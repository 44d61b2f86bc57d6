"""Roll out all runs in many domains at once, every episode from the start it is given.

One vector environment holds runs x levels x episodes. Episodes that are over go on from a new
start, uncounted; once half of the sub-environments are of that kind, the others move to a smaller
vector environment, state and all. Policies always act on blocks of the same shape, one per
run and level, so that what an episode returns depends on its domain and start alone: equal domains
give equal returns, whatever else is in the pass.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import shiftgym
from shiftgym.domains import Domain
from shiftgym_agents.core.policy import Policy
from shiftgym_agents.training.evaluator import Returns

Perceive = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Changes observations `(R, L, E, O)`, given which episodes still go on `(R, L, E)`."""
SHRINK_AT = 0.5  # share of sub-environments still wanted at which the others are left behind
STAY = 50  # steps between two such moves at least: a move takes about as long
ROW_BYTES = 400_000  # one sub-environment of a hand, the largest; a hopper takes a tenth


def rows_that_fit() -> int:
    """Say how many sub-environments fit in a quarter of this machine's memory."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not told on every system
        memory = 4 << 30
    return memory // 4 // ROW_BYTES


def roll_out(
    policy: Policy,
    places: Sequence[Sequence[Domain]],
    starts: np.ndarray,
    perceive: Perceive | None = None,
    stepped: Callable[[], object] | None = None,
    threads: int = 0,
) -> Returns:
    """Run one deterministic episode per run, level and start.

    Args:
        policy: The policies of `R` runs.
        places: Where each run's episodes of each level are, `R` lists of `L` domains of one robot.
        starts: Reset seeds `(R, E)`, the same for all levels of a run.
        perceive: What policies see instead of the observations.
        stepped: Called after every step.
        threads: C++ threads that step; 0 for one per CPU.

    Returns:
        Returns and lengths, `(R, L, E)` each; NaN where a run's policy is not finite.
    """
    shape = len(places), len(places[0]), starts.shape[1]
    flat = [place for run in places for place in run for _ in range(shape[2])]
    seeds = np.broadcast_to(starts[:, None], shape).ravel().tolist()
    rows = np.arange(len(flat))  # whose episode each sub-environment runs
    envs = _make(flat, rows, threads)
    obs, _ = envs.reset(seed=seeds)
    policy.require_fit(obs)
    total, length = np.zeros(len(flat)), np.zeros(len(flat), np.int64)
    alive = np.ones(len(flat), bool)
    stayed = 0
    while True:
        actions = _act(policy, obs.reshape(*shape, -1), alive.reshape(shape), perceive)
        obs[rows], reward, terminated, truncated, _ = envs.step(actions[rows])
        total[rows] += reward * alive[rows]
        length[rows] += alive[rows]
        ended = terminated | truncated
        alive[rows] &= ~ended
        going = alive[rows]
        if stepped is not None:
            stepped()
        if not going.any():
            break
        stayed += 1
        if stayed >= STAY and going.mean() <= SHRINK_AT:
            state = {name: values[going] for name, values in envs.get_state().items()}
            envs.close()
            rows = rows[going]
            envs = _make(flat, rows, threads)
            envs.set_state(state)
            stayed = 0
        elif ended.any():
            obs[rows], _ = envs.reset(options={"reset_mask": ended})
    envs.close()
    returns = total.reshape(shape)
    returns[[not policy.finite(run) for run in range(shape[0])]] = np.nan
    return Returns(returns, length.reshape(shape))


def _make(places: Sequence[Domain], rows: np.ndarray, threads: int) -> Any:
    chosen = [places[row] for row in rows]
    return shiftgym.make_vec(chosen, autoreset_mode="disabled", num_threads=threads)


def _act(
    policy: Policy, obs: np.ndarray, alive: np.ndarray, perceive: Perceive | None
) -> np.ndarray:
    """Choose actions `(R L E, A)`; zeros where a level's episodes are all over."""
    seen = obs if perceive is None else perceive(obs, alive)
    actions = np.zeros((*obs.shape[:3], policy.act_size), np.float32)
    for level in np.flatnonzero(alive.any((0, 2))):
        actions[:, level] = policy.act(seen[:, level])
    return actions.reshape(-1, policy.act_size)

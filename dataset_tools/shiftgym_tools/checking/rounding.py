"""Tell steps that stand at a contact's threshold from steps that lead elsewhere.

A recorded state is rounded to float32. Where a foot is about to touch, or to slip, two states that
round alike can take steps far apart, so that a replay from the rounded one misses the recorded
next state though nothing is damaged. Such a row is replayed from many states that are recorded
alike, rounded and, where velocities are clipped, with any beyond; if one of them arrives where the
row says, the row is right.
"""

from __future__ import annotations

from dataclasses import replace as changed

import numpy as np

from shiftgym.envs.locomotion import Locomotion
from shiftgym.envs.tasks import TASKS
from shiftgym_tools.checking.replay import FIELDS, Physics, Replay, Transitions, replay

ASTRAY = 0.1  # m, rad, m/s, rad/s: more than most contacts that switch do
COPIES = 1024  # states that are tried for each row
BEYOND = 1.5  # times a clipped velocity, as far as it is known, that it may have been
FEW = 0.01  # fraction of rows beyond which this is another domain, not a threshold
ROUNDING = 2.0**-23  # relative, of float32: twice what rounding moves at most


def explain(rows: Transitions, found: Replay, physics: Physics) -> Replay:
    """Give a replay whose errors above `ASTRAY` are the least from any state that rounds alike.

    Args:
        rows: the recorded steps.
        found: their replay.
        physics: what they were replayed on.
    """
    astray = np.flatnonzero(np.nan_to_num(found.errors, nan=np.inf) > ASTRAY)
    astray = astray[found.usable[astray] & ~found.joins[astray]]
    if not 0 < len(astray) <= len(rows) * FEW:
        return found
    errors, rng = found.errors.copy(), np.random.default_rng(0)
    many = np.repeat(astray, COPIES)
    again = Transitions(**{name: getattr(rows, name)[many] for name in FIELDS})
    moved = {}
    for name in ("qpos", "qvel"):
        values = getattr(found, name)[many]
        moved[name] = values * (1 + ROUNDING * rng.uniform(-1, 1, values.shape))
    task = TASKS[found.domain.robot]
    assert isinstance(task, Locomotion)  # others cannot be replayed
    if (clip := task.clip) is not None:
        fast = np.abs(moved["qvel"]) >= clip * (1 - ROUNDING)
        known = BEYOND * np.abs(moved["qvel"])
        speeds = np.copysign(rng.uniform(clip, np.maximum(known, clip)), moved["qvel"])
        moved["qvel"] = np.where(fast, speeds, moved["qvel"])
    start = changed(found, usable=np.ones(len(many), dtype=bool), **moved)
    tried = replay(found.domain, again, physics=physics, start=start).errors
    best = np.fmin.reduce(tried.reshape(len(astray), COPIES), axis=1)
    errors[astray] = np.fmin(errors[astray], best)
    return changed(found, errors=errors)

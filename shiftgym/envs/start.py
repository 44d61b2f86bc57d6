"""Where an episode starts: the options of ``reset``, and scenes given by the user.

A scene is what a hand's file holds of a moment, under the names gymnasium-robotics gives them:

    {"qpos": (nq,), "qvel": (nv,), "desired_orien": (4,) for the pen, "door_body_pos": (3,)}

A running robot's scene is ``qpos`` and ``qvel`` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from shiftgym.basics.arrays import Array
from shiftgym.basics.errors import ShiftgymError, nearest
from shiftgym.engine import mujoco
from shiftgym.envs.task import Sims, Task

SCENE = "initial_state_dict"  # gymnasium-robotics' name for the option


def check_options(
    options: Mapping[str, Any] | None,
    valid: Collection[str],
    known: Callable[[str], bool] = lambda name: False,
) -> dict[str, Any]:
    """Give reset's options as a dictionary, none of them unknown.

    Args:
        options: what the user gives.
        valid: names of options.
        known: whether a name is left to somebody else to refuse.

    Raises:
        ShiftgymError: an option that nothing here would follow.
    """
    given = dict(options or {})
    for name in given:
        if name not in valid and not known(str(name)):
            raise ShiftgymError(f"Unknown reset option {name!r}. {nearest(str(name), valid)}")
    return given


def read_scene(
    task: Task, model: mujoco.MjModel, scene: Any, rows: int | None = None, whole: bool = True
) -> dict[str, Array]:
    """Check a scene, and give its arrays as float64.

    Args:
        task: the robot's task.
        model: its model, for sizes.
        scene: a mapping; see the module.
        rows: give every array this many rows; a scene without rows goes into all of them.
        whole: refuse a scene that does not say where the goal (or the door) is.

    Raises:
        ShiftgymError: missing or unknown names, wrong shapes, or numbers that are not finite.
    """
    shapes = {"qpos": (model.nq,), "qvel": (model.nv,)}
    shapes |= {name: getattr(model, field)[0].shape for name, (field, _) in task.scene.items()}
    if not isinstance(scene, Mapping):
        raise ShiftgymError(f"A scene is a dictionary of {', '.join(shapes)}; got {type(scene)}.")
    for name in scene:
        if name not in shapes:
            raise ShiftgymError(f"Unknown part of a scene {name!r}. {nearest(str(name), shapes)}")
    for name in shapes if whole else ("qpos", "qvel"):
        if name not in scene:
            raise ShiftgymError(f"The scene lacks {name!r}; it is made of {', '.join(shapes)}.")
    found = {}
    for name, value in scene.items():
        try:
            array = np.asarray(value, dtype=float)
        except (TypeError, ValueError):
            raise ShiftgymError(f"{name} must be numbers, got {value!r}.") from None
        wanted = {shapes[name]} if rows is None else {shapes[name], (rows, *shapes[name])}
        if array.shape not in wanted:
            listed = " or ".join(map(str, sorted(wanted, key=len)))
            raise ShiftgymError(f"{name} has shape {array.shape}, expected {listed}.")
        if not np.isfinite(array).all():
            raise ShiftgymError(f"{name} must be finite; found {array[~np.isfinite(array)][0]}.")
        shape = shapes[name] if rows is None else (rows, *shapes[name])
        found[name] = np.broadcast_to(array, shape)
    return found


def place(task: Task, sims: Sims, row: int, scene: Mapping[str, Array]) -> None:
    """Write a scene into one row; the caller computes the derived fields next."""
    for name, value in scene.items():
        if name in task.scene:
            field, body = task.scene[name]
            getattr(sims, field)[row, sims.ids(f"body:{body}")[0]] = value
        else:
            getattr(sims, name)[row] = value


def keep_scene(task: Task, sims: Sims, row: int, fields: dict[str, Array]) -> dict[str, Array]:
    """Let fields that are about to be written hold the scene that one row has now."""
    kept = dict(fields)
    for field, body in task.scene.values():
        if field in kept:
            place = sims.ids(f"body:{body}")[0]
            kept[field] = kept[field].copy()
            kept[field][place] = getattr(sims, field)[row, place]
    return kept


def scene_of(task: Task, sims: Sims, row: int) -> dict[str, Array]:
    """Read the scene of one row, as copies."""
    found = {"qpos": sims.qpos[row].copy(), "qvel": sims.qvel[row].copy()}
    for name, (field, body) in task.scene.items():
        found[name] = getattr(sims, field)[row, sims.ids(f"body:{body}")[0]].copy()
    return found

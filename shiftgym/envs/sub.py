"""What can be asked of each sub-environment: ``call``, ``get_attr`` and ``set_attr``.

The sub-environments are rows of one ``mujoco.batch``, not objects. So there is a table of what
they have, under the names of the single environment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shiftgym.basics.errors import ShiftgymError, nearest
from shiftgym.envs.start import scene_of

Ask = Callable[..., Any]  # of the vector environment and a row

READABLE: dict[str, Ask] = {  # name -> what it is of one row; models and data are copies
    "action_space": lambda envs, row: envs.single_action_space,
    "data": lambda envs, row: envs.copy_of(row)[1],
    "domain": lambda envs, row: envs.domains[row],
    "dt": lambda envs, row: envs.sims.dt,
    "frame_skip": lambda envs, row: envs.task.frame_skip,
    "model": lambda envs, row: envs.copy_of(row)[0],
    "np_random": lambda envs, row: envs.np_random[row],
    "np_random_seed": lambda envs, row: envs.np_random_seed[row],
    "observation_space": lambda envs, row: envs.single_observation_space,
    "parameters": lambda envs, row: envs.changing.in_force(row),
    "physics": lambda envs, row: envs.physics,
    "render_mode": lambda envs, row: envs.render_mode,
    "task": lambda envs, row: envs.task,
}
CALLABLE: dict[str, Ask] = {
    "get_env_state": lambda envs, row: scene_of(envs.task, envs.sims, row),
    "observe": lambda envs, row: envs.observe()[row],
    "render": lambda envs, row: envs.render(row),
}


class Asked:
    """Answer for every sub-environment of the vector environment that this is a part of."""

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Call a method of every sub-environment, such as ``render``, or read an attribute.

        Raises:
            ShiftgymError: sub-environments have no such thing; the message says what they have.
        """
        envs: Any = self
        rows = range(envs.num_envs)
        if name in READABLE:
            return tuple(READABLE[name](envs, row) for row in rows)
        if name in CALLABLE:
            return tuple(CALLABLE[name](envs, row, *args, **kwargs) for row in rows)
        raise ShiftgymError(
            f"Sub-environments have no {name!r}. {nearest(name, [*READABLE, *CALLABLE])} Whole "
            'single environments: gymnasium.make_vec(..., vectorization_mode="sync").'
        )

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Read an attribute of every sub-environment, such as ``domain``; see :meth:`call`."""
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> None:
        """Refuse: sub-environments are rows of one batch and have no attributes of their own.

        Raises:
            ShiftgymError: always; the message says what to do instead.
        """
        raise ShiftgymError(
            f"Cannot set {name!r}: sub-environments are rows of one batch. set_state() writes "
            'their states; gymnasium.make_vec(..., vectorization_mode="sync") makes N objects.'
        )

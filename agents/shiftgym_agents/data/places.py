"""Say where policies are evaluated: a domain of shiftgym, any Gymnasium environment, or nowhere.

Domain          one of shiftgym's robots with a shift
GymEnv          any other environment: an id, an id that a module or file registers, or a
                function that makes one
None            nowhere: training reports losses and what the data alone can tell
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box

from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.own_code import load_place
from shiftgym.datasets import flat
from shiftgym.domains import Domain, episode_steps
from shiftgym.making import domain, from_kwargs

OURS = re.compile(r"(shiftgym:)?Shift[A-Za-z0-9]+(-.+)?-v0")
NONE = "none"
Box2 = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class GymEnv:
    """Name an environment that is none of shiftgym's.

    Attributes:
        id: ``Pendulum-v1``, ``module:Id-v0`` or ``FILE.py:Id-v0``; of a function, what it is
            called.
        options: its keyword arguments as JSON.
        make: the function that makes it, where one was given.
        steps: where episodes are cut; 0 for the environment's own limit.
    """

    id: str
    options: str = "{}"
    make: Callable[[], gym.Env] | None = field(default=None, repr=False)
    steps: int = 0

    @property
    def slug(self) -> str:
        """Name it in results."""
        return self.id if self.options == "{}" else f"{self.id} {self.options}"

    def kwargs(self) -> dict[str, Any]:
        """Give what `config.json` keeps of it."""
        own = {"own": self.make is not None, "steps": self.steps}
        return {"env": self.id, "options": json.loads(self.options)} | own

    def build(self) -> gym.Env:
        """Make one environment.

        Raises:
            ShiftgymError: it cannot be made, or its episodes need not end; the message says why.
        """
        try:
            made = self._made()
        except ShiftgymError:
            raise
        except Exception as error:  # whatever the user's environment raises
            raise ShiftgymError(
                f"The environment {self.slug} cannot be made: {type(error).__name__}: {error}"
            ) from error
        if made.spec is None or made.spec.max_episode_steps is None:
            if not made.has_wrapper_attr("_max_episode_steps"):
                made.close()
                raise ShiftgymError(
                    f"Nothing says when an episode of {self.slug} is cut: add --eval-steps 1000, "
                    "or register it with max_episode_steps."
                )
        return made

    def _made(self) -> gym.Env:
        if self.make is not None:
            made = self.make()
            return gym.wrappers.TimeLimit(made, self.steps) if self.steps else made
        limit = {"max_episode_steps": self.steps} if self.steps else {}
        return gym.make(self.registered(), **limit, **json.loads(self.options))

    def registered(self) -> str:
        """Import what registers the id, and give the bare id."""
        module, colon, name = self.id.rpartition(":")
        if colon:
            load_place(module, "--eval-env")
        return name


Place = Domain | GymEnv | None


def place(given: Any, steps: int = 0) -> Place:
    """Make a place of an id, a domain, an environment's spec, or a function that makes one.

    Args:
        given: ``Pendulum-v1``; ``module:Id-v0`` or ``FILE.py:Id-v0``, whose code registers the id;
            an id of shiftgym's own; ``none`` or None for nowhere; a `gymnasium` ``EnvSpec``; or a
            function without arguments that makes the environment.
        steps: where its episodes are cut; 0 for the environment's own limit.

    Raises:
        ShiftgymError: none of these.
    """
    if given is None or isinstance(given, Domain | GymEnv):
        return given
    if isinstance(given, str):
        if given == NONE:
            return None
        return domain(given) if OURS.fullmatch(given) else GymEnv(given, steps=steps)
    if isinstance(given, EnvSpec):
        try:
            options = json.dumps(given.kwargs)
        except TypeError:
            return GymEnv(given.id, make=lambda: gym.make(given), steps=steps)
        return GymEnv(given.id, options, steps=steps)
    if callable(given):
        maker: Any = given
        name = getattr(given, "__qualname__", type(given).__name__)
        return GymEnv(f"{getattr(given, '__module__', '')}.{name}", make=maker, steps=steps)
    raise ShiftgymError(
        f"Policies cannot be evaluated in {given!r:.100}: give an environment's id, its spec, a "
        "function that makes it, or none."
    )


def robot_of(where: Place) -> str | None:
    """Give the robot of shiftgym that a place is of; None for any other."""
    return where.robot if isinstance(where, Domain) else None


def slug_of(where: Place) -> str:
    """Name a place."""
    return NONE if where is None else where.slug


def kwargs_of(where: Place) -> dict[str, Any] | None:
    """Give what `config.json` keeps of a place."""
    return None if where is None else where.kwargs()


def from_record(record: Mapping[str, Any] | None) -> Place:
    """Give the place that `kwargs_of` told of.

    Raises:
        ShiftgymError: a function of a script made it.
    """
    if record is None:
        return None
    if "env" not in record:
        return from_kwargs(**record)
    if record.get("own"):
        raise ShiftgymError(
            f"These policies were evaluated in what the function {record['env']} makes: name an "
            "environment that can be made by id, with --env."
        )
    return GymEnv(record["env"], json.dumps(record["options"]), steps=record.get("steps", 0))


@cache
def spaces_of(where: Place) -> tuple[Box, Box] | None:
    """Give the observation and action spaces of a place; None for nowhere.

    Raises:
        ShiftgymError: the spaces are no vectors of numbers; the message says what to do.
    """
    if where is None:
        return None
    if isinstance(where, Domain):
        return flat.spaces(where)
    env = where.build()
    try:
        seen, acted = env.observation_space, env.action_space
    finally:
        env.close()
    found: list[Box] = []
    for name, space in (("observations", seen), ("actions", acted)):
        if not isinstance(space, Box) or len(space.shape) != 1 or not space.shape[0]:
            raise ShiftgymError(f"{where.slug}: its {name} are {space}. {_advice(name, space)}")
        found.append(space)
    return found[0], found[1]


def _advice(name: str, space: Any) -> str:
    """Say what to do about a space that is no vector."""
    if name == "actions":
        return "Methods here choose vectors of continuous actions, Box(A,), and no others."
    if isinstance(space, Box) and len(space.shape) > 1:
        return "Methods here learn from vectors: encode or flatten images in a wrapper."
    return "Methods here learn from vectors: wrap it in gymnasium.wrappers.FlattenObservation."


@cache
def steps_of(where: Place) -> int:
    """Give the steps after which an episode is cut in a place; 0 for nowhere.

    Raises:
        ShiftgymError: the environment cannot be made, or its episodes need not end.
    """
    if where is None:
        return 0
    if isinstance(where, Domain):
        return episode_steps(where.robot)
    env = where.build()
    try:
        known = env.spec and env.spec.max_episode_steps
        return int(known or env.get_wrapper_attr("_max_episode_steps"))
    finally:
        env.close()


def check_fit(where: Place, observed: int, acted: int) -> None:
    """Refuse a place whose observations or actions are of other lengths than the data's.

    Raises:
        ShiftgymError: the message has both.
    """
    spaces = spaces_of(where)
    if spaces is None:
        return
    for name, space, own in zip(("observes", "acts with"), spaces, (observed, acted), strict=True):
        if space.shape[0] != own:
            raise ShiftgymError(
                f"{slug_of(where)} {name} {space.shape[0]} numbers, the data have {own}: these are "
                "not data of this environment."
            )

"""Keep the parameters of N simulations: draw them, write them into models, save and restore them.

Both environments own one of these, the single environment with one row. A value is NaN where the
model is the domain's own. Values are drawn uniformly from their ranges, at every reset and, if
asked, every so many steps; one that the user gave holds for the rest of its episode. Draws have a
generator of their own, so that a drawn value leaves initial states as they are without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from shiftgym.basics.arrays import Array
from shiftgym.basics.errors import DomainError, ShiftgymError, nearest
from shiftgym.domains import Domain
from shiftgym.engine import mujoco
from shiftgym.envs.parameters import (
    Fields,
    changed_fields,
    check_names,
    check_range,
    check_values,
    families,
    is_target,
)
from shiftgym.envs.start import keep_scene
from shiftgym.envs.state import WORDS, pack_rng, unpack_rng
from shiftgym.envs.task import Sims, Task
from shiftgym.modelling import build_model

PARTS = ("parameters", "held", "draws")  # of a state
STREAM = 0x5348494654  # keeps draws apart from everything else that a seed starts
Write = Callable[[int, Fields], None]


class Changing:
    """Own the parameters of N simulations.

    Args:
        domains: the domain of each simulation, all of one robot.
        physics: their physics.
        randomize: ranges by parameter, ``{"friction": (0.3, 3)}``; None for none.
        every: steps from one draw to the next; None for one draw per episode.
        observed: whether observations end with the values of ``randomize``.

    Attributes:
        names: every parameter that can be given, those of ``randomize`` first.
        ranges: the ranges, by name.
        values: factors (N, P); NaN where the model is the domain's own.
        active: whether any was ever given or drawn.
        write: writes fields into one simulation's model; the environment that owns this sets it.

    Raises:
        ShiftgymError: unknown names, or ranges that no model has; the message names the nearest.
    """

    write: Write

    def __init__(
        self,
        domains: Sequence[Domain],
        physics: str,
        randomize: Mapping[str, Any] | None = None,
        every: int | None = None,
        observed: bool = False,
    ):
        """Check the arguments; the lowest and the highest values must compile."""
        robot = domains[0].robot
        declared = check_names(robot, randomize if randomize is not None else {})
        self.ranges = {name: check_range(name, (randomize or {})[name]) for name in declared}
        self.names = [*declared, *(name for name in families(robot) if name not in declared)]
        for option, given in (("randomize_every", every), ("observe_parameters", observed)):
            if given and not declared:
                raise ShiftgymError(f"{option} needs randomize, such as {{'friction': (0.3, 3)}}.")
        whole = isinstance(every, int | np.integer) and not isinstance(every, bool) and every > 0
        if every is not None and not whole:
            raise ShiftgymError(f"randomize_every must be a number of steps from 1, got {every!r}.")
        self.every, self.observed = every, bool(observed)
        self.domains, self.physics, count = list(domains), physics, len(domains)
        self._models = {each: build_model(each, physics) for each in dict.fromkeys(domains)}
        self.values = np.full((count, len(self.names)), np.nan)
        self._held = np.zeros((count, len(self.names)), dtype=bool)
        self._draws: list[np.random.Generator | None] = [None] * count
        self.active = bool(declared)
        self._written: list[set[str]] = [set() for _ in range(count)]  # unlike the domain's own
        for each in self._models:
            for end in (0, 1):
                self._fields(each, {name: self.ranges[name][end] for name in declared})

    def read(self, given: Mapping[str, Any], rows: Iterable[int]) -> dict[str, Array]:
        """Check values that a user gives, each one number or one per simulation.

        Returns:
            By name, (N,).

        Raises:
            ShiftgymError: unknown names, wrong numbers, or a model that does not compile;
                nothing has changed.
        """
        found = {}
        for name, value in given.items():
            if name not in self.names:
                hint = nearest(str(name), self.names)
                if is_target(str(name)):
                    hint += f" Declare it: randomize={{{name!r}: (lowest, highest)}}."
                raise DomainError(
                    f"The {self.domains[0].robot} has no parameter {name!r} here. {hint}"
                )
            found[name] = check_values(name, value, len(self.values))
        if found:
            for row in rows:
                self._fields(self.domains[row], {n: float(v[row]) for n, v in found.items()})
        return found

    def seed(self, row: int, seed: int | None) -> None:
        """Start the draws of a simulation anew from the seed of its episodes."""
        if self.ranges:
            entropy = np.random.SeedSequence(None if seed is None else [seed, STREAM])
            self._draws[row] = np.random.Generator(np.random.PCG64(entropy))

    def seeded(self, row: int) -> bool:
        """Say whether there is a generator to draw from, or no need of one."""
        return not self.ranges or self._draws[row] is not None

    def begin(self, row: int, given: Mapping[str, Array]) -> None:
        """Choose the parameters of a new episode: those given, those drawn, or the domain's own."""
        self.values[row], self._held[row] = np.nan, False
        self._give(row, given)
        self._draw(row)
        self._apply(row)

    def change(self, row: int, given: Mapping[str, Array]) -> None:
        """Change parameters within an episode; they hold to its end."""
        self._give(row, given)
        self._apply(row)

    def after_step(self, row: int, age: int) -> None:
        """Draw anew after the ``age``-th step of an episode, if it is time to."""
        if self.every and age % self.every == 0:
            self._draw(row)
            self._apply(row)

    def told(self) -> Array:
        """Give a copy of the values, (N, P), to tell of later."""
        return self.values.copy()

    def infos(self, values: Array, mask: Array) -> dict[str, Array]:
        """Give infos as Gymnasium's vector environments do, of values that :meth:`told` gave."""
        found: dict[str, Array] = {}
        if self.active:
            for name, each in zip(self.names, values.T, strict=True):
                known = mask & ~np.isnan(each)
                if known.any():
                    found |= {name: np.where(known, each, 0.0), f"_{name}": known}
        return found

    def in_force(self, row: int) -> dict[str, float]:
        """Give the parameters of one simulation that are not its domain's own, by name."""
        pairs = zip(self.names, self.values[row].tolist(), strict=True)
        return {name: value for name, value in pairs if value == value}

    def append(self, observations: Array) -> Array:
        """Append the values of ``randomize`` to observations (N, O), if they are to be seen."""
        if not self.observed:
            return observations
        return np.concatenate([observations, self.values[:, : len(self.ranges)]], axis=1)

    @property
    def extra(self) -> int:
        """Count the numbers that :meth:`append` adds."""
        return len(self.ranges) if self.observed else 0

    def save(self) -> dict[str, Array]:
        """Give what the future depends on, with N rows; nothing where nothing ever changed."""
        if not self.active:
            return {}
        found: dict[str, Array] = {"parameters": self.values.copy(), "held": self._held.copy()}
        if self.ranges:
            blank = np.zeros(WORDS, np.uint64)
            found["draws"] = np.stack([blank if r is None else pack_rng(r) for r in self._draws])
        return found

    def like(self, state: Any) -> dict[str, Array]:
        """Give a state of the right shapes, with the parts that a given one may have."""
        if self.ranges or not isinstance(state, Mapping) or "parameters" not in state:
            return self.save() if self.ranges else {}
        return {"parameters": self.values, "held": self._held}

    def restore(self, saved: Mapping[str, Array]) -> None:
        """Become what :meth:`save` saved; a state without parameters is of the domain's own."""
        if "parameters" in saved:
            self.values, self._held = saved["parameters"].copy(), saved["held"].astype(bool)
        else:
            self.values, self._held = self.values * np.nan, self._held & False
        self.active = bool(self.ranges) or "parameters" in saved
        if self.ranges:
            self._draws = [unpack_rng(w) if w.any() else None for w in saved["draws"]]
        for row in range(len(self.values)):
            self._apply(row)

    def _give(self, row: int, given: Mapping[str, Array]) -> None:
        self.active |= bool(given)
        for name, values in given.items():
            place = self.names.index(name)
            self.values[row, place], self._held[row, place] = values[row], True

    def _draw(self, row: int) -> None:
        rng = self._draws[row]
        for place, (low, high) in enumerate(self.ranges.values()):
            assert rng is not None
            drawn = rng.uniform(low, high)
            if not self._held[row, place]:
                self.values[row, place] = drawn

    def _apply(self, row: int) -> None:
        """Write a simulation's parameters into its model, and what they no longer change back."""
        fields = self._fields(self.domains[row], self.in_force(row))
        base = self._models[self.domains[row]]
        left = {name: field_of(base, name) for name in self._written[row] - fields.keys()}
        self.write(row, left | fields)
        self._written[row] = set(fields)

    def _fields(self, domain: Domain, values: Mapping[str, float]) -> Fields:
        return changed_fields(self._models[domain], domain, self.physics, values)


def field_of(model: mujoco.MjModel, name: str) -> Array:
    """Give a model's field, options and statistics included, as a copy."""
    holder, _, attribute = name.rpartition(".")
    return np.array(getattr(getattr(model, holder) if holder else model, attribute))


def write_model(task: Task, sims: Sims, row: int, fields: Fields) -> None:
    """Write fields into the model of the one simulation, but for its scene."""
    for name, value in keep_scene(task, sims, row, fields).items():
        holder, _, attribute = name.rpartition(".")
        owner = getattr(sims.model, holder) if holder else sims.model
        if value.ndim:
            getattr(owner, attribute)[:] = value
        else:
            setattr(owner, attribute, value.item())


def write_batch(
    batch: mujoco.batch.Batch, task: Task, sims: Sims, row: int, fields: Fields
) -> None:
    """Write fields into one simulation's model of a batch, but for its scene."""
    for name, value in keep_scene(task, sims, row, fields).items():
        if name.startswith("stat."):  # one for all of a batch; drawing and tolerance read it
            continue
        expanded = batch.expand(name)
        # bvh_aabb expands to its leading rows only
        expanded[row] = value[: expanded.shape[1]] if expanded.ndim > 1 else value
        if name == "qpos0":
            sims.qpos0[row] = value

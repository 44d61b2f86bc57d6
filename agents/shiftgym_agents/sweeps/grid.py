"""Read a grid: which pairs, methods, seeds and settings are trained, as data.

    title = "what it is, in a line"
    like = "laptop"                       # start from another grid's values
    include = ["one", "two"]              # grids that are parts of this one; then nothing else
    protocol = "tabb-locomotion"          # the pairs of a published experiment, or
    pairs = ["hopper/medium -> hopper-kinematic/medium"]
    methods = ["bc", "iql"]               # or "all"
    preset = "ours"
    seeds = 5
    first_seed = 0
    reference = "shiftgym"                # table of scores, or one by target; else the target's own
    source_size = 100_000                 # of sources that are usually larger
    lockstep = 16                         # runs that train together, at most
    every = 5_000                         # updates between evaluations
    episodes = 10                         # per run and evaluation
    eval_env = "my_robot.py:Arm-v0"       # or "none"; by default each target's own domain
    reference_returns = [20, 180]         # returns of 0 and 100 where no table has them
    [settings]                            # of every method that has the field
    steps = 30_000
    [method.otdf]                         # of one method; its preset, too
    cvae_steps = 5_000
    [variant.narrow]                      # everything once per variant, with its settings
    width = 64

A pair's sets are what `shiftgym train` takes, names, Minari ids and files; several sources are
joined as ``a + b x0.5``, with a part that is kept (`sets.py`). What else that command asks of data
that it does not know is a key here: ``eval_steps``, ``action_low``, ``action_high``, ``terminal``.
A published experiment is a grid, too: its own presets, seeds, updates and references.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shiftgym.basics.errors import DomainError, ShiftgymError, nearest, shown
from shiftgym.basics.plain_files import read_plain
from shiftgym.basics.ranges import Count, CountOrNone, Seed, Size, check_ranges
from shiftgym.basics.tables import merged
from shiftgym.scores import reference, tables
from shiftgym_agents.data.opening import unknown_place
from shiftgym_agents.methods.table import METHODS, method, settings
from shiftgym_agents.reports.protocols import names as protocol_names
from shiftgym_agents.reports.protocols import protocol
from shiftgym_agents.sweeps.sets import (
    KINDS,
    NO_SOURCE,
    called,
    check_told,
    in_a_grid,
    names_of,
    of_size,
    ours,
    robot_of,
    write_sources,
)

FILES = Path(__file__).parent / "grids"
LARGEST = 1 << 20  # bytes of a grid
ARROW = "->"
TABLES = ("settings", "method", "variant")


@dataclass(frozen=True)
class Wanted:
    """Name one run: all that decides its numbers.

    Attributes:
        method: its method.
        config: all hyperparameters.
        source: names of the source datasets, joined; ``none`` where the method uses none.
        target: name of the target dataset.
        seed: its seed.
        reference: table of scores; empty for the target's own.
        every: updates between evaluations.
        episodes: per evaluation.
        told: what else the grid tells of the data, see `sets.py`.
    """

    method: str
    config: Mapping[str, Any]
    source: str
    target: str
    seed: int
    reference: str
    every: int
    episodes: int
    told: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Grid:
    """Hold a grid; see this module for what its file holds.

    Attributes:
        name: what it is called.
        title: what it is.
        pairs: (source, target) names.
        methods: names.
        preset: where the hyperparameters start from.
        seeds: runs per method and pair.
        first_seed: the first one's.
        reference: table of scores by target; the empty name is for the others.
        source_size: rows of shiftgym's own sources that have more and say no size; 0 leaves all.
        lockstep: runs that train together, at most.
        every: updates between evaluations.
        episodes: per run and evaluation.
        told: what else is known of the data, by the names of `sets.KINDS`; a file has the keys.
        settings: values of every method that has the field.
        method: values of one method, by name; ``preset`` may be among them.
        variant: values by variant.
    """

    name: str
    title: str = ""
    pairs: tuple[tuple[str, str], ...] = ()
    methods: tuple[str, ...] = ()
    preset: str = "ours"
    seeds: Size = 1
    first_seed: Seed = 0
    reference: Mapping[str, str] = field(default_factory=dict)
    source_size: CountOrNone = 0
    lockstep: Size = 16
    every: Count = 10_000
    episodes: Size = 10
    told: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    method: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    variant: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"": {}})

    def __post_init__(self) -> None:
        """Refuse numbers outside their ranges, and names that are none.

        Raises:
            ShiftgymError: The message names the field or the name, and the nearest valid one.
        """
        check_ranges(self)
        try:
            object.__setattr__(self, "told", check_told(self.told))
        except ShiftgymError as error:
            raise type(error)(f"{self.name}: {error}") from None
        for name in (*self.methods, *self.method):
            method(name)
        for table in self.reference.values():
            if table and table not in tables():
                raise DomainError(
                    f"{self.name}: no reference {table!r}. {nearest(table, tables())}"
                )
        own = (*METHODS, *self.methods)
        known = {each.name for name in own for each in _fields(name)}
        for values in (self.settings, *self.variant.values()):
            for key in values:
                if key not in known:
                    raise DomainError(f"{self.name}: no method has {key!r}. {nearest(key, known)}")

    def wanted(self) -> Iterator[tuple[str, Wanted]]:
        """List the runs, each with its variant: method by method within a robot's pairs.

        Raises:
            DomainError: No pairs, a dataset that cannot be, or a preset or hyperparameter that a
                method lacks.
        """
        if not self.pairs or not self.methods:
            raise DomainError(
                f"{self.name} is a start for other grids and names no "
                f'{"methods" if self.pairs else "pairs"} itself: write `like = "{self.name}"`.'
            )
        pairs = self.called_pairs()
        robots = {target: self.robot(source, target) for source, target in pairs}
        for variant, changed in self.variant.items():
            for robot in dict.fromkeys(robots.values()):
                for name in self.methods:
                    uses = method(name).uses_source
                    own = dict.fromkeys(
                        (source if uses else NO_SOURCE, target)
                        for source, target in pairs
                        if robots[target] == robot
                    )
                    for source, target in own:
                        known = ours(target)
                        config = self.config(name, known and known.domain.robot, changed)
                        table = self.scores_of(target)
                        for k in range(self.seeds):
                            yield variant, Wanted(
                                name, config, source, target, self.first_seed + k, table,
                                self.every, self.episodes, self.told,
                            )  # fmt: skip

    def called_pairs(self) -> list[tuple[str, str]]:
        """List the pairs as runs and tables name them, with sources of the grid's size."""
        sources = [write_sources(source) for source, _ in self.pairs]
        if self.source_size:
            sources = [of_size(source, self.source_size) for source in sources]
        return list(zip(sources, [called(target) for _, target in self.pairs], strict=True))

    def scores_of(self, target: str) -> str:
        """Name the table of scores of a target; nothing for its own."""
        return self.reference.get(target, self.reference.get("", ""))

    def robot(self, source: str, target: str) -> str:
        """Name what a pair is of: its robot, or where its policies are evaluated.

        Raises:
            ShiftgymError: Sets of two robots, nobody knows where to evaluate, or the table of
                scores lacks the target's domain.
        """
        known = {name: ours(name) for name in names_of(source, target)}
        own, table = known[target], self.scores_of(target)
        if own is not None and table:
            try:
                reference(own.domain, table)
            except ShiftgymError as error:
                raise in_a_grid(error, self.name) from error
        found = dict.fromkeys(each.domain.robot for each in known.values() if each)
        if len(found) > 1:
            raise DomainError(f"{self.name}: {source} and {target} are of two robots.")
        if known[target] is None and "eval_env" not in self.told:
            raise in_a_grid(unknown_place(target), self.name)
        return robot_of(self.told, target)

    def config(self, name: str, robot: str | None, changed: Mapping[str, Any]) -> dict[str, Any]:
        """Give a method's hyperparameters: preset, robot, settings, the method's own, variant."""
        own = dict(self.method.get(name, {}))
        preset = own.pop("preset", self.preset)
        known = {each.name for each in _fields(name)}
        values = {k: v for k, v in self.settings.items() if k in known} | own
        values |= {k: v for k, v in changed.items() if k in known}
        return dataclasses.asdict(settings(name, robot, preset, **values))


def _fields(name: str) -> Sequence[dataclasses.Field[Any]]:
    return dataclasses.fields(method(name).config_class)


# --- files ----------------------------------------------------------------------------------------


def names() -> list[str]:
    """List the grids of the package."""
    return sorted(path.stem for path in FILES.glob("*.toml"))


def title(name: str) -> str:
    """Give what a grid says it is."""
    return str(_resolved(name, ()).get("title", ""))


def read_grids(name: str, changes: Mapping[str, Any] | None = None) -> list[Grid]:
    """Read a grid with what it includes.

    Args:
        name: a grid of the package, a protocol, or the path of a TOML file.
        changes: values in place of the file's, in its own shape.

    Returns:
        The grid, or its parts.

    Raises:
        DomainError: No such grid, or a wrong one; the message says what is wrong with it.
        ShiftgymError: A number outside its range.
    """
    raw = _resolved(name, ())
    if "include" in raw:
        return [grid for each in raw["include"] for grid in read_grids(each, changes)]
    raw = merged(raw, changes or {})
    return [_grid(Path(name).stem, raw)]


def change(texts: Sequence[str]) -> dict[str, Any]:
    """Read changes as the command line gives them: ``seeds=2``, ``width=64``, ``otdf.keep=0.5``.

    Raises:
        DomainError: One is no ``name=value``.
    """
    found: dict[str, Any] = {}
    known = {each.name for each in dataclasses.fields(Grid)} | {"protocol", "pairs", *KINDS}
    for text in texts:
        name, equals, given = text.partition("=")
        if not name or not equals:
            raise DomainError(f"--set {text}: write name=value, such as seeds=2 or otdf.keep=0.5.")
        try:
            value = tomllib.loads(f"x = {given}")["x"]
        except tomllib.TOMLDecodeError:
            value = given
        owner, _, own = name.rpartition(".")
        made = {own: value} if owner or own in known else {"settings": {own: value}}
        found = merged(found, {"method": {owner: made}} if owner else made)
    return found


def _resolved(name: str, seen: tuple[str, ...]) -> dict[str, Any]:
    """Read a grid's file, on top of the one it is like."""
    if name in seen:
        raise DomainError(f"Grids are like each other in a circle: {', '.join((*seen, name))}.")
    raw = _read(name)
    if "like" not in raw:
        return raw
    like = raw.pop("like")
    return merged(_resolved(_text(name, "like", like), (*seen, name)), raw)


def _read(name: str) -> dict[str, Any]:
    path = Path(name)
    if path.suffix != ".toml":
        if name in names():
            path = FILES / f"{name}.toml"
        elif name in protocol_names():
            return _published(name)
        else:
            known = [*names(), *protocol_names()]
            raise DomainError(
                f"No grid {name!r}. {nearest(name, known)} A file of your own ends in .toml."
            )
    try:
        return tomllib.loads(read_plain(path, LARGEST).decode())
    except (OSError, ValueError, RecursionError) as error:
        raise DomainError(f"Cannot read the grid {path}: {error}") from None


def _published(name: str) -> dict[str, Any]:
    """Write a published experiment as a grid."""
    found = protocol(name)
    presets = {key: {"preset": each.preset} for key, each in found.columns.items()}
    return {
        "title": found.title,
        "pairs": [f"{row.source} {ARROW} {row.target}" for row in found.rows],
        "methods": list(found.methods),
        "method": {key: presets[key] for key in found.methods if key in presets},
        "seeds": found.seeds,
        "every": 50_000,
        "reference": {str(row.target): row.reference for row in found.rows},
        "settings": {"steps": found.steps, "target_share": found.target_share},
    }


def _grid(name: str, raw: dict[str, Any]) -> Grid:
    """Make a grid of what a file holds."""
    raw = dict(raw)
    if "protocol" in raw:
        rows = protocol(_text(name, "protocol", raw.pop("protocol"))).rows
        raw.setdefault("pairs", [f"{row.source} {ARROW} {row.target}" for row in rows])
    told = {key: raw.pop(key) for key in KINDS if key in raw}
    known = {each.name for each in dataclasses.fields(Grid)} - {"name", "told"}
    for key in raw:
        if key not in known:
            raise DomainError(f"{name}: a grid has no {key!r}. {nearest(key, {*known, *KINDS})}")
    for key in TABLES:
        tables_of = raw.get(key, {})
        inner = tables_of.values() if key != "settings" and isinstance(tables_of, dict) else ()
        if not all(isinstance(each, dict) for each in (tables_of, *inner)):
            raise DomainError(f"{name}: {key} is a table, got {shown(tables_of)}.")
    if raw.get("methods") == "all":
        raw["methods"] = list(METHODS)
    for key in ("methods", "pairs"):
        given = raw.get(key, [])
        if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
            raise DomainError(f"{name}: {key} is a list of names, got {shown(given)}.")
        raw[key] = tuple(given)
    raw["pairs"] = tuple(_pair(name, text) for text in raw["pairs"])
    reference = raw.pop("reference", "")
    raw["told"] = told
    raw["reference"] = {"": reference} if isinstance(reference, str) else reference
    return Grid(name, **raw)


def _pair(name: str, text: str) -> tuple[str, str]:
    source, arrow, target = (part.strip() for part in text.partition(ARROW))
    if not (source and arrow and target):
        raise DomainError(f"{name}: a pair is 'source {ARROW} target', got {text!r}.")
    return source, target


def _text(name: str, key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise DomainError(f"{name}: {key} is a name, got {shown(value)}.")
    return value

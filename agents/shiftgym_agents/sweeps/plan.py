"""Plan a sweep: which runs are wanted, which directories hold some, and how the rest is packed.

Runs of one robot (or one environment and shape of data), method and configuration train in
lockstep; such a group has one directory under
the sweep's folder, named after a hash of all that decides its numbers:

    runs/sweeps/iql-hopper-0f3a61c2b9/
      group.json    the group: method, configuration, runs, evaluation, data; and how it updates
      ...           what any training writes (config.json, metrics.csv, ..., result.json)
      log.txt       what it said;  failure.txt  why it failed, where it did

A directory that is there keeps its runs: a grid that grows by seeds or pairs trains the new ones
alone, whoever trained the others.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.sweeps.checking import check_group
from shiftgym_agents.sweeps.grid import Grid, Wanted
from shiftgym_agents.sweeps.sets import (
    Facts,
    Library,
    check_free,
    is_here,
    names_of,
    ours,
    robot_of,
)
from shiftgym_agents.training.artifacts import read_json
from shiftgym_agents.training.records import fits

GROUP, STARTED, LOG, FAILURE = "group.json", "started.json", "log.txt", "failure.txt"
SHAPE = {
    "method": str, "robot": str, "config": dict, "reference": str, "every": int, "episodes": int,
    "runs": [[str | int]], "data": dict, "told": dict,
}  # fmt: skip


@dataclass(frozen=True)
class Group:
    """Hold the runs that train in lockstep in one directory.

    Attributes:
        method: their method.
        robot: their robot.
        config: their hyperparameters.
        reference: table of scores; empty for each target's own.
        every: updates between evaluations.
        episodes: per run and evaluation.
        runs: (source, target, seed) of each.
        data: SHA-256 by dataset, of those of shiftgym whose content is known before they are here,
            of others as they were; and by Python file that `told` names.
        told: what else the grid tells of the data.
    """

    method: str
    robot: str
    config: Mapping[str, Any]
    reference: str
    every: int
    episodes: int
    runs: tuple[tuple[str, str, int], ...]
    data: Mapping[str, str]
    told: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Name its directory."""
        decides = asdict(self)
        if not self.told:  # as keys were before a grid could tell anything
            del decides["told"]
        text = json.dumps(decides, sort_keys=True)
        words = self.method.rpartition(":")[2], self.robot  # of my_file.py:MyMethod; ALE/Id-v0
        own = "-".join(re.sub(r"[^\w-]+", "-", word) for word in words)
        return f"{own}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"

    @property
    def datasets(self) -> list[str]:
        """List the datasets it needs."""
        every = (name for source, target, _ in self.runs for name in names_of(source, target))
        return list(dict.fromkeys(every))

    def wanted(self) -> list[Wanted]:
        """List its runs."""
        rest = self.reference, self.every, self.episodes, self.told
        return [Wanted(self.method, self.config, *run, *rest) for run in self.runs]

    def plain(self) -> dict[str, Any]:
        """Give it as JSON."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def read(cls, given: Mapping[str, Any], path: Path) -> Group:
        """Make a group of what `plain` gave.

        Raises:
            ShiftgymError: It is none.
        """
        own: dict[str, Any] = {name: given.get(name) for name in SHAPE}
        own["told"] = given.get("told", {})
        if not fits(own, SHAPE) or any(
            [type(part) for part in run] != [str, str, int] for run in own["runs"]
        ):
            raise ShiftgymError(f"{path} is damaged: it holds no group of runs.")
        own["runs"] = tuple((source, target, seed) for source, target, seed in own["runs"])
        return cls(**own)


@dataclass(frozen=True)
class Planned:
    """Hold a group and where it stands.

    Attributes:
        group: its runs.
        out: its directory.
        state: ``done``, ``failed``, ``begun`` or ``new``.
        reason: why it failed, in a line.
    """

    group: Group
    out: Path
    state: str
    reason: str = ""


@dataclass(frozen=True)
class Plan:
    """Hold what a sweep is made of.

    Attributes:
        grids: what was asked for.
        wanted: the runs by grid and variant.
        groups: directories that hold them, in the order in which they train.
        missing: datasets of shiftgym that are not here, and are made first.
        facts: what is known of sets that are not shiftgym's.
    """

    grids: tuple[Grid, ...]
    wanted: tuple[tuple[str, str, Wanted], ...]
    groups: tuple[Planned, ...]
    missing: tuple[str, ...]
    facts: Mapping[str, Facts] = field(default_factory=dict)

    @property
    def left(self) -> list[Planned]:
        """List the groups that are not done."""
        return [each for each in self.groups if each.state != "done"]


def identity(run: Wanted) -> str:
    """Give one text for equal runs."""
    return json.dumps(asdict(run), sort_keys=True)


def plan(
    grids: Sequence[Grid], out: Path, check: bool = True, tell: Callable[[str], None] = print
) -> Plan:
    """Plan grids in a folder of run directories.

    Args:
        grids: what is wanted.
        out: the folder.
        check: refuse now what training would refuse of data that are not shiftgym's alone; without,
            sets may be gone of which all is trained.
        tell: takes a sentence on what reading such data changed.

    Raises:
        DomainError: A grid names what there is not.
        ShiftgymError: A directory of the folder is damaged, or data cannot be trained on.
    """
    every = [(grid, variant, run) for grid in grids for variant, run in grid.wanted()]
    wanted = tuple((grid.name, variant, run) for grid, variant, run in every)
    lockstep = {identity(run): grid.lockstep for grid, _, run in every}
    left = {identity(run): run for _, _, run in wanted}
    library = Library(tell)
    place = {each: k for k, each in enumerate(left)}
    found: list[tuple[int, Group]] = []
    there = [(group, [identity(run) for run in group.wanted()]) for group in existing(out)]
    held = [(group, own) for group, own in there if all(each in left for each in own)]
    _require_one_version([group for group, _ in held], library, out)
    for group, own in held:
        if all(each in left for each in own) and _current(group, library):
            found.append((min(place[each] for each in own), group))
            for each in own:
                del left[each]
    for group in pack(left.values(), lockstep, library):
        found.append((place[identity(group.wanted()[0])], group))
    groups = tuple(state_of(group, out) for _, group in sorted(found, key=lambda each: each[0]))
    rest = [each.group for each in groups if each.state != "done"]
    if check:
        seen: set[Any] = set()
        for group in rest:
            check_group(group, library, seen)
    needed = dict.fromkeys(name for group in rest for name in group.datasets)
    missing = tuple(name for name in needed if ours(name) is not None and not is_here(name))
    if check:
        for name in missing:
            check_free(name)
    return Plan(tuple(grids), wanted, groups, missing, library.known(needed))


def pack(runs: Iterable[Wanted], lockstep: Mapping[str, int], library: Library) -> list[Group]:
    """Pack runs that may train in lockstep, pair by pair."""
    alike: dict[str, list[Wanted]] = {}
    for run in runs:
        shared = [run.method, robot_of(run.told, run.target), run.config, run.reference]
        shared += [run.every, run.episodes, run.told]
        facts = library.known([run.target]).get(run.target)  # of one robot none are asked for
        shared += [facts and facts.shape]
        alike.setdefault(json.dumps(shared, sort_keys=True), []).append(run)
    groups = []
    for own in alike.values():
        most = min(lockstep[identity(run)] for run in own)
        part: list[Wanted] = []
        for pair in _pairs(own):
            whole = len(part) + len(pair) <= most or len(pair) > most
            if part and not whole:
                groups.append(_group(part, library))
                part = []
            part += pair
            while len(part) > most:
                groups.append(_group(part[:most], library))
                part = part[most:]
        groups += [_group(part, library)] if part else []
    return groups


def existing(out: Path) -> list[Group]:
    """Read the groups that a folder has directories of."""
    return [Group.read(read_json(path), path) for path in sorted(out.glob(f"*/{GROUP}"))]


def state_of(group: Group, out: Path) -> Planned:
    """Say where a group stands."""
    home = out / group.key
    if (home / "result.json").exists():
        return Planned(group, home, "done")
    if (home / FAILURE).exists():
        return Planned(group, home, "failed", last_line(home / FAILURE))
    return Planned(group, home, "begun" if (home / "config.json").exists() else "new")


def last_line(path: Path) -> str:
    """Give the last line of a text, what went wrong."""
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "no reason was written"


def _current(group: Group, library: Library) -> bool:
    """Say whether a group is of the data that its names stand for now.

    Of data that are not shiftgym's and are gone nothing else can be known.
    """
    now = library.contents(group, group.datasets)
    return dict(group.data) == now | _gone(group, library)


def _gone(group: Group, library: Library) -> dict[str, str]:
    """Give the SHA-256 that a group has of data that are not shiftgym's and not here any more."""
    now = library.contents(group, group.datasets)
    return {k: v for k, v in group.data.items() if k not in now and ours(k) is None}


def _require_one_version(groups: Sequence[Group], library: Library, out: Path) -> None:
    """Refuse to guess which of several trainings is meant where the data are gone.

    Raises:
        ShiftgymError: The message names the data.
    """
    versions: dict[str, set[str]] = {}
    for group in groups:
        for name, digest in _gone(group, library).items():
            versions.setdefault(name, set()).add(digest)
    for name, digests in versions.items():
        if len(digests) > 1:
            raise ShiftgymError(
                f"{name} is not here, and {out} holds trainings on {len(digests)} versions of it: "
                "put the one back that is meant."
            )


def _pairs(runs: Sequence[Wanted]) -> list[list[Wanted]]:
    found: dict[tuple[str, str], list[Wanted]] = {}
    for run in runs:
        found.setdefault((run.source, run.target), []).append(run)
    return list(found.values())


def _group(runs: Sequence[Wanted], library: Library) -> Group:
    first = runs[0]
    made = Group(
        first.method, robot_of(first.told, first.target), first.config, first.reference,
        first.every, first.episodes, tuple((run.source, run.target, run.seed) for run in runs), {},
        first.told,
    )  # fmt: skip
    return replace(made, data=library.contents(made, made.datasets))

"""Say which data a run of a grid is of, in the words of `shiftgym train`, and what they are.

    hopper/medium -> hopper-kinematic/medium       sets of shiftgym
    light.npz + old.hdf5 x0.5 -> heavy.npz         several sources, and a part that is kept of one

What else a grid tells is of all its pairs and called as the options of `shiftgym train` are:
``eval_env``, ``eval_steps``, ``reference_returns``, ``action_low``, ``action_high``, ``terminal``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from shiftgym.basics.errors import DomainError, ShiftgymError, shown
from shiftgym.basics.own_code import LARGEST
from shiftgym.basics.plain_files import read_plain
from shiftgym.datasets.canonical import canonical_table
from shiftgym.datasets.load import find, is_installed, locate
from shiftgym.datasets.names import DatasetName, usual_size
from shiftgym.datasets.packaged import packaged_index
from shiftgym.datasets.store import dataset_path
from shiftgym.domains import Domain
from shiftgym.reading.anywhere import own_name
from shiftgym_agents.data.opening import load_set
from shiftgym_agents.data.pairs import TrainingPair
from shiftgym_agents.data.places import GymEnv, Place, place
from shiftgym_agents.data.sources import Arrays
from shiftgym_agents.training.artifacts import hash_arrays
from shiftgym_agents.training.asking import DataOptions, open_pair
from shiftgym_agents.training.records import fits

NO_SOURCE = "none"
PLUS = " + "
SHARE = re.compile(r"(.+) x(\d*\.?\d+(?:e-\d+)?)")
KINDS = {  # what a grid may tell, and of which shape
    "eval_env": (str, 'an environment: "Pendulum-v1", "module:Id-v0", "FILE.py:Id-v0" or "none"'),
    "eval_steps": (int, "a whole number"),
    "reference_returns": ([float], "two numbers, [RANDOM, EXPERT]"),
    "action_low": ([float], "a list of numbers"),
    "action_high": ([float], "a list of numbers"),
    "terminal": (str, 'a function: "FILE.py:FUNCTION"'),
}
EXAMPLES = {
    "eval_env": 'eval_env = "Pendulum-v1" (or "none")',
    "eval_steps": "eval_steps = 1000",
    "reference_returns": "reference_returns = [RANDOM, EXPERT]",
    "action_low": "action_low = [-10]",
    "action_high": "action_high = [10]",
    "terminal": 'terminal = "FILE.py:FUNCTION"',
    "reference": 'reference = "shiftgym"',
}
FLAG = re.compile(r"--[a-z]+(?:-[a-z]+)*")


class Asked(Protocol):
    """Hold what `asked` needs of a run, or of a group of them."""

    @property
    def method(self) -> str:
        """Name the method."""
        ...

    @property
    def reference(self) -> str:
        """Name the table of scores; empty for the target's own."""
        ...

    @property
    def told(self) -> Mapping[str, Any]:
        """Give what the grid tells of its data."""
        ...


@dataclass(frozen=True)
class Facts:
    """Hold what is known of a set that is none of shiftgym's: content, rows, lengths."""

    digest: str
    rows: int
    shape: tuple[int, int]


# --- names ----------------------------------------------------------------------------------------


def read_sources(text: str) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Read ``a + b x0.5`` as names and the shares that are kept; nothing of ``none``."""
    if text == NO_SOURCE:
        return (), ()
    names, shares = [], []
    for part in text.split(PLUS):
        found = SHARE.fullmatch(part.strip())
        names.append(found[1].strip() if found else part.strip())
        shares.append(float(found[2]) if found else 1.0)
    return tuple(names), tuple(shares)


def write_sources(text: str) -> str:
    """Write sources the one way that equal ones are written.

    Raises:
        DomainError: one names nothing.
    """
    names, shares = read_sources(text)
    return joined([called(name) for name in names], shares)


def of_size(sources: str, rows: int) -> str:
    """Write sources with so many rows: shiftgym's own that have more, and whose names say none."""
    names, shares = read_sources(sources)
    return joined([_cut(name, rows) for name in names], shares)


def _cut(name: str, rows: int) -> str:
    own = ours(name)
    if own is None or own.origin or own.made or own.size <= rows:
        return name
    usual = own.size == usual_size(own.domain, own.quality)
    return own.sized(rows).short if usual else name


def joined(names: Sequence[str], shares: Sequence[float]) -> str:
    """Write names and shares as ``a + b x0.5``; ``none`` where there are none."""
    told = [f" x{share}" if share != 1 else "" for share in shares]
    return PLUS.join(name + x for name, x in zip(names, told, strict=True)) or NO_SOURCE


def called(name: str) -> str:
    """Give the one name of a set: the short one of shiftgym's, any other as it is.

    Raises:
        DomainError: it names nothing.
    """
    return str(own_name(name) or name)


def names_of(source: str, target: str) -> tuple[str, ...]:
    """List the sets of a pair."""
    return (*read_sources(source)[0], target)


def ours(name: str) -> DatasetName | None:
    """Give the set of shiftgym that a name stands for; None for any other, there or gone."""
    try:
        return own_name(name)
    except DomainError:
        return None


def is_here(name: str) -> bool:
    """Say whether a set of shiftgym can be loaded."""
    try:
        locate(find(name))
    except ShiftgymError:
        return False
    return True


def check_free(name: str) -> None:
    """Refuse a set of shiftgym whose folder holds something else: it would not be made there.

    Raises:
        ShiftgymError: The message has the command that makes it anew.
    """
    if is_installed(dataset_path(own := find(name))):
        locate(own)


# --- what a grid tells ----------------------------------------------------------------------------


def check_told(told: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse what is of another kind than the options of `shiftgym train`; numbers as floats.

    Raises:
        ShiftgymError: The message names the value and what it should be.
    """
    for key, value in told.items():
        kind, what = KINDS[key]
        if not fits(value, kind) or (key == "reference_returns" and len(value) != 2):
            raise DomainError(f"{key} is {what}, got {shown(value)}.")
    found = {k: [float(x) for x in v] if isinstance(v, list) else v for k, v in told.items()}
    DataOptions("", **_frozen(found))  # its numbers are in their ranges
    return found


def asked(of: Asked, source: str, target: str) -> DataOptions:
    """Say what the command line would ask for."""
    names, shares = read_sources(source)
    kept = shares if any(share != 1 for share in shares) else ()
    return DataOptions(target, names, kept, of.reference or None, **_frozen(of.told))


def where_of(told: Mapping[str, Any], target: str) -> Place:
    """Give the place where policies for a target are evaluated."""
    if "eval_env" in told:
        return place(told["eval_env"], told.get("eval_steps", 0))
    return find(target).domain


def robot_of(told: Mapping[str, Any], target: str) -> str:
    """Name what groups of a target are called by: its robot, or else where it is evaluated."""
    known = ours(target)
    if known is not None:
        return known.domain.robot
    where = where_of(told, target)
    if isinstance(where, GymEnv):
        return where.id.rpartition(":")[2]
    return where.robot if isinstance(where, Domain) else "nowhere"


def is_plain(told: Mapping[str, Any], source: str, target: str) -> bool:
    """Say whether all is shiftgym's own: one whole source, evaluated in the target's domain."""
    names, shares = read_sources(source)
    known = all(ours(name) is not None for name in (*names, target))
    return known and not told and shares in ((), (1.0,))


def in_a_grid(error: ShiftgymError, about: str) -> ShiftgymError:
    """Say an error of `shiftgym train` of a grid: whose it is, and its options as a grid's keys."""
    keys = [flag[2:].replace("-", "_") for flag in dict.fromkeys(FLAG.findall(str(error)))]
    lines = [EXAMPLES.get(key, f"{key} = ... under [settings]") for key in keys]
    hint = f" In a grid: {', '.join(lines)}." if lines else ""
    return type(error)(f"{about}: {error}{hint}")


def _frozen(told: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in told.items()}


# --- content --------------------------------------------------------------------------------------


class Library:
    """Read every set once, and remember what was found.

    Args:
        tell: takes a sentence on what reading changed.
    """

    def __init__(self, tell: Callable[[str], None] = print) -> None:
        self.sets: dict[str, Arrays] = {}
        self._facts: dict[str, Facts] = {}
        self._gone: set[str] = set()
        self._tell = tell

    def open(self, of: Asked, source: str, target: str) -> TrainingPair:
        """Open a pair as `shiftgym train` does; pairs that share a set share its arrays.

        Raises:
            ShiftgymError: as `open_pair`.
        """
        return open_pair(of.method, asked(of, source, target), self._tell, self.sets)

    def facts(self, name: str) -> Facts:
        """Give what is known of a set that is none of shiftgym's.

        Raises:
            ShiftgymError: It is not here, or cannot be learned from.
        """
        if name not in self._facts:
            arrays = load_set(name, self._tell, self.sets)
            widths = (arrays[key].shape[1] for key in ("observations", "actions"))
            self._facts[name] = Facts(hash_arrays(arrays), len(arrays["rewards"]), tuple(widths))
        return self._facts[name]

    def known(self, names: Iterable[str]) -> dict[str, Facts]:
        """Give the facts of those sets that are none of shiftgym's and that are here."""
        found: dict[str, Facts] = {}
        for name in names:
            if ours(name) is None and name not in self._gone:
                try:
                    found[name] = self.facts(name)
                except ShiftgymError:
                    self._gone.add(name)  # who trains on it is told why
        return found

    def contents(self, of: Asked, names: Sequence[str]) -> dict[str, str]:
        """Give the SHA-256 of all that is known: of shiftgym's sets, here or not; others' here.

        Those of shiftgym are by the table of what their names stand for; of others it is that of
        the arrays as `config.json` has it; and of Python files that the grid names, that of the
        file: a method's, an environment's, a rule's of ends.
        """
        own = ((name, ours(name)) for name in names)
        found = {name: _content(each.short) for name, each in own if each is not None}
        found |= {name: each.digest for name, each in self.known(names).items()}
        code = (of.method, *(str(of.told.get(key, "")) for key in ("eval_env", "terminal")))
        for file in (text.rpartition(":")[0] for text in code):
            if file.endswith(".py"):
                try:
                    found[file] = hashlib.sha256(read_plain(Path(file), LARGEST)).hexdigest()
                except OSError:
                    continue
        return {name: digest for name, digest in found.items() if digest}


@cache
def _content(short: str) -> str:
    packed = packaged_index().get(short) or canonical_table().get(short)
    return packed["sha256"] if packed else ""

"""Published experiments as data: which pairs, which methods, and the numbers papers print for them.

One TOML file each. Its `table` has a line per pair and a column per method: `39.1±2.3` is mean and
standard deviation over seeds, `39.1` a mean alone, `-` a number that is not known; the last line
may hold the totals as printed. Scores go from 0 to 100 by the file's `reference`.

Experiments go in one of two directions, whose numbers never compare (`direction_of`):

    shifted target   source data of the unshifted robot, few transitions of a shifted one
    shifted source   source data of a shifted robot, few transitions of the unshifted one
"""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftgym.basics.errors import DomainError, nearest
from shiftgym.datasets.names import DatasetName, dataset_name
from shiftgym.domains import Domain
from shiftgym_agents.methods.outside import short_name
from shiftgym_agents.methods.table import METHODS, method

FILES = Path(__file__).parent
BASELINES = ("bc", "iql-target")  # what the target data give alone, beside any published table
UNKNOWN = "-"


@dataclass(frozen=True)
class Cell:
    """Hold a published score: its mean over seeds, their standard deviation, and the print."""

    text: str
    mean: float
    std: float | None


@dataclass(frozen=True, eq=False)  # a row is itself: two pairs of a protocol never are equal
class Row:
    """Hold one pair of a protocol.

    Attributes:
        source: the plentiful dataset.
        target: the scarce one; policies are evaluated in its domain.
        reference: table of reference returns that the published scores are normalised with.
        published: the known scores by method.
    """

    source: DatasetName
    target: DatasetName
    reference: str
    published: Mapping[str, Cell]

    def __str__(self) -> str:
        """Name the pair."""
        return f"{self.source} -> {self.target}"


@dataclass(frozen=True)
class Column:
    """Say what a method is called in the paper, and which preset of ours is nearest to it."""

    label: str
    preset: str


@dataclass(frozen=True)
class Protocol:
    """Hold a published experiment.

    Attributes:
        name: the file's name without its ending.
        title: what it is, in a line.
        direction: ``shifted target`` or ``shifted source``.
        source: where the numbers come from.
        remarks: what is inferred or chosen here, and what is known to be inconsistent.
        origins: whose imported data count as the experiment's own, by side: the published files.
        target_share: the part of an imported target that it trains on.
        seeds: runs per pair.
        steps: gradient updates per run.
        columns: the methods by our names, in the paper's order; some may not be in the package.
        rows: the pairs.
        totals: sums over all pairs by method, as printed.
    """

    name: str
    title: str
    direction: str
    source: str
    remarks: tuple[str, ...]
    origins: Mapping[str, tuple[str, ...]]
    seeds: int
    steps: int
    columns: Mapping[str, Column]
    rows: tuple[Row, ...]
    totals: Mapping[str, float]
    target_share: float = 1.0

    @property
    def methods(self) -> tuple[str, ...]:
        """List what can be trained: the published methods of the package, and the baselines."""
        return (*(name for name in self.columns if name in METHODS), *BASELINES)

    @property
    def missing_methods(self) -> tuple[str, ...]:
        """List the published methods that are not in the package."""
        return tuple(name for name in self.columns if name not in METHODS)

    def commands(self, name: str, robot: str | None = None) -> list[str]:
        """Write the `shiftgym train` commands of one method: one per pair, all seeds in each.

        Methods that train on the target alone have one per target dataset.
        """
        preset = self.columns[name].preset if name in self.columns else "ours"
        found: dict[str, None] = {}  # keeps the order, drops a target's repetitions
        for row in self.rows:
            if robot in (None, row.target.domain.robot):
                data, out = f"--target {row.target}", f"{_token(row.target)}"
                if method(name).uses_source:
                    data, out = f"--source {row.source} {data}", f"{_token(row.source)}-to-{out}"
                out = f"runs/{self.name}/{short_name(name)}-{out}"
                found[
                    f"shiftgym train {shlex.quote(name)} {data} --preset {preset} "
                    f"--reference {row.reference} --seeds {self.seeds} --steps {self.steps} "
                    f"--out {out}"
                ] = None
        return list(found)


def names() -> list[str]:
    """List the protocols by name."""
    return sorted(path.stem for path in FILES.glob("*.toml"))


def protocol(name: str) -> Protocol:
    """Read a protocol.

    Raises:
        DomainError: none is called so; the message names the nearest.
    """
    if name not in names():
        raise DomainError(f"Unknown protocol {name!r}. {nearest(name, names())}")
    with open(FILES / f"{name}.toml", "rb") as file:
        given = tomllib.load(file)
    columns = {key: Column(**about) for key, about in given.pop("methods").items()}
    (_, _, *heads), *lines = [line.split() for line in given.pop("table").splitlines()]
    if heads != list(columns):
        raise ValueError(f"{name}: the table has columns {heads}, methods are {list(columns)}")
    cells = {(first, second): _cells(columns, texts) for first, second, *texts in lines}
    totals = {key: cell.mean for key, cell in cells.pop(("total", UNKNOWN), {}).items()}
    reference = given.pop("reference")
    rows = tuple(_row(*pair, reference, known) for pair, known in cells.items())
    given["remarks"] = tuple(given["remarks"])
    given["origins"] = {side: tuple(origins) for side, origins in given["origins"].items()}
    return Protocol(name, columns=columns, rows=rows, totals=totals, **given)


def direction_of(source: Domain | None, target: Domain) -> str:
    """Say which side of a pair is shifted; a source of None is no source at all.

    Returns:
        ``shifted target``, ``shifted source``, ``both shifted`` or ``none shifted``.
    """
    if target.shift is None:
        return "none shifted" if source is not None and source.shift is None else "shifted source"
    return "shifted target" if source is None or source.shift is None else "both shifted"


def _row(source: str, target: str, reference: Any, published: Mapping[str, Cell]) -> Row:
    """Make a pair; `reference` is one table of scores, or one per shift of the target."""
    names = dataset_name(source), dataset_name(target)
    table = reference if isinstance(reference, str) else reference[names[1].domain.shift]
    return Row(*names, table, published)


def _cells(columns: Mapping[str, Column], texts: list[str]) -> dict[str, Cell]:
    found: dict[str, Cell] = {}
    for name, text in zip(columns, texts, strict=True):
        if text != UNKNOWN:
            mean, _, std = text.partition("±")
            found[name] = Cell(text, float(mean), float(std) if std else None)
    return found


def _token(name: DatasetName) -> str:
    return str(name).replace("/", "-")

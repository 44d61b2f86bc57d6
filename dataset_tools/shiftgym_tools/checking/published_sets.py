"""What the field's published target sets measure, as numbers, beside our sets of the same name.

    docs/data/published_sets.csv    a row per published set: its measures, and whose they are
    measured                        "here": by measure_style, from the file; "elsewhere": with the
                                    same definitions, the noise by another network of that size

The 36 files accompany OTDF (ICLR 2025), 5,000 transitions each, 4 robots x 3 shifts x 3 qualities.
They carry no licence, so that none of their rows is here. Of sets measured elsewhere there is no
speed, and no noise of medium-expert ones.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import h5py
import numpy as np

from shiftgym.datasets.flat import Flat
from shiftgym.datasets.names import DatasetName, dataset_name
from shiftgym.domains import episode_steps
from shiftgym.errors import ShiftgymError
from shiftgym_tools.checking.style import DIGITS, Style, measure_style

ROBOTS = ("hopper", "walker2d", "halfcheetah", "ant")
SHIFTS = ("kinematic", "morph", "gravity-x0p5")
QUALITIES = ("medium", "medium-expert", "expert")
HERE, ELSEWHERE = "here", "elsewhere"
FILE_SHIFTS = {"gravity_0.5": "gravity-x0p5", "kinematic": "kinematic", "morph": "morph"}


@dataclass(frozen=True)
class Published:
    """Hold what is known of a published set; None where it was not measured.

    Attributes:
        set: its name, as ours: ``hopper-kinematic/medium``.
        transitions: rows.
        episodes: also one that the set's end cuts.
        mean_return: mean return of whole episodes.
        length: mean steps of whole episodes.
        speed: m/s.
        change: root mean square of the step-to-step change of an action's numbers.
        noise: root mean square of the unexplained part of an action's numbers.
        saturated: share of the actions' numbers at a bound.
        measured: ``here`` or ``elsewhere``.
    """

    set: str
    transitions: int
    episodes: int
    mean_return: float
    length: float
    speed: float | None
    change: float
    noise: float | None
    saturated: float
    measured: str


def published_names() -> list[str]:
    """List the names of the published sets."""
    return [f"{r}-{s}/{q}" for r in ROBOTS for s in SHIFTS for q in QUALITIES]


def name_of_file(path: Path) -> DatasetName:
    """Give the set that a published file's name tells of.

    Raises:
        ShiftgymError: the name is not one of theirs.
    """
    robot, _, rest = path.stem.partition("_")
    for told, shift in FILE_SHIFTS.items():
        quality = rest.removeprefix(f"{told}_").replace("_", "-")
        if robot in ROBOTS and rest.startswith(f"{told}_") and quality in QUALITIES:
            return dataset_name(f"{robot}-{shift}/{quality}")
    raise ShiftgymError(
        f"{path.name} is not named as the published files are: <robot>_<shift>_<quality>.hdf5, "
        f"such as hopper_kinematic_medium.hdf5; shifts are {', '.join(FILE_SHIFTS)}."
    )


def read_published(path: Path) -> Flat:
    """Read a published file as it is, cut into episodes.

    An episode ends at a terminal state, at the time limit, and where the next row begins elsewhere
    than a row arrives. Rows whose next observation belongs to the next episode stay: reward and
    action are theirs.

    Raises:
        ShiftgymError: it cannot be read, or lacks an array.
    """
    limit = episode_steps(name_of_file(path).domain.robot)
    names = ("observations", "actions", "rewards", "next_observations", "terminals")
    try:
        with h5py.File(path) as file:
            found = {name: np.asarray(file[name], np.float32) for name in names}
    except (OSError, KeyError) as error:
        raise ShiftgymError(f"Cannot read the published set {path}: {error}") from None
    found["rewards"] = found["rewards"].reshape(-1)
    terminated = found.pop("terminals").reshape(-1) > 0
    jumps = (found["next_observations"][:-1] != found["observations"][1:]).any(axis=1)
    ends = terminated | np.append(jumps, True)
    first = 0
    for row in range(len(ends)):
        ends[row] |= row - first + 1 == limit
        if ends[row]:
            first = row + 1
    return found | {"terminated": terminated, "truncated": ends & ~terminated}


def measure_published(path: Path) -> Published:
    """Measure a published file."""
    name = name_of_file(path)
    return _row(name.short, measure_style(read_published(path), name.domain))


def _row(name: str, style: Style) -> Published:
    told = style.rounded()
    kept = {field.name: told[field.name] for field in fields(Published) if field.name in told}
    return Published(set=name, measured=HERE, **kept)


def read_table(path: Path) -> dict[str, Published]:
    """Read the table of published sets, by name."""
    with path.open(newline="") as file:
        rows = [_parsed(row) for row in csv.DictReader(file)]
    return {row.set: row for row in rows}


def write_table(rows: Mapping[str, Published], path: Path) -> None:
    """Write the table of published sets."""
    with path.open("w", newline="") as file:
        columns = [field.name for field in fields(Published)]
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(rows[name]) for name in published_names() if name in rows)


def measure_folder(folder: Path) -> dict[str, Published]:
    """Measure the published files in a folder."""
    rows = [measure_published(path) for path in sorted(folder.glob("*.hdf5"))]
    return {row.set: row for row in rows}


def _parsed(row: Mapping[str, str]) -> Published:
    whole = {key: int(row[key]) for key in ("transitions", "episodes")}
    texts = {key: row[key] for key in ("set", "measured")}
    rest = {key: round(float(text), DIGITS) if text else None
            for key, text in row.items() if key not in whole | texts}  # fmt: skip
    return Published(**texts, **whole, **rest)  # type: ignore[arg-type]

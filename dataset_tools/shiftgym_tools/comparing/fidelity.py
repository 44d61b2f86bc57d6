"""Check the environments against published transitions that nobody here made.

Each file is replayed step by step in the domain its name says, and in the unshifted robot: the
error of the first shows how faithful a domain is, the second how much the shift matters.
"""

from __future__ import annotations

import difflib
import json as json_format
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import gymnasium
import numpy as np
import tyro
from tqdm import tqdm

import shiftgym
from shiftgym.basics.errors import DomainError, ShiftgymError, nearest
from shiftgym.domains import Domain, catalogue, level_token
from shiftgym.engine import mujoco
from shiftgym.making import domain
from shiftgym.reading.hdf5_reading import (
    check_regular,
    explained,
    names_in,
    numbers,
    open_hdf5,
)
from shiftgym_tools.checking.replay import FIELDS, Replay, Transitions, replay
from shiftgym_tools.comparing.fidelity_measures import FileReport, Spread
from shiftgym_tools.comparing.fidelity_page import page, table

QUALITIES = ("random", "medium", "medium_replay", "medium_expert", "expert")


def fidelity(
    folder: Annotated[Path, tyro.conf.Positional],
    out: Path | None = None,
    json: Path | None = None,
) -> list[FileReport]:
    """Replay published transitions and report how closely the environments repeat them.

    Every file ``<robot>_<shift>_<quality>.hdf5`` in the folder, such as
    ``hopper_kinematic_medium.hdf5`` or ``ant_gravity_0.5_expert.hdf5``, is replayed one step at a
    time in its domain and in the unshifted robot. Errors near 1e-7 are the rounding of the stored
    float32 numbers: the environment is the one that made the data. Rows that join two episodes are
    listed and left out of the figures.

    Args:
        folder: where the HDF5 files are (flat arrays ``observations``, ``actions``,
            ``next_observations``, ``rewards``, ``terminals``).
        out: write the report as a Markdown page here.
        json: write the figures as JSON here.

    Returns:
        One report per file.

    Raises:
        ShiftgymError: no files, a file that is broken, or a name that says no known domain; the
            message names the file and the nearest valid choice.
    """
    folder = Path(folder)
    paths = sorted(folder.glob("*.hdf5")) if folder.is_dir() else []
    if not paths:
        reason = "holds no *.hdf5 files" if folder.is_dir() else "is not a folder"
        raise ShiftgymError(
            f"{folder} {reason}. Give the folder of files named <robot>_<shift>_<quality>.hdf5."
        )
    named = {path: file_domain(path) for path in paths}  # every name, before any work
    transitions = {path: read_transitions(path) for path in paths}
    reports = []
    total = 4 * sum(map(len, transitions.values()))
    with tqdm(total=total, unit="row", unit_scale=True, desc="replay", leave=False) as bar:
        for path in paths:
            bar.set_postfix_str(path.name)
            reports.append(check(path.name, named[path], transitions[path], bar.update))
    print(table(reports))
    found = {"versions": versions(), "physics": "mujoco210", "files": [asdict(r) for r in reports]}
    if json is not None:
        _write(json, json_format.dumps(found, indent=1) + "\n")
    if out is not None:
        _write(out, page(reports, versions()))
    if json is None and out is None:
        print("Add --out docs/fidelity.md for a page, --json FILE for the figures.")
    return reports


def check(
    name: str,
    where: Domain,
    transitions: Transitions,
    progress: Callable[[int], Any] | None = None,
) -> FileReport:
    """Replay one file's transitions four times: two robots, two physics.

    Raises:
        ShiftgymError: the transitions are not of this robot; the message starts with ``name``.
    """
    source = domain(where.robot)
    try:
        ours = replay(where, transitions, progress=progress)
        base = replay(source, transitions, start=ours, progress=progress)
        today = {"physics": "installed", "start": ours, "progress": progress}
        installed = replay(where, transitions, **today)
        installed_base = replay(source, transitions, **today)
    except ShiftgymError as error:
        raise ShiftgymError(f"{name}: {error}") from None
    kept = ours.kept()
    if not kept.any():
        raise ShiftgymError(f"{name}: none of the {len(transitions)} rows can be replayed.")

    def spread(found: Replay) -> Spread:
        return Spread.of(found.errors[kept])

    error, source_error = spread(ours), spread(base)
    return FileReport(
        file=name,
        domain=where.slug,
        rows=len(transitions),
        left_out=int((~ours.usable).sum()),
        joins=np.flatnonzero(ours.joins).tolist(),
        joins_bootstrapped=np.flatnonzero(ours.joins & ~transitions.terminals).tolist(),
        error=error,
        source_error=source_error,
        ratio=_ratio(source_error, error),
        reward=Spread.of(ours.reward_errors[kept]),
        terminals_wrong=int((ours.terminated != transitions.terminals)[kept].sum()),
        installed_error=spread(installed),
        installed_source_error=spread(installed_base),
        installed_ratio=_ratio(spread(installed_base), spread(installed)),
    )


def _ratio(source: Spread, shifted: Spread) -> float:
    """Divide medians; errors below the smallest number there is count as that."""
    return (source.median or 0.0) / max(shifted.median or 0.0, 1e-300)


def file_domain(path: Path) -> Domain:
    """Read a domain from a published file's name; ``gravity_0.5`` is ``gravity-x0p5``.

    Raises:
        ShiftgymError: the name says no known quality or domain; the message names the nearest.
    """
    stem = Path(path).stem
    suffixes = [quality for quality in QUALITIES if stem.endswith("_" + quality)]
    if not suffixes:
        raise ShiftgymError(
            f"{Path(path).name}: expected a name <robot>_<shift>_<quality>.hdf5. "
            f"{nearest(stem.rpartition('_')[2], QUALITIES)}"
        )
    slug = stem.removesuffix("_" + max(suffixes, key=len))
    slug = re.sub(r"_(\d+(?:\.\d+)?)$", lambda level: "-" + level_token(float(level[1])), slug)
    slug = slug.replace("_", "-")
    try:
        return domain(slug)
    except DomainError as error:
        close = difflib.get_close_matches(slug, catalogue(), n=1)
        hint = f" Did you mean {close[0].replace('-', '_')!r}?" if close else ""
        raise ShiftgymError(
            f"{Path(path).name}: no domain is called {slug!r}.{hint} ({error})"
        ) from None


def read_transitions(path: Path) -> Transitions:
    """Read the flat arrays of a published HDF5 file.

    Raises:
        ShiftgymError: not a whole HDF5 file, an array missing or of the wrong shape, or values
            that are not finite; the message starts with the file's name.
    """
    path = Path(path)
    name = path.name
    with open_hdf5(path) as file, explained(name):
        size = check_regular(path)
        arrays = {key: numbers(file, key, name, size) for key in FIELDS}
        if missing := [key for key, found in arrays.items() if found is None]:
            raise ShiftgymError(
                f"{name}: no array {', '.join(missing)}; the file holds {names_in(file)}."
            )
        arrays = {key: found[()] for key, found in arrays.items() if found is not None}
    try:
        return Transitions(**arrays)
    except ShiftgymError as error:
        raise ShiftgymError(f"{name}: {error}") from None


def versions() -> dict[str, str]:
    """Give the versions that the figures depend on."""
    return {
        "shiftgym": shiftgym.__version__,
        "mujoco": mujoco.__version__,
        "gymnasium": gymnasium.__version__,
    }


def _write(path: Path, text: str) -> None:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    print(f"Wrote {path}")

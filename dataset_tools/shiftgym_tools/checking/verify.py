"""Verify datasets, row by row: layout, flags, joins, replay, duplicates, checksums.

    shiftgym data verify hopper-kinematic/medium somewhere/hopper_morph_medium_expert.hdf5

Whatever is wrong is printed, for every set, before the command fails.
"""

from __future__ import annotations

import hashlib
import json as json_format
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import tyro
from tqdm import tqdm

from shiftgym.basics.arrays import Array
from shiftgym.basics.errors import DomainError, ShiftgymError
from shiftgym.datasets.load import find
from shiftgym.datasets.load import locate as locate_set
from shiftgym.datasets.metadata import name_of
from shiftgym.datasets.names import NAMESPACE, DatasetName
from shiftgym.datasets.packaged import load_packaged, packaged_index
from shiftgym.datasets.store import sha256
from shiftgym.domains import Domain
from shiftgym.engine import mujoco
from shiftgym.reading.locating import locate as locate_file
from shiftgym_tools.checking.examining import Examination, examine
from shiftgym_tools.checking.flaws import flaws
from shiftgym_tools.checking.guessing import decide, origin_of
from shiftgym_tools.checking.plausible import repeated_episodes
from shiftgym_tools.checking.remarks import lines, notes, summary
from shiftgym_tools.checking.retracing import Progress
from shiftgym_tools.reading.layouts import Source, from_flat
from shiftgym_tools.reading.opening import open_source


@dataclass
class Verification:
    """Tell what was found about one dataset.

    Attributes:
        name: as the user gave it.
        facts: figures, as :func:`shiftgym_tools.checking.remarks.summary` gives them; empty
            where it could not be read.
        problems: what is wrong.
        notes: what is worth knowing.
        content: SHA-256 of its rows as float32, which does not depend on how they are stored.
        keys: hash of each row's observation and action, (N,) uint64.
    """

    name: str
    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    content: str = ""
    keys: Array = field(default_factory=lambda: np.zeros(0, np.uint64), repr=False)

    def told(self) -> dict[str, Any]:
        """Give everything but the keys, JSON-able."""
        return {
            "name": self.name,
            "ok": not self.problems,
            "problems": self.problems,
            "notes": self.notes,
            "content_sha256": self.content,
            **self.facts,
        }


def verify(
    names: Annotated[tuple[str, ...], tyro.conf.Positional],
    domain: str | None = None,
    all_rows: bool = False,
    json_: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """Verify datasets: count, layout, flags, joins, finite numbers, replay, duplicates, checksums.

    Locomotion rows are replayed in their domain; hands are checked as far as their observations
    tell. Give several sets at once to compare them with each other.

    Example: shiftgym data verify hopper-kinematic/medium

    Args:
        names: HDF5 files, Minari folders or ids, or names of installed or packaged sets.
        domain: Where they were recorded; from their metadata or names by default.
        all_rows: Replay every row of a large set, not a sample and the suspicious ones only.
        json_: Print JSON for programs.
    """
    if not names:
        raise DomainError("Name at least one dataset: shiftgym data verify hopper/medium")
    found = []
    for name in names:
        with tqdm(unit="row", unit_scale=True, desc=name[-40:], leave=False, disable=None) as bar:
            found.append(check(name, domain, all_rows=all_rows, progress=bar.update))
    compare(found)
    if json_:
        print(json_format.dumps([each.told() for each in found], indent=1))
    else:
        print("\n".join(line for each in found for line in _page(each)))
    wrong = [each.name for each in found if each.problems]
    if wrong:
        raise ShiftgymError(f"{len(wrong)} of {len(found)} have problems: {', '.join(wrong)}.")
    if not json_:
        print(f"{len(found)} verified, nothing wrong.")


def check(
    name: str,
    domain: str | Domain | None = None,
    *,
    all_rows: bool = False,
    progress: Progress | None = None,
) -> Verification:
    """Verify one dataset; whatever is wrong is told, not raised.

    Args:
        name: an HDF5 file, a Minari folder or id, or the name of an installed or packaged set.
        domain: where it was recorded; from its metadata or its name by default.
        all_rows: replay every row of a large set.
        progress: called with the number of rows just read or replayed.
    """
    found = Verification(name)
    try:
        with _opened(name) as (source, called):
            where = called.domain if called is not None and domain is None else None
            if where is None:
                where, _ = decide(source.label, domain, None)
            if where is None:
                raise ShiftgymError(f"{source.label} does not say its domain: give --domain.")
            _identity(found, source, called)
            seen = examine(source, where, all_rows=all_rows, progress=progress)
            origin = origin_of(where, source.layout) if called is None else called.origin
            found.problems += seen.problems + [str(flaw) for flaw in flaws(seen)]
            found.notes += notes(seen)
            found.facts = summary(seen, origin)
            found.keys = seen.scan.key
            found.content = content_hash(source)
            _duplicates(found, seen)
            if called is not None and not called.origin:
                _own(found, seen)
                _engine(found, source, called)
    except ShiftgymError as error:
        found.problems.append(str(error))
    return found


@contextmanager
def _opened(name: str) -> Iterator[tuple[Source, DatasetName | None]]:
    """Open a dataset, with its name where it is one that shiftgym wrote."""
    try:
        path, _, metadata = locate_file(name)
    except ShiftgymError as not_there:
        try:
            called = find(name)
        except DomainError:
            raise not_there from None
        folder = locate_set(called)
        if folder is None:
            yield from_flat(load_packaged(called), called.minari), called
            return
        path, _, metadata = locate_file(folder)
        name = str(folder)
    own = isinstance(metadata.get(NAMESPACE), dict)
    with open_source(name) as source:
        yield source, name_of(metadata) if own else None


def _identity(found: Verification, source: Source, called: DatasetName | None) -> None:
    """Compare what the metadata say with the file."""
    told = source.metadata
    if not told:
        return
    bounds = getattr(source, "bounds", None)
    episodes = None if bounds is None else len(bounds) - 1
    for key, counted in (("total_steps", source.rows), ("total_episodes", episodes)):
        if told.get(key, counted) != counted:
            found.problems.append(f"{key} is {counted}; the metadata say {told[key]}")
    if called is not None:
        if told[NAMESPACE].get("sha256") != sha256(source.path):
            found.problems.append("the data file's SHA-256 differs from the one in its metadata")
        if called.minari != told.get("dataset_id") or told[NAMESPACE].get("size") != source.rows:
            found.problems.append("the metadata contradict themselves about id or size")


def _own(found: Verification, seen: Examination) -> None:
    """Check what holds for shiftgym's own sets: MuJoCo 2.1.0's physics."""
    if seen.fit is not None and seen.fit.engine != "mujoco210":
        found.problems.append(f"recorded with {seen.fit.made_by}'s physics, not MuJoCo 2.1.0's")


def _engine(found: Verification, source: Source, called: DatasetName) -> None:
    """Say first where a set was made with another engine than the one that replays it."""
    about = source.metadata.get(NAMESPACE) or packaged_index().get(called.short, {}).get(
        "about", {}
    )
    made = about.get("collected_with", about.get("versions", {})).get("mujoco")
    if made in (None, mujoco.__version__):
        return
    text = f"another engine: made with MuJoCo {made}, replayed here with {mujoco.__version__}"
    if found.problems:
        found.problems.insert(0, f"{text}, which can be the cause of what follows")
    else:
        found.notes.insert(0, text)


def _duplicates(found: Verification, seen: Examination) -> None:
    """Look for rows that occur twice; whole episodes that do are a flaw."""
    episodes, twice = repeated_episodes(seen.scan, seen.episodes)
    if twice and not episodes:
        found.notes.append(f"{twice} rows occur more than once (same observation and action)")


def compare(found: list[Verification]) -> None:
    """Tell sets that hold the same rows, in place."""
    for k, one in enumerate(found):
        for other in found[:k]:
            if not len(one.keys) or not len(other.keys):
                continue
            if one.content == other.content:
                one.problems.append(f"holds exactly the rows of {other.name}")
                other.problems.append(f"holds exactly the rows of {one.name}")
            elif shared := len(np.intersect1d(one.keys, other.keys)):
                one.notes.append(f"{shared:,} of its rows are also in {other.name}")
                other.notes.append(f"{shared:,} of its rows are also in {one.name}")


HASHED = ("observations", "actions", "rewards", "next_observations", "terminals")


def content_hash(source: Source) -> str:
    """Hash the rows: SHA-256 of the five fields' own SHA-256, each over all rows in order.

    Numbers are taken as little-endian float32 and flags as bytes, so that storage does not matter.
    """
    digests = {name: hashlib.sha256() for name in HASHED}
    for block in source.blocks():
        for name, digest in digests.items():
            kind = np.bool_ if name == "terminals" else "<f4"
            digest.update(np.ascontiguousarray(getattr(block, name), dtype=kind).data)
    return hashlib.sha256(b"".join(digest.digest() for digest in digests.values())).hexdigest()


def _page(found: Verification) -> list[str]:
    page = [found.name]
    if found.facts:
        page += [f"  {line}" for line in lines(found.facts)]
        page.append(f"  content   {found.content}")
    page += [f"  note      {note}" for note in found.notes]
    page += [f"  WRONG     {problem}" for problem in found.problems] or ["  ok"]
    return [*page, ""]

"""Import other people's datasets: D4RL, OTDF, ODRL and Minari, checked row by row.

    shiftgym data import hopper_kinematic_medium.hdf5
        -> shiftgym/hopper-kinematic/medium-otdf-v0 in the local Minari root

Nothing is guessed about the data: stored next observations are used, rows that lead across a reset
are dropped and counted, and the domain is confirmed by replaying rows in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from tqdm import tqdm

from shiftgym.datasets.flat import Flat, concatenate, episode_returns, mean_return
from shiftgym.datasets.folders import refuse_existing
from shiftgym.datasets.names import DatasetName
from shiftgym.datasets.store import dataset_path, sha256, write_dataset
from shiftgym.domains import Domain, episode_steps
from shiftgym.errors import ShiftgymError
from shiftgym_tools.episodes import JOINS
from shiftgym_tools.examining import Examination, Progress, examine
from shiftgym_tools.guessing import decide, import_name
from shiftgym_tools.hand_checks import mended_door_rewards
from shiftgym_tools.layouts import Source
from shiftgym_tools.opening import open_source
from shiftgym_tools.remarks import flaws, lines, notes, score, summary


@dataclass(frozen=True)
class ImportReport:
    """Tell what was imported.

    Attributes:
        facts: figures, as :func:`shiftgym_tools.remarks.summary` gives them.
        notes: what is worth knowing, in words; what is wrong in the file comes first.
        mended: whether flipped rewards were turned into the original ones.
    """

    facts: dict[str, Any]
    notes: list[str]
    mended: bool = False


def read_foreign(
    path: str | Path,
    domain: str | Domain | None = None,
    *,
    all_rows: bool = False,
    mend_rewards: bool = False,
) -> tuple[Flat, ImportReport]:
    """Read somebody else's dataset into flat arrays, checked as an import is, and write nothing.

    Args:
        path: an HDF5 file, a Minari folder, or a Minari id.
        domain: where it was recorded; guessed from the name by default.
        all_rows: replay every row of a large set.
        mend_rewards: turn gymnasium-robotics' flipped Door rewards into the original ones.

    Returns:
        The kept rows, as :mod:`shiftgym.datasets.flat` says, and what was found.

    Raises:
        ShiftgymError: the file cannot be read or is wrong; the message says how, and for a
            mislabelled file which domain fits.
    """
    with open_source(path) as source:
        where, _ = decide(source.label, domain, None)
        if where is None:
            raise ShiftgymError(f"{source.label} does not say its domain: give one.")
        seen = accept(source, where, all_rows, None)
        report = _report(seen, mend_rewards)
        return concatenate(list(chunks(seen, report.mended))), report


def import_dataset(
    path: Annotated[str, tyro.conf.Positional],
    domain: str | None = None,
    quality: str | None = None,
    name: str | None = None,
    all_rows: bool = False,
    mend_rewards: bool = False,
    replace: bool = False,
) -> None:
    """Import a dataset of D4RL, OTDF, ODRL or Minari into the local Minari root.

    The set is called <domain>/<quality>-<origin>, where the origin is d4rl, otdf, odrl or minari,
    so that it is never taken for one of shiftgym's own.

    Example: shiftgym data import hopper_kinematic_medium.hdf5

    Args:
        path: An HDF5 file, a Minari folder, or the id of a set in the local Minari root.
        domain: Where it was recorded (or FILE.toml:slug); guessed from the name by default.
        quality: random, medium, medium-replay, medium-expert, expert, and for hands human and
            cloned; guessed from the name by default.
        name: Your own word instead of the origin: lab7 makes <domain>/<quality>-from_lab7.
        all_rows: Replay every row of a large set, not a sample and the suspicious ones only.
        mend_rewards: Turn gymnasium-robotics' flipped Door rewards into the original ones.
        replace: Write anew what was imported under the same name.
    """
    with open_source(path) as source:
        where, tier = decide(source.label, domain, quality)
        if where is None or tier is None:
            missing = "--domain" if where is None else "--quality"
            raise ShiftgymError(
                f"{source.label} does not say its {missing[2:]} in a way that is known here: give "
                f"{missing}, such as --domain hopper-kinematic --quality medium."
            )
        called = import_name(where, tier, source.layout, source.rows, name)
        refuse_existing(dataset_path(called), replace)  # before any work; the name will stay
        with tqdm(total=None, unit="row", unit_scale=True, desc="check", leave=False) as bar:
            seen = accept(source, where, all_rows, bar.update)
        report = _report(seen, mend_rewards)
        kept = report.facts["kept"]
        called = import_name(where, tier, source.layout, kept, name)
        with tqdm(total=kept, unit="row", unit_scale=True, desc="write", leave=False) as bar:
            rows = chunks(seen, report.mended, bar.update)
            folder = write_dataset(rows, called, _about(seen, called, report), replace=replace)
    print(f"Imported {source.label}")
    print("\n".join(f"  {line}" for line in lines(report.facts)))
    print("".join(f"  note      {note}\n" for note in report.notes), end="")
    print(f"Wrote {called.minari} to {folder}")
    print(f'Next: shiftgym.load("{called}"), or minari.load_dataset("{called.minari}")')


def accept(source: Source, where: Domain, all_rows: bool, progress: Progress | None) -> Examination:
    """Examine a dataset, and refuse it unless it can be imported as what it is said to be.

    Raises:
        ShiftgymError: what is wrong with it.
    """
    seen = examine(source, where, all_rows=all_rows, progress=progress)
    if seen.problems:
        raise ShiftgymError(f"{source.label} is refused: {'; '.join(seen.problems)}.")
    if not seen.episodes.kept.any():
        raise ShiftgymError(f"{source.label} is refused: no row of {source.rows:,} can be kept.")
    return seen


def chunks(
    seen: Examination, mended: bool = False, progress: Progress | None = None
) -> Iterator[Flat]:
    """Give the rows that are kept as flat arrays, block by block."""
    episodes = seen.episodes
    for block in seen.source.blocks():
        rows = slice(block.first, block.first + len(block.rewards))
        kept = episodes.kept[rows]
        if not kept.any():
            continue
        flat = {
            "observations": block.observations[kept],
            "actions": block.actions[kept],
            "rewards": block.rewards[kept],
            "next_observations": block.next_observations[kept],
            "terminated": episodes.terminated[rows][kept],
            "truncated": episodes.truncated[rows][kept],
        }
        if mended:
            flat["rewards"] = mended_door_rewards(flat["rewards"], flat["next_observations"])
        yield flat
        if progress is not None:
            progress(int(kept.sum()))


def _report(seen: Examination, mend_rewards: bool) -> ImportReport:
    flipped = seen.hand is not None and seen.hand.reward_rule == "flipped"
    if mend_rewards and not flipped:
        raise ShiftgymError(
            f"{seen.source.label}: its rewards are not flipped, there is nothing to mend."
        )
    facts = summary(seen)
    told = [flaw for flaw in flaws(seen) if JOINS not in flaw] + notes(seen)  # those are dropped
    if mend_rewards:
        told = [note for note in told if "--mend-rewards" not in note]
        told.append("rewards had gymnasium-robotics' wrong sign and were turned round")
        facts |= {"mean_return": None, "score": None, "score_reference": None}
        facts |= _mended_return(seen)
    return ImportReport(facts, told, mend_rewards)


def _mended_return(seen: Examination) -> dict[str, Any]:
    """Give the mean return with the rewards turned round."""
    keys, limit = ("rewards", "terminated", "truncated"), seen.episodes.limit
    parts = [{key: flat[key] for key in keys} for flat in chunks(seen, True)]
    flat = {key: np.concatenate([part[key] for part in parts]) for key in keys}
    mean = mean_return(episode_returns(flat, limit or episode_steps(seen.domain.robot)))
    scored = None if mean is None else score(seen.domain, mean)
    table, value = scored if scored is not None else (None, None)
    return {"mean_return": mean, "score": value, "score_reference": table}


def _about(seen: Examination, called: DatasetName, report: ImportReport) -> dict[str, Any]:
    """Tell where the set comes from and what was done to it."""
    facts = report.facts
    dropped = "; ".join(f"{count} rows dropped that {r}" for r, count in facts["dropped"].items())
    return {
        "description": (
            f"{facts['kept']:,} transitions of {called.quality} quality recorded in "
            f"{called.domain.slug}, imported from {seen.source.label} ({facts['layout']}); "
            f"{dropped or 'no row dropped'}. Not made by shiftgym."
        ),
        "algorithm": "imported",
        "author": "imported",
        "imported": {
            "file": seen.source.label,
            "file_sha256": sha256(seen.source.path),
            "rewards": "turned round" if report.mended else "as recorded",
            "cut_columns": seen.source.cut,
            "notes": report.notes,
            **{
                key: facts[key]
                for key in ("layout", "rows", "kept", "dropped", "ends", "time_limit", "replay")
            },
        },
    }

"""Import other people's datasets: D4RL, OTDF, ODRL and Minari, checked row by row.

    shiftgym data import hopper_kinematic_medium.hdf5
        -> shiftgym/hopper-kinematic/medium-otdf-v0 in the local Minari root

Nothing is guessed about the data: stored next observations are used, the domain is confirmed by
replaying rows in it, and what is wrong is mended where a replay knows better (and told),
or refused unless told otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from tqdm import tqdm

from shiftgym.arrays import Array
from shiftgym.datasets.flat import Flat, concatenate
from shiftgym.datasets.folders import refuse_existing
from shiftgym.datasets.names import DatasetName
from shiftgym.datasets.store import dataset_path, sha256, write_dataset
from shiftgym.domains import Domain
from shiftgym.errors import ShiftgymError
from shiftgym_tools.checking.episodes import REPLAYED
from shiftgym_tools.checking.examining import Examination, examine
from shiftgym_tools.checking.flaws import Allowed, flaws
from shiftgym_tools.checking.guessing import decide, import_name, origin_of, unclear
from shiftgym_tools.checking.hand_checks import mended_door_rewards
from shiftgym_tools.checking.remarks import lines, notes, returned, summary
from shiftgym_tools.checking.retracing import Progress
from shiftgym_tools.reading.layouts import Block, Source
from shiftgym_tools.reading.opening import open_source

IMPORTED = (  # what metadata keep of a report's figures
    "layout", "rows", "kept", "filled", "dropped", "ends", "time_limit", "replay",
)  # fmt: skip


@dataclass(frozen=True)
class ImportReport:
    """Tell what was imported.

    Attributes:
        facts: figures, as :func:`shiftgym_tools.checking.remarks.summary` gives them.
        notes: what is worth knowing, in words; what is wrong in the file comes first.
        returns: undiscounted, of the whole episodes, float64.
        mended: whether flipped rewards were turned into the original ones.
    """

    facts: dict[str, Any]
    notes: list[str]
    returns: Array
    mended: bool = False


def read_foreign(
    path: str | Path,
    domain: str | Domain | None = None,
    *,
    all_rows: bool = False,
    mend_rewards: bool = False,
    mend_terminals: bool = False,
    allow: Collection[Allowed] = (),
) -> tuple[Flat, ImportReport]:
    """Read somebody else's dataset into flat arrays, checked as an import is, and write nothing.

    Args:
        path: an HDF5 file, a Minari folder, or a Minari id.
        domain: where it was recorded; guessed from the name by default.
        all_rows: replay every row of a large set.
        mend_rewards: turn gymnasium-robotics' flipped Door rewards into the original ones.
        mend_terminals: flag terminal states as the domain does, time-outs as time-outs.
        allow: kinds of damage to read all the same; see :mod:`shiftgym_tools.checking.flaws`.

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
        seen = accept(source, where, all_rows, mend_terminals, allow)
        report = _report(seen, origin_of(where, source.layout), mend_rewards)
        return concatenate(list(chunks(seen, report.mended))), report


def import_dataset(
    path: Annotated[str, tyro.conf.Positional],
    domain: str | None = None,
    quality: str | None = None,
    name: str | None = None,
    all_rows: bool = False,
    mend_rewards: bool = False,
    mend_terminals: bool = False,
    allow: tuple[Allowed, ...] = (),
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
        mend_terminals: Flag terminal states as the domain does: terminal flags at the time limit
            become time-outs, and falls without a flag become terminal.
        allow: Import damage as it is: wrong terminals, wrong rewards, rows that lead elsewhere,
            repeats of episodes.
        replace: Write anew what was imported under the same name.
    """
    with open_source(path) as source:
        where, tier = decide(source.label, domain, quality)
        if where is None or tier is None:
            raise ShiftgymError(unclear(source.label, where, tier))
        called = import_name(where, tier, source.layout, source.rows, name)
        refuse_existing(dataset_path(called), replace)  # before any work; the name will stay
        origin = called.origin
        with tqdm(total=None, unit="row", unit_scale=True, desc="check", leave=False) as bar:
            seen = accept(source, where, all_rows, mend_terminals, allow, bar.update)
        report = _report(seen, origin, mend_rewards)
        kept = report.facts["kept"]
        called = import_name(where, tier, source.layout, kept, name)
        with tqdm(total=kept, unit="row", unit_scale=True, desc="write", leave=False) as bar:
            rows = chunks(seen, report.mended, bar.update)
            about = _about(seen, called, report)
            folder = write_dataset(rows, called, about, replace=replace, returns=report.returns)
    print(f"Imported {source.label}")
    print("\n".join(f"  {line}" for line in lines(report.facts)))
    print("".join(f"  note      {note}\n" for note in report.notes), end="")
    print(f"Wrote {called.minari} to {folder}")
    print(f'Next: shiftgym.load("{called}"), or minari.load_dataset("{called.minari}")')


def accept(
    source: Source,
    where: Domain,
    all_rows: bool = False,
    mend_terminals: bool = False,
    allow: Collection[Allowed] = (),
    progress: Progress | None = None,
) -> Examination:
    """Examine a dataset, and refuse it unless it can be imported as what it is said to be.

    Raises:
        ShiftgymError: what is wrong with it.
    """
    seen = examine(
        source, where, all_rows=all_rows, mend_terminals=mend_terminals, progress=progress
    )
    reasons = list(seen.problems)
    if seen.verdict is None or seen.verdict.confirmed:
        deciding = (flaw for flaw in flaws(seen) if flaw.decides and flaw.kind not in allow)
        reasons += [flaw.refusal() for flaw in deciding]
    if reasons:
        raise ShiftgymError(f"{source.label} is refused: {'; '.join(reasons)}.")
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
            "next_observations": _filled(seen, block)[kept],
            "terminated": episodes.terminated[rows][kept],
            "truncated": episodes.truncated[rows][kept],
        }
        if mended:
            flat["rewards"] = mended_door_rewards(flat["rewards"], flat["next_observations"])
        yield flat
        if progress is not None:
            progress(int(kept.sum()))


def _filled(seen: Examination, block: Block) -> Array:
    """Give a block's next observations, with what stands in for those that are lost."""
    found, last = block.next_observations, block.first + len(block.rewards)
    for how, numbers in seen.episodes.filled.items():
        inside = numbers[(numbers >= block.first) & (numbers < last)]
        if found is block.next_observations and len(inside):
            found = found.copy()
        for number in inside.tolist():
            k, arrived = number - block.first, seen.retraced and seen.retraced.arrived
            found[k] = arrived[number] if how == REPLAYED and arrived else block.observations[k]
    return found


def _report(seen: Examination, origin: str, mend_rewards: bool) -> ImportReport:
    flipped = seen.hand is not None and seen.hand.reward_rule == "flipped"
    if mend_rewards and not flipped:
        raise ShiftgymError(
            f"{seen.source.label}: its rewards are not flipped, there is nothing to mend."
        )
    facts, returns = summary(seen, origin), seen.episodes.returns
    told = [str(flaw) for flaw in flaws(seen) if flaw.kind != "joins"]  # those are no more
    told += notes(seen)
    if mend_rewards:
        told = [note for note in told if "--mend-rewards" not in note]
        told.append("rewards had gymnasium-robotics' wrong sign and were turned round")
        returns = _mended_returns(seen)
        facts |= returned(seen.domain, origin, returns)
    return ImportReport(facts, told, returns, mend_rewards)


def _mended_returns(seen: Examination) -> Array:
    """Give the whole episodes' returns with the rewards turned round."""
    rewards = np.full(len(seen.scan), np.nan)
    rewards[seen.episodes.kept] = np.concatenate([flat["rewards"] for flat in chunks(seen, True)])
    return seen.episodes.returns_with(rewards)


def _about(seen: Examination, called: DatasetName, report: ImportReport) -> dict[str, Any]:
    """Tell where the set comes from and what was done to it."""
    facts = report.facts
    done = [f"{count} rows kept {how}" for how, count in facts["filled"].items()]
    done += [f"{count} rows dropped that {r}" for r, count in facts["dropped"].items()]
    return {
        "description": (
            f"{facts['kept']:,} transitions of {called.quality} quality recorded in "
            f"{called.domain.slug}, imported from {seen.source.label} ({facts['layout']}); "
            f"{'; '.join(done) or 'rows as they are'}. Not made by shiftgym."
        ),
        "algorithm": "imported",
        "author": "imported",
        "imported": {
            "file": seen.source.label,
            "file_sha256": sha256(seen.source.path),
            "rewards": "turned round" if report.mended else "as recorded",
            "terminals": "as the domain flags them" if seen.mended_terminals else "as recorded",
            "cut_columns": seen.source.cut,
            "notes": report.notes,
            **{key: facts[key] for key in IMPORTED},
        },
    }

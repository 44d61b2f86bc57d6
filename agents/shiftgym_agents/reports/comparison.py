"""Put runs beside the numbers that a paper printed for the same pairs.

Scores are made anew from the runs' returns with the protocol's reference, whatever reference they
were trained with. A run belongs to the protocol if its two datasets are of a pair's domains and
qualities, in the pair's direction, and either shiftgym's own of the pair's sizes or imported from
the files that the paper used. Any other run is listed with the reason and enters no number.

Runs of one method with equal hyperparameters on equal data are a block. Its total sums the means
of pairs that have both a published and a finished number, with a bootstrap interval over seeds; a
method that trains on the target alone stands for every pair of its target.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from shiftgym.basics.errors import ShiftgymError
from shiftgym.datasets.load import find
from shiftgym.datasets.names import DatasetName
from shiftgym.scores import reference
from shiftgym_agents.core.agent import Agent
from shiftgym_agents.data.places import from_record, slug_of
from shiftgym_agents.reports.protocols import Cell, Protocol, Row, direction_of
from shiftgym_agents.reports.report import RESAMPLES, Group, interval, lay_out, plain, summary
from shiftgym_agents.training.metrics import LAST


@dataclass(frozen=True)
class Entry:
    """Hold the scores of a block's runs on one pair.

    Attributes:
        method: its name.
        setting: the preset, and what differs from it.
        data: whose datasets they are, where imported: ``d4rl -> otdf``; else empty.
        rows: the pair; all pairs of the target, where the method trains on the target alone.
        uses_source: whether the method draws source rows.
        published: what the paper printed.
        outs: the run directories, one per run.
        seeds: one per run.
        updates: how many the last evaluation had.
        finished: whether training is over.
        last: scores of the last evaluation `(runs,)`; NaN where a run had diverged.
        last5: means of the last five `(runs,)`.
    """

    method: str
    setting: str
    data: str
    rows: tuple[Row, ...]
    uses_source: bool
    published: Cell | None
    outs: tuple[Path, ...]
    seeds: tuple[int, ...]
    updates: int
    finished: bool
    last: np.ndarray
    last5: np.ndarray

    @property
    def block(self) -> str:
        """Name the block it belongs to."""
        return f"{self.method}, {self.setting}" + (f", data {self.data}" if self.data else "")

    @cached_property
    def summaries(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Summarise the last evaluation and the last five."""
        return summary([self.last]), summary([self.last5])

    @property
    def difference(self) -> float | None:
        """Give our mean of the last evaluation less the published one."""
        mean = self.summaries[0]["mean"]
        return None if mean is None or self.published is None else mean - self.published.mean


@dataclass(frozen=True)
class Comparison:
    """Hold runs beside a protocol.

    Attributes:
        protocol: the published experiment.
        entries: runs that belong to it, by block, in the protocol's order.
        others: runs that do not, with the reason; they enter no number.
    """

    protocol: Protocol
    entries: list[Entry]
    others: list[tuple[Group, str]]

    def blocks(self) -> dict[str, list[Entry]]:
        """Give the entries by block."""
        found: dict[str, list[Entry]] = {}
        for entry in self.entries:
            found.setdefault(entry.block, []).append(entry)
        return found

    def missing(self) -> dict[str, list[Row]]:
        """Give the pairs without a finished run by method, of those that can be trained."""
        done = {(e.method, row) for e in self.entries if e.finished for row in e.rows}
        return {
            name: [row for row in self.protocol.rows if (name, row) not in done]
            for name in self.protocol.methods
        }


def compare(found: Protocol, groups: Sequence[Group]) -> Comparison:
    """Put runs beside a protocol.

    Raises:
        ShiftgymError: Two directories hold the same run: method, setting, data, pair and seed.
    """
    entries: dict[Any, Entry] = {}
    others: list[tuple[Group, str]] = []
    for group in groups:
        rows, reason = place(found, group)
        if not rows:
            others.append((group, reason))
            continue
        entry = _entry(found, group, rows)
        alone = None if entry.finished else group.out  # unfinished runs are pooled with none
        key = (entry.block, str(rows[0]), entry.updates, alone)
        entries[key] = _pool(entries[key], entry) if key in entries else entry
    names = list(dict.fromkeys((*found.methods, *(entry.method for entry in entries.values()))))
    order = {row: k for k, row in enumerate(map(str, found.rows))}
    places = {
        id(e): (names.index(e.method), e.block, order[str(e.rows[0])]) for e in entries.values()
    }
    return Comparison(found, sorted(entries.values(), key=lambda e: places[id(e)]), others)


def place(found: Protocol, group: Group) -> tuple[tuple[Row, ...], str]:
    """Find the rows that a group's runs are of, or the reason why there are none."""
    try:
        source, target = datasets_of(group)
        where = from_record(group.domain)
    except ShiftgymError as error:
        return (), f"not of the catalogue: {str(error).splitlines()[0]}"
    if where != target.domain:
        return (), f"evaluated in {slug_of(where)}"
    direction = direction_of(source and source.domain, target.domain)
    if direction != found.direction:
        return (), f"the other direction: {direction}; {found.name} is {found.direction}"
    near = [row for row in found.rows if source is None or _alike(row.source, source)]
    near = [row for row in near if _alike(row.target, target)]
    if not near:
        return (), f"no pair of {found.name}"
    rows = [row for row in near if source is None or _same(found, "source", row.source, source)]
    rows = [row for row in rows if _same(found, "target", row.target, target)]
    if not rows:
        return (), f"data of another size or origin than {near[0]}"
    share = found.target_share if target.origin else 1.0
    if (used := group.config.get("target_share", 1.0)) != share:
        return (), f"target_share {used} of {target} instead of {share}"
    return tuple(rows), ""


def datasets_of(group: Group) -> tuple[DatasetName | None, DatasetName]:
    """Read the names of a group's source, None where its method uses none, and target."""
    source = find(group.source) if group.kind.uses_source else None
    return source, find(group.target)


def name_setting(kind: type[Agent], robot: str, config: dict[str, Any]) -> str:
    """Name hyperparameters by the preset nearest to them, and what differs from it.

    Returns:
        ``official``, or ``ours steps=300000 keep=0.5``.
    """
    found: list[tuple[int, str]] = []
    for preset, values in kind.presets.items():
        given = json.loads(json.dumps(dataclasses.asdict(values.for_robot(robot)), default=str))
        differing = [f"{key}={v}" for key, v in config.items() if given.get(key) != v]
        found.append((len(differing), " ".join([preset, *differing])))
    return min(found, key=lambda each: each[0])[1]


def total(found: Protocol, block: Sequence[Entry]) -> dict[str, Any] | None:
    """Sum a block's means over pairs, beside the published sum over the same pairs.

    Pairs without a published number count only where the block has none at all.

    Returns:
        ``pairs``, ``of``, ``mean``, ``low``, ``high``, ``published``, ``difference``; or None
        where nothing is finished.
    """
    done = [e for e in block if e.finished and np.isfinite(e.last).any()]
    known = [e for e in done if e.published is not None]
    chosen = known or done
    if not chosen:
        return None
    rng, drawn, mean = np.random.default_rng(0), np.zeros(RESAMPLES), 0.0
    for entry in chosen:
        scores, weight = entry.last[np.isfinite(entry.last)], len(entry.rows)
        places = rng.integers(len(scores), size=(RESAMPLES, len(scores)))
        drawn += weight * scores[places].mean(1)
        mean += weight * float(scores.mean())
    low, high = map(float, np.percentile(drawn, [2.5, 97.5]))
    published = sum(e.published.mean for e in known if e.published) if known else None
    about = {"pairs": sum(len(e.rows) for e in chosen), "of": len(found.rows), "mean": mean}
    about |= {"low": low, "high": high, "published": published}
    return about | {"difference": None if published is None else mean - published}


def describe(made: Comparison) -> dict[str, Any]:
    """Give a comparison as JSON."""
    found, entries = made.protocol, []
    for e in made.entries:
        last, last5 = e.summaries
        about: dict[str, Any] = {"method": e.method, "setting": e.setting, "data": e.data}
        about |= {"pairs": [[str(row.source), str(row.target)] for row in e.rows]}
        about |= {"reference": e.rows[0].reference, "out": [str(out) for out in e.outs]}
        about |= {"seeds": list(e.seeds), "updates": e.updates, "finished": e.finished}
        about |= {"published": e.published and {"mean": e.published.mean, "std": e.published.std}}
        about |= {"last": last | {"scores": plain(e.last)}}
        entries.append(
            about | {"last5": last5 | {"scores": plain(e.last5)}, "difference": e.difference}
        )
    totals = {name: total(found, block) for name, block in made.blocks().items()}
    missing = {name: [str(row) for row in rows] for name, rows in made.missing().items()}
    return {
        "protocol": found.name,
        "direction": found.direction,
        "entries": entries,
        "totals": totals,
        "published_totals": dict(found.totals),
        "missing": missing,
        "missing_methods": list(found.missing_methods),
        "not_of_this_protocol": [
            {"out": str(g.out), "method": g.method, "source": g.source, "target": g.target}
            | {"seeds": g.seeds, "reason": reason}
            for g, reason in made.others
        ],
    }


def table(made: Comparison) -> str:
    """Lay out a comparison: blocks with their totals, what is missing, what does not belong."""
    found = made.protocol
    parts = [f"{found.name}: {found.title} ({found.direction})", f"Published: {found.source}"]
    head = (
        "source",
        "target",
        "published",
        "last [95 %]",
        "difference",
        "last 5 [95 %]",
        "seeds",
        "",
    )
    for name, block in made.blocks().items():
        lines = [head, *(_line(found, entry) for entry in block)]
        if (about := total(found, block)) is not None:
            printed = "-" if about["published"] is None else f"{about['published']:.1f}"
            end = ("total", f"{about['pairs']} of {about['of']} pairs", printed, interval(about))
            lines.append((*end, _signed(about["difference"]), "", "", ""))
        parts.append(f"{name}\n{lay_out(lines)}")
    if found.totals:
        texts = [f"{found.columns[key].label} {value}" for key, value in found.totals.items()]
        parts.append(f"Published totals of all {len(found.rows)} pairs: {', '.join(texts)}.")
    missing = [f"  {name}: {_pairs(found, rows)}" for name, rows in made.missing().items() if rows]
    if found.missing_methods:
        missing.append(f"  not in this package: {', '.join(found.missing_methods)}")
    if missing:
        parts.append("\n".join(["Missing, no finished run:", *missing]))
    if made.others:
        lines = [
            f"  {g.out}: {g.method}, {g.source} -> {g.target}: {why}" for g, why in made.others
        ]
        parts.append("\n".join([f"Not of {found.name}, in no number above:", *lines]))
    return "\n\n".join(parts)


def _entry(found: Protocol, group: Group, rows: tuple[Row, ...]) -> Entry:
    target = rows[0].target.domain
    worth = reference(target, rows[0].reference)
    last, last5 = group.returns[:, -1], group.returns[:, -LAST:].mean(1)
    sides = [name.origin for name in datasets_of(group) if name is not None]
    return Entry(
        method=group.method,
        setting=name_setting(group.kind, target.robot, group.config),
        data=" -> ".join(side or "shiftgym" for side in sides) if any(sides) else "",
        rows=rows,
        uses_source=group.kind.uses_source,
        published=rows[0].published.get(group.method),
        outs=(group.out,) * len(group.seeds),
        seeds=tuple(group.seeds),
        updates=int(group.updates[-1]),
        finished=group.finished,
        last=np.array([worth.score(value) for value in last]),
        last5=np.array([worth.score(value) for value in last5]),
    )


def _pool(one: Entry, two: Entry) -> Entry:
    """Join the seeds of two directories of one setting."""
    for seed in set(one.seeds) & set(two.seeds):
        outs = f"{one.outs[one.seeds.index(seed)]} and {two.outs[two.seeds.index(seed)]}"
        raise ShiftgymError(
            f"{outs} hold the same run: {one.block}, {one.rows[0]}, seed {seed}. Give one of them."
        )
    return dataclasses.replace(
        one,
        outs=one.outs + two.outs,
        seeds=one.seeds + two.seeds,
        last=np.concatenate([one.last, two.last]),
        last5=np.concatenate([one.last5, two.last5]),
    )


def _alike(row: DatasetName, given: DatasetName) -> bool:
    return (row.domain, row.quality) == (given.domain, given.quality)


def _same(found: Protocol, side: str, row: DatasetName, given: DatasetName) -> bool:
    """Say whether a dataset is a row's own, or the published one imported."""
    return given.origin in found.origins[side] if given.origin else given.size == row.size


def _line(found: Protocol, entry: Entry) -> tuple[str, ...]:
    last, last5 = entry.summaries
    source = str(entry.rows[0].source) if entry.uses_source else f"any of {len(entry.rows)}"
    printed = "-" if entry.published is None else entry.published.text
    note = [] if entry.finished else [f"unfinished, {entry.updates:,} updates"]
    note += [f"{last['diverged']} diverged"] if last["diverged"] else []
    cells = (source, str(entry.rows[0].target), printed, interval(last), _signed(entry.difference))
    return (*cells, interval(last5), f"{len(entry.seeds)} of {found.seeds}", ", ".join(note))


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1f}"


def _pairs(found: Protocol, rows: Sequence[Row]) -> str:
    """Name pairs briefly: a whole target domain at once, or qualities, source -> target."""
    if len(rows) == len(found.rows):
        return f"all {len(rows)} pairs"
    parts = []
    for domain in dict.fromkeys(row.target.domain.slug for row in rows):
        own = [row for row in rows if row.target.domain.slug == domain]
        everything = [row for row in found.rows if row.target.domain.slug == domain]
        labels = ", ".join(f"{row.source.label} -> {row.target.label}" for row in own)
        parts.append(f"{domain} all {len(own)}" if own == everything else f"{domain} {labels}")
    return f"{len(rows)} of {len(found.rows)} pairs: {'; '.join(parts)}"

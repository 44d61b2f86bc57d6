"""Keep collected results: one tidy table, a row per run and evaluation, and what explains it.

    results.csv  results.parquet    the same rows
    results.json                    by group: hyperparameters, evaluation, versions, machine, hashes
                                    of the data; by target: the bars that results are held against

A row names its group, under which the JSON tells the rest; the Parquet file holds the JSON, too.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.plain_files import open_plain
from shiftgym.basics.terminal import INSTALL_PART
from shiftgym.datasets.folders import explained
from shiftgym_agents.reports.report import Group
from shiftgym_agents.training.artifacts import ELSEWHERE, read_json, write_bytes, write_json
from shiftgym_agents.training.records import fits

TEXTS = ("grid", "variant", "group", "method", "source", "target")
WHOLE = ("seed", "updates")
NUMBERS = ("return", "score", "length")  # NaN where a run had diverged, or where there is no score
COLUMNS = (*TEXTS, *WHOLE, *NUMBERS)
ENDINGS = (".csv", ".parquet")
META = b"shiftgym"  # key of the Parquet file's metadata
SHAPE = {"grids": dict, "groups": dict, "targets": dict}
GROUP = {"config": dict, "domains": dict, "scored": dict, "finished": bool, "seconds": float}


@dataclass(frozen=True)
class Results:
    """Hold collected results.

    Attributes:
        rows: a mapping of `COLUMNS` each, in the order of the grids.
        about: what the JSON file holds: ``grids``, ``groups``, ``targets``.
        path: where they were read from.
    """

    rows: Sequence[Mapping[str, Any]]
    about: Mapping[str, Any]
    path: Path

    def groups(self) -> list[Group]:
        """Give what `report` shows: a group per directory and pair, each run once."""
        parts: dict[tuple[str, str, str], dict[tuple[int, int], Mapping[str, Any]]] = {}
        for row in self.rows:
            own = parts.setdefault((row["group"], row["source"], row["target"]), {})
            own[row["seed"], row["updates"]] = row
        return [self._group(*key, own) for key, own in parts.items()]

    def _group(
        self, key: str, source: str, target: str, rows: Mapping[tuple[int, int], Mapping[str, Any]]
    ) -> Group:
        told = self.about["groups"][key]
        seeds = list(dict.fromkeys(seed for seed, _ in rows))
        updates = sorted({update for _, update in rows})
        values = np.full((2, len(seeds), len(updates)), np.nan)
        for (seed, update), row in rows.items():
            place = seeds.index(seed), updates.index(update)
            values[(slice(None), *place)] = row["score"], row["return"]
        return Group(
            out=self.path / key,
            method=next(iter(rows.values()))["method"],
            source=source,
            target=target,
            seeds=seeds,
            updates=np.array(updates),
            scores=values[0],
            returns=values[1],
            scored=told["scored"][target],
            config=told["config"],
            domain=told["domains"][target],
            finished=told["finished"],
            seconds=told["seconds"],
            origin=told.get("origin"),
        )


def is_table(path: Path) -> bool:
    """Say whether a path is one of collected results, not of a run directory."""
    return path.suffix in ENDINGS


def write_results(
    rows: Iterable[Mapping[str, Any]], about: Mapping[str, Any], path: Path
) -> list[Path]:
    """Write a table as CSV and JSON, and as Parquet where pyarrow is installed.

    Args:
        rows: of `COLUMNS`.
        about: ``grids``, ``groups``, ``targets``.
        path: without ending, or with one of `ENDINGS`.

    Returns:
        The files that were written.

    Raises:
        ShiftgymError: They cannot be written.
    """
    rows, stem = list(rows), path.with_suffix("") if is_table(path) else path
    text = io.StringIO()
    writer: csv.DictWriter[str] = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: _text(v) for k, v in row.items()} for row in rows)
    with explained(stem, ELSEWHERE):
        stem.parent.mkdir(parents=True, exist_ok=True)
    files = [_with(stem, ".csv"), _with(stem, ".json")]
    write_bytes(files[0], text.getvalue().encode())
    write_json(files[1], about)
    if (content := _parquet(rows, about)) is not None:
        files.append(_with(stem, ".parquet"))
        write_bytes(files[-1], content)
    return files


def read_results(path: Path) -> Results:
    """Read a table.

    Raises:
        ShiftgymError: It is missing or damaged, or pyarrow is needed and not installed.
    """
    if path.suffix == ".parquet":
        raw, about = _read_parquet(path)
    else:
        raw, about = _read_csv(path), read_json(path.with_suffix(".json"))
    if not all(key in about and fits(about[key], kind) for key, kind in SHAPE.items()):
        raise ShiftgymError(f"{path} is damaged: what explains it lacks {', '.join(SHAPE)}.")
    try:
        rows = [
            {name: str(row[name]) for name in TEXTS}
            | {name: int(row[name]) for name in WHOLE}
            | {name: _number(row[name]) for name in NUMBERS}
            for row in raw
        ]
    except (KeyError, ValueError, TypeError) as error:
        raise ShiftgymError(f"{path} is damaged: {error}.") from None
    for key in {row["group"] for row in rows}:
        if not fits(about["groups"].get(key), GROUP):
            raise ShiftgymError(f"{path} is damaged: nothing explains the group {key}.")
    if not rows:
        raise ShiftgymError(f"{path} holds no evaluation yet.")
    return Results(rows, about, path)


def _read_csv(path: Path) -> list[dict[str, str]]:
    try:
        with open_plain(path) as file:
            text = file.readall().decode()
        return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ShiftgymError(f"Cannot read {path}: {error}") from None


def _arrow() -> tuple[Any, Any] | None:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ModuleNotFoundError:
        return None


def _parquet(rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> bytes | None:
    """Give a Parquet file's content; None without pyarrow."""
    if (found := _arrow()) is None:
        return None
    arrow, parquet = found
    kinds = dict.fromkeys(TEXTS, arrow.string()) | dict.fromkeys(WHOLE, arrow.int64())
    kinds |= dict.fromkeys(NUMBERS, arrow.float64())
    columns = {name: arrow.array([row[name] for row in rows], kinds[name]) for name in COLUMNS}
    table = arrow.table(columns).replace_schema_metadata({META: json.dumps(about).encode()})
    sink = arrow.BufferOutputStream()
    parquet.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def _read_parquet(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    if (found := _arrow()) is None:
        raise ShiftgymError(
            f"Parquet needs pyarrow ({INSTALL_PART['pyarrow']}); {path.stem}.csv is the same table."
        )
    arrow, parquet = found
    try:
        with open_plain(path) as file:
            table = parquet.read_table(arrow.BufferReader(file.readall()))
        about = json.loads((table.schema.metadata or {})[META])
    except (OSError, ValueError, KeyError, arrow.ArrowException) as error:
        raise ShiftgymError(f"Cannot read {path}: {error}") from None
    return table.to_pylist(), about if isinstance(about, dict) else {}


def _with(stem: Path, ending: str) -> Path:
    return stem.with_name(stem.name + ending)


def _text(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def _number(value: Any) -> float:
    return float("nan") if value in ("", None) else float(value)

"""``shiftgym data list`` and ``shiftgym data get``: what datasets there are, and bringing them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import tyro
from tqdm import tqdm

from shiftgym.datasets.listing import rows
from shiftgym.datasets.load import find, install
from shiftgym.datasets.names import DatasetName
from shiftgym.datasets.packaged import packaged_index
from shiftgym.datasets.remote import fetch, open_remote
from shiftgym.datasets.store import minari_root
from shiftgym.domains import robots
from shiftgym.errors import DomainError, ShiftgymError, nearest

COLUMNS = ("dataset", "transitions", "episodes", "mean return", "score", "of", "where")
ALIGN = "<>>>><<"


def list_sets(
    robot: str | None = None,
    makeable: bool = False,
    root: Path | None = None,
    json_: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """List the datasets: packaged, installed and, with --makeable, those that can be made here.

    Example: shiftgym data list --robot hopper

    Args:
        robot: Show only this robot.
        makeable: Also show sets that packaged policies can make.
        root: Minari's folder of datasets by default.
        json_: Print JSON for programs.
    """
    if robot is not None and robot not in robots():
        raise DomainError(f"Unknown robot {robot!r}. {nearest(robot, robots())}")
    shown = [row for row in rows(root) if robot in (None, row["robot"])]
    hidden = 0
    if not makeable:
        kept = [row for row in shown if row["where"] != "makeable"]
        shown, hidden = kept, len(shown) - len(kept)
    if json_:
        print(json.dumps(shown, indent=1))
        return
    print(table(shown))
    print(
        "\nMean returns are of whole episodes: a terminal state or the time limit ended them.\n"
        "A score is 0 for random actions and 100 for the expert of the reference named beside it."
    )
    print(f"{len(shown)} datasets in {root or minari_root()} or packaged.", end=" ")
    print(f"{hidden} more can be made: --makeable shows them." if hidden else "")
    if shown:
        print(f'Next: shiftgym.load("{shown[0]["name"]}"), or shiftgym data get NAME for Minari')


def table(shown: Iterable[dict[str, Any]]) -> str:
    """Lay out rows of :func:`shiftgym.datasets.listing.rows`."""
    cells: list[tuple[str, ...]] = [COLUMNS]
    for row in shown:
        score = "" if row["score"] is None else f"{row['score']:.1f}"
        episodes = "" if row["episodes"] is None else f"{row['episodes']:,}"
        mean = "" if row["return"] is None else f"{row['return']:,.1f}"
        if episodes and not mean:
            mean = "none whole"
        told = (episodes, mean, score, row["reference"] or "", row["where"])
        cells.append((row["name"], f"{row['size']:,}", *told))
    widths = [max(len(line[k]) for line in cells) for k in range(len(COLUMNS))]
    style = [f"{side}{width}" for side, width in zip(ALIGN, widths, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:{how}}" for cell, how in zip(line, style, strict=True)).rstrip()
        for line in cells
    )


def get(
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    all_: Annotated[bool, tyro.conf.arg(name="all")] = False,
    remote: str | None = None,
    token: str | None = None,
    root: Path | None = None,
) -> None:
    """Install datasets where Minari finds them: packaged ones at once, others from a remote.

    What is there already is left alone. From a remote the SHA-256 is checked, and a broken download
    goes on where it was when run again.

    Example: shiftgym data get hopper-kinematic/medium

    Args:
        names: Datasets such as hopper-kinematic/medium.
        all_: Every packaged set.
        remote: hf://ORGANISATION or gcp://BUCKET, for sets that are not packaged.
        token: The remote's token (hf) or the path of a key file (gcp), where it is not public.
        root: Minari's folder of datasets by default.
    """
    index = packaged_index()
    wanted = [find(name, root) for name in (*names, *(index if all_ else ()))]
    if not wanted:
        raise DomainError(
            "Which? shiftgym data get hopper-kinematic/medium, or --all for the packaged ones."
        )
    wanted = list({name.minari: name for name in wanted}.values())
    storage = open_remote(remote, token) if remote else None
    failed: list[str] = []
    with tqdm(wanted, disable=len(wanted) < 3 or None, unit="set", leave=False) as bar:
        for name in bar:
            try:
                told = _get(name, storage if name.short not in index else None, root)
            except ShiftgymError as error:
                failed.append(str(error))
                told = f"{name}: failed"
            bar.write(told)
    if failed:
        raise ShiftgymError("\n".join(failed))
    print(f'Next: minari.load_dataset("{wanted[0].minari}") or shiftgym.load("{wanted[0]}")')


def _get(name: DatasetName, storage: Any, root: Path | None) -> str:
    """Bring one set, and say where it lies."""
    if storage is None:
        folder, new = install(name, root)
        return f"{name}: {'installed' if new else 'there already'} in {folder}"
    with tqdm(unit="B", unit_scale=True, desc=str(name)) as bar:

        def progress(here: int, total: int) -> None:
            bar.total = total
            bar.update(here - bar.n)

        folder = fetch(name, storage, root, progress)
    return f"{name}: in {folder}"

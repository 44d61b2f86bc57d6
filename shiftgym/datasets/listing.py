"""What datasets there are: packaged, installed, and those that packaged policies can make."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shiftgym.datasets.load import bytes_differ, is_installed
from shiftgym.datasets.metadata import name_of, read_metadata
from shiftgym.datasets.names import NAMESPACE, DatasetName, dataset_name, usual_size
from shiftgym.datasets.packaged import packaged_index
from shiftgym.datasets.places import names_in
from shiftgym.datasets.store import minari_root
from shiftgym.datasets.tiers import TIERS, missing_tiers
from shiftgym.domains import catalogue
from shiftgym.errors import ShiftgymError
from shiftgym.scores import default_reference, normalized_score

UNKNOWN = ("robot", "domain", "quality", "episodes", "return", "score", "reference")  # of damage


def rows(root: Path | None = None) -> list[dict[str, Any]]:
    """List the datasets by name.

    Args:
        root: Minari's folder of datasets by default.

    Returns:
        One row per set: ``name``, ``minari`` (id), ``robot``, ``domain``, ``quality``, ``size``,
        ``episodes``, ``return`` (mean of whole episodes), ``score`` (0..100), ``reference`` (whose
        returns count as 0 and 100 there), and ``where``: ``packaged``, ``installed``, both,
        ``makeable``, or what is wrong with it. Numbers that are not known are None.
    """
    found: dict[str, dict[str, Any]] = {}
    for short, entry in packaged_index().items():
        name = dataset_name(short)
        told = {"episodes": entry["episodes"], "return": entry["return"], "where": "packaged"}
        found[short] = _row(name) | told
    for folder in installed(root or minari_root()):
        row = _installed(folder)
        if row["name"] in found:
            found[row["name"]]["where"] += f", {row['where']}"
        else:
            found[row["name"]] = row
    for name in makeable():
        found.setdefault(name.short, _row(name) | {"where": "makeable"})
    for row in found.values():
        slug, mean, origin = row["domain"], row["return"], row.pop("origin", "")
        if mean is None or slug not in catalogue():
            continue
        if (table := default_reference(slug, origin)) is not None:
            row["score"] = round(normalized_score(slug, mean, table), 2)
            row["reference"] = table
    return list(found.values())


def installed(root: Path) -> Iterator[Path]:
    """Find the folders of installed sets that are named as shiftgym names them."""
    home = root / NAMESPACE
    if not home.is_dir():
        return
    for domain in sorted(path for path in home.iterdir() if _is_open(path)):
        yield from (
            domain / name for name in sorted(names_in(domain)) if is_installed(domain / name)
        )


def _is_open(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def makeable() -> list[DatasetName]:
    """List the sets of usual size that packaged policies can make."""
    names = (
        DatasetName(domain, quality, usual_size(domain, quality))
        for domain in catalogue().values()
        for quality in TIERS
    )
    return [name for name in names if not missing_tiers(name)]


def _row(name: DatasetName) -> dict[str, Any]:
    return {
        "name": name.short,
        "minari": name.minari,
        "robot": name.domain.robot,
        "domain": name.domain.slug,
        "quality": name.quality,
        "size": name.size,
        "episodes": None,
        "return": None,
        "score": None,
        "reference": None,
        "origin": name.origin,
        "where": "",
    }


def _installed(folder: Path) -> dict[str, Any]:
    """Tell of an installed set; of a damaged one, what is wrong."""
    short = f"{folder.parent.name}/{folder.name.removesuffix('-v0')}"
    try:
        told = read_metadata(folder)
        episodes, mean = told["total_episodes"], told["shiftgym"]["return"]
        known = {"episodes": episodes, "return": None if mean is None else float(mean)}
        name = name_of(told)
        where = "installed" if bytes_differ(name, told) is None else "installed with other bytes"
        return _row(name) | known | {"where": where}
    except (ShiftgymError, KeyError, TypeError, ValueError) as error:
        unknown = dict.fromkeys(UNKNOWN)
        wrong = {"where": f"damaged: {error}".splitlines()[0][:300]}
        return {"name": short, "minari": f"{NAMESPACE}/{short}-v0", "size": 0} | unknown | wrong

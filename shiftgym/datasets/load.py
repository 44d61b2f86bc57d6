"""Find datasets by name, and load them as flat arrays."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shiftgym.datasets.canonical import canonical
from shiftgym.datasets.flat import Flat
from shiftgym.datasets.folders import owned
from shiftgym.datasets.metadata import name_of, read_metadata
from shiftgym.datasets.names import NAMESPACE, DatasetName, dataset_name, split_name
from shiftgym.datasets.packaged import load_packaged, packaged_index
from shiftgym.datasets.places import present
from shiftgym.datasets.store import dataset_path, minari_root, read_dataset, write_dataset
from shiftgym.datasets.tiers import called_instead, why_instead
from shiftgym.edits import dump_edits
from shiftgym.errors import DomainError, ShiftgymError, shown

TOKEN = re.compile(r"[A-Za-z0-9_-]+")


def load(name: str | DatasetName, root: Path | None = None) -> Flat:
    """Load a dataset as flat arrays.

    It is looked for among the installed Minari datasets, then among the packaged ones; nothing is
    downloaded.

    Args:
        name: ``hopper-kinematic/medium``, the Minari id, or a :class:`DatasetName`.
        root: Minari's folder of datasets by default.

    Returns:
        ``observations`` (N, O), ``actions`` (N, A), ``rewards`` (N,) and ``next_observations``
        (N, O) as float32; ``terminated`` and ``truncated`` (N,) as bool. See
        :mod:`shiftgym.datasets.flat`.

    Raises:
        DomainError: no dataset can have this name; the message names the nearest choice.
        ShiftgymError: it is not here (the message has the command that gets or makes it), or it is
            damaged.

    Example:
        >>> flat = shiftgym.load("hopper-kinematic/medium")  # doctest: +SKIP
        >>> flat["observations"].shape  # doctest: +SKIP
        (5000, 11)
    """
    found = find(name, root)
    folder = locate(found, root)
    return load_packaged(found) if folder is None else read_dataset(folder)


def find(name: str | DatasetName, root: Path | None = None) -> DatasetName:
    """Read a dataset's name; of an installed set, the name it was written under.

    That is how a set of a user's own domain is found: its metadata hold the domain's edits.

    Raises:
        DomainError: no dataset can have this name.
    """
    try:
        return dataset_name(name)
    except DomainError:
        place, label = split_name(str(name))
        folder = (root or minari_root()) / NAMESPACE / place / f"{label}-v0"
        if TOKEN.fullmatch(place) and TOKEN.fullmatch(label) and is_installed(folder):
            return name_of(read_metadata(folder))
        raise


def is_installed(folder: Path) -> bool:
    """Say whether a dataset's folder is there."""
    return (present(folder) / "data").is_dir()


def locate(name: DatasetName, root: Path | None = None) -> Path | None:
    """Find where a dataset is.

    Returns:
        The folder of the installed set, or None where it is packaged only. An installed set
        under the name of a packaged one counts where its rows are the same.

    Raises:
        ShiftgymError: neither; the message has the command that gets or makes it. Or the installed
            set is another one than its folder says.
    """
    folder = dataset_path(name, root)
    if is_installed(folder):
        told = read_metadata(folder)
        if told["dataset_id"] != name.minari:
            raise ShiftgymError(
                f"{folder} holds {shown(told['dataset_id'])}, which was put there since."
            )
        if told["shiftgym"].get("edits") != dump_edits(name.domain.edits):
            raise ShiftgymError(
                f"{folder} was recorded in another {name.domain.slug}: its edits differ from those "
                "the name stands for now. Name your domain anew."
            )
        if bytes_differ(name, told) is None:
            return folder
        if name.short not in packaged_index():
            raise ShiftgymError(
                f"{folder} holds other data than the {name} of this version of shiftgym. "
                f"Make that: shiftgym data make {name} --replace"
            )
    if name.short in packaged_index():
        return None
    raise ShiftgymError(missing(name))


def bytes_differ(name: DatasetName, told: Mapping[str, Any]) -> str | None:
    """Give the SHA-256 that the content of one of the package's own sets should have had.

    Args:
        name: the set.
        told: the metadata of the installed one.

    Returns:
        None where that is what the installed set holds, or where any content will do.
    """
    known = canonical(name)
    if known is None or known["sha256"] == told["shiftgym"].get("content"):
        return None
    return known["sha256"]


def missing(name: DatasetName) -> str:
    """Say that a dataset is not here, and what brings it."""
    if name.origin:
        return f"{name} is not here. Import it from its file: shiftgym data import"
    if name.made:
        return f"{name} is not here. shiftgym data make --help says how sets are made otherwise."
    if (other := called_instead(name)) is not None:
        return why_instead(name, other)
    return (
        f"{name} is not here. Make it: shiftgym data make {name}\n"
        f"  or fetch it: shiftgym data get {name} --remote hf://ORGANISATION\n"
        f"  or take it from a file you have: shiftgym data import"
    )


def install(name: str | DatasetName, root: Path | None = None) -> tuple[Path, bool]:
    """Install a packaged dataset among the Minari datasets; what is there is left alone.

    Where another process is writing it, that one is waited for.

    Returns:
        Its folder, and whether it was written just now.

    Raises:
        ShiftgymError: not packaged and not there.
    """
    name = find(name, root)
    folder = locate(name, root)
    if folder is not None:
        return folder, False
    with owned(dataset_path(name, root), f"Installing {name}", wait=True) as owner:
        folder = locate(name, root)
        if folder is not None:  # another process was faster
            return folder, False
        about = dict(packaged_index()[name.short]["about"])
        seeds = about.pop("episode_seeds", None)
        flat = load_packaged(name)
        return write_dataset(flat, name, about, root, episode_seeds=seeds, owner=owner), True

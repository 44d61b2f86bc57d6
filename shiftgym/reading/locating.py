"""Find the HDF5 file of a dataset that is none of shiftgym's: a path, or a Minari id."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from shiftgym.basics.errors import ShiftgymError
from shiftgym.datasets.store import minari_root
from shiftgym.reading.hdf5_reading import SMALL, check_regular

MINARI_ID = re.compile(r"([-_\w]+/)*[-_\w]+-v\d+")


def locate(text: str | Path) -> tuple[Path, str, dict[str, Any]]:
    """Find a dataset's HDF5 file.

    Returns:
        The file, a name for messages, and the metadata of a Minari set (empty for other files).

    Raises:
        ShiftgymError: nothing is there.
    """
    text = str(text)
    path = Path(text)
    if not _there(path) and MINARI_ID.fullmatch(text):
        path = minari_root() / text
        if not _there(path):
            raise ShiftgymError(
                f"No file {text}, and no set of that id in {minari_root()}. "
                f"Fetch it first: minari download {text}"
            )
    if not _there(path):
        raise ShiftgymError(f"Nothing is at {path}: give an HDF5 file, a Minari folder or its id.")
    if not path.is_dir():
        folder = path.parent
        if path.name != "main_data.hdf5" or not (folder / "metadata.json").is_file():
            return path, path.name, {}
        metadata = _metadata(folder / "metadata.json")
        return path, str(metadata.get("dataset_id") or folder.parent.name), metadata
    folder = path / "data" if (path / "data").is_dir() else path
    file = folder / "main_data.hdf5"
    if (folder / "metadata.json").is_file():
        metadata = _metadata(folder / "metadata.json")
        kind = metadata.get("data_format", "hdf5")
        if kind != "hdf5":
            raise ShiftgymError(f"{path} is a Minari set stored as {kind}; HDF5 is read here.")
        return file, str(metadata.get("dataset_id") or path.name), metadata
    if file.is_file():
        return file, path.name, {}
    raise ShiftgymError(f"{path} is a folder without a Minari dataset (data/main_data.hdf5).")


def _there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, or with a null character
        return False


def _metadata(path: Path) -> dict[str, Any]:
    """Read a Minari set's metadata, which must be a JSON object of a sane size."""
    if check_regular(path) > 4 * SMALL:
        raise ShiftgymError(f"{path} is larger than any metadata.")
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ShiftgymError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(found, dict):
        raise ShiftgymError(f"{path} must hold a JSON object, got {type(found).__name__}.")
    return found or {"dataset_id": path.parent.parent.name}

"""Fetch datasets from a Minari remote: checked by SHA-256, resumed after a cut, or not at all.

    <parent>/.medium-v0.fetch/    what has come so far; the next try goes on from there
                                  one process fetches a set, others wait and find it there

Remotes are Minari's own, ``hf://ORGANISATION`` and ``gcp://BUCKET``. From a bucket the file is read
from where the last try ended; Hugging Face's client resumes by itself.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shiftgym.datasets import metadata
from shiftgym.datasets.folders import (
    discard,
    explained,
    new_folder,
    own_folder,
    owned,
    require_room,
)
from shiftgym.datasets.load import is_installed
from shiftgym.datasets.names import DatasetName
from shiftgym.datasets.places import FETCH
from shiftgym.datasets.store import DATA, add_namespaces, dataset_path, sha256
from shiftgym.errors import ShiftgymError

VARIABLE = "MINARI_REMOTE"
EXTRAS = {"hf": "minari[hf]", "gcp": "minari[gcs]"}
TRIES = 4
CARD = "README.md"
Progress = Callable[[int, int], None]  # bytes here, bytes in all


def open_remote(remote: str | None = None, token: str | None = None) -> Any:
    """Open a Minari remote.

    Args:
        remote: ``hf://ORGANISATION`` or ``gcp://BUCKET``; MINARI_REMOTE by default.
        token: Hugging Face's token, or the path of a Google service account's key.

    Raises:
        ShiftgymError: no such kind of remote, or its client is not installed.
    """
    remote = remote or os.environ.get(VARIABLE)
    if not remote:
        raise ShiftgymError(f"Which remote? --remote hf://ORGANISATION, or set {VARIABLE}.")
    kind, mark, place = remote.partition("://")
    from minari.storage import remotes

    if not mark or not place or kind not in remotes._registry:
        kinds = ", ".join(f"{known}://..." for known in remotes._registry)
        raise ShiftgymError(f"{remote!r} is no remote. Remotes are {kinds}.")
    try:
        return remotes.get_cloud_storage(remote, token)
    except ImportError:
        extra = EXTRAS.get(kind, "minari")
        raise ShiftgymError(f"{kind}:// needs a client: pip install '{extra}'") from None
    except Exception as error:
        raise ShiftgymError(f"Cannot open {remote}: {error}") from error


def remote_metadata(storage: Any, name: DatasetName) -> dict[str, Any] | None:
    """Give the metadata of a set on a remote; None where there is no such set.

    Raises:
        ShiftgymError: the remote does not answer, or what it has is not shiftgym's.
    """
    try:
        found = storage.get_dataset_metadata(name.minari)
    except Exception as error:
        if _is_missing(error):
            return None
        raise ShiftgymError(f"The remote does not give {name}: {_told(error)}") from error
    return metadata.parse(json.dumps(found).encode(), f"{name} on the remote")


def fetch(
    name: DatasetName, storage: Any, root: Path | None = None, progress: Progress | None = None
) -> Path:
    """Fetch a set and install it.

    Args:
        name: the set.
        storage: see :func:`open_remote`.
        root: Minari's folder of datasets by default.
        progress: told how many bytes are here, and how many there are.

    Returns:
        Its folder.

    Raises:
        ShiftgymError: not there, the connection broke (what came is kept, and the next try goes on
            from it), the checksum differs (what came is removed), no room.
    """
    folder = dataset_path(name, root)
    if is_installed(folder):
        return folder
    told = remote_metadata(storage, name)
    if told is None:
        raise ShiftgymError(f"The remote has no {name}. Make it: shiftgym data make {name}")
    if told["dataset_id"] != name.minari:
        raise ShiftgymError(f"The remote has {told['dataset_id']} under the name of {name}.")
    begun = folder.with_name(f".{folder.name}{FETCH}")
    with owned(folder, f"Fetching {name}", wait=True) as owner, explained(folder):
        if is_installed(folder):  # another process was faster
            return folder
        own_folder(begun)
        get = _from_bucket if hasattr(storage, "bucket") else _from_other
        came = get(storage, name, begun, progress or (lambda here, total: None))
        if sha256(came) != told["shiftgym"]["sha256"]:
            discard(begun, folder)
            raise ShiftgymError(
                f"{name} is refused: what came from the remote has another SHA-256 than the set's "
                "own. It was removed; try again, or tell who published it."
            )
        with new_folder(folder, owner=owner) as temporary:
            (temporary / "data").mkdir()
            (temporary / "data" / metadata.METADATA).write_bytes(metadata.dump(told))
            card = begun / name.minari / CARD
            if card.exists():
                card.replace(temporary / CARD)
            _give(came, temporary / "data" / DATA)
            add_namespaces(folder)
        discard(begun, folder)
    return folder


def _give(came: Path, place: Path) -> None:
    """Put what came into place, and keep it where it was as well: a kill loses nothing then."""
    try:
        os.link(came, place)
    except OSError:  # a disk without links
        came.replace(place)


def _from_bucket(storage: Any, name: DatasetName, begun: Path, progress: Progress) -> Path:
    """Fetch from a bucket, from where the last try ended."""
    came = begun / DATA
    for attempt in range(TRIES):
        try:
            blob = storage.bucket.get_blob(f"{name.minari}/data/{DATA}")
            if blob is None:
                raise ShiftgymError(f"The remote lists {name}, but lacks its data.")
            total = int(blob.size)
            here = came.stat().st_size if came.exists() else 0
            if here > total:
                came.unlink()
                here = 0
            require_room(begun, total - here)
            if here < total:
                with open(came, "ab") as file:
                    watched = _Watched(file, here, total, progress)
                    blob.download_to_file(
                        watched, start=here, checksum=None, raw_download=True, retry=None
                    )
            if came.stat().st_size == total:
                return came
        except (ShiftgymError, PermissionError):
            raise
        except Exception as error:
            if _is_local(error):
                raise
            if attempt == TRIES - 1:
                raise ShiftgymError(_cut(name, came, error)) from error
    raise ShiftgymError(_cut(name, came, ConnectionError("it ended too early")))


def _from_other(storage: Any, name: DatasetName, begun: Path, progress: Progress) -> Path:
    """Fetch with Minari's own download, which may resume by itself."""
    came = begun / name.minari / "data" / DATA
    try:
        storage.download_dataset(name.minari, begun)
    except Exception as error:
        if _is_local(error):
            raise
        raise ShiftgymError(_cut(name, came, error)) from error
    if not came.exists():
        raise ShiftgymError(f"The remote lists {name}, but lacks its data.")
    progress(came.stat().st_size, came.stat().st_size)
    return came


class _Watched:
    """Pass writes on to a file, and tell how far it is."""

    def __init__(self, file: Any, here: int, total: int, progress: Progress):
        self._file, self._here, self._total, self._progress = file, here, total, progress

    def write(self, content: bytes) -> int:
        written = self._file.write(content)
        self._here += written
        self._progress(self._here, self._total)
        return written

    def flush(self) -> None:
        self._file.flush()


def _cut(name: DatasetName, came: Path, error: Exception) -> str:
    size = came.stat().st_size / 1e6 if came.exists() else 0
    return (
        f"The connection broke while {name} came: {_told(error)}. {size:.1f} MB are kept; the same "
        "command goes on from there."
    )


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


def _is_local(error: Exception) -> bool:
    """Say whether an error is of this machine's disk rather than of the connection."""
    local = (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EPERM, errno.EDQUOT)
    return isinstance(error, OSError) and error.errno in local


def _is_missing(error: Exception) -> bool:
    """Say whether a remote's error means that there is no such thing."""
    status = getattr(error, "code", None) or getattr(
        getattr(error, "response", None), "status_code", None
    )
    names = {kind.__name__ for kind in type(error).__mro__}
    missing = {"NotFound", "EntryNotFoundError", "RepositoryNotFoundError", "FileNotFoundError"}
    return status == 404 or bool(names & missing)

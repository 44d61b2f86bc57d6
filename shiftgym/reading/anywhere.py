"""Read a dataset from wherever it is: shiftgym's own, any Minari set, a file, or arrays.

hopper-kinematic/medium            a dataset of shiftgym
lab/arm/wiped-v0                   any set in the local Minari root, in any of Minari's formats
hf://organisation/lab/arm/wiped-v0     fetched from Hugging Face first, where it is not there
logs/wiped.hdf5   logs/wiped.npz   arrays (N, .) by name, or a Minari file's episodes
logs/wiped                         the folder of a Minari set
{"observations": ..., ...}         arrays, from Python
[{"observations": ...}, ...]       episodes, from Python
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import h5py
import numpy as np

from shiftgym.basics.errors import DomainError, ShiftgymError
from shiftgym.datasets.load import find, load
from shiftgym.datasets.names import DatasetName
from shiftgym.datasets.store import minari_root
from shiftgym.reading.completing import ALIASES, NEEDED, Reading, complete, join_episodes, pick
from shiftgym.reading.hdf5_reading import (
    SMALL,
    check_regular,
    child,
    explained,
    names_in,
    numbers,
    open_hdf5,
)
from shiftgym.reading.locating import MINARI_ID, locate

FILES = (".hdf5", ".h5", ".npz")
REMOTE = "hf://"
MOST_TIMES = 1100  # an array in an .npz may be this many times as large as the file: deflate's best
Dataset = str | Path | Mapping[str, Any] | Sequence[Mapping[str, Any]]


def read(what: Dataset, label: str = "the data") -> Reading:
    """Read a dataset as flat arrays.

    Args:
        what: a name, an id, a file, arrays or episodes; see the module.
        label: what arrays are called in messages.

    Raises:
        ShiftgymError: nothing there, damaged, or data that continuous control cannot be learned
            from; the message says what to do.
    """
    if isinstance(what, Mapping):
        return complete(what, label)
    if not isinstance(what, str | Path):
        return join_episodes(what, label)
    text = str(what)
    if text.startswith(REMOTE):
        return _minari(fetched(text))
    if Path(text).suffix == ".npz":
        return complete(_npz(Path(text)), Path(text).name)
    if Path(text).suffix in FILES:
        return _hdf5(Path(text), Path(text).name)
    if (name := own_name(text)) is not None:
        return Reading(load(name))
    return _minari(text)


def own_name(text: str) -> DatasetName | None:
    """Give the shiftgym dataset that a text names; None where it names other data.

    Raises:
        DomainError: it names nothing; the message says what could be meant.
    """
    if text.startswith(REMOTE) or Path(text).suffix in FILES:
        return None
    try:
        return find(text)
    except DomainError as error:
        if _there(text) or MINARI_ID.fullmatch(text):
            return None
        raise DomainError(
            f"{error} Other data are given as a file (.hdf5, .npz), a Minari id (lab/arm-v0) or "
            "folder."
        ) from None


def _there(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        return False


def fetched(text: str) -> str:
    """Fetch ``hf://organisation/id`` into the local Minari root unless it is there; give its id.

    Raises:
        ShiftgymError: no such set, no client, or no connection.
    """
    from shiftgym.datasets.remote import open_remote

    organisation, _, name = text.removeprefix(REMOTE).partition("/")
    if not organisation or not MINARI_ID.fullmatch(name):
        raise ShiftgymError(f"{text}: write hf://ORGANISATION/ID, with an id such as lab/arm-v0.")
    if not (minari_root() / name).exists():
        storage = open_remote(f"{REMOTE}{organisation}")
        try:
            storage.download_dataset(name, minari_root())
        except Exception as error:  # whatever its client raises
            said = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            raise ShiftgymError(f"Cannot fetch {text}: {said}") from error
    return name


def _minari(text: str) -> Reading:
    """Read a Minari set or folder: HDF5 directly, its other formats with Minari."""
    folder = minari_root() / text
    stored = folder / "data"
    if stored.is_dir() and not (stored / "main_data.hdf5").exists():
        import minari

        try:
            episodes = [vars(each) for each in minari.load_dataset(text).iterate_episodes()]
        except ImportError as error:
            raise ShiftgymError(
                f"{text} needs pip install 'minari[all]' to be read: {error}"
            ) from None
        except Exception as error:  # damaged in any way
            raise ShiftgymError(f"{text} cannot be read: {error}") from error
        return join_episodes(episodes, text)
    path, label, _ = locate(text)
    return _hdf5(path, label)


def _hdf5(path: Path, label: str) -> Reading:
    size = check_regular(path)
    with open_hdf5(path) as file, explained(label):
        if isinstance(child(file, "episode_0", label), h5py.Group):
            return join_episodes(_episodes(file, label, size), label)
        names = pick(file)
        if missing := [name for name in NEEDED if name not in names]:
            raise ShiftgymError(
                f"{label} lacks {', '.join(missing)}; the file holds {names_in(file)}."
            )
        return complete(_arrays(file, label, size), label)


def _episodes(file: h5py.File, label: str, size: int) -> Iterator[dict[str, Any]]:
    for number in range(len(file)):
        group = child(file, f"episode_{number}", label)
        if not isinstance(group, h5py.Group):
            raise ShiftgymError(
                f"{label}: no group episode_{number}; the file holds {names_in(file)}."
            )
        yield _arrays(group, f"{label}: episode_{number}", size)


def _arrays(group: h5py.Group, label: str, size: int) -> dict[str, Any]:
    """Read the arrays of a group that are needed, safely; a group in place of one is a dict."""
    found: dict[str, Any] = {}
    for theirs in pick(group).values():
        inner = child(group, theirs, label)
        if isinstance(inner, h5py.Group):
            found[theirs] = dict.fromkeys(inner)
            continue
        array = numbers(group, theirs, label, size)
        if array is not None:
            found[theirs] = array[()]
    return found


def _npz(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays that are needed of an .npz file; nothing is unpickled."""
    size = check_regular(path)
    wanted = {name for names in ALIASES.values() for name in names}
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = {Path(entry.filename).stem: entry.file_size for entry in file.zip.infolist()}
            if max(stored.values(), default=0) > MOST_TIMES * size + SMALL:
                raise ShiftgymError(f"{path.name} claims more than a file of its size holds.")
            return {name: file[name] if name in wanted else np.empty(0) for name in file.files}
    except ShiftgymError:
        raise
    except (OSError, ValueError, EOFError, KeyError, AttributeError, BadZipFile) as error:
        said = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise ShiftgymError(
            f"{path.name} cannot be read as .npz: {said}. Write it with numpy.savez."
        ) from None

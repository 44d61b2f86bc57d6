"""Minari datasets on disk: written whole or not at all, read in bulk.

    <root>/shiftgym/hopper/medium-v0/data/main_data.hdf5    T + 1 observations per episode
                          |               metadata.json     with the data file's SHA-256
                          .medium-v0.flat.safetensors       the flat cache of a large set

Minari skips hidden names, so that its listing, sizes and uploads see only the dataset.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np

from shiftgym.datasets import cache, metadata
from shiftgym.datasets.canonical import Content
from shiftgym.datasets.flat import (
    Flat,
    check_flat,
    concatenate,
    ends,
    episode_returns,
    mean_return,
    rows_of,
    spaces,
)
from shiftgym.datasets.folders import Owner, clean, new_folder, owned, require_room, write_file
from shiftgym.datasets.hdf5 import EpisodeWriter, read_episodes
from shiftgym.datasets.names import DatasetName, dataset_name
from shiftgym.datasets.places import settled
from shiftgym.domains import episode_steps
from shiftgym.errors import ShiftgymError
from shiftgym.plain_files import open_plain

DATA = "main_data.hdf5"
NAMESPACE_FILE = "namespace_metadata.json"


def minari_root() -> Path:
    """Give Minari's folder of datasets: MINARI_DATASETS_PATH, or ~/.minari/datasets."""
    return Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")


def dataset_path(name: DatasetName | str, root: Path | None = None) -> Path:
    """Give the folder of a dataset, whether or not it is there."""
    return (root or minari_root()) / dataset_name(name).minari


def write_dataset(
    flat_or_chunks: Flat | Iterable[Flat],
    name: DatasetName,
    about: Mapping[str, Any],
    root: Path | None = None,
    *,
    replace: bool = False,
    episode_seeds: Iterable[int] | None = None,
    returns: np.ndarray | None = None,
    owner: Owner | None = None,
) -> Path:
    """Write a Minari dataset; it appears under its name when it is complete.

    Args:
        flat_or_chunks: flat arrays, or an iterable of them, cut anywhere between rows: only a chunk
            and an episode are held in memory.
        name: its size must be the number of rows.
        about: what the set tells of itself; see :func:`shiftgym.datasets.metadata.build`.
        root: Minari's folder of datasets by default.
        replace: write anew what is there already.
        episode_seeds: seed of each episode's reset, stored with it.
        returns: of the whole episodes, where the rows alone do not tell (an importer had to leave
            some out); from the rows by default.
        owner: the right to write it, from :func:`shiftgym.datasets.folders.owned`, where the
            caller has it already.

    Returns:
        The dataset's folder.

    Raises:
        ShiftgymError: rows that :func:`check_flat` refuses, another number of rows than the name
            says, a set of this name is there already, a full disk, no permission. What was there
            is kept.
    """
    one = isinstance(flat_or_chunks, dict)
    chunks = cast("Iterable[Flat]", [flat_or_chunks] if one else flat_or_chunks)
    folder = dataset_path(name, root)
    owning = owned(folder, f"Writing {name}") if owner is None else nullcontext(owner)
    with owning as own, new_folder(folder, replace, own) as temporary:
        _tidy(folder.parent.parent)
        widths = observations, actions = _widths(name)
        require_room(temporary, name.size * 4 * (observations + actions + 2))
        data = temporary / "data"
        data.mkdir()
        seeds = iter(episode_seeds) if episode_seeds is not None else None
        limit, whole = episode_steps(name.domain.robot), []
        large = name.size >= cache.FROM_ROWS
        rows = cache.CacheWriter(temporary / cache.PART, name.size, widths) if large else None
        try:
            with EpisodeWriter(data / DATA) as writer:
                content = Content()
                for episode in _episodes(chunks, name, rows):
                    content.add(episode)
                    seed = next(seeds, None) if seeds is not None else None
                    if seeds is not None and seed is None:
                        raise ShiftgymError(f"Fewer seeds than episodes: {writer.episodes} given.")
                    writer.write(episode, seed)
                    whole.extend(episode_returns(episode, limit))
            if writer.rows != name.size:
                raise ShiftgymError(
                    f"{name} names {name.size:,} transitions, got {writer.rows:,}. "
                    f"Name it {name.sized(writer.rows)}."
                )
            earned = np.array(whole) if returns is None else returns
            told = metadata.build(
                name,
                about,
                episodes=writer.episodes,
                mean_return=mean_return(earned),
                whole_episodes=len(earned),
                megabytes=(data / DATA).stat().st_size / 1e6,
                sha256=sha256(data / DATA),
                content=content.sha256(),
            )
            (data / metadata.METADATA).write_bytes(metadata.dump(told))
            if rows is not None:
                rows.finish(cache.cache_path(folder), data / DATA)
            add_namespaces(folder)
        finally:
            if rows is not None:
                rows.abandon()
    return folder


def _tidy(home: Path) -> None:
    """Remove what killed writers left in any domain's folder, and caches of sets that are gone."""
    for parent in (home, *(path for path in home.iterdir() if path.is_dir())):
        clean(parent)
        cache.clean(parent)


def _widths(name: DatasetName) -> tuple[int, int]:
    observations, actions = (space.shape[0] for space in spaces(name.domain))
    return observations, actions


def _episodes(
    chunks: Iterable[Flat], name: DatasetName, rows: cache.CacheWriter | None
) -> Iterator[Flat]:
    """Cut chunks into checked whole episodes; rows of an unfinished one wait for the next chunk."""
    begun: list[Flat] = []
    row = 0
    for chunk in chunks:
        check_flat(chunk, name.domain, unfinished=True, first_row=row)
        row += len(chunk["rewards"])
        if row > name.size:
            raise ShiftgymError(f"{name} names {name.size:,} transitions; {row:,} have come.")
        if rows is not None:
            rows.add(chunk)
        start = 0
        for end in ends(chunk).nonzero()[0] + 1:
            episode = rows_of(chunk, slice(start, end))
            if begun:
                episode = concatenate([*begun, episode])
                first = row - len(chunk["rewards"]) + int(end) - len(episode["rewards"])
                check_flat(episode, first_row=first)
                begun = []
            yield episode
            start = int(end)
        if start < len(chunk["rewards"]):
            begun.append({key: array[start:].copy() for key, array in chunk.items()})
    if begun:
        raise ShiftgymError("The last episode has no end: its last row is not truncated.")


def add_namespaces(folder: Path) -> None:
    """Tell Minari of the namespaces above a dataset, which its uploads ask for."""
    for parent in (folder.parent, folder.parent.parent):
        if not (parent / NAMESPACE_FILE).exists():
            write_file(parent / NAMESPACE_FILE, b"{}")


def read_dataset(path: Path) -> Flat:
    """Read a dataset that :func:`write_dataset` wrote, fast.

    A large set is read from its flat cache, which is made where it is missing or out of date.

    Args:
        path: the dataset's folder.

    Returns:
        Flat arrays, checked: large sets by the cache's own checksums, others by SHA-256 and
        :func:`check_flat`.

    Raises:
        ShiftgymError: no such set, damaged, changed since it was written, or foreign.
    """
    return settled(path, lambda here: _read(here, path))


def _read(here: Path, path: Path) -> Flat:
    """Read a set from where it is now; its cache lies beside its place."""
    told = metadata.read_metadata(here)
    file = here / "data" / DATA
    rows, widths = told["total_steps"], metadata.widths(told)
    large = rows >= cache.FROM_ROWS
    if large:
        flat = cache.read(path, file, rows, widths)
        if flat is not None:
            return flat
    key = cache.key_of(file)
    verify_file(file, told["shiftgym"]["sha256"])
    flat = read_episodes(file, rows, widths)
    check_flat(flat)
    if large and here == path and cache.key_of(file) == key:
        rows_file = cache.CacheWriter(cache.part_path(path), rows, widths)
        rows_file.add(flat)
        rows_file.finish(cache.cache_path(path), file)
    return flat


def verify_file(path: Path, digest: str) -> None:
    """Check a file's SHA-256.

    Raises:
        ShiftgymError: it cannot be read, or it differs.
    """
    if sha256(path) != digest:
        raise ShiftgymError(
            f"{path} is damaged or was changed after it was written: its SHA-256 differs from the "
            "one in its metadata. Remove its folder and get or make it again."
        )


def sha256(path: Path) -> str:
    """Give the SHA-256 of a file, as hexadecimal digits."""
    try:
        with open_plain(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ShiftgymError(f"Cannot read {path}: {error}") from None

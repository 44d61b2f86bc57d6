"""Minari sets are written whole, in any pieces, and read back to the last bit, fast."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from dataset_helpers import assert_equal, made_up, named
from safetensors.numpy import load_file

import shiftgym
from shiftgym.datasets import cache
from shiftgym.datasets.flat import Flat, ends, rows_of
from shiftgym.datasets.metadata import read_metadata
from shiftgym.datasets.store import DATA, minari_root, read_dataset, sha256, write_dataset


@pytest.fixture
def small_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sets of 200 rows have a cache."""
    monkeypatch.setattr(cache, "FROM_ROWS", 200)


def pieces(flat: Flat, seed: int) -> Iterator[Flat]:
    """Cut a set anywhere."""
    rows = len(flat["rewards"])
    cuts = np.sort(np.random.default_rng(seed).choice(np.arange(1, rows), 9, replace=False))
    for start, end in zip([0, *cuts], [*cuts, rows], strict=True):
        yield rows_of(flat, slice(int(start), int(end)))


@pytest.mark.parametrize("rows", [1, 2, 300])
def test_what_is_written_is_read_back(tmp_path: Path, rows: int) -> None:
    flat = made_up(rows)
    folder = write_dataset(flat, named(rows), {}, tmp_path)
    assert_equal(read_dataset(folder), flat)
    assert folder == tmp_path / f"shiftgym/hopper-kinematic/medium-{rows}-v0"


def test_pieces_make_the_same_bytes_as_the_whole(tmp_path: Path, small_caches: None) -> None:
    flat = made_up(300, seed=1)
    whole = write_dataset(flat, named(300), {}, tmp_path / "whole")
    for seed in range(5):
        folder = write_dataset(pieces(flat, seed), named(300), {}, tmp_path / str(seed))
        for file in ("main_data.hdf5", "metadata.json"):
            assert (folder / "data" / file).read_bytes() == (whole / "data" / file).read_bytes()
        assert cache.cache_path(folder).exists()
        assert_equal(read_dataset(folder), flat)


def test_seeds_and_what_is_told_are_kept(tmp_path: Path) -> None:
    flat = made_up(300)
    seeds = list(range(7, 7 + int(ends(flat).sum())))
    about = {"algorithm": "SAC", "policies": {"hopper/medium": "0" * 64}, "seed": 3}
    folder = write_dataset(flat, named(300), about, tmp_path, episode_seeds=seeds)
    told = read_metadata(folder)
    assert told["algorithm_name"] == "SAC"
    own = told["shiftgym"]
    assert own["policies"] == {"hopper/medium": "0" * 64} and own["seed"] == 3
    assert own["edits"]["joint.thigh_joint.range"] == [-0.15, 0.0]
    assert own["sha256"] == sha256(folder / "data" / DATA)
    from minari import MinariDataset

    found = MinariDataset(folder / "data").storage.get_episode_metadata(range(len(seeds)))
    assert [entry["seed"] for entry in found] == seeds
    with pytest.raises(shiftgym.ShiftgymError, match="Fewer seeds"):
        write_dataset(flat, named(300), {}, tmp_path, replace=True, episode_seeds=seeds[:-1])
    assert_equal(read_dataset(folder), flat)


@pytest.mark.parametrize(
    ("rows", "about", "says"),
    [
        (299, {}, r"names 300 transitions, got 299\. Name it hopper-kinematic/medium-299"),
        (301, {}, "names 300 transitions; 301 have come"),
        (300, {"sha256": "x"}, "must not hold sha256"),
        (300, {"odd": {1, 2}}, "JSON-able"),
    ],
)
def test_what_cannot_be_written_leaves_nothing(
    tmp_path: Path, rows: int, about: dict, says: str
) -> None:
    with pytest.raises(shiftgym.ShiftgymError, match=says):
        write_dataset(made_up(rows), named(300), about, tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and "lock" not in path.name]


def test_a_break_between_pieces_is_found(tmp_path: Path) -> None:
    flat = made_up(300)
    row = int(np.flatnonzero(~ends(flat))[100])
    flat["next_observations"][row] += 1
    parts = [rows_of(flat, slice(0, row + 1)), rows_of(flat, slice(row + 1, 300))]
    with pytest.raises(shiftgym.ShiftgymError, match=f"Row {row} does not lead to row {row + 1}"):
        write_dataset(parts, named(300), {}, tmp_path)


def test_what_is_there_is_replaced_only_on_demand(tmp_path: Path) -> None:
    first, second = made_up(300, seed=1), made_up(300, seed=2)
    folder = write_dataset(first, named(300), {}, tmp_path)
    with pytest.raises(shiftgym.ShiftgymError, match="is there already"):
        write_dataset(second, named(300), {}, tmp_path)
    assert_equal(read_dataset(folder), first)
    write_dataset(second, named(300), {}, tmp_path, replace=True)
    assert_equal(read_dataset(folder), second)
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == [folder.name]


def test_the_cache_is_a_safetensors_file_of_the_arrays(tmp_path: Path, small_caches: None) -> None:
    flat = made_up(300)
    folder = write_dataset(flat, named(300), {}, tmp_path)
    assert_equal(dict(load_file(cache.cache_path(folder))), flat)
    cache.cache_path(folder).unlink()
    assert_equal(read_dataset(folder), flat)
    assert_equal(dict(load_file(cache.cache_path(folder))), flat)


def test_the_cache_is_what_is_read(
    tmp_path: Path, small_caches: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat = made_up(300)
    folder = write_dataset(flat, named(300), {}, tmp_path)
    monkeypatch.setattr("shiftgym.datasets.store.read_episodes", lambda *a: pytest.fail("read"))
    assert_equal(read_dataset(folder), flat)


def test_a_cache_of_changed_data_is_never_served(tmp_path: Path, small_caches: None) -> None:
    folder = write_dataset(made_up(300, seed=1), named(300), {}, tmp_path / "a")
    other = write_dataset(made_up(300, seed=2), named(300), {}, tmp_path / "b")
    time.sleep(0.02)  # file times are of the kernel's tick
    for file in ("main_data.hdf5", "metadata.json"):
        old = (folder / "data" / file).stat()
        (folder / "data" / file).write_bytes((other / "data" / file).read_bytes())
        os.utime(folder / "data" / file, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert_equal(read_dataset(folder), made_up(300, seed=2))
    assert_equal(read_dataset(folder), made_up(300, seed=2))


def test_a_damaged_cache_is_made_anew(tmp_path: Path, small_caches: None) -> None:
    flat = made_up(300)
    folder = write_dataset(flat, named(300), {}, tmp_path)
    path = cache.cache_path(folder)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for case in range(150):
        content = bytearray(whole)
        if case % 3 == 0:
            content = content[: rng.integers(len(content))]
        elif case % 3 == 1:
            content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        else:
            content += b"more"
        path.write_bytes(content)
        found = cache.read(folder, folder / "data" / DATA, 300, (11, 3))
        if found is not None:
            assert_equal(found, flat)
    assert_equal(read_dataset(folder), flat)
    assert path.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_told_and_done_without(
    tmp_path: Path, small_caches: None
) -> None:
    flat = made_up(300)
    folder = write_dataset(flat, named(300), {}, tmp_path)
    cache.cache_path(folder).unlink()
    cache.part_path(folder).mkdir()
    with pytest.warns(UserWarning, match="loading stays slow"):
        assert_equal(read_dataset(folder), flat)


def test_caches_of_sets_that_are_gone_are_removed(tmp_path: Path, small_caches: None) -> None:
    import shutil

    folder = write_dataset(made_up(300), named(300), {}, tmp_path)
    shutil.rmtree(folder)
    write_dataset(made_up(301), named(301), {}, tmp_path)
    assert not cache.cache_path(folder).exists()


def test_the_root_is_minaris(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from minari.storage.datasets_root_dir import get_dataset_path

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    assert minari_root() == get_dataset_path() == tmp_path
    monkeypatch.delenv("MINARI_DATASETS_PATH")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert minari_root() == get_dataset_path() == tmp_path / ".minari" / "datasets"


def test_metadata_are_as_json_says(tmp_path: Path) -> None:
    folder = write_dataset(made_up(300), named(300), {}, tmp_path)
    told = json.loads((folder / "data" / "metadata.json").read_text())
    assert told["dataset_size"] == round((folder / "data" / DATA).stat().st_size / 1e6, 1)
    assert told["total_steps"] == told["shiftgym"]["size"] == 300

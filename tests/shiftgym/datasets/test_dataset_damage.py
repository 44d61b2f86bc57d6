"""Damaged and foreign files: a clear refusal every time, whatever the bytes."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from dataset_helpers import assert_equal, made_up, named

import shiftgym
from shiftgym.datasets.flat import episode_bounds
from shiftgym.datasets.hdf5 import read_episodes
from shiftgym.datasets.metadata import name_of, read_metadata, widths
from shiftgym.datasets.packaged import pack, unpack
from shiftgym.datasets.store import DATA, read_dataset, sha256, write_dataset

ROWS = 60
WIDTHS = (11, 3)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of a small whole set."""
    return write_dataset(made_up(ROWS), named(ROWS), {}, tmp_path_factory.mktemp("good"))


def mutations(content: bytes, count: int, seed: int):
    """Cut, flip, overwrite, stretch or empty some bytes, in a seeded way."""
    rng = np.random.default_rng(seed)
    for case in range(count):
        new = bytearray(content)
        where = int(rng.integers(len(new)))
        if case % 5 == 0:
            del new[where:]
        elif case % 5 == 1:
            new[where] ^= 1 << int(rng.integers(8))
        elif case % 5 == 2:
            new[where : where + 16] = rng.bytes(16)
        elif case % 5 == 3:
            new[where:where] = rng.bytes(int(rng.integers(1, 40)))
        else:
            new[where : where + 64] = bytes(64)
        yield bytes(new)


class Loaded:
    """Leave a mark if anybody unpickles it."""

    def __reduce__(self):
        return os.mkdir, (os.environ["SHIFTGYM_TEST_MARK"],)


def test_damaged_data_are_refused_by_their_checksum(good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    shutil.copytree(good, folder)
    content = (good / "data" / DATA).read_bytes()
    for new in mutations(content, 200, 1):
        (folder / "data" / DATA).write_bytes(new)
        if new != content:
            with pytest.raises(shiftgym.ShiftgymError, match="damaged or was changed"):
                read_dataset(folder)


def test_the_reader_of_episodes_survives_any_bytes(good: Path, tmp_path: Path) -> None:
    """Though a checksum stands before it: nothing but whole arrays or a refusal comes out."""
    path, refused = tmp_path / DATA, 0
    for new in mutations((good / "data" / DATA).read_bytes(), 400, 2):
        path.write_bytes(new)
        try:
            flat = read_episodes(path, ROWS, WIDTHS)
        except shiftgym.ShiftgymError:
            refused += 1
        else:
            assert flat["observations"].shape == (ROWS, 11)
            assert flat["terminated"].view(np.uint8).max() <= 1
    assert refused > 100


def test_damaged_metadata_are_refused_or_harmless(good: Path, tmp_path: Path) -> None:
    folder, refused = tmp_path / "set", 0
    shutil.copytree(good, folder)
    for new in mutations((good / "data" / "metadata.json").read_bytes(), 400, 3):
        (folder / "data" / "metadata.json").write_bytes(new)
        try:
            told = read_metadata(folder)
            name_of(told), widths(told)
            assert_equal(read_dataset(folder), made_up(ROWS))
        except shiftgym.ShiftgymError:
            refused += 1
    assert refused > 200


def test_a_packaged_file_survives_any_bytes() -> None:
    flat, refused = made_up(ROWS), 0
    content, episodes = pack(flat), len(episode_bounds(flat)) - 1
    for new in mutations(content, 400, 4):
        try:
            found = unpack(new, ROWS, episodes, WIDTHS)
        except shiftgym.ShiftgymError:
            refused += 1
        else:
            assert found["observations"].shape == (ROWS, 11)
    assert refused > 100


def resign(folder: Path, change: Callable[[h5py.File], None], **told: object) -> Path:
    """Change a set's data and make its checksum fit, as somebody with intent would."""
    with h5py.File(folder / "data" / DATA, "a") as file:
        change(file)
    path = folder / "data" / "metadata.json"
    metadata = json.loads(path.read_text()) | told
    metadata["shiftgym"]["sha256"] = sha256(folder / "data" / DATA)
    metadata["shiftgym"]["size"] = metadata["total_steps"]
    path.write_text(json.dumps(metadata))
    return folder


def put(name: str, value: object, **options: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[f"episode_0/{name}"]
        if value is not None:
            file.create_dataset(f"episode_0/{name}", data=value, **options)

    return change


def nan(file: h5py.File) -> None:
    file["episode_0/rewards"][0] = np.nan  # pyright: ignore[reportIndexIssue]


def other_file(file: h5py.File) -> None:
    del file["episode_0"]
    file["episode_0"] = h5py.ExternalLink("/etc/hostname", "/")


def outside(file: h5py.File) -> None:
    shape = file["episode_0/rewards"].shape  # pyright: ignore[reportAttributeAccessIssue]
    del file["episode_0/rewards"]
    file.create_dataset(
        "episode_0/rewards", shape, np.float32, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)]
    )


def virtual(file: h5py.File) -> None:
    shape = file["episode_0/rewards"].shape  # pyright: ignore[reportAttributeAccessIssue]
    del file["episode_0/rewards"]
    layout = h5py.VirtualLayout(shape, np.float32)
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", shape)
    file.create_virtual_dataset("episode_0/rewards", layout)


def gone(file: h5py.File) -> None:
    del file["episode_0"]


def flags(file: h5py.File) -> None:
    rows = len(file["episode_0/rewards"])  # pyright: ignore[reportArgumentType]
    put("truncations", np.full(rows, 2, np.int8))(file)


@pytest.mark.parametrize(
    ("change", "told", "says"),
    [
        (nan, {}, "rewards are not finite"),
        (put("actions", None), {}, "lacks actions"),
        (put("actions", np.zeros((3, 3))), {}, "no plain block of float32"),
        (put("actions", np.zeros((1, 9), np.float32)), {}, "actions of episode_0 are"),
        (put("rewards", np.zeros((0,), np.float32)), {}, "no plain block"),
        (put("rewards", np.float32(1)), {}, "in whole episodes"),
        (put("rewards", b"text"), {}, "no plain block"),
        (put("observations", np.zeros((5, 11), np.float32), compression="gzip"), {}, "plain block"),
        (gone, {}, "lacks episode_0"),
        (flags, {}, "no plain block of bool"),
        (other_file, {}, "lacks episode_0"),
        (outside, {}, "no plain block"),
        (virtual, {}, "no plain block"),
        (lambda file: None, {"total_steps": 50}, "whole episodes|not 50"),
        (lambda file: None, {"total_steps": 10**9}, "cannot hold the 1,000,000,000"),
        (lambda file: None, {"total_steps": 0}, "counts"),
        (lambda file: None, {"observation_space": '{"shape": [100000000]}'}, "damaged: spaces"),
        (lambda file: None, {"observation_space": "[" * 100_000}, "damaged"),
    ],
)
def test_a_set_with_a_fitting_checksum_is_checked_all_the_same(
    good: Path, tmp_path: Path, change: Callable, told: dict, says: str
) -> None:
    folder = tmp_path / "set"
    shutil.copytree(good, folder)
    resign(folder, change, **told)
    with pytest.raises(shiftgym.ShiftgymError, match=says):
        read_dataset(folder)


def test_a_set_that_claims_too_much_allocates_nothing(tmp_path: Path) -> None:
    """A file of a kilobyte that unpacks to gigabytes."""
    path = tmp_path / DATA
    with h5py.File(path, "w") as file:
        shape = (300_000_000, 11)
        for name in ("observations", "actions"):
            file.create_dataset(f"episode_0/{name}", shape, "f4", chunks=(1024, 11), compression=9)
        for name in ("rewards", "terminations", "truncations"):
            file.create_dataset(f"episode_0/{name}", shape[:1], "f4", chunks=(1024,), compression=9)
    assert path.stat().st_size < 100_000
    for rows in (300_000_000, 299_999_999, 50):
        with pytest.raises(shiftgym.ShiftgymError, match="cannot hold|plain block"):
            read_episodes(path, rows, (11, 11))
    with pytest.raises(shiftgym.ShiftgymError, match="cannot hold"):
        unpack(path.read_bytes(), 300_000_000, 1, (11, 11))


@pytest.mark.parametrize("which", ["main_data.hdf5", "metadata.json"])
def test_a_pickle_is_never_opened(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    mark = tmp_path / "mark"
    monkeypatch.setenv("SHIFTGYM_TEST_MARK", str(mark))
    folder = tmp_path / "set"
    shutil.copytree(good, folder)
    (folder / "data" / which).write_bytes(pickle.dumps(Loaded()))
    with pytest.raises(shiftgym.ShiftgymError):
        read_dataset(folder)
    with pytest.raises(shiftgym.ShiftgymError):
        read_episodes(folder / "data" / which, ROWS, WIDTHS)
    with pytest.raises(shiftgym.ShiftgymError):
        unpack((folder / "data" / which).read_bytes(), ROWS, 2, WIDTHS)
    assert not mark.exists()


def test_other_peoples_minari_sets_are_sent_to_import(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "metadata.json").write_text('{"dataset_id": "x/y-v0", "total_steps": 3}')
    with pytest.raises(shiftgym.ShiftgymError, match="shiftgym data import"):
        read_dataset(folder)
    with pytest.raises(shiftgym.ShiftgymError, match="Cannot read"):
        read_dataset(tmp_path / "nothing")

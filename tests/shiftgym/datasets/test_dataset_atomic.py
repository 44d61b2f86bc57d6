"""A set is there whole or not at all: full disks, kills, races, missing permission."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from dataset_helpers import assert_equal, made_up, named

import shiftgym
from shiftgym.datasets import cache, folders, hdf5, locks, store
from shiftgym.datasets.store import read_dataset, write_dataset

WRITER = """
import sys, time
from pathlib import Path
sys.path.insert(0, {helpers!r})
from dataset_helpers import made_up, named
from shiftgym.datasets import cache
from shiftgym.datasets.flat import rows_of
from shiftgym.datasets.store import write_dataset
import shiftgym
cache.FROM_ROWS = 200
flat = made_up(300, int(sys.argv[2]))
def slowly():
    for start in range(0, 300, 30):
        print(start, flush=True)
        time.sleep(float(sys.argv[3]))
        yield rows_of(flat, slice(start, start + 30))
try:
    write_dataset(slowly(), named(300), {{}}, Path(sys.argv[1]))
except shiftgym.ShiftgymError as error:
    sys.exit(str(error))
"""


def start_writer(root: Path, seed: int, pause: float) -> subprocess.Popen[str]:
    code = WRITER.format(helpers=str(Path(__file__).parent))
    command = [sys.executable, "-c", code, str(root), str(seed), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def everything(root: Path) -> dict[str, bytes]:
    """Give every file but locks and Minari's empty notes of namespaces."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.name.endswith("lock") and "namespace" not in path.name
    }


def test_a_killed_writer_leaves_nothing_to_see_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    import minari

    writer = start_writer(tmp_path, 1, 30.0)
    assert writer.stdout is not None and writer.stdout.readline() == "0\n"
    os.kill(writer.pid, signal.SIGKILL)
    writer.communicate()
    parent = tmp_path / "shiftgym" / "hopper-kinematic"
    (left,) = [path for path in parent.iterdir() if path.is_dir()]
    assert left.name.startswith(".medium-300-v0.new-")
    os.environ["MINARI_DATASETS_PATH"], before = (
        str(tmp_path),
        os.environ.get("MINARI_DATASETS_PATH"),
    )
    try:
        assert minari.list_local_datasets() == {}
    finally:
        del os.environ["MINARI_DATASETS_PATH"]
        if before is not None:
            os.environ["MINARI_DATASETS_PATH"] = before
    folder = write_dataset(made_up(300), named(300), {}, tmp_path)
    assert not left.exists()
    assert_equal(read_dataset(folder), made_up(300))


def test_of_two_writers_at_once_one_wins_and_the_other_is_told(tmp_path: Path) -> None:
    writers = [start_writer(tmp_path, seed, 0.02) for seed in (1, 2)]
    told = [writer.communicate(timeout=120)[1] for writer in writers]
    codes = [writer.returncode for writer in writers]
    assert sorted(codes) == [0, 1], told
    said = told[codes.index(1)]
    assert "is at it already" in said or "is there already" in said
    winner = made_up(300, 1 + codes.index(0))
    folder = tmp_path / named(300).minari
    for _ in range(2):  # whether or not the loser left a cache
        assert_equal(read_dataset(folder), winner)
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == [folder.name]


@pytest.mark.parametrize("room", [0, 96, 3_000, 20_000, 40_000])
def test_a_full_disk_is_told_and_what_was_there_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    folder = write_dataset(made_up(300, 1), named(300), {}, tmp_path)
    before = everything(tmp_path)
    true_open, used = open, [0]

    class Full:
        def __init__(self, *arguments, **options):
            self._file = true_open(*arguments, **options)

        def write(self, content):
            used[0] += len(content)
            if used[0] > room:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self._file.write(content)

        def __getattr__(self, name):
            return getattr(self._file, name)

    monkeypatch.setattr(hdf5, "open", Full, raising=False)
    for name, replace in ((named(300), True), (named(301), False)):
        used[0] = 0
        with pytest.raises(shiftgym.ShiftgymError, match="is full.*what was there is kept"):
            write_dataset(made_up(name.size, 2), name, {}, tmp_path, replace=replace)
    assert everything(tmp_path) == before
    assert_equal(read_dataset(folder), made_up(300, 1))


def test_a_disk_without_room_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    monkeypatch.setattr(store, "EpisodeWriter", lambda path: pytest.fail("written"))
    with pytest.raises(shiftgym.ShiftgymError, match="is full"):
        write_dataset(made_up(300), named(300), {}, tmp_path)
    assert everything(tmp_path) == {}


def test_a_really_full_disk(tmp_path: Path) -> None:
    """On a file system of one megabyte, where this process may make one."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    try:
        made = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        made = False
    if not made:
        pytest.skip("mounting needs root")
    try:
        folder = write_dataset(made_up(2_000, 1), named(2_000), {}, place)
        before = everything(place)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(store, "require_room", lambda *_: None)
            patch.setattr(cache, "FROM_ROWS", 10**9)
            with pytest.raises(shiftgym.ShiftgymError, match="is full"):
                write_dataset(made_up(20_000, 2), named(20_000), {}, place)
        assert everything(place) == before
        assert_equal(read_dataset(folder), made_up(2_000, 1))
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_missing_permission_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(folders.tempfile, "mkdtemp", refuse)
    with pytest.raises(shiftgym.ShiftgymError, match="No permission.*MINARI_DATASETS_PATH"):
        write_dataset(made_up(300), named(300), {}, tmp_path)


def test_a_folder_that_stepped_aside_for_nothing_comes_back(tmp_path: Path) -> None:
    """As after a kill between the two renames of a replacement."""
    folder = write_dataset(made_up(300, 1), named(300), {}, tmp_path)
    folder.rename(folder.with_name(f".{folder.name}.old"))
    write_dataset(made_up(301), named(301), {}, tmp_path)
    assert_equal(read_dataset(folder), made_up(300, 1))


def test_a_failing_source_of_rows_leaves_nothing(tmp_path: Path) -> None:
    def rows():
        yield made_up(100)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(rows(), named(300), {}, tmp_path)
    assert everything(tmp_path) == {}


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    held = locks.try_lock(tmp_path / "lock", wait=False)
    assert held is not None
    assert locks.try_lock(tmp_path / "lock", wait=False) is None
    os.close(held)
    started = time.monotonic()
    with locks.locked(tmp_path / "lock"):
        assert time.monotonic() - started < 5

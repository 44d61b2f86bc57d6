"""Writers and readers side by side: nobody loses a set, nobody is told a wrong thing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from dataset_helpers import assert_equal, made_up, named

import shiftgym
from shiftgym.cli import main
from shiftgym.datasets import cache, folders, listing, locks, places, store
from shiftgym.datasets.load import install, load
from shiftgym.datasets.store import read_dataset, write_dataset

NAME = "hopper-kinematic/medium"
GET = f"import sys; from shiftgym.cli import main; sys.exit(main(['data', 'get', '{NAME}']))"


def hidden(root: Path) -> list[str]:
    """List everything under hidden names."""
    found = (path.relative_to(root) for path in root.rglob("*"))
    return sorted(str(path) for path in found if any(part.startswith(".") for part in path.parts))


def test_a_finished_set_survives_a_writer_of_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long syncing takes before the rename."""
    sync, begun = folders._sync, []

    def slowly(folder: Path) -> None:
        sync(folder)
        if not begun:
            begun.append(folder)
            write_dataset(made_up(301), named(301), {}, tmp_path)

    monkeypatch.setattr(folders, "_sync", slowly)
    folder = write_dataset(made_up(300), named(300), {}, tmp_path)
    assert begun
    assert_equal(read_dataset(folder), made_up(300))
    assert hidden(tmp_path) == []


def test_a_set_that_several_get_at_once_is_there_for_all(tmp_path: Path) -> None:
    environment = os.environ | {"MINARI_DATASETS_PATH": str(tmp_path)}
    pipe = subprocess.PIPE
    getting = [
        subprocess.Popen(
            [sys.executable, "-c", GET], stdout=pipe, stderr=pipe, text=True, env=environment
        )
        for _ in range(3)
    ]
    told = [process.communicate(timeout=200) for process in getting]
    assert [process.returncode for process in getting] == [0, 0, 0], told
    assert sum("installed in" in said for said, _ in told) == 1, told
    assert hidden(tmp_path) == []


def test_of_threads_that_install_a_set_one_writes_it(tmp_path: Path) -> None:
    came: list[bool] = []
    threads = [
        threading.Thread(target=lambda: came.append(install(NAME, tmp_path)[1])) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(came) == [False, False, False, True]


def test_a_set_is_found_while_another_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every change of the disk that replacing makes."""
    folder = write_dataset(made_up(300, 1), named(300), {}, tmp_path)
    rename, seen = Path.rename, []

    def look() -> None:
        flat = load(named(300), tmp_path)
        seen.append("old" if (flat["rewards"] == made_up(300, 1)["rewards"]).all() else "new")
        assert [path.name for path in listing.installed(tmp_path)] == [folder.name]

    def watched(path: Path, target: Path) -> Path:
        look()
        found = rename(path, target)
        look()
        return found

    monkeypatch.setattr(Path, "rename", watched)
    write_dataset(made_up(300, 2), named(300), {}, tmp_path, replace=True)
    assert seen == ["old", "old", "old", "new", "new", "new"]


def test_a_set_whose_replacement_was_killed_is_found_and_comes_back(tmp_path: Path) -> None:
    """Between the two renames; readers do not wait for the next writer."""
    folder = write_dataset(made_up(300, 1), named(300), {}, tmp_path)
    aside = folder.with_name(f".{folder.name}.old")
    folder.rename(aside)
    with places.if_free(folder) as free:  # as if its writer lived
        assert free
        assert_equal(load(named(300), tmp_path), made_up(300, 1))
        (row,) = [row for row in listing.rows(tmp_path) if row["size"] == 300]
        assert row["where"] == "installed"
        assert not folder.exists()
    assert_equal(load(named(300), tmp_path), made_up(300, 1))
    assert folder.exists() and not aside.exists()


@pytest.mark.parametrize("large", [False, True])
def test_a_reader_whose_set_is_replaced_meanwhile_reads_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    if large:
        monkeypatch.setattr(cache, "FROM_ROWS", 200)
    folder = write_dataset(made_up(300, 1), named(300), {}, tmp_path)
    for left in folder.parent.glob(f".*{cache.SUFFIX}"):
        left.unlink()
    verify, done = store.verify_file, []

    def replaced(path: Path, digest: str) -> None:
        if not done:
            done.append(path)
            write_dataset(made_up(300, 2), named(300), {}, tmp_path, replace=True)
        verify(path, digest)

    monkeypatch.setattr(store, "verify_file", replaced)
    assert_equal(read_dataset(folder), made_up(300, 2))
    (folder / "data" / store.DATA).write_bytes(b"damaged")
    with pytest.raises(shiftgym.ShiftgymError, match="damaged or was changed"):
        read_dataset(folder)


def test_leftovers_of_every_kind_go_with_the_next_writer(tmp_path: Path) -> None:
    home = tmp_path / "shiftgym"
    elsewhere = home / "ant-morph"
    whole = write_dataset(made_up(300), named(300), {}, tmp_path)
    for place in (home, elsewhere, whole.parent):
        place.mkdir(exist_ok=True)
        (place / ".namespace_metadata.json.new-ab12").touch()
    for left in (".medium-v0.new-x1", ".medium-300-v0.new-x2", ".medium-300-v0.fetch"):
        (whole.parent / left / "data").mkdir(parents=True)
    (elsewhere / ".expert-v0.new-x3").mkdir()
    (elsewhere / ".expert-v0.lock").touch()
    (elsewhere / ".expert-v0.flat.part").touch()
    (elsewhere / ".expert-v0.fetch").mkdir()  # a download that can go on
    link = elsewhere / ".expert-v0.new-link"
    link.symlink_to(whole)
    write_dataset(made_up(301), named(301), {}, tmp_path)
    assert hidden(tmp_path) == ["shiftgym/ant-morph/.expert-v0.fetch"]
    assert_equal(read_dataset(whole), made_up(300))


def test_what_living_writers_write_is_left_alone(tmp_path: Path) -> None:
    parent = tmp_path / "shiftgym" / "hopper-kinematic"
    with folders.owned(parent / "medium-v0") as owner, folders.new_folder(
        owner.final, owner=owner
    ) as temporary:  # fmt: skip
        (temporary / "data").mkdir()
        part = locks.lock_at(parent / ".medium-v0.flat.part", wait=False)
        assert part is not None
        write_dataset(made_up(301), named(301), {}, tmp_path)
        assert temporary.is_dir() and (parent / ".medium-v0.flat.part").exists()
        os.close(part)
    assert (parent / "medium-v0" / "data").is_dir()


def test_the_second_writer_is_told_who_is_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "GRACE", 0.1)
    final = tmp_path / "medium-v0"
    with folders.owned(final):
        with pytest.raises(shiftgym.ShiftgymError, match=f"process {os.getpid()} on .*since"):
            with folders.owned(final):
                pytest.fail("two writers")
    with folders.owned(final):
        pass
    assert hidden(tmp_path) == []


def test_an_import_under_a_name_that_is_taken_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import h5py

    from shiftgym_tools import importers

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "root"))
    flat, file = load(NAME), tmp_path / "hopper_kinematic_medium.hdf5"
    with h5py.File(file, "w") as to:
        for field in ("observations", "actions", "rewards", "next_observations"):
            to[field] = flat[field]
        to["terminals"], to["timeouts"] = flat["terminated"], flat["truncated"]
    assert main(["data", "import", str(file)]) == 0
    monkeypatch.setattr(importers, "accept", lambda *_: pytest.fail("replayed"))
    assert main(["data", "import", str(file)]) == 1
    said = capsys.readouterr().err
    assert "is there already" in said and "--replace" in said


@pytest.mark.parametrize("name", [".medium-300-v0.lock", ".medium-300-v0.flat.part"])
def test_no_link_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    parent = tmp_path / "root" / "shiftgym" / "hopper-kinematic"
    parent.mkdir(parents=True)
    (parent / name).symlink_to(precious)
    if name.endswith("lock"):
        with pytest.raises(shiftgym.ShiftgymError, match="symbolic link, which is not followed"):
            write_dataset(made_up(300), named(300), {}, tmp_path / "root")
    else:
        folder = write_dataset(made_up(300), named(300), {}, tmp_path / "root")
        monkeypatch.setattr(cache, "FROM_ROWS", 200)
        if not (parent / name).is_symlink():  # the writer took it for a leftover
            (parent / name).symlink_to(precious)
        with pytest.warns(UserWarning, match="symbolic link"):
            assert_equal(read_dataset(folder), made_up(300))
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("which", ["metadata.json", "main_data.hdf5", ".lock"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, which: str) -> None:
    folder = write_dataset(made_up(300), named(300), {}, tmp_path)
    path = folder.with_name(f".{folder.name}.lock") if which == ".lock" else folder / "data" / which
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    started = time.monotonic()
    with pytest.raises(shiftgym.ShiftgymError, match="a pipe|no plain file"):
        if which == ".lock":
            write_dataset(made_up(300), named(300), {}, tmp_path, replace=True)
        else:
            read_dataset(folder)
    assert time.monotonic() - started < 5


def test_a_device_in_place_of_metadata_is_refused(tmp_path: Path) -> None:
    folder = write_dataset(made_up(300), named(300), {}, tmp_path)
    path = folder / "data" / "metadata.json"
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(shiftgym.ShiftgymError, match="a device"):
        read_dataset(folder)
    (row,) = [row for row in listing.rows(tmp_path) if row["name"].endswith("medium-300")]
    assert "a device" in row["where"]
    shutil.rmtree(folder)

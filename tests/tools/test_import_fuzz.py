"""Damaged and hostile files end in a ShiftgymError, never in a crash, a hang, or a dataset."""

import gzip
import json
import os
import pickle
import socket
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from import_helpers import recorded, without, write_flat, write_minari

from shiftgym.cli import main
from shiftgym.errors import ShiftgymError
from shiftgym_tools.checking import fitting
from shiftgym_tools.checking.examining import examine
from shiftgym_tools.checking.scanning import scan
from shiftgym_tools.importers import import_dataset, read_foreign
from shiftgym_tools.reading.opening import open_source

CASES = 700  # damaged copies of each kind of file
WHOLE_IMPORTS = 60


@pytest.fixture(scope="module")
def arrays():
    return recorded("hopper", [15] * 4)


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "root"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "root"


@pytest.fixture
def no_rivals(monkeypatch):
    """Spare the search for the right domain of every damaged file."""
    monkeypatch.setattr(fitting, "same_shape", lambda rows: [])
    monkeypatch.setattr(fitting, "ENGINES", {"mujoco210": fitting.ENGINES["mujoco210"]})


def put(path, kind, arrays):
    if kind == "minari":
        return write_minari(path, arrays) / "data" / "main_data.hdf5"
    if kind == "otdf":
        return write_flat(path / "hopper_random.hdf5", without(arrays, "timeouts"), columns=True)
    return write_flat(path / "hopper_random.hdf5", arrays, compression="gzip", chunks=True)


def damaged(content, rng):
    """Cut a file short, or overwrite some of its bytes, often near its beginning."""
    kind = rng.integers(4)
    if kind == 0:
        return content[: rng.integers(0, len(content))]
    changed = np.frombuffer(content, np.uint8).copy()
    if kind == 3:
        start, length = rng.integers(len(content)), rng.integers(1, 2000)
        changed[start : start + length] = rng.integers(256) * (rng.random() < 0.5)
        return changed.tobytes()
    end = len(content) if rng.random() < 0.5 else min(len(content), 4096)
    places = rng.integers(0, end, rng.integers(1, 5 if kind == 1 else 60))
    if rng.random() < 0.5:
        changed[places] ^= np.uint8(1) << rng.integers(0, 8, len(places), dtype=np.uint8)
    else:
        changed[places] = rng.integers(0, 256, len(places))
    return changed.tobytes()


@pytest.mark.parametrize("kind", ["d4rl", "otdf", "minari"])
def test_damaged_files_are_read_or_refused(tmp_path, arrays, kind):
    from shiftgym import domain

    path = put(tmp_path, kind, arrays)
    content, where, read = path.read_bytes(), domain("hopper"), 0
    rng = np.random.default_rng(len(kind))
    for _ in range(CASES):
        path.write_bytes(damaged(content, rng))
        try:
            with open_source(path) as source:
                assert source.rows < 10**5
                found = scan(source, where)
                assert len(found) == source.rows
                read += 1
        except ShiftgymError as error:
            assert len(str(error)) > 20
    assert CASES / 10 < read < CASES  # some damage is where nobody looks


@pytest.mark.parametrize("kind", ["d4rl", "minari"])
def test_damaged_imports_leave_nothing_behind(tmp_path, root, arrays, kind, no_rivals):
    path = put(tmp_path, kind, arrays)
    content, refused = path.read_bytes(), 0
    rng = np.random.default_rng(7)
    for _ in range(WHOLE_IMPORTS):
        path.write_bytes(damaged(content, rng))
        try:
            import_dataset(str(path), "hopper", "random", replace=True)
        except ShiftgymError:
            refused += 1
        left = [p for p in root.rglob("*") if p.name.startswith(".") and p.is_dir()]
        assert not left
    assert refused > WHOLE_IMPORTS / 4
    for folder in root.rglob("*-v0"):
        assert (folder / "data" / "metadata.json").is_file()


@pytest.mark.parametrize("kind", ["d4rl", "otdf"])
def test_damaged_numbers_are_found(tmp_path, arrays, kind, no_rivals):
    rng = np.random.default_rng(3)
    for _ in range(40):
        wrong = {name: values.copy() for name, values in arrays.items()}
        name = rng.choice(["observations", "actions", "next_observations", "rewards"])
        values = wrong[name].reshape(len(wrong[name]), -1)
        rows = rng.choice(len(values), len(values) // 4, replace=False)
        values[rows] = rng.choice([np.nan, np.inf, -1e30, 0.5, 300.0])
        path = put(tmp_path, kind, wrong)
        try:
            _, report = read_foreign(path)
            assert name in ("rewards", "actions") and report.notes
        except ShiftgymError as error:
            assert "refused" in str(error)


class Payload:
    def __reduce__(self):
        return Path.write_text, (Path("executed"), "yes")


OTHER_FILES = {
    "empty": (b"", "it is empty"),
    "text": (b"observations,actions\n1,2\n", "something else"),
    "pickle": (pickle.dumps(Payload()), "a pickle, which is not opened"),
    "numpy": (b"\x93NUMPY\x01\x00", "a NumPy array"),
    "gzip": (gzip.compress(b"\0" * 10**6), "a gzip archive"),
    "page": (b"<!DOCTYPE html><html>404</html>", "a web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    "signature": (b"\x89HDF\r\n\x1a\n", "truncated, or not HDF5"),
    "random": (b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 40, "truncated, or not HDF5"),
}


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_files_of_another_kind_are_named(tmp_path, root, kind):
    content, message = OTHER_FILES[kind]
    path = tmp_path / "hopper_random.hdf5"
    path.write_bytes(content)
    with pytest.raises(ShiftgymError, match=message):
        import_dataset(str(path))
    assert not Path("executed").exists() and not root.exists()


def test_a_zip_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "hopper_random.hdf5", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("main_data.hdf5", b"\0" * 10**7)
    with pytest.raises(ShiftgymError, match="a zip archive"):
        import_dataset(str(tmp_path / "hopper_random.hdf5"))


def test_what_is_no_file_is_refused_at_once(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind("socket")
        for name in ("pipe", "socket", "/dev/zero", "/dev/full", "folder", "dangling", "loop"):
            with pytest.raises(ShiftgymError):
                read_foreign(tmp_path / name, "hopper")
    for name in ("", "a\0b", "x" * 5000, "../../etc/passwd-v0", "mujoco/hopper/medium-v0"):
        with pytest.raises(ShiftgymError):
            read_foreign(name, "hopper")
    assert main(["data", "import", "/dev/zero"]) == 1
    assert "pipe, socket or device" in capsys.readouterr().err


def replaced(file, name, make):
    """Put something else in the place of an array."""
    values = file[name][()]
    del file[name]
    make(file, name, values)


def external_storage(file, name, values):
    outside = Path(file.filename).with_name("outside.bin")
    outside.write_bytes(values.tobytes())
    file.create_dataset(name, values.shape, values.dtype, external=[(str(outside), 0, 10**6)])


def virtual(file, name, values):
    layout = h5py.VirtualLayout(values.shape, values.dtype)
    layout[:] = h5py.VirtualSource("other.hdf5", name, values.shape, values.dtype)
    file.create_virtual_dataset(name, layout)


def bomb(file, name, values):
    shape = (10**9, *values.shape[1:])
    file.create_dataset(name, shape, "f4", compression="gzip", chunks=(1000, *values.shape[1:]))


def huge_chunk(file, name, values):
    file.create_dataset(name, values.shape, "f4", chunks=(10**8, *values.shape[1:]),
                        maxshape=(None, *values.shape[1:]))  # fmt: skip


def unwritten(file, name, values):
    file.create_dataset(name, (10**10, *values.shape[1:]), "f4")


def ragged(file, name, values):
    made = file.create_dataset(name, (len(values),), h5py.vlen_dtype("f4"))
    made[0] = np.ones(3, np.float32)


def referring(file, name, values):
    file.create_dataset(name, data=np.array([file.ref] * len(values)), dtype=h5py.ref_dtype)


def link(target):
    def make(file, name, values):
        file[name] = target

    return make


def store(convert, **options):
    def make(file, name, values):
        file.create_dataset(name, data=convert(values), **options)

    return make


HOSTILE = {
    "external link": (link(h5py.ExternalLink("/etc/passwd", "/x")), "link to somewhere else"),
    "soft link": (link(h5py.SoftLink("/actions")), "link to somewhere else"),
    "link to itself": (link(h5py.SoftLink("/observations")), "link to somewhere else"),
    "external storage": (external_storage, "stored in other files"),
    "virtual": (virtual, "stored in other files"),
    "bomb": (bomb, "more than a file of"),
    "unwritten": (unwritten, "more than a file of"),
    "huge chunk": (huge_chunk, "more than a file of|cannot be read"),
    "group": (lambda f, n, v: f.create_group(n), "must be an array, got a Group"),
    "type": (lambda f, n, v: f.__setitem__(n, np.dtype("f4")), "must be an array"),
    "references": (referring, "must be numbers"),
    "text": (store(lambda v: ["x"] * len(v), dtype=h5py.string_dtype()), "must be numbers"),
    "bytes": (store(lambda v: np.array([b"x"] * len(v))), "must be numbers"),
    "ragged": (ragged, "must be numbers"),
    "compound": (store(lambda v: np.zeros(len(v), [("a", "f4"), ("b", "i4")])), "must be numbers"),
    "complex": (store(lambda v: v.astype(complex)), "must be numbers"),
    "filter": (store(lambda v: v.astype(int), scaleoffset=3, chunks=True), "HDF5 filter 6"),
    "nothing": (store(lambda v: h5py.Empty("f4")), "must be numbers"),
    "scalar": (store(lambda v: 1.0), "axes|same N"),
    "no rows": (store(lambda v: v[:0]), r"N > 0 rows|of \d+ rows|differ in shape"),
    "a row less": (store(lambda v: v[:-1]), "rows|differ in shape"),
    "three axes": (store(lambda v: v.reshape(len(v), -1, 1, 1)), "axes|same N"),
    "no columns": (store(lambda v: v.reshape(len(v), -1)[:, :0]), "rows|same N|differ in shape"),
}


@pytest.mark.parametrize("name", ["observations", "rewards", "next_observations", "terminals"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_arrays_are_refused(tmp_path, root, arrays, kind, name):
    make, message = HOSTILE[kind]
    path = write_flat(tmp_path / "hopper_random.hdf5", arrays)
    with h5py.File(path, "a") as file:
        replaced(file, name, make)
    with pytest.raises(ShiftgymError, match=message) as error:
        import_dataset(str(path))
    assert "hopper_random.hdf5" in str(error.value) and not root.exists()


@pytest.mark.parametrize("name", ["observations", "actions", "rewards", "terminals"])
def test_a_missing_array_is_named(tmp_path, arrays, name):
    path = write_flat(tmp_path / "hopper_random.hdf5", without(arrays, name))
    with pytest.raises(ShiftgymError, match=f"no array {name}; the file holds .*infos"):
        import_dataset(str(path))


MINARI = {
    "observations": (store(lambda v: v[:-1]), "needs T . 1 observations"),
    "actions": (store(lambda v: v[:, :2]), "needs T . 1 observations"),
    "rewards": (store(lambda v: v[:0]), "needs T . 1 observations"),
    "terminations": (store(lambda v: ["x"] * len(v)), "must be numbers"),
    "truncations": (link(h5py.ExternalLink("/etc/passwd", "/x")), "link to somewhere else"),
}


@pytest.mark.parametrize("name", MINARI)
def test_hostile_minari_episodes_are_refused(tmp_path, arrays, name):
    make, message = MINARI[name]
    folder = write_minari(tmp_path, arrays)
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        replaced(file, f"episode_2/{name}", make)
    with pytest.raises(ShiftgymError, match=message):
        read_foreign(folder)


def test_hostile_minari_files_are_refused(tmp_path, arrays):
    folder = write_minari(tmp_path, arrays)
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        file["episode_0/loop"] = file["episode_0"]  # a cycle of hard links, which nobody follows
        file.move("episode_1", "episode_9")
    with pytest.raises(ShiftgymError, match="no group episode_1; the file holds"):
        read_foreign(folder)
    with h5py.File(folder / "data" / "main_data.hdf5", "w") as file:
        file["episode_0"] = h5py.SoftLink("/episode_0")
    with pytest.raises(ShiftgymError, match="link to somewhere else"):
        read_foreign(folder)
    with h5py.File(folder / "data" / "main_data.hdf5", "w"):
        pass
    with pytest.raises(ShiftgymError, match="holds no episodes"):
        read_foreign(folder)


@pytest.mark.parametrize(
    "content",
    [b"", b"[1]", b"{", b"\xff\xfe", b"[" * 10**5, b'{"data_format": 3}', b"null", b'"text"'],
)
def test_hostile_metadata_are_refused(tmp_path, arrays, content):
    folder = write_minari(tmp_path, arrays)
    (folder / "data" / "metadata.json").write_bytes(content)
    with pytest.raises(ShiftgymError):
        read_foreign(folder, "hopper")


def test_metadata_of_any_size_and_kind(tmp_path, arrays):
    folder = write_minari(
        tmp_path, arrays, dataset_id=["x"], shiftgym={"format": 1}, total_steps="?"
    )
    path = folder / "data" / "metadata.json"
    assert main(["data", "verify", str(folder), "--domain", "hopper"]) == 1
    path.write_text(json.dumps({"description": "x" * (5 << 20)}))
    with pytest.raises(ShiftgymError, match="larger than any metadata"):
        read_foreign(folder)


def test_examining_only_part_of_a_robot(tmp_path, arrays):
    half = {name: values[:, :4] if values.ndim == 2 else values for name, values in arrays.items()}
    path = write_flat(tmp_path / "hopper_random.hdf5", half)
    from shiftgym import domain

    with open_source(path) as source, pytest.raises(ShiftgymError, match="No robot here"):
        examine(source, domain("hopper"))

"""Publish and fetch through a real object store, over a wire that can be cut.

shiftgym -> Minari's GCS client -> Wire (counts bytes, cuts) -> gcp-storage-emulator
"""

from __future__ import annotations

import json
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import shiftgym
from shiftgym.cli import main
from shiftgym.datasets import remote
from shiftgym.datasets.flat import FIELDS, Flat
from shiftgym.datasets.metadata import read_metadata
from shiftgym.datasets.names import DatasetName
from shiftgym.datasets.remote import fetch, open_remote
from shiftgym.datasets.store import DATA, dataset_path, read_dataset, write_dataset
from shiftgym_tools.publish import send

server = pytest.importorskip("gcp_storage_emulator.server")
pytest.importorskip("google.cloud.storage")

ROWS = 20_000  # a file of more than a megabyte
BUCKET = "gcp://shelf"


class Wire:
    """Pass bytes between a client and the store; cut connections that carry too many."""

    def __init__(self, port: int):
        self._target = ("127.0.0.1", port)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.limit: int | None = None  # bytes per connection, either way
        self.cuts_left = 0
        self.sent = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_after(self, limit: int, times: int) -> None:
        self.limit, self.cuts_left = limit, times

    def close(self) -> None:
        self._socket.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                store = socket.create_connection(self._target)
                for ends in ((client, store), (store, client)):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        carried = 0
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if self.cuts_left and self.limit is not None and carried + len(data) > self.limit:
                    self.cuts_left -= 1
                    sink.sendall(data[: self.limit - carried])
                    break
                carried += len(data)
                self.sent += len(data)
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Wire]:
    """Give the wire to an empty bucket; Minari's folder is empty too."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    store = server.create_server("127.0.0.1", port, in_memory=True, default_bucket="shelf")
    store.start()
    found = Wire(port)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{found.port}")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "here"))
    monkeypatch.delenv("MINARI_REMOTE", raising=False)
    yield found
    found.close()
    store.stop()


def made_up(rows: int, seed: int = 0) -> Flat:
    """Draw episodes of 100 steps or, of a large set, 1,000."""
    rng = np.random.default_rng(seed)
    chain = rng.normal(size=(rows + 1, 11)).astype(np.float32)
    truncated = np.arange(1, rows + 1) % (1000 if rows > 5000 else 100) == 0
    truncated[-1] = True
    return {
        "observations": chain[:-1].copy(),
        "actions": rng.uniform(-1, 1, (rows, 3)).astype(np.float32),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "next_observations": chain[1:].copy(),
        "terminated": np.zeros(rows, np.bool_),
        "truncated": truncated,
    }


def write(seed: int = 0, rows: int = ROWS) -> tuple[DatasetName, Path]:
    name = shiftgym.dataset_name("hopper-kinematic/medium").sized(rows)
    about = {"algorithm": "SAC", "policies": {"hopper-kinematic/medium": "ab" * 32}}
    return name, write_dataset(made_up(rows, seed), name, about)


def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Go to another machine: an empty Minari folder."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "there"))
    return tmp_path / "there"


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_round_trip_is_identical_to_the_byte(
    wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    import minari

    name, folder = write(rows=2_000)
    assert main(["data", "publish", name.short, "--remote", BUCKET]) == 0
    assert f"{name}: sent" in capsys.readouterr().out
    assert main(["data", "publish", name.short, "--remote", BUCKET]) == 0
    assert f"{name}: there already" in capsys.readouterr().out
    sent = files(folder)
    elsewhere(monkeypatch, tmp_path)
    assert main(["data", "get", name.short, "--remote", BUCKET]) == 0
    printed = capsys.readouterr()
    assert str(dataset_path(name)) in printed.out and "100%" in printed.err
    got = files(dataset_path(name))
    for file in ("data/main_data.hdf5", "data/metadata.json"):
        assert got[file] == sent[file], file
    for field in FIELDS:
        np.testing.assert_array_equal(shiftgym.load(name)[field], made_up(2_000)[field])
    assert minari.load_dataset(name.minari).total_steps == 2_000
    assert not list(dataset_path(name).parent.glob(".*.fetch"))


def test_minari_itself_fetches_what_was_published(
    wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import minari

    name, folder = write(rows=500)
    sent = files(folder)
    send(name, open_remote(BUCKET))
    elsewhere(monkeypatch, tmp_path)
    monkeypatch.setenv("MINARI_REMOTE", BUCKET)
    assert set(minari.list_remote_datasets()) == {name.minari}
    minari.download_dataset(name.minari)
    got = files(dataset_path(name))
    assert sent.items() <= got.items() and "README.md" in got
    assert len(read_dataset(dataset_path(name))["rewards"]) == 500


def test_a_card_says_what_a_reader_needs(wire: Wire) -> None:
    name, folder = write(rows=500)
    send(name, open_remote(BUCKET))
    text = (folder / "README.md").read_text()
    for fact in (
        "joint thigh_joint range: -150 0 -> -0.15 0",
        "| transitions | 500 |",
        "| episodes | 5 |",
        read_metadata(folder)["shiftgym"]["sha256"],
        f'minari.load_dataset("{name.minari}")',
        f'shiftgym.load("{name.short}")',
        "ab" * 32,
    ):
        assert fact in text, fact


def test_a_connection_cut_in_the_middle_is_resumed(
    wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, folder = write()
    send(name, open_remote(BUCKET))
    size = (folder / "data" / DATA).stat().st_size
    elsewhere(monkeypatch, tmp_path)
    wire.cut_after(400_000, times=2)
    before, seen = wire.sent, []
    fetch(name, open_remote(BUCKET), progress=lambda here, total: seen.append((here, total)))
    assert wire.cuts_left == 0
    assert wire.sent - before < 1.1 * size  # no byte came twice
    assert seen[-1] == (size, size) and sorted(seen) == seen
    assert (dataset_path(name) / "data" / DATA).read_bytes() == (
        folder / "data" / DATA
    ).read_bytes()


def test_a_connection_that_stays_broken_is_told_and_gone_on_with_later(
    wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    name, folder = write()
    send(name, open_remote(BUCKET))
    elsewhere(monkeypatch, tmp_path)
    wire.cut_after(100_000, times=remote.TRIES)
    assert main(["data", "get", name.short, "--remote", BUCKET]) == 1
    told = capsys.readouterr().err
    assert "connection broke" in told and "goes on from there" in told
    assert not dataset_path(name).exists()
    with pytest.raises(shiftgym.ShiftgymError, match="is not here"):
        shiftgym.load(name)
    came = dataset_path(name).with_name(f".{dataset_path(name).name}.fetch") / DATA
    assert 0 < came.stat().st_size < (folder / "data" / DATA).stat().st_size
    before = wire.sent
    assert main(["data", "get", name.short, "--remote", BUCKET]) == 0
    assert wire.sent - before < (folder / "data" / DATA).stat().st_size
    assert (dataset_path(name) / "data" / DATA).read_bytes() == (
        folder / "data" / DATA
    ).read_bytes()


def test_a_wrong_checksum_is_refused(
    wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, folder = write(rows=500)
    storage = open_remote(BUCKET)
    send(name, storage)
    content = bytearray((folder / "data" / DATA).read_bytes())
    content[len(content) // 2] ^= 1
    storage.bucket.blob(f"{name.minari}/data/{DATA}").upload_from_string(bytes(content))
    there = elsewhere(monkeypatch, tmp_path)
    with pytest.raises(shiftgym.ShiftgymError, match="refused.*another SHA-256"):
        fetch(name, storage)
    assert not [path for path in there.rglob("*") if path.is_file() and path.suffix == ".hdf5"]
    good = (folder / "data" / DATA).read_bytes()
    storage.bucket.blob(f"{name.minari}/data/{DATA}").upload_from_string(good)
    assert len(read_dataset(fetch(name, storage))["rewards"]) == 500


def test_a_set_that_did_not_arrive_whole_is_sent_again(wire: Wire) -> None:
    name, folder = write(rows=500)
    storage = open_remote(BUCKET)
    send(name, storage)
    storage.bucket.blob(f"{name.minari}/data/{DATA}").upload_from_string(b"half")
    assert send(name, storage).startswith("sent")
    storage.bucket.blob(f"{name.minari}/data/{DATA}").delete()
    assert send(name, storage).startswith("sent")
    assert send(name, storage) == "there already"
    blob = storage.bucket.get_blob(f"{name.minari}/data/{DATA}")
    assert blob.download_as_bytes() == (folder / "data" / DATA).read_bytes()


def test_other_data_under_a_published_name_are_not_sent_by_mistake(wire: Wire) -> None:
    name, folder = write(seed=1, rows=500)
    storage = open_remote(BUCKET)
    send(name, storage)
    shutil.rmtree(folder)
    write(seed=2, rows=500)
    with pytest.raises(shiftgym.ShiftgymError, match="--replace"):
        send(name, storage)
    assert send(name, storage, replace=True).startswith("sent")


def test_a_damaged_set_is_not_published(wire: Wire) -> None:
    name, folder = write(rows=500)
    content = bytearray((folder / "data" / DATA).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "data" / DATA).write_bytes(content)
    with pytest.raises(shiftgym.ShiftgymError, match="damaged"):
        send(name, open_remote(BUCKET))


def test_what_the_remote_lacks_is_told(wire: Wire) -> None:
    name = shiftgym.dataset_name("hopper-morph/medium")
    with pytest.raises(shiftgym.ShiftgymError, match="shiftgym data make hopper-morph/medium"):
        fetch(name, open_remote(BUCKET))
    other = shiftgym.dataset_name("hopper-morph/expert")
    storage = open_remote(BUCKET)
    blob = storage.bucket.blob(f"{other.minari}/data/metadata.json")
    blob.upload_from_string(json.dumps({"dataset_id": other.minari, "total_steps": 5000}))
    with pytest.raises(shiftgym.ShiftgymError, match="was not written by"):
        fetch(other, storage)


class Shelf:
    """Be a remote that hands over whole folders, as Hugging Face's client does."""

    def __init__(self, name: str, token: str | None = None):
        self._place, self._token = Path(name), token

    def upload_dataset(self, dataset_id: str) -> None:
        shutil.copytree(dataset_path(dataset_id), self._place / dataset_id, dirs_exist_ok=True)

    def get_dataset_metadata(self, dataset_id: str) -> dict:
        return json.loads((self._place / dataset_id / "data" / "metadata.json").read_bytes())

    def download_dataset(self, dataset_id: str, path: Path) -> None:
        shutil.copytree(self._place / dataset_id, path / dataset_id, dirs_exist_ok=True)

    def list_namespaces(self) -> list[str]:
        return []

    def upload_namespace(self, namespace: str) -> None:
        pass


def test_other_kinds_of_remote_use_minaris_own_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from minari.storage import remotes

    monkeypatch.setitem(remotes._registry, "shelf", lambda: Shelf)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "here"))
    name, folder = write(rows=500)
    storage = open_remote(f"shelf://{tmp_path}/shelf")
    assert send(name, storage).startswith("sent")
    elsewhere(monkeypatch, tmp_path)
    assert files(fetch(name, storage)) == files(folder)


@pytest.mark.parametrize("missing", ["hf", "gcp"])
def test_a_missing_client_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from minari.storage import remotes

    def lacking() -> None:
        raise ImportError("not installed")

    monkeypatch.setitem(remotes._registry, missing, lacking)
    with pytest.raises(shiftgym.ShiftgymError, match=r"pip install 'minari\["):
        open_remote(f"{missing}://somewhere")

"""Packaged sets: small, checked, loaded at once, installed on demand; and the commands for them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from dataset_helpers import assert_equal, made_up, named

import shiftgym
from shiftgym.cli import main
from shiftgym.datasets import packaged
from shiftgym.datasets.flat import spaces
from shiftgym.datasets.packaged import LIMIT, PACKAGED, load_packaged, pack, package_dataset
from shiftgym.datasets.store import dataset_path, read_dataset, write_dataset

ABOUT = {"algorithm": "SAC", "episode_seeds": list(range(5, 305))}
NAMES = ("hopper-kinematic/medium-300", "ant-morph/expert-200")


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a package of two sets, and an empty Minari folder."""
    folder = tmp_path / "package"
    folder.mkdir()
    monkeypatch.setattr(packaged, "PACKAGED", folder)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    for seed, text in enumerate(NAMES):
        name = shiftgym.dataset_name(text)
        widths = tuple(space.shape[0] for space in spaces(name.domain))
        flat = made_up(name.size, seed, widths=(widths[0], widths[1]))
        package_dataset(flat, name, {**ABOUT, "seed": seed}, folder)
    return folder


@pytest.mark.parametrize("rows", [1, 2, 300])
def test_packing_is_lossless_and_repeatable(rows: int) -> None:
    flat = made_up(rows)
    content = pack(flat)
    episodes = int((flat["terminated"] | flat["truncated"]).sum())
    assert_equal(packaged.unpack(content, rows, episodes, (11, 3)), flat)
    assert pack(flat) == content


def test_smooth_data_take_less_room_than_their_numbers() -> None:
    flat = made_up(5_000, longest=2_000)
    walk = np.cumsum(flat["observations"] * 1e-2, axis=0, dtype=np.float32) + 3
    flat["observations"], flat["next_observations"] = walk, np.roll(walk, -1, axis=0)
    stored = sum(flat[field].nbytes for field in packaged.STORED)
    assert len(pack(flat)) < 0.8 * stored


def test_packaged_sets_are_loaded_without_being_installed(shelf: Path) -> None:
    assert_equal(shiftgym.load(NAMES[0]), made_up(300, 0))
    assert_equal(load_packaged(NAMES[1]), made_up(200, 1, widths=(27, 8)))
    assert not (shelf.parent / "minari").exists()
    entry = packaged.packaged_index()[NAMES[0]]
    assert (entry["size"], entry["about"]["seed"]) == (300, 0)
    with pytest.raises(shiftgym.ShiftgymError, match="not packaged"):
        load_packaged("hopper/medium")


def test_the_index_keeps_what_it_has(shelf: Path) -> None:
    package_dataset(made_up(300, 9), named(300), {}, shelf)
    assert set(packaged.packaged_index()) == set(NAMES)
    assert_equal(shiftgym.load(NAMES[0]), made_up(300, 9))
    with pytest.raises(shiftgym.ShiftgymError, match="got 299"):
        package_dataset(made_up(299), named(300), {}, shelf)


def test_a_damaged_package_is_refused(shelf: Path) -> None:
    path = shelf / packaged.packaged_index()[NAMES[0]]["file"]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(shiftgym.ShiftgymError, match="SHA-256 differs. Reinstall"):
        shiftgym.load(NAMES[0])
    path.unlink()
    with pytest.raises(shiftgym.ShiftgymError, match="Reinstall"):
        shiftgym.load(NAMES[0])
    (shelf / "index.json").write_text("{")
    with pytest.raises(shiftgym.ShiftgymError, match="reinstall"):
        shiftgym.load(NAMES[0])


def test_get_installs_once_and_says_what_to_do_next(
    shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import minari

    assert main(["data", "get", NAMES[0]]) == 0
    printed = capsys.readouterr().out
    assert f"{NAMES[0]}: installed in {dataset_path(NAMES[0])}" in printed
    assert 'minari.load_dataset("shiftgym/hopper-kinematic/medium-300-v0")' in printed
    assert main(["data", "get", "--all"]) == 0
    printed = capsys.readouterr().out
    assert f"{NAMES[0]}: there already" in printed and f"{NAMES[1]}: installed" in printed
    assert len(minari.list_local_datasets()) == 2
    for text in NAMES:
        dataset = minari.load_dataset(shiftgym.dataset_name(text).minari)
        assert dataset.storage.metadata["algorithm_name"] == "SAC"
        assert_equal(read_dataset(dataset_path(text)), load_packaged(text))
        assert "episode_seeds" not in dataset.storage.metadata["shiftgym"]
        (first,) = dataset.storage.get_episode_metadata([0])
        assert first["seed"] == 5
    left = [
        path.name for path in (*shelf.rglob("*"), *dataset_path(NAMES[0]).parents[2].rglob("*"))
    ]
    assert not [name for name in left if name.startswith(".") or "lock" in name]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["get"], 2, "--all"),
        (["get", "hoper/medium"], 2, "'hopper'"),
        (["get", "hopper/expert"], 1, "shiftgym data make hopper/expert"),
        (["get", "hopper/expert", "--remote", "ftp://x"], 1, "is no remote"),
        (["get", "hopper/expert", "--remote", "nonsense"], 1, "is no remote"),
        (["list", "--robot", "hoper"], 2, "'hopper'"),
        (["publish"], 2, "--all"),
        (["publish", NAMES[0]], 1, "Which remote"),
    ],
)
def test_a_mistake_is_named_with_its_exit_code(
    shelf: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("MINARI_REMOTE", raising=False)
    assert main(["data", *arguments]) == code
    assert says in capsys.readouterr().err


def test_list_tells_what_is_where(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flat, cut = made_up(150), made_up(20, longest=100)
    cut["truncated"][-1], cut["terminated"][-1] = True, False
    ended = np.flatnonzero(flat["terminated"] | flat["truncated"]).tolist()
    begun = [0, *(end + 1 for end in ended)]
    episodes = [
        slice(a, b + 1) for a, b in zip(begun, ended, strict=False) if flat["terminated"][b]
    ]
    fallen = np.mean([flat["rewards"][rows].sum(dtype=np.float64) for rows in episodes])
    main(["data", "get", NAMES[0]])
    write_dataset(flat, named(150, "hopper"), {})
    write_dataset(cut, named(20, "hopper"), {})
    broken = write_dataset(made_up(160), named(160, "hopper"), {})
    (broken / "data" / "metadata.json").write_text("{}")
    capsys.readouterr()
    assert main(["data", "list", "--json", "--makeable"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows[NAMES[0]]["where"] == "packaged, installed"
    assert rows[NAMES[1]]["where"] == "packaged"
    assert rows["hopper/medium-150"]["where"] == "installed"
    assert rows["hopper/medium-160"]["where"].startswith("damaged")
    assert rows["hopper/random"]["where"] == "makeable"
    assert rows["hopper/medium-150"]["return"] == pytest.approx(fallen, abs=1e-4)
    assert rows["hopper/medium-20"]["return"] is None  # an episode, and that is cut
    assert rows[NAMES[0]]["size"] == 300 and rows[NAMES[0]]["episodes"] > 1
    assert main(["data", "list", "--robot", "hopper"]) == 0
    printed = capsys.readouterr().out
    assert "packaged, installed" in printed and "ant-morph" not in printed
    assert "more can be made" in printed


def test_what_is_packaged_is_whole_and_small() -> None:
    index = packaged.packaged_index()
    files = [PACKAGED / entry["file"] for entry in index.values()]
    assert sum(path.stat().st_size for path in files) < LIMIT
    for name in index:
        assert shiftgym.dataset_name(name).short == name

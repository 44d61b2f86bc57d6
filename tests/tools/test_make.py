"""`shiftgym data make`: what it makes, and what it survives."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import minari
import numpy as np
import pytest
from test_collect import policy_file

import shiftgym
from shiftgym import policies
from shiftgym.cli import main
from shiftgym.datasets import dataset_name, folders
from shiftgym.datasets.flat import check_flat, episode_bounds
from shiftgym.datasets.store import read_dataset
from shiftgym.datasets.tiers import TIERS
from shiftgym_tools import collect as collecting
from shiftgym_tools import make as making
from shiftgym_tools.recipes import wanted_policies

DATA = "data/main_data.hdf5"
SMALL_BLOCKS = "from shiftgym_tools import collect; collect.BLOCK_ROWS = 1000"
SLOW_WRITING = """
import time
from shiftgym.datasets.hdf5 import EpisodeWriter
write = EpisodeWriter.write
EpisodeWriter.write = lambda *arguments: (time.sleep(0.1), write(*arguments))
"""
SMALL = ("hopper/random", "--size", "4k", "--streams", "16")
WORK = "shiftgym/hopper/.random-4k-v0.making"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty folder of datasets."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    return tmp_path / "datasets"


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Package policies made for the purpose: all tiers of the hopper, a best below the bar."""
    folder = tmp_path / "policies"
    folder.mkdir()
    index = {}
    tiers = [f"hopper/{tier}" for tier in ("medium", "expert", *TIERS["medium-replay"])]
    for seed, name in enumerate(
        dict.fromkeys([*tiers, "hopper-kinematic/best", "hopper-kinematic/medium"])
    ):
        path = Path(policy_file(folder, "hopper", seed, step="7", updates="70"))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        index[name] = {"file": path.name, "sha256": digest}
    (folder / "index.json").write_text(json.dumps(index))
    monkeypatch.setattr(policies, "POLICIES", folder)
    policies.index.cache_clear()
    policies.load_policy.cache_clear()
    yield folder
    policies.index.cache_clear()
    policies.load_policy.cache_clear()


def told(path: Path) -> dict[str, Any]:
    return json.loads((path / "data" / "metadata.json").read_text())


def visible(root: Path) -> list[Path]:
    """List the datasets that anybody would see."""
    return [path for path in root.glob("shiftgym/*/*") if not path.name.startswith(".")]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_source_dataset_says_how_it_was_made(
    root: Path, packaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "make", "hopper/medium", "--size", "1k", "--streams", "8"]) == 0
    path = root / "shiftgym" / "hopper" / "medium-1k-v0"
    said = capsys.readouterr().out
    for words in ("1,000 transitions", "mean return", str(path), "minari.load_dataset", "Pair("):
        assert words in said
    flat = read_dataset(path)
    check_flat(flat, shiftgym.domain("hopper"))
    own = told(path)["shiftgym"]
    assert own["seed"] == collecting.name_seed("shiftgym/hopper/medium-1k-v0")
    (behaviour,) = own["behaviours"]
    assert behaviour["policy"] == "hopper/medium" and behaviour["streams"] == 8
    assert behaviour["training"]["step"] == "7" and behaviour["stands_for"] is None
    assert own["policies"] == {"hopper/medium": policies.index()["hopper/medium"]["sha256"]}
    dataset = minari.load_dataset("shiftgym/hopper/medium-1k-v0")
    assert dataset.total_steps == 1_000
    episode = next(iter(dataset))
    env = dataset.recover_environment()
    observation, _ = env.reset(seed=int(told_seed(path)))
    assert np.array_equal(np.float32(observation), episode.observations[0])
    observation, *_ = env.step(episode.actions[0])
    assert np.array_equal(np.float32(observation), episode.observations[1])
    assert len(visible(root)) == 1 + 1  # and Minari's note on the namespace
    assert not list(root.glob("shiftgym/hopper/.*.making*"))


def told_seed(path: Path) -> int:
    import h5py

    with h5py.File(path / DATA) as file:
        return file["episode_0"].attrs["seed"]


def test_mixtures_have_equal_shares(root: Path, packaged: Path) -> None:
    for quality, count in (("medium-expert", 2), ("medium-replay", 9), ("random", 1)):
        assert main(["data", "make", f"hopper/{quality}", "--size", "900"]) == 0
        path = root / "shiftgym" / "hopper" / f"{quality}-900-v0"
        behaviours = told(path)["shiftgym"]["behaviours"]
        assert [b["transitions"] for b in behaviours] == [900 // count] * count
        ends = np.cumsum([b["transitions"] for b in behaviours])
        assert set(ends) <= set(episode_bounds(read_dataset(path)))


def test_a_best_policy_stands_in_for_an_expert_and_that_is_told(
    root: Path, packaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "make", "hopper-kinematic/medium-expert", "--streams", "16"]) == 0
    assert "hopper-kinematic/best stands in for expert" in capsys.readouterr().out
    path = root / "shiftgym" / "hopper-kinematic" / "medium-expert-v0"
    behaviours = told(path)["shiftgym"]["behaviours"]
    assert [b["policy"] for b in behaviours] == [
        "hopper-kinematic/medium",
        "hopper-kinematic/best",
    ]
    assert [b["stands_for"] for b in behaviours] == [None, "expert"]
    assert told(path)["total_steps"] == 5_000


def test_what_is_missing_is_named_with_what_there_is(packaged: Path) -> None:
    name = dataset_name("hopper-kinematic/medium-replay")
    with pytest.raises(shiftgym.ShiftgymError) as caught:
        wanted_policies(name)
    text = str(caught.value)
    assert "hopper-kinematic/ladder-0" in text and "Packaged for hopper-kinematic:" in text
    assert "hopper/expert" in text and "policies train --robot hopper" in text
    with pytest.raises(shiftgym.ShiftgymError, match="train-hands"):
        wanted_policies(dataset_name("pen/medium"))
    with pytest.raises(shiftgym.ShiftgymError, match="data import"):
        wanted_policies(dataset_name("pen/human"))
    with pytest.raises(shiftgym.ShiftgymError, match="Did you mean 'hopper/expert'"):
        wanted_policies(name, ["hopper/exprt"])


def test_any_policy_in_any_domain_of_ones_own(root: Path, packaged: Path, tmp_path: Path) -> None:
    own = tmp_path / "my.toml"
    own.write_text("[hopper.slippery]\ngeom.foot_geom.friction = { scale = 0.1 }\n")
    file = policy_file(tmp_path, "hopper", 99)
    command = ["data", "make", "hopper-slippery/medium", "--domain-file", str(own)]
    assert main([*command, "--policy", file, "hopper/expert", "--size", "300", "--seed", "5"]) == 0
    path = root / "shiftgym" / "hopper-slippery" / "medium-300-v0"
    assert list(told(path)["shiftgym"]["policies"]) == ["hopper-99.safetensors", "hopper/expert"]
    assert str(tmp_path) not in (path / "data" / "metadata.json").read_text()
    assert told(path)["shiftgym"]["seed"] == 5
    assert minari.load_dataset(f"shiftgym/hopper-slippery/{path.name}").recover_environment()
    assert main(["data", "make", "hopper-friction-x0p37/random-200"]) == 0


def test_bad_usage_is_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (["hopper/random-5k", "--size", "4k"], "--size says 4,000"),
        (["hopper/random", "--size", "many"], "no size"),
        (["hopper/randon"], "Did you mean 'random'"),
        (["hopper/random", "--size", "10", "--seed", "-1"], "seed"),
        (["hopper/random", "--size", "1t"], "no size"),
    ):
        assert main(["data", "make", *arguments]) in (1, 2)
        assert words in capsys.readouterr().err
    assert not visible(root)


def test_made_already_or_otherwise(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["data", "make", "hopper/random", "--size", "300"]
    assert main(command) == 0
    path = root / "shiftgym" / "hopper" / "random-300-v0"
    before = (path / DATA).stat().st_mtime_ns
    assert main(command) == 0 and "made already" in capsys.readouterr().out
    assert main([*command, "--seed", "3"]) == 1
    assert "with other seed" in capsys.readouterr().err
    assert (path / DATA).stat().st_mtime_ns == before
    assert main([*command, "--seed", "3", "--replace"]) == 0
    assert told(path)["shiftgym"]["seed"] == 3


def start(*arguments: str, first: str = "") -> subprocess.Popen[str]:
    code = f"{first}\nimport sys; {SMALL_BLOCKS}; from shiftgym.cli import main; sys.exit(main())"
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", code, "data", "make", *arguments]
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)


def wait_for(pattern: str, root: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a file is there."""
    until = time.monotonic() + 300
    while not list(root.glob(pattern)):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.01)


def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(root: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    assert main(["data", "make", *SMALL, "--root", str(whole)]) == 0
    for pattern, first in (
        (f"{WORK}/plan.json", ""),
        (f"{WORK}/block-00001*", ""),
        ("shiftgym/hopper/.random-4k-v0.new-*/data/main_data.hdf5", SLOW_WRITING),
    ):
        process = start(*SMALL, first=first)
        wait_for(pattern, root, process)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert minari.list_local_datasets() == {} and not visible(root)
    assert main(["data", "make", *SMALL]) == 0
    made = [place / "shiftgym/hopper/random-4k-v0" for place in (whole, root)]
    assert digest(made[0] / DATA) == digest(made[1] / DATA)
    assert told(made[0]) == told(made[1])
    left = {path.name for path in (root / "shiftgym/hopper").iterdir()}
    assert not [name for name in left if "making" in name or "new-" in name]


def test_ctrl_c_keeps_what_was_collected(root: Path) -> None:
    process = start(*SMALL)
    wait_for(f"{WORK}/block-00000*", root, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1 and "run the same command again" in said
    assert not visible(root)


def test_the_second_at_one_name_says_who_is_first_or_waits(root: Path) -> None:
    first = start(*SMALL)
    wait_for(f"{WORK}/plan.json", root, first)
    first.send_signal(signal.SIGSTOP)
    second = start(*SMALL)
    _, said = second.communicate(timeout=120)
    assert second.returncode == 1 and f"process {first.pid} on" in said
    third = start(*SMALL, "--wait")
    first.send_signal(signal.SIGCONT)
    assert "4,000 transitions" in first.communicate(timeout=300)[0]
    said, _ = third.communicate(timeout=120)
    assert third.returncode == 0 and "made already" in said


def test_a_full_disk_is_told_and_keeps_what_was_collected(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(collecting, "BLOCK_ROWS", 100)
    command = ["data", "make", "hopper/random", "--size", "1k"]
    real, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(folders.os, "fsync", full)
    assert main(command) == 1
    assert "is full" in capsys.readouterr().err
    work = root / "shiftgym/hopper/.random-1k-v0.making"
    assert len(list(work.glob("block-*"))) == 3 and not list(work.glob(".block*"))
    monkeypatch.setattr(folders.os, "fsync", real)
    assert main(command) == 0 and len(visible(root)) == 2


def test_too_small_a_disk_is_told_before_anything_is_collected(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(folders.shutil, "disk_usage", lambda path: usage._replace(free=10_000_000))
    assert main(["data", "make", "hopper/random"]) == 1
    assert "is full" in capsys.readouterr().err and not visible(root)


def test_another_plan_starts_anew(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = dataset_name("hopper/random-300")
    target = root / name.minari
    jobs = [making.plan_job(name, seed=seed) for seed in (1, 1, 2)]
    work = making.work_folder(jobs[0], target)
    (work / "block-00000.safetensors").touch()
    assert len(list(making.work_folder(jobs[1], target).glob("block-*"))) == 1
    assert not list(making.work_folder(jobs[2], target).glob("block-*"))

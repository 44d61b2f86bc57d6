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
from shiftgym.datasets.tiers import TIERS, ladder_faults
from shiftgym_agents.training.artifacts import write_arrays
from shiftgym_tools.making import collect as collecting
from shiftgym_tools.making import jobs
from shiftgym_tools.making import make as making
from shiftgym_tools.making.recipes import wanted_policies

DATA = "data/main_data.hdf5"
SMALL_BLOCKS = "from shiftgym_tools import collect; collect.BLOCK_ROWS = 1000"
SLOW_WRITING = """
import time
from shiftgym.datasets.hdf5 import EpisodeWriter
write = EpisodeWriter.write
EpisodeWriter.write = lambda *arguments: (time.sleep(0.1), write(*arguments))
"""
SMALL = ("hopper/random", "--size", "4k", "--streams", "16")
NAME = "random-4k-made_streams16-v0"
WORK = f"shiftgym/hopper/.{NAME}.making"


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
    tiers = [f"hopper/{tier}" for tier in ("medium", "expert", *TIERS["medium-replay"][1:])]
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
    assert main(["data", "make", "hopper/medium", "--size", "1k"]) == 0
    path = root / "shiftgym" / "hopper" / "medium-1k-v0"
    said = capsys.readouterr().out
    for words in ("1,000 transitions", "mean return", str(path), "minari.load_dataset", "Pair("):
        assert words in said
    flat = read_dataset(path)
    check_flat(flat, shiftgym.domain("hopper"))
    own = told(path)["shiftgym"]
    assert own["seed"] == collecting.name_seed("shiftgym/hopper/medium-1k-v0")
    (behaviour,) = own["behaviours"]
    assert behaviour["policy"] == "hopper/medium" and behaviour["streams"] == 1
    assert behaviour["training"]["step"] == "7" and own["rows"] == [1_000]
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
    for quality, count in (("medium-expert", 2), ("medium-replay", 10), ("random", 1)):
        assert main(["data", "make", f"hopper/{quality}", "--size", "900", "--threads", "1"]) == 0
        path = root / "shiftgym" / "hopper" / f"{quality}-900-v0"
        behaviours = told(path)["shiftgym"]["behaviours"]
        assert [b["transitions"] for b in behaviours] == [900 // count] * count
        ends = np.cumsum([b["transitions"] for b in behaviours])
        assert set(ends) <= set(episode_bounds(read_dataset(path)))


def test_where_no_policy_is_an_expert_the_best_is_called_best(
    root: Path, packaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "make", "hopper-kinematic/medium-expert"]) == 1
    said = capsys.readouterr().err
    assert "hopper-kinematic has no medium-expert" in said
    assert "hopper-kinematic/medium-best" in said
    with pytest.raises(shiftgym.ShiftgymError, match="Its set is hopper-kinematic/best"):
        shiftgym.load("hopper-kinematic/expert-300")
    with pytest.raises(shiftgym.ShiftgymError, match="a policy reaches.* hopper/expert-300"):
        shiftgym.load("hopper/best-300")
    assert main(["data", "make", "hopper-kinematic/best", "--size", "300"]) == 0
    path = root / "shiftgym" / "hopper-kinematic" / "best-300-v0"
    assert list(told(path)["shiftgym"]["policies"]) == ["hopper-kinematic/best"]
    assert len(shiftgym.load("hopper-kinematic/best-300")["rewards"]) == 300
    own = ["hopper-kinematic/expert", "--size", "300", "--policy", "hopper/expert"]
    assert main(["data", "make", *own]) == 0
    assert (path.parent / "expert-300-made_hopper_expert-v0").exists()


def test_medium_replay_is_one_training_from_random_to_medium(
    root: Path, packaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = dataset_name("hopper/medium-replay")
    assert name.size == dataset_name("hopper-kinematic/medium-replay").size == 500_000
    ladder = [f"hopper/ladder-{rung}" for rung in range(8)]
    assert wanted_policies(name) == ["random", *ladder, "hopper/medium"]
    index = json.loads((packaged / "index.json").read_text())
    source = policies.load_policy("hopper/medium")
    path = packaged / "copy.safetensors"  # the same weights, told of otherwise
    write_arrays(path, source.arrays, source.metadata | {"tier": "ladder-7", "step": "9"})
    index["hopper/ladder-7"] = {"file": path.name, "sha256": digest(path)}
    (packaged / "index.json").write_text(json.dumps(index))
    policies.index.cache_clear()
    policies.load_policy.cache_clear()
    assert wanted_policies(name) == ["random", *ladder]
    assert ladder_faults(name.domain) == ["The ladder of hopper is not in order of training."]
    assert ladder_faults(shiftgym.domain("hopper-kinematic")) == []


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
    assert (
        main(
            [
                *command,
                "--policy",
                file,
                "hopper/expert",
                "--size",
                "300",
                "--seed",
                "5",
                "--name",
                "Mine",
            ]
        )
        == 0
    )
    path = root / "shiftgym" / "hopper-slippery" / "medium-300-made_mine-v0"
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


def test_made_already_or_otherwise(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["data", "make", "hopper/random", "--size", "300"]
    assert main(command) == 0
    path = root / "shiftgym" / "hopper" / "random-300-v0"
    before = (path / DATA).stat().st_mtime_ns
    assert main(command) == 0 and "made already" in capsys.readouterr().out
    assert main([*command, "--seed", "3"]) == 0
    assert "so called hopper/random-300-made_seed3" in capsys.readouterr().out
    other = path.with_name("random-300-made_seed3-v0")
    assert told(other)["shiftgym"]["seed"] == 3 and told(path)["shiftgym"]["seed"] != 3
    assert main([*command, "--seed", "4", "--name", "seed3"]) == 1
    assert "with other seed" in capsys.readouterr().err
    assert main([*command, "--seed", "4", "--name", "seed3", "--replace"]) == 0
    assert told(other)["shiftgym"]["seed"] == 4
    assert (path / DATA).stat().st_mtime_ns == before
    file = policy_file(tmp_path, "hopper", 1)
    assert main([*command, "--policy", file, "random", "--streams", "2"]) == 0
    made = "hopper/random-300-made_hopper_1_random_streams2"
    capsys.readouterr()
    assert main(["data", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows[made]["where"] == "installed" and rows[made]["quality"] == "random"
    pair = shiftgym.Pair(made, "hopper/random-300-made_seed3")
    assert len(pair.source["rewards"]) == len(pair.target["rewards"]) == 300
    minari.load_dataset(f"shiftgym/{made}-v0")
    assert main([*command, "--name", "two words"]) == 2


def test_another_engine_makes_sets_of_another_name(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shiftgym.engine import mujoco

    name = dataset_name("hopper/random-300")
    same = jobs.plan_job(name)
    for version, made in (
        ("3.17.4", ""),
        ("3.18.0", "made_mujoco3_18"),
        ("4.0.1", "made_mujoco4_0"),
    ):
        monkeypatch.setattr(mujoco, "__version__", version)
        job = jobs.plan_job(name)
        assert (job.name.made, job.seed) == (made, same.seed)
    assert main(["data", "make", "hopper/random", "--size", "300"]) == 0
    assert (root / "shiftgym/hopper/random-300-made_mujoco4_0-v0").exists()


def test_long_words_are_cut_and_stay_apart() -> None:
    words = [jobs.made_otherwise(["hopper/expert", *["random"] * n], 5, None) for n in (9, 10)]
    assert len(set(words)) == 2
    for word in words:
        assert dataset_name(f"hopper/medium-5k-{word}").made == word


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
        (f"shiftgym/hopper/.{NAME}.new-*/data/main_data.hdf5", SLOW_WRITING),
    ):
        process = start(*SMALL, first=first)
        wait_for(pattern, root, process)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert minari.list_local_datasets() == {} and not visible(root)
    assert main(["data", "make", *SMALL]) == 0
    made = [place / "shiftgym/hopper" / NAME for place in (whole, root)]
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
    planned = [jobs.plan_job(name, seed=seed) for seed in (1, 1, 2)]
    work = making.work_folder(planned[0], target)
    (work / "block-00000.safetensors").touch()
    assert len(list(making.work_folder(planned[1], target).glob("block-*"))) == 1
    assert not list(making.work_folder(planned[2], target).glob("block-*"))

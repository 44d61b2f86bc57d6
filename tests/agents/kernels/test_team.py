"""Test the kernels' threads: every task once, the same bytes whatever their number, none left."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from agent_helpers import make_agent, small, train

from shiftgym_agents.core.nets import Net
from shiftgym_agents.core.networks import run_generators
from shiftgym_agents.kernels import building, native

RACE = Path(__file__).with_name("race.cpp")


@pytest.fixture(autouse=True)
def kernels() -> Iterator[None]:
    """Skip where there are no kernels, and put the number of threads back."""
    try:
        native.load()
    except native.NativeUnavailableError as error:
        pytest.skip(str(error))
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def race(folder: Path, *flags: str) -> Path:
    command = [building._compiler(), "-std=c++20", "-pthread", *flags]
    command += [f"-I{native.SOURCE.parent}", str(RACE), "-o", str(folder / "race")]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(done.stderr[-300:])
    return folder / "race"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return race(tmp_path_factory.mktemp("plain"), "-O2")


@pytest.mark.parametrize(("threads", "rounds"), [(2, 40_000), (4, 40_000), (16, 120_000)])
def test_every_task_runs_once_and_is_done_when_the_round_is(
    threads: int, rounds: int, plain: Path
) -> None:
    done = subprocess.run([plain, str(threads), str(rounds)], capture_output=True, text=True)
    assert done.returncode == 0 and ": 0 wrong" in done.stdout, done.stdout


def test_a_thread_sanitizer_sees_no_race(tmp_path: Path) -> None:
    program = race(tmp_path, "-O1", "-g", "-fsanitize=thread")
    done = subprocess.run([program, "4", "1500"], capture_output=True, text=True)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("the thread sanitizer does not run here")
    assert done.returncode == 0 and ": 0 wrong" in done.stdout, done.stderr[-3000:]


def test_training_gives_the_same_bytes_with_any_number_of_threads() -> None:
    found = {}
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        config = small("iql", steps=100, width=48, batch=80)
        found[threads] = train(make_agent("iql", config, runs=3, fast=True), 100, "captured").save()
    for threads in (2, 4):
        for key, array in found[1].items():
            assert array.tobytes() == found[threads][key].tobytes(), (threads, key)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_threads_end_with_their_team() -> None:
    net = Net((3, 32, 2), run_generators(range(4)))
    net.native = True
    x = torch.ones(4, 8, 3)
    before = len(os.listdir("/proc/self/task"))
    for turn in range(60):
        torch.set_num_threads(2 + turn % 2)
        with torch.no_grad():
            net(x)
    assert len(os.listdir("/proc/self/task")) <= before + 2


def test_while_kernels_train_pytorch_takes_one_thread_and_gets_the_rest_back() -> None:
    torch.set_num_threads(3)
    with pytest.raises(KeyError), native.undisturbed():
        assert torch.get_num_threads() == 1 and native.threads() == 3
        with native.undisturbed():
            assert native.threads() == 3
        raise KeyError
    assert torch.get_num_threads() == native.threads() == 3

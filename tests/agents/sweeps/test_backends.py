"""Test that one grid gives the same results whoever trains it, and whoever is killed meanwhile."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from sweep_helpers import HOW, PATIENCE, facts, finished, meanwhile, planned, run, until, write_grid

from shiftgym.cli import main
from shiftgym_agents.reports.results import read_results
from shiftgym_agents.sweeps.backends.base import Room
from shiftgym_agents.sweeps.plan import FAILURE
from shiftgym_agents.sweeps.work import MARK, train_group


def test_processes_train_every_group_once(local: dict[str, Any]) -> None:
    assert len(local) == 24
    assert all(told["count"] == 40 and len(told["result"]) == 1 for told in local.values())


def test_what_is_collected_is_what_the_directories_say(
    grid: Path, trained: Path, local: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", str(grid), "--out", str(trained), "--collect"]) == 0
    results = read_results(trained / "tiny.csv")
    assert len(results.rows) == 24 * 2  # evaluations
    for row in results.rows:
        if row["updates"] == 40:
            (run_,) = local[row["group"]]["result"]
            assert row["return"] == pytest.approx(run_["return"], abs=1e-3)
            assert (row["target"], row["seed"]) == (run_["target"], run_["seed"])
    told = results.about["groups"]
    assert all(
        each["versions"]["torch"] and each["machine"]["threads"] == 1 for each in told.values()
    )
    assert set(results.about["targets"]) == {"hopper-kinematic/medium", "hopper-morph/medium"}
    capsys.readouterr()
    assert main(["leaderboard", str(trained / "tiny.csv")]) == 0
    assert main(["report", str(trained / "tiny.csv"), "--json"]) == 0
    assert main(["sweep", str(grid), "--out", str(trained)]) == 0  # nothing is left to train
    assert "24 groups: 24 done." in capsys.readouterr().out


@pytest.mark.ray
def test_ray_gives_the_same_also_when_a_raylet_is_killed(
    grid: Path, local: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    from ray.cluster_utils import Cluster

    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500}
    quick |= {"health_check_failure_threshold": 4, "worker_niceness": 0}
    node = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_log_monitor": False}
    head = {"include_dashboard": False, "no_monitor": True, "_system_config": quick}
    cluster = Cluster(initialize_head=True, head_node_args=node | head)
    second = cluster.add_node(**node)
    raylet = second.all_processes["raylet"][0].process.pid
    room = Room("ray", address=cluster.address, threads=1)
    try:
        with meanwhile(lambda: finished(tmp_path) >= 4, lambda: os.kill(raylet, signal.SIGKILL)):
            board = run(grid, tmp_path, room)
    finally:
        cluster.shutdown()
    assert board.summary() == "24 groups: 24 done."
    assert facts(tmp_path) == local


@pytest.mark.slurm
def test_tasks_of_submitit_give_the_same(grid: Path, local: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="the extra [slurm] is not installed")
    board = run(grid, tmp_path, Room("slurm-local", per_task=12))
    assert board.summary() == "24 groups: 24 done."
    assert facts(tmp_path) == local


def drive_apart(grid: Path, out: Path) -> None:
    run(grid, out, Room(jobs=2))


@pytest.mark.slurm
def test_a_killed_driver_s_sweep_goes_on_with_another_backend(
    grid: Path, local: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("submitit", reason="the extra [slurm] is not installed")
    driver = multiprocessing.get_context("spawn").Process(target=drive_apart, args=(grid, tmp_path))
    driver.start()
    until(lambda: finished(tmp_path) >= 4)
    os.kill(driver.pid or 0, signal.SIGKILL)
    driver.join()
    done = sum(each.state == "done" for each in planned(grid, tmp_path).groups)
    assert 4 <= done < 24
    run(grid, tmp_path, Room("slurm-local", per_task=24))
    assert facts(tmp_path) == local


def test_a_killed_worker_goes_on_and_a_failed_group_stops_nobody(
    grid: Path, local: dict[str, Any], tmp_path: Path
) -> None:
    first, second, third = planned(grid, tmp_path, seeds=1, methods=["bc", "iql-target"]).groups[:3]
    third.out.mkdir(parents=True)
    (third.out / "metrics.csv").mkdir()  # nothing can be written there

    def kill() -> None:
        for child in multiprocessing.active_children():
            os.kill(child.pid or 0, signal.SIGKILL)

    with meanwhile((second.out / "state.json").exists, kill):
        board = run(grid, tmp_path, Room(jobs=1), seeds=1, methods=["bc", "iql-target"])
    states = {key: line.state for key, line in board.lines.items()}
    assert states.pop(third.group.key) == "failed" and set(states.values()) == {"done"}
    assert str(third.out) in board.summary() and (third.out / FAILURE).exists()
    (third.out / "metrics.csv").rmdir()
    run(grid, tmp_path, Room(jobs=1), seeds=1, methods=["bc", "iql-target"])
    assert all(told == local[key] for key, told in facts(tmp_path).items())


def test_ctrl_c_checkpoints_and_the_sweep_goes_on(tmp_path: Path) -> None:
    """Through the command, as users stop it."""
    path = write_grid(tmp_path)
    words = [
        sys.executable,
        "-m",
        "shiftgym.cli",
        "sweep",
        str(path),
        "--out",
        str(tmp_path / "out"),
    ]
    words += ["--updates", "eager", "--device", "cpu", "--jobs", "1", "--methods", "bc"]
    words += ["--set", "seeds=1", "steps=100000", "every=50000"]
    going = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: list((tmp_path / "out").glob("*/started.json")))
    going.send_signal(signal.SIGINT)
    said, told = going.communicate(timeout=PATIENCE)
    assert going.returncode == 130 and "goes on" in told
    assert "stopped" in said
    (home,) = [each.parent for each in (tmp_path / "out").glob("*/state.json")]
    assert not (home / ".lock").exists() and not (home / "result.json").exists()


def test_a_node_that_does_not_see_the_folder_says_so(grid: Path, tmp_path: Path) -> None:
    group = planned(grid, tmp_path).groups[0].group
    told = train_group(group.plain(), str(tmp_path / "elsewhere" / group.key), asdict(HOW))
    assert told["state"] == "failed" and "every node" in told["reason"]
    assert not (tmp_path / "elsewhere").exists() and not (tmp_path / MARK).exists()

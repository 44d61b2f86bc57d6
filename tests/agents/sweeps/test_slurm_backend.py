"""Test what is asked of Slurm and understood of its answers, with its commands acted out."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from sweep_helpers import HOW, planned

from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.sweeps.backends import queue as queues
from shiftgym_agents.sweeps.backends import slurm
from shiftgym_agents.sweeps.backends.base import Job, Room
from shiftgym_agents.sweeps.backends.slurm_options import minutes, read_options
from shiftgym_agents.sweeps.plan import FAILURE, LOG
from shiftgym_agents.sweeps.work import OURS, Outcome, train_group
from shiftgym_agents.training.artifacts import LOCK

SCRIPTS = {
    "srun": "",
    "scontrol": 'echo "MaxArraySize            = $(cat largest)"',
    "sbatch": """
        [ -s refuse ] && { cat refuse >&2; exit 1; }
        id=$(($(cat jobs) + 1)); echo $id > jobs
        cp "$1" script.$id; env > env.$id
        echo "Submitted batch job $id" """,
    "squeue": "[ -s away ] && { cat away >&2; exit 1; }; cat queue",
    "sacct": "[ -s accounts ] && cat accounts",
    "scancel": 'echo "$@" >> cancelled',
}


class Acted:
    """Act Slurm's commands out: files say what they answer, and hold what they were given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, text in SCRIPTS.items():
            path = folder / name
            path.write_text(f"#!/bin/sh\ncd '{folder}'\n{text}\n")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        for name in ("queue", "cancelled"):
            (folder / name).touch()
        self.says(largest="1001", jobs="0")

    def says(self, **texts: str) -> None:
        for name, text in texts.items():
            (self.folder / name).write_text(text)

    def read(self, name: str) -> str:
        return (self.folder / name).read_text()

    @property
    def submitted(self) -> int:
        return int(self.read("jobs"))

    def flags(self, job: int = 1) -> list[str]:
        lines = self.read(f"script.{job}").splitlines()
        return [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")]


@pytest.fixture
def acted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Acted:
    pytest.importorskip("submitit", reason="the extra [slurm] is not installed")
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(queues, "SOONEST", 0.0)
    monkeypatch.setattr(slurm, "GRACE", 0.0)
    monkeypatch.setattr(slurm, "SETTLING", 0.0)
    return Acted(folder)


def jobs_of(out: Path, count: int) -> list[Job]:
    found = [Job(f"group-{k}", {}, str(out / f"group-{k}"), {}) for k in range(count)]
    for job in found:
        Path(job.out).mkdir(parents=True)
    return found


def begin(
    out: Path, count: int, told: list[str] | None = None, **room: Any
) -> tuple[slurm.SlurmBackend, list[Job]]:
    tell = (told if told is not None else []).append
    engine = slurm.SlurmBackend(Room("slurm", **room), out, tell=tell)
    jobs = jobs_of(out, count)
    engine.start(jobs)
    return engine, jobs


def write(job: Job, name: str, text: str = "{}") -> None:
    (Path(job.out) / name).write_text(text)


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 90), ("90:01", 91), ("1:30:00", 90), ("12:00:00", 720), ("2-12", 3600),
        ("2-12:30", 3630), ("2-00:00:30", 2881), ("0:30", 1),
    ],
)  # fmt: skip
def test_times_are_those_of_sbatch(text: str, expected: int) -> None:
    assert minutes(text) == expected


@pytest.mark.parametrize(
    ("texts", "hint"),
    [
        (["time=soon"], "time=12:00:00"), (["time=0"], "a minute"), (["partition"], "name=value"),
        (["timeout_min=1.5"], "whole number"), (["mem_gb=much"], "a number above"),
        (["array=0-3"], "--per-task"), (["slurm_cpus_per_task=4"], "--threads"),
        (["ntasks=2"], "one process"), (["gpus-per-node=1"], "--gpus"),
    ],
)  # fmt: skip
def test_values_that_are_none_are_refused_with_what_to_write(texts: list[str], hint: str) -> None:
    with pytest.raises(ShiftgymError, match=hint):
        read_options(texts)


def test_options_reach_sbatch_under_their_own_names(acted: Acted, tmp_path: Path) -> None:
    options = ("partition=gpu", "slurm_account=007", "time=1-0", "mem_gb=7.5", "gres=gpu:a100:1")
    options += ("setup=module load cuda", "setup=export A=1", "exclusive=true", "reservation=r 1")
    begin(tmp_path / "out", 2, slurm=options, threads=4, gpus=2.0)
    flags = acted.flags()
    expected = {
        "--partition=gpu", "--account=007", "--time=1440", "--mem=7680MB", "--gres=gpu:a100:1",
        "--exclusive", "--reservation='r 1'", "--cpus-per-task=4", "--gpus-per-node=2",
        "--requeue", "--job-name=shiftgym", "--array=0-1%2",
    }  # fmt: skip
    assert expected <= set(flags)
    script = acted.read("script.1")
    assert "module load cuda\nexport A=1\n" in script
    assert "srun" in script and "--cpus-per-task=4 " in script.partition("# command")[2]


def test_a_part_of_a_gpu_is_refused_and_not_rounded(acted: Acted, tmp_path: Path) -> None:
    with pytest.raises(ShiftgymError, match="whole GPUs"):
        slurm.SlurmBackend(Room("slurm", gpus=0.25), tmp_path)
    assert acted.submitted == 0


def test_one_sees_at_once_that_there_is_no_slurm(
    acted: Acted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acted.says(largest="")
    with pytest.raises(ShiftgymError, match="Slurm does not answer"):
        slurm.SlurmBackend(Room("slurm"), tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ShiftgymError, match="srun"):
        slurm.SlurmBackend(Room("slurm"), tmp_path)


# --- submitting -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("jobs", "throttles"), [(0, [30, 30]), (40, [20, 20]), (1, [1, 1])])
def test_more_tasks_than_an_array_takes_are_several_arrays(
    jobs: int, throttles: Sequence[int], acted: Acted, tmp_path: Path
) -> None:
    acted.says(largest="30")
    told: list[str] = []
    begin(tmp_path / "out", 60, told, jobs=jobs)
    arrays = [flag for job in (1, 2) for flag in acted.flags(job) if "--array" in flag]
    assert acted.submitted == 2
    assert arrays == [f"--array=0-29%{most}" for most in throttles]
    assert "60 tasks, job 1,2;" in told[0]


def test_a_refusal_is_an_error_with_slurm_s_words(acted: Acted, tmp_path: Path) -> None:
    acted.says(refuse="sbatch: error: invalid partition specified: nope\nsbatch: error: No such.")
    with pytest.raises(ShiftgymError, match="No such"):
        begin(tmp_path / "a", 2)
    acted.says(refuse="sbatch: error: Job violates policy (job submit limit, user's size)")
    with pytest.raises(ShiftgymError, match="submit limit.*--per-task"):
        begin(tmp_path / "b", 2)


def test_a_sweep_inside_a_job_does_not_hand_its_own_job_down(
    acted: Acted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", "here")
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    begin(tmp_path / "out", 1)
    given = acted.read("env.1").splitlines()
    assert [line for line in given if line.startswith("SLURM_")] == ["SLURM_CONF=here"]
    assert os.environ["SLURM_ARRAY_TASK_ID"] == "3"


def test_ctrl_c_does_not_reach_a_submission_that_is_under_way(
    acted: Acted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitit = pytest.importorskip("submitit", reason="the extra [slurm] is not installed")
    stops, blocked = {signal.SIGINT, signal.SIGTERM}, []
    submit = submitit.AutoExecutor.map_array

    def watched(*given: Any) -> Any:
        blocked.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))  # sbatch inherits it
        return submit(*given)

    monkeypatch.setattr(submitit.AutoExecutor, "map_array", watched)
    begin(tmp_path / "out", 1)
    assert len(blocked) == 1 and blocked[0] >= stops
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & stops


# --- what became of tasks -------------------------------------------------------------------------


def test_a_cancelled_task_tells_what_had_ended_and_stops_no_other(
    acted: Acted, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    write_before = jobs_of(out, 1)[0]
    write(write_before, FAILURE, "an old failure\n")
    engine = slurm.SlurmBackend(Room("slurm", per_task=4), out, tell=lambda _: None)
    jobs = [Job(f"group-{k}", {}, str(out / f"group-{k}"), {}) for k in range(8)]
    for job in jobs[1:]:
        Path(job.out).mkdir()
    engine.start(jobs)
    acted.says(queue="1_0|CANCELLED|None\n1_1|RUNNING|None\n")
    write(jobs[1], "result.json")
    write(jobs[2], FAILURE, "Traceback\nValueError: no\n")
    cancelled = Outcome("failed", "its job 1_0 was cancelled")
    assert engine.ended(0.0) == {
        "group-0": cancelled, "group-1": Outcome("done"),
        "group-2": Outcome("failed", "ValueError: no"), "group-3": cancelled,
    }  # fmt: skip
    assert engine.ended(0.0) == {} and acted.submitted == 1


def test_a_task_that_dies_goes_on_and_one_group_that_kills_it_does_not_take_the_rest_along(
    acted: Acted, tmp_path: Path
) -> None:
    engine, jobs = begin(tmp_path / "out", 3, per_task=3, retries=1)
    write(jobs[0], "result.json")
    write(jobs[1], LOG, "began\n")
    acted.says(queue="1|OUT_OF_MEMORY|OutOfMemory\n")
    assert engine.ended(0.0) == {"group-0": Outcome("done")} and acted.submitted == 2
    write(jobs[1], LOG, "began once more\n")
    (tmp_path / "out" / ".slurm" / "2_0_log.err").write_text("slurmstepd: oom-kill event\n")
    acted.says(queue="1|OUT_OF_MEMORY|OutOfMemory\n2|OUT_OF_MEMORY|OutOfMemory\n")
    (told,) = engine.ended(0.0).items()
    assert told[0] == "group-1" and told[1].state == "failed"
    assert "job 2 OUT_OF_MEMORY" in told[1].reason and "oom-kill event" in told[1].reason
    assert acted.submitted == 3  # the third group goes on without it
    acted.says(queue="3|COMPLETED|None\n")
    write(jobs[2], "result.json")
    assert engine.ended(0.0) == {"group-2": Outcome("done")}


def test_tasks_that_never_begin_are_not_tried_group_by_group(acted: Acted, tmp_path: Path) -> None:
    engine, _ = begin(tmp_path / "out", 5, per_task=5, retries=1)
    acted.says(queue="1|FAILED|NonZeroExitCode\n2|FAILED|NonZeroExitCode\n")
    found: dict[str, Outcome] = {}
    for _ in range(4):
        found |= engine.ended(0.0)
    assert len(found) == 5 and acted.submitted == 2
    assert all("job 2 FAILED" in outcome.reason for outcome in found.values())


def test_preemption_and_a_queue_that_does_not_answer_cost_no_try(
    acted: Acted, tmp_path: Path
) -> None:
    engine, _ = begin(tmp_path / "out", 1, retries=0)
    acted.says(away="slurm_load_jobs error: Unable to contact slurm controller")
    assert engine.ended(0.0) == {}
    acted.says(away="", queue="1|PREEMPTED|None\n")
    assert engine.ended(0.0) == {} and acted.submitted == 2
    acted.says(queue="2|PENDING|BeginTime\n")  # put back by Slurm itself
    assert engine.ended(0.0) == {} and acted.submitted == 2


@pytest.mark.parametrize(
    ("accounts", "reason"),
    [("1_1|CANCELLED by 1000\n", "was cancelled"), ("", "is unknown to Slurm")],
)
def test_what_squeue_has_forgotten_is_asked_of_the_accounts(
    accounts: str, reason: str, acted: Acted, tmp_path: Path
) -> None:
    """Slurm forgets a task at once that is cancelled before it began."""
    engine, _ = begin(tmp_path / "out", 2)
    acted.says(queue="1_0|RUNNING|None\n", accounts=accounts)
    found: dict[str, Outcome] = {}
    for _ in range(3):
        found |= engine.ended(0.0)
    assert list(found) == ["group-1"] and reason in found["group-1"].reason
    assert acted.submitted == 1


def test_a_wait_that_does_not_end_by_itself_is_told_once_and_how_to_end_it(
    acted: Acted, tmp_path: Path
) -> None:
    told: list[str] = []
    engine, _ = begin(tmp_path / "out", 3, told)
    acted.says(queue="1_0|RUNNING|None\n1_1|PENDING|Resources\n1_2|PENDING|PartitionTimeLimit\n")
    assert engine.ended(0.0) == engine.ended(0.0) == {}
    assert len(told) == 2 and "1 tasks wait: PartitionTimeLimit" in told[1]
    assert "--slurm time=" in told[1]


def test_stopping_cancels_everything_at_once_and_waits_until_it_is_gone(
    acted: Acted, tmp_path: Path
) -> None:
    acted.says(largest="2")
    engine, jobs = begin(tmp_path / "out", 3)
    write(jobs[0], "config.json")
    acted.says(queue="1_0|CANCELLED|None\n1_1|CANCELLED|None\n2|CANCELLED|None\n")
    assert engine.stop() == {
        "group-0": Outcome("stopped", "after a checkpoint"),
        "group-1": Outcome("stopped", "before it had begun"),
        "group-2": Outcome("stopped", "before it had begun"),
    }
    assert acted.read("cancelled") == "1_0 1_1 2\n"


def test_what_slurm_does_not_end_is_named(
    acted: Acted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "PATIENCE", 0.1)
    told: list[str] = []
    engine, _ = begin(tmp_path / "out", 1, told)
    acted.says(queue="1|RUNNING|None\n")
    assert engine.stop()["group-0"].state == "stopped"
    assert "scancel 1" in told[-1]


def test_slurm_is_asked_ever_less_often_while_nothing_happens(
    acted: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "SOONEST", 2.0)
    clock, asked = [0.0], []

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        asked.append(clock[0])
        return subprocess.CompletedProcess(words, 0, "1|RUNNING|None\n", "")

    monkeypatch.setattr(queues.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(queues, "command", command)
    task = type("Task", (), {"job_id": "1"})()
    queue = queues.SlurmQueue()
    for second in range(3600):
        clock[0] = float(second)
        queue.look([task])
    assert asked[:3] == [0.0, 2.0, 5.0] and 60 < len(asked) < 75
    queue.look([task], now=True)
    assert asked[-1] == 3599.0


# --- on the node ----------------------------------------------------------------------------------


def test_a_task_that_is_asked_to_stop_leaves_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that one that Slurm begins again later is waited for."""
    before = signal.getsignal(signal.SIGTERM)
    jobs, trained = jobs_of(tmp_path, 3), []

    def stop(group: Any, out: str, how: Any) -> dict[str, str]:
        trained.append(out)
        if len(trained) == 2:
            os.kill(os.getpid(), signal.SIGTERM)  # between two trainings
        return asdict(Outcome("done"))

    monkeypatch.setattr(slurm, "train_group", stop)
    try:
        with pytest.raises(SystemExit):
            slurm.Task()(jobs)
        assert len(trained) == 2
        monkeypatch.setattr(slurm, "train_group", lambda *_: asdict(Outcome("stopped")))
        with pytest.raises(SystemExit):
            slurm.Task()(jobs)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_second_worker_waits_until_the_first_is_through(
    grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while the first reads its data, before its training holds the directory."""
    import shiftgym_agents.sweeps.work as work

    each = planned(grid, tmp_path).groups[0]
    held: list[bool] = []

    class Trains:
        stages, backend = (), "eager"

        def run(self) -> bool:
            return True

    def make(group: Any, home: Path, how: Any) -> Trains:
        held.append((home / OURS).exists() and not (home / LOCK).exists())
        return Trains()

    (tmp_path / work.MARK).write_text("{}")
    monkeypatch.setattr(work, "make_trainer", make)
    told = train_group(each.group.plain(), str(each.out), asdict(HOW))
    assert told["state"] == "done" and held == [True]
    assert not (each.out / OURS).exists()

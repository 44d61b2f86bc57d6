"""A run directory has one writer, any number of readers, and damage to it is one sentence."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from agent_helpers import make_pair, make_trainer, small
from safetensors.numpy import load_file, save_file

import shiftgym
from shiftgym.basics.errors import ShiftgymError
from shiftgym.cli import main
from shiftgym.datasets.locks import acquire, release
from shiftgym.scores import reference
from shiftgym_agents.data.pairs import ArrayPair
from shiftgym_agents.evaluation.robustness import read_subject
from shiftgym_agents.methods.table import settings
from shiftgym_agents.reports.report import draw_curves, overall, read_groups, read_run, table
from shiftgym_agents.training import artifacts
from shiftgym_agents.training.artifacts import owned, read_checkpoint, write_checkpoint, write_json
from shiftgym_agents.training.metrics import Metrics
from shiftgym_agents.training.run_config import TrainOptions
from shiftgym_agents.training.trainer import Trainer


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "bc"
    assert make_trainer("bc", out, steps=80).run()
    return out


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


# --- one writer -----------------------------------------------------------------------------------


def test_a_second_training_is_refused_with_who_holds_it(tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = make_trainer("bc", out)
    with pytest.raises(ShiftgymError, match=f"process {os.getpid()} on .* is at it already"):
        make_trainer("bc", out)
    with pytest.raises(ShiftgymError, match="is at it already"):
        make_trainer("bc", out, resume=True)
    assert first.run() and not (out / ".lock").exists()
    assert make_trainer("bc", out, resume=True).run()  # free again


def test_a_training_that_cannot_start_leaves_nothing_and_no_lock(tmp_path: Path) -> None:
    out = tmp_path / "run"
    for _ in range(2):
        with pytest.raises(ShiftgymError, match="is not there"):
            make_trainer("bc", out, device="cuda:9")
        assert not out.exists()


def test_what_killed_writers_left_is_removed_and_what_is_written_is_not(run: Path) -> None:
    left = [".checkpoint-000000000009.safetensors.tmp", ".state.json.new-0a1b2c3d"]
    for name in left:
        (run / name).write_text("half")
    going = run / ".metrics.csv.new-11111111"
    descriptor = acquire(going, "writing", wait=False)
    with owned(run):
        assert not any((run / name).exists() for name in left) and going.exists()
    release(descriptor, going)


def test_writers_of_one_file_never_meet(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for k in range(30):
                write_json(tmp_path / "x.json", {"writer": number, "k": k, "fill": "x" * 5000})
        except BaseException as error:
            failed.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not failed and json.loads((tmp_path / "x.json").read_text())["k"] == 29
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_a_reader_beside_a_writer_always_finds_a_checkpoint(tmp_path: Path) -> None:
    over = threading.Event()

    def write() -> None:
        for k in range(60):
            write_checkpoint(tmp_path, {"k": np.full(2000, k)}, {"count": k})
        over.set()

    write_checkpoint(tmp_path, {"k": np.full(2000, 0)}, {"count": 0})
    writer = threading.Thread(target=write)
    writer.start()
    while not over.is_set():
        found = read_checkpoint(tmp_path)
        assert found is not None and (found[0]["k"] == found[1]["count"]).all()
    writer.join()


# --- damage ---------------------------------------------------------------------------------------

STATE, CONFIG, METRICS = "state.json", "config.json", "metrics.csv"


def edited(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 64
    path.write_bytes(content)


def weights(run: Path) -> Path:
    (found,) = run.glob("checkpoint-*.safetensors")
    return found


def elsewhere(run: Path) -> None:
    shutil.copy(weights(run), run.parent / "checkpoint-000000000001.safetensors")
    edited(run / STATE, arrays="../checkpoint-000000000001.safetensors")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a flipped bit of the weights": lambda run: flip(weights(run)),
    "weights cut": lambda run: weights(run).write_bytes(weights(run).read_bytes()[:99]),
    "weights gone": lambda run: weights(run).unlink(),
    "weights outside": elsewhere,
    "weights of no name": lambda run: edited(run / STATE, arrays=None),
    "another count": lambda run: edited(run / STATE, count=3),
    "a list for a state": lambda run: (run / STATE).write_text("[]"),
    "deep JSON": lambda run: (run / STATE).write_text("[" * 200_000),
    "long digits": lambda run: (run / CONFIG).write_text("9" * 5000),
    "no UTF-8": lambda run: (run / CONFIG).write_bytes(b"\xff\xfe\x00"),
    "no runs": lambda run: edited(run / CONFIG, runs=[]),
    "runs of nothing": lambda run: edited(run / CONFIG, runs=[{}, {}]),
    "more runs": lambda run: edited(
        run / CONFIG, runs=json.loads((run / CONFIG).read_text())["runs"] * 2
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_one_sentence_for_who_reads_policies(run: Path, damage: str) -> None:
    read_subject(run)
    DAMAGES[damage](run)
    with pytest.raises(ShiftgymError, match="damaged|Cannot read"):
        read_subject(run)


def metrics_of(run: Path, change: Callable[[list[list[str]]], object]) -> None:
    with open(run / METRICS, newline="") as file:
        rows = list(csv.reader(file))
    change(rows)
    with open(run / METRICS, "w", newline="") as file:
        csv.writer(file).writerows(rows)


TABLES: dict[str, Callable[[list[list[str]]], object]] = {
    "a word for a run": lambda rows: rows[1].__setitem__(2, "x"),
    "a run too many": lambda rows: rows[1].__setitem__(2, "7"),
    "another seed": lambda rows: rows[1].__setitem__(5, "99"),
    "a word for a return": lambda rows: rows[1].__setitem__(rows[0].index("return"), "x"),
    "infinite digits": lambda rows: rows[1].__setitem__(1, "9" * 5000),
    "a short row": lambda rows: rows[1].pop(),
    "a long row": lambda rows: rows[1].append("1"),
    "a column twice": lambda rows: rows[0].__setitem__(6, "return"),
    "no head": lambda rows: rows.pop(0),
}


@pytest.mark.parametrize("damage", TABLES)
def test_damage_is_one_sentence_for_who_reads_records(run: Path, damage: str) -> None:
    assert read_run(run)
    metrics_of(run, TABLES[damage])
    with pytest.raises(ShiftgymError, match="metrics.csv is damaged"):
        read_run(run)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"\x00" * 100, b'"' + b"x" * 200_000 + b"\n"])
def test_bytes_that_are_no_records_are_one_sentence(run: Path, content: bytes) -> None:
    (run / METRICS).write_bytes(content + (run / METRICS).read_bytes())
    with pytest.raises(ShiftgymError, match="metrics.csv is damaged"):
        read_run(run)


def test_resuming_without_the_records_is_refused(run: Path) -> None:
    (run / METRICS).unlink()
    with pytest.raises(ShiftgymError, match="not as the training left it"):
        make_trainer("bc", run, steps=80, resume=True)


def test_checkpoints_of_early_versions_are_read(run: Path) -> None:
    state = json.loads((run / STATE).read_text())
    del state["sha256"], state["arrays_sha256"]
    (run / STATE).write_text(json.dumps(state))
    assert read_subject(run).updates == 80
    arrays = load_file(weights(run))
    save_file({k: v for k, v in arrays.items() if not k.startswith("policy.b")}, weights(run))
    with pytest.raises(ShiftgymError, match="no policies"):
        read_subject(run)


# --- several directories --------------------------------------------------------------------------


def spoil(run: Path, seed: int) -> None:
    """Make one run's policy diverge, as a training would have written it."""
    found = read_checkpoint(run)
    assert found is not None
    arrays, state = dict(found[0]), {k: v for k, v in found[1].items() if "sha256" not in k}
    arrays["policy.W0"] = arrays["policy.W0"].copy()
    arrays["policy.W0"][seed] = np.nan
    write_checkpoint(run, arrays, state)


def test_a_bad_member_is_named_and_the_others_are_done(
    finished: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(run, 1)
    picture = tmp_path / "curves.png"
    picture.write_bytes(b"no run")
    outs = list(map(str, (finished, run, picture, finished)))
    assert main(["eval", *outs, "--episodes", "1", "--json"]) == 1
    said = capsys.readouterr()
    found = [(entry["out"], entry["seed"]) for entry in json.loads(said.out)]
    assert found == [(str(finished), 0), (str(finished), 1), (str(run), 0)]
    assert f"{run}: run 1 (seed 1) diverged" in said.err and str(picture) in said.err

    (run / METRICS).write_bytes((run / METRICS).read_bytes().splitlines(keepends=True)[0])
    assert main(["report", *outs, "--json"]) == 1
    said = capsys.readouterr()
    assert [entry["out"] for entry in json.loads(said.out)["runs"]] == [str(finished)]
    assert f"{run} holds no evaluation yet" in said.err and str(picture) in said.err


def test_perturbing_leaves_out_what_cannot_be(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    outs = [str(run), str(tmp_path / "nothing"), str(run)]
    command = ["eval", *outs, "--episodes", "1", "--json", "--perturb", "gravity"]
    assert main(command) == 1
    said = capsys.readouterr()
    assert len(json.loads(said.out)["runs"]) == 1 and "nothing" in said.err


def test_pairs_are_counted_by_what_was_measured(finished: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(finished, tmp_path / "copy"))
    other = tmp_path / "other"
    options = TrainOptions(
        out=other, device="cpu", evaluate_every=40, episodes=2, progress=False, threads=1
    )
    pair = dataclasses.replace(make_pair(1), names=("toy/source", "toy/third"))
    Trainer("bc", small("bc", steps=80), [pair], [5], options).run()
    assert not overall(read_groups([finished, copied]))
    (whole,) = overall(read_groups([finished, copied, other]))
    assert whole["pairs"] == 2 and whole["last"]["runs"] == 3


# --- what scores are ------------------------------------------------------------------------------


def test_arrays_are_scored_by_the_domains_reference() -> None:
    arrays, where = make_pair().source, shiftgym.domain("hopper-kinematic")
    pair = ArrayPair(arrays, arrays, where)
    assert pair.reference == reference(where) and pair.score(reference(where).expert) == 100
    own = shiftgym.make_domain("hopper", {"geom.foot_geom.friction": {"scale": 0.3}}, name="own")
    assert ArrayPair(arrays, arrays, own).score(5.0) is None
    assert ArrayPair(arrays, arrays, where, reference=None).score(5.0) is None
    with pytest.raises(ShiftgymError, match="otdf gives no reference"):
        ArrayPair(arrays, arrays, own, reference="otdf")  # pyright: ignore[reportArgumentType]


def test_returns_are_never_called_scores(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "own"
    options = TrainOptions(
        out=out, device="cpu", evaluate_every=40, episodes=1, progress=False, threads=1
    )
    pair = dataclasses.replace(make_pair(), reference=None)
    trainer = Trainer("bc", "ours", [pair], [0], options)
    trainer.close()
    shutil.rmtree(out)
    assert Trainer("bc", small("bc", steps=80), [pair], [0], options).run()
    result = json.loads((out / "result.json").read_text())["runs"][0]
    assert result["score"] is None and result["return"] is not None
    with open(out / METRICS, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["score"] for row in rows] == ["", ""] and all(row["return"] for row in rows)
    groups = read_groups([finished, out])
    assert [group.unit for group in groups] == ["score", "score", "return"][-len(groups) :]
    tables = table(groups).split("\n\n")
    assert len(tables) == 2 and "0 random, 100 expert" in tables[0] and "no reference" in tables[1]
    draw_curves(groups, tmp_path / "curves.png")
    assert not overall(groups)


@pytest.mark.parametrize("robot", ["hopper", "ant", "pen"])
def test_python_starts_from_what_the_command_starts_from(robot: str) -> None:
    for name in ("iql", "cql", "droco", "igdf", "dvdf-igdf"):
        for preset in ("ours", "official"):
            from shiftgym_agents.methods.table import method

            given = method(name).presets[preset].for_robot(robot)
            assert settings(name, robot, preset) == given
    assert settings("iql", "pen", steps=7).steps == 7
    with pytest.raises(ShiftgymError, match="no hyperparameter 'step'. Did you mean 'steps'"):
        settings("iql", robot, step=7)


# --- records in two places ------------------------------------------------------------------------


def test_tensorboard_and_the_table_agree_after_kills(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def rows(*updates: int) -> list[dict[str, object]]:
        about = {"stage": "train", "run": 0, "source": "a", "target": "b", "seed": 0}
        return [about | {"update": update, "loss": update / 7} for update in updates]

    metrics = Metrics(tmp_path, None)
    for update in (10, 20, 30):  # the checkpoint is of update 20, and then comes the kill
        metrics.add(rows(update), update)
    metrics.close()
    time.sleep(1.1)  # TensorBoard orders files by the second they were begun in
    again = Metrics(tmp_path, {"train": 20}, 20)
    for update in (30, 40):
        again.add(rows(update), update)
    again.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("train/loss/run0")]
    with open(tmp_path / METRICS, newline="") as file:
        told = [(int(row["update"]), float(row["loss"])) for row in csv.DictReader(file)]
    assert [step for step, _ in found] == [step for step, _ in told] == [10, 20, 30, 40]
    np.testing.assert_allclose([v for _, v in found], [v for _, v in told], rtol=1e-5)


def test_columns_keep_their_order_when_training_goes_on(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert make_trainer("iql", whole, steps=80).run()
    first = make_trainer("iql", cut, steps=80)
    block = first._block

    def stopping(*arguments: object) -> int:
        if first.step >= 20:
            first.stop.requested = True
        return block(*arguments)  # pyright: ignore[reportArgumentType]

    first.options = TrainOptions(out=cut, evaluate_every=40)
    first._block = stopping  # pyright: ignore[reportAttributeAccessIssue]
    from shiftgym_agents.training import running as module

    before = dict(module.BLOCK)
    module.BLOCK["cpu"] = 25  # so that it stops before the first record
    try:
        assert not first.run()
    finally:
        module.BLOCK.update(before)
    assert make_trainer("iql", cut, steps=80, resume=True).run()
    assert (cut / METRICS).read_text().splitlines()[0] == (
        (whole / METRICS).read_text().splitlines()[0]
    )


# --- the disk -------------------------------------------------------------------------------------


def test_a_full_disk_is_a_sentence_and_what_was_there_is_kept(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(artifacts.os, "fsync", full)
    with pytest.raises(ShiftgymError, match="disk of .* is full(.|\n)*--out"):
        make_trainer("bc", run, steps=80, resume=True)
    assert {p.name: p.read_bytes() for p in run.iterdir() if p.is_file()} == before


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ShiftgymError, match="Cannot write|No permission"):
        make_trainer("bc", tmp_path / "file" / "run")

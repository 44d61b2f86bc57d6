"""The folder of `policies train`: one writer, room for its replay, and mistakes as sentences."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from shiftgym.basics.errors import ShiftgymError
from shiftgym.cli import main
from shiftgym_agents.training.artifacts import owned
from shiftgym_tools.behaviours.config import BehaviourConfig, SACConfig
from shiftgym_tools.behaviours.curves import Curves, Drawn
from shiftgym_tools.behaviours.replay_buffer import Replay
from shiftgym_tools.behaviours.trainer import train

SHAPE = dict(runs=1, row=14, capacity=40, margin=10)


def tiny(out: Path, **changes: object) -> BehaviourConfig:
    given = dict(domains=("hopper",), sac=SACConfig(width=32, batch=8), envs_per_agent=4)
    given |= dict(updates=0, evaluation_episodes=1, random_steps=32, capacity=400)
    given |= dict(backend="eager", threads=1, progress=False)
    return BehaviourConfig(out=out, **(given | changes))  # pyright: ignore[reportArgumentType]


def test_rows_that_the_checkpoint_counts_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "replay.f32"
    with pytest.raises(ShiftgymError, match="is missing"):
        Replay(path, **SHAPE, written=5)
    assert not path.exists()
    Replay(path, **SHAPE).flush()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ShiftgymError, match="has 100 bytes, expected 2800"):
        Replay(path, **SHAPE, written=5)


def test_the_disk_holds_the_whole_ring_before_a_row_is_written(tmp_path: Path) -> None:
    path = tmp_path / "replay.f32"
    replay = Replay(path, runs=1, row=14, capacity=40_000, margin=10)
    assert path.stat().st_blocks * 512 >= path.stat().st_size
    rows = np.ones((1, 3, 14), np.float32)
    replay.add(rows)
    replay.flush()
    again = Replay(path, runs=1, row=14, capacity=40_000, margin=10, written=3)  # rows stay
    assert (again.file[:, :3] == rows).all() and not again.file[:, 3:].any()


def test_a_full_disk_is_a_sentence_and_leaves_no_ring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ShiftgymError, match="is full(.|\n)*give --out a folder on another disk"):
        Replay(tmp_path / "replay.f32", **SHAPE)
    assert not list(tmp_path.iterdir())


def test_one_training_at_a_time_and_mistakes_are_sentences(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    with owned(out), pytest.raises(ShiftgymError, match="is at it already"):
        train(tiny(out))
    train(tiny(out))
    with pytest.raises(ShiftgymError, match="another configuration(.|\n)*capacity: 400 there"):
        train(tiny(out, capacity=500))
    with pytest.raises(ShiftgymError, match="must be a whole number"):
        train(tiny(out, envs_per_agent=5))
    with pytest.raises(ShiftgymError, match="no checkpoint to warm-start"):
        train(tiny(tmp_path / "warm", warm_start=tmp_path))
    (out / "replay.f32").unlink()
    Path(out / "state.json").write_text("{}")
    with pytest.raises(ShiftgymError, match="damaged"):
        train(tiny(out))
    capsys.readouterr()
    assert main(["policies", "train", "--updates", "-1", "--out", str(tmp_path / "x")]) == 1
    assert "updates must be" in capsys.readouterr().err and not (tmp_path / "x").exists()


COLUMNS = ("step", "updates", "domain", "return_mean", "train_return")
DRAWN = (Drawn("return_mean", "train_return", "return"),)


def curves_with(path: Path, updates: int, *rows: str) -> Curves:
    """Open curves, and add rows, each of them as a line."""
    curves = Curves(path, COLUMNS, DRAWN, updates)
    curves.add([dict(zip(COLUMNS, row.split(","), strict=True)) for row in rows])
    return curves


@pytest.mark.parametrize(
    "line", ["1,x,hopper,1,1", "1,1,hopper,x,1", "1,1,hopper,1", "1,1,hopper,1,1,1", '"1,1,hopper']
)
def test_damaged_curves_are_a_sentence(tmp_path: Path, line: str) -> None:
    path = tmp_path / "curves.csv"
    curves_with(path, -1, "4,1,hopper,10.5,nan")
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ShiftgymError, match="is damaged"):
        Curves(path, COLUMNS, DRAWN, 5)
    path.write_text("step,updates,other\n")
    with pytest.raises(ShiftgymError, match="other columns"):
        Curves(path, COLUMNS, DRAWN, 5)


def test_curves_drop_what_came_after_the_checkpoint_and_are_whole_at_any_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "curves.csv"
    first = ("0,0,hopper,1,nan", "0,0,ant,2,nan")
    assert curves_with(path, -1, *first).last == 0
    before = path.read_text()
    assert curves_with(path, 0, "4,1,hopper,3,3", "4,1,ant,4,4").last == 1
    assert curves_with(path, 0).last == 0 and path.read_text() == before

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        curves_with(path, 0, "4,1,hopper,3,3", "4,1,ant,4,4")
    assert path.read_text() == before

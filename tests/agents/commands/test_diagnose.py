"""Test `shiftgym diagnose` from end to end, at a tiny size."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from agent_helpers import make_arrays

import shiftgym
from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.own_code import load_module
from shiftgym.cli import main
from shiftgym.reading.anywhere import own_name
from shiftgym_agents.sweeps.grid import read_grids

ROOT = Path(__file__).parents[3]
TINY = ["--most", "3", "--seeds", "2", "--rows", "200", "--threads", "1", "--device", "cpu",
        "--backend", "eager", "--no-progress", "--episodes", "1"]  # fmt: skip
HOPPERS = ["--source", "hopper-morph/medium", "--target", "hopper-kinematic/medium"]


@pytest.fixture
def logs(tmp_path: Path) -> list[str]:
    """Write logs of a foreign robot: many in HDF5, a few in npz."""
    source, target = make_arrays(400, 0, obs=4), make_arrays(120, 1, 0.2, obs=4)
    with h5py.File(tmp_path / "many.hdf5", "w") as file:
        for name, values in source.items():
            file[name] = values
    np.savez(tmp_path / "few.npz", **target)  # pyright: ignore[reportArgumentType]
    return ["--source", str(tmp_path / "many.hdf5"), "--target", str(tmp_path / "few.npz")]


def test_domains_of_shiftgym_with_trainings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["diagnose", *HOPPERS, *TINY, "--out", str(tmp_path / "d")]
    words += ["--filters", "otdf", "igdf", "--using", "iql", "otdf"]
    assert main(words) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    for title in ("(a) overlap", "(b) dynamics", "(c) value", "(d) filters", "(e) short trainings"):
        assert title in said
    told = json.loads((tmp_path / "d/report.json").read_text())
    assert told["verdict"]["basis"] == "training" and told["verdict"]["sentence"] in " ".join(
        said.split()
    )
    assert told["data_alone"]["basis"] == "data alone"
    assert list(told["training"]["alone"]) == ["bc", "iql-target"]
    assert [len(v) for v in told["training"]["using"].values()] == [2, 2]
    assert [each["name"] for each in told["filters"]["each"]] == ["target-model", "otdf", "igdf"]
    assert len(told["dynamics"]["coordinates"]) == 11 and told["budget"]["most"] == 3
    assert (tmp_path / "d/runs/iql/result.json").exists()
    before = (tmp_path / "d/runs/iql/metrics.csv").read_bytes()
    assert main(words) == 0  # goes on from what is there, and finds the same
    again = json.loads((tmp_path / "d/report.json").read_text())
    assert (tmp_path / "d/runs/iql/metrics.csv").read_bytes() == before
    changing = ("seconds", "provenance")
    assert {k: v for k, v in told.items() if k not in changing} == {
        k: v for k, v in again.items() if k not in changing
    }
    capsys.readouterr()
    assert main([*words, "--seeds", "3"]) == 1  # said at once
    said = capsys.readouterr()
    assert "other data, seeds or updates" in said.err and not said.out


def test_a_foreign_robot_without_an_environment(
    logs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "d"
    words = ["diagnose", *logs, *TINY, "--eval-env", "none", "--out", str(out)]
    words += ["--names", "x", "angle", "dx", "dangle"]
    assert main(words) == 0, capsys.readouterr().err
    told = json.loads((out / "report.json").read_text())
    assert told["verdict"]["basis"] == "data alone" and "training" not in told
    assert not (out / "runs").exists() and told["domain"] == "none"
    assert [row["name"] for row in told["dynamics"]["coordinates"]] == [
        "x",
        "angle",
        "dx",
        "dangle",
    ]
    page = (out / "report.html").read_text()
    assert page.isascii() and page.count("data:image/png;base64,") == 4
    assert not re.search(r"(src|href)=\"(?!data:)", page)  # it needs no other file
    for text in ("angle", "target-model", "tabb", "By the data alone"):
        assert text in page


def test_json_is_all_that_is_printed(
    logs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["diagnose", *logs, *TINY, "--quick", "--filters", "otdf", "--json"]
    assert main([*words, "--out", str(tmp_path / "d")]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"]["word"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--target", "hopper-kinematic/medium"], 2, "add --source hopper/medium"),
        ([*HOPPERS, "--filters", "iql"], 2, "--filters iql"),
        ([*HOPPERS, "--using", "bc"], 2, "--using bc"),
        ([*HOPPERS, "--names", "x", "--quick"], 2, "--names has 1 names"),
        ([*HOPPERS, "--most", "0"], 1, "most must be"),
        ([*HOPPERS, "--filters", "otfd"], 2, "otdf"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_the_way_out(
    words: list[str], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diagnose", *words, "--out", str(tmp_path / "d")]) == code
    assert said in capsys.readouterr().err
    assert not (tmp_path / "d/report.json").exists()


def test_logs_without_an_environment_ask_for_one(
    logs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diagnose", *logs, "--out", str(tmp_path / "d")]) == 2
    assert "--eval-env none" in capsys.readouterr().err


def told(word: str) -> dict[str, object]:
    return {
        "data_alone": {"word": "helps"}, "verdict": {"word": word}, "seconds": 90,
        "provenance": {"threads": 2}, "machine": {"cpu": "x", "cores": 2, "load_before": 0.1},
    }  # fmt: skip


def test_the_benchmark_holds_verdicts_against_trainings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = load_module(ROOT / "benchmarks/diagnose.py")
    calls: list[str] = []

    def measured(source: str, target: str, options: object) -> dict[str, object]:
        calls.append(script.named(source, target))
        return told("helps")

    def trained(table: Path) -> dict[str, object]:
        one = {"alone": {"bc": [1.0], "iql-target": [2.0]}}
        one["using"] = {"iql": [0.0], "otdf": [0.5], "tabb": [0.25]}
        return {calls[0]: {"word": "harms", **one}, calls[2]: {"word": "helps", **one}}

    monkeypatch.setattr(script, "measure", measured)
    monkeypatch.setattr(script, "truths", trained)
    page = tmp_path / "page.md"
    options = script.Options(robots=("hopper",), out=tmp_path / "found.json")
    assert script.main(options) == script.main(options) == 0
    assert len(calls) == len(set(calls)) == 4  # once each
    beside = script.Options(robots=("ant",), out=tmp_path / "found.json")
    script.store(beside, {"ant/medium-100k -> ant-kinematic/medium": told("harms")}, {})
    assert script.main(options) == 0 and len(calls) == 4
    assert len(script.stored(options)[0]) == 5
    capsys.readouterr()
    options = script.Options(
        robots=("hopper",), out=tmp_path / "found.json", trained=tmp_path / "t.csv", page=page
    )
    assert script.main(options) == 0
    out = capsys.readouterr().out
    assert "| helps | helps | harms | no | 1.5 |" in out and "contradict each other on 1" in out
    assert "1 of 2 pairs" in page.read_text() and "help in 1 of 1 by its own policy" in out
    with pytest.raises(ShiftgymError, match="give the same"):
        script.main(script.Options(most=7, out=tmp_path / "found.json"))


def test_truth_is_the_rule_of_diagnoses_on_a_collected_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = load_module(ROOT / "benchmarks/diagnose.py")
    pair, means = ("a/x", "b/y"), {"bc": 40, "iql-target": 45, "iql": 80, "otdf": 40, "tabb": 41}
    spread = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    section = SimpleNamespace(
        name="diagnose", unit="score", pairs=[pair],
        scores={name: {pair: mean + spread} for name, mean in means.items()},
    )  # fmt: skip
    monkeypatch.setattr(script, "read_results", lambda _: None)
    monkeypatch.setattr(script, "sections", lambda _: [section])
    found = script.truths(Path("t.csv"))["a/x -> b/y"]
    assert found["word"] == "helps" and "iql with it: score 80.0" in found["sentence"]


def test_pairs_of_the_benchmark_are_of_sets_that_exist() -> None:
    script = load_module(ROOT / "benchmarks/diagnose.py")
    pairs = script.pairs()
    runs = [run for _, run in read_grids(script.GRID)[0].wanted()]
    assert set(pairs) == {(run.source, run.target) for run in runs if run.method == "iql"}
    assert Counter(script.kind(*pair) for pair in pairs) == {"": 8, "own": 4, "own, expert": 4}
    for source, target in pairs:
        one, two = own_name(source), own_name(target)
        assert one is not None and two is not None and one.domain.robot == two.domain.robot
        assert len(shiftgym.load(target)["rewards"]) == 5_000

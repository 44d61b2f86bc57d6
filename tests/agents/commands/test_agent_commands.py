"""Use train, eval and report as a new user would."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from agent_helpers import NAMES, make_pair

from shiftgym.cli import main
from shiftgym_agents.commands import train as command
from shiftgym_agents.methods.table import METHODS, method

TINY = "--steps 20 --width 32 --batch 16 --evaluate-every 10 --episodes 1 --threads 1"
TINY = f"{TINY} --no-progress --device cpu".split()
SETS = "--source hopper/medium --target hopper-kinematic/medium".split()


@pytest.fixture
def toy_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "open_pair", lambda name, chosen: make_pair())


def test_train_help_lists_the_methods(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in METHODS) and "Example: shiftgym train" in printed


@pytest.mark.parametrize("name", NAMES)
def test_train_method_help_teaches(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", name, "--help"]) == 0
    printed = capsys.readouterr().out
    assert f"shiftgym train {name}" in printed and "--learning-rate" in printed
    for field in vars(method(name).presets["ours"]):
        assert f"--{field.replace('_', '-')}" in printed or f"no-{field}"[:3] in printed, field


def test_preset_and_robot_set_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "iql", "--preset", "paper", "--help"]) == 0
    assert "(default: gaussian)" in " ".join(capsys.readouterr().out.split())
    assert main(["train", "iql", "--target", "pen-kinematic-hard/medium", "--help"]) == 0
    assert "(default: 0.5)" in capsys.readouterr().out


def test_train_eval_and_report(
    toy_pair: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "iql"
    assert main(["train", "iql", *SETS, *TINY, "--seeds", "2", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "scores [" in printed and f"Next: shiftgym report {out}" in printed
    assert json.loads((out / "config.json").read_text())["config"]["width"] == 32
    again = ["train", "iql", *SETS, *TINY, "--seeds", "2", "--out", str(out)]
    assert main(again) == 1
    assert "--resume" in capsys.readouterr().err
    assert main([*again, "--resume"]) == 0
    assert main([*again, "--resume", "--tau", "0.1"]) == 1
    assert "config.tau: 0.005 there, 0.1 now" in capsys.readouterr().err
    assert main(["report", str(out)]) == 0
    assert "toy/target" in capsys.readouterr().out
    assert (out / "curves.png").stat().st_size > 10_000
    assert main(["report", str(out), "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)["runs"]
    assert len(entry["last"]["scores"]) == 2
    assert main(["eval", str(out), "--episodes", "2"]) == 0
    assert "hopper-kinematic" in capsys.readouterr().out
    arguments = ["eval", str(out), "--domains", "hopper", "hopper-morph", "--episodes", "2"]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(e["domain"], e["seed"]) for e in found] == [
        ("hopper", 0),
        ("hopper", 1),
        ("hopper-morph", 0),
        ("hopper-morph", 1),
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["train"], 2, ""),
        (["train", "iqll"], 2, "Did you mean 'iql'"),
        (["train", "iql", "--preset", "papr"], 2, "'paper'"),
        (["train", "iql"], 2, "target"),
        (["train", "iql", "--target", "hopper-kinematic/medium"], 2, "--source hopper/medium"),
        (["train", "iql", "--target", "hopper-kinematik/medium"], 2, "kinematic"),
        (["train", "iql", *SETS, "--expectil", "0.9"], 2, "expectil"),
        (["eval", "no/such/run"], 1, "not a run directory"),
        (["report", "no/such/run"], 1, "not a run directory"),
        (["report"], 2, ""),
    ],
)
def test_a_mistake_is_named_with_its_exit_code(
    arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == code
    captured = capsys.readouterr()
    assert says in captured.err + captured.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--device", "cuda:9"], "is not there"),
        (["--seeds", "0"], "seeds must be"),
        (["--evaluate-every", "0"], "a whole number from 1"),
    ],
)
def test_wrong_values_are_named_before_training(
    arguments: list[str],
    says: str,
    toy_pair: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = ["--out", str(tmp_path / "x")]
    assert main(["train", "bc", *SETS, *TINY, *out, *arguments]) == 1
    assert says in capsys.readouterr().err and not (tmp_path / "x").exists()

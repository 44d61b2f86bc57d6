"""Test the script behind `make quickstart` without its minutes of training."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from shiftgym.cli import main


@pytest.fixture(scope="module")
def script() -> Any:
    path = Path(__file__).parents[3] / "examples" / "quickstart.py"
    spec = importlib.util.spec_from_file_location("quickstart", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["bc", "iql", "otdf", "tabb"])
def test_commands_are_understood(
    name: str, script: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = script.train_command(name, 600, "cpu", tmp_path).split()
    assert main([*command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "default: 600)" in shown or "--steps" in shown


def test_an_interrupted_method_is_resumed_and_a_finished_one_left_alone(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def interrupted(arguments: list[str]) -> int:
        asked.append(arguments)
        return 0

    monkeypatch.setattr(script, "main", interrupted)
    (tmp_path / "bc").mkdir()
    (tmp_path / "bc" / "result.json").write_text("{}")
    (tmp_path / "iql").mkdir()
    (tmp_path / "iql" / "config.json").write_text("{}")
    assert script.quickstart(out=tmp_path) == 1
    assert [words[:2] for words in asked] == [["data", "make"], ["train", "iql"]]
    assert asked[1][-1] == "--resume"

"""Test the script behind `make quickstart` without its minutes of training."""

from __future__ import annotations

import functools
import inspect
import shlex
from pathlib import Path
from typing import Any

import pytest

from shiftgym.basics.own_code import load_module
from shiftgym.cli import main
from shiftgym_agents.commands import leaderboard, report, sweep
from shiftgym_agents.sweeps.grid import read_grids


@pytest.fixture(scope="module")
def script() -> Any:
    return load_module(Path(__file__).parents[3] / "examples" / "quickstart.py")


def test_commands_are_understood(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, inspect.BoundArguments]] = []
    for name, module in (("sweep", sweep), ("report", report), ("leaderboard", leaderboard)):
        real = getattr(module, name)

        def stub(*given: Any, _name: str = name, _real: Any = real, **named: Any) -> None:
            asked.append((_name, inspect.signature(_real).bind(*given, **named)))

        monkeypatch.setattr(module, name, functools.wraps(real)(stub))
    for command in script.commands(600, "cpu", tmp_path, tmp_path / "curves.png"):
        assert main(shlex.split(command)) == 0
    assert [name for name, _ in asked] == ["sweep", "sweep", "report", "leaderboard"]
    assert asked[0][1].arguments["set_"] == ("steps=600", "every=60")
    assert asked[1][1].arguments["collect"] and not asked[0][1].arguments["collect"]
    assert {given.arguments["out"] for _, given in asked[:2]} == {tmp_path}
    table = tmp_path / "quickstart.csv"
    assert (asked[2][1].arguments["run"], asked[3][1].arguments["results"]) == (table, table)


def test_settings_are_those_of_the_laptop_protocol(script: Any) -> None:
    (grid,) = read_grids(script.GRID)
    (laptop,) = read_grids("laptop")
    assert (grid.settings, grid.method, grid.source_size) == (
        laptop.settings, laptop.method, laptop.source_size,
    )  # fmt: skip
    assert (
        inspect.signature(script.quickstart).parameters["updates"].default
        == (laptop.settings["steps"])
    )
    assert (grid.seeds, grid.methods) == (3, ("bc", "iql-target", "iql", "otdf", "tabb"))


def test_what_fails_ends_it_and_the_next_time_starts_with_it(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def interrupted(arguments: list[str]) -> int:
        asked.append(arguments)
        return 130

    monkeypatch.setattr(script, "main", interrupted)
    assert script.quickstart(out=tmp_path, picture=tmp_path / "curves.png") == 1
    assert [words[:2] for words in asked] == [["sweep", "quickstart"]]

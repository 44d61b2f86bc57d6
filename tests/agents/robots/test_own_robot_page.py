"""Run what the page "your own robot" shows, from top to bottom, with fewer updates."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from robot_helpers import flags, tiny

from shiftgym.cli import main as shiftgym
from shiftgym_agents.methods.table import method

ROOT = Path(__file__).parents[3]
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```", re.M | re.S)
SHORTER = {"--steps": "10", "--evaluate-every": "10", "--seeds": "1", "--episodes": "2"}
DIAGNOSIS = {"--most": "4", "--rows": "200", "--seeds": "2", "--episodes": "1"}
QUIET = ["--no-progress", "--device", "cpu", "--backend", "eager", "--threads", "1"]


def shortened(words: list[str]) -> list[str]:
    """Ask a command of the page for less of everything."""
    words = [SHORTER.get(before, word) for before, word in zip(["", *words], words, strict=False)]
    if words[0] == "diagnose":
        given = zip(["", *words], words, strict=False)
        words = [DIAGNOSIS.get(before, word) for before, word in given]
        missing = [word for item in DIAGNOSIS.items() if item[0] not in words for word in item]
        return [*words, *missing, *QUIET]
    if words[0] != "train":
        return words
    small = flags(tiny(words[1], 10), method(words[1]).presets["ours"])
    kept = [k for k in range(0, len(small), 2) if small[k] not in words]
    return [*words, *(word for k in kept for word in small[k : k + 2]), *QUIET]


def test_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "docs" / "your_own_robot.md").read_text(encoding="utf-8")
    shutil.copy(ROOT / "examples" / "own_robot.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    names, said, done = {}, "", 0
    for language, code in BLOCK.findall(text):
        if language == "python":
            exec(compile(code, "your_own_robot.md", "exec"), names)
            done += 1
        for line in code.splitlines() if not language else []:
            command, *words = shlex.split(line)
            if command == "python":
                with monkeypatch.context() as patched:
                    patched.setattr(sys, "argv", words)
                    runpy.run_path(words[0], run_name="__main__")
            else:
                assert command == "shiftgym"
                assert shiftgym(shortened(words)) == 0, capsys.readouterr().err
            said += capsys.readouterr().out
            done += 1
    assert done == 14
    assert "source logs/light.npz: kept" in said and "source logs/heavy.npz: kept" in said

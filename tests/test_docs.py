"""Run the Python that the front pages show, and read the commands of all, as a reader would."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import sys
from functools import wraps
from importlib import import_module
from pathlib import Path

import pytest
import tyro

from shiftgym.cli import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/index.md")
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.M | re.S)


def blocks(page: str, language: str) -> list[str]:
    """Give a page's code blocks of one language; empty for shell."""
    found = FENCE.findall((ROOT / page).read_text(encoding="utf-8"))
    return [code for told, code in found if told == language]


PYTHON = [(page, code) for page in PAGES for code in blocks(page, "python")]
LINES = [
    (page, line)
    for page in (*PAGES, *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
    for block in blocks(page, "")
    for line in re.sub(r"\\\n\s*", "", block).splitlines()
    if re.match(r"shiftgym (?![\w ]+:)", line) and "..." not in line and "METHOD" not in line
]


@pytest.mark.parametrize(("page", "code"), PYTHON, ids=[page for page, _ in PYTHON])
def test_python_on_the_front_pages_runs(page: str, code: str, tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert found.returncode == 0, found.stderr[-2000:]


@pytest.mark.parametrize(("page", "line"), LINES, ids=[line[:60] for _, line in LINES])
def test_commands_that_pages_show_are_understood(page: str, line: str) -> None:
    """Every option is one that the command has, and every value of its type; nothing is done."""
    words = shlex.split(line, comments=True)[1:]
    if words[0].startswith("-"):
        assert words in (["--help"], ["--version"])
        return
    count = 2 if " ".join(words[:2]) in COMMANDS else 1
    name, rest = " ".join(words[:count]), words[count:]
    module, _, function = COMMANDS[name][0].partition(":")
    command = getattr(import_module(module), function)
    command = getattr(command, "for_arguments", lambda _, same=command: same)(rest)
    understood = []

    @wraps(command)
    def stub(*_: object, **__: object) -> None:
        understood.append(line)

    tyro.cli(stub, args=rest, config=(tyro.conf.FlagCreatePairsOff,))
    assert understood == [line]


def test_pages_of_the_api_keep_the_words_before_a_colon() -> None:
    """Napoleon takes them for the type of a property."""
    napoleon = pytest.importorskip("sphinx.ext.napoleon")
    conf = runpy.run_path(str(ROOT / "docs" / "conf.py"))
    lines = ["Give the short name: ``hopper-kinematic``, say.", ""]
    conf["keep_colons"](None, "property", "slug", None, None, lines)
    written = napoleon.GoogleDocstring(lines, napoleon.Config(), what="property", name="slug")
    assert "Give the short name: ``hopper-kinematic``, say." in str(written)
    assert ":type:" not in str(written)

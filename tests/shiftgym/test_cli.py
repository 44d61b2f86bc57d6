"""The command line: what a new user types, and what a program reads."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from shiftgym_helpers import run_python

import shiftgym
from shiftgym.cli import COMMANDS, main
from shiftgym.terminal import PLAIN, survive_any_encoding

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # importing it fails as where it is not installed
from shiftgym.cli import COMMANDS, main
for name in COMMANDS:
    print("==", name, flush=True)
    assert main([*name.split(), "--help"]) == 0, name
for method in ("iql", "no-such-method"):
    assert main(["train", method, "--help"]) == 0
assert main(["train", "iql", "--target", "hopper/medium"]) == 1
"""
LISTINGS = [
    ["envs"], ["policies"], ["data", "list", "--makeable"], ["protocols"],
    ["protocols", "otdf-morph"], ["envz"], ["envs", "--robot", "höpper"],
]  # fmt: skip


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*name.split(), "--help"]) == 0
    assert f"shiftgym {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["envz"], 2, "'envs'"),
        (["envs", "--robot", "hoper"], 2, "'hopper'"),
        (["envs", "--family", "grade"], 2, "'graded'"),
        (["envs", "--nonsense"], 2, "nonsense"),
        (["render", "hopper-morf"], 2, "'morph"),
        (["render", "hopper", "--out", "no/such/folder/x.png"], 1, "no/such/folder"),
        (["policies", "measure", "hopper/nonsense"], 1, "nonsense"),
    ],
)
def test_a_mistake_is_named_with_its_exit_code(
    arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == code
    assert says in capsys.readouterr().err


def test_envs_prints_every_id_and_what_it_changes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["envs"]) == 0
    printed = capsys.readouterr().out
    assert all(entry.env_id in printed for entry in shiftgym.catalogue().values())
    assert "joint thigh_joint range: -150 0 -> -0.15 0" in printed


def test_envs_json_is_read_by_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["envs", "--json"]) == 0
    found = {entry["slug"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert set(found) == set(shiftgym.catalogue())
    (change,) = found["hopper-gravity-x0p5"]["changes"]
    assert change["before"] == [0, 0, -9.81] and change["after"] == [0, 0, -4.905]


def test_envs_lists_domains_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "my.toml"
    file.write_text(
        '[hopper.weak]\nlevels = {mild = 0.8}\nactuator.".*".gear = {scale = "level"}\n'
    )
    assert main(["envs", "--file", str(file)]) == 0
    assert "hopper-weak-mild" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_render_writes_a_picture(tmp_path: Path, gl: str, suffix: str) -> None:
    out = tmp_path / f"hopper.{suffix}"
    arguments = ["hopper-morph", "--compare", "--steps", "8", "--width", "64", "--height", "64"]
    assert main(["render", *arguments, "--out", str(out)]) == 0
    assert out.stat().st_size > 1000


def test_help_needs_no_torch() -> None:
    done = run_python(WITHOUT_TORCH)
    assert done.returncode == 0, done.stderr
    helps = dict(part.split("\n", 1) for part in done.stdout.split("== ")[1:])
    assert set(helps) == set(COMMANDS)
    for name, text in helps.items():
        assert f"usage: shiftgym {name}" in text
        assert len(text.splitlines()) > 4, text
    assert "pip install 'shiftgym[agents]'" in helps["train"]
    assert "--episodes" in helps["eval"] or "episodes:" in helps["eval"]
    assert "needs torch: pip install 'shiftgym[agents]'" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [[], *LISTINGS, *([*name.split(), "--help"] for name in COMMANDS)],
    ids=" ".join,
)
def test_output_survives_a_terminal_of_ascii(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = {}
    for name in ("stdout", "stderr"):
        written[name] = io.BytesIO()
        monkeypatch.setattr(sys, name, io.TextIOWrapper(written[name], encoding="ascii"))
    main(arguments)
    for name in written:
        getattr(sys, name).flush()
    text = b"".join(stream.getvalue() for stream in written.values())
    assert text and text.isascii()


def test_what_ascii_lacks_is_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    survive_any_encoding()
    print("3 ± 1 × 2 → höpper…", "月", flush=True)
    assert written.getvalue() == b"3 +- 1 x 2 -> hoepper... ?\n"
    assert all(value.isascii() for value in PLAIN.values())

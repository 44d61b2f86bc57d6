"""Ask the command for a check, in the process of its own that it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from shiftgym.cli import main

EXAMPLE = Path(__file__).parents[3] / "examples" / "own_method.py"


def test_the_example_is_ready_for_a_gpu(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["check-method", str(EXAMPLE), "--updates", "2", "--device", "stand-in"]) == 0
    said = capfd.readouterr().out
    assert "on stand-in" in said and "Modelled, ours: captured = eager" in said


def test_what_is_no_method_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["check-method", "no_such.py", "--device", "stand-in"]) == 1
    assert "Cannot read no_such.py" in capfd.readouterr().err

"""A policy written as ONNX acts as it does with numpy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_helpers import some_policy, write_run

import shiftgym_agents
from shiftgym.cli import main
from shiftgym_agents.training import onnx_export


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return write_run(tmp_path / "x", some_policy(11, 3, spare=3, box=2.0), None)


@pytest.mark.parametrize("run", [0, 1])
def test_another_runtime_finds_the_same_actions(
    out: Path, run: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    path = tmp_path / "policy.onnx"
    assert main(["export", str(out), "--onnx", str(path), "--index", str(run)]) == 0
    assert f"Wrote {path} (bc, run {run}, seed {7 + run}, 5 updates" in capsys.readouterr().out
    session: Any = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    policy = shiftgym_agents.load(out, run=run)
    for rows in (1, 64):
        seen = 3 * np.random.default_rng(rows).normal(size=(rows, 11)).astype(np.float32)
        (found,) = session.run(["action"], {"observation": seen})
        np.testing.assert_allclose(found, policy.act(seen), atol=2e-5)  # 1e-5 of half their range
        assert found.dtype == np.float32 and found.shape == (rows, 3)
    told = session.get_modelmeta().custom_metadata_map
    assert told["method"] == "bc" and told["seed"] == str(7 + run) and told["updates"] == "5"


def test_a_graph_that_acts_otherwise_is_not_written(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnx")
    right = onnx_export.build_graph
    other = shiftgym_agents.load(out, run=1)
    monkeypatch.setattr(onnx_export, "build_graph", lambda policy: right(other))
    assert main(["export", str(out)]) == 1
    assert "more than 1e-05: nothing was written" in capsys.readouterr().err
    assert not list(out.glob("*.onnx"))
    monkeypatch.undo()
    assert main(["export", str(out)]) == 0 and (out / "policy-0.onnx").is_file()


def test_what_is_missing_is_told(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(out), "--onnx", "no/such/x.onnx"]) == 1
    assert "no folder no/such" in capsys.readouterr().err.replace("There is ", "")
    assert main(["export", str(out), "--index", "5"]) == 2
    assert "holds runs 0 to 1" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", str(out)]) == 1
    assert "pip install 'shiftgym[onnx]'" in capsys.readouterr().err

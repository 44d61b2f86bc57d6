"""Methods of a file of one's own, or of another package, train and are found again."""

from __future__ import annotations

import json
import os
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import pytest

from shiftgym.basics.errors import DomainError, ShiftgymError
from shiftgym.cli import main
from shiftgym_agents.methods import outside
from shiftgym_agents.methods.table import is_method, method, recorded, settings
from shiftgym_agents.reports.protocols import protocol
from shiftgym_agents.reports.report import read_run

MINE = '''"""Doubt the data, as an example."""
from dataclasses import dataclass
from pace import STEPS
from shiftgym_agents.methods.iql import IQLConfig, TargetIQL

@dataclass(frozen=True)
class MineConfig(IQLConfig):
    """Hold the hyperparameters."""
    doubt: float = 0.25
    """How much to doubt."""

class Mine(TargetIQL):
    """IQL that doubts."""
    config_class = MineConfig
    presets = {"ours": MineConfig(steps=STEPS)}
'''
TINY = "--steps 20 --width 16 --batch 16 --evaluate-every 20 --episodes 1 --threads 1"
TINY = f"{TINY} --no-progress --device cpu --target hopper-kinematic/medium".split()


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "pace.py").write_text("STEPS = 20\n")
    (tmp_path / "here" / "my_file.py").write_text(MINE)
    return tmp_path / "here" / "my_file.py"


def test_a_file_trains_is_evaluated_reported_perturbed_and_resumed(
    mine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(mine.parent)
    assert main(["train", "my_file.py:Mine", "--help"]) == 0
    told = capsys.readouterr().out
    assert "IQL that doubts." in told and "Doubt the data" in told and "How much to doubt" in told
    train = ["train", "my_file.py:Mine", *TINY]
    assert main([*train, "--doubt", "0.5"]) == 0
    out = mine.parent / "runs" / "Mine"
    about = json.loads((out / "config.json").read_text())
    assert about["method"] == "my_file.py:Mine" and about["config"]["doubt"] == 0.5
    assert about["origin"]["file"] == str(mine)
    assert main(["eval", "runs/Mine", "--episodes", "1"]) == 0
    assert main(["report", "runs/Mine"]) == 0
    assert "my_file.py:Mine" in capsys.readouterr().out
    perturb = ["eval", "runs/Mine", "--episodes", "1", "--perturb", "min-q"]
    assert main(perturb) == 0
    assert read_run(out)[0].kind is method("my_file.py:Mine")

    moved = mine.parent / "elsewhere" / "my_file.py"
    moved.parent.mkdir()
    os.rename(mine, moved)
    os.rename(mine.parent / "pace.py", moved.parent / "pace.py")
    assert main(["eval", "runs/Mine", "--episodes", "1"]) == 0  # a policy needs no method
    assert main(["report", "runs/Mine"]) == 0
    capsys.readouterr()
    assert main(perturb) == 1
    said = capsys.readouterr().err
    assert f"came from {mine}, which is not there any more" in said and "put the file back" in said
    again = ["train", f"{moved}:Mine", *TINY, "--doubt", "0.5", "--resume"]
    assert main(again) == 0  # the same file elsewhere is the same method
    moved.write_text(MINE.replace("that doubts", "that doubts more"))
    capsys.readouterr()
    assert main(again) == 1
    assert "origin.sha256" in capsys.readouterr().err


def test_a_protocol_writes_commands_for_it(mine: Path) -> None:
    (first, *_) = protocol("otdf-morph").commands(f"{mine}:Mine", "hopper")
    assert first.startswith(f"shiftgym train {mine}:Mine --target hopper-morph/")
    assert "--out runs/otdf-morph/Mine-hopper-morph" in first


@pytest.mark.parametrize(
    ("name", "says", "code"),
    [
        ("gone.py:Mine", "Cannot read gone.py: No such file", 1),
        ("my_file.py:Mien", "has no class 'Mien'. Did you mean 'Mine'?", 2),
        ("my_file.py", "Name the class, too: my_file.py:Mine", 2),
        ("my_file.py:MineConfig", "it must be a class that extends Agent", 2),
        ("half.py:Half", "is not a whole method: it lacks actor, build, stages", 2),
        ("bad.py:Bad", "line 2: ZeroDivisionError", 1),
        ("broken.py:Bad", "line 1: SyntaxError", 1),
        ("leaves.py:Bad", "line 1: SystemExit", 1),
        ("borrowed.py:Mine", "preset 'ours' is a IQLConfig, but config_class is MineConfig", 2),
        ("here:Mine", "One of your own: my_file.py:MyMethod", 2),
    ],
)
def test_what_is_no_method_is_told(
    mine: Path,
    name: str,
    says: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(mine.parent)
    half = "from shiftgym_agents.core.agent import Agent\nclass Half(Agent): pass\n"
    borrowed = MINE[: MINE.index("    presets")]
    files = {"half": half, "bad": "x = 1\n1 / 0\n", "broken": "x = (\n"}
    files |= {"leaves": "raise SystemExit\n", "borrowed": borrowed}
    for file, text in files.items():
        (mine.parent / f"{file}.py").write_text(text)
    assert main(["train", name, *TINY]) == code
    assert says in capsys.readouterr().err


def test_a_file_is_run_once_and_anew_when_it_changes(mine: Path) -> None:
    kind = method(f"{mine}:Mine")
    assert method(f"{mine}:Mine") is kind
    assert settings(f"{mine}:Mine", "hopper", doubt=1.0).doubt == 1.0  # pyright: ignore
    with pytest.raises(DomainError, match="no hyperparameter 'dout'"):
        settings(f"{mine}:Mine", None, dout=1.0)
    mine.write_text(MINE.replace("0.25", "0.75"))
    changed = method(f"{mine}:Mine")
    assert changed is not kind and changed.presets["ours"].doubt == 0.75


def offer(monkeypatch: pytest.MonkeyPatch, *points: tuple[str, str, str]) -> None:
    """Let packages offer methods: (package, name, place)."""
    found = []
    for package, name, place in points:
        point = EntryPoint(name, place, outside.GROUP)
        vars(point).update(dist=SimpleNamespace(name=package, version="1.2"))
        found.append(point)
    monkeypatch.setattr(outside, "entry_points", lambda group: found if group else [])


def test_packages_offer_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    place = "shiftgym_agents.methods.bc:BC"
    offer(monkeypatch, ("other", "plain", place), ("a", "twice", place), ("b", "twice", place))
    assert is_method("plain") and method("plain").__name__ == "BC"
    kept = recorded("plain")
    assert kept == {"method": "plain", "origin": {"package": "other", "version": "1.2"}}
    assert outside.recalled(kept, Path("x")) == "plain"
    with pytest.raises(DomainError, match="a and b both offer a method 'twice'"):
        method("twice")
    with pytest.raises(DomainError, match="Did you mean 'plain'"):
        method("plian")
    offer(monkeypatch, ("other", "plain", "no_such_module:BC"))
    with pytest.raises(ShiftgymError, match="plain of other cannot be imported: ModuleNotFound"):
        method("plain")
    offer(monkeypatch)
    with pytest.raises(ShiftgymError, match="the package other 1.2, which is not installed"):
        outside.recalled(kept, Path("x"))


def test_ours_have_no_origin_and_a_name_of_ours_stays_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, ("other", "bc", "shiftgym_agents.methods.iql:IQL"))
    assert method("bc").__name__ == "BC" and recorded("bc") == {"method": "bc"}

"""A trained run acts in one's own loop."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from agent_helpers import make_trainer

import shiftgym
import shiftgym_agents
from shiftgym_agents.evaluation.robustness import read_subject


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "bc"
    assert make_trainer("bc", folder, steps=40).run()
    return folder


def test_it_acts_as_its_evaluation_does(out: Path) -> None:
    subject = read_subject(out)
    rows = np.random.default_rng(0).normal(size=(5, subject.policy.shift.shape[-1]))
    whole = subject.policy.act(np.repeat(rows[None], len(subject.runs), 0).astype(np.float32))
    for run, told in enumerate(subject.runs):
        policy = shiftgym_agents.load(str(out), run=run)
        np.testing.assert_array_equal(policy.act(rows), whole[run])
        np.testing.assert_allclose(policy.act(rows[2]), whole[run][2], atol=1e-6)
        assert policy.act(rows[2]).shape == whole.shape[2:]
        assert (policy.method, policy.seed) == ("bc", told["seed"])
        assert policy.updates == subject.updates


def test_what_cannot_act_is_told(out: Path, tmp_path: Path) -> None:
    with pytest.raises(shiftgym.DomainError, match="holds runs 0 to"):
        shiftgym_agents.load(out, run=9)
    with pytest.raises(shiftgym.ShiftgymError, match="3"):
        shiftgym_agents.load(out).act(np.zeros(3))
    with pytest.raises(shiftgym.ShiftgymError):
        shiftgym_agents.load(tmp_path)


def test_handed_on_names_are_there_and_listing_methods_needs_no_torch() -> None:
    import shiftgym_tools

    for package in (shiftgym, shiftgym_agents, shiftgym_tools):
        assert package.__all__ and all(hasattr(package, name) for name in package.__all__)
        assert set(package.__all__) <= set(dir(package))
    code = "import sys, shiftgym_agents; shiftgym_agents.METHODS; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)

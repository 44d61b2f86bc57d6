"""A trained run acts in one's own loop."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agent_helpers import make_trainer
from run_helpers import some_policy, write_run

import shiftgym
import shiftgym_agents
from shiftgym_agents.evaluation.robustness import read_subject
from shiftgym_agents.training.evaluator import SPACING, Evaluator


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


def test_an_observation_that_is_none_is_told(out: Path) -> None:
    policy = shiftgym_agents.load(out)
    wrong: dict[str, Any] = {"finite": np.full(11, np.nan), "arrays of numbers": {"a": 1}}
    wrong |= {r"are \(O,\) or \(N, O\), got \(2, 2, 11\)": np.zeros((2, 2, 11))}
    for says, observation in wrong.items():
        with pytest.raises(shiftgym.ShiftgymError, match=says):
            policy.act(observation)
    assert policy.act(np.zeros((0, 11))).shape == (0, 3)
    assert policy.act([0.0] * 11).dtype == np.float32


def test_actions_are_in_the_box_that_it_learned_from(tmp_path: Path) -> None:
    policy = shiftgym_agents.load(write_run(tmp_path / "x", some_policy(4, 2, box=3.0), None))
    actions = policy.act(50 * np.random.default_rng(0).normal(size=(300, 4)))
    np.testing.assert_array_equal([policy.low, policy.high], [[-1, -1], [5, 5]])
    assert actions.min() < -0.9 and actions.max() > 4.9
    assert (policy.low <= actions).all() and (actions <= policy.high).all()
    with pytest.raises(shiftgym.ShiftgymError, match="evaluated nowhere"):
        policy.make()


def test_a_loop_of_ones_own_earns_what_the_evaluation_found(tmp_path: Path) -> None:
    domain = shiftgym.domain("hopper-morph")
    out = write_run(tmp_path / "x", some_policy(11, 3), domain.kwargs())
    policy = shiftgym_agents.load(out, run=1)
    evaluator = Evaluator([domain], [policy.seed], 1)
    expected = evaluator.evaluate(policy.policy, 0)
    evaluator.close()
    env = policy.make()
    assert env.unwrapped.domain == domain  # pyright: ignore[reportAttributeAccessIssue]
    observation, _ = env.reset(seed=SPACING * (1 + policy.seed))
    earned, over = 0.0, False
    while not over:
        observation, reward, terminated, truncated, _ = env.step(policy.act(observation))
        earned, over = earned + float(reward), terminated or truncated
    assert earned == pytest.approx(expected.returns.item(), rel=1e-4)


def test_handed_on_names_are_there_and_listing_and_acting_need_no_torch(tmp_path: Path) -> None:
    import shiftgym_tools

    for package in (shiftgym, shiftgym_agents, shiftgym_tools):
        assert package.__all__ and all(hasattr(package, name) for name in package.__all__)
        assert set(package.__all__) <= set(dir(package))
    out = write_run(tmp_path / "x", some_policy(4, 2), None)
    code = f"""import sys
sys.modules["torch"] = None  # importing it fails
import shiftgym_agents
assert shiftgym_agents.METHODS and shiftgym_agents.load({str(out)!r}).act([0.0] * 4).shape == (2,)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)

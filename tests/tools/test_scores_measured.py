"""The measured score references: complete, repeatable, and used everywhere alike."""

from __future__ import annotations

import json
from pathlib import Path

import minari
import numpy as np
import pytest

import shiftgym
from shiftgym.cli import main
from shiftgym.datasets import dataset_name
from shiftgym.datasets.store import write_dataset
from shiftgym.policies import POLICIES, index
from shiftgym.scores import SCORES, Reference, has_reference, normalized_score, reference
from shiftgym_tools import reference_scores
from shiftgym_tools.behaviours.grading import measured_episodes
from shiftgym_tools.reference_scores import (
    random_entry,
    read_measured,
    with_expert,
    write_measured,
)

MEASURED = read_measured()
SLUGS = list(shiftgym.catalogue())
SCORED = [slug for slug in SLUGS if has_reference(slug)]


def test_every_domain_has_its_random_return_with_interval_and_count() -> None:
    assert list(MEASURED) == SLUGS
    for slug, entry in MEASURED.items():
        low, high = entry["random_interval"]
        assert low <= entry["random"] <= high, slug
        assert entry["episodes"] == measured_episodes(slug)


def test_experts_are_those_that_are_packaged() -> None:
    evaluations = json.loads((POLICIES / "evaluations.json").read_text())
    for slug in SLUGS:
        name = f"{slug}/expert"
        assert (name in index()) == (slug in SCORED), f"{slug}: run shiftgym scores measure"
        if name not in index():
            continue
        found = reference(slug)
        assert (found.policy, found.policy_sha256) == (name, index()[name]["sha256"])
        assert found.expert_interval is not None and found.expert > found.random
        low, high = found.expert_interval
        assert low <= found.expert <= high and found.episodes == measured_episodes(slug)
        assert found.expert == round(evaluations[name]["deterministic"]["return"], 2)


def test_a_domain_without_an_expert_has_no_score_of_our_own() -> None:
    entry = {"random": 5.0, "random_interval": [4.0, 6.0], "episodes": 100}
    told = {"return": 50.0, "return_low": 49.0, "return_high": 51.0, "episodes": 100}
    known = {"hopper-morph/best": told, "hopper/expert": told}
    assert with_expert("hopper-morph", entry, lambda: known) == entry
    for slug in SCORED:
        assert reference(slug).policy == f"{slug}/expert"


def test_random_returns_can_be_repeated() -> None:
    entry = random_entry("hopper")
    assert entry == {key: MEASURED["hopper"][key] for key in entry}


def test_measuring_keeps_what_is_there_and_adds_what_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scores.toml"
    before = SCORES.read_text().split("# [shiftgym]")[0]
    path.write_text(before)
    fake = {"random": -1.0, "random_interval": [-2.0, 0.0], "episodes": 100}
    calls: list[str] = []
    monkeypatch.setattr(reference_scores, "random_entry", lambda slug: calls.append(slug) or fake)
    for _ in range(2):
        arguments = ["--domains", "hopper", "hopper-morph", "--path", str(path)]
        assert main(["scores", "measure", *arguments]) == 0
    assert (
        calls == ["hopper", "hopper-morph"] and "2 domains, 0 measured" in capsys.readouterr().out
    )
    assert path.read_text().startswith(before.rstrip("\n"))
    assert read_measured(path)["hopper"]["random"] == -1.0
    write_measured(path, {"ant": fake} | read_measured(path))
    assert list(read_measured(path)) == ["hopper", "ant", "hopper-morph"]
    assert main(["scores", "measure", "--domains", "hoper", "--path", str(path)]) == 2
    assert "Did you mean 'hopper'" in capsys.readouterr().err
    path.write_text(path.read_text() + "\n[later]\nhopper = { random = 0.0, expert = 1.0 }\n")
    assert main(["scores", "measure", "--domains", "ant-morph", "--path", str(path)]) == 1
    assert "must be the last" in capsys.readouterr().err


def test_an_expert_no_better_than_random_is_refused() -> None:
    entry = {"random": 5.0, "random_interval": [4.0, 6.0], "episodes": 100}
    told = {"return": 4.0, "return_low": 3.0, "return_high": 5.0, "episodes": 100}
    known = {"hopper/expert": {"deterministic": told, "sha256": "0"}}
    with pytest.raises(shiftgym.ShiftgymError, match="cannot be a reference"):
        with_expert("hopper", entry, lambda: known)
    told |= {"return": 40.0, "episodes": 10}
    with pytest.raises(shiftgym.ShiftgymError, match="10 episodes"):
        with_expert("hopper", entry, lambda: known)


def test_scores_run_from_0_to_100_and_unknown_ones_are_told() -> None:
    slug = SCORED[0]
    found = reference(slug)
    assert normalized_score(slug, found.random) == pytest.approx(0)
    assert normalized_score(slug, found.expert) == pytest.approx(100)
    assert Reference(0.0, 50.0).score(25.0) == 50
    with pytest.raises(shiftgym.ShiftgymError, match="scores measure"):
        reference("hopper-friction-x0p37")
    with pytest.raises(shiftgym.ShiftgymError, match="Tables that do: odrl"):
        reference("ant-friction-x5", "otdf")
    for slug in set(SLUGS) - set(SCORED):
        with pytest.raises(shiftgym.ShiftgymError, match="reached the bar"):
            reference(slug)


def test_scores_are_100_times_minaris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    slug = SCORED[0]
    env = shiftgym.domain(slug).make()
    steps, start = 3, env.reset(seed=0)[0].astype(np.float32)
    flat = {
        "observations": np.repeat(start[None], steps, axis=0),
        "next_observations": np.repeat(start[None], steps, axis=0),
        "actions": np.zeros((steps, *env.action_space.shape), np.float32),
        "rewards": np.arange(steps, dtype=np.float32),
        "terminated": np.zeros(steps, bool),
        "truncated": np.array([False] * (steps - 1) + [True]),
    }
    name = dataset_name(f"{slug}/random-{steps}")
    write_dataset(flat, name, {"policies": {"random": None}})
    dataset = minari.load_dataset(name.minari)
    returns = np.array([-100.0, 0.0, 1234.5])
    theirs = minari.get_normalized_score(dataset, returns)
    assert theirs.shape == returns.shape
    ours = [normalized_score(slug, value) for value in returns]
    np.testing.assert_allclose(ours, 100 * theirs, rtol=1e-12)

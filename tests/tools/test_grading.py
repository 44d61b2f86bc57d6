"""Choosing and packaging policies, on policies made for the purpose."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import shiftgym
from shiftgym.policies import Policy
from shiftgym_agents.artifacts import write_arrays
from shiftgym_tools import grading, packaging

SLUG = "halfcheetah"


def constant_policy(push: float) -> dict[str, np.ndarray]:
    """Give a policy that always acts alike: no weights, only the last bias."""
    shapes = {"W0": (17, 4), "b0": (4,), "W1": (4, 4), "b1": (4,), "W2": (4, 12), "b2": (12,)}
    made = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    made["b2"][:6], made["b2"][6:] = push, -20.0
    return made


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a run folder of snapshots whose stated returns rise with their updates."""
    monkeypatch.setattr(grading, "SELECTION_EPISODES", 2)
    monkeypatch.setattr(grading, "MEASUREMENT_EPISODES", 3)
    monkeypatch.setattr(grading.measure, "__defaults__", (3,))
    (tmp_path / "run" / "snapshots").mkdir(parents=True)
    for k in range(10):
        told = {"kind": "sac", "domain": SLUG, "updates": str(k * 100)}
        told |= {"return_mean": str(100.0 * k), "train_return": str(90.0 * k) if k else "nan"}
        path = tmp_path / "run" / "snapshots" / f"{SLUG}-{k:08d}.safetensors"
        write_arrays(path, constant_policy(0.1 * k), told)
    return tmp_path / "run"


def test_snapshots_are_read_with_what_they_earned_and_the_untrained_one_is_left_out(run: Path):
    (candidates,) = grading.by_domain([run]).values()
    assert [c.updates for c in candidates] == [100 * k for k in range(1, 10)]
    assert [c.deterministic for c in candidates] == [100 * k for k in range(1, 10)]


def test_grading_measures_every_tier_and_goes_on_where_it_stopped(run: Path, tmp_path: Path):
    out = tmp_path / "graded"
    grading.grade((run,), out)
    (result,) = grading.load_graded(out).values()
    ladder = {f"ladder-{k}" for k in range(8)}
    assert {"expert", *ladder} <= set(result["tiers"]) <= {"expert", "medium", *ladder}
    assert len({result["tiers"][rung]["file"] for rung in ladder}) == 8
    for entry in result["tiers"].values():
        for mode in ("deterministic", "stochastic"):
            found = entry[mode]
            assert found["return"] == pytest.approx(np.mean(found["returns"]), abs=0.01)
            assert found["return_low"] <= found["return"] <= found["return_high"]
            assert len(found["returns"]) == found["episodes"] == 3
    before = (out / f"{SLUG}.json").stat().st_mtime_ns
    grading.grade((run,), out)
    assert (out / f"{SLUG}.json").stat().st_mtime_ns == before


def test_no_false_experts(run: Path, tmp_path: Path):
    grading.grade((run,), tmp_path / "graded")
    out = tmp_path / "packaged"
    packaging.package(tmp_path / "graded", out)
    index = json.loads((out / "index.json").read_text())
    assert f"{SLUG}/best" in index and f"{SLUG}/expert" not in index  # far below the bar
    assert all((out / entry["file"]).exists() for entry in index.values())
    evaluations = json.loads((out / "evaluations.json").read_text())
    assert evaluations[f"{SLUG}/best"]["bar"] == packaging.bar(SLUG) == 7500


def test_packaging_keeps_the_domains_that_were_not_graded_now(run: Path, tmp_path: Path):
    out = tmp_path / "packaged"
    grading.grade((run,), tmp_path / "graded")
    packaging.package(tmp_path / "graded", out)
    other = json.loads((tmp_path / "graded" / f"{SLUG}.json").read_text())
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / f"{SLUG}-morph.json").write_text(json.dumps(other))
    packaging.package(tmp_path / "again", out)
    index = json.loads((out / "index.json").read_text())
    assert {f"{SLUG}/best", f"{SLUG}-morph/best"} <= set(index)
    assert all((out / entry["file"]).exists() for entry in index.values())


def test_a_ladder_takes_different_snapshots_and_says_when_there_are_too_few(monkeypatch):
    monkeypatch.setattr(grading, "_selected", lambda candidate, slug, noise: candidate.updates / 3)
    made = [grading.Candidate(Path(str(k)), k, float(k // 3)) for k in range(30)]
    chosen = grading.choose_ladder(made, 0.0, 7.0, SLUG)
    assert len({candidate.path for candidate in chosen}) == 8
    assert [candidate.updates for candidate in chosen] == [3 * k for k in range(8)]
    with pytest.raises(shiftgym.ShiftgymError, match="evaluate-every"):
        grading.choose_ladder(made[:7], 0.0, 7.0, SLUG)


def test_a_medium_moves_where_one_that_moves_is_near_enough(monkeypatch):
    returns = {"stands": 1000.0, "hops": 700.0, "flies": 2500.0, "expert": 3000.0}
    lengths = {"stands": 1000.0, "hops": 350.0, "flies": 900.0, "expert": 1000.0}

    def measured(path, slug):
        earned = {"return": returns[str(path)], "episodes": 1}
        return {"deterministic": earned, "stochastic": earned}

    monkeypatch.setattr(grading, "read_policy", lambda path: path)
    monkeypatch.setattr(grading, "measure", measured)
    monkeypatch.setattr(
        grading, "_selected", lambda candidate, slug, noise: candidate.deterministic
    )

    def medium(*names):
        made = [grading.Candidate(Path(n), k, returns[n], lengths[n]) for k, n in enumerate(names)]
        return grading.grade_domain("hopper-kinematic", made, ladder=False)["tiers"]["medium"]

    assert medium("stands", "hops", "expert")["file"].endswith("hops")
    assert medium("stands", "flies", "expert")["file"].endswith("stands")


def test_the_bar_of_a_shifted_domain_is_a_share_of_its_own_published_maximum():
    assert packaging.bar("hopper-kinematic") == pytest.approx(0.7 * 2842.73)
    assert packaging.bar("ant-friction-x5") == pytest.approx(0.7 * 4545.021)


def test_measuring_is_repeatable():
    policy = Policy(constant_policy(0.3), {"kind": "sac", "domain": SLUG})
    assert grading.measure(policy, SLUG, 2) == grading.measure(policy, SLUG, 2)


def test_nothing_to_grade_or_package_is_said(tmp_path: Path):
    with pytest.raises(shiftgym.ShiftgymError, match="No snapshots"):
        grading.grade((tmp_path,), tmp_path / "graded")
    with pytest.raises(shiftgym.ShiftgymError, match="policies grade"):
        packaging.package(tmp_path / "graded", tmp_path / "out")

"""Choosing and packaging policies, on policies made for the purpose."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

import shiftgym
from shiftgym.policies import Policy, read_policy
from shiftgym_agents.training.artifacts import write_arrays, write_json
from shiftgym_tools.behaviours import finishing, grading, packaging
from shiftgym_tools.behaviours.config import BehaviourConfig
from shiftgym_tools.behaviours.run_folder import plain

SLUG = "halfcheetah"


def constant_policy(push: float) -> dict[str, np.ndarray]:
    """Give a policy that always acts alike: no weights, only the last bias."""
    shapes = {"W0": (17, 4), "b0": (4,), "W1": (4, 4), "b1": (4,), "W2": (4, 12), "b2": (12,)}
    made = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    made["b2"][:6], made["b2"][6:] = push, -20.0
    return made


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a run folder of snapshots whose stated returns rise with their updates."""
    folder = tmp_path_factory.mktemp("training") / "run"
    (folder / "snapshots").mkdir(parents=True)
    for k in range(12):
        told = {"kind": "sac", "domain": SLUG, "updates": str(k * 100)}
        told |= {"return_mean": str(500.0 * k), "train_return": str(90.0 * k) if k else "nan"}
        path = folder / "snapshots" / f"{SLUG}-{k:08d}.safetensors"
        write_arrays(path, constant_policy(0.1 * k), told)
    return folder


@pytest.fixture(scope="module")
def graded(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give what grading the run leaves; whatever is tried earns what its snapshot says."""
    out = tmp_path_factory.mktemp("graded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grading, "MEASUREMENT_EPISODES", 2)
        patch.setattr(grading, "_tried", told_return)
        patch.setattr(grading, "measure", told_measure)
        grading.grade((run,), out)
    return out


def told_return(candidate: grading.Candidate, slug: str) -> tuple[Policy, float, float]:
    """Stand in for the selection's episodes."""
    policy = finishing.finish(read_policy(candidate.path), slug, quiet=False)
    return policy, candidate.deterministic, 0.0


def told_measure(policy: Policy, slug: str, episodes: int) -> dict[str, dict[str, float]]:
    """Stand in for the measurement's episodes."""
    earned = float(policy.metadata["return_mean"])
    return {mode: {"return": earned, "length": 1000.0} for mode in ("deterministic", "stochastic")}


def test_snapshots_are_read_with_what_they_earned_and_the_untrained_one_is_left_out(run: Path):
    (candidates,) = grading.by_domain([run]).values()
    assert [c.updates for c in candidates] == [100 * k for k in range(1, 12)]
    assert [c.deterministic for c in candidates] == [500 * k for k in range(1, 12)]


def test_grading_measures_every_tier_and_goes_on_where_it_stopped(run: Path, graded: Path):
    (result,) = grading.load_graded(graded).values()
    ladder = {f"ladder-{k}" for k in range(8)}
    assert set(result["tiers"]) == {"expert", "medium", *ladder}
    assert result["tiers"]["expert"]["updates"] == 1100
    updates = [result["tiers"][f"ladder-{k}"]["updates"] for k in range(8)]
    assert sorted(set(updates)) == updates and updates[-1] < result["tiers"]["medium"]["updates"]
    for entry in result["tiers"].values():
        assert (graded / entry["file"]).exists()
        assert entry["stochastic"]["return"] == 5 * entry["updates"]
    before = (graded / f"{SLUG}.json").stat().st_mtime_ns
    grading.grade((run,), graded)
    assert (graded / f"{SLUG}.json").stat().st_mtime_ns == before


def test_no_false_experts(graded: Path, tmp_path: Path):
    out = tmp_path / "packaged"
    packaging.package(graded, out)
    index = json.loads((out / "index.json").read_text())
    assert f"{SLUG}/best" in index and f"{SLUG}/expert" not in index  # far below the bar
    assert all((out / entry["file"]).exists() for entry in index.values())
    evaluations = json.loads((out / "evaluations.json").read_text())
    assert evaluations[f"{SLUG}/best"]["bar"] == packaging.bar(SLUG) == pytest.approx(0.8 * 12135)


def test_what_is_packaged_is_what_was_graded_to_the_last_bit(graded: Path, tmp_path: Path):
    packaging.package(graded, tmp_path)
    (result,) = grading.load_graded(graded).values()
    measured = read_policy(graded / result["tiers"]["medium"]["file"])
    kept = read_policy(tmp_path / f"{SLUG}-medium.safetensors")
    for name, array in kept.arrays.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, measured.arrays[name])


def test_packaging_keeps_the_domains_that_were_not_graded_now(graded: Path, tmp_path: Path):
    out, again = tmp_path / "packaged", tmp_path / "again"
    packaging.package(graded, out)
    shutil.copytree(graded, again)
    (again / f"{SLUG}.json").rename(again / f"{SLUG}-morph.json")
    packaging.package(again, out)
    index = json.loads((out / "index.json").read_text())
    assert {f"{SLUG}/best", f"{SLUG}-morph/best"} <= set(index)
    assert all((out / entry["file"]).exists() for entry in index.values())


def candidate(run: str, updates: int, earned: float, length: float = 1000.0) -> grading.Candidate:
    return grading.Candidate(Path(run, "snapshots", f"{updates}"), updates, earned, length)


def test_a_ladder_is_the_mediums_own_training_in_order_and_never_above_it():
    medium = candidate("own", 300, 900.0)
    own = [candidate("own", 10 * k, 30.0 * k) for k in range(1, 60)]
    own[20] = candidate("own", 210, 5000.0)  # a lucky peak before the medium
    others = [candidate("other", 10 * k, 30.0 * k) for k in range(1, 60)]
    chosen = grading.choose_ladder([*own, *others], medium, 900.0)
    assert len(chosen) == len(set(chosen)) == 8
    assert all(c.run == medium.run and c.updates < 300 and c.deterministic <= 900 for c in chosen)
    steps = np.diff([c.updates for c in chosen])
    assert steps.min() >= 30 and steps.max() <= 50  # even, one step of ten more or less
    with pytest.raises(shiftgym.ShiftgymError, match="evaluate-every"):
        grading.choose_ladder(own[:5], medium, 900.0)


def test_packaged_policies_can_compete():
    kept = grading.packaged_candidates("hopper")
    assert {c.path.name for c in kept} >= {"hopper-expert.safetensors", "hopper-medium.safetensors"}
    assert not any("ladder" in c.path.name for c in kept)
    assert max(kept, key=lambda c: c.deterministic).path.name == "hopper-expert.safetensors"


def test_a_rung_that_turns_out_above_the_medium_makes_way(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (candidates,) = grading.by_domain([run]).values()
    lucky = {5: 9000.0, 9: 9000.0}  # of hundred updates: what they earn when measured

    def measured(policy: Policy, slug: str, episodes: int):
        found = told_measure(policy, slug, episodes)
        k = int(policy.metadata["updates"]) // 100
        found["stochastic"]["return"] = lucky.get(k, found["stochastic"]["return"])
        return found

    monkeypatch.setattr(grading, "measure", measured)
    tiers = grading._ladder(SLUG, candidates, candidates[-1], 5000.0, tmp_path)
    updates = [entry["updates"] for entry in tiers.values()]
    assert len(updates) == 8 and updates == sorted(set(updates))
    assert not {500, 900} & set(updates)
    assert all(entry["stochastic"]["return"] <= 5000 for entry in tiers.values())


@pytest.fixture
def known_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every candidate earn in selection what it earned when it was saved."""
    monkeypatch.setattr(grading, "_tried", lambda one, slug: (one, one.deterministic, 0.0))


def test_a_medium_moves_where_one_that_moves_is_near_enough(known_returns):
    stands, hops = candidate("r", 1, 1000.0), candidate("r", 2, 900.0, 350.0)
    flies = candidate("r", 3, 2500.0, 900.0)

    def medium(*made: grading.Candidate):
        found = grading.choose_medium(made, "hopper-kinematic", 1000.0, 2000.0)
        return found and found[0]

    assert medium(stands, hops, flies) == hops
    assert medium(stands, flies) == stands
    assert medium(flies) is None


def test_of_two_mediums_the_one_whose_set_earns_what_it_should(monkeypatch):
    spread = {1: 600.0, 2: 50.0}  # of a set's mean return
    tried = lambda one, slug: (one, one.deterministic, spread[one.updates])  # noqa: E731
    monkeypatch.setattr(grading, "_tried", tried)
    made = [candidate("r", 1, 2000.0), candidate("r", 2, 2300.0)]
    found = grading.choose_medium(made, "halfcheetah", 2000.0, 8000.0)
    assert found is not None and found[0] == made[1]
    assert found[2] == pytest.approx(math.hypot(300, 50))


def test_a_medium_has_a_ladder_where_one_is_wanted(known_returns, monkeypatch):
    monkeypatch.setattr(grading, "from_nothing", lambda run: run == Path("climbs"))
    climbing = [candidate("climbs", k, 100.0 * k) for k in range(1, 40)]
    begun_high = [candidate("on", k, 1480.0 + 10 * k) for k in range(1, 20)]
    for slug, run in {"halfcheetah": "climbs", "halfcheetah-friction-x2": "on"}.items():
        found = grading.find_medium([*climbing, *begun_high], [], slug, 1580.0, 4000.0)
        assert found is not None and found[0].run == Path(run)
    found = grading.find_medium(begun_high, [], "halfcheetah", 1580.0, 4000.0)
    assert found is not None and found[0].run == Path("on")


def test_a_training_from_nothing_is_one_that_was_not_warm_started(tmp_path: Path):
    for name, start in {"own": None, "on": Path("runs/other")}.items():
        config = BehaviourConfig(robot="hopper", out=tmp_path / name, warm_start=start)
        config.out.mkdir()
        write_json(config.out / "config.json", {"config": plain(config)})
        assert grading.from_nothing(tmp_path / name) == (start is None)
    assert not grading.from_nothing(tmp_path / "none")


def test_a_medium_is_borrowed_where_no_own_one_is_near(known_returns, monkeypatch):
    monkeypatch.setattr(grading, "borrowed", lambda robots, slug: robots)
    own, robots = [candidate("own", 1, 2000.0)], [candidate("robot", 1, 4100.0)]
    for goal, run in {4300.0: "robot", 2100.0: "own"}.items():
        found = grading.find_medium(own, robots, "halfcheetah-gravity-x0p5", goal, 9600.0)
        assert found is not None and found[0].run == Path(run)


@pytest.mark.parametrize(("slug", "score", "random", "expert"), [
    ("walker2d-morph", 45.7, 10.079455, 4398.43),  # OTDF's own medium set of the domain
    ("hopper", 44.0, -20.272305, 3234.3),  # D4RL's
])  # fmt: skip
def test_the_medium_goal_is_what_the_fields_own_medium_earns(slug, score, random, expert):
    goal = grading.medium_goal(slug, 0.0, 9999.0)
    assert goal == pytest.approx(random + score / 100 * (expert - random), rel=1e-5)


def test_elsewhere_the_medium_goal_is_half_the_way_to_the_expert():
    assert grading.medium_goal("ant-friction-x2", 100.0, 4100.0) == pytest.approx(2100.0)


@pytest.mark.parametrize(("slug", "bar"), [
    ("hopper-kinematic", 0.8 * 2842.73), ("ant-friction-x5", 0.8 * 4545.021),
    ("walker2d", 0.8 * 4592.3),
    ("pen", 0.7), ("door-morph-hard", 0.6), ("hopper-kinematic-legjnt-hard", None),
])  # fmt: skip
def test_a_bar_is_a_share_of_what_is_published_of_the_very_domain(slug, bar):
    assert packaging.bar(slug) == (None if bar is None else pytest.approx(bar))


def test_a_policy_that_stands_still_is_no_expert():
    standing = {"stochastic": {"return": 1010.0, "length": 1000.0}}
    walking = {"stochastic": {"return": 1900.0, "length": 1000.0}}
    assert not packaging.is_expert("walker2d-kinematic-footjnt-hard", standing)
    assert packaging.is_expert("walker2d-kinematic-footjnt-hard", walking)


def test_finishing_leaves_little_noise_and_weights_that_float16_holds():
    arrays = constant_policy(0.3)
    arrays["b2"][6:] = -0.5  # a deviation of 0.6 before tanh
    arrays["W2"][0, 0] = 1 / 3
    before = Policy(arrays, {"kind": "sac", "domain": SLUG})
    after = finishing.finish(before, SLUG)
    states = np.zeros((4000, 17), np.float32)
    rng = np.random.default_rng(1)
    moved = after.act(states, rng) - after.act(states)
    assert np.sqrt(np.square(moved).mean()) == pytest.approx(finishing.NOISE, rel=0.05)
    np.testing.assert_allclose(after.act(states), before.act(states), atol=1e-3)
    for array in after.arrays.values():
        np.testing.assert_array_equal(array, array.astype(np.float16))
    assert finishing.finish(after, SLUG).metadata["noise_scale"] in ("1", "0.99")


def test_measuring_is_repeatable_and_tells_every_episode():
    policy = Policy(constant_policy(0.3), {"kind": "sac", "domain": SLUG})
    measured = grading.measure(policy, SLUG, 2)
    assert measured == grading.measure(policy, SLUG, 2)
    for found in measured.values():
        assert found["return"] == pytest.approx(np.mean(found["returns"]), abs=0.01)
        assert found["return_low"] <= found["return"] <= found["return_high"]
        assert len(found["returns"]) == found["episodes"] == 2


def test_nothing_to_grade_or_package_is_said(tmp_path: Path):
    with pytest.raises(shiftgym.ShiftgymError, match="No snapshots"):
        grading.grade((tmp_path,), tmp_path / "graded")
    with pytest.raises(shiftgym.ShiftgymError, match="policies grade"):
        packaging.package(tmp_path / "graded", tmp_path / "out")


def test_a_shift_that_began_as_an_expert_has_its_medium_from_the_robots_own_training(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Nothing of the shift's own training is near the goal; half-trained policies of the robot are.

    Those are judged by what they earn in the shift: a push of 0.3 there, say, not what it earned.
    """
    shift = "halfcheetah-gravity-x2"
    (robots,) = grading.by_domain([run]).values()
    own = [candidate("own", 100 * k, 5200.0 + k) for k in range(1, 5)]
    moved = [grading.replace(c, deterministic=c.deterministic / 2) for c in robots]
    monkeypatch.setattr(grading, "borrowed", lambda them, slug: moved)
    monkeypatch.setattr(grading, "MEASUREMENT_EPISODES", 2)
    monkeypatch.setattr(grading, "measure", told_measure)

    def tried(one: grading.Candidate, slug: str) -> tuple[Policy, float, float]:
        path = one.path if one.path.exists() else robots[-1].path
        return finishing.finish(read_policy(path), slug, quiet=False), one.deterministic, 0.0

    monkeypatch.setattr(grading, "_tried", tried)
    assert "medium" not in grading.grade_domain(shift, own, tmp_path)["tiers"]
    medium = grading.grade_domain(shift, own, tmp_path, robots)["tiers"]["medium"]
    assert medium["run"] == "run" and medium["updates"] == 1100  # 2,750 there, and 2,700 is half


def test_borrowed_policies_are_judged_in_the_domain_that_borrows(run: Path):
    (robots,) = grading.by_domain([run]).values()
    tried = grading.borrowed(robots, "halfcheetah-gravity-x5")
    assert len(tried) == len(robots) and {c.updates for c in tried} == {c.updates for c in robots}
    assert all(c.deterministic < 500 for c in tried)  # constant pushes do not run, whatever is said

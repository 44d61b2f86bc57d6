"""Test the parts of a diagnosis where the truth is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from agent_helpers import make_arrays

import shiftgym
from shiftgym.basics.errors import DomainError, ShiftgymError
from shiftgym_agents.data.pairs import ArrayPair
from shiftgym_agents.data.sources import Sources, origins_of
from shiftgym_agents.evaluation.diagnosis import dynamics, filters, overlap, trials, verdict, worth
from shiftgym_agents.evaluation.diagnosis.sample import Side, draw
from shiftgym_agents.evaluation.diagnosis.verdict import HARMS, HELPS, NEITHER, Evidence, judge
from shiftgym_agents.evaluation.diagnosis.whole import Options, check, named
from shiftgym_agents.sweeps.grid import read_grids

CPU = torch.device("cpu")


def walk(rows: int, seed: int, push: float = 0.3, shift: float = 0.0) -> dict[str, np.ndarray]:
    """Make rows whose first coordinate alone moves by `push` times the first action."""
    rng = np.random.default_rng([seed, 1])  # not the stream that the states are drawn from
    arrays = make_arrays(rows, seed, obs=5)
    observed = arrays["observations"] + np.float32(shift)
    change = 0.02 * rng.normal(size=observed.shape)
    change[:, 1:] += 0.1 * np.tanh(observed[:, :-1])
    change[:, 0] += push * arrays["actions"][:, 0]
    after = (observed + change).astype(np.float32)
    return arrays | {"observations": observed, "next_observations": after}


def pair_of(source: Any, target: Any, **more: Any) -> ArrayPair:
    return ArrayPair(source, target, None, ("a", "b"), None, **more)


# --- the sample -----------------------------------------------------------------------------------


def test_a_sample_is_whole_stretches_of_either_side_in_the_pairs_box() -> None:
    source, target = walk(3000, 0), walk(400, 1)
    found = draw(pair_of(source, target, bounds=(-2.0, 2.0)), 600)
    assert 600 <= len(found.source.obs) < 700 and len(found.target.obs) == 400 and not found.cut
    assert len(np.unique(found.target.group)) == origins_of(target).trajectory[-1] + 1
    assert np.abs(found.target.act - target["actions"] / 2).max() < 1e-6
    assert np.allclose(found.target.change, target["next_observations"] - target["observations"])
    first = {row.tobytes() for row in source["observations"].astype(np.float64)}
    assert all(row.tobytes() in first for row in found.source.obs)


def test_long_trajectories_are_cut_and_that_is_said() -> None:
    target = walk(400, 1)
    target["terminated"][:], target["truncated"][:] = False, np.arange(400) % 200 == 199
    found = draw(pair_of(walk(500, 0), target), 10_000)
    assert found.cut and np.bincount(found.target.group).tolist() == [40] * 10
    assert found.pair.target["terminated"].sum() == 0


def test_sources_keep_their_names_and_a_part_of_each() -> None:
    both = Sources([walk(900, 0), walk(300, 1)], ("x", "y"))
    found = draw(pair_of(both, walk(200, 2)), 600)
    assert found.parts == ("x", "y")
    counts = np.bincount(found.source.part)
    assert counts[0] == pytest.approx(450, abs=40) and counts[1] == pytest.approx(150, abs=40)


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ShiftgymError, match="b has 30 rows"):
        draw(pair_of(walk(100, 0), walk(30, 1)), 100)


# --- overlap --------------------------------------------------------------------------------------


def stretches(count: int, rng: np.random.Generator, spread: float = 1.0) -> tuple[Any, Any]:
    """Make `count` stretches of 20 rows that are much alike within and differ between."""
    middle = spread * rng.normal(size=(count, 1, 2))
    rows = middle + 0.3 * rng.normal(size=(count, 20, 2))
    return rows.reshape(-1, 2), np.repeat(np.arange(count), 20)


def test_the_two_sample_test_is_calibrated_for_rows_that_come_in_stretches() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(400):
        one, two = stretches(12, rng), stretches(6, rng)
        found.append(overlap.permuted(one[0][:, 0], two[0][:, 0], one[1], two[1], rng))
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(found) <= level) == pytest.approx(level, abs=0.06)


def test_one_distribution_is_not_told_apart_and_another_is() -> None:
    rng = np.random.default_rng(1)
    (source, own), (target, theirs) = stretches(30, rng), stretches(30, rng)
    same = overlap.tell_apart(source, target, own, theirs, 60)
    assert same.auc == pytest.approx(0.5, abs=0.15) and same.p > 0.05
    other = overlap.tell_apart(source + [4.0, 0.0], target, own, theirs, 60)
    assert other.auc > 0.9 and other.p < 0.01
    assert len(other.source) == len(source) and other.target.mean() > other.source.mean()


def side(obs: np.ndarray, groups: int = 10) -> Side:
    act, count = np.zeros((len(obs), 1)), len(obs)
    group = np.arange(count) * groups // count
    return Side(obs, act, np.zeros_like(obs), np.zeros(count), group, np.zeros(count, int))


def test_coverage_is_whole_within_a_domain_and_none_far_away() -> None:
    rng = np.random.default_rng(0)
    target = side(rng.normal(size=(300, 3)))
    same = overlap.cover(side(rng.normal(size=(500, 3))), target)
    assert same.states > 0.88 and same.pairs > 0.88 and same.near.mean() > 0.88
    half = overlap.cover(
        side(rng.normal(size=(500, 3)) + [9, 0, 0] * (np.arange(500)[:, None] < 250)), target
    )
    assert half.near.mean() == pytest.approx(0.5, abs=0.06)
    far = overlap.cover(side(rng.normal(size=(500, 3)) + 20), target)
    assert far.states == far.pairs == 0 and not far.near.any()


def test_differences_of_columns() -> None:
    rng = np.random.default_rng(0)
    target = rng.normal(size=(4000, 2)) * [1, 5]
    means, largest = overlap.differences(target + [0, 5], target)
    assert means == pytest.approx([0, 1], abs=0.02)
    assert largest == pytest.approx([0, 0.383], abs=0.02)  # 2 Phi(1/2) - 1


# --- dynamics -------------------------------------------------------------------------------------


def found_gap(source: dict[str, np.ndarray]) -> dynamics.Gap:
    sample = draw(pair_of(source, walk(1500, 7)), 1500)
    errors, scores = dynamics.model_errors(sample, [0, 1], 300, CPU, "eager")
    assert scores.shape == (len(sample.source.obs),) and (scores <= 0).all()
    return dynamics.gap(errors, sample.source.group, np.ones(len(scores)))


def test_no_gap_is_called_within_a_domain() -> None:
    gap = found_gap(walk(1500, 3))
    assert gap.compared and not gap.called and not gap.each_called.any()
    assert gap.value == pytest.approx(1, abs=0.15) and gap.low < gap.value < gap.high
    assert gap.foreign == pytest.approx(0.05, abs=0.04)


def test_the_coordinate_whose_dynamics_differ_is_named() -> None:
    gap = found_gap(walk(1500, 3, push=-0.3))
    assert gap.called and gap.each_called.tolist() == [True, False, False, False, False]
    assert gap.low > 1.2 and gap.foreign > 0.5


def test_other_states_of_one_domain_are_no_gap() -> None:
    """What is compared is where the target has been, as often as it has been there."""
    sample = draw(pair_of(walk(1500, 3, shift=0.7), walk(1500, 7)), 1500)
    groups = sample.source.group, sample.target.group
    apart = overlap.tell_apart(sample.source.obs_act, sample.target.obs_act, *groups, 150)
    assert apart.auc > 0.7
    near = overlap.cover(sample.source, sample.target).near
    weights = dynamics.weights_of(apart.source, near)
    errors, _ = dynamics.model_errors(sample, [0, 1], 300, CPU, "eager")
    assert not dynamics.gap(errors, groups[0], weights).called


def test_a_gap_below_the_models_own_error_is_none() -> None:
    """Source errors as large as held-out ones are no gap, however large both are."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 20)
    large = 50 * rng.chisquare(1, (600, 4))
    errors = dynamics.Errors(large, groups, 50 * rng.chisquare(1, (600, 4)))
    gap = dynamics.gap(errors, groups, np.ones(600))
    assert not gap.called and gap.unknown == pytest.approx(math.sqrt(50), rel=0.1)
    beyond = dynamics.gap(dynamics.Errors(large, groups, 3 * large), groups, np.ones(600))
    assert beyond.called and beyond.value == pytest.approx(math.sqrt(3), rel=0.01)


def test_gaps_are_rarely_called_by_chance() -> None:
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(25), 16)
    called = 0
    for seed in range(40):
        held, source = (rng.chisquare(1, (400, 6)) for _ in range(2))
        called += dynamics.gap(
            dynamics.Errors(held, groups, source), groups, np.ones(400), seed
        ).called
    assert called <= 1


def test_too_few_comparable_rows_tell_nothing() -> None:
    errors = dynamics.Errors(np.ones((100, 2)), np.arange(100) // 10, np.ones((100, 2)))
    gap = dynamics.gap(errors, np.arange(100) // 10, np.arange(100) < 40.0)
    assert not gap.compared and not gap.called and math.isnan(gap.value) and gap.worth == 40


def test_weights_follow_the_odds_up_to_a_cap_and_only_near_the_target() -> None:
    odds, near = np.log([0.5, 2.0, 1e6, 2.0]), np.array([True, True, True, False])
    assert dynamics.weights_of(odds, near) == pytest.approx([0.5, 2, dynamics.CAP, 0])


def test_transport_costs_no_more_than_the_targets_own_within_a_domain() -> None:
    cost, own = dynamics.transport_cost(draw(pair_of(walk(500, 0), walk(500, 1)), 500))
    assert cost == pytest.approx(own, rel=0.1)
    far, own = dynamics.transport_cost(draw(pair_of(walk(500, 0, shift=3.0), walk(500, 1)), 500))
    assert far > 1.5 * own


# --- value and filters ----------------------------------------------------------------------------


def test_returns_are_of_trajectories_that_ended() -> None:
    arrays = walk(10, 0)
    arrays["rewards"] = np.arange(10, dtype=np.float32)
    arrays["terminated"], arrays["truncated"] = np.arange(10) == 3, np.arange(10) == 7
    found = worth.earned(arrays)
    assert found.returns == (6.0, 22.0) and found.length == 4 and found.rows == 10
    assert found.mean == 14 and found.low == 6 and found.high == 22
    arrays["terminated"] = arrays["truncated"] = np.zeros(10, bool)
    assert worth.earned(arrays).mean is None


def test_a_source_is_poorer_where_trajectories_of_one_policy_would_not_be() -> None:
    rng = np.random.default_rng(0)
    chances = []
    for _ in range(200):  # one policy, which falls in two trajectories of a hundred
        drawn = np.where(rng.random(105) < 0.02, 500.0, rng.normal(1_850, 20, 105))
        chances.append(worth.poorer(drawn[:100], drawn[100:], 200))
    assert 0 < np.mean(np.array(chances) < 0.025) < 0.06
    assert worth.poorer([1.0, 2.0, 3.0], [11.0, 12.0, 13.0]) == pytest.approx(1 / 20, abs=0.01)
    assert worth.poorer([11.0, 12.0, 13.0], [1.0, 2.0, 3.0]) == 1.0
    assert worth.poorer([], [1.0]) == 1.0


def test_actions_that_earn_less_have_a_negative_advantage() -> None:
    """Reward is the first action: the source acts at -0.8 where the target is spread around 0."""
    target, source = walk(300, 0), walk(300, 1)
    source["actions"][:, 0] = -0.8
    for arrays in (source, target):
        arrays["rewards"] = arrays["actions"][:, 0].copy()
        arrays["terminated"][:] = True
    found = []
    for unit in (1, 1_000):  # observations in metres, and in millimetres
        for arrays in (source, target):
            arrays["observations"] *= unit
            arrays["next_observations"] *= unit
        pair = pair_of(source, target, bounds=(-1.0, 1.0))
        found.append(worth.advantage(pair, np.arange(300) // 30, [0], 100, CPU, "eager"))
    for each in found:
        assert each.high < -0.1 and each.better < 0.2 and each.apart > 0.1
    assert found[1].mean == pytest.approx(found[0].mean, rel=0.02)


def test_filters_agree_with_themselves_and_not_with_their_opposite() -> None:
    scores = np.random.default_rng(0).normal(size=100)
    both = [filters.Filter("a", 0.2, scores), filters.Filter("b", 0.5, -scores)]
    assert filters.agreement(both) == pytest.approx(np.array([[1, -1], [-1, 1]]))
    assert filters.overlaps(both) == pytest.approx(np.eye(2))
    assert both[0].kept().sum() == 20 and scores[both[0].kept()].min() >= np.sort(scores)[80]


# --- the verdict ----------------------------------------------------------------------------------

SAME = Evidence(
    0.9, True, (False, 1.0, 0.9, 1.1), (), (), ((50, 45, 55), (40, 35, 45)), 1.0, (0.0, -0.1, 0.1)
)
FAR = {"gap": (True, 3.0, 2.5, 3.5), "coordinates": ("knee",)}
BAD, FINE = (-0.5, -0.7, -0.3), (0.2, 0.1, 0.3)
CASES = {
    "same dynamics, covered": ({}, HELPS, "no gap"),
    "same dynamics, poor source": ({"poorer": 0.01}, NEITHER, "earned less"),
    "same dynamics, poor by chance": ({"earned": ((10, 9, 11), (40, 35, 45))}, HELPS, "no gap"),
    "same dynamics, elsewhere": ({"covered": 0.2}, NEITHER, "only 20%"),
    "nothing to compare": ({"compared": False, "covered": 0.0}, NEITHER, "cannot be compared"),
    "nothing to compare, and where": (
        {"compared": False, "elsewhere": ("hip",)},
        NEITHER,
        "in hip",
    ),
    "a gap, worse actions": (FAR | {"advantage": BAD}, HARMS, "3.00 [2.50, 3.50]"),
    "a gap, worse by chance": (FAR | {"advantage": (-0.01, -0.02, -0.005)}, NEITHER, "in knee"),
    "a gap, fine actions": (FAR | {"advantage": FINE}, NEITHER, "only a training can tell"),
    "no returns known": ({"earned": None, "advantage": None}, HELPS, "90%"),
}


@pytest.mark.parametrize("case", CASES)
def test_verdict_of_data_alone(case: str) -> None:
    changes, word, why = CASES[case]
    found = judge(Evidence(**(vars(SAME) | changes)))
    assert found.word == word and why in found.sentence and found.basis == "data alone"
    assert (word if word != NEITHER else "cannot be told") in found.sentence and found.because


LOW, MIDDLE, HIGH = (19.0, 20.0, 21.0), (49.0, 50.0, 51.0), (79.0, 80.0, 81.0)
WIDE, NAN = (10.0, 50.0, 90.0), (float("nan"),) * 3
TRIALS: dict[str, tuple[tuple[Any, ...], str, str]] = {  # bc, iql-target, iql, otdf, tabb
    "all better": ((LOW, MIDDLE, HIGH, HIGH, HIGH), HELPS, "over iql-target"),
    "one better": ((LOW, MIDDLE, MIDDLE, HIGH, LOW), HELPS, "otdf"),
    "better than one alone": ((LOW, HIGH, MIDDLE, MIDDLE, HIGH), NEITHER, "tabb"),
    "all worse": ((HIGH, LOW, LOW, MIDDLE, LOW), HARMS, "otdf"),
    "some worse": ((MIDDLE, LOW, LOW, MIDDLE, LOW), NEITHER, "otdf"),
    "no difference": ((MIDDLE, MIDDLE, MIDDLE, MIDDLE, MIDDLE), NEITHER, "iql"),
    "seeds differ too much": ((LOW, MIDDLE, WIDE, WIDE, WIDE), NEITHER, "iql"),
    "one seed": (((20.0,), (50.0,), (80.0,), (80.0,), (80.0,)), NEITHER, "inf"),
    "diverged alone": ((NAN, LOW, HIGH, HIGH, HIGH), HELPS, "over iql-target"),
    "diverged with it": ((LOW, LOW, NAN, HIGH, NAN), HELPS, "otdf"),
    "all diverged alone": ((NAN, NAN, HIGH, HIGH, HIGH), NEITHER, "no training"),
}


@pytest.mark.parametrize("case", TRIALS)
def test_verdict_of_trainings(case: str) -> None:
    values, word, why = TRIALS[case]
    alone: dict[str, Any] = dict(zip(trials.ALONE, values[:2], strict=True))
    using: dict[str, Any] = dict(zip(trials.USING, values[2:], strict=True))
    tried = trials.Trials("score", alone, using)
    found = judge(SAME, tried)
    assert found.word == word and why in found.sentence and found.basis == "training"


def test_a_source_that_harms_whole_but_not_in_part_says_so() -> None:
    tried = trials.Trials("return", {"bc": MIDDLE}, {"iql": LOW, "otdf": HIGH})
    assert any("Taken whole" in each for each in judge(SAME, tried).because)


@pytest.mark.parametrize(
    ("level", "freedom", "wanted"),
    [
        (0.975, 1, 12.706),
        (0.975, 2, 4.303),
        (0.975, 2.5, 3.575),
        (0.995, 4, 4.604),
        (0.95, 30, 1.697),
    ],
)
def test_quantiles_of_students_t(level: float, freedom: float, wanted: float) -> None:
    assert verdict.t_quantile(level, freedom) == pytest.approx(wanted, abs=0.01)


def test_intervals_pool_the_spread_of_seeds() -> None:
    found = verdict.compare([1, 2, 3], [5, 7, 9])
    assert found.mean == -5  # pooled variance 10/4, 4 degrees of freedom
    assert found.high - found.mean == pytest.approx(2.776 * math.sqrt(2.5 * 2 / 3), abs=0.01)
    more = verdict.compare([1, 2, 3], [5, 7, 9], others=[[0, 0, 0], [4.0]])  # 10/6, 6
    assert more.high - more.mean == pytest.approx(2.447 * math.sqrt(10 / 6 * 2 / 3), abs=0.01)


@pytest.mark.parametrize(
    "spreads", [(10, 10, 10, 10, 10), (3, 8, 8, 8, 8), (3, 3, 3, 3, 15), (3, 3, 15, 15, 15)]
)
def test_verdicts_are_rarely_given_by_chance(spreads: tuple[float, ...]) -> None:
    """Seeds of one method may differ five times as much as another's: the pooled spread bears it.

    Intervals of two methods' own three seeds (Welch 1947) err as rarely, and find a source that
    adds two spreads a third as often.
    """
    rng, given = np.random.default_rng(0), 0
    for _ in range(200):
        given += by_chance(rng, (50, 50, 50, 50, 50), spreads) != NEITHER
    assert given <= 20


@pytest.mark.parametrize("name", [*trials.ALONE, *trials.USING])
def test_trainings_are_of_the_sizes_of_the_laptop_protocol(name: str) -> None:
    (grid,) = read_grids("laptop")
    asked = grid.config(name, "hopper", {})
    config = vars(trials.short(name, shiftgym.domain("hopper"), 700))
    alike = {*trials.SIZES, "temperature", "normalize_states"} & {*config}
    assert {key: config[key] for key in alike} == {key: asked[key] for key in alike}
    assert config["steps"] == 700


def test_a_source_that_adds_more_than_two_spreads_is_mostly_found() -> None:
    rng, found = np.random.default_rng(1), 0
    for _ in range(200):
        found += by_chance(rng, (40, 40, 60, 40, 40), (6, 6, 6, 6, 6)) == HELPS
    assert found >= 140


def by_chance(rng: np.random.Generator, means: Any, spreads: Any) -> str:
    names = (*trials.ALONE, *trials.USING)
    drawn = {
        name: tuple(rng.normal(mean, spread, 3))
        for name, mean, spread in zip(names, means, spreads, strict=True)
    }
    alone, using = ({name: drawn[name] for name in own} for own in (trials.ALONE, trials.USING))
    return verdict.by_training(trials.Trials("score", alone, using)).word


# --- options --------------------------------------------------------------------------------------


def test_options_that_mean_nothing_are_refused_before_minutes_are_spent() -> None:
    pair = ArrayPair(walk(50, 0), walk(50, 1), shiftgym.domain("hopper"), ("a", "b"))
    with pytest.raises(DomainError, match="--filters bc"):
        check(pair, Options(filters=("bc",)))
    with pytest.raises(DomainError, match="--using bc"):
        check(pair, Options(using=("bc",)))
    check(pair, Options(using=("bc",), quick=True))
    with pytest.raises(DomainError, match="2 names, observations are 3"):
        named(("x", "y"), 3)
    assert named((), 2) == named((), 2, shiftgym.domain("hopper")) == ["#0", "#1"]
    assert named((), 11, shiftgym.domain("hopper"))[2] == "thigh_joint"
    with pytest.raises(ShiftgymError, match="most must be"):
        Options(most=0)

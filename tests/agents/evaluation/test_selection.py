"""Test that labelled sources are what they say, and that scores are judged rightly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from agent_helpers import NAMES, make_agent, make_arrays, small, train

import shiftgym
from shiftgym.basics.errors import DomainError, ShiftgymError
from shiftgym.basics.own_code import load_module
from shiftgym.datasets.flat import check_flat, ends
from shiftgym_agents.core.agent import Agent
from shiftgym_agents.data.pairs import ArrayPair
from shiftgym_agents.evaluation.selection import (
    YARDSTICK,
    auc,
    configured,
    find,
    judges,
    kept_true,
    score_source,
    shortened,
)
from shiftgym_agents.evaluation.truth import labelled
from shiftgym_agents.evaluation.yardstick import TargetModel, TargetModelConfig
from shiftgym_agents.methods.dvdf import scaled
from shiftgym_agents.methods.table import method
from shiftgym_agents.reports.selection import table

ROOT = Path(__file__).parents[3]
HOPPER = shiftgym.domain("hopper-kinematic")
JUDGES = [name for name in NAMES if judges(method(name))]


def toy_pair(seed: int) -> ArrayPair:
    source, target = make_arrays(60, seed), make_arrays(40, 9 + seed, 0.2)
    return ArrayPair(source, target, HOPPER, ("a", "b"), None)


# --- measures -------------------------------------------------------------------------------------


def test_area_counts_pairs_in_order_and_ties_half() -> None:
    rng = np.random.default_rng(0)
    scores, true = rng.integers(0, 6, 60).astype(float), rng.random(60) < 0.4
    gaps = scores[true][:, None] - scores[~true][None]
    assert auc(scores, true) == pytest.approx(np.mean((gaps > 0) + 0.5 * (gaps == 0)))


def test_the_label_scores_1_its_opposite_0_all_alike_and_noise_a_half() -> None:
    true = np.arange(4000) % 2 == 0
    for measure in (auc, kept_true):
        assert measure(true.astype(float), true) == 1
        assert measure(-true.astype(float), true) == 0
        assert measure(np.zeros(4000), true) == 0.5
        noise = np.random.default_rng(0).normal(size=4000)
        assert measure(noise, true) == pytest.approx(0.5, abs=0.03)
        assert np.isnan(measure(np.where(true, np.nan, 1.0), true))


def test_kept_rows_share_ties_at_the_edge() -> None:
    true = np.array([True, True, False, False])
    assert kept_true(np.array([3.0, 1, 1, 1]), true, 0.5) == pytest.approx((1 + 1 / 3) / 2)
    assert kept_true(np.array([3.0, 2, 1, 0]), true, 0.75) == pytest.approx(2 / 3)


def test_one_kind_of_rows_cannot_be_told_apart() -> None:
    with pytest.raises(ShiftgymError, match="both kinds"):
        auc(np.zeros(3), np.ones(3, bool))


# --- labelled sources -----------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["hopper-friction-x5", "ant-kinematic"])
def twins(request: pytest.FixtureRequest) -> Any:
    return labelled("twins", request.param, rows=80, seed=3)


def test_twins_share_states_and_actions_to_the_bit(twins: Any) -> None:
    source, true = twins.pair.source, twins.true
    check_flat(source, twins.pair.domain)
    assert true.sum() == 40 and ends(source).all()
    given = np.concatenate([source["observations"], source["actions"]], 1)
    one, two = (half[np.lexsort(half.T)] for half in (given[true], given[~true]))
    assert (one == two).all()
    assert auc(given.sum(1), true) == 0.5  # whatever looks at (s, a) alone
    after = source["next_observations"].astype(float)
    assert not (after[:, None] == source["observations"][None]).all(2).any()  # nothing leads on


def test_twins_obey_the_dynamics_they_are_labelled_with(twins: Any) -> None:
    """Step the single environments from the observations, which tell all but the warm start."""
    source, own = twins.pair.source, twins.pair.domain
    worst = []
    for of, rows in ((own, twins.true), (twins.other, ~twins.true)):
        env: Any = of.make(max_episode_steps=-1).unwrapped
        env.reset(seed=0)
        hidden = env.model.nq + env.model.nv - source["observations"].shape[1]
        for k in np.flatnonzero(rows):
            seen = source["observations"][k].astype(float)
            if np.abs(seen).max() >= 10:  # a clipped velocity
                continue
            state = np.concatenate([np.zeros(hidden), seen])
            env.set_state(state[: env.model.nq], state[env.model.nq :])
            after, _, terminated, *_ = env.step(source["actions"][k])
            assert terminated == source["terminated"][k]
            worst.append(np.abs(after - source["next_observations"][k]).max())
        env.close()
    assert len(worst) > 40 and max(worst) < 1e-3
    assert twins.equal == pytest.approx(_equal(source, twins.true)) and twins.ceiling <= 1


def _equal(source: Any, true: np.ndarray) -> float:
    rows = np.concatenate([source[k] for k in ("observations", "actions", "next_observations")], 1)
    return float((rows[true][:, None] == rows[~true][None]).all(2).any(1).mean())


def test_mixture_is_of_whole_episodes_in_hidden_order() -> None:
    found, again = (labelled("mixture", "hopper-morph", rows=400, seed=1) for _ in range(2))
    source: Any = found.pair.source
    check_flat(source, found.pair.domain)
    assert found.true.sum() == 200 and found.ceiling == 1
    assert all(np.array_equal(rows, again.pair.source[name]) for name, rows in source.items())
    changes = np.flatnonzero(found.true[1:] != found.true[:-1])
    assert len(changes) and ends(source)[changes].all()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("twin", "hopper-morph"), "twins"),
        (("twins", "hopper", "hopper"), "another domain"),
        (("twins", "hopper-morph", None, "medium", 7), "even"),
        (("twins", "hopper-morph", None, "medum"), "medium"),
    ],
)
def test_what_cannot_be_made_is_refused(given: tuple[Any, ...], said: str) -> None:
    with pytest.raises(ShiftgymError, match=said):
        labelled(*given)


# --- methods --------------------------------------------------------------------------------------


def test_those_that_tell_rows_apart_say_so() -> None:
    blind = {"iql", "iql-target", "bc", "sql", "td3bc", "cql"}
    assert not blind & set(JUDGES) and {"otdf", "igdf", "tabb", "dara"} <= set(JUDGES)


@pytest.mark.parametrize("name", JUDGES)
@pytest.mark.parametrize("preset", ["ours", "official"])
def test_scores_are_one_number_per_source_row(name: str, preset: str) -> None:
    pairs = [toy_pair(k) for k in range(2)]
    config = configured(name, pairs[0], preset, most=6)
    sizes = {key: 32 for key in vars(config) if key.endswith("width")} | {"batch": 16, "steps": 60}
    config = replace(config, **sizes)
    found = score_source(method(name), [config] * 2, pairs, [0, 1], updates=6, backend="eager")
    assert found is not None and found.shape == (2, 60) and np.isfinite(found).all()
    if (name, preset) != ("srpo", "official"):  # whose cut pays all rows alike at first
        assert (found.std(1) > 0).all()


def test_method_that_never_answers_is_an_error_that_says_so() -> None:
    class Silent(method("iql")):
        def source_scores(self) -> None:
            return None

    pair = toy_pair(0)
    with pytest.raises(ShiftgymError, match="Silent.source_scores has no answer"):
        score_source(Silent, [small("iql")], [pair], [0], updates=3, backend="eager")


def test_all_rows_alike_are_no_score() -> None:
    assert score_source(method("iql"), [], [], []) is None
    assert make_agent("iql").source_scores() is None


def test_dvdf_ranks_all_rows_as_it_does_a_batch() -> None:
    agent = train(
        make_agent("dvdf-igdf", small("dvdf-igdf", score_scale="rank", advantage_scale="minmax")),
        updates=0,
    )
    assert isinstance(agent, Agent)
    scores = agent.source_scores()
    columns = agent.data.columns["source"]
    h, a = (columns[name][..., None] for name in ("cosine", "advantage"))
    wanted = 0.7 * scaled(h, "rank") + 0.3 * scaled(a, "minmax")
    torch.testing.assert_close(scores, wanted[..., 0])


def test_short_pretraining_leaves_what_is_shorter_alone() -> None:
    config = shortened(method("tabb").presets["ours"], 5_000)
    assert config.representation_steps == config.anchor_steps == 5_000
    assert config.finetune_steps == 5_000 and config.steps == 1_000_000
    assert shortened(config, 0) == config


# --- the yardstick --------------------------------------------------------------------------------


def linear(rows: int, seed: int, gain: float) -> dict[str, np.ndarray]:
    """Make rows whose first dimension moves by gain times the first action."""
    rng = np.random.default_rng(seed)
    arrays = make_arrays(rows, seed)
    act = arrays["actions"]
    change = 0.02 * rng.normal(size=arrays["observations"].shape)
    change[:, 0] += gain * act[:, 0]
    after = arrays["observations"] + change
    return arrays | {"next_observations": after.astype(np.float32)}


def test_yardstick_finds_rows_of_other_dynamics() -> None:
    halves = linear(200, 0, 0.3), linear(200, 1, -0.3)
    source = {name: np.concatenate([half[name] for half in halves]) for name in halves[0]}
    pair = ArrayPair(source, linear(600, 2, 0.3), HOPPER, ("a", "b"), None)
    config = TargetModelConfig(model_steps=300, model_every=50, width=64)
    found = score_source(TargetModel, [config], [pair], [0], backend="eager")
    assert found is not None
    true = np.arange(400) < 200
    assert auc(found[0], true) > 0.9
    assert -2 < np.median(found[0][true]) < -0.3  # about one held-out error: it is read against it


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def command() -> ModuleType:
    return load_module(ROOT / "benchmarks/selection.py")


TINY = dict(robots=("hopper",), shifts=("morph",), rows=40, most=3, threads=1, device="cpu")


def test_command_measures_once_and_goes_on(
    command: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "found" / "selection.csv"
    calls: list[tuple[str, int]] = []
    measure: Callable[..., Any] = command.measure

    def counted(name: str, cases: list[Any], *rest: Any) -> Any:
        calls.append((name, len(cases)))
        return measure(name, cases, *rest)

    monkeypatch.setattr(command, "measure", counted)
    options = command.Options(methods=("igdf",), designs=("twins",), out=out, **TINY)
    assert command.main(options) == 0
    assert calls == [(YARDSTICK, 1), ("igdf", 1)]
    before = out.read_bytes()
    assert command.main(options) == 0 and len(calls) == 2 and out.read_bytes() == before
    assert command.main(replace(options, designs=("twins", "mixture"))) == 0
    assert calls[2:] == [(YARDSTICK, 1), ("igdf", 1)]
    assert "hopper-morph" in capsys.readouterr().out
    page = tmp_path / "selection.md"
    load_module(ROOT / "docs/make_selection.py").main(out, page)
    told = page.read_text()
    assert "## Twins" in told and "| hopper-morph |" in told and "at most 3 updates" in told
    with pytest.raises(ShiftgymError, match="most 3"):
        command.main(replace(options, most=4))
    with pytest.raises(DomainError, match="bc takes all source rows alike"):
        command.main(replace(options, methods=("bc",)))


def test_method_of_a_file_takes_part_and_a_changed_one_anew(
    command: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = tmp_path / "mine.py", tmp_path / "found.csv"
    file.write_text((ROOT / "examples/own_method.py").read_text())
    calls: list[str] = []

    def noted(name: str, cases: list[Any], options: Any, title: str) -> list[dict[str, str]]:
        calls.append(name)
        return [dict(zip(command.KEY, command.keyed(name, case), strict=True))
                | {"auc": "1", "kept_true": "1", "ceiling": "1"} for case in cases]  # fmt: skip

    mine = f"{file}:Modelled"
    options = command.Options(methods=(mine,), designs=("twins",), out=out, **TINY)
    assert len(command.measure(mine, [("hopper-morph", "twins", 0)], options, "")) == 1
    monkeypatch.setattr(command, "measure", noted)
    for _ in range(2):
        assert command.main(options) == 0
    assert calls == [YARDSTICK, mine]
    file.write_text(file.read_text() + "\n# changed")
    assert command.main(options) == 0 and calls == [YARDSTICK, mine, mine]


def test_table_has_a_line_per_target_and_bounds_twins() -> None:
    row = {"target": "hopper-morph", "other": "hopper", "design": "twins", "kept_true": "0.5"}
    row |= {"seed": "0", "ceiling": "0.9"}
    rows = [row | {"method": name, "auc": value} for name, value in
            (("otdf", "0.8"), ("igdf", "0.6"), (YARDSTICK, "0.95"))]  # fmt: skip
    rows += [row | {"method": "otdf", "seed": "1", "auc": "0.7"}]
    rows += [row | {"method": "otdf", "target": "ant-morph", "other": "ant", "auc": "0.5"}]
    lines = table(rows, "twins")
    assert lines[0] == "| target | attainable | `target-model` | `igdf` | `otdf` |"
    assert lines[2:] == [
        "| ant-morph | 0.90 |  |  | **0.50** |",
        "| hopper-morph | 0.90 | 0.95 | 0.60 | **0.75** |",
        "| *mean* | 0.90 |  |  | **0.67** |",
    ]


def test_names_find_methods_and_the_yardstick() -> None:
    assert find(YARDSTICK) is TargetModel and find("otdf") is method("otdf")
    pair = toy_pair(0)
    assert configured("otdf", pair, most=7).cvae_steps == 0  # pyright: ignore
    assert configured(YARDSTICK, pair, most=7).model_steps == 7  # pyright: ignore

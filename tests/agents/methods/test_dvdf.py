"""Test DVDF: its ranking against sorting and its limits, the source's values, both scores."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from agent_helpers import distance, make_agent, make_arrays, make_pair, small, train, weights
from filtering_helpers import ROWS, drawn, firsts, top, two_kinds
from torch import Tensor

from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.components.source_values import ADVANTAGE
from shiftgym_agents.core.networks import unpack
from shiftgym_agents.data.batches import Batch
from shiftgym_agents.methods.dvdf import DVDF, DVDFOTDF, scaled
from shiftgym_agents.methods.igdf import COSINE
from shiftgym_agents.methods.otdf import DEVIATION
from shiftgym_agents.training.running import Running

BOTH = pytest.mark.parametrize(("name", "base"), [("dvdf-igdf", "igdf"), ("dvdf-otdf", "otdf")])


def make(name: str, **changes: Any) -> Any:
    """Make a small agent whose source rows have random, published scores and advantages."""
    published = {"score_scale": "none", "advantage_scale": "minmax", "weight_by": "cosine"}
    fields = vars(small(name))
    changes = {k: v for k, v in published.items() if k in fields} | changes
    agent: Any = make_agent(name, small(name, **changes), dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    drawn_numbers = torch.rand(2, 2, max(agent.data.sizes["source"]), generator=generator).double()
    score = COSINE if name.endswith("igdf") else DEVIATION
    low = 0.5 if score == COSINE else 1.0
    agent.data.add_column("source", score, drawn_numbers[0] - low)
    agent.data.add_column("source", ADVANTAGE, 3 * drawn_numbers[1] - 2)
    return agent


def parts(agent: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Give dynamics score and scaled advantage of source rows from their definitions."""
    advantage = batch.source.columns[ADVANTAGE]
    low, high = advantage.amin(1, True), advantage.amax(1, True)
    if isinstance(agent, DVDF):
        return batch.source.columns[COSINE], (advantage - low) / (high - low + 1e-8)
    d = batch.source.columns[DEVIATION]
    closeness = (d - d.amax(1, True)) / (d.amax(1, True) - d.amin(1, True) + 1e-8)
    return closeness, (advantage - low) / (high - low + 1e-8)


def kept_by(agent: Any, batch: Batch) -> list[set[float]]:
    return firsts(agent.choose(batch, {})[0])


# --- ranking ---


@BOTH
def test_all_weight_on_dynamics_keeps_what_the_base_keeps(name: str, base: str) -> None:
    agent, plain = make(name, trade_off=1.0), make(base, keep=0.5)
    for start in (0, 50, 100):
        places = torch.arange(start, start + 32).expand(2, -1)
        batch, same = (one.data.batch(places, 16) for one in (agent, plain))
        mine, theirs = agent.choose(batch, {}), plain.choose(same, {})
        assert torch.equal(mine[0].rows, theirs[0].rows)
        assert torch.equal(mine[1], theirs[1])


@BOTH
def test_no_weight_on_dynamics_keeps_the_highest_advantages(name: str, base: str) -> None:
    agent = make(name, trade_off=0.0)
    (batch,) = drawn(agent)
    assert kept_by(agent, batch) == top(batch.source.columns[ADVANTAGE], batch, agent.kept)


@BOTH
@pytest.mark.parametrize("trade_off", [0.3, 0.7])
def test_best_half_by_the_weighted_sum_is_kept(name: str, base: str, trade_off: float) -> None:
    agent = make(name, trade_off=trade_off)
    (batch,) = drawn(agent)
    h, a = parts(agent, batch)
    kept, weight = agent.choose(batch, {})
    assert kept.sources == 8 and kept.rows.shape[1] == 24
    assert firsts(kept) == top(trade_off * h + (1 - trade_off) * a, batch, 8)
    assert torch.equal(kept.target.rows, batch.target.rows)
    assert (weight[:, 8:] == 1).all()


@pytest.mark.parametrize("gap", [0.05, 0.2, 0.4])
def test_a_better_row_wins_where_its_value_makes_up_for_its_dynamics(gap: float) -> None:
    """Two rows that matter, between a worst and a best value: 0.7 asks for 7/3 of the gap in h."""
    agent = make("dvdf-igdf", batch=4, keep=0.5, trade_off=0.7)
    for surplus, wins in ((0.99, False), (1.01, True)):
        need = surplus * 7 / 3 * gap
        h = torch.tensor([0.3 - gap, 0.3, 0.9, -0.9]).double()
        a = torch.tensor([need, 0.0, 1.0, 0.0]).double()
        rows = torch.zeros(2, 400).double()
        agent.data.add_column("source", COSINE, rows.index_copy(1, torch.arange(4), h.repeat(2, 1)))
        agent.data.add_column(
            "source", ADVANTAGE, rows.index_copy(1, torch.arange(4), a.repeat(2, 1))
        )
        batch = agent.data.batch(torch.arange(8).expand(2, -1), 4)
        kept = kept_by(agent, batch)
        for run in range(2):
            assert (float(batch.rows[run, 0, 0]) in kept[run]) == wins
            assert (float(batch.rows[run, 1, 0]) in kept[run]) != wins


def test_scaled_advantages_ignore_shift_and_unit() -> None:
    x = torch.randn(2, 16, 1, generator=torch.Generator().manual_seed(0)).double()
    for how in ("minmax", "rank", "clip"):
        found = scaled(x, how)
        assert found.shape == x.shape and found.min() == 0 and abs(float(found.max()) - 1) < 1e-7
        torch.testing.assert_close(scaled(100 * x - 7, how), found, rtol=0, atol=1e-7)
        assert torch.equal(found[:, :, 0].argmax(1), x[:, :, 0].argmax(1))
    assert scaled(x, "none") is x


def test_ranks_count_the_rows_below_and_clipping_tames_outliers() -> None:
    x = torch.tensor([5.0, 1.0, 1.0, 9.0]).double()[None, :, None]
    assert scaled(x, "rank").flatten().tolist() == pytest.approx([2 / 3, 0, 0, 1])
    x = torch.arange(128.0).double()[None, :, None].clone()
    x[0, 0] = -1e6
    assert scaled(x, "minmax")[0, 1] > 0.99 and scaled(x, "clip")[0, 1] == 0


@pytest.mark.parametrize("how", ["minmax", "rank", "clip"])
def test_equal_advantages_leave_the_ranking_to_dynamics(how: str) -> None:
    agent = make("dvdf-igdf", advantage_scale=how)
    agent.data.columns["source"][ADVANTAGE].fill_(-3.0)
    (batch,) = drawn(agent)
    kept, weight = agent.choose(batch, {})
    assert firsts(kept) == top(batch.source.columns[COSINE], batch, agent.kept)
    assert torch.isfinite(weight).all()


@BOTH
def test_by_default_both_scores_count_by_rank(name: str, base: str) -> None:
    """However little dynamics scores spread, 0.7 is 70 % of the ranking."""
    agent = make(name, score_scale="rank", advantage_scale="rank")
    fresh = small(name)
    assert (fresh.score_scale, fresh.advantage_scale) == ("rank", "rank")  # pyright: ignore
    column = COSINE if base == "igdf" else DEVIATION
    (batch,) = drawn(agent)
    before = kept_by(agent, batch)
    ranks = [batch.source.columns[c].argsort(1).argsort(1).double() for c in (column, ADVANTAGE)]
    assert before == top(0.7 * ranks[0] + 0.3 * ranks[1], batch, agent.kept)
    agent.data.columns["source"][column].mul_(0.01)
    (batch,) = drawn(agent)
    ranks = [batch.source.columns[c].argsort(1).argsort(1).double() for c in (column, ADVANTAGE)]
    assert kept_by(agent, batch) == top(0.7 * ranks[0] + 0.3 * ranks[1], batch, agent.kept)


# --- weights ---


@BOTH
def test_weights_are_exponentials_of_dynamics_whatever_the_values(name: str, base: str) -> None:
    agent = make(name)
    (batch,) = drawn(agent)
    h, _ = parts(agent, batch)
    known = {(float(row[0])): float(x) for row, x in zip(batch.source.rows[0], h[0], strict=True)}
    kept, weight = agent.choose(batch, {})
    expected = [known[float(row[0])] for row in kept.source.rows[0]]
    np.testing.assert_allclose(weight[0, :8, 0], np.exp(expected), rtol=1e-12)


@pytest.mark.parametrize("kind", ["clipped_g", "exp_g", "one"])
def test_other_weights(kind: str) -> None:
    agent = make("dvdf-igdf", source_weight=kind, keep=1.0)
    (batch,) = drawn(agent)
    h, a = parts(agent, batch)
    g = (0.7 * h + 0.3 * a).sort(1, descending=True).values
    assert (g < 0).any()
    weight = agent.choose(batch, {})[1]
    if kind == "one":
        assert weight is None
        return
    expected = g.clamp(min=0) if kind == "clipped_g" else g.exp()
    torch.testing.assert_close(weight[:, :16], expected)
    assert (weight[:, 16:] == 1).all()


# --- values of the source ---


def test_advantages_of_a_bandit_have_their_closed_form() -> None:
    """Reward 1 or 0 with equal chance: V = 1 - 2 alpha, so A = 2 alpha and 2 alpha - 1."""
    arrays = make_arrays(300, 0)
    good = np.arange(300) % 2 == 0
    arrays["actions"] = np.where(good[:, None], 0.8, -0.8).repeat(3, 1).astype(np.float32)
    arrays["observations"] = np.ones_like(arrays["observations"])
    arrays["rewards"], arrays["terminated"] = good.astype(np.float32), np.ones(300, bool)
    pair = dataclasses.replace(make_pair(), source=arrays)
    changes = dict(advantage_steps=400, advantage_batch=64, learning_rate=3e-3, tau=0.1, width=16)
    agent = make_agent("dvdf-igdf", small("dvdf-igdf", **changes), pairs=[pair])
    assert isinstance(agent, DVDF)
    last = agent.pretraining()[-1]
    assert (last.source, last.target, last.steps) == (64, 0, 400)
    running = Running(agent, last, "eager")
    running.run(300)
    agent.logged.clear()
    running.run(100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the value has caught up
        agent.source_values.store()
    found = agent.data.columns["source"][ADVANTAGE][0]
    assert abs(float(found[0]) - 0.2) < 0.08 and abs(float(found[1]) + 0.8) < 0.08
    assert abs(float(agent.logged["sparse_weight"]) / 100 - 1) < 0.1


def test_a_value_that_trails_its_critics_is_a_warning() -> None:
    agent = make_agent("dvdf-igdf", runs=1)
    assert isinstance(agent, DVDF)
    layers = unpack(agent.source_values.critic.rows.flatten(0, 1), agent.source_values.critic.sizes)
    with torch.no_grad():
        layers[-1][1].add_(5.0)
    with pytest.warns(UserWarning, match="--advantage-steps"):
        agent.source_values.store()
    assert float(agent.told["advantage_weight"]) == pytest.approx(26, rel=0.1)  # 1 + 5 / 0.2


def test_advantage_is_of_the_critics_themselves_and_the_source_alone() -> None:
    agent = make_agent("dvdf-igdf", runs=1, dtype=torch.float64)
    assert isinstance(agent, DVDF)
    with torch.no_grad():
        agent.data.rows_of("target", 0).fill_(torch.nan)
    values = agent.source_values
    Running(agent, agent.pretraining()[-1], "eager").run(3)
    values.store()
    batch = agent.data.batch(torch.arange(400)[None], 400)
    with torch.no_grad():
        expected = values.critic(batch.obs_act).amin(1) - values.value(batch.obs)
    torch.testing.assert_close(batch.columns[ADVANTAGE], expected)
    assert torch.isfinite(expected).all()
    assert distance({"": values.critic.rows.detach()}, {"": values.copy.rows}) > 0


@pytest.mark.parametrize("kind", ["sql", "iql"])
def test_source_values_may_be_sparse_or_expectiles(kind: str) -> None:
    agent = make("dvdf-igdf", advantage_source=kind)
    Running(agent, agent.pretraining()[-1], "eager").run(2)
    assert ("sparse_weight" in agent.logged) == (kind == "sql")


def test_everything_pretrained_rests_while_the_policy_learns() -> None:
    agent = train(make_agent("dvdf-igdf"), updates=0)
    names = ("phi", "psi", "source_value", "source_critic", "source_critic_copy")
    before = {name: agent.parameters[name].rows.clone() for name in names}
    Running(agent, agent.stages()[-1], "eager").run(3)
    for name, rows in before.items():
        assert torch.equal(agent.parameters[name].rows, rows)
        assert not agent.parameters[name].rows.requires_grad


@BOTH
def test_columns_are_restored_bit_for_bit(name: str, base: str) -> None:
    agent, other = train(make_agent(name), updates=2), make_agent(name)
    other.load(agent.save())
    for stage in other.stages()[:-1]:
        assert stage.finish is not None
        stage.finish()
    mine, theirs = agent.data.columns["source"], other.data.columns["source"]
    assert mine.keys() == theirs.keys() and ADVANTAGE in mine
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)


# --- both together ---


def falls(found: list[float], slack: float = 0.02) -> bool:
    return all(b < a + slack for a, b in zip(found, found[1:], strict=False))


def test_recall_of_expert_rows_falls_with_the_weight_on_dynamics() -> None:
    """Half the source is random without shift, half expert with it; the target has none."""
    changes = dict(contrast_steps=400, contrast_batch=64, learning_rate=3e-3, discount=0.9)
    changes |= dict(advantage_steps=400, advantage_batch=64, tau=0.02, batch=64)
    changes |= dict(score_scale="none", advantage_scale="minmax")
    agent: Any = make_agent("dvdf-igdf", small("dvdf-igdf", **changes), pairs=[two_kinds()])
    train(agent, updates=0)
    expert = (torch.arange(ROWS) >= ROWS // 2).double()[None]
    agent.data.add_column("source", "expert", expert)
    batches = drawn(agent, 20)

    def recall(trade_off: float, **values: str) -> float:
        agent.config = dataclasses.replace(agent.config, **values)
        agent.trade_off = torch.full((1, 1, 1), trade_off)
        hits = [agent.choose(b, {})[0].source.columns["expert"].sum() for b in batches]
        return float(sum(hits) / sum(b.columns["expert"].sum() for b in batches))

    found = [recall(x) for x in (0.0, 0.3, 0.5, 0.7, 0.9, 1.0)]
    assert falls(found)
    assert found[0] > 0.6 and found[-1] < 0.4
    ranked = [recall(x, score_scale="rank", advantage_scale="rank") for x in (0.0, 0.5, 1.0)]
    assert falls(ranked)
    assert ranked[0] == pytest.approx(found[0]) and ranked[-1] == pytest.approx(found[-1])


@BOTH
def test_everything_kept_and_weighed_alike_is_the_plain_step(name: str, base: str) -> None:
    changes = {"keep": 1.0, "source_weight": "one"} | ({"support": 0.0} if base == "otdf" else {})
    agent = make(name, **changes)
    reduce = {"bc_reduce": "sum"} if base == "otdf" else {}
    plain = make_agent("iql", small("iql", **reduce), dtype=torch.float64)
    with torch.no_grad():
        for part, parameter in plain.parameters.items():
            agent.parameters[part].rows.copy_(parameter.rows)
    for one in (plain, agent):
        places = torch.arange(32).expand(2, -1)
        one.stages()[-1].update(one.data.batch(places, 16), {})
    mine = {k: v for k, v in weights(agent).items() if k in weights(plain)}
    assert distance(weights(plain), mine) < 1e-6


@BOTH
def test_order_of_source_rows_changes_nothing(name: str, base: str) -> None:
    agents = [make(name, **({"support": 0.0} if base == "otdf" else {})) for _ in range(2)]
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    for agent, own in zip(agents, (torch.arange(16), order), strict=True):
        places = torch.cat([own, torch.arange(16)]).expand(2, -1)
        agent.stages()[-1].update(agent.data.batch(places, 16), {})
    assert distance(weights(agents[0]), weights(agents[1])) < 1e-6


def test_on_otdf_the_support_term_comes_along() -> None:
    agent = make("dvdf-otdf", support=0.5)
    assert isinstance(agent, DVDFOTDF) and agent.config.bc_reduce == "sum"
    assert agent.kept == 8 and agent.stages()[-1].normal["support_action"] == (24, 3)
    Running(agent, agent.stages()[-1], "eager").run(1)
    assert (agent.logged["policy_penalty"] != 0).all()


def test_a_filter_over_the_dataset_is_refused() -> None:
    with pytest.raises(ShiftgymError, match="--filter-scope"):
        make_agent("dvdf-otdf", small("dvdf-otdf", filter_scope="dataset"))


def test_presets_say_where_they_differ() -> None:
    for chosen in (DVDF, DVDFOTDF):
        for preset in chosen.presets.values():
            assert (preset.keep, preset.trade_off, preset.alpha) == (0.5, 0.7, 0.1)
            assert preset.for_robot("hopper").keep == 0.5
        assert chosen.presets["ours"].source_weight == "exp_h"
        scales = {p: (v.score_scale, v.advantage_scale) for p, v in chosen.presets.items()}
        assert scales["ours"] == ("rank", "rank")
        assert scales["paper"] == scales["official"] == ("none", "minmax")
        assert chosen.presets["paper"].source_weight == "clipped_g"
        assert chosen.presets["official"].advantage_steps == 1_000_000
    assert DVDF.presets["official"].for_robot("ant").alpha == 0.2
    assert DVDF.presets["ours"].for_robot("ant").alpha == 0.1
    assert DVDF.presets["ours"].for_robot("pen").temperature == 0.5
    assert DVDFOTDF.presets["official"].policy_weights == "scalar"

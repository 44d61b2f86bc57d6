"""Test IGDF: the encoders against closed forms, the filter against sorting, the weights."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from agent_helpers import distance, make_agent, nowhere, small, train, weights
from filtering_helpers import ROWS, area_under_curve, drawn, firsts, top, two_kinds

from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.core.losses import weighted_mean
from shiftgym_agents.data.pairs import ArrayPair
from shiftgym_agents.methods.igdf import COSINE, IGDF, contrast_errors, cosine, held_out, share_mean
from shiftgym_agents.training.running import Running

UNITS = torch.tensor([1.0, 5.0])  # an action is a share of its bounds, -5 to 5


def igdf(runs: int = 2, pretrained: bool = True, dtype=torch.float64, **changes) -> IGDF:
    """Make a small agent with its scores stored, after no pre-training unless asked for."""
    config = small("igdf", **({"contrast_steps": 0} | changes))
    agent = make_agent("igdf", config, runs=runs, dtype=dtype)
    assert isinstance(agent, IGDF)
    if pretrained:
        agent.store_scores()
    return agent


# --- encoders ---


def test_untrained_logits_cost_what_guessing_costs() -> None:
    own, others = torch.zeros(2, 128, 1), torch.zeros(2, 128, 127)
    assert torch.allclose(contrast_errors(own, others), torch.tensor(math.log(2)))
    assert torch.allclose(contrast_errors(own, others, "softmax"), torch.tensor(math.log(128)))


def test_without_information_the_best_logit_is_minus_the_log_of_negatives() -> None:
    logit = torch.tensor(-math.log(127), dtype=torch.float64, requires_grad=True)
    loss = contrast_errors(logit.expand(1, 128, 1), logit.expand(1, 128, 127)).mean()
    (slope,) = torch.autograd.grad(loss, logit)
    assert abs(float(loss.detach()) - 0.04569) < 5e-6 and abs(float(slope)) < 1e-12


def discrete() -> tuple[ArrayPair, np.ndarray]:
    """Make 13 target rows of two (s, a) and three s', 12 source rows, and the best logits."""
    counts = np.array([[4, 2, 1], [1, 2, 3]])
    negatives = np.array([6, 4, 2])
    given = np.repeat([0, 0, 0, 1, 1, 1], counts.flatten())
    after = np.repeat([0, 1, 2, 0, 1, 2], counts.flatten())
    eye = np.eye(3, dtype=np.float32)

    def arrays(start: np.ndarray, end: np.ndarray) -> dict[str, np.ndarray]:
        ends = np.zeros(len(start), bool)
        rest = {"actions": eye[start, :2], "rewards": eye[start, 0]}
        rest |= {"terminated": ends, "truncated": ends}
        return {"observations": eye[start], "next_observations": eye[end]} | rest

    source = np.repeat([0, 1, 2], negatives)
    parts = {"source": arrays(source, source), "target": arrays(given, after)}
    best = np.log(counts / counts.sum(1, keepdims=True)) - np.log(negatives / 12) - np.log(12)
    return nowhere(**parts), best


def test_logits_reach_the_log_ratio_of_target_and_source() -> None:
    pair, best = discrete()
    changes = dict(contrast_batch=13, embedding=4, learning_rate=1e-2, holdout=0.0, width=16)
    agent = make_agent("igdf", small("igdf", **changes), pairs=[pair], dtype=torch.float64)
    assert isinstance(agent, IGDF)
    batch = agent.data.batch(torch.cat([torch.arange(12), torch.arange(13)])[None], 12)
    for _ in range(500):
        agent.update_encoders(batch, {})
    starts = torch.tensor([[1, 0, 0, 1, 0], [0, 1, 0, 0, 1]]).double()[None]
    with torch.no_grad():
        logits = agent.phi(starts) @ agent.psi(torch.eye(3).double()[None]).mT
    np.testing.assert_allclose(logits[0], best, atol=0.02)


def test_logits_follow_a_gaussian_log_ratio() -> None:
    rng = np.random.default_rng(0)
    obs, act, noise = rng.normal(size=(3, 500, 1))
    after = 0.5 * (obs + act) + 0.5 * noise  # of variance 0.75
    ends = np.zeros(500, bool)
    rows = {"observations": obs, "actions": act, "next_observations": after}
    arrays = {k: v.astype(np.float32) for k, v in (rows | {"rewards": obs[:, 0]}).items()}
    arrays |= {"terminated": ends, "truncated": ends}
    pair = nowhere(arrays, arrays, bounds=(-5, 5))
    changes = dict(contrast_steps=600, contrast_batch=64, embedding=8, learning_rate=5e-3)
    agent = make_agent("igdf", small("igdf", **changes), pairs=[pair])
    assert isinstance(agent, IGDF)
    Running(agent, agent.stages()[0], "eager").run(600)
    batch = agent.data.batch(torch.arange(150)[None], 150)
    with torch.no_grad():
        logits = (agent.phi(batch.obs_act) @ agent.psi(batch.next_obs).mT)[0].flatten()
    means, ends_at = (batch.obs_act[0] * UNITS).sum(1, keepdim=True) / 2, batch.next_obs[0].T
    log_ratio = (ends_at**2 / 0.75 - (ends_at - means) ** 2 / 0.25).flatten() / 2
    likely = log_ratio > -4  # where either has any rows
    pairs = torch.stack([logits, log_ratio])[:, likely]
    assert float(torch.corrcoef(pairs)[0, 1]) > 0.95


def test_scores_tell_shifted_source_rows_from_others() -> None:
    changes = dict(contrast_steps=400, contrast_batch=64, learning_rate=3e-3)
    agent = make_agent("igdf", small("igdf", **changes), pairs=[two_kinds()])
    train(agent, updates=0)
    scores = agent.data.columns["source"][COSINE][0]
    assert area_under_curve(scores[: ROWS // 2], scores[ROWS // 2 :]) > 0.8


def test_held_out_rows_never_reach_the_encoders() -> None:
    agents = [igdf(pretrained=False) for _ in range(2)]
    held = agents[0].data.columns["target"]["held_out"]
    assert 0.05 < float(held.mean()) < 0.15
    with torch.no_grad():
        for run in range(2):
            agents[1].data.rows_of("target", run)[held[run] > 0] += 1.0
    places = torch.cat([torch.arange(30), torch.arange(200)]).expand(2, -1)
    for agent in agents:
        agent.update_encoders(agent.data.batch(places, 30), {})
    assert distance(weights(agents[0]), weights(agents[1])) == 0
    logs = [agent.logged["heldout_loss"] for agent in agents]
    assert (logs[0] != logs[1]).all() and (logs[0] > 0).all()


def test_held_out_stretches_make_up_their_share() -> None:
    assert float(held_out(5000, 5000, 0.1).mean()) == pytest.approx(0.1)
    assert float(held_out(5000, 5000, 0.0).sum()) == 0
    assert torch.equal(held_out(100, 300, 0.2)[:100], held_out(100, 100, 0.2))
    with pytest.raises(ValueError, match="same shape"):
        share_mean(torch.ones(2, 8, 1), torch.ones(2, 8))


# --- scores, filter, weights ---


def test_cosine_is_in_range_and_blind_to_scale() -> None:
    generator = torch.Generator().manual_seed(0)
    phi, psi = torch.randn(2, 2, 50, 8, generator=generator, dtype=torch.float64)
    found = cosine(phi, psi)
    assert found.shape == (2, 50, 1) and (found.abs() <= 1).all()
    torch.testing.assert_close(cosine(7 * phi, 0.1 * psi), found, atol=1e-6, rtol=0)
    torch.testing.assert_close(cosine(phi, phi), torch.ones_like(found), atol=1e-6, rtol=0)
    expected = torch.nn.functional.cosine_similarity(phi, psi, -1)[..., None]
    torch.testing.assert_close(found, expected, atol=1e-7, rtol=0)


def test_stored_scores_are_those_of_the_rows() -> None:
    agent = igdf()
    (batch,) = drawn(agent)
    with torch.no_grad():
        expected = cosine(agent.phi(batch.source.obs_act), agent.psi(batch.source.next_obs))
    torch.testing.assert_close(batch.source.columns[COSINE], expected)
    assert not batch.target.columns[COSINE].any()


@pytest.mark.parametrize(("keep", "count"), [(0.25, 32), (0.5, 64), (0.75, 96), (1.0, 128)])
def test_best_share_of_each_batch_is_kept(keep: float, count: int) -> None:
    agent = igdf(keep=keep, batch=128)
    (batch,) = drawn(agent)
    kept, weight = agent.choose(batch, {})
    scores = batch.source.columns[COSINE]
    assert kept.sources == agent.kept == count and kept.rows.shape[1] == count + 128
    assert firsts(kept) == top(scores, batch, count)
    assert torch.equal(kept.target.rows, batch.target.rows)
    least = kept.source.columns[COSINE].amin(1)[:, 0]
    assert all(int((s > m).sum()) <= count for s, m in zip(scores[..., 0], least, strict=True))
    assert weight is not None and weight.shape == (2, count + 128, 1)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_weights_are_exponentials_of_scores_and_one_for_targets(scale: float) -> None:
    agent = igdf(weight_scale=scale, weight_by="cosine")
    (batch,) = drawn(agent)
    kept, weight = agent.choose(batch, {})
    assert weight is not None
    own, rest = weight[:, : agent.kept], weight[:, agent.kept :]
    torch.testing.assert_close(own, torch.exp(scale * kept.source.columns[COSINE]))
    assert (own >= math.exp(-scale)).all() and (own <= math.exp(scale)).all()
    assert (rest == 1).all()


def test_weights_span_the_same_however_little_scores_do() -> None:
    agent = igdf(keep=1.0)
    for spread in (1.0, 0.01):
        agent.data.columns["source"][COSINE].mul_(spread)
        batch = agent.data.batch(torch.arange(32).expand(2, -1), 16)  # no row twice
        _, weight = agent.choose(batch, {})
        assert weight is not None
        count = batch.sources
        expected = torch.exp(torch.arange(count - 1, -1, -1).double() / (count - 1) - 1)
        torch.testing.assert_close(weight[:, :count, 0], expected.expand(2, -1))
    weigh = {preset: config.weight_by for preset, config in IGDF.presets.items()}
    assert weigh == {"ours": "rank", "paper": "cosine", "official": "cosine"}


def test_official_weights_are_one_number() -> None:
    (batch,) = drawn(igdf())
    _, each = igdf().choose(batch, {})
    _, scalar = igdf(scalar_weights=True).choose(batch, {})
    assert each is not None and scalar is not None and each.std() > 0
    error = torch.rand(each.shape, generator=torch.Generator().manual_seed(0)).double()
    product = weighted_mean(each) * weighted_mean(error)
    torch.testing.assert_close(weighted_mean(error, scalar), product)
    assert not torch.allclose(weighted_mean(error, each), product)
    outer = (each * error[..., 0][:, None]).mean((1, 2))  # (N, 1) against (N,), as released
    torch.testing.assert_close(outer, product)
    assert IGDF.presets["official"].scalar_weights and not IGDF.presets["paper"].scalar_weights


def test_all_rows_kept_and_weighed_alike_is_iql() -> None:
    plain = make_agent("iql", runs=2, dtype=torch.float64)
    agent = igdf(keep=1.0, weight_scale=0.0)
    with torch.no_grad():
        for name, parameter in plain.parameters.items():
            agent.parameters[name].rows.copy_(parameter.rows)
    (batch,) = drawn(plain)
    places = torch.arange(32).expand(2, -1)
    for one in (plain, agent):
        one.stages()[-1].update(one.data.batch(places, 16), {})
    mine = {k: v for k, v in weights(agent).items() if k in weights(plain)}
    assert distance(weights(plain), mine) < 1e-6
    assert batch.rows.dtype == torch.float64


def test_order_of_source_rows_changes_nothing() -> None:
    agents = [igdf(runs=1) for _ in range(2)]
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    for agent, own in zip(agents, (torch.arange(16), order), strict=True):
        places = torch.cat([own, torch.arange(16)])[None]
        agent.stages()[-1].update(agent.data.batch(places, 16), {})
    assert distance(weights(agents[0]), weights(agents[1])) < 1e-6


def test_encoders_rest_while_the_policy_learns() -> None:
    agent = igdf()
    before = {name: agent.parameters[name].rows.clone() for name in ("phi", "psi")}
    Running(agent, agent.stages()[-1], "eager").run(3)
    for name, rows in before.items():
        assert torch.equal(agent.parameters[name].rows, rows)
        assert not agent.parameters[name].rows.requires_grad


def test_scores_are_restored_bit_for_bit() -> None:
    agent = train(make_agent("igdf"), updates=2)
    other = make_agent("igdf")
    other.load(agent.save())
    assert isinstance(other, IGDF)
    other.store_scores()
    assert torch.equal(other.data.columns["source"][COSINE], agent.data.columns["source"][COSINE])
    assert agent.data.columns["target"].keys() == other.data.columns["target"].keys()


@pytest.mark.parametrize("values", [{"keep": 0.01}, {"keep": 1.5}, {"holdout": 0.9}])
def test_shares_that_cannot_be_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ShiftgymError, match="keep|holdout"):
        igdf(pretrained=False, **values)


def test_runs_that_keep_different_shares_are_refused() -> None:
    config = small("igdf")
    both = [config, dataclasses.replace(config, keep=0.5)]  # pyright: ignore
    with pytest.raises(ShiftgymError, match="share one --keep"):
        make_agent("igdf", both)  # pyright: ignore


def test_published_shares_are_for_presets_that_ask() -> None:
    robots = ("halfcheetah", "hopper", "walker2d", "ant")
    for preset, shares in {"ours": [0.75] * 4, "official": [0.25, 0.25, 0.75, 0.75]}.items():
        config = IGDF.presets[preset]
        assert [config.for_robot(robot).keep for robot in robots] == shares
    assert IGDF.presets["ours"].for_robot("pen").temperature == 0.5

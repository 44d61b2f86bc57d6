"""Test OTDF: its filter and weights, its CVAE against closed forms, and what its presets change."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from typing import Any

import numpy as np
import pytest
import torch
from agent_helpers import ACT, OBS, draw, make_agent, make_arrays, make_pair, small, train, weights
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

import shiftgym
from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.components import transport
from shiftgym_agents.components.cvae import divergence, log_mixture
from shiftgym_agents.core.losses import weighted_mean
from shiftgym_agents.core.nets import Net
from shiftgym_agents.data.pairs import ArrayPair
from shiftgym_agents.methods import otdf
from shiftgym_agents.methods.iql import IQL
from shiftgym_agents.methods.otdf import DEVIATION, OTDF, OTDFConfig
from shiftgym_agents.training.running import Running


def make(runs: int = 2, **values: Any) -> OTDF[OTDFConfig]:
    config = dataclasses.replace(small("otdf"), **values)
    agent = make_agent("otdf", config, runs, dtype=torch.float64)
    assert isinstance(agent, OTDF)
    return agent


def ready(runs: int = 2, **values: Any) -> OTDF[OTDFConfig]:
    """Make an agent whose source rows are measured and whose CVAE is trained."""
    return train(make(runs, **values), updates=0)  # pyright: ignore


# --- which rows, and how much ---------------------------------------------------------------------


def test_published_batch_is_102_source_and_128_target_rows() -> None:
    agent = ready(1, batch=128)
    batch, noise = draw(agent)
    chosen, weight = agent.choose(batch, noise)
    assert chosen.sources == 102 and chosen.rows.shape[1] == 230
    assert weight is not None and weight.shape == (1, 230, 1)


def test_filter_and_weights_equal_brute_force() -> None:
    agent = ready(3, batch=20)
    batch, noise = draw(agent)
    chosen, weight = agent.choose(batch, noise)
    assert weight is not None and chosen.sources == 16
    for run in range(3):
        d = batch.columns[DEVIATION][run, :20, 0].numpy()
        scaled = (d - d.max()) / (d.max() - d.min() + 1e-8)
        assert scaled.max() == 0 and scaled.min() == pytest.approx(-1, abs=1e-6)
        order = np.argsort(-scaled, kind="stable")[:16]
        np.testing.assert_array_equal(chosen.rows[run, :16], batch.rows[run, order])
        np.testing.assert_array_equal(chosen.rows[run, 16:], batch.rows[run, 20:])
        np.testing.assert_allclose(weight[run, :16, 0], np.exp(scaled[order]))
        assert bool((weight[run, 16:] == 1).all())
        assert weight[run].min() >= math.exp(-1) and weight[run].max() == 1


def test_filter_over_the_dataset_equals_brute_force() -> None:
    agent = ready(2, batch=20, filter_scope="dataset", keep=0.5)
    batch, noise = draw(agent)
    chosen, weight = agent.choose(batch, noise)
    assert weight is not None
    for run in range(2):
        every = agent.data.columns["source"][DEVIATION][run]
        d = batch.columns[DEVIATION][run, :20, 0]
        passing = [i for i in range(20) if (every > d[i]).sum() < 0.5 * len(every)]
        index = [passing[k % len(passing)] for k in range(10)]
        assert torch.equal(chosen.rows[run, :10], batch.rows[run, index])
        scaled = (d[index] - every.max()) / (every.max() - every.min() + 1e-8)
        torch.testing.assert_close(weight[run, :10, 0], scaled.exp())


def test_deviations_that_are_all_equal_weigh_one() -> None:
    agent = ready(1)
    batch, noise = draw(agent)
    flat = dataclasses.replace(batch, columns={DEVIATION: torch.full_like(batch.reward, -0.3)})
    _, weight = agent.choose(flat, noise)
    assert weight is not None and bool((weight == 1).all())


def test_weighing_can_be_left_out() -> None:
    agent = ready(1, weigh=False)
    assert agent.choose(*draw(agent))[1] is None


def test_column_holds_each_runs_own_deviations(monkeypatch: pytest.MonkeyPatch) -> None:
    solved: list[int] = []

    def count(*arguments: Any) -> Tensor:
        solved.append(1)
        return transport.deviations(*arguments)

    monkeypatch.setattr(otdf, "deviations", count)
    long, short = make_pair(0, source=90), make_pair(1, source=60)
    agent: Any = make_agent("otdf", pairs=[long, short, long], dtype=torch.float64)
    agent.measure()
    assert len(solved) == 2
    column = agent.data.columns["source"][DEVIATION]
    assert column.shape == (3, 90) and torch.equal(column[0], column[2])
    for run, pair in enumerate((long, short)):
        sets = [
            torch.from_numpy(
                np.concatenate([x["observations"], x["actions"], x["next_observations"]], 1)
            )
            for x in (pair.source, pair.target)
        ]
        alone = transport.solve(sets[0], sets[1], transport.Transport())
        own = column[run, : len(alone)].float()
        torch.testing.assert_close(own, alone, rtol=1e-5, atol=1e-6)
        assert bool((column[run, len(alone) :] == column[run, len(alone) - 1]).all())


def test_resuming_restores_column_and_frozen_networks() -> None:
    one = ready(filter_scope="dataset")
    two = make(filter_scope="dataset")
    two.load(one.save())
    for stage in two.stages()[:-1]:
        assert stage.finish is not None
        stage.finish()
    assert torch.equal(one.data.columns["source"][DEVIATION], two.data.columns["source"][DEVIATION])
    assert torch.equal(one._threshold, two._threshold)
    assert not two.cvae.encoder.rows.requires_grad and not two.cvae.decoder.rows.requires_grad


# --- against IQL ----------------------------------------------------------------------------------


def test_without_its_ideas_a_step_is_iqls() -> None:
    agent = ready(weigh=False, keep=1.0, support=0.0, bc_reduce="mean")
    plain = IQL(small("iql"), [make_pair(0), make_pair(1)], [0, 1], dtype=torch.float64)  # pyright: ignore
    own = {k: v for k, v in agent.save().items() if k.split(".")[0] in plain.parameters}
    plain.load(own | {"generators": agent.save()["generators"]})
    batch, noise = draw(agent)
    agent.update(batch, noise)
    plain.update(batch, {})
    for name, parameter in plain.parameters.items():
        torch.testing.assert_close(agent.parameters[name].rows, parameter.rows, atol=1e-6, rtol=0)


def test_order_of_source_rows_does_not_matter() -> None:
    one, two = ready(1, support=0.0), ready(1, support=0.0)
    batch, noise = draw(one)
    index = torch.cat([torch.randperm(16), torch.arange(16, 32)])[None]
    one.update(batch, noise)
    two.update(batch.take(index, 16), noise)
    for name, values in weights(one).items():
        if name.endswith("rows"):
            torch.testing.assert_close(values, weights(two)[name], atol=1e-6, rtol=0)


def test_support_alone_trains_the_policys_deviation() -> None:
    for support, moves in ((0.0, False), (0.5, True)):
        agent = ready(1, support=support)
        agent.supports = True
        before = agent.actor.layers()[-1][0].clone()
        agent.update(*draw(agent))
        change = (agent.actor.layers()[-1][0] - before).abs().amax((0, 1))
        assert bool((change[:ACT] > 0).all())
        assert bool((change[ACT:] > 0).all()) is moves and bool((change[ACT:] != 0).any()) is moves


def test_support_reaches_every_row_drawn_on_demand() -> None:
    for rows, count in (("kept", 12 + 16), ("all", 32)):
        agent = ready(1, support_rows=rows, keep=0.75)
        batch, noise = draw(agent)
        assert noise["support_action"].shape == (1, count, ACT)
        agent.update(batch, noise)
        assert bool(agent.finite().all())


# --- the CVAE -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "most"), [(3, 3.000), (6, 3.697), (8, 4.161), (24, 7.879), (28, 8.809)]
)
def test_perfect_reconstruction_has_the_published_bound(size: int, most: float) -> None:
    act = torch.rand(2, 5, size, dtype=torch.float64) * 2 - 1
    best = log_mixture(act, act[:, :, None].expand(-1, -1, 10, -1))
    torch.testing.assert_close(best, torch.full_like(best, most), atol=1e-3, rtol=0)
    other = log_mixture(act, torch.rand(2, 5, 10, size, dtype=torch.float64))
    assert bool((other <= best).all())


def test_support_is_the_sum_of_gaussian_densities() -> None:
    act, centres = torch.randn(2, 4, 3), torch.randn(2, 4, 10, 3)
    parts = Independent(Normal(centres, math.sqrt(0.1)), 1)
    mixture = MixtureSameFamily(Categorical(torch.ones(2, 4, 10)), parts)
    wanted = mixture.log_prob(act)[..., None] + math.log(10)
    torch.testing.assert_close(log_mixture(act, centres), wanted, rtol=1e-5, atol=1e-4)


def test_divergence_is_gaussians_own() -> None:
    mean, log_std = torch.randn(2, 5, 6), 0.5 * torch.randn(2, 5, 6)
    standard = Normal(torch.zeros_like(mean), 1.0)
    wanted = kl_divergence(Normal(mean, log_std.exp()), standard).mean((1, 2))
    torch.testing.assert_close(divergence(mean, log_std), wanted)
    nothing = torch.zeros(2, 5, 6)
    assert bool((divergence(nothing, nothing) == 0).all())


def test_one_step_of_the_cvae_minimises_the_published_loss() -> None:
    agent = make(1, cvae_kl=0.25)
    stage, cvae = agent.cvae.stage(), agent.cvae
    parts = Running(agent, stage, "eager").draw(1)
    batch, xi = agent.data.batch(parts[""][:, 0], 0), parts["cvae_latent"][:, 0]
    mean, log_std = cvae.encoder(batch.obs_act).split(2 * ACT, 2)
    log_std = log_std.clamp(-4, 15)
    made = torch.tanh(cvae.decoder(torch.cat([batch.obs, mean + log_std.exp() * xi], 2)))
    kl = -0.5 * (1 + (log_std.exp() ** 2).log() - mean**2 - log_std.exp() ** 2).mean()
    loss = ((batch.act - made) ** 2).mean() + 0.25 * kl
    gradient = torch.autograd.grad(loss, [cvae.encoder.rows, cvae.decoder.rows])
    stage.update(batch, {"cvae_latent": xi})
    for net, wanted in zip((cvae.encoder, cvae.decoder), gradient, strict=True):
        torch.testing.assert_close(10 * net.state["m"], wanted)  # Adam's first moment


def test_support_prefers_actions_of_the_data() -> None:
    """Two modes: actions near +0.8 or -0.8 in every state, nothing between."""
    draw = np.random.default_rng(0)
    target = make_arrays(300, 1)
    sign = draw.choice([-1.0, 1.0], size=(300, 1))
    target["actions"] = (0.8 * sign + 0.03 * draw.normal(size=(300, ACT))).astype(np.float32)
    pair = ArrayPair(make_arrays(60, 2), target, shiftgym.domain("hopper-kinematic"))
    config = dataclasses.replace(small("otdf"), cvae_steps=400, cvae_samples=10, batch=64)
    agent: Any = train(make_agent("otdf", config, pairs=[pair]), updates=0)
    rows = agent.data.rows_of("target", 0)[None]
    obs, act = rows[..., :OBS], rows[..., OBS : OBS + ACT]
    noise = {"support_latent": torch.randn(1, 10 * rows.shape[1], 2 * ACT)}
    own = agent.cvae.log_support(obs, act, noise).mean()
    assert own > agent.cvae.log_support(obs, torch.rand_like(act) * 2 - 1, noise).mean() + 1
    assert own > agent.cvae.log_support(obs, torch.zeros_like(act), noise).mean() + 1


def test_supports_gradient_flows_through_density_and_encoder() -> None:
    agent = ready(1)
    batch, noise = draw(agent)
    rows = noise["support_action"].shape[1]
    obs = batch.obs[:, :rows]
    act = batch.act[:, :rows].clone().requires_grad_()
    whole = torch.autograd.grad(agent.cvae.log_support(obs, act, noise).sum(), act)[0]
    step = 1e-6 * torch.randn_like(act)
    with torch.no_grad():
        ahead, behind = (agent.cvae.log_support(obs, act + s, noise) for s in (step, -step))
    change = (ahead - behind)[..., 0] / 2
    torch.testing.assert_close((whole * step).sum(2), change, rtol=1e-3, atol=1e-10)
    before = agent.cvae.decoder.rows.clone()
    agent.update(batch, noise)
    assert torch.equal(agent.cvae.decoder.rows, before)


# --- presets and defaults -------------------------------------------------------------------------


def test_official_loss_is_the_product_of_means() -> None:
    agent = make(2, policy_weights="scalar")
    errors, weight = torch.rand(2, 9, 1), torch.rand(2, 9, 1)
    official = agent.actor_loss(errors, weight)
    outer = (weight * errors.transpose(1, 2)).mean((1, 2))  # (N, 1) against (N,), as released
    torch.testing.assert_close(official, outer)
    turned = weight[:, torch.randperm(9)]
    torch.testing.assert_close(official, agent.actor_loss(errors, turned))
    ours = make(2).actor_loss(errors, weight)
    torch.testing.assert_close(ours, weighted_mean(errors, weight))
    assert bool(((ours - official).abs() > 1e-3).all())


def test_presets_hold_what_was_published() -> None:
    ours, paper, official = (OTDF.presets[name] for name in ("ours", "paper", "official"))
    assert official.policy_weights == "scalar" and official.transport.mass == "block"
    assert official.transport.blocks == "consecutive"
    assert paper.policy_weights == ours.policy_weights == "row"
    assert paper.filter_scope == "dataset" and ours.filter_scope == "batch"
    for preset in (paper, official):
        assert (preset.cvae_width, preset.cvae_samples) == (750, 10)
    for preset in (ours, paper, official):
        assert preset.keep == 0.8 and preset.weigh and preset.bc_reduce == "sum"
        assert preset.cvae_steps == 10_000 and preset.cvae_rate == 1e-3
        assert (preset.expectile, preset.temperature) == (0.7, 3.0)
        assert preset.transport.epsilon == 0.05 and preset.transport.iterations == 100


@pytest.mark.parametrize(
    ("name", "support"),
    [
        ("hopper-kinematic", 0.1),
        ("ant-kinematic", 0.1),
        ("halfcheetah-morph", 0.5),
        ("walker2d-gravity-x0p5", 0.5),
        ("hopper", 0.5),
        ("pen-kinematic-hard", 0.5),
    ],
)
def test_support_follows_the_targets_shift(name: str, support: float) -> None:
    pair = dataclasses.replace(make_pair(), domain=shiftgym.domain(name))
    assert OTDFConfig().for_pair(pair).support == support
    assert OTDFConfig(support=0.3).for_pair(pair).support == 0.3


@pytest.mark.parametrize(
    ("source", "support"),
    [
        ("hopper-kinematic/medium", 0.1),
        ("hopper-morph/medium", 0.5),
        ("hopper-morph/medium + hopper-kinematic/expert", 0.1),
        ("my own rows", 0.5),
    ],
)
def test_support_follows_the_sources_shift_too(source: str, support: float) -> None:
    where = shiftgym.domain("hopper")
    pair = dataclasses.replace(make_pair(), domain=where, names=(source, "hopper/medium"))
    assert OTDFConfig().for_pair(pair).support == support


def test_each_run_has_its_own_targets_support() -> None:
    pairs = [
        dataclasses.replace(make_pair(k), domain=shiftgym.domain(name))
        for k, name in enumerate(("hopper-kinematic", "hopper-morph"))
    ]
    agent: Any = make_agent("otdf", pairs=pairs)
    assert [config.support for config in agent.configs] == [0.1, 0.5]
    assert agent.support.tolist() == pytest.approx([0.1, 0.5])


# --- refusals, before training --------------------------------------------------------------------


def test_keep_must_leave_rows_and_be_shared() -> None:
    for wrong in (0.0, 0.01, 1.2):
        with pytest.raises(ShiftgymError, match="keep"):
            make(keep=wrong)
    two = [small("otdf", keep=k) for k in (0.5, 0.8)]
    with pytest.raises(ShiftgymError, match="share one --keep"):
        make_agent("otdf", two)  # pyright: ignore


def test_rows_of_zeros_are_refused_before_training() -> None:
    pair = make_pair()
    for key in ("observations", "actions", "next_observations"):
        pair.source[key][7] = 0
    with pytest.raises(ShiftgymError, match="run 0's source: 1 of 400 rows are all zeros.* row 7"):
        make_agent("otdf", pairs=[pair])
    make_agent("otdf", small("otdf", transport_cost="euclidean"), pairs=[pair])


def test_missing_pot_is_noticed_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ShiftgymError, match=r"pip install 'shiftgym\[agents\]'"):
        make()


def test_networks_of_the_cvae_are_saved() -> None:
    agent = make(1)
    assert isinstance(agent.parameters["cvae_encoder"], Net)
    assert {"cvae_encoder.rows", "cvae_decoder.rows"} <= agent.save().keys()

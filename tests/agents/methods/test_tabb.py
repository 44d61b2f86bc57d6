"""Test TABB's mismatch, weights, targets and isolation, by hand and on a system that is known."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from agent_helpers import ACT, draw, make_pair, small, train
from torch import Tensor

from shiftgym_agents.core.losses import advantage_weights, expectile
from shiftgym_agents.data.pairs import ArrayPair
from shiftgym_agents.methods.tabb import TABB, TABBConfig
from shiftgym_agents.training.running import Running

BATCH, GAMMA = 16, 0.99
TINY: dict[str, Any] = {"latent_state": 8, "latent_pair": 8, "latent_action": 4}


def make_tabb(runs: int = 2, dtype: torch.dtype = torch.float64, **values: Any) -> TABB:
    """Make an agent whose pre-training stages are finished but hardly trained."""
    config = small("tabb", **(TINY | values))
    agent = TABB(config, [make_pair(k) for k in range(runs)], range(runs), dtype=dtype)  # pyright: ignore
    for stage in agent.stages()[:-1]:
        assert stage.finish is not None
        Running(agent, stage, "eager").run(2)
        stage.finish()
    agent.logged.clear()
    return agent


def poison_source(agent: TABB) -> None:
    for run in range(agent.runs):
        start = int(agent.data.offset["source"][run])
        agent.data.rows[start : start + agent.data.sizes["source"][run]] = torch.nan


# --- mismatch -------------------------------------------------------------------------------------


def test_mismatch_of_a_zero_anchor_is_the_rewards_error() -> None:
    agent = make_tabb()
    with torch.no_grad():
        agent.anchor.rows.zero_()
        batch = draw(agent)[0].source
        z = agent.latents.pair(agent.latents.state(batch.obs), batch.act)
        predicted, _ = agent.latents.predict(z)
        assert torch.equal(agent.tbm(batch), (batch.reward - predicted).abs())


def test_mismatch_is_kept_for_every_source_row() -> None:
    agent = make_tabb()
    batch, _ = draw(agent)
    with torch.no_grad():
        expected = agent.tbm(batch.source)
    assert torch.allclose(batch.source.columns["tbm"], expected)
    y = agent.realised(agent.data.batch(torch.arange(200).expand(2, -1), 0)).detach()
    assert torch.allclose(agent.floor, 0.01 * y.std(1, keepdim=True, correction=0))


def test_bellman_error_in_the_target_is_bounded() -> None:
    """Check (13) to (15) for random networks and random answers of the target."""
    agent = make_tabb(dtype=torch.float32)
    with torch.no_grad():
        rows = agent.anchor.rows
        rows += 0.3 * torch.randn(rows.shape, generator=torch.Generator().manual_seed(0))
        batch = draw(agent)[0].source
        generator = torch.Generator().manual_seed(1)
        reward = batch.reward + torch.randn(batch.reward.shape, generator=generator)
        after = torch.randn(2, BATCH, 8, generator=generator)
        keep = GAMMA * (1 - batch.terminated)
        answer = reward + keep * agent.anchor(after)
        tbm, oracle = agent.tbm(batch), (agent.realised(batch) - answer).abs()
        missed = (agent.aligned(batch) - answer).abs()
        assert float((oracle - tbm - missed).max()) <= 1e-5
        pairs = agent.latents.pair(agent.latents.state(batch.obs), batch.act)
        predicted, latent = agent.latents.predict(pairs)
        steep = torch.ones(2)
        for weight, _ in agent.anchor.layers():
            steep = steep * torch.linalg.matrix_norm(weight, 2)
        far = (latent - after).norm(dim=-1, keepdim=True)
        near = (predicted - reward).abs() + GAMMA * steep[:, None, None] * far
        assert float((missed - near).max()) <= 1e-4


# --- weights --------------------------------------------------------------------------------------


def test_weights_average_to_one_and_fall_with_mismatch() -> None:
    agent = make_tabb(weight_floor=0.0)
    tbm = torch.rand(2, 64, 1, generator=torch.Generator().manual_seed(0)).double() ** 3
    w = agent.tbm_weights(tbm)
    assert w.mean((1, 2)).tolist() == pytest.approx([1, 1], abs=1e-12)
    order = tbm[..., 0].argsort(1)
    assert (w[..., 0].gather(1, order).diff(dim=1) <= 0).all()
    assert float(w.max()) <= math.e
    assert torch.allclose(agent.tbm_weights(1000 * tbm), w, rtol=1e-12)
    assert float(w.var()) > 1e-3


def test_weights_at_the_ends_of_temperature() -> None:
    tbm = torch.rand(2, 64, 1, generator=torch.Generator().manual_seed(0)).double()
    even = make_tabb(weight_temperature=math.inf).tbm_weights(tbm)
    assert torch.allclose(even, torch.ones_like(even))
    cold = make_tabb(weight_temperature=1e-6, source_cap=math.inf).tbm_weights(tbm)
    best = tbm.argmin(1, keepdim=True)
    assert torch.equal(cold, torch.zeros_like(cold).scatter(1, best, 64.0))
    capped = make_tabb(weight_temperature=1e-6).tbm_weights(tbm)
    assert float(capped.max()) == 10


def test_scales_of_weights() -> None:
    tbm = torch.rand(2, 64, 1, generator=torch.Generator().manual_seed(0)).double()
    literal = make_tabb(weight_scale="one", weight_temperature=0.5).tbm_weights(tbm)
    assert torch.allclose(literal, 64 * torch.softmax(-2 * tbm, 1))
    agent = make_tabb(weight_scale="median")
    middle = tbm.median(1, keepdim=True).values
    assert torch.allclose(agent.tbm_weights(tbm), 64 * torch.softmax(-tbm / middle, 1))
    tiny = make_tabb().tbm_weights(1e-9 * tbm)  # below the floor: no shift, no preference
    assert torch.allclose(tiny, torch.ones_like(tiny), atol=1e-6)


def test_weights_of_a_batch_and_ablations() -> None:
    agent = make_tabb()
    batch, _ = draw(agent)
    with torch.no_grad():
        for kind, expected in (("tbm", None), ("one", 1.0), ("zero", 0.0)):
            agent.config = replace(agent.config, source_weights=kind)
            _, w = agent.choose(agent.relabel(batch, {}), {})
            assert w is not None and (w[:, BATCH:] == 1).all()
            if expected is None:
                assert w[:, :BATCH].mean((1, 2)).tolist() == pytest.approx([1, 1])
            else:
                assert (w[:, :BATCH] == expected).all()


# --- one update -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["aligned", "realised"])
@pytest.mark.parametrize("end", ["observed", "never"])
def test_targets_row_by_row(kind: str, end: str) -> None:
    agent = make_tabb(source_targets=kind, predicted_end=end)
    batch, _ = draw(agent)
    batch.terminated[:, 3:6] = 1.0
    with torch.no_grad():
        latents = agent.latents
        y = agent.targets(agent.relabel(batch, {}), {})
        after = latents.state(batch.next_obs)
        expected = batch.reward + GAMMA * (1 - batch.terminated) * agent.value(after)
        assert torch.allclose(y[:, BATCH:], expected[:, BATCH:])
        if kind == "aligned":
            pairs = latents.pair(latents.state(batch.obs), batch.act)
            reward, after = latents.predict(pairs)
            keep = 1 - batch.terminated if end == "observed" else 1
            expected = reward + GAMMA * keep * agent.value(after)
        assert torch.allclose(y[:, :BATCH], expected[:, :BATCH])


@pytest.mark.parametrize("weights", ["tbm", "zero"])
def test_one_update_is_the_equations(weights: str) -> None:
    """Compare every gradient with plain losses; "zero" is latent IQL on target rows alone."""
    agent = make_tabb(source_weights=weights, huber=0.3, source_cost=0.5)
    batch, _ = draw(agent)
    latents, target = agent.latents, batch.target
    with torch.no_grad():
        z = latents.state(batch.obs)
        pairs = latents.pair(z, batch.act)
        best = agent.critic_copy(pairs).amin(1)[:, BATCH:]
    u = best - agent.value(z[:, BATCH:])
    level = torch.full((2, 1, 1), 0.7, dtype=torch.float64)
    value = torch.autograd.grad(expectile(u, level).mean((1, 2)).sum(), [agent.value.rows])[0]
    w = advantage_weights(u, 3.0, 100.0)
    missed = torch.tanh(agent.actor(target.obs)[..., :ACT]) - target.act
    loss = (w * (missed**2).mean(-1, keepdim=True)).mean((1, 2)).sum()
    actor = torch.autograd.grad(loss, [agent.actor.rows])[0]
    before = agent.critic.rows.detach().clone().requires_grad_()
    q = agent.critic._apply(pairs, before)
    agent.update(batch, {})
    with torch.no_grad():  # the value that critics bootstrap from is the new one
        y = agent.targets(agent.relabel(batch, {}), {})
        trust = agent.tbm_weights(batch.source.columns["tbm"])
    losses = torch.nn.functional.huber_loss(q, y[:, None].expand_as(q), delta=0.3, reduction="none")
    trust = 0.0 * trust if weights == "zero" else 0.5 * trust
    source = (trust[:, None] * losses[:, :, :BATCH]).mean(2).sum()
    loss = source + losses[:, :, BATCH:].mean(2).sum()
    critic = torch.autograd.grad(loss, [before])[0]
    for net, expected in ((agent.value, value), (agent.actor, actor), (agent.critic, critic)):
        assert torch.allclose(net.state["m"] * 10, expected, rtol=1e-9, atol=1e-12)


def test_source_rows_reach_critics_only() -> None:
    clean, sick = make_tabb(), make_tabb()
    poison_source(sick)
    places = Running(clean, clean.stages()[-1], "eager").draw(1)[""][:, 0]
    for agent in (clean, sick):
        agent.update(agent.data.batch(places, BATCH), {})
    assert torch.equal(clean.value.rows, sick.value.rows)
    assert torch.equal(clean.actor.rows, sick.actor.rows)
    assert not torch.isfinite(sick.critic.rows).any()


def test_anchor_learns_from_target_rows_only() -> None:
    agents = [TABB(small("tabb", **TINY), [make_pair()], [0]) for _ in range(2)]  # pyright: ignore
    poison_source(agents[1])
    for agent in agents:
        stage = next(stage for stage in agent.stages() if stage.name == "anchor")
        assert stage.source == 0
        Running(agent, stage, "eager").run(3)
    for name in ("anchor", "anchor_critic"):
        assert torch.equal(*(agent.parameters[name].rows for agent in agents))


def test_imitating_source_actions_is_an_option() -> None:
    updated: list[Tensor] = []
    for source_actor in (False, True):
        for other in (False, True):
            agent = make_tabb(source_actor=source_actor)
            batch, _ = draw(agent)
            if other:
                batch.source.act.neg_()  # views the rows
            agent.update_actor(batch, torch.zeros(2, 32 if source_actor else BATCH, 1).double(), {})
            updated.append(agent.actor.rows.detach())
    assert torch.equal(updated[0], updated[1]) and not torch.equal(updated[2], updated[3])


@pytest.mark.parametrize("anchor", ["shared", "polyak"])
def test_anchors_from_the_running_value(anchor: str) -> None:
    agent = make_tabb(anchor=anchor)
    assert "anchor" not in [stage.name for stage in agent.stages()]
    batch, _ = draw(agent)
    with torch.no_grad():
        assert agent.anchor is (agent.value if anchor == "shared" else agent.parameters["anchor"])
        assert torch.equal(agent.relabel(batch, {}).source.columns["tbm"], agent.tbm(batch.source))
    before, old = agent.anchor.rows.detach().clone(), agent.value.rows.detach().clone()
    agent.update(batch, {})
    if anchor == "polyak":
        assert torch.allclose(agent.anchor.rows, before.lerp(agent.value.rows, 0.005))
    assert not torch.equal(agent.value.rows, old)


def test_huber_at_infinity_is_half_the_square_and_its_slope_is_bounded() -> None:
    squares, bounded = make_tabb(huber=math.inf), make_tabb(huber=0.7)
    batch, _ = draw(squares)
    error = torch.linspace(-5, 5, 2 * 2 * 32, dtype=torch.float64).view(2, 2, 32, 1)
    assert torch.allclose(squares.critic_errors(error, batch), error**2)  # twice the half
    error.requires_grad_()
    bounded.critic_errors(error, batch).sum().backward()
    assert error.grad is not None and float(error.grad.abs().max()) == pytest.approx(2 * 0.7)


def test_presets() -> None:
    paper, ours = TABB.presets["paper"], TABB.presets["ours"]
    assert TABB.presets["official"] == paper
    assert (paper.latent_state, paper.latent_pair, paper.latent_activation) == (256, 256, "elu")
    assert replace(ours, latent_state=256, latent_pair=256, latent_activation="elu") == paper
    assert TABBConfig().for_robot("door").temperature == 0.5


# --- a system that is known -----------------------------------------------------------------------


def known_step(s: np.ndarray, a: np.ndarray, shift: float) -> np.ndarray:
    """Move states; where s_0 > 0 the source pushes, the more the larger s_0."""
    steps = 0.8 * s + 0.3 * np.tanh(np.concatenate([a, s[:, 1:]], 1))
    return steps + shift * np.maximum(s[:, :1], 0) * np.array([0.5, -1.0, 1.0])


def known_rows(rows: int, seed: int, shift: float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    s, a = rng.uniform(-1, 1, (rows, 3)), rng.uniform(-1, 1, (rows, 1))
    return {
        "observations": s,
        "actions": a,
        "rewards": s[:, 0] - s[:, 1] ** 2 + 0.5 * a[:, 0],
        "next_observations": known_step(s, a, shift),
        "terminated": np.zeros(rows, bool),
        "truncated": np.arange(rows) % 50 == 49,
    }


def know(shift: float, **values: Any) -> TABB:
    pair = ArrayPair(known_rows(2000, 0, shift), known_rows(1000, 1, 0.0), None, bounds=(-1, 1))
    sizes = {"latent_state": 16, "latent_pair": 16, "latent_action": 8, "finetune_every": 20}
    stages = {"representation_steps": 800, "finetune_steps": 300, "anchor_steps": 500}
    config = small("tabb", **({"batch": 64, "learning_rate": 1e-3} | sizes | stages | values))
    return TABB(config, [pair], [0])  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def shifted() -> tuple[TABB, float, float]:
    """Train on a known shift; give the held-out error before and after the second stage, too."""
    agent, errors = know(1.0), []
    held = agent.latents.held
    assert held is not None
    rows = held.batch()
    for stage in agent.stages()[:-1]:
        if stage.name == "predictor":
            errors.append(float(agent.latents.errors(rows).mean().detach()))
        running = Running(agent, stage, "eager")
        every = stage.every or 50
        for _ in range(0, stage.steps, every):
            running.run(every)
            if stage.check is not None:
                stage.check()
        assert stage.finish is not None
        stage.finish()
        if stage.name == "predictor":
            errors.append(float(agent.latents.errors(rows).mean().detach()))
    return agent, errors[0], errors[1]


def ranks(x: np.ndarray) -> np.ndarray:
    return x.argsort().argsort().astype(float)


def test_mismatch_ranks_source_rows_as_the_oracle_does(shifted: tuple[TABB, float, float]) -> None:
    """Ask the target itself what each source row would have earned and led to."""
    agent, _, _ = shifted
    batch = next(iter(agent.data.sweep("source")))[1]
    s, a = batch.obs[0].numpy(), batch.act[0].numpy()
    truth = torch.from_numpy(known_step(s, a, 0.0)).float()[None]
    with torch.no_grad():
        answer = batch.reward + GAMMA * agent.anchor(agent.latents.state(truth))
        oracle = (agent.realised(batch) - answer).abs()[0, :, 0].numpy()
    tbm = batch.columns["tbm"][0, :, 0].numpy()
    bins = [float(part.mean()) for part in np.array_split(oracle[tbm.argsort()], 10)]
    assert np.corrcoef(ranks(tbm), ranks(oracle))[0, 1] > 0.5
    assert bins[-1] > 5 * bins[0]
    assert np.corrcoef(ranks(np.array(bins)), np.arange(10))[0, 1] > 0.8


def test_second_stage_predicts_held_out_target_rows_better(
    shifted: tuple[TABB, float, float],
) -> None:
    _, before, after = shifted
    assert after < before


def test_equal_dynamics_leave_weights_near_even() -> None:
    agent = train(know(0.0, representation_steps=400, finetune_steps=100, anchor_steps=300), 10)
    assert isinstance(agent, TABB)
    assert float(agent.logged["effective_sources"]) / 10 > 0.5
    mismatch = [agent.tbm(next(iter(agent.data.sweep(side)))[1]) for side in ("source", "target")]
    source, target = (float(m.mean().detach()) for m in mismatch)
    assert source == pytest.approx(target, rel=0.3)  # nothing but the predictor's error

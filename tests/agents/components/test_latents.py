"""Test TABB's latents: what trains when, the variance that weighs them, and when they collapse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from agent_helpers import OBS, make_pair, small

from shiftgym_agents.components.latents import effective_rank
from shiftgym_agents.methods.tabb import TABB
from shiftgym_agents.training.running import Running

BATCH = 16
TINY: dict[str, Any] = {"latent_state": 8, "latent_pair": 8, "latent_action": 4}


def make_latents(*pairs: Any, **values: Any) -> TABB:
    chosen = list(pairs) or [make_pair()]
    config = small("tabb", **(TINY | values))
    return TABB(config, chosen, range(len(chosen)), dtype=torch.float64)  # pyright: ignore


def test_second_stage_moves_the_predictor_only() -> None:
    agent = make_latents()
    first, second, *_ = agent.stages()
    assert (first.name, second.name, second.source) == ("latents", "predictor", 0)
    Running(agent, first, "eager").run(5)
    assert first.finish is not None and second.finish is not None
    first.finish()
    before = {name: tensor.detach().clone() for name, tensor in agent.tensors().items()}
    Running(agent, second, "eager").run(5)
    moved = {name for name, t in agent.tensors().items() if not torch.equal(t, before[name])}
    assert moved == {f"predictor.{part}" for part in ("rows", "m", "v", "steps")}
    second.finish()
    assert not agent.latents.predictor.rows.requires_grad


def test_leaving_the_second_stage_out() -> None:
    agent = make_latents(finetune_steps=0)
    first, *others = agent.stages()
    assert [stage.name for stage in others] == ["anchor", "train"] and first.finish is not None
    first.finish()
    assert agent.latents.held is None and not agent.latents.predictor.rows.requires_grad


def test_the_first_stages_predictor_is_kept_where_the_second_makes_it_worse() -> None:
    agent = make_latents()
    first, second, *_ = agent.latents.stages()
    assert first.finish is not None and second.check is not None and second.finish is not None
    first.finish()
    best = agent.latents.predictor.rows.detach().clone()
    other = make_latents()
    other.load(agent.save())
    for one in (agent, other):
        with torch.no_grad():
            one.latents.predictor.rows.add_(1e3)
    other.latents.freeze()  # again, as when training resumes: no look at other weights
    for one in (agent, other):
        one.latents.look()
        assert one.latents.held is not None
        one.latents.held.restore()
        assert torch.equal(one.latents.predictor.rows, best)


def test_next_latents_carry_no_gradient() -> None:
    agent = make_latents()
    batch = agent.data.batch(torch.arange(BATCH)[None], 0)
    encoder = agent.latents.state_encoder
    with torch.no_grad():
        after = agent.latents.state(batch.next_obs)
    output = agent.latents.predictor(agent.latents.pair(agent.latents.state(batch.obs), batch.act))
    guess = agent.latents.normalise(output[..., 1:])  # as it is used later
    missed = (agent.latents.weights * (guess - after) ** 2).mean(-1, keepdim=True)
    loss = ((output[..., :1] - batch.reward) ** 2 + missed).sum()
    ours = torch.autograd.grad(agent.latents.errors(batch).sum(), [encoder.rows])[0]
    assert torch.allclose(ours, torch.autograd.grad(loss, [encoder.rows])[0])


@pytest.mark.parametrize(
    ("spread", "cost"), [("inverse", 1.0), ("variance", None), ("identity", None)]
)
def test_predicting_the_mean_costs_one_per_dimension(spread: str, cost: float | None) -> None:
    pair = make_pair()
    still = {**pair.target, "next_observations": pair.target["observations"]}
    values: dict[str, Any] = {"latent_spread": spread, "latent_norm": "none", "reward_cost": 0.0}
    agent = make_latents(replace(pair, target=still), **values)
    batch = next(iter(agent.data.sweep("target")))[1]
    latents = agent.latents
    with torch.no_grad():
        latents.state_encoder.rows.mul_(3)  # latents of some size
        latents.reweigh()
        z = latents.state(batch.obs)
        (weight, bias) = latents.predictor.layers()[-1]
        weight.zero_()
        bias[:, :, 1:] = z.mean(1, keepdim=True)
        variance = z.var(1, correction=0)
        assert torch.allclose(latents.covariance().diagonal(dim1=1, dim2=2), variance)
        found = float(latents.errors(batch).mean())
    if cost is None:
        cost = float((variance**2 if spread == "variance" else variance).mean())
    assert found == pytest.approx(cost, rel=0.02)


def test_variance_is_over_each_runs_own_rows() -> None:
    agent = make_latents(make_pair(0, target=200), make_pair(1, target=90))
    found = agent.latents.covariance().diagonal(dim1=1, dim2=2)
    for run, size in enumerate((200, 90)):
        rows = agent.data.rows_of("target", run)[None, :, :OBS].expand(2, -1, -1)
        z = agent.latents.state(rows)[run]
        assert len(z) == size and torch.allclose(found[run], z.var(0, correction=0))
        assert torch.allclose(agent.latents.weights[run, 0], 1 / (found[run] + 1e-4))


def test_collapsed_latents_are_reported() -> None:
    agent = make_latents(make_pair(), make_pair(1))
    with torch.no_grad():
        agent.latents.state_encoder.rows[1] = 0
    with pytest.warns(UserWarning, match="run 1: latent states hardly differ"):
        agent.latents.freeze()
    assert effective_rank(torch.eye(5).double()) == pytest.approx(5)
    assert effective_rank(torch.ones(5, 5).double()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("norm", ["avg_l1", "layer_norm", "none"])
def test_latents_are_normalised(norm: str) -> None:
    agent = make_latents(latent_norm=norm)
    z = agent.latents.normalise(10 * torch.randn(1, 5, 8).double())
    size = z.abs().mean(-1) if norm == "avg_l1" else z.std(-1, correction=0)
    assert torch.allclose(size, torch.ones_like(size), atol=1e-4) is (norm != "none")

"""Test DARA's classifiers where the log-ratio is known, its rewards, and the released variants."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from agent_helpers import distance, draw, draws, make_agent, nowhere, small
from domain_helpers import moves, true_ratio, two_domains
from torch.nn.functional import softplus

from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.components.classifiers import domain_errors
from shiftgym_agents.data.batches import Data
from shiftgym_agents.data.pairs import ArrayPair
from shiftgym_agents.methods.dara import DARA, RATIO
from shiftgym_agents.methods.iql import IQL
from shiftgym_agents.training.running import Running

PUSH = 0.15


def agent_on(pair: ArrayPair, **values: Any) -> DARA:
    values = {"batch": 64, "learning_rate": 1e-3} | values
    if values.get("joint"):
        values |= {"classifier_hold_out": 0.0}
    agent = make_agent("dara", small("dara", **values), pairs=[pair])
    assert isinstance(agent, DARA)
    return agent


def learned(pair: ArrayPair, updates: int = 1000, **values: Any) -> DARA:
    """Train the classifiers of one run alone."""
    agent = agent_on(pair, **values)
    stage = agent.classifiers.stage()
    running = Running(agent, stage, "eager")
    for _ in range(updates // 50):
        running.run(50)
        if stage.check is not None:
            stage.check()
    assert stage.finish is not None
    stage.finish()
    return agent


def ratios(agent: DARA, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Ask the classifiers about rows they did not see."""
    pair = nowhere(arrays, arrays)
    rows = Data([pair]).batch(torch.arange(len(arrays["rewards"]))[None], 0)
    with torch.no_grad():
        return agent.classifiers.log_ratio(rows)[0, :, 0].numpy()


def slope_and_correlation(agent: DARA) -> tuple[float, float]:
    arrays = moves(1000, 9)
    mine, truth = ratios(agent, arrays), true_ratio(arrays, PUSH)
    return float(np.polyfit(truth, mine, 1)[0]), float(np.corrcoef(truth, mine)[0, 1])


# --- the classifiers ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pushed() -> DARA:
    """Train the default on two Gaussians, whose actions lean differently, too."""
    return learned(two_domains(push=PUSH, lean=0.3))


def test_ratio_of_linear_gaussian_domains(pushed: DARA) -> None:
    slope, correlation = slope_and_correlation(pushed)
    assert abs(slope - 1) < 0.2 and correlation > 0.95


def test_transitions_likelier_in_the_target_are_paid(pushed: DARA) -> None:
    arrays = moves(1000, 9)
    truth = true_ratio(arrays, PUSH)
    sure = np.abs(truth) > 1
    assert np.mean((ratios(pushed, arrays) > 0)[sure] == (truth > 0)[sure]) > 0.98


@pytest.mark.parametrize(("lean", "most"), [(0.0, 0.1), (0.5, 0.2)])
def test_same_dynamics_have_no_ratio_however_actions_are_spread(lean: float, most: float) -> None:
    """Held-out rows keep 4,000 of them from being learned by heart."""
    agent = learned(two_domains(lean=lean), updates=600)
    found = ratios(agent, moves(1000, 9, lean=lean / 2))
    assert np.abs(found).mean() < most


def test_each_domain_weighs_half_whatever_its_rows() -> None:
    logits = torch.randn(2, 12, 1, generator=torch.Generator().manual_seed(0)).double()
    doubled = torch.cat([logits[:, :4], logits[:, :4], logits[:, 4:]], 1)
    mean = domain_errors(logits, 4).mean((1, 2))
    assert torch.allclose(mean, domain_errors(doubled, 8).mean((1, 2)))
    sure = torch.sigmoid(torch.cat([-logits[:, :4], logits[:, 4:]], 1)).log()
    expected = -(sure[:, :4].mean((1, 2)) + sure[:, 4:].mean((1, 2))) / 2
    assert torch.allclose(mean, expected)
    pair = two_domains(200, push=1.0)
    tenfold = {name: np.concatenate([array] * 10) for name, array in pair.source.items()}
    one, ten = (agent_on(p).classifiers for p in (pair, dataclasses.replace(pair, source=tenfold)))
    assert torch.allclose(one.shift, ten.shift) and torch.allclose(one.scale, ten.scale)


# --- rewards --------------------------------------------------------------------------------------


@pytest.mark.parametrize("joint", [True, False])
def test_only_source_rewards_change_and_only_in_the_batch(joint: bool) -> None:
    agent = agent_on(two_domains(300, push=1.0), joint=joint)
    if not joint:
        agent.store_ratios()
    kept = agent.data.rows.clone()
    for batch, noise in draws(agent, 3):
        with torch.no_grad():
            paid = agent.relabel(batch, noise)
            expected = 0.1 * agent.classifiers.log_ratio(batch.source).clamp(-10, 10)
        assert torch.equal(paid.target.reward, batch.target.reward)
        assert torch.allclose(paid.source.reward - batch.source.reward, expected, atol=1e-6)
        assert float(expected.abs().max()) > 0
        assert torch.equal(batch.reward, batch.rows[..., -2:-1])
    assert torch.equal(agent.data.rows, kept)


def test_bonus_is_bounded() -> None:
    agent = agent_on(two_domains(300, push=1.0), eta=0.3, joint=True)
    with torch.no_grad():
        agent.classifiers.of_whole.rows.mul_(9)
        bonus = agent.bonus(draw(agent)[0].source).abs()
    assert float(bonus.max()) == pytest.approx(3.0) and float(bonus.min()) < 2.9


def test_eta_zero_is_iql() -> None:
    agent = make_agent("dara", small("dara", eta=0.0), dtype=torch.float64)
    plain = make_agent("iql", small("iql"), dtype=torch.float64)
    assert isinstance(agent, DARA) and isinstance(plain, IQL)
    agent.store_ratios()
    ours, theirs = agent.tensors(), plain.tensors()
    with torch.no_grad():
        for name, tensor in theirs.items():
            tensor.copy_(ours[name])
    for batch, noise in draws(agent, 20):
        agent.update(batch, noise)
        plain.update(batch, {})
    assert distance(theirs, ours) == 0


def test_frozen_classifiers_are_asked_once() -> None:
    agent = agent_on(two_domains(300, push=1.0), joint=False)
    (stage,) = agent.pretraining()
    assert stage.finish is not None
    stage.finish()
    with torch.no_grad():
        everything = agent.data.batch(torch.arange(300)[None], 300)
        expected = agent.classifiers.log_ratio(everything)
    assert torch.equal(agent.data.columns["source"][RATIO], expected[..., 0])
    before = agent.classifiers.of_whole.rows.clone()
    Running(agent, agent.stages()[-1], "eager").run(3)
    assert torch.equal(agent.classifiers.of_whole.rows, before)
    assert not agent.noise_shapes()


# --- released variants ----------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.6, 0.7, 0.9])
def test_double_softmax_is_least_at_the_log_odds_cut_to_one(share: float) -> None:
    """`share` of the rows that a classifier cannot tell apart are of the target."""
    odds = torch.tanh(torch.linspace(-8, 8, 20_001).double() / 2).view(-1, 1, 1)
    loss = share * softplus(-odds) + (1 - share) * softplus(odds)
    best = float(odds[loss.argmin()])
    assert best == pytest.approx(min(1.0, np.log(share / (1 - share))), abs=2e-3)


def test_official_ratios_saturate_where_ours_are_right(pushed: DARA) -> None:
    pair, form = two_domains(push=PUSH), "double_softmax"
    official = learned(pair, classifier_form=form, classifier_hold_out=0.0)
    slope, _ = slope_and_correlation(official)
    assert slope > 1.5
    arrays = moves(1000, 9)
    assert np.abs(ratios(official, arrays)).max() > 2 * np.abs(ratios(pushed, arrays)).max()
    preset = DARA.presets["official"]
    assert (preset.classifier_form, preset.classifier_inputs) == (form, "raw")
    assert preset.classifier_noise == 1 and preset.joint
    assert not agent_on(pair, classifier_steps=0, joint=True).pretraining()


def test_joint_training_has_nothing_held_out() -> None:
    with pytest.raises(ShiftgymError, match="--classifier-hold-out 0"):
        make_agent("dara", small("dara", joint=True))


def test_each_classifier_keeps_its_best_weights_on_rows_of_both_domains() -> None:
    classifiers = agent_on(two_domains(300, push=1.0)).classifiers
    assert classifiers.held is not None
    seen: list[torch.Tensor] = []
    for scale in (1.0, 40.0):  # the second are worse: sure of what they do not know
        with torch.no_grad():
            for net in (classifiers.of_whole, classifiers.of_pair):
                net.rows.mul_(scale)
        seen.append(classifiers.of_whole.rows.detach().clone())
        classifiers.look()
    for held in classifiers.held:
        rows = held.batch()
        assert rows.sources == 30 and rows.rows.shape[1] == 60
        weights = held.training_weights(rows)
        assert not weights.any()
    classifiers.freeze()
    assert torch.equal(classifiers.of_whole.rows, seen[0])


@pytest.mark.parametrize(("form", "bound"), [("bounded", 2.0), ("residual", 4.0)])
def test_bounded_forms_never_exceed_their_bounds(form: str, bound: float) -> None:
    agent = agent_on(two_domains(300, push=1.0), classifier_form=form)
    with torch.no_grad():
        for net in (agent.classifiers.of_whole, agent.classifiers.of_pair):
            net.rows.mul_(20)
    found = np.abs(ratios(agent, moves(500, 9, push=1.0)))
    assert bound * 0.9 < found.max() <= bound + 1e-5


def test_residual_form_keeps_its_first_gradient_from_the_second_network() -> None:
    agent = agent_on(two_domains(300, push=1.0), classifier_form="residual")
    classifiers, x = agent.classifiers, torch.randn(1, 8, 6)
    whole, _ = classifiers.logits(x, x[..., :4])
    rows = [classifiers.of_pair.rows]
    assert torch.autograd.grad(whole.sum(), rows, allow_unused=True) == (None,)

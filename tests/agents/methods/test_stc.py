"""Test STC: corrections against loops and finite differences, limits, and a world of known gain."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from agent_helpers import distance_from_iql, make_agent, make_pair, small, train

from shiftgym_agents.components.target_models import TargetModels
from shiftgym_agents.methods.stc import CORRECTED, STC


def stc(runs: int = 2, pretrained: bool = True, **changes) -> STC:
    """Make a small agent whose models rest as they were drawn."""
    config = small("stc", **({"target_model_steps": 0} | changes))
    agent = make_agent("stc", config, runs=runs, dtype=torch.float64)
    assert isinstance(agent, STC)
    if pretrained:
        agent.store_corrections()
    return agent


def plain(models: TargetModels, run: int, name: str, *given: np.ndarray) -> np.ndarray:
    """Apply one model to standardised rows with numpy."""
    x = np.concatenate(given, 1)
    layers = [
        (w[run].detach().numpy(), b[run].detach().numpy()) for w, b in models.nets[name].layers()
    ]
    for k, (w, b) in enumerate(layers):
        x = x @ w + b if k == len(layers) - 1 else np.maximum(x @ w + b, 0)
    return x


def expected(agent: STC, run: int) -> np.ndarray:
    """Correct the source rows of a run by the definitions, gradients by differences."""
    own, config = make_pair(run), agent.configs[run]
    target = {k: np.asarray(v, np.float64) for k, v in own.target.items()}
    source = {k: np.asarray(v, np.float64) for k, v in own.source.items()}
    target["change"] = target["next_observations"] - target["observations"]
    source["change"] = source["next_observations"] - source["observations"]

    def standard(part: str, values: np.ndarray) -> np.ndarray:
        return (values - target[part].mean(0)) / target[part].std(0)

    s, change = (
        standard("observations", source["observations"]),
        standard("change", source["change"]),
    )
    said = plain(agent.models, run, "inverse", s, change)
    act = np.clip(said * target["actions"].std(0) + target["actions"].mean(0), -1, 1)

    def error(a: np.ndarray) -> np.ndarray:
        f = plain(agent.models, run, "forward", s, standard("actions", a))
        return ((f - change) ** 2).mean(1)

    def pays(a: np.ndarray) -> np.ndarray:
        found = plain(agent.models, run, "reward", s, standard("actions", a))[:, 0]
        return found * target["rewards"].std()

    slope = np.zeros_like(act)
    for k in range(act.shape[1]):
        step = np.zeros(act.shape[1])
        step[k] = 1e-6
        slope[:, k] = (pays(source["actions"] + step) - pays(source["actions"] - step)) / 2e-6
    gain = (slope * (act - source["actions"])).sum(1).clip(-config.reward_clip, config.reward_clip)
    better = error(act) < (1 - config.correction_threshold) * error(source["actions"])
    accepted = better | (not config.selective)
    acts = np.where(accepted[:, None], act, source["actions"])
    rewards = source["rewards"] + accepted * gain
    return np.column_stack([acts, rewards, accepted])


@pytest.mark.parametrize(
    "changes",
    [{}, {"correction_threshold": 0.005, "reward_clip": 0.05}, {"selective": False}],
)
def test_corrections_are_those_of_the_definitions(changes: dict) -> None:
    agent = stc(**changes)
    for run in range(2):
        found = agent.data.columns["source"][CORRECTED][run].numpy()
        want = expected(agent, run)
        assert 0 < want[:, -1].mean() < 1 or not agent.config.selective
        kinks = np.abs(found - want).max(1) > 1e-5  # a difference across a ReLU's corner
        assert kinks.mean() < 0.02


def test_batches_hold_the_corrected_rows_and_untouched_targets() -> None:
    agent = stc(selective=False)
    batch = agent.data.batch(torch.arange(32).expand(2, -1), 16)
    found = agent.relabel(batch, {})
    want = agent.data.columns["source"][CORRECTED][:, :16]
    assert torch.equal(found.source.act, want[..., :3])
    assert torch.equal(found.source.reward, want[..., 3:4])
    assert torch.equal(found.target.rows, batch.target.rows)
    assert torch.equal(found.target.reward, batch.target.reward)
    for part in ("obs", "next_obs", "terminated"):
        assert torch.equal(getattr(found, part), getattr(batch, part))


def test_a_threshold_that_nothing_passes_leaves_iql() -> None:
    assert distance_from_iql(stc(correction_threshold=1.0)) == 0


def test_no_clip_of_rewards_leaves_them_alone() -> None:
    agent = stc(selective=False, reward_clip=0.0)
    assert torch.equal(
        agent.data.columns["source"][CORRECTED][0, :, 3], agent.data.rows_of("source", 0)[:, -2]
    )


def line(rows: int, gain: float, push: float, seed: int) -> dict[str, np.ndarray]:
    """Make steps s' = s + gain a of a point in the plane, pushed aside where no action goes."""
    rng = np.random.default_rng(seed)
    obs, act = rng.uniform(-1, 1, (2, rows, 2))
    act[:, 1] = 0.5 * act[:, 0]  # the target's actions span a line
    after = obs + gain * act + push * np.array([-0.5, 1.0])
    rows_of = {"observations": obs, "actions": act, "next_observations": after}
    rows_of["rewards"] = obs[:, 0] + 2 * act[:, 0]
    found = {name: array.astype(np.float32) for name, array in rows_of.items()}
    ends = np.arange(rows) % 50 == 49
    return found | {"terminated": np.zeros(rows, bool), "truncated": ends}


def test_a_weaker_motor_is_seen_through() -> None:
    """The source moves 0.2 per action, the target 0.3: its rows are those of two thirds of each."""
    parts = {"source": line(300, 0.2, 0.0, 0), "target": line(400, 0.3, 0.0, 1)}
    pair = dataclasses.replace(make_pair(), **parts, domain=None, reference=None)
    changes: dict = dict(target_model_steps=500, learning_rate=3e-3, batch=64)
    agent = make_agent("stc", small("stc", **changes), pairs=[pair])
    assert isinstance(agent, STC)
    train(agent, updates=0)
    found = agent.data.columns["source"][CORRECTED][0].numpy()
    far = np.abs(pair.source["actions"][:, 0]) > 0.3
    assert found[far, -1].mean() > 0.9
    kept = found[:, -1] > 0
    wanted = pair.source["actions"][kept] * 2 / 3
    data = agent.data  # actions are stored on [-1, 1] of the box that the data show
    acts = found[kept, :2] * data.action_half[0] + data.action_center[0]
    assert np.abs(acts - wanted).mean() < 0.06
    gained = pair.source["observations"][kept, 0] + 2 * wanted[:, 0]
    was = np.abs(pair.source["rewards"][kept] - gained).mean()
    assert np.abs(found[kept, 2] - gained).mean() < 0.4 * was

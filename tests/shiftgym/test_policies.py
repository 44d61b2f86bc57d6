"""Policies without torch, their evaluation, and the numbers reported about them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import shiftgym
from shiftgym import policies
from shiftgym.basics.statistics import bootstrap_interval, wilson_interval
from shiftgym.commands.policies import measure
from shiftgym.evaluation import evaluate, policy_act, random_act
from shiftgym.policies import LAYERS, Policy, read_policy
from shiftgym.scores import normalized_score, reference


def arrays(obs: int, act: int, kind: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    out = 2 * act if kind == "sac" else act
    shapes = [(obs, 8), (8,), (8, 8), (8,), (8, out), (out,)]
    found = {
        name: rng.normal(0, 0.3, shape).astype(np.float32)
        for name, shape in zip(LAYERS, shapes, strict=True)
    }
    if kind == "gaussian":
        for name, size in (("in_shift", obs), ("in_scale", obs), ("out_shift", act)):
            found[name] = rng.uniform(0.5, 1.5, size).astype(np.float32)
        found["out_scale"] = np.ones(act, np.float32)
        found["log_std"] = np.full(act, -1.0, np.float32)
    return found


def test_sac_policy_equals_torch() -> None:
    torch = pytest.importorskip("torch")
    made = arrays(11, 3, "sac")
    x = np.random.default_rng(1).normal(size=(5, 11)).astype(np.float32)
    t = {name: torch.from_numpy(array) for name, array in made.items()}
    hidden = torch.relu(torch.from_numpy(x) @ t["W0"] + t["b0"])
    hidden = torch.relu(hidden @ t["W1"] + t["b1"])
    expected = torch.tanh((hidden @ t["W2"] + t["b2"])[:, :3]).numpy()
    np.testing.assert_allclose(Policy(made, {"kind": "sac"}).act(x), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["sac", "gaussian"])
def test_noise_has_the_spread_the_policy_says(kind: str) -> None:
    policy = Policy(arrays(4, 2, kind), {"kind": kind})
    x = np.ones((20_000, 4), np.float32)
    drawn = policy.act(x, np.random.default_rng(0))
    if kind == "sac":
        drawn = np.arctanh(np.clip(drawn, -1 + 1e-6, 1 - 1e-6))
        made, hidden = policy.arrays, x[:1]
        for layer in "01":
            hidden = np.maximum(hidden @ made[f"W{layer}"] + made[f"b{layer}"], 0)
        spread = np.exp((hidden @ made["W2"] + made["b2"])[0, 2:])
    else:
        spread = np.full(2, np.exp(-1.0))
    np.testing.assert_allclose(drawn.std(axis=0), spread, rtol=0.05)
    assert policy.act(x[0]).shape == (2,)


def test_a_policy_file_is_read_back_and_refused_when_wrong(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    save_file(arrays(11, 3, "sac"), path, {"kind": "sac", "domain": "hopper"})
    policy = read_policy(path)
    with pytest.raises(shiftgym.ShiftgymError, match="takes 11 numbers"):
        policy.act(np.zeros(12))
    whole = path.read_bytes()
    for name, content in {
        "cut": whole[: len(whole) // 2],
        "foreign": b"\x80\x04not safetensors",
        "empty": b"",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(shiftgym.ShiftgymError, match=name):
            read_policy(tmp_path / name)
    save_file(
        arrays(11, 3, "sac") | {"W0": np.full((11, 8), np.nan, np.float32)}, path, policy.metadata
    )
    with pytest.raises(shiftgym.ShiftgymError, match="not finite"):
        read_policy(path)
    with pytest.raises(shiftgym.ShiftgymError, match="Cannot read"):
        read_policy(tmp_path / "missing.safetensors")


def test_a_damaged_packaged_policy_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(arrays(11, 3, "sac"), tmp_path / "x.safetensors", {"kind": "sac", "domain": "hopper"})
    monkeypatch.setattr(policies, "POLICIES", tmp_path)
    good = hashlib.sha256((tmp_path / "x.safetensors").read_bytes()).hexdigest()
    for digest, fine in ((good, True), ("0" * 64, False)):
        entry = {"hopper/expert": {"file": "x.safetensors", "sha256": digest}}
        monkeypatch.setattr(policies, "index", lambda entry=entry: entry)
        policies.load_policy.cache_clear()
        if fine:
            assert policies.load_policy("hopper/expert").metadata["domain"] == "hopper"
        else:
            with pytest.raises(shiftgym.ShiftgymError, match="checksum"):
                policies.load_policy("hopper/expert")
    policies.load_policy.cache_clear()


@pytest.mark.parametrize("slug", ["hopper", "pen"])
def test_evaluation_equals_single_environments(slug: str) -> None:
    domain = shiftgym.domain(slug)
    env = domain.make()
    obs, act = env.observation_space.shape[0], env.action_space.shape[0]
    policy = Policy(arrays(obs, act, "gaussian"), {"kind": "gaussian"})
    found = evaluate(policy_act(policy), domain, episodes=3, seed=5)
    speeds, changes = [], []
    for k in range(3):
        observation, _ = env.reset(seed=5 + k)
        total, length, over, actions = 0.0, 0, False, []
        while not over:
            action = policy.act(observation)
            observation, reward, terminated, truncated, info = env.step(action)
            total, length, over = total + reward, length + 1, terminated or truncated
            speeds.append(info.get("x_velocity"))
            actions.append(np.clip(action, -1, 1))
        changes.append(np.diff(actions, axis=0))
        assert (found.returns[k], found.lengths[k]) == (pytest.approx(total, abs=1e-9), length)
    assert found.change == pytest.approx(np.sqrt(np.square(np.concatenate(changes)).mean()))
    assert found.speed == (pytest.approx(np.mean(speeds)) if slug == "hopper" else None)
    assert found.noise is None
    assert (found.successes is None) == (slug == "hopper")
    assert found.summary()["episodes"] == 3


def test_the_noise_of_a_policy_is_the_spread_around_its_most_likely_actions() -> None:
    still = np.zeros((3, 3), np.float32)
    wobble = still + np.array([0.3, 0.0, -0.4], np.float32)
    found = evaluate(lambda _: wobble, "hopper", 3, 5, likely=lambda _: still)
    assert found.noise == pytest.approx(np.sqrt((0.09 + 0.16) / 3), rel=1e-5)
    assert found.change == 0 and found.summary()["noise"] == found.noise
    beyond = evaluate(lambda _: still + 5, "hopper", 3, 5, likely=lambda _: still)
    assert beyond.noise == 1.0  # the environment clips


def test_random_actions_are_seeded() -> None:
    runs = [evaluate(random_act("hopper", 3), "hopper", 4, 0).returns for _ in range(2)]
    assert np.array_equal(*runs)


def test_intervals_against_known_values() -> None:
    low, high = wilson_interval(8, 10)  # Wilson 1927 by hand: 0.4902, 0.9433
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert wilson_interval(0, 5)[0] == 0 and wilson_interval(5, 5)[1] == pytest.approx(1)
    values = np.random.default_rng(0).normal(10, 2, 400)
    low, high = bootstrap_interval(values)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert low < values.mean() < high
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_interval([])


def test_scores_use_the_domains_own_reference() -> None:
    assert normalized_score("hopper-kinematic", 2842.73, "otdf") == pytest.approx(100)
    assert normalized_score("ant-friction-x5", -325.6, "odrl") == pytest.approx(0)
    assert reference("hopper-kinematic-footjnt-easy", "odrl").expert == 3234.3
    with pytest.raises(shiftgym.ShiftgymError, match="gives no reference"):
        reference("hopper-friction-x5", "otdf")
    with pytest.raises(shiftgym.ShiftgymError, match="'otdf'"):
        reference("hopper", "odtf")


@pytest.mark.parametrize(("name", "mode"), [
    ("hopper/expert", "deterministic"), ("hopper/ladder-3", "stochastic"),
    ("door/expert", "stochastic"), ("door-morph-hard/medium", "deterministic"),
])  # fmt: skip
def test_measuring_repeats_a_row_of_the_table(name, mode, monkeypatch):
    """A row of a ladder is of 20 episodes, of a hand's best of 400: so many are run again."""
    asked = []

    def run(act, where, episodes, seed, likely):
        asked.append((where, episodes, seed))
        return evaluate(act, where, 1, seed)

    monkeypatch.setattr("shiftgym.commands.policies.evaluate", run)
    table = json.loads((policies.POLICIES / "evaluations.json").read_text())
    measure(name, stochastic=mode == "stochastic")
    measure(name, episodes=3)
    rows = len(table[name][mode]["returns"])
    assert asked == [(name.split("/")[0], count, 900_000) for count in (rows, 3)]

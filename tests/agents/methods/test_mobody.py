"""Test MOBODY's dynamics on a known system and by hand, the model's rows, the policy's losses."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from agent_helpers import ACT, OBS, distance, draw, make_agent, make_arrays, make_pair, small, train

import shiftgym
from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.components.dynamics import each
from shiftgym_agents.components.mobody_dynamics import gaussian
from shiftgym_agents.components.mobody_rows import released_ends, robot_ends
from shiftgym_agents.core.networks import mlp, unpack
from shiftgym_agents.data.pairs import ArrayPair
from shiftgym_agents.kernels import native
from shiftgym_agents.methods.mobody import EXTRA, MOBODY
from shiftgym_agents.training.running import Running

HOPPER = shiftgym.domain("hopper-kinematic")
FEW = {"rollout_source": 40, "rollout_target": 8, "rollout_pairs": 30, "model_capacity": 200}


def make_mobody(runs: int = 1, pairs: Any = None, **values: Any) -> MOBODY:
    config = small("mobody", **({"members": 3, "elites": 2, "model_batch": 16} | FEW | values))
    pairs = pairs or [make_pair(k) for k in range(runs)]
    return MOBODY(config, pairs, range(len(pairs)), dtype=torch.float64)


def prepared(runs: int = 1, **values: Any) -> MOBODY:
    """Run the stages before the last, checks and all."""
    agent = train(make_mobody(runs, **values), updates=0)
    assert isinstance(agent, MOBODY)
    return agent


# --- dynamics -------------------------------------------------------------------------------------


def test_errors_are_those_found_row_by_row() -> None:
    options: dict[str, Any] = {
        "target_cost": 3.0,
        "cycle_cost": 7.0,
        "kl_cost": 0.3,
        "source_reward_cost": 0.2,
    }
    agent = make_mobody(model_activation="swish", latent=5, **options)
    model = agent.dynamics
    rows = torch.stack([agent.data.rows_of(side, 0)[:6] for side in ("source", "target")])
    rows = rows.view(1, 2, 2, 3, -1).transpose(1, 2).reshape(1, 2, 6, -1)  # two members' own
    rows = torch.cat([rows, rows[:, :1]], 1)
    noise = torch.randn(1, 3, 12, 5, generator=torch.Generator().manual_seed(0)).double()
    found = model.errors(rows, 3, noise)

    def apply(net: Any, member: int, x: torch.Tensor) -> torch.Tensor:
        layers = unpack(net.rows[0, member][None], net.sizes)
        return mlp(x.view(1, 1, -1), layers, torch.nn.functional.silu)[0, 0]

    for member in range(3):
        for k in range(6):
            row = rows[0, member, k]
            s = (row[:OBS] - model.shift[0, 0]) / model.scale[0, 0]
            a, reward = row[OBS : OBS + ACT], row[-2]
            after = (row[OBS + ACT : -2] - model.shift[0, 0]) / model.scale[0, 0]
            latents, cycle = [], torch.tensor(0.0)
            for state, place in ((s, k), (after, 6 + k)):
                mean, log_variance = apply(model.encoder, member, state).chunk(2)
                normal = torch.distributions.Normal(mean, (log_variance / 2).exp())
                latents.append(mean + normal.scale * noise[0, member, place])
                own = apply(model.decoder, member, latents[-1])
                unit = torch.distributions.Normal(torch.zeros(5), torch.ones(5))
                kl = torch.distributions.kl_divergence(normal, unit).mean()
                cycle = cycle + 7.0 * (own - state).square().mean() + 0.3 * kl
            way = model.actions["source" if k < 3 else "target"]
            moved = latents[0] + apply(way, member, torch.cat([latents[0], a]))
            change = apply(model.decoder, member, moved) - apply(model.decoder, member, latents[0])
            predicted = s + change
            guesses = [
                apply(model.reward, member, torch.cat([s, a, end])) for end in (predicted, after)
            ]
            c, w = (1.0, 0.2) if k < 3 else (3.0, 1.0)
            expected = {
                "transition": ((predicted - after) / model.units[0, 0]).square().mean(),
                "representation": c * (moved - latents[1]).square().mean(),
                "cycle": c * cycle,
                "reward": w * sum((guess - reward).square() for guess in guesses),
            }
            for name, value in expected.items():
                assert found[name][0, member, k].item() == pytest.approx(value.item(), rel=1e-9)


def test_next_states_teach_nothing_through_the_representation() -> None:
    """Compare with the gradient where the latents of next states are plain numbers."""
    agent = make_mobody(cycle_cost=0.0, kl_cost=0.0)
    model, rows = agent.dynamics, agent.data.rows_of("target", 0)[:6].expand(1, 3, 6, -1)
    noise = torch.zeros(1, 3, 12, model.config.latent).double()
    error = model.errors(rows, 0, noise)["representation"].sum()
    (ours,) = torch.autograd.grad(error, model.encoder.rows)
    states = ((rows[..., :OBS] - model.shift) / model.scale, rows[..., OBS : OBS + ACT])
    after = (rows[..., OBS + ACT : -2] - model.shift) / model.scale
    with torch.no_grad():
        later, _ = gaussian(each(model.encoder, after))
    now, _ = gaussian(each(model.encoder, states[0]))
    moved = now + each(model.actions["target"], torch.cat([now, states[1]], 3))
    error = model.config.target_cost * ((moved - later) ** 2).mean(3).sum()
    (expected,) = torch.autograd.grad(error, model.encoder.rows)
    assert ours.any() and torch.allclose(ours, expected, rtol=1e-10)


def system(rows: int, gain: float, seed: int) -> dict[str, np.ndarray]:
    """Make transitions of a linear system that actions push with a gain."""
    mixing = np.random.default_rng(5).normal(size=(OBS, OBS)) / OBS**0.5
    rng = np.random.default_rng(seed)
    s, a = rng.uniform(-2, 2, (rows, OBS)), rng.uniform(-1, 1, (rows, ACT))
    after = s + 0.5 * s @ mixing
    after[:, :ACT] += gain * a
    arrays = make_arrays(rows, seed) | {"observations": s, "actions": a}
    return arrays | {"next_observations": after, "rewards": after[:, 0] - s[:, 0]}


def test_source_helps_where_only_the_actions_gain_differs() -> None:
    """Beat a model of the 200 target rows alone and one that mixes both, on the target."""
    source, target = system(4000, 0.2, 0), system(200, 0.8, 1)
    merged = {name: np.concatenate([source[name], target[name]]) for name in source}
    sides = (source, target), (target, target), (merged, merged)
    pairs = [ArrayPair(one, two, HOPPER) for one, two in sides]
    fast = {"fast": True} if native_works() else {}
    sizes: dict[str, Any] = {"model_width": 64, "model_batch": 64}
    config = replace(small("mobody"), members=2, elites=1, model_patience=0, **FEW, **sizes)
    config = replace(config, model_steps=800, model_every=100, model_rate=2e-3)
    agent = MOBODY(config, pairs, [0, 0, 0], **fast)
    stage = agent.stages()[0]
    running = Running(agent, stage, "captured" if fast else "eager")
    for _ in range(0, stage.steps, stage.every):
        running.run(stage.every)
        agent.dynamics.look()
    assert stage.finish is not None
    stage.finish()
    fresh = system(500, 0.8, 2)
    names = ("observations", "actions", "next_observations")
    s, a, after = (torch.tensor(fresh[n], dtype=torch.float32).expand(3, -1, -1) for n in names)
    with torch.no_grad():
        states = agent.dynamics.predict(s, a)
        error = ((states.mean(1) - after) ** 2).mean((1, 2)).tolist()
        own, _ = gaussian(agent.dynamics.encoder(agent.dynamics._standard(s)))
        same = each(agent.dynamics.decoder, own) * agent.dynamics.scale[:, None]
        back = same + agent.dynamics.shift[:, None] - s[:, None]
        reward = agent.dynamics.rewards(s, a, after)[..., 0]
    assert error[0] < 0.7 * error[1] and error[0] < 0.7 * error[2]
    assert float((back[0] ** 2).mean()) < 0.02 * float(s[0].var())  # without an action: the state
    truth = torch.tensor(fresh["rewards"], dtype=torch.float32)
    assert float(((reward[0] - truth) ** 2).mean()) < 0.1 * float(truth.var())


def native_works() -> bool:
    try:
        native.load()
    except native.NativeUnavailableError:
        return False
    return True


def test_every_network_of_a_member_is_kept_at_its_best_and_the_best_predict() -> None:
    agent = make_mobody()
    model, held = agent.dynamics, agent.dynamics.held
    seen: list[list[torch.Tensor]] = []
    for errors in ([3.0, 1.0, 2.0], [1.5, 2.0, 1.0], [9.0, 0.5, 9.0]):
        with torch.no_grad():
            for net in model.nets:
                net.rows.normal_()
        seen.append([net.rows.detach().clone() for net in model.nets])
        table = torch.tensor([errors], dtype=torch.float64)[..., None, None]
        assert held is not None
        held.look(table.expand(1, 3, held.places.shape[1], 1))
    model.finish()
    for net, first, second, third in zip(model.nets, *seen, strict=True):
        kept = second[0, 0], third[0, 1], second[0, 2]
        assert torch.equal(net.rows[0], torch.stack(kept)) and not net.rows.requires_grad
        assert not torch.equal(net.rows[0, 0], first[0, 0])
    assert model.elite.tolist() == [[1, 2]]


# --- the model's rows -----------------------------------------------------------------------------


def test_members_that_agree_are_trusted_and_others_pay() -> None:
    agent = prepared(penalty=2.0)
    batch, _ = draw(agent)
    rows = agent.model_rows
    with torch.no_grad():
        one, _ = rows.answers(batch.obs, batch.act)
        states = agent.dynamics.predict(batch.obs, batch.act)
        middle = states.mean(1)
        change = agent.data.rows_of("target", 0)[:, OBS + ACT : -2]
        change = change - agent.data.rows_of("target", 0)[:, :OBS]
        assert agent.dynamics.held is not None
        held = agent.dynamics.held.places[0]
        trained = torch.ones(len(change), dtype=torch.bool).index_fill(0, held, False)
        usual = change[trained].std(0, correction=0)
        gaps = [((states[:, i] - middle) / usual).square().mean(2).sqrt() for i in range(3)]
        expected = torch.stack(gaps).amax(0)
        u = rows.disagreement(states)
        assert torch.allclose(u[..., 0], expected) and (u > 0).all()
        reward = agent.dynamics.rewards(batch.obs, batch.act, one[..., OBS + ACT : -2])
        assert torch.allclose(one[..., -2:-1], reward - 2.0 * u)
        rows.penalty.fill_(1e9)
        assert (rows.answers(batch.obs, batch.act)[0][..., -2] < -1e6).all()
        for net in agent.dynamics.nets:  # members alike: u = 0, no noise, the reward as it is
            net.rows.copy_(net.rows[:, :1].expand_as(net.rows))
        two, sure = rows.answers(batch.obs, batch.act)
        states = agent.dynamics.predict(batch.obs, batch.act)
        assert rows.disagreement(states).abs().max() < 1e-12 and sure.all()
        assert torch.allclose(two[..., OBS + ACT : -2], states[:, 0])
        reward = agent.dynamics.rewards(batch.obs, batch.act, states[:, 0])
        assert torch.allclose(two[..., -2:-1], reward, atol=1e-3)


def test_answers_scatter_around_elites_as_members_do() -> None:
    agent = prepared()
    batch, _ = draw(agent)
    obs, act = (x[:, :1].expand(-1, 6000, -1) for x in (batch.obs, batch.act))
    with torch.no_grad():
        states = agent.dynamics.predict(obs[:, :1], act[:, :1])[0, :, 0]
        found, _ = agent.model_rows.answers(obs, act)
    after = found[0, :, OBS + ACT : -2]
    elites = states[agent.dynamics.elite[0]]
    sigma = states.std(0, correction=0)
    spread = (elites.var(0, correction=0) + sigma**2).sqrt()
    assert ((after.mean(0) - elites.mean(0)).abs() < 5 * spread / math.sqrt(6000)).all()
    assert torch.allclose(after.std(0), spread, rtol=0.06)


def test_refills_follow_the_policy_and_the_data() -> None:
    agent = prepared(runs=2, disagreement_limit=math.inf)
    ring, seen = agent.model_rows, agent.model_rows.rows[:, :78]
    assert ring.written.tolist() == [78, 78] and ring.kept.tolist() == [1, 1]
    obs, act = seen[..., :OBS], seen[..., OBS : OBS + ACT]
    with torch.no_grad():
        own = torch.tanh(agent.actor(obs))
    followed = (act - own).abs().amax(2) < 1e-12
    assert not followed[:, :30].any() and followed[:, 30:].all()
    for run in range(2):
        source, target = (agent.data.rows_of(side, run) for side in ("source", "target"))
        pairs = {tuple(row) for row in source[:, : OBS + ACT].tolist()}
        assert all(tuple(row) in pairs for row in seen[run, :30, : OBS + ACT].tolist())
        for part, rows in ((slice(30, 70), source), (slice(70, 78), target)):
            states = {tuple(row) for row in rows[:, :OBS].tolist()}
            assert all(tuple(row) in states for row in seen[run, part, :OBS].tolist())
    ends = robot_ends("hopper", seen[..., OBS + ACT : -2])
    assert torch.equal(seen[..., -1].bool(), ends)
    last = ring.rows[:, 60:78].clone()
    for _ in range(2):
        ring.refill()
    assert ring.written.tolist() == [234, 234]  # 200 fit: the oldest 34 are gone
    assert torch.equal(ring.rows[:, 60:78], last) and ring.refills.tolist() == [3, 3]
    drawn = ring.draw(torch.rand(2, 4000, 1).double(), torch.zeros(2, 4000, ring.rows.shape[2]))
    assert len({tuple(row) for row in drawn[0].tolist()}) == 200


def test_rows_that_the_members_doubt_are_dropped() -> None:
    agent = prepared(runs=2, disagreement_limit=math.inf)
    ring = agent.model_rows
    ring.limit[1] = -1.0
    before = ring.written.clone()
    ring.refill()
    assert (ring.written - before).tolist() == [78, 0] and ring.kept.tolist() == [1, 0]
    ring.written[1] = 0
    otherwise = torch.ones(2, 5, ring.rows.shape[2]).double()
    drawn = ring.draw(torch.rand(2, 5, 1).double(), otherwise)
    assert torch.equal(drawn[1], otherwise[1]) and not torch.equal(drawn[0], otherwise[0])


def test_disagreement_is_the_same_in_any_unit_of_length() -> None:
    pair = make_pair(0)
    large = {
        side: {k: 1e3 * v if "observations" in k else v for k, v in getattr(pair, side).items()}
        for side in ("source", "target")
    }
    agents = [make_mobody(pairs=[p]) for p in (pair, replace(pair, **large))]
    found = []
    for agent in agents:
        rows = agent.data.rows_of("source", 0)[None, :20]
        obs, act = rows[..., :OBS], rows[..., OBS : OBS + ACT]
        with torch.no_grad():
            found.append(agent.model_rows.disagreement(agent.dynamics.predict(obs, act)))
    assert torch.allclose(*found, rtol=1e-4) and found[0].all()
    limit = agents[0].config.disagreement_limit
    assert limit == 1 and MOBODY.presets["official"].disagreement_units == "raw"


def test_without_an_action_states_do_not_change() -> None:
    agent = make_mobody()
    with torch.no_grad():
        agent.dynamics.actions["target"].rows.zero_()
        obs = torch.randn(1, 9, OBS).double()
        states = agent.dynamics.predict(obs, torch.zeros(1, 9, ACT).double())
    assert torch.allclose(states, obs[:, None].expand_as(states))


def test_first_rows_are_made_once() -> None:
    agent = prepared()
    other = make_mobody()
    other.load(agent.save())
    for stage in other.stages()[:-1]:
        assert stage.finish is not None
        stage.finish()
    assert other.model_rows.refills.tolist() == [1]
    assert torch.equal(other.model_rows.rows, agent.model_rows.rows)


def test_standardised_states_end_where_raw_ones_do() -> None:
    agent = make_mobody(normalize_states="merged")
    ring = agent.model_rows
    raw = torch.randn(1, 400, OBS, generator=torch.Generator().manual_seed(0)).double()
    raw[..., :2] = raw[..., :2] * 0.2 + torch.tensor([0.8, 0.0])
    ends = ring.ends((raw - ring.shift) / ring.scale)
    assert torch.equal(ends[..., 0], robot_ends("hopper", raw)) and 50 < ends.sum() < 350


@pytest.mark.parametrize("robot", ["hopper", "walker2d", "halfcheetah", "ant", "pen", "door"])
def test_released_rules_differ_by_their_guards_only(robot: str) -> None:
    size = {"hopper": 11, "ant": 27, "pen": 45, "door": 39}.get(robot, 17)
    states = 0.3 * torch.randn(500, size, generator=torch.Generator().manual_seed(0)).double()
    states[:, 0] += 1
    assert torch.equal(released_ends(robot, states), robot_ends(robot, states))
    far = torch.zeros(3, size).double()
    far[:, 0] = 0.9
    far[:, min(26, size - 1)] = torch.tensor([0.5, 150.0, -150.0])  # the pen's height
    found = released_ends(robot, far).tolist(), robot_ends(robot, far).tolist()
    never = [False] * 3
    assert (
        found
        == {
            "hopper": ([False, True, False], [False, True, True]),
            "walker2d": ([False, True, True], never),
            "halfcheetah": ([False, True, True], never),
            "ant": (never, never),
            "pen": ([False, False, True], [False, False, True]),
            "door": (never, never),
        }[robot]
    )


# --- rewards and losses ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dara", "par"])
def test_source_rewards_change_once_and_targets_and_model_rows_keep_theirs(kind: Any) -> None:
    agent = prepared(source_reward=kind, eta=0.5, ratio_clip=0.3)
    batch, noise = draw(agent)
    for _ in range(2):
        with torch.no_grad():
            given = agent.prepare(batch, noise)
        with torch.no_grad():
            if agent.classifiers is not None:
                extra = 0.5 * agent.classifiers.log_ratio(batch.source).clamp(-0.3, 0.3)
            else:
                after = agent.dynamics.predict(batch.source.obs, batch.source.act).mean(1)
                extra = -0.5 * ((batch.source.next_obs - after) ** 2).mean(2, keepdim=True)
        assert torch.allclose(given.reward[:, :16], batch.reward[:, :16] + extra)
        assert torch.equal(given.reward[:, 16:32], batch.reward[:, 16:])
        agent.update(batch, noise)
    ring = agent.model_rows
    assert given.rows.shape[1] == 32 + 8
    assert torch.equal(given.rows[:, 32:], ring.draw(noise["model_rows"], batch.rows[:, :8]))
    assert torch.equal(
        given.rows[:, 32:, -2:], torch.cat([given.reward, given.terminated], 2)[:, 32:]
    )
    assert agent.data.columns["source"][EXTRA].abs().max() <= (
        0.15 + 1e-9 if kind == "dara" else 1e9
    )


@pytest.mark.parametrize("judges", ["data", "policy"])
def test_actor_loss_is_that_found_row_by_row(judges: Any) -> None:
    agent = prepared(bc_judges=judges, bc_temperature=2.0, bc_weight=0.7, bc_cap=4.0)
    batch, noise = draw(agent)
    with torch.no_grad():
        given = agent.prepare(batch, noise)
        action = torch.tanh(agent.actor(given.obs))
        found = float(agent.actor_loss(given, action, noise))
        q = agent.critic(torch.cat([given.obs, action], 2))[0, :, :, 0].amin(0)
        own = agent.critic(batch.obs_act)[0, :, :, 0].amin(0)
    judged = own if judges == "data" else q[:32]
    weights = [min(math.exp(2 * float(x / judged.abs().mean())), 4.0) for x in judged]
    errors = ((action[0, :32] - batch.act[0]) ** 2).mean(1)
    imitation = sum(w * float(e) for w, e in zip(weights, errors, strict=True)) / 32
    expected = -2.5 * float(q.mean() / q.abs().mean()) + 0.7 * imitation
    assert found == pytest.approx(expected, rel=1e-9) and 4.0 in weights and min(weights) < 4


def test_without_model_rows_and_preference_it_is_td3bc() -> None:
    agent = prepared(model_share=0.0, bc_temperature=0.0, eta=0.0)
    assert [stage.name for stage in agent.stages()] == ["classifiers", "train"]
    official = {"smoothing": 0.0, "policy_delay": 1, "target_actor": False, "actor_q": "min"}
    config = small("td3bc", normalize_states="none", **official)
    plain = make_agent("td3bc", config, runs=1, dtype=torch.float64)
    theirs, ours = plain.tensors(), agent.tensors()
    with torch.no_grad():
        for name, tensor in theirs.items():
            tensor.copy_(ours[name])
    for _ in range(10):
        batch, noise = draw(agent)
        agent.update(batch, noise)
        plain.update(batch, {})  # pyright: ignore[reportAttributeAccessIssue]
    assert distance(theirs, ours) < 1e-12


# --- settings -------------------------------------------------------------------------------------


def test_numbers_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ShiftgymError, match="--elites is 4: give 1 to --members"):
        make_mobody(elites=4)
    with pytest.raises(ShiftgymError, match="model_share must be a number from 0 to 1, got 1.5"):
        make_mobody(model_share=1.5)


def test_presets_say_where_paper_and_release_differ() -> None:
    ours, paper, official = (MOBODY.presets[name] for name in ("ours", "paper", "official"))
    assert (ours.source_reward, ours.penalty, ours.bc_weight) == ("dara", 1.0, 1.0)
    assert (paper.bc_judges, paper.cycle_next, paper.target_cost) == ("policy", False, 1.0)
    assert (official.bc_judges, official.cycle_next, official.target_cost) == ("data", True, 5.0)
    assert (official.classifier_form, official.classifier_inputs) == ("bounded", "raw")
    assert (official.model_ends, official.disagreement_dims) == ("released", "but_last")
    assert (official.model_standard, official.penalty) == (False, 0.1)
    assert paper.model_width == official.model_width == 256

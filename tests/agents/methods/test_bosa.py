"""Test BOSA's densities by quadrature, its mask and losses against a plain version, its limits."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from agent_helpers import ACT, OBS, draw, make_arrays, make_pair, plain_net, small, train

import shiftgym
from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.components.likelihood import unscaled_normal_mlp
from shiftgym_agents.core.networks import run_generators
from shiftgym_agents.data.pairs import ArrayPair
from shiftgym_agents.methods.bosa import BOSA

HOPPER = shiftgym.domain("hopper-kinematic")


def make_bosa(pairs: Any = None, dtype: Any = torch.float64, **values: Any) -> BOSA:
    config = small("bosa", **values)
    pairs = pairs or [make_pair()]
    return BOSA(config, pairs, range(len(pairs)), dtype=dtype)  # pyright: ignore[reportArgumentType]


def pretrained(agent: BOSA) -> BOSA:
    """Run the stages before the last, checks and all."""
    train(agent, updates=0)
    return agent


# --- densities ------------------------------------------------------------------------------------


def line(rows: int, seed: int, spread: float = 1.0) -> dict[str, np.ndarray]:
    """Make one-dimensional transitions s' = s/2 + spread * xi."""
    rng = np.random.default_rng(seed)
    arrays = make_arrays(rows, seed, obs=1)
    arrays["actions"] = np.tanh(rng.normal(size=(rows, 1))).astype(np.float32)
    after = 0.5 * arrays["observations"] + spread * rng.normal(size=(rows, 1))
    return arrays | {"next_observations": after.astype(np.float32)}


def test_bound_grows_with_samples_towards_the_likelihood() -> None:
    """Integrate over the two latents of a one-dimensional x on a grid."""
    agent = make_bosa(
        [ArrayPair(line(50, 0), line(50, 1), None, bounds=(-1, 1))], density_members=2
    )
    generator = torch.Generator().manual_seed(0)
    density = agent.dynamics
    with torch.no_grad():
        rows = density.decoder.rows  # let it listen to its latents
        rows += 0.2 * torch.randn(rows.shape, generator=generator).double()
    given = torch.randn(1, 4, 2, generator=generator).double()
    x = 0.7 * torch.randn(1, 4, 1, generator=generator).double()
    grid = torch.linspace(-7, 7, 281, dtype=torch.float64)
    z = torch.cartesian_prod(grid, grid)
    prior = torch.exp(-0.5 * (z**2).sum(1)) / (2 * math.pi) * (grid[1] - grid[0]) ** 2
    truth = torch.zeros(2, 4, dtype=torch.float64)
    for row in range(4):
        wide = given[:, row : row + 1].expand(-1, len(z), -1)
        decoded = density.decode(wide, z.expand(1, 2, -1, -1))[0, :, :, 0].detach()
        normal = torch.distributions.Normal(decoded, math.sqrt(0.5 / 4))
        truth[:, row] = (normal.log_prob(x[0, row, 0]).exp() * prior).sum(1).log()
    found: dict[int, torch.Tensor] = {}
    for samples, draws in ((1, 4000), (8, 500), (20_000, 1)):
        noise = torch.randn(1, 2, 4 * draws, samples, 2, generator=generator).double()
        repeat = (given.repeat(1, draws, 1), x.repeat(1, draws, 1))
        values = density.log_density(*repeat, noise).detach().view(2, draws, 4)
        found[samples] = values.mean(1)
    assert (found[1] < found[8]).all() and (found[8] < truth + 0.01).all()
    assert (found[20_000] - truth).abs().max() < 0.05


def test_gaussian_data_are_as_likely_as_they_are() -> None:
    pair = ArrayPair(line(2000, 0), line(2000, 1), None, bounds=(-1, 1))
    options: dict[str, Any] = {"batch": 128, "density_steps": 600, "density_rate": 3e-3}
    agent = pretrained(make_bosa([pair], normalize_states="none", density_members=1, **options))
    fresh = line(500, 2)
    names = ("observations", "actions", "next_observations")
    s, a, after = (torch.from_numpy(fresh[name])[None].double() for name in names)
    truth = torch.distributions.Normal(0.5 * s, 1.0).log_prob(after)
    noise = torch.randn(1, 1, 500, 500, 2, generator=torch.Generator().manual_seed(0)).double()
    found = agent.dynamics.log_density(torch.cat([s, a], 2), after, noise)[:, 0]
    assert float(truth.mean()) == pytest.approx(-0.5 * math.log(2 * math.pi * math.e), abs=0.1)
    assert float(found.mean()) == pytest.approx(float(truth.mean()), abs=0.1)


def test_training_loss_is_the_bound_up_to_its_scale() -> None:
    """At L = 1, where the noise is the same, the expected KL is the sampled ratio's mean."""
    agent = make_bosa(density_members=2)
    density = agent.dynamics
    given, x = torch.randn(1, 3, OBS + ACT).double(), torch.randn(1, 3, OBS).double()
    noise = torch.randn(
        1, 2, 3 * 20_000, 2 * OBS, generator=torch.Generator().manual_seed(1)
    ).double()
    wide = (given.repeat(1, 20_000, 1), x.repeat(1, 20_000, 1))
    with torch.no_grad():
        bound = density.log_density(*wide, noise[:, :, :, None]).view(2, -1, 3).mean(1)
        loss = density.errors(*wide, noise).view(2, -1, 3).mean(1)
    constant = 0.5 * OBS * math.log(2 * math.pi * 0.125)
    assert torch.allclose(loss, -0.5 / (2 * OBS) * (bound + constant), rtol=0.01)


# --- the mask -------------------------------------------------------------------------------------


def test_rows_of_the_targets_dynamics_are_supported_and_shifted_ones_are_not() -> None:
    same, target = (make_arrays(n, seed, shift=0.2) for n, seed in ((600, 0), (1000, 1)))
    shifted = dict(same)
    shifted["next_observations"] = same["next_observations"] + 10
    options: dict[str, Any] = {"batch": 64, "density_steps": 300, "normalize_states": "none"}
    pairs = [ArrayPair(source, target, HOPPER) for source in (same, shifted)]
    agent = pretrained(make_bosa(pairs, density_every=50, density_hold_out=0.4, **options))
    held = agent.dynamics.held
    assert held is not None
    unseen, source = agent.densities["target"].gather(1, held.places), agent.densities["source"]
    for share in (0.2, 0.5, 0.8):
        least = unseen[0].quantile(1 - share)
        assert float((source[0] > least).double().mean()) == pytest.approx(share, abs=0.05)
    assert float(source[1].amax()) < float(unseen[1].amin())


def known_system(rows: int, seed: int, push: float = 0.0) -> dict[str, np.ndarray]:
    """Make linear moves whose noise, 0.05, is small against how states spread."""
    rng = np.random.default_rng(seed)
    arrays = make_arrays(rows, seed, obs=3)
    drift = 0.9 * arrays["observations"] + 0.3 * arrays["actions"]
    after = drift + push + 0.05 * rng.normal(size=(rows, 3))
    return arrays | {"next_observations": after.astype(np.float32)}


@pytest.fixture(scope="module")
def masks() -> dict[str, list[float]]:
    """Give the share of rows that pass with next states pushed by 0, 6 and 12 deviations."""
    pushed = [known_system(400, 7, push) for push in (0.0, 0.3, 0.6)]
    pairs = [ArrayPair(source, known_system(2000, 1), None) for source in pushed]
    sizes: dict[str, Any] = {"batch": 64, "density_members": 2, "density_width": 48}
    sizes |= {"density_steps": 700, "density_rate": 3e-3, "density_every": 100}
    found: dict[str, list[float]] = {}
    agent = pretrained(make_bosa(pairs, dtype=torch.float32, normalize_states="target", **sizes))
    density = agent.densities["source"]
    found["data"] = (density > agent.least[..., 0]).double().mean(1).tolist()
    agent.dynamics.variance.fill_(0.125)
    batch = agent.data.batch(torch.arange(400).expand(3, -1), 400)
    with torch.no_grad():
        density = agent.next_density(batch, agent.mask_noise)[..., 0]
    found["published"] = (density > math.log(0.01)).double().mean(1).tolist()
    return found


def test_default_mask_tells_dynamics_apart_that_differ_by_their_noise(masks: Any) -> None:
    same, some, much = masks["data"]
    assert same == pytest.approx(0.95, abs=0.05) and some < 0.5 and much < 0.02


def test_published_mask_passes_them_all(masks: Any) -> None:
    assert min(masks["published"][:2]) > 0.98


def test_width_from_the_data_needs_held_out_rows() -> None:
    with pytest.raises(ShiftgymError, match="--density-hold-out above 0"):
        make_bosa(density_hold_out=0.0)
    make_bosa(density_hold_out=0.0, mask_width="published")


def test_densities_come_from_the_checkpoint_when_training_resumes() -> None:
    agent = pretrained(make_bosa([make_pair(0), make_pair(1, source=90)]))
    other = make_bosa([make_pair(0), make_pair(1, source=90)])
    other.load(agent.save())
    other.densities["source"].zero_()  # nobody computes them again
    other.store_densities()
    found = [each.data.columns["source"]["source_density"] for each in (agent, other)]
    assert found[0].isfinite().all() and (found[0] < 0).any() and not found[1].any()
    columns = [each.data.columns["target"]["target_density"] for each in (agent, other)]
    assert torch.equal(*columns)


@pytest.mark.parametrize(
    ("mask", "drawn"), [("source", "once"), ("all", "once"), ("all", "always")]
)
def test_mask_compares_the_least_likely_member(mask: Any, drawn: Any) -> None:
    values: dict[str, Any] = {"mask": mask, "mask_drawn": drawn, "mask_samples": 3}
    agent = pretrained(make_bosa(density_members=3, density_steps=100, **values))
    batch, noise = draw(agent)
    given = noise["next_latent"] if drawn == "always" else agent.mask_noise
    pairs = batch.obs_act, batch.next_obs
    each = agent.dynamics.log_density(*pairs, given)[0, :, :, 0].detach()
    middle = float(each.amin(0).median())
    agent.least = torch.full_like(agent.least, middle)
    expected = (each > middle).all(0)
    assert 0 < int(expected.sum()) < len(expected)
    if mask == "source":
        expected[16:] = True
    with torch.no_grad():
        prepared = agent.prepare(batch, noise)
    assert torch.equal(prepared.columns["supported"][0, :, 0].bool(), expected)
    assert torch.equal(prepared.terminated, batch.terminated)


# --- losses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [{}, {"bootstrap": "terminal", "mask": "all", "conservation_floor": False}],
)
def test_updates_equal_a_plain_implementation(values: Mapping[str, Any]) -> None:
    agent = pretrained(make_bosa(action_cost=0.3, conservation=0.2, steps=6, **values))
    middle = float(agent.densities["source"].median())
    agent.least = torch.full_like(agent.least, middle)
    actor, critics = plain_net(agent.actor), [plain_net(agent.critic, j) for j in range(2)]
    encoder, decoder = (plain_net(n) for n in (agent.behaviour.encoder, agent.behaviour.decoder))
    next_actor, next_critics = copy.deepcopy(actor), copy.deepcopy(critics)
    steps = [torch.optim.Adam(actor.parameters(), 3e-4)]
    steps.append(torch.optim.Adam([p for c in critics for p in c.parameters()], 3e-4))
    floor = -math.inf
    if "mask" not in values:  # one that matters: among the critics' first values
        batch, _ = draw(agent)
        floor = float(agent.critic(batch.obs_act).detach().median())
        assert agent.floor is not None
        agent.floor.fill_(floor)
    for update in range(6):
        batch, noise = draw(agent)
        s, a, after = batch.obs[0], batch.act[0], batch.next_obs[0]
        r, d = batch.reward[0, :, 0], batch.terminated[0, :, 0]
        sides = [batch.columns[f"{side}_density"][0, :, 0] for side in ("source", "target")]
        m = ((sides[0] + sides[1]) > middle).double()
        if "mask" not in values:
            m[16:] = 1
        with torch.no_grad():
            xi = (0.2 * noise["smoothing"][0]).clamp(-0.5, 0.5)
            act = (torch.tanh(next_actor(after)) + xi).clamp(-1, 1)
            best = torch.minimum(*(c(torch.cat([after, act], 1))[:, 0] for c in next_critics))
            y = r + 0.99 * (d if "bootstrap" in values else 1 - d) * best
        qs = [c(torch.cat([s, a], 1))[:, 0] for c in critics]
        loss = sum(
            0.5 * (m * (q - y) ** 2).mean() + 0.2 * q[:16].clamp(min=floor).mean() for q in qs
        )
        steps[1].zero_grad()
        loss.backward()  # pyright: ignore
        steps[1].step()
        if update % 2:
            act = torch.tanh(actor(s))
            q = critics[0](torch.cat([s, act], 1))
            mean, log_std = encoder(torch.cat([s, act], 1)).chunk(2, 1)
            log_std = log_std.clamp(-4, 15)
            z = mean + log_std.exp() * noise["action_latent"][0, 0, :, 0]
            decoded = torch.tanh(decoder(torch.cat([s, z], 1)))
            normal = torch.distributions.Normal
            likely = normal(decoded, math.sqrt(0.125)).log_prob(act).sum(1)
            likely = likely + normal(0.0, 1.0).log_prob(z).sum(1)
            likely = likely - normal(mean, log_std.exp()).log_prob(z).sum(1)
            loss = -q.mean() / q.detach().abs().mean() - 0.3 * likely.mean()
            steps[0].zero_grad()
            loss.backward()
            steps[0].step()
            pairs: Any = zip([actor, *critics], [next_actor, *next_critics], strict=True)
            for new, old in pairs:
                for p, kept in zip(new.parameters(), old.parameters(), strict=True):
                    kept.data.lerp_(p.data, 0.005)
        agent.update(batch, noise)
    nets = [(agent.actor, actor, 0), (agent.next_actor, next_actor, 0)]
    for j in range(2):
        nets += [(agent.critic, critics[j], j), (agent.critic_copy, next_critics[j], j)]
    for ours, theirs, j in nets:
        for (weight, bias), layer in zip(ours.layers(), theirs[::2], strict=True):  # pyright: ignore
            torch.testing.assert_close(weight[j], layer.weight.T, rtol=1e-6, atol=1e-9)  # pyright: ignore
            torch.testing.assert_close(bias[j, 0], layer.bias, rtol=1e-6, atol=1e-9)  # pyright: ignore


def test_without_support_nothing_is_learned_but_conservation() -> None:
    values: dict[str, Any] = {"threshold": math.inf, "mask_width": "published", "mask": "all"}
    still = pretrained(make_bosa(conservation=0.0, **values))
    sinking = pretrained(make_bosa(conservation=0.5, **values))
    before = still.critic.rows.detach().clone()
    values_of_source: list[float] = []
    for _ in range(10):
        for agent in (still, sinking):
            agent.update(*draw(agent))
        batch, _ = draw(sinking)
        values_of_source.append(float(sinking.critic(batch.source.obs_act).detach().mean()))
    assert torch.equal(still.critic.rows, before)
    assert values_of_source[-1] < values_of_source[0] - 0.01
    assert still.logged["supported_source"].item() == 0


def test_values_sink_no_further_than_the_least_return() -> None:
    """Let nothing be supported: then only the floor stops values from falling."""
    values: dict[str, Any] = {
        "threshold": math.inf,
        "mask_width": "published",
        "mask": "all",
        "learning_rate": 0.01,
    }
    values |= {"discount": 0.5, "steps": 600}
    found: dict[bool, list[float]] = {}
    for floor in (True, False):
        agent = pretrained(make_bosa(conservation_floor=floor, **values))
        sides = [agent.data.rows_of(side, 0)[:, -2] for side in ("source", "target")]
        least = float(torch.cat(sides).min())
        assert least < 0 and (agent.floor is None or float(agent.floor) == pytest.approx(2 * least))
        found[floor] = []
        for _ in range(2):
            for _ in range(150):
                agent.update(*draw(agent))
            _, batch = next(agent.data.sweep("source"))
            found[floor].append(float(agent.critic(batch.obs_act).detach().mean()))
    assert abs(found[True][1] - found[True][0]) < 0.2 * abs(found[True][0])
    assert found[False][1] < 2 * found[False][0] < 0
    ended = make_bosa([chain(True)]).floor  # rewards of 1 alone: no return is below 1
    assert ended is not None and float(ended) == 1


def chain(ended: bool) -> ArrayPair:
    """Pay 1 in the only state there is, whatever is done, for ever or once."""
    arrays = make_arrays(64, 0, obs=1)
    arrays |= {name: 0 * arrays[name] for name in ("observations", "next_observations")}
    actions = np.random.default_rng(0).uniform(-1, 1, (64, ACT)).astype(np.float32)
    ends = {"rewards": np.ones(64, np.float32), "terminated": np.full(64, ended)}
    both = arrays | ends | {"actions": actions}
    return ArrayPair(both, both, None, bounds=(-1, 1))


@pytest.mark.parametrize(
    ("bootstrap", "endless", "once"), [("continuing", 10.0, 1.0), ("terminal", 1.0, 10.0)]
)
def test_values_of_an_endless_and_of_an_ended_chain(
    bootstrap: Any, endless: float, once: float
) -> None:
    """The released code bootstraps the wrong rows: 1 for ever is worth 1 there, 1 once is 10."""
    options: dict[str, Any] = {"discount": 0.9, "tau": 0.1, "learning_rate": 5e-3, "width": 16}
    options |= {
        "conservation": 0.0,
        "threshold": 0.0,
        "mask_width": "published",
        "density_steps": 2,
        "steps": 800,
    }
    pairs = [chain(False), chain(True)]
    agent = train(make_bosa(pairs, bootstrap=bootstrap, **options))
    assert isinstance(agent, BOSA)
    _, batch = next(agent.data.sweep("target"))
    q = agent.critic(batch.obs_act).detach().mean((1, 2, 3))
    assert q.tolist() == pytest.approx([endless, once], rel=0.05)


def test_large_action_cost_imitates() -> None:
    """Let the data act the same way in every state but for a little noise."""
    rng = np.random.default_rng(0)
    arrays = make_arrays(500, 0)
    acts = np.array([0.5, -0.3, 0.1]) + 0.05 * rng.normal(size=(500, ACT))
    arrays["actions"] = acts.astype(np.float32)
    options: dict[str, Any] = {"action_cost": 1e3, "density_steps": 200, "learning_rate": 3e-3}
    pair = ArrayPair(arrays, arrays, HOPPER)
    agent = train(make_bosa([pair], steps=400, density_rate=3e-3, **options))
    seen = torch.from_numpy(arrays["observations"])[None].double()
    acted = torch.tanh(agent.actor(seen)).detach()
    assert (acted.mean(1) - torch.tensor([0.5, -0.3, 0.1])).abs().max() < 0.1
    assert float(acted.std(1).max()) < 0.15


# --- settings -------------------------------------------------------------------------------------


def test_presets_say_where_the_release_differs() -> None:
    ours, paper, official = (BOSA.presets[name] for name in ("ours", "paper", "official"))
    assert (ours.bootstrap, ours.mask, ours.density_data) == ("continuing", "source", "target")
    assert (official.bootstrap, official.mask, official.density_data) == ("terminal", "all", "mix")
    assert (official.mask_samples, official.mask_drawn, ours.mask_samples) == (1, "always", 10)
    assert paper.density_width == official.density_width == 750
    assert (ours.density_steps, official.density_steps) == (100_000, 50_000)


def test_unscaled_weights_ignore_the_fan_in() -> None:
    (weight, bias), _ = unscaled_normal_mlp((750, 40, 1), run_generators([0, 1]))
    assert weight.shape == (2, 750, 40) and not bias.any()
    assert float(weight.abs().max()) < 2 and 0.8 < float(weight.std()) < 1
    assert not torch.equal(weight[0], weight[1])

"""Test V2A: the recurrent encoder against PyTorch's, both steps against loops, known modalities."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from agent_helpers import make_agent, make_arrays, make_pair, small
from filtering_helpers import area_under_curve, firsts
from torch import Tensor

from shiftgym_agents.components.modalities import TRAJECTORY, Modalities
from shiftgym_agents.components.source_values import ADVANTAGE
from shiftgym_agents.core.nets import Parameter, minimise
from shiftgym_agents.data.batches import Batch
from shiftgym_agents.data.pairs import ArrayPair
from shiftgym_agents.data.sources import Sources
from shiftgym_agents.methods.igdf import COSINE
from shiftgym_agents.methods.v2a import V2A
from shiftgym_agents.training.running import Running


def make(pairs: list[ArrayPair], **changes: Any) -> V2A:
    given = {"modality_crop": 12, "modality_width": 10, "modality_size": 4} | changes
    agent = make_agent("v2a", small("v2a", **given), pairs=pairs, dtype=torch.float64)
    assert isinstance(agent, V2A)
    return agent


@pytest.fixture(scope="module")
def agent() -> V2A:
    """Make two runs of different trajectories, whose modalities are those of drawn networks."""
    found = make([make_pair(0, source=120, target=60), make_pair(1, source=90, target=60)])
    found.store_scores()
    found.modalities.store()
    found.source_values.store()
    return found


def steps_of(pair: ArrayPair) -> list[np.ndarray]:
    """Cut (s, a, s' - s), standardised over the source, into trajectories."""
    source = {k: np.asarray(v, np.float64) for k, v in pair.source.items()}
    change = source["next_observations"] - source["observations"]
    rows = np.concatenate([source["observations"], source["actions"], change], 1)
    rows = (rows - rows.mean(0)) / rows.std(0)
    ends = np.flatnonzero(source["terminated"].astype(bool) | source["truncated"].astype(bool))
    return np.split(rows, ends[:-1] + 1)


def torch_gru(modalities: Modalities, run: int) -> torch.nn.GRU:
    """Copy a run's encoder into PyTorch's own."""
    w, b, u, c = (part[run].detach() for part in modalities.encoder.parts())
    gru = torch.nn.GRU(len(w), modalities.encoder.width, batch_first=True).double()
    with torch.no_grad():
        parts = {"weight_ih": w.T, "weight_hh": u.T, "bias_ih": b[0], "bias_hh": c[0]}
        for name, part in parts.items():
            getattr(gru, f"{name}_l0").copy_(part)
    return gru


def affine(net: Any, run: int, member: int = 0) -> list[tuple[Tensor, Tensor]]:
    copies = net.rows.shape[1]
    return [(w[run * copies + member], b[run * copies + member]) for w, b in net.layers()]


def applied(layers: list[tuple[Tensor, Tensor]], x: Tensor) -> Tensor:
    for k, (w, b) in enumerate(layers):
        x = x @ w + b if k == len(layers) - 1 else torch.relu(x @ w + b)
    return x


# --- modalities ---


def test_every_row_has_the_modality_of_its_whole_trajectory(agent: V2A) -> None:
    for run in range(2):
        pieces = steps_of(make_pair(run, source=(120, 90)[run], target=60))
        gru = torch_gru(agent.modalities, run)
        numbers = np.repeat(np.arange(len(pieces)), [len(piece) for piece in pieces])
        stored = agent.data.columns["source"][TRAJECTORY][run, : len(numbers)]
        assert (stored.numpy() == numbers).all()
        head = affine(agent.modalities.head, run)
        for number, piece in enumerate(pieces):
            with torch.no_grad():
                _, h = gru(torch.from_numpy(piece)[None])
                z = applied(head, h[0, 0])[0, :4]
            torch.testing.assert_close(agent.modalities.codes[run, number], z, atol=1e-5, rtol=0)
    batch = agent.data.batch(torch.arange(90).expand(2, -1), 90)
    found = agent.modalities.of(batch)
    for run in range(2):
        own = batch.columns[TRAJECTORY][run, :, 0].long()
        assert torch.equal(found[run], agent.modalities.codes[run, own])
        assert len(torch.unique(found[run], dim=0)) == len(torch.unique(own)) > 1


def test_trajectories_of_several_sources_stay_apart_and_long_ones_are_cut() -> None:
    """1,300 steps without an end are two trajectories, and never go on in the next source."""
    one, two = make_arrays(1300, 0), make_arrays(60, 1)
    one["terminated"][:] = one["truncated"][:] = False
    both = Sources([one, two], ["one", "two"])
    joined = dataclasses.replace(make_pair(), source=both)
    found = make([joined]).modalities
    ends = np.flatnonzero(two["terminated"] | two["truncated"]) + 1
    starts = [0, 1000, 1300, *(1300 + ends[:-1])]
    assert found.starts[0].tolist() == starts and found.counts.tolist() == [len(starts)]
    assert (found.starts + found.lengths)[0].tolist() == [*starts[1:], 1360]


def test_crops_lie_within_trajectories(agent: V2A) -> None:
    uniform = torch.rand(2, 200, 2, generator=torch.Generator().manual_seed(0)).double()
    uniform[:, 0] = 1 - 1e-16  # rounds to 1
    steps, valid = agent.modalities.crops(uniform)
    assert steps.shape == (2, 200, 12, 25) and (valid.sum(2) >= 1).all()
    for run in range(2):
        pieces = steps_of(make_pair(run, source=(120, 90)[run], target=60))
        for crop, real in zip(steps[run].numpy(), valid[run].numpy() > 0, strict=True):
            count = int(real.sum())
            fits = [
                np.abs(piece[k : k + count] - crop[:count]).max() < 1e-5
                for piece in pieces
                for k in range(max(1, len(piece) - count + 1))
                if len(piece) >= count and (count == 12 or len(piece) == count)
            ]
            assert any(fits)


def test_one_update_takes_the_e_step_and_then_the_m_step() -> None:
    """Compare Adam's first moments with gradients of losses written down row by row."""
    agent = make([make_pair(0, source=120, target=60)], modality_kl=0.3, modality_norm=1e-3)
    modalities = agent.modalities
    generator = torch.Generator().manual_seed(1)
    noise = {
        "crop": torch.rand(1, 5, 2, generator=generator).double(),
        "modality": torch.randn(1, 5, 4, generator=generator).double(),
    }
    steps, valid = modalities.crops(noise["crop"])
    pieces = [s[v > 0] for s, v in zip(steps[0], valid[0], strict=True)]

    def errors(codes: list[Tensor], decoders: list[Any]) -> Tensor:
        every = []
        for piece, z in zip(pieces, codes, strict=True):
            for row in piece:
                given = torch.cat([row[:14], z])[None]
                every += [((applied(d, given)[0] - row[14:]) ** 2).mean() for d in decoders]
        return torch.stack(every).mean()

    def encoded(gru: torch.nn.GRU, head: Any) -> tuple[list[Tensor], list[Tensor]]:
        outs = [applied(head, gru(piece[None])[1][0])[0] for piece in pieces]
        return [o[:4] for o in outs], [o[4:].clamp(-5, 2) for o in outs]

    gru, head = torch_gru(modalities, 0), affine(modalities.head, 0)
    members = [affine(modalities.decoder, 0, k) for k in range(3)]
    means, logs = encoded(gru, head)
    codes = [m + s.exp() * x for m, s, x in zip(means, logs, noise["modality"][0], strict=True)]
    kl = torch.stack(
        [0.5 * (m**2 + (2 * s).exp() - 1 - 2 * s).sum() for m, s in zip(means, logs, strict=True)]
    ).mean()
    learned = [gru.weight_hh_l0, modalities.head.rows]
    wanted = torch.autograd.grad(errors(codes, members) + 0.3 * kl, learned)
    before = modalities.decoder.rows.detach().clone()
    modalities.update(agent.data.batch(torch.zeros(1, 0, dtype=torch.int64), 0), noise)

    first = modalities.encoder.weights.state["m"], modalities.head.state["m"]
    norm = torch.cat([part.flatten() for part in first]).norm()
    assert float(10 * norm) == pytest.approx(1e-3)  # shortened, encoder and head together
    sizes = [i * o for i, o in modalities.encoder.shapes]
    hidden = first[0].split(sizes, 1)[2].view(10, 30).T
    found = torch.cat([hidden.flatten(), first[1].flatten()])
    exact = torch.cat([wanted[0].flatten(), wanted[1].flatten()])
    torch.testing.assert_close(found / found.norm(), exact / exact.norm(), atol=1e-6, rtol=1e-4)

    now = torch_gru(modalities, 0), affine(modalities.head, 0)  # the encoder has moved
    means = [z.detach() for z in encoded(*now)[0]]
    fresh = before.clone().requires_grad_()
    layers = [(w, b) for w, b in modalities.decoder.layers(fresh)]
    members = [[(w[k], b[k]) for w, b in layers] for k in range(3)]
    (exact,) = torch.autograd.grad(errors(means, members), fresh)
    found = modalities.decoder.state["m"]
    torch.testing.assert_close(found / found.norm(), exact / exact.norm(), atol=1e-6, rtol=1e-4)


def test_gradients_are_shortened_per_run() -> None:
    rows = Parameter(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), rate=0.1)
    minimise((rows.rows**2).sum(1) / 2, rows, limit=1.0)
    found = 10 * rows.state["m"]
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.8], [0.3, 0.4]]))


def two_systems(seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Make 40 trajectories of 20 steps, s' = s + 0.3 a in one half and s - 0.3 a in the other."""
    rng = np.random.default_rng(seed)
    gain = np.repeat(np.where(np.arange(40) % 2, 0.3, -0.3), 20)[:, None]
    obs, act = rng.normal(size=(2, 800, 2))
    after = obs + gain * act + 0.02 * rng.normal(size=(800, 2))
    ends = np.arange(800) % 20 == 19
    rows = {"observations": obs, "actions": np.tanh(act), "next_observations": after}
    found = {k: v.astype(np.float32) for k, v in (rows | {"rewards": obs[:, 0]}).items()}
    return found | {"terminated": ends & False, "truncated": ends}, gain[::20, 0] > 0


def test_modalities_tell_two_systems_apart() -> None:
    source, kind = two_systems(0)
    parts = {"source": source, "target": two_systems(1)[0]}
    pair = dataclasses.replace(make_pair(), **parts, domain=None, reference=None)
    changes: dict = dict(modality_rate=1e-2, modality_width=16, modality_size=2, width=16)
    config = small("v2a", modality_crop=10, modality_steps=150, **changes)
    agent = make_agent("v2a", config, pairs=[pair])
    assert isinstance(agent, V2A)
    Running(agent, agent.modalities.stage(), "eager").run(150)
    agent.modalities.store()
    z = agent.modalities.codes[0].numpy()
    fit, rest = np.arange(40) < 20, np.arange(40) >= 20  # an axis from one half judges the other
    axis = z[fit & kind].mean(0) - z[fit & ~kind].mean(0)
    place = torch.from_numpy(z @ axis)
    assert area_under_curve(place[rest & kind], place[rest & ~kind]) > 0.95


# --- advantages and what is kept ---


def test_advantages_are_given_the_modality(agent: V2A) -> None:
    """Compare with loops over rows; the same z stands beside s and s'."""
    for run in range(2):
        rows = agent.data.rows_of("source", run)
        for k in (0, 17, 50, 80):
            number = int(agent.data.columns["source"][TRAJECTORY][run, k])
            z = agent.modalities.codes[run, number]
            pair = torch.cat([rows[k, :14], z])[None]
            values = [applied(affine(agent.source_values.critic, run, j), pair) for j in range(2)]
            state = torch.cat([rows[k, :11], z])[None]
            base = applied(affine(agent.source_values.value, run), state)
            wanted = float(min(values) - base)
            found = float(agent.data.columns["source"][ADVANTAGE][run, k])
            assert found == pytest.approx(wanted, abs=1e-9)


def test_one_modality_for_all_leaves_dvdf(agent: V2A) -> None:
    """Where z says nothing, critics that read it step as those that do not."""
    pair = make_pair(0, source=120, target=60)
    ours = make([pair])
    plain: Any = make_agent("dvdf-igdf", small("dvdf-igdf"), pairs=[pair], dtype=torch.float64)
    mine, theirs = ours.source_values, plain.source_values
    with torch.no_grad():
        for name in ("value", "critic", "copy"):
            net, other = getattr(mine, name), getattr(theirs, name)
            for (w, b), (v, c) in zip(net.layers(), other.layers(), strict=True):
                v.copy_(w[:, : v.shape[1]])
                c.copy_(b)
    theirs.alpha, theirs.tau = mine.alpha, mine.tau
    for one, values in ((ours, mine), (plain, theirs)):
        values.update(one.data.batch(torch.arange(30)[None], 30), {})
    batch: Batch = ours.data.batch(torch.arange(60)[None], 60)
    with torch.no_grad():
        found, wanted = mine.advantage(batch), theirs.advantage(batch)
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)


def test_all_weight_on_dynamics_keeps_what_igdf_keeps(agent: V2A) -> None:
    plain: Any = make_agent("igdf", small("igdf", keep=0.5), dtype=torch.float64)
    ours = make([make_pair(0), make_pair(1)], trade_off=1.0)
    numbers = torch.rand(2, 2, 400, generator=torch.Generator().manual_seed(0)).double()
    for one in (plain, ours):
        one.data.add_column("source", COSINE, numbers[0] - 0.5)
    ours.data.add_column("source", ADVANTAGE, numbers[1])
    batches = [one.data.batch(torch.arange(32).expand(2, -1), 16) for one in (plain, ours)]
    kept = [one.choose(batch, {})[0] for one, batch in zip((plain, ours), batches, strict=True)]
    assert firsts(kept[0]) == firsts(kept[1]) and kept[0].sources == kept[1].sources == 8

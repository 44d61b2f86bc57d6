"""Test LoDADA: clusters against plain loops, discrepancies against closed forms, local shifts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from agent_helpers import distance_from_iql, make_agent, make_pair, small, train
from filtering_helpers import point_mass

from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.components.clusters import CLUSTER, lloyd, nearest, seeds
from shiftgym_agents.methods.lodada import CLOSENESS, KEPT, LoDADA, judged


def lodada(runs: int = 2, **changes) -> LoDADA:
    """Make a small agent whose clusters are judged by classifiers as they were drawn."""
    config = small("lodada", **({"classifier_steps": 0, "clusters": 6} | changes))
    agent = make_agent("lodada", config, runs=runs, dtype=torch.float64)
    assert isinstance(agent, LoDADA)
    agent.store()
    return agent


# --- clusters ---


def plain_lloyd(points: np.ndarray, weights: np.ndarray, centres: np.ndarray, rounds: int):
    for _ in range(rounds):
        own = [
            min(range(len(centres)), key=lambda c: ((p - centres[c]) ** 2).sum()) for p in points
        ]
        moved = centres.copy()
        for c in range(len(centres)):
            mine = [i for i, cluster in enumerate(own) if cluster == c]
            if mine:
                moved[c] = np.average(points[mine], axis=0, weights=weights[mine])
        centres = moved
    return centres


def test_centres_move_as_in_plain_loops() -> None:
    rng = np.random.default_rng(0)
    points, mass = rng.normal(size=(80, 3)), rng.uniform(0.1, 2, 80)
    start = np.concatenate([points[:4], [[50.0, 50, 50]]])  # the last has no points: it stays
    given = [torch.from_numpy(x) for x in (points, mass, start)]
    for rounds in (1, 3, 30):
        found = lloyd(*given, rounds=rounds).numpy()
        np.testing.assert_allclose(found, plain_lloyd(points, mass, start, rounds), atol=1e-12)
    assert (found[4] == 50).all()
    own = nearest(given[0], torch.from_numpy(found), chunk=7).numpy()
    gaps = ((points[:, None] - found) ** 2).sum(2)
    assert (own == gaps.argmin(1)).all()


def test_first_centres_are_drawn_by_weight_and_squared_distance() -> None:
    points = torch.tensor([[0.0], [1.0], [3.0]]).double()
    mass = torch.tensor([1.0, 1.0, 2.0]).double()
    # shares 1/4 1/4 1/2; then, seen from 1: 1, 0, 2 * 4, so 1/9 0 8/9
    for uniform, places in (([0.3, 0.05], [1, 0]), ([0.3, 0.2], [1, 2]), ([0.6, 0.85], [2, 1])):
        found = seeds(points, mass, torch.tensor(uniform).double())
        assert torch.equal(found, points[places])


def test_far_more_source_rows_place_no_other_centres() -> None:
    """Every source row thrice: the domains weigh half as before, and so do their rows."""
    pair = make_pair(0, source=60, target=60)
    thrice = {name: np.concatenate([array] * 3) for name, array in pair.source.items()}
    many = dataclasses.replace(pair, source=thrice)
    agents = [make_agent("lodada", small("lodada", clusters=5), pairs=[p]) for p in (pair, many)]
    found = []
    for agent in agents:
        assert isinstance(agent, LoDADA)
        rows, parts = agent.clusters._rows("source", 0), agent.clusters.moments[0]
        other = agent.clusters._rows("target", 0)
        points = (torch.cat([rows, other]) - parts[0]) / parts[1]
        share = torch.cat([torch.full((len(x),), 0.5 / len(x)) for x in (rows, other)])
        start = (other[:5] - parts[0]) / parts[1]
        found.append(lloyd(points.double(), share.double(), start.double(), 50))
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=0)


def test_every_row_is_of_its_nearest_centre_and_centres_are_restored() -> None:
    agent = lodada()
    o, a = agent.obs_size, agent.act_size
    for run in range(2):
        both = []
        for side in ("source", "target"):
            rows = agent.data.rows_of(side, run).numpy()[:, : 2 * o + a].copy()
            rows[:, o + a :] -= rows[:, :o]
            both.append(rows)
        mean = (both[0].mean(0) + both[1].mean(0)) / 2
        square = ((both[0] ** 2).mean(0) + (both[1] ** 2).mean(0)) / 2
        points = (both[0] - mean) / np.sqrt(square - mean**2)
        gaps = ((points[:, None] - agent.clusters.centres[run].numpy()) ** 2).sum(2)
        own = agent.data.columns["source"][CLUSTER][run].numpy()
        assert (own == gaps.argmin(1)).all() and len(set(own)) > 3
    other = lodada()
    with torch.no_grad():
        other.clusters.centres.zero_()
    other.load(agent.save())
    other.store()
    for name in (CLUSTER, KEPT, CLOSENESS):
        own, theirs = (one.data.columns["source"][name] for one in (agent, other))
        assert torch.equal(own, theirs)


# --- what is kept ---


@pytest.mark.parametrize("keep", [0.3, 0.7, 1.0])
def test_clusters_are_judged_as_by_sorting(keep: float) -> None:
    rng = np.random.default_rng(1)
    sources, apart = rng.integers(0, 8, 200), rng.normal(size=200)
    sources[sources == 5] = 4  # cluster 5 has no source rows, 6 no target rows
    targets = rng.choice([0, 1, 2, 3, 4, 5, 7], 60)
    apart += 0.3 * sources
    apart[sources == 6] -= 9  # looks closest, where there is nothing to compare with
    given = [torch.from_numpy(x) for x in (apart, sources, targets)]
    kept, closeness = (x.numpy() for x in judged(*given, count=8, keep=keep))
    means = {c: apart[sources == c].mean() for c in (0, 1, 2, 3, 4, 7)}
    wanted, rows = [], 0
    for c in [*sorted(means, key=means.__getitem__), 6]:
        if rows < keep * 200 - 1e-6:
            wanted.append(c)
            rows += int((sources == c).sum())
    assert sorted(np.flatnonzero(kept)) == sorted(wanted) and rows >= keep * 200 - 1e-6
    low, high = (f(means[c] for c in wanted if c in means) for f in (min, max))
    for c in (*means, 6):
        d = (low - means.get(c, max(means.values()))) / (high - low)
        assert closeness[c] == pytest.approx(d, abs=1e-6) and (-1.001 <= d or c not in wanted)
    assert (6 in wanted) == (keep == 1.0)


def test_clusters_are_judged_by_the_mean_log_ratio_of_their_rows() -> None:
    agent = lodada(clusters=8, keep=0.6)
    batch = agent.data.batch(torch.arange(400).expand(2, -1), 400)
    ratio = agent.classifiers.log_ratio(batch)[..., 0].detach().numpy()
    for run in range(2):
        own, kept, closeness = (
            agent.data.columns["source"][name][run].numpy() for name in (CLUSTER, KEPT, CLOSENESS)
        )
        apart = np.array([-ratio[run][own == c].mean() for c in range(8)])
        passes = np.array([kept[own == c].min() for c in range(8)]) > 0
        assert (kept == passes[own.astype(int)]).all() and 0.6 <= kept.mean() < 1
        assert apart[passes].max() < apart[~passes].min()
        low, high = apart[passes].min(), apart[passes].max()
        wanted = (low - apart[own.astype(int)]) / (high - low)
        np.testing.assert_allclose(closeness, wanted, atol=1e-6, rtol=1e-4)
    assert agent.source_scores() is agent.data.columns["source"][CLOSENESS]


def test_batches_keep_passing_rows_and_weigh_them() -> None:
    agent = lodada(keep=0.5)
    batch = agent.data.batch(torch.arange(32).expand(2, -1), 16)
    kept, weight = agent.choose(batch, {})
    assert kept.sources == agent.kept == 8 and weight is not None
    for run in range(2):
        passes = [i for i in range(16) if float(agent.data.columns["source"][KEPT][run, i]) > 0]
        wanted = [passes[i % len(passes)] for i in range(8)]
        assert torch.equal(kept.source.rows[run], batch.rows[run, wanted])
        own = agent.data.columns["source"][CLOSENESS][run, wanted].exp()
        assert torch.equal(weight[run, :8, 0], own)
    assert (weight[:, 8:] == 1).all() and (weight <= 1).all() and (weight >= np.exp(-1.001)).all()


def test_everything_kept_and_weighed_alike_without_support_is_iql() -> None:
    changes: dict = dict(keep=1.0, weigh=False, support=0.0, bc_reduce="mean")
    assert distance_from_iql(lodada(**changes)) < 1e-12


def test_a_shift_of_one_half_of_the_plane_is_found_there() -> None:
    rng_rows, experts = 600, np.zeros(600, bool)
    source = point_mass(rng_rows, experts, experts, 0)
    right = source["observations"][:, 0] > 0
    source["next_observations"] = source["next_observations"] + np.float32(0.3) * right[:, None]
    target = point_mass(600, experts, experts, 1)
    parts = {"source": source, "target": target}
    pair = dataclasses.replace(make_pair(), **parts, domain=None, reference=None)
    changes: dict = dict(
        support=0.0, classifier_steps=300, classifier_noise=0.1, clusters=10, keep=0.4
    )
    config = small("lodada", learning_rate=3e-3, batch=64, **changes)
    agent = make_agent("lodada", config, pairs=[pair])
    train(agent, updates=0)
    kept = agent.data.columns["source"][KEPT][0].numpy() > 0
    assert 0.3 < kept.mean() < 0.7 and right[kept].mean() < 0.15


@pytest.mark.parametrize("values", [{"keep": 0.01}])
def test_shares_that_keep_nothing_are_refused(values: dict) -> None:
    with pytest.raises(ShiftgymError, match="--keep"):
        lodada(**values)

"""Every packaged set is what its name and its account say.

Locomotion: each of the 5,000 steps is repeated from its own observation. At a contact that switches
the float32 rounding of an observation may decide which way, so a row that misses 1e-4 there is
repeated once more from its exact state: its episode's seed and stored actions.

Hands: their state is not in their observations, so episodes are repeated from seed and actions; by
default some of each set (SHIFTGYM_REPLAY=all: every one).
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shiftgym.datasets import dataset_name
from shiftgym.datasets.canonical import canonical_table, content_sha256
from shiftgym.datasets.flat import Flat, check_flat, ends, episode_bounds, rows_of
from shiftgym.datasets.load import install
from shiftgym.datasets.metadata import read_metadata
from shiftgym.datasets.names import HANDS, TARGET_SIZE
from shiftgym.datasets.packaged import LIMIT, PACKAGED, load_packaged, packaged_index
from shiftgym.datasets.tiers import missing_tiers
from shiftgym.domains import episode_steps
from shiftgym.policies import POLICIES
from shiftgym.scores import default_reference
from shiftgym_tools.checking.replay import Transitions, replay
from shiftgym_tools.making.collect import STREAM_SEEDS, Part, name_seed
from shiftgym_tools.making.jobs import plan_job
from shiftgym_tools.making.target_sets import target_names, up_to_date

NAMES = sorted(packaged_index())
TOLERANCE = 1e-4  # relative to the largest number of the observation, at least 1
SWITCHES = 0.005  # share of rows that may need their exact state
HAND_ROWS = 600  # rows of a hand's set repeated by default
REPLAY_ALL = os.environ.get("SHIFTGYM_REPLAY") == "all"
SPREAD = 5.0  # standard errors


@cache
def flat_of(name: str) -> Flat:
    return load_packaged(name)


def about(name: str) -> dict[str, Any]:
    return packaged_index()[name]["about"]


def shares(name: str) -> list[tuple[int, int, str]]:
    """Give each stream's first row, row after the last, and policy."""
    found, first = [], 0
    for part, told in enumerate(about(name)["behaviours"]):
        rows = about(name).get("rows", [b["transitions"] for b in about(name)["behaviours"]])[part]
        for share in Part(told["policy"], rows, told["streams"]).shares():
            found.append((first, first + share, told["policy"]))
            first += share
    return found


def test_they_are_target_sets_and_small() -> None:
    possible = [name for name in target_names() if not missing_tiers(name)]
    assert set(NAMES) == {name.short for name in possible}
    assert sum(name.domain.robot not in HANDS for name in possible) == 84  # all of locomotion
    size = sum((PACKAGED / entry["file"]).stat().st_size for entry in packaged_index().values())
    assert size < LIMIT == 60e6


def test_each_is_made_from_the_packaged_policies() -> None:
    jobs = {name: plan_job(dataset_name(name)) for name in NAMES}
    assert all(about(n)["policies"] == job.facts()["policies"] for n, job in jobs.items())
    listed = [name for name in canonical_table() if name in NAMES]
    stale = [name for name in listed if not up_to_date(jobs[name], packaged_index())]
    assert not stale, "run shiftgym data package"
    for name in listed:
        assert content_sha256(flat_of(name)) == canonical_table()[name]["sha256"]


@pytest.mark.parametrize("name", NAMES)
def test_layout(name: str) -> None:
    of, flat = dataset_name(name).domain, flat_of(name)
    check_flat(flat, of)  # dtypes, widths, finite, chained: no joins
    bounds, limit = episode_bounds(flat), episode_steps(of.robot)
    lengths = np.diff(bounds)
    assert bounds[-1] == TARGET_SIZE and lengths.max() <= limit
    with_last = packaged_index()[name]["episodes"] + TARGET_SIZE  # T + 1 observations each
    assert with_last == (lengths + 1).sum()
    cuts = {end - 1 for _, end, _ in shares(name)}
    for row in np.flatnonzero(flat["truncated"]):
        episode = np.searchsorted(bounds, row, side="right") - 1
        assert lengths[episode] == limit or row in cuts, f"row {row} is truncated without reason"
    assert cuts <= set(np.flatnonzero(ends(flat)))
    assert (np.abs(flat["actions"]) <= 1).all()


@pytest.mark.parametrize("name", NAMES)
def test_account(name: str, tmp_path: Path) -> None:
    wanted, told = dataset_name(name), about(name)
    was = wanted if name in canonical_table() else dataset_name(told["command"].split()[-1])
    assert told["seed"] == name_seed(was.minari)
    seeds, starts = told["episode_seeds"], episode_bounds(flat_of(name))[:-1]
    assert len(seeds) == len(starts)
    expected = []
    for stream, (first, end, _) in enumerate(shares(name)):
        count = int(((starts >= first) & (starts < end)).sum())
        expected += [told["seed"] + STREAM_SEEDS * stream + k for k in range(count)]
    assert seeds == expected
    assert default_reference(wanted.domain), "run shiftgym scores measure"
    installed = read_metadata(install(name, tmp_path)[0])
    assert installed["ref_max_score"] > installed["ref_min_score"]


@pytest.mark.parametrize("name", [n for n in NAMES if n.split("-")[0] not in HANDS])
def test_every_step_happens_again_in_its_domain(name: str) -> None:
    of, flat = dataset_name(name).domain, flat_of(name)
    rows = Transitions(
        *(flat[field] for field in ("observations", "actions", "next_observations", "rewards")),
        flat["terminated"],
    )
    found = replay(of, rows)
    assert not found.joins.any()
    scale = np.maximum(1, np.abs(flat["next_observations"]).max(axis=1))
    reward_scale = np.maximum(1, np.abs(flat["rewards"]))
    with np.errstate(invalid="ignore"):
        good = (found.errors / scale < TOLERANCE) & found.usable
        good &= (found.terminated == flat["terminated"]) & (
            found.reward_errors / reward_scale < 10 * TOLERANCE  # x is not in an observation
        )
    doubtful = np.flatnonzero(~good)
    assert len(doubtful) <= SWITCHES * len(good), f"{len(doubtful)} rows differ"
    bounds = episode_bounds(flat)
    for episode in np.unique(np.searchsorted(bounds, doubtful, side="right") - 1):
        repeat(name, int(episode))


@pytest.mark.parametrize("name", [n for n in NAMES if n.split("-")[0] in HANDS])
def test_episodes_of_hands_happen_again_from_their_seeds(name: str) -> None:
    bounds = episode_bounds(flat_of(name))
    order = np.random.default_rng(0).permutation(len(bounds) - 1)
    rows = 0
    for episode in order.tolist():
        if rows >= HAND_ROWS and not REPLAY_ALL:
            break
        repeat(name, episode)
        rows += int(bounds[episode + 1] - bounds[episode])


def repeat(name: str, episode: int) -> None:
    """Assert that an episode happens again from its seed and its actions."""
    flat = flat_of(name)
    bounds = episode_bounds(flat)
    rows = rows_of(flat, slice(bounds[episode], bounds[episode + 1]))
    env = dataset_name(name).domain.make()
    observation, _ = env.reset(seed=about(name)["episode_seeds"][episode])
    close = dict(rtol=TOLERANCE, atol=TOLERANCE)
    np.testing.assert_allclose(observation, rows["observations"][0], **close)
    for k, action in enumerate(rows["actions"]):
        observation, reward, terminated, _, _ = env.step(action)
        np.testing.assert_allclose(observation, rows["next_observations"][k], **close)
        assert reward == pytest.approx(rows["rewards"][k], rel=TOLERANCE, abs=TOLERANCE)
        assert terminated == rows["terminated"][k]


@pytest.mark.parametrize("name", NAMES)
def test_returns_are_those_of_the_policies(name: str) -> None:
    flat = flat_of(name)
    bounds = episode_bounds(flat)
    recorded = json.loads((POLICIES / "evaluations.json").read_text())
    limit = episode_steps(dataset_name(name).domain.robot)
    for first, end, policy in shares(name):
        inside = [(a, b) for a, b in zip(bounds[:-1], bounds[1:], strict=True) if first <= a < end]
        whole = [(a, b) for a, b in inside if flat["terminated"][b - 1] or b - a == limit]
        if not whole:
            continue
        mean = np.mean([flat["rewards"][a:b].sum(dtype=np.float64) for a, b in whole])
        if end - first == len(flat["rewards"]):
            assert packaged_index()[name]["return"] == pytest.approx(mean, abs=1e-4)
        told = np.array(recorded[policy]["stochastic"]["returns"])
        # A cut falls into long episodes more often than into short ones, which lowers the mean.
        margin = SPREAD * told.std() / np.sqrt(len(whole)) + 0.05 * abs(told.mean()) + 1
        assert abs(mean - told.mean()) < margin, f"{policy}: {mean:.0f}, {told.mean():.0f} recorded"


@pytest.mark.parametrize("robot", sorted({dataset_name(n).domain.robot for n in NAMES}))
def test_no_two_sets_of_a_robot_share_a_transition(robot: str) -> None:
    rows = []
    for name in NAMES:
        if dataset_name(name).domain.robot == robot:
            flat = flat_of(name)
            rows.append(np.concatenate((flat["observations"], flat["actions"]), axis=1))
    joined = np.ascontiguousarray(np.concatenate(rows))
    keys = joined.view(f"V{joined.shape[1] * joined.itemsize}").ravel()
    assert len(set(keys.tolist())) == len(keys)


def test_no_two_sets_are_alike() -> None:
    files = [entry["sha256"] for entry in packaged_index().values()]
    assert len(set(files)) == len(files)

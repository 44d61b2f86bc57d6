"""Collecting: shares, seeds, and the same rows whatever happens on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shiftgym
from shiftgym.datasets.flat import (
    FIELDS,
    Flat,
    check_flat,
    concatenate,
    ends,
    episode_bounds,
    rows_of,
)
from shiftgym_agents.training.artifacts import write_arrays
from shiftgym_tools.making import collect as collecting
from shiftgym_tools.making.blas import one_blas_thread
from shiftgym_tools.making.blocks import read_blocks
from shiftgym_tools.making.collect import Collector, collect, name_seed, plan_parts, split

SIZES = {"hopper": (11, 3), "ant": (27, 8), "pen": (45, 24), "door": (39, 28)}
ROBOTS = list(SIZES)


def policy_file(folder: Path, robot: str, seed: int = 0, **told: str) -> str:
    """Write a policy with random weights: gaussian for hands, SAC otherwise."""
    rng = np.random.default_rng(seed)
    width, actions = SIZES[robot]
    hand = robot in ("pen", "door")
    shapes = [(width, 16), (16,), (16, 16), (16,)]
    shapes += [(16, actions), (actions,)] if hand else [(16, 2 * actions), (2 * actions,)]
    arrays = {
        name: rng.normal(0, 0.3, shape).astype(np.float32)
        for name, shape in zip(("W0", "b0", "W1", "b1", "W2", "b2"), shapes, strict=True)
    }
    if hand:
        arrays["in_shift"] = np.zeros(width, np.float32)
        arrays["in_scale"] = np.ones(width, np.float32)
        arrays["out_shift"] = np.zeros(actions, np.float32)
        arrays["out_scale"] = arrays["out_shift"] + 1
        arrays["log_std"] = np.zeros(actions, np.float32)
    metadata = {"kind": "gaussian" if hand else "sac", "domain": robot, "robot": robot} | told
    path = folder / f"{robot}-{seed}.safetensors"
    write_arrays(path, arrays, metadata)
    return str(path)


def assert_equal(a: Flat, b: Flat) -> None:
    for name in FIELDS:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def run(robot: str, parts: list[tuple[str, int]], folder: Path, **options: Any) -> Collector:
    """Collect into a folder, all at once."""
    folder.mkdir(exist_ok=True)
    streams = options.pop("streams", None)
    made = Collector(shiftgym.domain(robot), plan_parts(parts, streams), 11, folder, **options)
    assert made.run()
    return made


def test_streams_are_spread_over_the_parts() -> None:
    (medium,) = plan_parts([("m", 1_000_000)])
    assert (medium.streams, set(medium.shares())) == (64, {15_625})
    assert [part.streams for part in plan_parts([("m", 500_000), ("e", 500_000)])] == [32, 32]
    assert [part.streams for part in plan_parts([("m", 2_500), ("e", 2_500)])] == [1, 1]
    assert plan_parts([("m", 5_000)])[0].shares() == [5_000]
    assert [part.streams for part in plan_parts([("m", 10)] * 3, streams=7)] == [2, 2, 2]
    ladder = plan_parts([(f"l{k}", size) for k, size in enumerate(split(1_000_000, 9))])
    assert [part.streams for part in ladder] == [7] * 9
    assert sum(sum(part.shares()) for part in ladder) == 1_000_000
    with pytest.raises(shiftgym.ShiftgymError, match="as many streams"):
        plan_parts([("m", 10), ("e", 10)], streams=1)
    with pytest.raises(shiftgym.ShiftgymError, match="at least one transition"):
        plan_parts([("m", 0)])


def test_every_stream_brings_its_share_in_a_row_and_is_cut_there(tmp_path: Path) -> None:
    made = run("hopper", [("random", 1_000)], tmp_path, streams=3)
    flat = concatenate(list(made.chunks()))
    check_flat(flat, shiftgym.domain("hopper"))
    assert made.shares == [334, 333, 333] and len(flat["rewards"]) == 1_000
    last = np.cumsum(made.shares) - 1
    assert ends(flat)[last].all()
    cut = np.flatnonzero(flat["truncated"])  # the hopper falls long before its 1000 steps
    assert set(cut) <= set(last) and len(cut)
    assert len(made.seeds()) == len(episode_bounds(flat)) - 1


def test_an_episode_reaching_the_limit_is_truncated_there(tmp_path: Path) -> None:
    flat = concatenate(list(collect("door", [("random", 500)], seed=0, streams=1)))
    assert np.flatnonzero(flat["truncated"]).tolist() == [199, 399, 499]
    assert not flat["terminated"].any()


@pytest.mark.parametrize("robot", ROBOTS)
def test_each_episode_can_be_repeated_from_its_seed_and_its_actions(
    robot: str, tmp_path: Path
) -> None:
    parts = [(policy_file(tmp_path, robot), 150), ("random", 100)]
    made = run(robot, parts, tmp_path, streams=3)
    flat, env = concatenate(list(made.chunks())), shiftgym.domain(robot).make()
    bounds = episode_bounds(flat)
    assert (np.abs(flat["actions"]) <= 1).all()
    if robot in ("pen", "door"):  # gaussian policies exceed the range, and are clipped to it
        assert (np.abs(flat["actions"]) == 1).mean() > 0.1
    for seed, start, end in zip(made.seeds(), bounds[:-1], bounds[1:], strict=True):
        observation, _ = env.reset(seed=seed)
        for row in range(start, end):
            assert np.array_equal(observation.astype(np.float32), flat["observations"][row])
            observation, reward, terminated, _, _ = env.step(flat["actions"][row])
            assert np.float32(reward) == flat["rewards"][row]
            assert terminated == flat["terminated"][row]
            assert np.array_equal(observation.astype(np.float32), flat["next_observations"][row])


@pytest.mark.parametrize("robot", ROBOTS)
def test_threads_blocks_and_interruptions_change_nothing(
    robot: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [(policy_file(tmp_path, robot), 300), ("random", 300)]
    whole = run(robot, parts, tmp_path / "whole", streams=6, num_threads=1)
    assert len(whole.blocks) == 1
    monkeypatch.setattr(collecting, "BLOCK_ROWS", 200)
    folder, stops = tmp_path / "broken", iter([0, 17, 18, 40, 77])
    folder.mkdir()
    of, planned = shiftgym.domain(robot), plan_parts(parts, 6)
    for stop in stops:
        made = Collector(of, planned, 11, folder, num_threads=2)
        assert not made.run(stopping=lambda made=made, stop=stop: _asked(made, stop))
        assert made.done == sum(block.steps for block in made.blocks) * 6
    made = Collector(of, planned, 11, folder, num_threads=2)
    assert made.run() and len(made.blocks) > 5
    assert_equal(concatenate(list(whole.chunks())), concatenate(list(made.chunks())))
    assert whole.seeds() == made.seeds()


def _asked(made: Collector, stop: int) -> bool:
    """Stop at a step, wherever in a block it is."""
    made.__dict__["asked"] = made.__dict__.get("asked", made.done // 6 - 1) + 1
    return made.__dict__["asked"] >= stop + 1


def test_a_damaged_block_is_collected_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "BLOCK_ROWS", 100)
    made = run("hopper", [("random", 500)], tmp_path, streams=2)
    wanted = concatenate(list(made.chunks()))
    paths = sorted(tmp_path.glob("block-*"))
    paths[3].write_bytes(paths[3].read_bytes()[:1000])
    assert len(read_blocks(tmp_path)) == 3
    again = run("hopper", [("random", 500)], tmp_path, streams=2)
    assert_equal(wanted, concatenate(list(again.chunks())))


def test_chunks_are_bounded_and_cut_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shiftgym_tools.making import blocks

    made = run("hopper", [("random", 900)], tmp_path, streams=2)
    wanted = concatenate(list(made.chunks()))
    monkeypatch.setattr(collecting, "BLOCK_ROWS", 100)
    monkeypatch.setattr(blocks, "CHUNK_ROWS", 120)
    pieces = list(collect("hopper", [("random", 900)], seed=11, streams=2))
    assert max(len(piece["rewards"]) for piece in pieces) <= 150 and len(pieces) == 6
    assert_equal(wanted, concatenate(pieces))


def test_seeds_follow_the_name_and_differ() -> None:
    names = [f"shiftgym/{slug}/medium-v0" for slug in shiftgym.catalogue()]
    seeds = [name_seed(name) for name in names]
    assert len(set(seeds)) == len(names) and max(seeds) < 2**52
    assert name_seed("shiftgym/hopper/medium-v0") == 189268968499883
    a, b = (concatenate(list(collect("hopper", [("random", 50)], seed=s))) for s in seeds[:2])
    assert not np.array_equal(a["actions"], b["actions"])


def test_a_policy_of_another_robot_is_refused(tmp_path: Path) -> None:
    with pytest.raises(shiftgym.ShiftgymError, match="takes 27 numbers"):
        list(collect("hopper", [(policy_file(tmp_path, "ant"), 10)], seed=0))


def test_blas_threads_are_given_back() -> None:
    from shiftgym_tools.making.blas import _openblas

    found = _openblas()
    if found is None:
        pytest.skip("numpy has another BLAS here")
    before = found[0]()
    with one_blas_thread():
        assert found[0]() == 1
    assert found[0]() == before


def test_any_function_acts() -> None:
    """What it gives is executed and stored, clipped to the action space."""
    seen: list[tuple[int, ...]] = []

    def push(observations: np.ndarray) -> np.ndarray:
        seen.append(observations.shape)
        return np.stack([2 * observations[:, 0], observations[:, 1], 0 * observations[:, 2]], 1)

    flat = concatenate(list(collect("hopper", [(push, 300), ("random", 100)], seed=0, streams=4)))
    check_flat(flat, shiftgym.domain("hopper"))
    own = {name: values[:300] for name, values in flat.items()}
    given = np.clip(push(own["observations"]), -1, 1)
    np.testing.assert_allclose(own["actions"], given, atol=1e-6)
    assert set(seen[1:-1]) == {(3, 11)}
    again = concatenate(list(collect("hopper", [(push, 300), ("random", 100)], seed=0, streams=4)))
    for name in FIELDS:
        np.testing.assert_array_equal(flat[name], again[name])


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda o: o[:, :2], r"\(1, 3\) numbers for observations \(1, 11\), got float32 \(1, 2\)"),
        (lambda o: o[0, :3], r"got float32 \(3,\)"),
        (lambda o: None, "got object"),
        (lambda o: np.full((len(o), 3), np.nan), "not finite"),
    ],
)
def test_a_function_that_gives_no_actions_is_told(function: Any, says: str) -> None:
    with pytest.raises(shiftgym.ShiftgymError, match=says):
        list(collect("hopper", [(function, 20)], seed=0))


def test_small_mixtures_change_behaviour_where_an_episode_ends(tmp_path: Path) -> None:
    made = run("door", [("random", 450), (policy_file(tmp_path, "door"), 450)], tmp_path)
    flat = concatenate(list(made.chunks()))
    assert made.part_rows() == [600, 300] and len(flat["rewards"]) == 900
    assert np.flatnonzero(flat["truncated"]).tolist() == [199, 399, 599, 799, 899]
    assert made.seeds()[3] == 11 + collecting.STREAM_SEEDS and len(made.seeds()) == 5
    first = concatenate(list(collect("door", [("random", 600)], seed=11)))
    assert_equal(rows_of(flat, slice(600)), first)
    other = run("door", [("random", 399), ("random", 501)], tmp_path / "short")
    assert other.part_rows() == [399, 501]  # too short for two whole episodes: cut as told

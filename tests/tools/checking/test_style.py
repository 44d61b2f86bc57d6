"""What sets measure, against cases written out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from shiftgym.datasets.packaged import load_packaged
from shiftgym_tools.checking.style import FORWARD, Style, action_change, measure_style, unexplained

ROBOT = "hopper"


def flat_of(lengths: list[int], *, last_is_cut: bool = True) -> dict[str, np.ndarray]:
    """Episodes that terminate, but for the last, which the set's end cuts."""
    rows = sum(lengths)
    ends = np.cumsum(lengths) - 1
    terminated = np.zeros(rows, bool)
    terminated[ends[: len(ends) - last_is_cut]] = True
    truncated = np.zeros(rows, bool)
    truncated[-1] = last_is_cut
    observations = np.zeros((rows, 11), np.float32)
    observations[:, FORWARD[ROBOT]] = np.arange(rows)
    return {
        "observations": observations,
        "actions": np.zeros((rows, 3), np.float32),
        "rewards": np.ones(rows, np.float32),
        "terminated": terminated,
        "truncated": truncated,
    }


def test_returns_and_lengths_are_of_whole_episodes_and_speed_is_of_all_rows():
    found = measure_style(flat_of([10, 20, 7]), ROBOT)
    assert (found.transitions, found.episodes, found.whole) == (37, 3, 2)
    assert found.mean_return == found.length == 15.0
    assert found.speed == pytest.approx(18.0)
    nothing = measure_style(flat_of([9]), ROBOT)
    assert (nothing.episodes, nothing.whole, nothing.mean_return, nothing.length) == (
        1,
        0,
        None,
        None,
    )


def test_an_episode_at_the_time_limit_is_whole_and_one_step_less_is_not():
    assert measure_style(flat_of([1000]), ROBOT).mean_return == 1000.0
    assert measure_style(flat_of([999]), ROBOT).mean_return is None


def test_the_change_of_actions_is_a_root_mean_square_inside_episodes():
    actions = np.array([[0, 0], [1, 0], [-1, 0], [-1, 2]], np.float32)
    # steps: (1, 0), (-2, 0), and (0, 2), which joins two episodes where they begin at 0 and 3
    assert action_change(actions, np.array([0, 3, 4])) == pytest.approx(np.sqrt(5 / 4))
    assert action_change(actions, np.array([0, 4])) == pytest.approx(np.sqrt(9 / 6))
    assert action_change(actions, np.array([0, 1, 2, 3, 4])) == 0.0


def test_saturated_counts_numbers_of_actions_at_a_bound():
    flat = flat_of([4, 4])
    flat["actions"][:3, 0] = (1.0, -0.995, 0.98)
    assert measure_style(flat, ROBOT).saturated == pytest.approx(2 / 24)


@pytest.mark.parametrize("noise", [0.1, 0.3])
def test_noise_is_what_the_state_does_not_explain(noise: float):
    rng = np.random.default_rng(3)
    states = rng.normal(size=(3000, 4)).astype(np.float32)
    meant = np.tanh(states @ rng.normal(size=(4, 2)) * 0.4)
    acted = (meant + noise * rng.standard_normal(meant.shape)).astype(np.float32)
    found = unexplained(states, acted)
    assert noise * 0.95 < found < noise * 1.25  # the network misses a little by itself
    assert unexplained(states, acted) == found  # no draw of its own


def test_noise_of_actions_that_are_no_function_of_the_state_is_their_spread():
    rng = np.random.default_rng(4)
    acted = rng.uniform(-1, 1, (2000, 3)).astype(np.float32)
    found = unexplained(rng.normal(size=(2000, 5)).astype(np.float32), acted)
    assert found == pytest.approx(1 / np.sqrt(3), rel=0.15)


def test_a_hand_has_no_forward_speed_and_measures_are_short_in_a_file():
    found = measure_style(load_packaged("door-kinematic-medium/expert"), "door-kinematic-medium")
    assert found.speed is None and found.length == 200.0
    told = Style(5, 1, 1, 1.23456, 2.0, None, 0.1, 1 / 3, 0.0).rounded()
    assert told["mean_return"] == 1.2346 and told["noise"] == 0.3333 and told["speed"] is None

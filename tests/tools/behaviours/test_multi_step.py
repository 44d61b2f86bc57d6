"""Multi-step rows against sums written out plainly."""

import numpy as np
import pytest

from shiftgym_tools.behaviours.multi_step import MultiStep

OBS, ACT = 2, 1
ROW = 2 * OBS + ACT + 2
GAMMA = 0.9


def one_step_rows(rng, ended, terminated):
    """Give rows (T, E, D) of episodes that end where `ended` says; next observation = its own."""
    count, envs = ended.shape
    rows = rng.normal(size=(count, envs, ROW)).astype(np.float32)
    rows[..., -1] = terminated
    return rows


def written_out(rows, ended, steps):
    """Sum each row's rewards up to n steps ahead or the end of its episode, by definition."""
    wanted = rows.astype(float)
    for start in range(len(rows)):
        for env in range(rows.shape[1]):
            total, power, last = 0.0, 1.0, start
            for t in range(start, min(start + steps, len(rows))):
                total, last = total + power * rows[t, env, -2], t
                power *= GAMMA
                if ended[t, env]:
                    break
            own = wanted[start, env]
            own[-2 - OBS : -2] = rows[last, env, -2 - OBS : -2]
            own[-2] = total
            # what multiplies the bootstrap in r + g (1 - d) V
            own[-1] = 1 - power / GAMMA * (1 - rows[last, env, -1])
    return wanted


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_rows_are_sums_to_n_steps_or_the_end_of_the_episode(steps):
    rng = np.random.default_rng(steps)
    ended = rng.random((60, 4)) < 0.2
    terminated = ended & (rng.random(ended.shape) < 0.5)
    rows = one_step_rows(rng, ended, terminated)
    pending = MultiStep(steps, GAMMA, 4, OBS, ROW)
    ripe = [pending.push(rows[t].copy(), ended[t]) for t in range(len(rows))]
    assert all(row is None for row in ripe[: steps - 1])
    found = np.stack(ripe[steps - 1 :])
    np.testing.assert_allclose(found, written_out(rows, ended, steps)[: len(found)], atol=1e-5)


def test_one_step_changes_nothing():
    rows = np.random.default_rng(0).normal(size=(3, 2, ROW)).astype(np.float32)
    pending = MultiStep(1, GAMMA, 2, OBS, ROW)
    for row in rows:
        np.testing.assert_array_equal(pending.push(row, np.array([True, False])), row)


def test_saved_and_loaded_goes_on_the_same():
    rng = np.random.default_rng(1)
    ended = rng.random((10, 2)) < 0.3
    rows = one_step_rows(rng, ended, ended)
    ours, other = (MultiStep(3, GAMMA, 2, OBS, ROW) for _ in range(2))
    for t in range(5):
        ours.push(rows[t], ended[t])
    other.load({name: array.copy() for name, array in ours.save().items()})
    for t in range(5, 10):
        np.testing.assert_array_equal(ours.push(rows[t], ended[t]), other.push(rows[t], ended[t]))


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        MultiStep(0, GAMMA, 1, OBS, ROW)

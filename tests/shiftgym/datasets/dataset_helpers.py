"""What the dataset tests share: small made-up sets, and comparison."""

from __future__ import annotations

import numpy as np

from shiftgym.datasets.flat import FIELDS, Flat
from shiftgym.datasets.names import DatasetName, dataset_name


def made_up(rows: int, seed: int = 0, longest: int = 40, widths: tuple[int, int] = (11, 3)) -> Flat:
    """Draw chained episodes of random lengths; some terminate, the others are truncated."""
    rng = np.random.default_rng(seed)
    chain = rng.normal(size=(rows + 1, widths[0])).astype(np.float32)
    states, following = chain[:-1].copy(), chain[1:].copy()
    last = np.zeros(rows, np.bool_)
    stops = np.cumsum(rng.integers(1, longest, rows)) - 1
    last[stops[stops < rows]] = True
    last[-1] = True
    terminated = last & (rng.random(rows) < 0.5)
    following[last] = rng.normal(size=(int(last.sum()), widths[0])).astype(np.float32)
    return {
        "observations": states,
        "actions": rng.uniform(-1, 1, (rows, widths[1])).astype(np.float32),
        "rewards": rng.normal(1, 1, rows).astype(np.float32),
        "next_observations": following,
        "terminated": terminated,
        "truncated": last & ~terminated,
    }


def named(rows: int, place: str = "hopper-kinematic", quality: str = "medium") -> DatasetName:
    """Name a set of any size."""
    return dataset_name(f"{place}/{quality}").sized(rows)


def assert_equal(a: Flat, b: Flat) -> None:
    """Assert that two flat sets are the same to the last bit."""
    assert set(a) == set(b) == set(FIELDS)
    for field in FIELDS:
        assert a[field].dtype == b[field].dtype, field
        np.testing.assert_array_equal(a[field], b[field], err_msg=field)

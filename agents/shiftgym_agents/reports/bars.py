"""Measure the bars that results on a target are held against, which need no learning.

    data     the mean score of the target set's whole episodes
    policy   the behaviour policy that made it, without its noise: agents act deterministically, so
             beating the data's mean may mean no more than that noise is gone

The latter is measured over 100 episodes and packaged with the policies. Of a set that several
policies made it is their mean, as the set is of them in equal parts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from shiftgym.basics.statistics import bootstrap_interval
from shiftgym.datasets.flat import episode_returns
from shiftgym.datasets.load import find, load
from shiftgym.datasets.names import DatasetName
from shiftgym.datasets.tiers import RANDOM, TIERS, policies_of
from shiftgym.domains import episode_steps
from shiftgym.policies import POLICIES
from shiftgym.scores import Reference

RESAMPLES = 2000


def measure_bars(target: str, scores: Reference) -> dict[str, Any]:
    """Give both bars of a target.

    Args:
        target: name of the dataset.
        scores: what a return is worth.

    Returns:
        ``data`` and ``policy``, each ``{score, low, high, episodes}`` with a 95 % bootstrap
        interval, or None where it is not known: no whole episode, or data of nobody's policy here.
    """
    name = find(target)
    whole = episode_returns(load(name), episode_steps(name.domain.robot))
    data = None
    if len(whole):
        ends = [scores.score(end) for end in bootstrap_interval(whole)]
        data = _bar(scores.score(float(whole.mean())), ends, len(whole))
    return {"data": data, "policy": _policy_bar(name, scores)}


def _policy_bar(name: DatasetName, scores: Reference) -> dict[str, Any] | None:
    if name.origin or name.made or name.quality not in TIERS:
        return None
    known = [_noiseless(policy) for policy in policies_of(name) if policy != RANDOM]
    if not known or any(returns is None for returns in known):
        return None
    means = [float(np.mean(returns)) for returns in known if returns is not None]
    shares = len(known) + (RANDOM in policies_of(name))
    rng = np.random.default_rng(0)
    drawn = np.zeros(RESAMPLES)
    for returns in known:
        values = np.asarray(returns)
        drawn += values[rng.integers(len(values), size=(RESAMPLES, len(values)))].mean(1)
    rest = scores.random if RANDOM in policies_of(name) else 0.0
    low, high = np.percentile((drawn + rest) / shares, [2.5, 97.5])
    mean = (sum(means) + rest) / shares
    ends = [scores.score(float(low)), scores.score(float(high))]
    return _bar(scores.score(mean), ends, sum(len(each) for each in known if each is not None))


def _bar(score: float, ends: list[float], episodes: int) -> dict[str, Any]:
    low, high = sorted(ends)
    found = {"score": round(score, 3), "low": round(low, 3), "high": round(high, 3)}
    return found | {"episodes": episodes}


def _noiseless(policy: str) -> list[float] | None:
    """Give the returns of a packaged policy's deterministic episodes."""
    told = _evaluations().get(policy, {}).get("deterministic", {})
    return told.get("returns")


@cache
def _evaluations() -> Mapping[str, Any]:
    path = POLICIES / "evaluations.json"
    return json.loads(path.read_text()) if path.exists() else {}

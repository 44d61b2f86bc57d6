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

from shiftgym.basics.errors import DomainError, ShiftgymError
from shiftgym.basics.statistics import bootstrap_interval
from shiftgym.datasets.flat import episode_returns
from shiftgym.datasets.names import DatasetName
from shiftgym.datasets.tiers import RANDOM, TIERS, policies_of
from shiftgym.policies import POLICIES
from shiftgym.reading.anywhere import own_name, read
from shiftgym.scores import Reference
from shiftgym_agents.data.places import Place, steps_of

RESAMPLES = 2000


def measure_bars(target: str, scores: Reference, where: Place = None) -> dict[str, Any]:
    """Give both bars of a target.

    Args:
        target: name of the dataset, shiftgym's or any other.
        scores: what a return is worth.
        where: where policies are evaluated, whose limit ends whole episodes; by default the domain
            of one of shiftgym's sets.

    Returns:
        ``data`` and ``policy``, each ``{score, low, high, episodes}`` with a 95 % bootstrap
        interval, or None where it is not known: no whole episode, data that are gone, or data of
        nobody's policy here.
    """
    try:
        name = own_name(target)
    except DomainError:  # it is gone
        name = None
    if where is None and name is not None:
        where = name.domain
    try:
        whole = episode_returns(read(target).flat, steps_of(where))
    except ShiftgymError:
        if name is not None:
            raise
        whole = np.zeros(0)
    data = None
    if len(whole):
        ends = [scores.score(end) for end in bootstrap_interval(whole)]
        data = _bar(scores.score(float(whole.mean())), ends, len(whole))
    policy = None
    if name is not None and name.domain == where:
        policy = _policy_bar(name, scores)
    return {"data": data, "policy": policy}


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

"""Say in words what is worth knowing of a dataset, and sum it up in figures."""

from __future__ import annotations

from typing import Any

from shiftgym.arrays import Array
from shiftgym.datasets.flat import mean_return, spaces
from shiftgym.domains import Domain, episode_steps
from shiftgym.scores import default_reference, normalized_score
from shiftgym_tools.checking.episodes import UNKNOWN
from shiftgym_tools.checking.examining import Examination
from shiftgym_tools.checking.flaws import reward_gaps, some


def notes(seen: Examination) -> list[str]:
    """List what is worth knowing of a dataset that is not wrong."""
    found = []
    fit = seen.fit
    if fit is not None and fit.engine != "mujoco210":
        found.append(
            f"recorded with the physics of {fit.made_by}, not with MuJoCo 2.1.0's, which this "
            f"package's domains have: a small shift of its own against {seen.domain.slug}"
        )
    if seen.mended_terminals and (count := len(seen.false_terminals)):
        found.append(f"{count} terminal flags where nothing ends were turned into cuts")
    if seen.mended_terminals and (count := int(_flagged(seen))):
        found.append(f"{count} terminal states without a flag were flagged")
    if seen.retraced is not None:
        found += _v5(seen)
        tried, rows = int(seen.retraced.tried.sum()), len(seen.scan)
        blind = int((seen.retraced.tried & ~seen.retraced.usable).sum())
        if tried < rows:
            found.append(f"{tried:,} of {rows:,} rows were replayed; --all-rows replays the rest")
        if blind:
            found.append(f"{blind} rows with a clipped velocity that no row before tells")
    if seen.hand is not None:
        found += seen.hand.notes()
    if seen.source.cut:
        what = (
            "zero padding"
            if seen.source.cut_largest == 0
            else f"contact forces up to {seen.source.cut_largest:.3g}"
        )
        found.append(f"observations without their last {seen.source.cut} numbers: {what}")
    if (unknown := seen.episodes.lost.get(UNKNOWN)) is not None:
        found.append(f"{len(unknown)} rows have no next observation of their own in the file")
    limit, usual = seen.episodes.limit, episode_steps(seen.domain.robot)
    if limit is not None and limit != usual:
        found.append(
            f"episodes of up to {limit} steps, this package's have {usual}: their returns compare "
            "with those of the same limit only"
        )
    low, high = seen.scan.action_range
    space = spaces(seen.domain)[1]
    if low < space.low.min() - 1e-6 or high > space.high.max() + 1e-6:
        found.append(f"actions from {low:.3g} to {high:.3g}; environments clip them")
    return found


def _flagged(seen: Examination) -> int:
    return int(seen.episodes.terminated[seen.missing_terminals].sum())


def _v5(seen: Examination) -> list[str]:
    """Tell where rewards are those of Gymnasium's v5 environments."""
    _, v5 = reward_gaps(seen)
    ended = int((v5 & seen.scan.terminal).sum())
    charged = int((v5 & ~seen.scan.terminal).sum())
    found = []
    if ended:
        found.append(
            f"{ended} terminal rows lack the reward of 1 for being healthy, as in Gymnasium's v5 "
            "environments; here it is paid"
        )
    if charged:
        found.append(
            f"rewards of {charged} rows are lower by up to 0.04, as Gymnasium's Ant-v5 charges for "
            "contact forces; here it is free"
        )
    return found


def returned(where: Domain, origin: str, returns: Array) -> dict[str, Any]:
    """Give the figures of whole episodes' returns; the score is of the origin's reference."""
    mean, table = mean_return(returns), default_reference(where, origin)
    scored = None
    if mean is not None and table is not None:
        scored = normalized_score(where, mean, table)
    return {
        "mean_return": mean,
        "whole_episodes": len(returns),
        "score": scored,
        "score_reference": None if scored is None else table,
    }


def summary(seen: Examination, origin: str = "") -> dict[str, Any]:
    """Give the figures of a dataset, JSON-able; scores are of the origin's reference."""
    episodes, fit = seen.episodes, seen.fit
    return {
        "file": seen.source.label,
        "layout": seen.source.layout.title,
        "domain": seen.domain.slug,
        "rows": len(seen.scan),
        "kept": int(episodes.kept.sum()),
        **{
            key: value
            for name in ("filled", "dropped")
            for key, value in (
                (name, {reason: len(rows) for reason, rows in getattr(episodes, name).items()}),
                (f"{name}_rows", _first(getattr(episodes, name))),
            )
        },
        "lost": {reason: len(rows) for reason, rows in episodes.lost.items()},
        "episodes": len(episodes.lengths),
        "ends": episodes.ends,
        "time_limit": episodes.limit,
        "longest": int(episodes.lengths.max(initial=0)),
        **returned(seen.domain, origin, episodes.returns),
        "replay": None
        if fit is None
        else {
            "domain": fit.domain.slug,
            "engine": fit.made_by,
            "rows": fit.rows,
            "median": fit.median,
            "p99": fit.p99,
            "worst": fit.worst,
            "beyond": fit.beyond,
        },
    }


def _first(rows: dict[str, Any], most: int = 1000) -> dict[str, list[int]]:
    return {reason: numbers[:most].tolist() for reason, numbers in rows.items()}


def lines(facts: dict[str, Any]) -> list[str]:
    """Lay out a summary for reading."""
    rows = [f"{facts['rows']:,} read, {facts['kept']:,} kept"]
    reasons = " or ".join(facts["lost"])
    rows += [
        f"{count:,} that {reasons} ({some(facts['filled_rows'][how])}) kept {how}"
        for how, count in facts["filled"].items()
    ]
    rows += [
        f"{count:,} dropped: they {reason} ({some(facts['dropped_rows'][reason])})"
        for reason, count in facts["dropped"].items()
    ]
    ends = ", ".join(f"{count} {kind}" for kind, count in facts["ends"].items())
    found = [f"layout    {facts['layout']}", f"domain    {facts['domain']}", f"rows      {rows[0]}"]
    found += [f"          {row}" for row in rows[1:]]
    found.append(f"episodes  {facts['episodes']:,} ({ends}); the longest {facts['longest']:,}")
    if facts["mean_return"] is None:
        found.append("return    no episode is whole (ended by a terminal state or the time limit)")
    else:
        scored = "no reference score"
        if facts["score"] is not None:
            scored = f"normalised {facts['score']:.1f} ({facts['score_reference']})"
        whole = f"{facts['whole_episodes']:,} whole episodes"
        found.append(f"return    mean {facts['mean_return']:.1f} of {whole}, {scored}")
    if (replay := facts["replay"]) is not None:
        found.append(
            f"replay    {replay['rows']:,} rows in {replay['domain']} ({replay['engine']}): median "
            f"{replay['median']:.1e}, 99 % {replay['p99']:.1e}, worst {replay['worst']:.1e}, "
            f"{replay['beyond']:.2%} beyond"
        )
    return found

"""Say in words what an examination found: what is wrong in a dataset, and what is worth knowing."""

from __future__ import annotations

from typing import Any

import numpy as np

from shiftgym.datasets.flat import spaces
from shiftgym.domains import Domain, episode_steps
from shiftgym.scores import has_reference, normalized_score
from shiftgym_tools.episodes import JOINS, UNKNOWN
from shiftgym_tools.examining import REWARD_CLOSE, Examination

FEW = 0.001  # fraction of replayed rows whose flag or reward may differ: states at a threshold
ASTRAY = 0.1  # m, rad, m/s, rad/s: ten times what a contact that switches does at worst
TABLES = ("shiftgym", "otdf", "odrl")  # score references, the first that has one is used


def flaws(seen: Examination) -> list[str]:
    """List what is wrong in a dataset, beyond what makes it unusable (``seen.problems``)."""
    found, episodes = [], seen.episodes
    if (joined := episodes.dropped.get(JOINS)) is not None:
        silent = int((~seen.scan.terminal[joined]).sum())
        found.append(
            f"{len(joined)} rows join two episodes ({some(joined)}), {silent} of them with no "
            "terminal flag"
        )
    if episodes.inside:
        found.append(f"{episodes.inside} rows are flagged as last ones, yet their episode goes on")
    limit = episode_steps(seen.domain.robot)
    longest = int(episodes.lengths.max(initial=0))
    if longest > limit and seen.hand is None:
        found.append(f"the longest episode has {longest} steps, the limit is {limit}")
    if seen.replayed is not None and seen.verdict is not None and seen.verdict.confirmed:
        tried = seen.replayed.tried
        wrong = int(seen.replayed.wrong_terminals[tried].sum())
        if wrong > FEW * tried.sum():
            found.append(
                f"{wrong} of {int(tried.sum())} replayed rows have another terminal flag than "
                f"{seen.domain.slug} gives"
            )
        strays = np.flatnonzero(np.nan_to_num(seen.replayed.errors) > ASTRAY)
        if len(strays):
            found.append(
                f"{len(strays)} rows lead elsewhere than {seen.domain.slug} does ({some(strays)}; "
                f"up to {np.nanmax(seen.replayed.errors):.2g} away): damaged, or not in order"
            )
        found += _rewards(seen)
    return found


def _rewards(seen: Examination) -> list[str]:
    """Compare rewards with the domain's own; v5's missing alive bonus is told apart."""
    assert seen.replayed is not None
    errors = seen.replayed.reward_errors
    known = ~np.isnan(errors)
    scale = np.maximum(1.0, np.abs(seen.scan.rewards))
    wrong = known & (errors > REWARD_CLOSE * scale)
    if seen.domain.robot == "ant":  # the torso frame's lag is known from the row before only
        wrong &= seen.scan.follows & np.append(False, known[:-1])
    if wrong.sum() <= FEW * max(1, known.sum()):
        return []
    ended = wrong & seen.scan.terminal
    if ended.sum() == wrong.sum() and np.allclose(errors[wrong], 1.0, atol=0.01):
        return [
            f"{int(wrong.sum())} terminal rows lack the reward of 1 for being healthy, as in "
            "Gymnasium's v5 environments; here it is paid"
        ]
    return [
        f"rewards of {int(wrong.sum())} of {int(known.sum())} replayed rows differ from "
        f"{seen.domain.slug}'s own (median difference {np.median(errors[wrong]):.2g})"
    ]


def notes(seen: Examination) -> list[str]:
    """List what is worth knowing of a dataset that is not wrong."""
    found = []
    fit = seen.fit
    if fit is not None and fit.engine != "mujoco210":
        found.append(
            f"recorded with the physics of {fit.made_by}, not with MuJoCo 2.1.0's, which this "
            f"package's domains have: a small shift of its own against {seen.domain.slug}"
        )
    if seen.replayed is not None:
        tried, rows = int(seen.replayed.tried.sum()), len(seen.scan)
        blind = int((seen.replayed.tried & ~seen.replayed.usable).sum())
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
    if (unknown := seen.episodes.dropped.get(UNKNOWN)) is not None:
        found.append(f"{len(unknown)} rows have no known next observation (none is stored)")
    low, high = seen.scan.action_range
    space = spaces(seen.domain)[1]
    if low < space.low.min() - 1e-6 or high > space.high.max() + 1e-6:
        found.append(f"actions from {low:.3g} to {high:.3g}; environments clip them")
    return found


def some(numbers: Any, most: int = 8) -> str:
    """List the first row numbers."""
    shown = ", ".join(str(number) for number in numbers[:most])
    return ("row " if len(numbers) == 1 else "rows ") + shown + (", ..." * (len(numbers) > most))


def score(where: Domain, value: float) -> tuple[str, float] | None:
    """Give the reference's name and the normalised score; None where there is no reference."""
    for table in TABLES:
        if has_reference(where, table):
            return table, normalized_score(where, value, table)
    return None


def summary(seen: Examination) -> dict[str, Any]:
    """Give the figures of a dataset, JSON-able."""
    episodes, fit = seen.episodes, seen.fit
    mean = float(episodes.returns.mean()) if len(episodes.returns) else None
    scored = None if mean is None else score(seen.domain, mean)
    return {
        "file": seen.source.label,
        "layout": seen.source.layout.title,
        "domain": seen.domain.slug,
        "rows": len(seen.scan),
        "kept": int(episodes.kept.sum()),
        "dropped": {reason: len(rows) for reason, rows in episodes.dropped.items()},
        "dropped_rows": {r: rows[:1000].tolist() for r, rows in episodes.dropped.items()},
        "episodes": len(episodes.lengths),
        "ends": episodes.ends,
        "time_limit": episodes.limit,
        "longest": int(episodes.lengths.max(initial=0)),
        "mean_return": mean,
        "score": None if scored is None else scored[1],
        "score_reference": None if scored is None else scored[0],
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


def lines(facts: dict[str, Any]) -> list[str]:
    """Lay out a summary for reading."""
    rows = [f"{facts['rows']:,} read, {facts['kept']:,} kept"]
    rows += [
        f"  {count:,} dropped: they {reason} ({some(facts['dropped_rows'][reason])})"
        for reason, count in facts["dropped"].items()
    ]
    ends = ", ".join(f"{count} {kind}" for kind, count in facts["ends"].items())
    found = [f"layout    {facts['layout']}", f"domain    {facts['domain']}", f"rows      {rows[0]}"]
    found += [f"          {row.strip()}" for row in rows[1:]]
    found.append(f"episodes  {facts['episodes']:,} ({ends}); the longest {facts['longest']:,}")
    if facts["mean_return"] is not None:
        scored = "no reference score yet"
        if facts["score"] is not None:
            scored = f"normalised {facts['score']:.1f} ({facts['score_reference']})"
        found.append(f"return    mean {facts['mean_return']:.1f}, {scored}")
    if (replay := facts["replay"]) is not None:
        found.append(
            f"replay    {replay['rows']:,} rows in {replay['domain']} ({replay['engine']}): median "
            f"{replay['median']:.1e}, 99 % {replay['p99']:.1e}, worst {replay['worst']:.1e}, "
            f"{replay['beyond']:.2%} beyond"
        )
    return found

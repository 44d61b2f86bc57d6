"""Say in words what is wrong in a dataset whose domain is right, and what an import makes of it.

joins         next observations of another episode     mended, or the row is dropped
flags         flags inside an episode, overlong ones   told
terminals     flags that the domain contradicts        refused, mended or allowed
rewards       rewards that are not the domain's        refused or allowed, where they are many
rows          steps that lead elsewhere                likewise
repeats       episodes that occur again                likewise
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from shiftgym.basics.arrays import Array
from shiftgym.domains import episode_steps
from shiftgym_tools.checking.episodes import JOINS, goes_on
from shiftgym_tools.checking.examining import Examination
from shiftgym_tools.checking.plausible import repeated_episodes
from shiftgym_tools.checking.rounding import ASTRAY

FEW = 0.001  # fraction of replayed rows whose reward or step may differ: states at a threshold
MANY = 0.01  # and beyond which rewards are no longer this domain's
OFTEN = 0.1  # fraction of episodes beyond which repeating them is no accident
REWARD_CLOSE = 1e-3  # float32 rewards of size 10; the Ant's lag, where it must be guessed
CONTACT_COST = 0.04  # the most that Ant-v5 charges for contact forces: 5e-4 of 78 squares up to 1

Allowed = Literal["terminals", "rewards", "rows", "repeats"]


@dataclass(frozen=True)
class Flaw:
    """Tell one thing that is wrong.

    Attributes:
        kind: see :mod:`shiftgym_tools.checking.flaws`.
        text: what, in words.
        decides: whether an import is refused for it, unless it is allowed.
        remedy: how an import goes on all the same, in words, beside allowing it.
    """

    kind: str
    text: str
    decides: bool = False
    remedy: str = ""

    def __str__(self) -> str:
        """Say what is wrong."""
        return self.text

    def refusal(self) -> str:
        """Say what is wrong, and how to import it all the same."""
        return f"{self.text} ({self.remedy}--allow {self.kind} imports it as it is)"


def flaws(seen: Examination) -> list[Flaw]:
    """List what is wrong in a dataset, beyond what makes it unusable (``seen.problems``)."""
    found, episodes = [], seen.episodes
    if (joined := episodes.lost.get(JOINS)) is not None:
        silent = int((~seen.scan.terminal[joined]).sum())
        text = f"{len(joined)} rows join two episodes ({some(joined)}), {silent} of them with no "
        found.append(Flaw("joins", f"{text}terminal flag"))
    if episodes.inside:
        text = f"{episodes.inside} rows are flagged as last ones, yet their episode goes on"
        found.append(Flaw("flags", text))
    limit = episode_steps(seen.domain.robot)
    longest = int(episodes.lengths.max(initial=0))
    if longest > limit and seen.hand is None:
        text = f"the longest episode has {longest} steps, the limit is {limit}"
        found.append(Flaw("flags", text))
    found += _terminals(seen)
    if seen.retraced is not None and seen.verdict is not None and seen.verdict.confirmed:
        found += [flaw for flaw in (_strays(seen), _rewards(seen)) if flaw is not None]
    if seen.hand is not None and seen.hand.reward_rule is None:
        text = "rewards do not follow from the states they were paid in"
        found.append(Flaw("rewards", text, decides=True))
    return [*found, *_repeats(seen)]


def _terminals(seen: Examination) -> list[Flaw]:
    """Judge every terminal flag by where its row leads; mended ones are right."""
    if seen.mended_terminals:
        return []
    false, missing = seen.false_terminals, seen.missing_terminals
    where, limit = seen.domain.slug, episode_steps(seen.domain.robot)
    found = []
    if len(false):
        starts = np.flatnonzero(np.append(True, ~seen.scan.follows[1:]))
        steps = false - starts[np.searchsorted(starts, false, side="right") - 1] + 1
        late = int((steps == limit).sum())
        at = f", {late} of them at the time limit of {limit} steps: time-outs" if late else ""
        text = f"{len(false)} rows have another terminal flag than {where} gives: flagged, though "
        text += f"nothing ends there ({some(false)}){at}"
        remedy = "--mend-terminals turns these flags into time-outs; "
        found.append(Flaw("terminals", text, True, remedy))
    on = goes_on(seen.scan)[missing] & ~np.isin(missing, seen.episodes.lost.get(JOINS, ()))
    if len(ended := missing[~on]):
        text = f"{len(ended)} rows have another terminal flag than {where} gives: the last of an "
        text += f"episode, in a terminal state, without a flag ({some(ended)})"
        found.append(Flaw("terminals", text, True, "--mend-terminals flags them; "))
    if len(passed := missing[on]):
        text = f"{len(passed)} rows have another terminal flag than {where} gives: they come to a "
        text += f"terminal state, yet their episode goes on ({some(passed)})"
        found.append(Flaw("terminals", text, True))
    return found


def _strays(seen: Examination) -> Flaw | None:
    assert seen.retraced is not None
    errors = seen.retraced.errors
    strays = np.flatnonzero(np.nan_to_num(errors) > ASTRAY)
    if not len(strays):
        return None
    text = f"{len(strays)} rows lead elsewhere than {seen.domain.slug} does ({some(strays)}; up to "
    text += f"{np.nanmax(errors):.2g} away): damaged, or not in order"
    return Flaw("rows", text, len(strays) > FEW * (~np.isnan(errors)).sum())


def reward_gaps(seen: Examination) -> tuple[Array, Array]:
    """Say which rewards differ from the domain's own, and which of these as Gymnasium's v5 do.

    Returns:
        The rows that differ otherwise, and the rows that differ as v5 does, both (N,) bool.
    """
    assert seen.retraced is not None
    gaps = seen.retraced.reward_gaps
    known = ~np.isnan(gaps)
    gaps = np.nan_to_num(gaps)
    close = REWARD_CLOSE * np.maximum(1.0, np.abs(seen.scan.rewards))
    wrong = known & (np.abs(gaps) > close)
    ant = seen.domain.robot == "ant"
    if ant:  # the torso frame's lag is known from the row before only
        wrong &= seen.scan.follows & np.append(False, known[:-1])
    least = CONTACT_COST if ant else 0.0
    unpaid = np.where(seen.scan.terminal, gaps + 1.0, np.inf)  # for being healthy, at the end
    v5 = ((unpaid < 0.01) & (unpaid > -least - 0.01)) | (ant & (gaps < 0) & (gaps > -least - close))
    return wrong & ~v5, wrong & v5


def _rewards(seen: Examination) -> Flaw | None:
    """Compare rewards with the domain's own."""
    assert seen.retraced is not None
    wrong, _ = reward_gaps(seen)
    gaps = seen.retraced.reward_gaps
    known = int((~np.isnan(gaps)).sum())
    if wrong.sum() <= FEW * max(1, known):
        return None
    text = f"rewards of {int(wrong.sum())} of {known} replayed rows differ from "
    apart = np.median(np.abs(gaps[wrong]))
    text += f"{seen.domain.slug}'s own (median difference {apart:.2g}){_how(seen, wrong)}"
    return Flaw("rewards", text, bool(wrong.sum() > MANY * known))


def _how(seen: Examination, wrong: Array) -> str:
    """Say how rewards differ, where it is simple."""
    assert seen.retraced is not None
    given = seen.scan.rewards.astype(np.float64)
    own = given - seen.retraced.reward_gaps
    for shift, words in ((1, "the row before"), (-1, "the next row")):
        same = np.abs(given - np.roll(own, shift)) < REWARD_CLOSE * np.maximum(1.0, np.abs(given))
        if same[wrong].mean() > 0.9:
            return f": they are those of {words}"
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = (given / own)[wrong]
    ratios = ratios[np.isfinite(ratios)]
    factor = float(np.median(ratios)) if len(ratios) else np.nan
    if len(ratios) and np.mean(np.abs(ratios - factor) < 0.01 * abs(factor)) > 0.9:
        return f": they are {factor:.3g} times as large"
    return ""


def _repeats(seen: Examination) -> list[Flaw]:
    count, _ = repeated_episodes(seen.scan, seen.episodes)
    if not count:
        return []
    every = len(seen.episodes.lengths)
    text = f"{count} of {every} episodes occur more than once"
    return [Flaw("repeats", text, count > OFTEN * every)]


def some(numbers: Any, most: int = 8) -> str:
    """List the first row numbers."""
    shown = ", ".join(str(number) for number in numbers[:most])
    return ("row " if len(numbers) == 1 else "rows ") + shown + (", ..." * (len(numbers) > most))

"""Judge our target sets by the published ones of the same name: the bands they have to lie in.

    medium return     within 10 points of the published medium, on OTDF's scale
    expert return     at least 0.9 of the published maximum; 0.8 is a second bar below it
    noise, change     at most 1.3 times the published set's, medium and expert

A set's returns are those of whole episodes. A value within 2 % of its bar may count either way:
processors differ in the last digits, and published files are measured where they are at hand.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from shiftgym.scores import published_maximum, reference
from shiftgym_tools.comparing.published_sets import ROBOTS, SHIFTS, Published

POINTS = 10.0  # between our medium and the published one
SHARES = (0.9, 0.8)  # of the published maximum: the expert's first and second bar
TIMES = 1.3  # the published noise and change
STYLES = ("noise", "change")
TIERS = ("medium", "expert")
EITHER_WAY = 0.02
SCALE = "otdf"
DOMAINS = tuple(f"{robot}-{shift}" for robot in ROBOTS for shift in SHIFTS)


@dataclass(frozen=True)
class Verdict:
    """Hold one measure of a domain beside its bar.

    Attributes:
        domain: its slug.
        measure: what is judged, ``medium return`` or ``expert noise``, say.
        value: ours: points off the published medium, a share of the published maximum, or a
            multiple of the published noise or change.
        bar: what it is judged by.
        at_least: whether the bar is the least that passes, not the most.
    """

    domain: str
    measure: str
    value: float
    bar: float
    at_least: bool

    @property
    def passes(self) -> bool:
        """Say whether the value is on the right side of its bar."""
        return self.value >= self.bar if self.at_least else self.value <= self.bar

    @property
    def close(self) -> bool:
        """Say whether the value is so near to its bar that it may count either way."""
        return abs(self.value - self.bar) <= EITHER_WAY * self.bar

    @property
    def key(self) -> tuple[str, str]:
        """Name the verdict: domain and measure."""
        return self.domain, self.measure


def share_of_maximum(slug: str, value: float) -> float:
    """Give a return as a share of the published maximum; NaN where none is published."""
    return value / (published_maximum(slug) or float("nan"))


def points_off(slug: str, ours: float, theirs: float) -> float:
    """Give how far a return lies above (or, negative, below) another on OTDF's scale."""
    scale = reference(slug, SCALE)
    return scale.score(ours) - scale.score(theirs)


def judge(
    ours: Mapping[str, Mapping[str, Any]], published: Mapping[str, Published]
) -> list[Verdict]:
    """Judge the sets of the 12 domains that published files have.

    Args:
        ours: measures of our sets by name, as :meth:`Style.rounded` gives them.
        published: of the published ones, by name.
    """
    return [verdict for slug in DOMAINS for verdict in _domain(slug, ours, published)]


def _domain(
    slug: str, ours: Mapping[str, Mapping[str, Any]], published: Mapping[str, Published]
) -> Iterator[Verdict]:
    medium, expert = ours[f"{slug}/medium"], ours[top_set(slug, ours)]
    theirs = published[f"{slug}/medium"].mean_return
    # A set without a whole episode has no return: it is as far off as can be.
    off = abs(points_off(slug, _earned(medium), theirs))
    yield Verdict(slug, "medium return", off, POINTS, at_least=False)
    for number, share in enumerate(SHARES):
        name = "expert return" if number == 0 else "expert return, second bar"
        yield Verdict(slug, name, share_of_maximum(slug, _earned(expert)), share, at_least=True)
    for tier, mine in zip(TIERS, (medium, expert), strict=True):
        for measure in STYLES:
            there = getattr(published[f"{slug}/{tier}"], measure)
            yield Verdict(slug, f"{tier} {measure}", mine[measure] / there, TIMES, at_least=False)


def top_set(slug: str, ours: Container[str]) -> str:
    """Name a domain's best set: ``expert``, or ``best`` where no policy reaches the bar."""
    name = f"{slug}/expert"
    return name if name in ours else f"{slug}/best"


def _earned(told: Mapping[str, Any]) -> float:
    return 0.0 if told["mean_return"] is None else told["mean_return"]


def misses(verdicts: list[Verdict]) -> list[dict[str, Any]]:
    """List what misses its bar, for a file."""
    told = [asdict(verdict) for verdict in verdicts if not verdict.passes]
    return [
        {k: round(v, 3) if isinstance(v, float) else v for k, v in one.items() if k != "at_least"}
        for one in told
    ]


def disagreements(verdicts: list[Verdict], listed: list[Mapping[str, Any]]) -> list[str]:
    """Say where verdicts and a list of known misses disagree; nothing where they agree.

    A miss that is not listed, one that is listed and passes now, and one of no domain here.
    """
    known = {(row["domain"], row["measure"]) for row in listed}
    found = []
    for verdict in verdicts:
        if verdict.close or verdict.passes == (verdict.key not in known):
            continue
        what = f"{verdict.domain}: {verdict.measure} is {verdict.value:.3g}, bar {verdict.bar:g}"
        found.append(f"{what}: {'passes, but is listed' if verdict.passes else 'not listed'}")
    strange = known - {verdict.key for verdict in verdicts}
    return found + [f"{domain}: {measure}: nothing is judged so" for domain, measure in strange]

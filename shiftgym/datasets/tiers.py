"""Which behaviour makes which quality.

    random          uniform random actions
    medium, expert  that policy of the domain
    medium-expert   half medium, half expert, as in D4RL
    medium-replay   equal shares of eight policies between random and medium, and of medium: what a
                    learner's memory holds when it has become medium

Where the best policy of a domain is below the bar of an expert, it is packaged as `best` and stands
in for `expert`; the dataset says so.
"""

from __future__ import annotations

from shiftgym.datasets.names import DatasetName
from shiftgym.domains import Domain
from shiftgym.policies import index

RANDOM = "random"
LADDER = tuple(f"ladder-{rung}" for rung in range(8))
TIERS = {
    "random": (RANDOM,),
    "medium": ("medium",),
    "expert": ("expert",),
    "medium-expert": ("medium", "expert"),
    "medium-replay": (*LADDER, "medium"),
}
STAND_INS = {"expert": "best"}


def available(of: Domain, tier: str) -> str | None:
    """Name the packaged policy of a domain's tier, a stand-in if need be; None if there is none."""
    if tier == RANDOM:
        return RANDOM
    for candidate in (tier, STAND_INS.get(tier)):
        if candidate and f"{of.slug}/{candidate}" in index():
            return f"{of.slug}/{candidate}"
    return None


def missing_tiers(name: DatasetName) -> list[str]:
    """List the tiers that a quality needs and its domain has no packaged policy of."""
    return [tier for tier in TIERS[name.quality] if available(name.domain, tier) is None]

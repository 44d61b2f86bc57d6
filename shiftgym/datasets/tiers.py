"""Which behaviour makes which quality.

    random          uniform random actions
    medium, expert  that policy of the domain
    medium-expert   half medium, half expert, as in D4RL
    medium-replay   equal shares of random actions and of the ladder, eight policies of one training
                    from random to medium, in order: what a learner's memory holds when it has
                    become medium. The medium policy itself is one more where it is no rung

Where no policy of a domain reaches the bar of an expert, the best there is is called `best`, and so
are its data: `best` and `medium-best`, and there is no `expert`.
"""

from __future__ import annotations

import numpy as np

from shiftgym.datasets.names import DatasetName
from shiftgym.domains import Domain
from shiftgym.policies import index, load_policy

RANDOM = "random"
LADDER = tuple(f"ladder-{rung}" for rung in range(8))
TIERS = {
    "random": (RANDOM,),
    "medium": ("medium",),
    "expert": ("expert",),
    "best": ("best",),
    "medium-expert": ("medium", "expert"),
    "medium-best": ("medium", "best"),
    "medium-replay": (RANDOM, *LADDER),
}
INSTEAD = {"expert": "best", "medium-expert": "medium-best"}
INSTEAD |= {below: above for above, below in INSTEAD.items()}


def policy_of(of: Domain, tier: str) -> str | None:
    """Name the packaged policy of a domain's tier; None if there is none."""
    if tier == RANDOM:
        return RANDOM
    name = f"{of.slug}/{tier}"
    return name if name in index() else None


def policies_of(name: DatasetName) -> list[str]:
    """List the packaged policies that make a set, in order, as far as they are there."""
    found = [p for tier in TIERS[name.quality] if (p := policy_of(name.domain, tier))]
    medium = policy_of(name.domain, "medium")
    if name.quality == "medium-replay" and medium:
        if not any(_alike(medium, rung) for rung in found[1:]):
            found.append(medium)
    return found


def _alike(first: str, second: str) -> bool:
    """Say whether two policies have the same numbers, whatever their files tell besides."""
    a, b = load_policy(first).arrays, load_policy(second).arrays
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


def ladder_faults(of: Domain) -> list[str]:
    """Say in what a domain's ladder is not one training from random to medium.

    Returns:
        Sentences; none where there is no ladder, or nothing wrong with it.
    """
    names = [name for tier in LADDER if (name := policy_of(of, tier))]
    rungs = [load_policy(name).metadata for name in names]
    found = []
    if len({rung.get("seed") for rung in rungs}) > 1:
        found.append(f"The ladder of {of.slug} is of several trainings.")
    steps = [int(rung.get("step", 0)) for rung in rungs]
    if any(late <= early for early, late in zip(steps, steps[1:], strict=False)):
        found.append(f"The ladder of {of.slug} is not in order of training.")
    medium = policy_of(of, "medium")
    if medium is not None:
        most = float(load_policy(medium).metadata.get("return_stochastic", "inf"))
        over = [
            name for name, rung in zip(names, rungs, strict=True)
            if float(rung.get("return_stochastic", "-inf")) > most
        ]  # fmt: skip
        if over:
            found.append(f"Better than {medium}: {', '.join(over)}.")
    return found


def missing_tiers(name: DatasetName) -> list[str]:
    """List the tiers that a quality needs and its domain has no packaged policy of."""
    return [tier for tier in TIERS[name.quality] if policy_of(name.domain, tier) is None]


def called_instead(name: DatasetName) -> DatasetName | None:
    """Give the set that is there in place of one of a tier the domain has not.

    That is ``best`` for ``expert`` where no policy reached the bar, and the other way round.
    """
    other = INSTEAD.get(name.quality)
    if other is None or name.origin or not missing_tiers(name):
        return None
    found = DatasetName(name.domain, other, name.size)
    return None if missing_tiers(found) else found


def why_instead(name: DatasetName, other: DatasetName) -> str:
    """Say why a set is called by another name."""
    top = other.quality.rpartition("-")[2]
    reached = "no policy reaches" if top == "best" else "a policy reaches"
    return (
        f"{name.domain.slug} has no {name.quality}: {reached} the bar of an expert there. "
        f"Its set is {other}."
    )

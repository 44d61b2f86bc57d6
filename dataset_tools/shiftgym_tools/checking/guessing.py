"""Guess domain and quality from the names of other people's files.

    hopper_kinematic_medium.hdf5                OTDF     hopper-kinematic        medium
    ant_friction_0.5_expert.hdf5                ODRL     ant-friction-x0p5       expert
    pen_broken_joint_hard_expert.hdf5           ODRL     pen-kinematic-hard      expert
    halfcheetah_medium_replay-v2.hdf5           D4RL     halfcheetah             medium-replay
    hopper_mixed.hdf5                           D4RL v0  hopper                  medium-replay
    door_demos_clipped.hdf5                     D4RL v0  door                    human
    D4RL/door/human-v2                          Minari   door                    human
    shiftgym/hopper-morph/expert-v0             own      hopper-morph            expert

A guess is only ever a claim: the rows themselves have to confirm the domain.
"""

from __future__ import annotations

import re

from shiftgym.datasets.names import (
    NAMESPACE,
    DatasetName,
    dataset_name,
    is_origin,
    qualities,
    usual_size,
)
from shiftgym.domains import Domain, domain, level_token, robots
from shiftgym.errors import DomainError, ShiftgymError, nearest
from shiftgym_tools.checking.fitting import other_bodies
from shiftgym_tools.reading.layouts import Layout

SPELLINGS = (  # how others write shifts -> how shiftgym does; patterns over a name with '-' only
    (r"kin(ematic)?-broken-(jnt|joint)", "kinematic"),
    (r"morph(ology)?-shrink-finger", "morph"),
    (r"broken-(jnt|joint)", "kinematic"),
    (r"shrink-finger", "morph"),
    (r"-kin\b", "-kinematic"),
    (r"-morphology\b", "-morph"),
    (r"-(\d+(?:\.\d+)?)(?=-|$)", lambda level: "-" + level_token(float(level[1]))),
)
QUALITIES = {  # how D4RL's files call qualities of the same meaning
    "mixed": "medium-replay",
    "expert-clipped": "expert",
    "demos-clipped": "human",
    "demos-v0-bc-combined": "cloned",
}
FOREIGN = {  # qualities of others that shiftgym has no word for
    "simple": "Minari's simple is between medium and expert",
    "full-replay": "D4RL's full_replay holds all that the training of its expert saw",
}
LONGEST = 200  # characters of a name that are worth reading


def guess(text: str) -> tuple[Domain | None, str | None]:
    """Read a domain and a quality from a file's name or a Minari id.

    Args:
        text: a file's name, without folders, or an id.

    Returns:
        What the name says, each None where it says nothing that is known.
    """
    if text.startswith(f"{NAMESPACE}/"):
        try:
            own = dataset_name(text)
        except DomainError:  # a domain of the user's own
            return None, None
        return own.domain, own.quality
    stem = re.sub(r"\.(hdf5|h5|hdf)$", "", text[-LONGEST:].lower())
    stem = re.sub(r"(-v\d+)+$", "", stem)
    stem = re.sub(r"[_/\s]+", "-", stem)
    stem = re.sub(r"\bwalker(?=-)", "walker2d", stem)  # D4RL's walker_mixed.hdf5
    start = re.search("|".join(rf"\b{robot}(?=-|$)" for robot in robots()), stem)
    if not start:
        return None, None
    slug = stem[start.start() :]
    robot = start[0]
    known = qualities(domain(robot))
    endings = [q for q in (*known, *QUALITIES, *FOREIGN) if slug.endswith("-" + q)]
    readings = [*sorted(endings, key=len, reverse=True), ""]
    for ending in readings:  # pen-kinematic-medium-expert: no pen-kinematic, so expert
        where = _shifted(slug.removesuffix("-" + ending))
        if where is not None:
            meant = QUALITIES.get(ending, ending)
            return where, meant if meant in known else None
    return None, readings[0] if readings[0] in known else None


def unclear(text: str, where: Domain | None, quality: str | None) -> str:
    """Say what a name does not tell, and why, where that is known."""
    missing = "domain" if where is None else "quality"
    stem = re.sub(r"[_/\s]+", "-", re.sub(r"(-v\d+)*(\.\w+)?$", "", text.lower()))
    words = next((why for word, why in FOREIGN.items() if stem.endswith(f"-{word}")), "")
    reason = f"{words}, which has no word here" if words and quality is None else (
        f"its {missing} is not told in a way that is known here"
    )  # fmt: skip
    example = {"domain": "hopper-kinematic", "quality": "medium"}[missing]
    tip = " --name full_replay keeps it apart from others." if words else ""
    return f"{text}: {reason}. Give --{missing}, such as --{missing} {example}.{tip}"


def _shifted(slug: str) -> Domain | None:
    """Find a domain by its slug as others spell it."""
    for pattern, spelling in SPELLINGS:
        slug = re.sub(pattern, spelling, slug)
    try:
        return domain(slug)
    except DomainError:
        return None


def decide(
    text: str, where: str | Domain | None, quality: str | None
) -> tuple[Domain | None, str | None]:
    """Take what the user says, and guess the rest from the name.

    Raises:
        DomainError: the user's domain or quality is unknown.
    """
    guessed = guess(text)
    found = where if isinstance(where, Domain) else None
    if found is None:
        bodies = {body.slug: body for robot in robots() for body in other_bodies(robot)}
        found = bodies.get(str(where)) or (domain(where) if where is not None else guessed[0])
    if found is not None and quality is not None and quality not in qualities(found):
        raise DomainError(
            f"{found.slug} has no quality {quality!r}. {nearest(quality, qualities(found))}"
        )
    return found, quality or guessed[1]


def import_name(
    where: Domain, quality: str, layout: Layout, rows: int, tag: str | None
) -> DatasetName:
    """Name an imported set so that it cannot be taken for one of shiftgym's own.

    The name is ``<domain>/<quality>-<origin>``: the origin is ``d4rl``, ``otdf``, ``odrl`` or
    ``minari``, or ``from_<tag>`` where the user gives a tag. Shiftgym's own sets have no origin.

    Raises:
        ShiftgymError: a tag that is not made of letters, digits and ``_``.
    """
    origin = origin_of(where, layout) if tag is None else f"from_{tag.lower()}"
    if not is_origin(origin):
        raise ShiftgymError(
            f"--name is one word of letters, digits and '_' (up to 40), got {tag!r}; the set is "
            f"then called {where.slug}/{quality}-from_lab7."
        )
    return DatasetName(where, quality, rows or usual_size(where, quality), origin)


def origin_of(where: Domain, layout: Layout) -> str:
    """Say whose data look so: ``d4rl``, ``otdf``, ``odrl`` or ``minari``."""
    classic = where.family in ("source", "classic") or where.shift == "gravity-x0p5"
    return layout.origin or ("otdf" if classic else "odrl")

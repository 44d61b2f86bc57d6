"""Measure the reference returns of `assets/scores.toml`, section [shiftgym].

    0     what uniform random actions earn
    100   what the domain's packaged `expert` earns. Where no policy reached the bar of an expert
          there is none, and a published table's reference is the default

Each is the mean of 100 fresh episodes (400 for hands; seeds 900,000 on) with its 95 % bootstrap
interval. The expert acts deterministically, as agents do when they are evaluated; its figures are
those that `shiftgym policies grade` measured when the policy was packaged.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from shiftgym.basics.errors import DomainError, ShiftgymError, nearest
from shiftgym.domains import Domain, catalogue
from shiftgym.evaluation import evaluate, random_act
from shiftgym.policies import POLICIES, index
from shiftgym.scores import MEASURED, SCORES
from shiftgym_tools.behaviours.grading import MEASUREMENT_SEED, measured_episodes

Entry = dict[str, Any]
HEAD = """
# [shiftgym]: measured with this package by `shiftgym scores measure`. random: uniform actions.
# expert: the domain's own, deterministic; none where no policy reached the bar. Means of so many
# episodes, with 95 % bootstrap intervals.

[shiftgym]
"""


def measure(
    robot: str | None = None,
    domains: tuple[str, ...] = (),
    again: bool = False,
    path: Path = SCORES,
) -> None:
    """Measure the random and expert returns that normalised scores refer to, and store them.

    Random returns that are stored already are kept; experts follow the packaged policies. Every
    domain is written as it comes, so an interrupted run goes on where it stopped.

    Example: shiftgym scores measure --robot hopper

    Args:
        robot: Only domains of this robot.
        domains: Only these.
        again: Measure random returns anew, even where they are stored.
        path: The file of scores.
    """
    wanted = _wanted(robot, domains)
    known = read_measured(path)
    todo = [slug for slug in wanted if again or not _complete(slug, known)]
    for slug in tqdm(todo, unit="domain", disable=None):
        found = random_entry(slug)
        write_measured(path, read_measured(path) | {slug: found})  # others may measure too
    known = {slug: with_expert(slug, entry) for slug, entry in read_measured(path).items()}
    write_measured(path, known)
    missing = [slug for slug in wanted if "expert" not in known[slug]]
    print(
        f"{len(wanted)} domains, {len(todo)} measured now; {len(wanted) - len(missing)} have an "
        f"expert. Stored in {path}, section [{MEASURED}]."
    )
    if missing:
        print(f"Without an expert, scored by a published table: {', '.join(missing)}.")
    print("Next: shiftgym policies package, when there are new policies, and this again.")


def _complete(slug: str, known: dict[str, Entry]) -> bool:
    """Say whether a domain's random return is stored, of as many episodes as is asked for."""
    return known.get(slug, {}).get("episodes") == measured_episodes(slug)


def random_entry(slug: str) -> Entry:
    """Measure what uniform random actions earn in a domain."""
    episodes = measured_episodes(slug)
    found = evaluate(random_act(slug), slug, episodes, MEASUREMENT_SEED).summary()
    return {
        "random": round(found["return"], 2),
        "random_interval": [round(found["return_low"], 2), round(found["return_high"], 2)],
        "episodes": episodes,
    }


def with_expert(
    slug: str, entry: Entry, evaluations: Callable[[], dict[str, Any]] | None = None
) -> Entry:
    """Add what the domain's expert earns, if it has one packaged.

    Args:
        slug: the domain.
        entry: its random return.
        evaluations: gives what the packaged policies earned, by name; the package's by default.

    Raises:
        ShiftgymError: the expert earns no more than random actions, or over another number of
            episodes.
    """
    kept = {key: entry[key] for key in ("random", "random_interval", "episodes")}
    measured = (evaluations or packaged_evaluations)()
    name = f"{slug}/expert"
    if name not in measured:
        return kept
    found = measured[name]["deterministic"]
    if found["return"] <= entry["random"]:
        raise ShiftgymError(
            f"{name} earns {found['return']:.1f}, no more than random actions in {slug} "
            f"({entry['random']:.1f}): it cannot be a reference."
        )
    if found["episodes"] != entry["episodes"]:
        raise ShiftgymError(
            f"{name} was measured over {found['episodes']} episodes, random actions in {slug} over "
            f"{entry['episodes']}."
        )
    return kept | {
        "expert": round(found["return"], 2),
        "expert_interval": [round(found["return_low"], 2), round(found["return_high"], 2)],
        "policy": name,
        "policy_sha256": measured[name]["sha256"],
    }


def packaged_evaluations() -> dict[str, Any]:
    """Give what each packaged policy earned when it was packaged, with its file's checksum."""
    path = POLICIES / "evaluations.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    return {name: known[name] | {"sha256": entry["sha256"]} for name, entry in index().items()}


def read_measured(path: Path = SCORES) -> dict[str, Entry]:
    """Read section [shiftgym] of a file of scores; empty where there is none."""
    with open(path, "rb") as file:
        return tomllib.load(file).get(MEASURED, {})


def write_measured(path: Path, known: dict[str, Entry]) -> None:
    """Replace section [shiftgym], the file's last; the others stay letter for letter."""
    found = re.search(rf"^(# \[{MEASURED}\]|\[{MEASURED}\]$)", text := path.read_text(), re.M)
    before, after = (text[: found.start()], text[found.end() :]) if found else (text, "")
    if set(re.findall(r"^\[(\w+)\]$", after, re.M)) - {MEASURED}:
        raise ShiftgymError(f"{path}: section [{MEASURED}] must be the last.")
    order = {slug: place for place, slug in enumerate(catalogue())}
    lines = [
        f"{slug} = {{ {', '.join(f'{key} = {_toml(value)}' for key, value in entry.items())} }}"
        for slug, entry in sorted(known.items(), key=lambda pair: order.get(pair[0], len(order)))
    ]
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(before.rstrip("\n") + "\n" + HEAD + "\n".join(lines) + "\n")
    temporary.replace(path)


def _toml(value: Any) -> str:
    return json.dumps(value)  # numbers, strings and lists of numbers look alike in both


def _wanted(robot: str | None, domains: tuple[str, ...]) -> list[str]:
    """List the catalogue's domains that are asked for."""
    known: dict[str, Domain] = catalogue()
    unknown = [slug for slug in domains if slug not in known]
    if unknown:
        raise DomainError(f"No catalogue domain {unknown[0]!r}. {nearest(unknown[0], known)}")
    robots = {entry.robot for entry in known.values()}
    if robot is not None and robot not in robots:
        raise DomainError(f"Unknown robot {robot!r}. {nearest(robot, robots)}")
    chosen = domains or tuple(known)
    return [slug for slug in chosen if robot in (None, known[slug].robot)]

"""Plan which packaged policies make a dataset, and tell of them (see shiftgym.datasets.tiers)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shiftgym.datasets.names import DatasetName
from shiftgym.datasets.tiers import (
    RANDOM,
    TIERS,
    called_instead,
    missing_tiers,
    policies_of,
    why_instead,
)
from shiftgym.domains import Domain
from shiftgym.errors import ShiftgymError, nearest
from shiftgym.policies import index, load_policy
from shiftgym_tools.making.collect import Part, plan_parts, split

RECIPE = 2  # counts changes of what is made from the same policies and seed
TRAINING = ("algorithm", "kind", "step", "updates", "seed", "return_stochastic", "domain")


@dataclass(frozen=True)
class Behaviour:
    """Tell who acted for a share of a dataset.

    Attributes:
        policy: ``hopper/medium``, ``random``, or a file's name.
        sha256: checksum of the policy's file; None for ``random``.
        transitions: its share; to the end of an episode where parts end so.
        streams: simulations that collected it side by side.
        training: what the policy's file says of its making.
    """

    policy: str
    sha256: str | None
    transitions: int
    streams: int
    training: dict[str, str]


def wanted_policies(name: DatasetName, chosen: Sequence[str] = ()) -> list[str]:
    """List the behaviours a dataset is made from, each with an equal share.

    Args:
        name: the dataset.
        chosen: behaviours to use instead: packaged policies, ``.safetensors`` files, ``random``.

    Raises:
        ShiftgymError: a policy that is not there; the message lists those that are.
    """
    if chosen:
        for policy in chosen:
            _check(name.domain, policy)
        return list(chosen)
    if name.quality not in TIERS:
        raise ShiftgymError(
            f"{name.quality} data were recorded elsewhere and cannot be made: shiftgym data import "
            f"reads them. To be made: {', '.join(TIERS)}; or choose behaviours with --policy."
        )
    if (other := called_instead(name)) is not None:
        raise ShiftgymError(
            f"{why_instead(name, other)} Or choose behaviours with --policy, which the name tells."
        )
    missing = missing_tiers(name)
    if missing:
        raise ShiftgymError(_missing(name, missing))
    return policies_of(name)


def plan(
    name: DatasetName, chosen: Sequence[str] = (), streams: int | None = None
) -> tuple[list[Part], list[Behaviour]]:
    """Plan how a dataset is collected, and what it tells of that.

    Args:
        name: the dataset.
        chosen: see :func:`wanted_policies`.
        streams: streams in all; see :func:`shiftgym_tools.making.collect.plan_parts`.
    """
    policies = wanted_policies(name, chosen)
    if name.size < len(policies):
        raise ShiftgymError(f"{name} mixes {len(policies)} behaviours: it needs as many rows.")
    shares = split(name.size, len(policies))
    parts = plan_parts(list(zip(policies, shares, strict=True)), streams)
    return parts, [_told(part) for part in parts]


def behaviour_facts(behaviours: Sequence[Behaviour]) -> dict[str, Any]:
    """Give what a dataset's metadata hold about its behaviours."""
    return {
        "recipe": RECIPE,
        "policies": {b.policy: b.sha256 for b in behaviours},
        "behaviours": [asdict(b) for b in behaviours],
    }


def sha256(policy: str) -> str | None:
    """Give the checksum of a policy's file; None for ``random``."""
    if policy == RANDOM:
        return None
    if policy.endswith(".safetensors"):
        return hashlib.sha256(Path(policy).read_bytes()).hexdigest()
    return index()[policy]["sha256"]


def _told(part: Part) -> Behaviour:
    """Describe a part; files go by their name, not by where they lie."""
    policy = str(part.policy)  # recipes name their policies
    training = {} if policy == RANDOM else load_policy(policy).metadata
    told = policy.rpartition("/")[2]
    name = told if policy.endswith(".safetensors") else policy
    kept = {key: training[key] for key in TRAINING if key in training}
    return Behaviour(name, sha256(policy), part.size, part.streams, kept)


def _check(of: Domain, policy: str) -> None:
    if policy == RANDOM or policy in index():
        return
    if policy.endswith(".safetensors"):
        load_policy(policy)
        return
    raise ShiftgymError(
        f"No policy {policy!r}. {nearest(policy, [*_of_robot(of), RANDOM])} "
        "Or the path of a .safetensors file."
    )


def _of_robot(of: Domain) -> list[str]:
    return [name for name in index() if load_policy(name).metadata["robot"] == of.robot]


def _missing(name: DatasetName, tiers: Sequence[str]) -> str:
    of = name.domain
    packaged = _of_robot(of)
    own = ", ".join(policy for policy in packaged if policy.startswith(f"{of.slug}/"))
    others = [policy for policy in packaged if not policy.startswith(f"{of.slug}/")]
    lacks = ", ".join(f"{of.slug}/{tier}" for tier in tiers)
    text = [f"{name} needs the policy {lacks}, which is not packaged."]
    text.append(f"Packaged for {of.slug}: {own or 'none'}.")
    if others:
        text.append(f"Others of the {of.robot}: {', '.join(others)}.")
    like = (packaged or [RANDOM])[0]
    if of.robot in ("pen", "door"):
        train = f"shiftgym policies train-hands --robot {of.robot}"
    else:
        train = f"shiftgym policies train --robot {of.robot} --domains {of.slug}"
    text.append(f"Choose a behaviour (--policy {like}, a .safetensors file, or random),")
    text.append(f"or train one: {train}")
    return " ".join(text)

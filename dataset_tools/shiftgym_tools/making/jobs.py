"""What `shiftgym data make` is asked for: a name, who acts, a seed, and what it is called then."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from shiftgym.datasets.canonical import canonical, other_engine
from shiftgym.datasets.names import DatasetName, dataset_name, made_word, read_size, split_name
from shiftgym.domains import Domain, load_domains
from shiftgym.errors import DomainError, ShiftgymError, nearest
from shiftgym_agents.training.artifacts import provenance
from shiftgym_tools.making.collect import Part, name_seed
from shiftgym_tools.making.recipes import Behaviour, behaviour_facts, plan

PLAN_FORMAT = 1
MAX_SEED = 2**62
SUFFIX = ".safetensors"
OTHERWISE = "made_otherwise"  # by a machine that should have made the canonical bytes
LONGEST = 40


@dataclass(frozen=True)
class Job:
    """Say what is to be made, and how.

    Attributes:
        name: the dataset; not made as the rest of its name says, it tells so in a last word.
        parts: who acts for how many transitions in how many streams.
        behaviours: what the dataset tells of them.
        seed: fixes everything random.
        command: what makes it again.
    """

    name: DatasetName
    parts: list[Part] = field(repr=False)
    behaviours: list[Behaviour] = field(repr=False)
    seed: int
    command: str

    def facts(self) -> dict[str, Any]:
        """Give what the dataset's metadata hold about its making; equal facts, equal data."""
        return {"seed": self.seed} | behaviour_facts(self.behaviours)

    def about(self, rows: Sequence[int]) -> dict[str, Any]:
        """Give what is told of the dataset besides its name.

        Args:
            rows: transitions of each behaviour that it holds.
        """
        kinds = {b.training.get("kind", b.policy) for b in self.behaviours}
        made = {"sac": "SAC", "gaussian": "PPO"}
        algorithms = sorted(made.get(kind, kind) for kind in kinds)
        versions = {key: provenance()[key] for key in ("mujoco", "numpy")}
        return self.facts() | {
            "algorithm": " and ".join(algorithms),
            "collected_with": versions,
            "command": self.command,
            "rows": list(rows),
        }

    def differences(self, told: Mapping[str, Any]) -> list[str]:
        """Name the facts in which a dataset's own account differs."""
        facts = json.loads(json.dumps(self.facts()))
        return [key for key, value in facts.items() if told.get(key) != value]

    def plan(self) -> dict[str, Any]:
        """Give what blocks must have in common to be of one dataset."""
        versions = {key: provenance()[key] for key in ("mujoco", "numpy")}
        told = {"format": PLAN_FORMAT, "name": self.name.minari, "versions": versions}
        return told | {"domain": self.name.domain.kwargs()} | self.facts()


def plan_job(
    name: DatasetName,
    policies: Sequence[str] = (),
    streams: int | None = None,
    seed: int | None = None,
    word: str | None = None,
) -> Job:
    """Plan a dataset; see :func:`make` for the arguments.

    Its name tells where it is not made as the name given says: by other policies, another seed,
    other streams, another engine; and by `word`, if one is given.

    Raises:
        ShiftgymError: a policy that is not there, too few streams, or a seed out of range.
    """
    if name.origin:
        raise ShiftgymError(f"{name} is imported, not made: shiftgym data import")
    parts, behaviours = plan(name, policies, streams)
    number = name_seed(name.own.minari) if seed is None else seed
    if not 0 <= number < MAX_SEED:
        raise ShiftgymError(f"The seed is a number from 0 to {MAX_SEED:,}, got {number}.")
    told = [Path(policy).name if policy.endswith(SUFFIX) else policy for policy in policies]
    options = {"policy": " ".join(told), "streams": streams, "seed": seed, "name": word}
    words = [f"--{key} {value}" for key, value in options.items() if value not in (None, "")]
    command = " ".join(["shiftgym data make", str(name), *words])
    if word is not None:
        name = replace(name, made=made_word(word))
    elif not name.made:
        name = replace(name, made=made_otherwise(told, seed, streams))
    return Job(name, parts, behaviours, number, command)


def made_otherwise(policies: Sequence[str], seed: int | None, streams: int | None) -> str:
    """Give the word for what was changed, ``made_seed5``; none for nothing.

    Long ones, of many policies, are cut and end in eight digits of their SHA-256.
    """
    words = [policy.removesuffix(SUFFIX) for policy in policies]
    words += [f"seed{seed}"] if seed is not None else []
    words += [f"streams{streams}"] if streams is not None else []
    words += [other_engine()] if other_engine() else []
    if not words:
        return ""
    text = re.sub("[^a-z0-9]+", "_", "_".join(words).lower()).strip("_")
    if len(text) > LONGEST:
        digest = hashlib.sha256(" ".join(words).encode()).hexdigest()
        text = f"{text[: LONGEST - 9]}_{digest[:8]}"
    return made_word(text)


def wanted_name(name: str, size: str | None, domain_file: Path | None) -> DatasetName:
    """Read the dataset's name together with the options that complete it.

    Raises:
        DomainError: unknown domain or quality, no size, or two different ones.
    """
    of: Domain | None = None
    if domain_file is not None:
        slug, known = split_name(name)[0], load_domains(domain_file)
        if slug not in known:
            raise DomainError(f"{domain_file} has no domain {slug!r}. {nearest(slug, known)}")
        of = known[slug]
    found = dataset_name(name, of)
    if size is None:
        return found
    count = read_size(size.replace(",", "").replace("_", ""))
    if found.own.label != found.quality and found.size != count:
        raise DomainError(f"{name} names {found.size:,} transitions, --size says {count:,}.")
    return found.sized(count)


def differs(job: Job, content: str) -> dict[str, Any] | None:
    """Give the account of the canonical set where a content is not that one's."""
    known = None if job.name.made else canonical(job.name)
    return None if known is None or known["sha256"] == content else known


def judge(job: Job, content: str) -> str:
    """Say whether a content is the canonical one of a name.

    Raises:
        ShiftgymError: it is not, and what may be why.
    """
    told, name = f"content SHA-256 {content}", job.name
    if name.made:
        return f"  {told}; not {name.own}, so called {name}"
    known = differs(job, content)
    if known is None:
        listed = canonical(name) is not None
        return f"  {told}: {'the canonical bytes' if listed else 'no canonical one is known'}"
    here = job.about([])
    keys = ("recipe", "seed", "policies", "collected_with")
    causes = [
        f"{key}: {here[key]}, not {known.get(key)}" for key in keys if here[key] != known.get(key)
    ]
    raise ShiftgymError(
        f"{name} came out with not the canonical bytes: {told}, not {known['sha256']}.\n"
        f"  {'; '.join(causes) or 'Policies, seed, MuJoCo and numpy are the same: tell us'}\n"
        f"  What was made is kept as {replace(name, made=OTHERWISE)}."
    )

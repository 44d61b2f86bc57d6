"""``shiftgym data make``: a dataset from behaviour policies, restartable, whole or not at all.

    <root>/shiftgym/hopper/.medium-v0.making/        blocks collected so far, and plan.json
    <root>/shiftgym/hopper/.medium-v0.lock           who is at it
    <root>/shiftgym/hopper/medium-v0/                the dataset, when it is complete

Killed at any moment, running the same command again goes on after the last block; the bytes are
those of an uninterrupted run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from tqdm import tqdm

from shiftgym.datasets.flat import spaces
from shiftgym.datasets.folders import (
    Owner,
    clean,
    discard,
    explained,
    own_folder,
    owned,
    require_room,
    write_file,
)
from shiftgym.datasets.metadata import LARGEST, read_metadata
from shiftgym.datasets.names import DatasetName, dataset_name, read_size, split_name
from shiftgym.datasets.places import if_free
from shiftgym.datasets.store import dataset_path, write_dataset
from shiftgym.domains import Domain, load_domains
from shiftgym.errors import DomainError, ShiftgymError, nearest
from shiftgym.plain_files import read_plain
from shiftgym.scores import has_reference, normalized_score
from shiftgym_agents.artifacts import provenance
from shiftgym_agents.interrupt import StopRequest
from shiftgym_tools.collect import Collector, Part, name_seed
from shiftgym_tools.recipes import Behaviour, behaviour_facts, plan

PLAN, PLAN_FORMAT = "plan.json", 1
MAKING = ".making"
NO_FACTS = ("format", "name", "versions", "domain")  # what a plan holds besides Job.facts
ADVICE = "Wait for it (--wait does), or stop it; what it has collected is kept."
MAX_SEED = 2**62
SUFFIX = ".safetensors"
COPIES = 3  # of the rows on disk at once: blocks, dataset, cache


@dataclass(frozen=True)
class Job:
    """Say what is to be made, and how.

    Attributes:
        name: the dataset.
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

    def about(self) -> dict[str, Any]:
        """Give what is told of the dataset besides its name."""
        kinds = {b.training.get("kind", b.policy) for b in self.behaviours}
        made = {"sac": "SAC", "gaussian": "PPO"}
        algorithms = sorted(made.get(kind, kind) for kind in kinds)
        versions = {key: provenance()[key] for key in ("mujoco", "numpy")}
        return self.facts() | {
            "algorithm": " and ".join(algorithms),
            "collected_with": versions,
            "command": self.command,
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


def make(
    name: Annotated[str, tyro.conf.Positional],
    size: str | None = None,
    policy: tuple[str, ...] = (),
    domain_file: Path | None = None,
    streams: int | None = None,
    seed: int | None = None,
    threads: int = 0,
    replace: bool = False,
    wait: bool = False,
    root: Path | None = None,
) -> None:
    """Make a dataset from behaviour policies, with all cores.

    Stopped or killed, it goes on where it was when run again.

    Example: shiftgym data make hopper/medium

    Args:
        name: <domain>/<quality>: random, medium, expert, medium-expert or medium-replay.
        size: Transitions, such as 5k, 200k or 1m; 1m for an unshifted robot and 5k for a shifted
            one by default. Another size becomes part of the name.
        policy: Behaviours instead of the quality's own, in equal shares: packaged policies of any
            domain of the robot, .safetensors files, or random.
        domain_file: TOML file with the domain, for one of your own.
        streams: Simulations side by side; one per 15,000 transitions as far as 64 by default.
        seed: Fixes everything random; given by the dataset's name by default.
        threads: Threads that step; one per core by default.
        replace: Make it anew where it is there already.
        wait: Wait where another process is making it, instead of failing.
        root: Minari's folder of datasets by default.
    """
    wanted = wanted_name(name, size, domain_file)
    job = plan_job(wanted, policy, streams, seed)
    target = dataset_path(wanted, root)
    with owned(target, f"Making {wanted}", wait, ADVICE) as owner:
        remove_spent(target.parent.parent, owner)
        if target.exists() and not replace:
            refuse_another(job, target)
            print(f"{wanted} is made already, from the same policies and seed: {target}")
        else:
            started = time.perf_counter()
            _make(job, owner, root, replace, threads)
            report(job, target, started)
    print(next_step(wanted))


def _make(job: Job, owner: Owner, root: Path | None, replace: bool, threads: int) -> None:
    """Collect what is missing, and write the dataset."""
    work = work_folder(job, owner.final)
    space, actions = spaces(job.name.domain)
    with explained(work):
        row = 4 * (2 * space.shape[0] + actions.shape[0] + 2)
        held_now = sum(path.stat().st_size for path in work.iterdir())
        require_room(work, COPIES * row * job.name.size - held_now)
    collector = Collector(job.name.domain, job.parts, job.seed, work, threads)
    for behaviour in job.behaviours:
        if behaviour.stands_for:
            print(f"{behaviour.policy} stands in for {behaviour.stands_for}: below its bar.")
    with StopRequest() as stop, tqdm(
        total=job.name.size, initial=collector.done, unit=" steps", unit_scale=True,
        desc=str(job.name), mininterval=0.2, disable=None,
    ) as bar:  # fmt: skip
        whole = collector.run(bar.update, lambda: stop.requested)
    if not whole:
        raise ShiftgymError(
            f"stopped at {collector.done:,} of {job.name.size:,} transitions, which are kept; "
            "run the same command again to go on."
        )
    chunks, seeds = collector.chunks(), collector.seeds()
    write_dataset(
        chunks, job.name, job.about(), root, replace=replace, episode_seeds=seeds, owner=owner
    )
    collector.close()
    discard(work, owner.final)


def plan_job(
    name: DatasetName,
    policies: Sequence[str] = (),
    streams: int | None = None,
    seed: int | None = None,
) -> Job:
    """Plan a dataset; see :func:`make` for the arguments.

    Raises:
        ShiftgymError: a policy that is not there, too few streams, or a seed out of range.
    """
    if name.origin:
        raise ShiftgymError(f"{name} is imported, not made: shiftgym data import")
    parts, behaviours = plan(name, policies, streams)
    number = name_seed(name.minari) if seed is None else seed
    if not 0 <= number < MAX_SEED:
        raise ShiftgymError(f"The seed is a number from 0 to {MAX_SEED:,}, got {number}.")
    told = [Path(policy).name if policy.endswith(SUFFIX) else policy for policy in policies]
    options = {"policy": " ".join(told), "streams": streams, "seed": seed}
    words = [f"--{key} {value}" for key, value in options.items() if value not in (None, "")]
    return Job(name, parts, behaviours, number, " ".join(["shiftgym data make", str(name), *words]))


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
    if found.label != found.quality and found.size != count:
        raise DomainError(f"{name} names {found.size:,} transitions, --size says {count:,}.")
    return found.sized(count)


def work_folder(job: Job, target: Path) -> Path:
    """Give the folder of the blocks collected so far, emptied if they are of other data."""
    work = target.with_name(f".{target.name}{MAKING}")
    told = json.dumps(job.plan(), indent=1, sort_keys=True)
    with explained(work):
        own_folder(work)
        clean(work)
        file = work / PLAN
        before = file.read_text() if file.exists() else None
        if before != told:
            if before is not None:
                print(f"Starting anew: what was collected of {job.name} before was another plan's.")
            discard(work, target)
            work.mkdir()
            write_file(file, told.encode())
    return work


def remove_spent(home: Path, owner: Owner) -> None:
    """Remove the blocks of datasets that are complete: their makers were killed at the very end."""
    for work in home.glob(f"*/.*{MAKING}"):
        final = work.with_name(work.name[1 : -len(MAKING)])
        with suppress(OSError), nullcontext(True) if final == owner.final else if_free(final) as ok:
            if ok and _is_spent(work, final):
                discard(work, final)


def _is_spent(work: Path, final: Path) -> bool:
    """Say whether a dataset is there that was made by the plan that blocks were collected by."""
    try:
        plan = json.loads(read_plain(work / PLAN, LARGEST))
        told = read_metadata(final)["shiftgym"]
        facts = {key: value for key, value in plan.items() if key not in NO_FACTS}
        return {key: told.get(key) for key in facts} == facts
    except (OSError, ValueError, AttributeError, RecursionError):
        return False


def refuse_another(job: Job, target: Path) -> None:
    """Check that the dataset that is there is the one asked for.

    Raises:
        ShiftgymError: it was made from other policies, another seed or in another domain.
    """
    different = job.differences(read_metadata(target)["shiftgym"])
    if different:
        raise ShiftgymError(
            f"{target} is there already, with other {', '.join(different)}. "
            "Use --replace to make it anew, or another --root."
        )


def report(job: Job, path: Path, started: float) -> None:
    """Say what was made."""
    name, seconds, told = job.name, time.perf_counter() - started, read_metadata(path)
    size = sum(file.stat().st_size for file in (path / "data").iterdir()) / 1e6
    print(
        f"{name}: {name.size:,} transitions, {told['total_episodes']:,} episodes, {size:.1f} MB in "
        f"{seconds:.1f} s"
    )
    for b in job.behaviours:
        note = f", standing in for {b.stands_for}" if b.stands_for else ""
        sha = f", SHA-256 {b.sha256[:12]}" if b.sha256 else ""
        print(f"  behaviour {b.policy}: {b.transitions:,} transitions{sha}{note}")
    if (mean := told["shiftgym"]["return"]) is not None:
        score = "no score reference"
        if has_reference(name.domain):
            score = f"score {normalized_score(name.domain, mean):.1f}"
        print(f"  mean return {mean:,.1f} of whole episodes; {score}")
    print(f"  in {path}")


def next_step(name: DatasetName) -> str:
    """Say how to use a dataset."""
    of = name.domain
    pair = (name.short, f"{of.slug}-kinematic/medium")
    if of.shift is not None:
        pair = (f"{of.robot}/medium", name.short)
    elif of.robot in ("pen", "door"):
        pair = (name.short, f"{of.slug}-kinematic-medium/medium")
    return f'Next: minari.load_dataset("{name.minari}") or shiftgym.Pair("{pair[0]}", "{pair[1]}")'

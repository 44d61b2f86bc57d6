"""``shiftgym data make``: a dataset from behaviour policies, restartable, whole or not at all.

    <root>/shiftgym/hopper/.medium-v0.making/        blocks collected so far, and plan.json
    <root>/shiftgym/hopper/.medium-v0.lock           who is at it
    <root>/shiftgym/hopper/medium-v0/                the dataset, when it is complete

Killed at any moment, running the same command again goes on after the last block; the bytes are
those of an uninterrupted run.
"""

from __future__ import annotations

import dataclasses
import json
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from shiftgym.datasets.canonical import content_sha256
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
from shiftgym.datasets.names import DatasetName
from shiftgym.datasets.places import if_free
from shiftgym.datasets.store import dataset_path, write_dataset
from shiftgym.datasets.tiers import ladder_faults
from shiftgym.errors import ShiftgymError
from shiftgym.plain_files import read_plain
from shiftgym.scores import default_reference, normalized_score
from shiftgym_agents.training.interrupt import StopRequest
from shiftgym_tools.making.collect import Collector
from shiftgym_tools.making.jobs import OTHERWISE, Job, differs, judge, plan_job, wanted_name

PLAN = "plan.json"
MAKING = ".making"
NO_FACTS = ("format", "name", "versions", "domain")  # what a plan holds besides Job.facts
ADVICE = "Wait for it (--wait does), or stop it; what it has collected is kept."
COPIES = 3  # of the rows on disk at once: blocks, dataset, cache


def make(
    name: Annotated[str, tyro.conf.Positional],
    size: str | None = None,
    policy: tuple[str, ...] = (),
    domain_file: Path | None = None,
    streams: int | None = None,
    seed: int | None = None,
    threads: int = 0,
    word: Annotated[str | None, tyro.conf.arg(name="name")] = None,
    replace: bool = False,
    wait: bool = False,
    root: Path | None = None,
) -> None:
    """Make a dataset from behaviour policies, with all cores.

    Stopped or killed, it goes on where it was when run again. The result depends on the name
    alone, and is compared with the checksum in the package where there is one. A set made with
    --policy, --seed or --streams, or by another version of MuJoCo, is called so:
    hopper/medium-made_seed5.

    Example: shiftgym data make hopper/medium

    Args:
        name: <domain>/<quality>: random, medium, expert, medium-expert or medium-replay; best and
            medium-best where no policy reaches the bar of an expert.
        size: Transitions, such as 5k, 200k or 1m; 1m for an unshifted robot, 5k for a shifted one
            and 500k for medium-replay by default. Another size becomes part of the name.
        policy: Behaviours instead of the quality's own, in equal shares: packaged policies of any
            domain of the robot, .safetensors files, or random.
        domain_file: TOML file with the domain, for one of your own.
        streams: Simulations side by side; one per 15,000 transitions as far as 64 by default.
        seed: Fixes everything random; given by the dataset's name by default.
        threads: Threads that step; one per core by default.
        word: Word for a set made otherwise, hopper/medium-made_WORD; what was changed by default.
        replace: Make it anew where it is there already.
        wait: Wait where another process is making it, instead of failing.
        root: Minari's folder of datasets by default.
    """
    wanted = wanted_name(name, size, domain_file)
    job = plan_job(wanted, policy, streams, seed, word)
    wanted = job.name
    target = dataset_path(wanted, root)
    with owned(target, f"Making {wanted}", wait, ADVICE) as owner:
        remove_spent(target.parent.parent, owner)
        if target.exists() and not replace:
            refuse_another(job, target)
            print(f"{wanted} is made already, from the same policies and seed: {target}")
            content = read_metadata(target)["shiftgym"].get("content", "")
        else:
            started = time.perf_counter()
            made, content = _make(job, owner, root, replace, threads)
            report(made, dataset_path(made.name, root), started)
    print(judge(job, content))
    print(next_step(wanted))


def _make(job: Job, owner: Owner, root: Path | None, again: bool, threads: int) -> tuple[Job, str]:
    """Collect what is missing, and write the dataset.

    Returns:
        The job as it was done, under another name if its rows are not the canonical ones; and the
        SHA-256 of its content.
    """
    work = work_folder(job, owner.final)
    space, actions = spaces(job.name.domain)
    with explained(work):
        row = 4 * (2 * space.shape[0] + actions.shape[0] + 2)
        held_now = sum(path.stat().st_size for path in work.iterdir())
        require_room(work, COPIES * row * job.name.size - held_now)
    collector = Collector(job.name.domain, job.parts, job.seed, work, threads)
    if job.name.quality == "medium-replay" and not job.name.made:
        for fault in ladder_faults(job.name.domain):
            print(f"Note: {fault}")
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
    content = content_sha256(collector.chunks())
    right: Owner | None = owner
    if differs(job, content):
        name = dataclasses.replace(job.name, made=OTHERWISE)
        job, again, right = dataclasses.replace(job, name=name), True, None
    about, seeds = job.about(collector.part_rows()), collector.seeds()
    chunks = collector.chunks()
    write_dataset(chunks, job.name, about, root, replace=again, episode_seeds=seeds, owner=right)
    collector.close()
    discard(work, owner.final)
    return job, content


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
            "Use --replace to make it anew, or call this one otherwise with --name WORD."
        )


def report(job: Job, path: Path, started: float) -> None:
    """Say what was made."""
    name, seconds, told = job.name, time.perf_counter() - started, read_metadata(path)
    size = sum(file.stat().st_size for file in (path / "data").iterdir()) / 1e6
    print(
        f"{name}: {name.size:,} transitions, {told['total_episodes']:,} episodes, {size:.1f} MB in "
        f"{seconds:.1f} s"
    )
    for b, rows in zip(job.behaviours, told["shiftgym"]["rows"], strict=True):
        sha = f", SHA-256 {b.sha256[:12]}" if b.sha256 else ""
        print(f"  behaviour {b.policy}: {rows:,} transitions{sha}")
    if (mean := told["shiftgym"]["return"]) is not None:
        score, table = "no score reference", default_reference(name.domain)
        if table is not None:
            score = f"score {normalized_score(name.domain, mean, table):.1f} ({table})"
        print(f"  mean return {mean:,.1f} of whole episodes; {score}")
    else:
        print("  no mean return: no episode is whole, the end of the set cut every one")
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

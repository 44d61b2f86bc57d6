"""``shiftgym data package``: make the target sets that the package carries, 5,000 rows each.

    hopper, walker2d, halfcheetah, ant    kinematic, morph, friction x4, gravity-x0p5;
                                          each medium, medium-expert and expert
    pen, door                             kinematic and morph, both medium and hard;
                                          each medium and expert

Where no policy reaches the bar of an expert the sets are called best and medium-best. A set is made
when its policies are packaged, in one stream (medium-expert: one each, the medium's to the end of
the episode that crosses the middle), and made anew only when a policy or the recipe changes. Its
SHA-256 goes into the table of canonical contents: `shiftgym data make` gives the same rows.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tqdm import tqdm

from shiftgym.datasets.canonical import ENGINE, canonical_table, content_sha256, record, strike
from shiftgym.datasets.flat import concatenate
from shiftgym.datasets.names import HANDS, TARGET_SIZE, DatasetName, dataset_name
from shiftgym.datasets.packaged import PACKAGED, package_dataset, packaged_index, withdraw
from shiftgym.datasets.tiers import called_instead, missing_tiers
from shiftgym.domains import robots
from shiftgym.errors import DomainError, ShiftgymError, nearest
from shiftgym.machine import usable_cpus
from shiftgym_tools.making.collect import Collector
from shiftgym_tools.making.jobs import Job, plan_job

QUALITIES = ("medium", "medium-expert", "expert")
HAND_QUALITIES = ("medium", "expert")  # a hand's set takes four times the room of a hopper's
FRICTION = tuple(f"friction-{level}" for level in ("x0p1", "x0p5", "x2", "x5"))
LOCOMOTION_SHIFTS = ("kinematic", "morph", *FRICTION, "gravity-x0p5")
HAND_SHIFTS = ("kinematic-medium", "kinematic-hard", "morph-medium", "morph-hard")


def target_names(robot: str | None = None) -> list[DatasetName]:
    """List the sets that the package is to carry, whether or not their policies are there yet.

    Args:
        robot: only this robot's.

    Raises:
        DomainError: unknown robot.
    """
    if robot is not None and robot not in robots():
        raise DomainError(f"Unknown robot {robot!r}. {nearest(robot, robots())}")
    names = [
        dataset_name(f"{name}-{shift}/{quality}")
        for name in robots()
        if robot in (None, name)
        for shift in (HAND_SHIFTS if name in HANDS else LOCOMOTION_SHIFTS)
        for quality in (HAND_QUALITIES if name in HANDS else QUALITIES)
    ]
    return [called_instead(name) or name for name in names]


def package(robot: str | None = None, again: bool = False, jobs: int = 0) -> None:
    """Make the packaged target sets whose policies are there and have changed.

    Sets that no packaged policy makes any more, such as a best where there is an expert now, are
    taken out.

    Example: shiftgym data package --robot hopper

    Args:
        robot: Only sets of this robot.
        again: Make those too whose policies have not changed.
        jobs: Sets made at once; one per core by default.
    """
    names = target_names(robot)
    possible = [name for name in names if not missing_tiers(name)]
    known = packaged_index()
    robots_here = {name.domain.robot for name in names}
    kept = {name.short for name in possible}
    gone = [n for n in known if n not in kept and dataset_name(n).domain.robot in robots_here]
    if gone:
        withdraw(gone)
        strike(gone)
        print(f"Taken out, for no policy makes them any more: {', '.join(gone)}")
    todo = [name for name in possible if again or not up_to_date(plan_job(name), known)]
    if todo:
        with (
            ProcessPoolExecutor(jobs or usable_cpus(), get_context("spawn")) as pool,
            tqdm(total=len(todo), unit="set") as bar,
        ):
            futures = {pool.submit(make_target, name.short): name for name in todo}
            for future in as_completed(futures):
                future.result()
                bar.set_postfix_str(str(futures[future]))
                bar.update()
    known = packaged_index()
    size = sum((PACKAGED / entry["file"]).stat().st_size for entry in known.values()) / 1e6
    print(f"{len(todo)} sets made, {len(possible) - len(todo)} as they were, in {PACKAGED}")
    lacking = Counter(name.domain.robot for name in names if name not in possible)
    if lacking:
        counts = ", ".join(f"{count} of the {name}" for name, count in lacking.items())
        print(f"Not made for want of a policy: {counts}")
    print(f"All {len(known)} packaged sets take {size:.1f} MB. Next: shiftgym data list")


def make_target(short: str) -> None:
    """Collect one target set and put it into the package."""
    job = plan_job(dataset_name(short))
    if job.name.size != TARGET_SIZE:
        raise ShiftgymError(f"Target sets hold {TARGET_SIZE:,} transitions; {short} does not.")
    with tempfile.TemporaryDirectory(prefix="shiftgym-") as folder:
        collector = Collector(job.name.domain, job.parts, job.seed, Path(folder), num_threads=1)
        collector.run()
        flat = concatenate(list(collector.chunks()))
        seeds, about = collector.seeds(), job.about(collector.part_rows())
        collector.close()
    if job.name.made:
        raise ShiftgymError(
            f"Sets of the package are made by MuJoCo {ENGINE}; this one would be called {job.name}."
        )
    package_dataset(flat, job.name, about | {"episode_seeds": seeds})
    record(job.name, content_sha256(flat), about)


def up_to_date(job: Job, known: dict[str, dict[str, Any]]) -> bool:
    """Say whether the packaged set is the one this job would make."""
    entry = known.get(job.name.short)
    listed = canonical_table().get(job.name.short)
    return entry is not None and listed is not None and not job.differences(entry["about"])

"""``shiftgym data canonical``: fill the table of checksums that made sets are compared with.

The packaged target sets are in it as `shiftgym data package` makes them. Sets that are not in the
package, above all the sources, are made here in a temporary folder, hashed, and thrown away.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import tyro
from tqdm import tqdm

from shiftgym.basics.errors import ShiftgymError
from shiftgym.datasets.canonical import canonical_table, content_sha256, record
from shiftgym.datasets.names import DatasetName, dataset_name
from shiftgym.datasets.packaged import packaged_index
from shiftgym.datasets.tiers import called_instead, missing_tiers
from shiftgym.domains import catalogue
from shiftgym_tools.making.collect import Collector
from shiftgym_tools.making.jobs import Job, plan_job
from shiftgym_tools.making.target_sets import QUALITIES

SOURCES = ("medium", "medium-replay", "medium-expert", "expert")


def canonical(
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    again: bool = False,
    threads: int = 0,
) -> None:
    """Make sets that are not in the package, and put the SHA-256 of their content into it.

    One entry is written as each set is finished; what is there from the same policies is left
    alone, so that the same command goes on where it was stopped.

    Example: shiftgym data canonical hopper/medium walker2d/medium

    Args:
        names: Datasets; by default those of every domain, and those that are in the table.
        again: Make those too that are there from the same policies.
        threads: Threads that step; one per core by default.
    """
    wanted = [dataset_name(name) for name in names] or default_names()
    jobs = [plan_job(name) for name in wanted]
    _refuse(jobs)
    known = canonical_table()
    todo = [job for job in jobs if again or not listed(job, known)]
    with tqdm(todo, unit="set", disable=None) as bar:
        for job in bar:
            bar.set_postfix_str(str(job.name))
            sha256, about = make_content(job, threads)
            record(job.name, sha256, about)
            bar.write(f"{job.name}: {sha256}")
    print(f"{len(todo)} sets made, {len(jobs) - len(todo)} as they were.")
    print(f"The table holds {len(canonical_table())} sets. Next: shiftgym data make NAME")


def default_names() -> list[DatasetName]:
    """List every domain's sets whose policies are there, and what else is in the table."""
    sets = [
        dataset_name(f"{slug}/{quality}")
        for slug, of in catalogue().items()
        for quality in (QUALITIES if of.shift else SOURCES)
    ]
    sets = [called_instead(name) or name for name in sets]
    packaged = packaged_index()
    names = [name for name in sets if name.short not in packaged and not missing_tiers(name)]
    names += [dataset_name(short) for short in canonical_table() if short not in packaged]
    return list(dict.fromkeys(names))


def listed(job: Job, known: dict[str, dict[str, Any]]) -> bool:
    """Say whether a set's entry in the table is of the same policies, seed and recipe."""
    entry, facts = known.get(job.name.short, {}), job.facts()
    return all(entry.get(key) == facts[key] for key in ("recipe", "seed", "policies"))


def make_content(job: Job, threads: int = 0) -> tuple[str, dict[str, Any]]:
    """Collect a set and forget it; give the SHA-256 of its content, and its account."""
    with tempfile.TemporaryDirectory(prefix="shiftgym-") as folder:
        collector = Collector(job.name.domain, job.parts, job.seed, Path(folder), threads)
        collector.run()
        found = content_sha256(collector.chunks()), job.about(collector.part_rows())
        collector.close()
    return found


def _refuse(jobs: list[Job]) -> None:
    """Check that all sets are the package's own, and not in the package."""
    for job in jobs:
        if job.name.made:
            raise ShiftgymError(f"{job.name} is not one of the package's own sets.")
        if job.name.short in packaged_index():
            raise ShiftgymError(f"{job.name} is packaged: shiftgym data package fills its entry.")

"""Measure the packaged sets, and list which bars they miss: python docs/make_measures.py.

data/set_measures.json    of every packaged set, and of a sample of every unshifted robot's tiers:
                          return, length, speed, change, noise; only what changed is measured anew
data/published_sets.csv   of the published sets; measured anew from the files in the folder that
                          SHIFTGYM_PUBLISHED names, kept as it is without one
data/missed_bars.json     the bars of shiftgym_tools.checking.bands that our sets miss today

Then docs/make_datasets.py, make_datasheet.py and make_policies.py show them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from shiftgym.datasets import dataset_name
from shiftgym.datasets.flat import Flat, concatenate
from shiftgym.datasets.names import TARGET_SIZE
from shiftgym.datasets.packaged import load_packaged, packaged_index
from shiftgym.datasets.tiers import available
from shiftgym.domains import domain, robots
from shiftgym.policies import index
from shiftgym_tools.checking.bands import judge, misses
from shiftgym_tools.checking.published_sets import measure_folder, read_table, write_table
from shiftgym_tools.checking.style import measure_style
from shiftgym_tools.making.collect import collect, name_seed

DATA = Path(__file__).parent / "data"
MEASURES = DATA / "set_measures.json"
PUBLISHED = DATA / "published_sets.csv"
MISSED = DATA / "missed_bars.json"
STREAMS = 5  # of a sample


def main() -> None:
    """Measure what changed, and write the three files."""
    table = read_table(PUBLISHED)
    if folder := os.environ.get("SHIFTGYM_PUBLISHED"):
        here = measure_folder(Path(folder))
        write_table(table | here, PUBLISHED)
        print(f"Measured {len(here)} published files: {PUBLISHED}")
    known = json.loads(MEASURES.read_text()) if MEASURES.exists() else {}
    found: dict[str, Any] = {}
    for name, (sha256, slug, read) in tqdm(sources().items(), unit="set"):
        if known.get(name, {}).get("sha256") != sha256:
            known[name] = {"sha256": sha256} | measure_style(read(), slug).rounded()
            MEASURES.write_text(json.dumps(known, indent=1) + "\n")  # interrupted, it goes on
        found[name] = known[name]
    MEASURES.write_text(json.dumps(found, indent=1) + "\n")
    missed = misses(judge(found, read_table(PUBLISHED)))
    MISSED.write_text(json.dumps(missed, indent=1) + "\n")
    print(f"Wrote {MEASURES}: {len(found)} sets; {MISSED}: {len(missed)} bars are missed")


def sources() -> dict[str, tuple[str, str, Callable[[], Flat]]]:
    """List what is measured by name: the checksum of the file it is of, domain, and a reader.

    A packaged set's checksum is its file's. Of an unshifted robot's tier a sample is collected, and
    the checksum is the policy's; it stands under the policy's name.
    """
    found: dict[str, tuple[str, str, Callable[[], Flat]]] = {}
    for robot in robots():
        for tier in ("medium", "expert"):
            if policy := available(domain(robot), tier):
                sha256 = index()[policy]["sha256"]
                found[policy] = sha256, robot, lambda r=robot, p=policy: sample(r, p)
    for name, entry in packaged_index().items():
        of = dataset_name(name).domain.slug
        found[name] = entry["sha256"], of, lambda n=name: load_packaged(n)
    return found


def sample(robot: str, policy: str) -> Flat:
    """Collect 5,000 transitions of an unshifted robot, the same every time."""
    seed = name_seed(f"docs/{robot}/{policy}")
    return concatenate(list(collect(robot, [(policy, TARGET_SIZE)], seed, streams=STREAMS)))


if __name__ == "__main__":
    main()

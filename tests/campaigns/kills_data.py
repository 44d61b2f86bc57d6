"""Kill what writes datasets, at every change of the disk and at random moments.

    python tests/campaigns/kills_data.py --count 600

After each kill every set that can be seen must be whole, and one that was there before must be
found, the old one or the new. The same command then has to end well with the bytes of an
uninterrupted run, and after another writer nothing of the killed one may be left.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import h5py
import numpy as np
from campaign_helpers import Outcome, Tally, Work, count_changes, in_child, shiftgym

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
MAKE = ("data", "make", "hopper/random", "--size", "2k", "--streams", "4", "--threads", "1")
GET = ("data", "get", "hopper-kinematic/medium", "ant-morph/expert")
OTHER = ("data", "get", "hopper-morph/medium")  # what the next writer writes
ENDS = (0, 1, 130, 143, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT)  # 130, 143: interrupted
NAMES = ("make", "make --replace", "import", "import --replace", "get")
MODULES = ("shiftgym.commands.data", "shiftgym_tools.importers", "shiftgym_tools.making.make")
IMPORTED = "hopper_kinematic_medium.hdf5"


@dataclass(frozen=True)
class Scenario:
    """Say what is killed.

    Attributes:
        before: commands that run first, uninterrupted.
        words: the command that is killed, and run again.
    """

    name: str
    before: tuple[tuple[str, ...], ...]
    words: tuple[str, ...]


def scenarios(scratch: Path) -> list[Scenario]:
    first, second = (import_file(scratch / str(k), k) for k in (1, 2))
    get_import, again = ("data", "import", str(first)), ("data", "import", str(second))
    return [
        Scenario(NAMES[0], (), MAKE),
        Scenario(NAMES[1], (MAKE,), (*MAKE, "--replace", "--seed", "7")),
        Scenario(NAMES[2], (), get_import),
        Scenario(NAMES[3], (get_import,), (*again, "--replace")),
        Scenario(NAMES[4], (), GET),
    ]


def import_file(folder: Path, episodes: int) -> Path:
    """Write the first episodes of a packaged set as others would."""
    from shiftgym import load
    from shiftgym.datasets.flat import episode_bounds

    flat = load("hopper-kinematic/medium")
    rows = int(episode_bounds(flat)[episodes])
    folder.mkdir()
    with h5py.File(folder / IMPORTED, "w") as file:
        for field in ("observations", "actions", "rewards", "next_observations"):
            file[field] = flat[field][:rows]
        file["terminals"], file["timeouts"] = flat["terminated"][:rows], flat["truncated"][:rows]
    return folder / IMPORTED


class Stage:
    """Hold a scenario's folder of datasets, as it is before the command that is killed."""

    def __init__(self, scenario: Scenario, scratch: Path):
        self.scenario, self.scratch, self.root = scenario, scratch, scratch / "root"
        self._before = scratch / f"{scenario.name.replace(' ', '')}.before"
        os.environ["MINARI_DATASETS_PATH"] = str(self.root)
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir()
        for words in scenario.before:
            done = in_child(shiftgym(*words), scratch)
            assert done.code == 0, done
        shutil.copytree(self.root, self._before)
        self.old = self.digests()
        self.work: Work = shiftgym(*scenario.words)
        started = time.monotonic()
        self.points = count_changes(self.work, scratch)
        self.seconds = time.monotonic() - started  # what an uninterrupted run takes
        self.new = self.digests()

    def reset(self) -> None:
        shutil.rmtree(self.root)
        shutil.copytree(self._before, self.root)

    def digests(self) -> dict[str, str]:
        """Read every set that can be seen, and give its data's SHA-256 by name.

        Raises:
            ShiftgymError: one that can be seen is not whole.
        """
        from shiftgym.datasets.listing import installed
        from shiftgym.datasets.places import present
        from shiftgym.datasets.store import DATA, read_dataset

        found = {}
        for folder in installed(self.root):
            read_dataset(folder)
            content = (present(folder) / "data" / DATA).read_bytes()
            found[f"{folder.parent.name}/{folder.name}"] = hashlib.sha256(content).hexdigest()
        return found

    def hidden(self) -> list[str]:
        parts = (path.relative_to(self.root) for path in self.root.rglob(".*"))
        return sorted(map(str, parts))

    def judge(self, killed: Outcome, tally: Tally, label: str) -> None:
        """Look at what a kill left, go on, and count what is wrong."""
        if killed.traceback or killed.hung or killed.code not in ENDS:
            tally.fault("wrong end", f"{label}: {killed}")
        seen = self._seen(tally, label)
        if lost := set(self.old) - set(seen):
            tally.fault("lost", f"{label}: {lost}")
        if strange := {k for k, v in seen.items() if v not in (self.old.get(k), self.new.get(k))}:
            tally.fault("wrong bytes", f"{label}: {strange}")
        complete = seen == self.new and self.old != self.new
        again = in_child(self.work, self.scratch)
        refused = complete and again.code == 1 and "is there already" in again.said
        if again.traceback or again.hung or not (again.code == 0 or refused):
            tally.fault("no going on", f"{label}: {again}")
        if self._seen(tally, label) != self.new:
            tally.fault("other bytes after going on", f"{label}: {self.digests()}, not {self.new}")
        other = in_child(shiftgym(*OTHER), self.scratch)
        if other.code or (left := self.hidden()):
            tally.fault("left over", f"{label}: {other if other.code else left}")
        tally.so_far(label)

    def _seen(self, tally: Tally, label: str) -> dict[str, str]:
        from shiftgym.basics.errors import ShiftgymError

        try:
            return self.digests()
        except ShiftgymError as error:
            tally.fault("not whole", f"{label}: {error}")
            return {}


def campaign(count: int, seed: int, scratch: Path, names: Sequence[str] = NAMES) -> Tally:
    """Kill `count` times, half of them at chosen changes of the disk as far as there are any.

    Each set is made in several blocks. `names` are those of the scenarios.
    """
    for module in MODULES:
        import_module(module)  # once, before the children are forked
    from shiftgym_tools.making import collect

    collect.BLOCK_ROWS = 700
    rng, tally = np.random.default_rng(seed), Tally()
    stages = [Stage(each, scratch) for each in scenarios(scratch) if each.name in names]
    points = [(stage, k) for stage in stages for k in range(1, stage.points + 1)]
    chosen = rng.permutation(len(points))[: (count + 1) // 2]
    for stage, k in (points[place] for place in chosen):
        os.environ["MINARI_DATASETS_PATH"] = str(stage.root)
        stage.reset()
        killed = in_child(stage.work, scratch, crash_before=k)
        tally.came("killed before a change")
        tally.came(f"of {stage.scenario.name}")
        stage.judge(killed, tally, f"{stage.scenario.name}, killed before change {k}")
    for case in range(count - len(chosen)):
        stage = stages[case % len(stages)]
        stage.reset()
        after = float(rng.uniform(0, stage.seconds))
        sign = SIGNALS[rng.integers(len(SIGNALS))]
        killed = in_child(stage.work, scratch, kill_after=after, kill_with=sign)
        tally.came("killed at random" if killed.code else "done before the kill")
        tally.came(f"of {stage.scenario.name}")
        label = f"{stage.scenario.name}, {sign.name} after {after:.3f} s"
        stage.judge(killed, tally, label)
    print(f"{len(points)} points of the disk in {len(stages)} commands")
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=NAMES, choices=NAMES)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tally = campaign(options.count, options.seed, Path(folder), options.only)
    return tally.finish(f"kills of data, seed {options.seed}")


if __name__ == "__main__":
    sys.exit(main())

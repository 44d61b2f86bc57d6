"""Kill trainings at any moment, and go on: nothing is lost, and no byte is another.

    python tests/campaigns/kills_train.py --kills 400 --seed 0

A training is killed before a change of the disk drawn at random, or signalled at a random moment;
readers look at what is left; it goes on, is killed again, and is finished at last. Then everything
it says must equal what a training says that was never stopped.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from campaign_helpers import Tally, count_changes, in_child, shiftgym
from toy_runs import BEHAVIOURS, SUBJECTS, facts, training

STOPPED = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}


def kills(subject: str, count: int, seed: int, scratch: Path, tally: Tally) -> None:
    """Kill trainings of one subject until there were so many kills."""
    rng = np.random.default_rng([seed, SUBJECTS.index(subject)])
    whole, cut, done = scratch / "whole", scratch / "cut", 0
    for left in (whole, cut):
        shutil.rmtree(left, ignore_errors=True)
    started = time.monotonic()
    changes = count_changes(training(subject, whole), scratch)
    spent, expected = time.monotonic() - started, facts(whole)
    while done < count:
        shutil.rmtree(cut, ignore_errors=True)
        for _ in range(min(count - done, int(rng.integers(1, 9)))):
            if (cut / "result.json").exists():
                break
            resume = (cut / "config.json").exists()
            work = training(subject, cut, resume)
            if rng.random() < 0.7:
                point = int(rng.integers(1, changes))
                ended, how = in_child(work, scratch, crash_before=point), f"before change {point}"
                allowed = (-9, 0)
            else:
                number = rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
                after, sign = float(rng.uniform(0, spent)), signal.Signals(number)
                ended = in_child(work, scratch, kill_after=after, kill_with=sign)
                allowed, how = (-int(sign), STOPPED[sign], 0), f"{sign.name} after {after:.3f} s"
            done += ended.code != 0
            tally.came("kills" if ended.code else "came too late")
            if ended.traceback and ended.code != 130 or ended.hung or ended.code not in allowed:
                tally.fault("bad end", f"{subject}, {how}, resume {resume}: {ended}")
            if rng.random() < 0.2 and subject != BEHAVIOURS:
                _look(cut, resume, scratch, tally)
        for _ in range(2):  # the second finds it finished, and changes nothing
            if subject != BEHAVIOURS or not _finished(cut, expected):
                work = training(subject, cut, (cut / "config.json").exists())
                ended = in_child(work, scratch)
                if ended.code:
                    tally.fault("does not go on", f"{subject}: {ended}")
                    break
        else:
            tally.came("trainings finished")
            found = facts(cut)
            for part, value in expected.items():
                if found.get(part) != value:
                    tally.fault(f"other {part}", f"{subject}: {found.get(part)} for {value}")
        tally.so_far(subject)


def _finished(out: Path, expected: dict[str, object]) -> bool:
    """Say whether a training has ended, its last files included, which come after its state."""
    return (out / "state.json").exists() and facts(out) == expected


def _look(out: Path, trained: bool, scratch: Path, tally: Tally) -> None:
    """Read what a killed training left: all of it, or a sentence on why not."""
    for words in (["report", str(out), "--json"], ["eval", str(out), "--episodes", "1"]):
        seen = in_child(shiftgym(*words), scratch)
        tally.came("looks")
        if seen.traceback or seen.hung or (words[0] == "eval" and trained and seen.code):
            tally.fault("bad look", seen)


def main() -> int:
    """Run the campaign over every subject."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--subjects", nargs="*", default=list(SUBJECTS))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        for subject in chosen.subjects:
            each = -(-chosen.kills // len(chosen.subjects))
            kills(subject, each, chosen.seed, Path(folder), tally)
    return tally.finish(f"kills of trainings, seed {chosen.seed}")


if __name__ == "__main__":
    sys.exit(main())

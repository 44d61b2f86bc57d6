"""Hold verdicts of `shiftgym diagnose` against what long trainings find, on pairs of known domains.

    python benchmarks/diagnose.py --pairs hopper hopper-kinematic        # two pairs, a first look
    python benchmarks/diagnose.py --out docs/data/diagnose.json          # all of them, for a day

Each pair is diagnosed with the default budget; then bc and iql-target without the source, and iql,
otdf and tabb with it, train for long with their defaults and more seeds, and the same rule makes a
verdict of those. A source of the target's own domain must help; what others do is measured. Sources
are 1M sets: `shiftgym data make hopper/medium`, see `--source-size` for smaller ones.

What stands in the file is not measured again, and trainings go on where they stopped. Exits with 1
if something failed.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from shiftgym.basics.errors import DomainError, ShiftgymError, StoppedError
from shiftgym.basics.pages import markdown
from shiftgym.basics.ranges import Count, Size, Threads, check_ranges
from shiftgym.datasets.pair import Pair
from shiftgym_agents.commands.diagnose import shown, write
from shiftgym_agents.evaluation.diagnosis import trials
from shiftgym_agents.evaluation.diagnosis.verdict import HELPS, by_training
from shiftgym_agents.evaluation.diagnosis.whole import Options as DiagnosisOptions
from shiftgym_agents.methods.table import settings
from shiftgym_agents.training.artifacts import provenance, write_json
from shiftgym_agents.training.run_config import TrainOptions

PAIRS: dict[str, tuple[str, str, str]] = {  # name -> source domain, target domain, quality
    "hopper-own": ("hopper-kinematic", "hopper-kinematic", "medium"),
    "hopper-kinematic": ("hopper", "hopper-kinematic", "medium"),
    "hopper-morph": ("hopper", "hopper-morph", "medium"),
    "hopper-friction": ("hopper", "hopper-friction-x0p5", "medium"),
    "walker2d-own": ("walker2d-morph", "walker2d-morph", "medium"),
    "walker2d-kinematic": ("walker2d", "walker2d-kinematic", "medium"),
    "walker2d-morph": ("walker2d", "walker2d-morph", "medium"),
    "halfcheetah-own": ("halfcheetah-gravity-x0p5", "halfcheetah-gravity-x0p5", "medium"),
    "halfcheetah-kinematic": ("halfcheetah", "halfcheetah-kinematic", "medium"),
    "halfcheetah-gravity": ("halfcheetah", "halfcheetah-gravity-x0p5", "medium"),
    "ant-kinematic": ("ant", "ant-kinematic", "medium"),
    "ant-gravity": ("ant", "ant-gravity-x0p5", "medium"),
}
METHODS = (*trials.ALONE, *trials.USING)


@dataclass(frozen=True)
class Options:
    """Choose what is measured.

    Attributes:
        pairs: names of pairs, all by default.
        source_size: ending of the sources' names, such as 100k; the 1M sets by default.
        most: budget of the diagnosis.
        seeds: of the diagnosis.
        long_steps: updates of the trainings that say what is true.
        long_seeds: their seeds.
        episodes: per seed, after them.
        threads: CPU threads; 0 for one per core.
        device: auto, cpu, cuda.
        work: folder of the reports and run directories.
        out: JSON file of everything that was found.
    """

    pairs: tuple[str, ...] = ()
    source_size: str = ""
    most: Count = 5_000
    seeds: Size = 3
    long_steps: Count = 200_000
    long_seeds: Size = 5
    episodes: Size = 20
    threads: Threads = 0
    device: str = "auto"
    work: Path = Path("runs/diagnose")
    out: Path = Path("runs/diagnose/found.json")

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def shared(self) -> dict[str, Any]:
        """Give what all entries of a file have in common."""
        names = ("source_size", "most", "seeds", "long_steps", "long_seeds", "episodes")
        return {name: getattr(self, name) for name in names}


def open_named(name: str, options: Options) -> Pair:
    source, target, quality = PAIRS[name]
    size = f"-{options.source_size}" if options.source_size else ""
    return Pair(f"{source}/{quality}{size}", f"{target}/{quality}")


def measure(name: str, options: Options) -> dict[str, Any]:
    """Diagnose a pair, then train for long."""
    pair, out = open_named(name, options), options.work / name
    out.mkdir(parents=True, exist_ok=True)
    asked = DiagnosisOptions(
        out=out, most=options.most, seeds=options.seeds, threads=options.threads,
        device=options.device,
    )  # fmt: skip
    found = shown(pair, asked)
    write(found, out)
    train = TrainOptions(
        out=out / "long", episodes=options.episodes, threads=options.threads, device=options.device
    )
    configs = {each: settings(each, pair.domain, steps=options.long_steps) for each in METHODS}
    seeds = [100 + k for k in range(options.long_seeds)]  # none of the diagnosis's own
    tried = trials.train(pair, seeds, options.long_steps, train, configs=configs)
    truth = by_training(tried)
    return {
        "pair": name,
        "own_domain": PAIRS[name][0] == PAIRS[name][1],
        "diagnosis": found.told,
        "truth": vars(truth) | {"unit": tried.unit, "alone": tried.alone, "using": tried.using},
        "provenance": provenance(),
    }


def lines(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Lay out verdicts beside what training found."""
    rows = []
    for name, each in found.items():
        told, truth = each["diagnosis"], each["truth"]
        words = [told["data_alone"]["word"], told["verdict"]["word"], truth["word"]]
        same = "yes" if words[1] == words[2] else "no"
        if each["own_domain"] and words[1] != HELPS:
            same += ", own domain"
        minutes = f"{told['seconds'] / 60:.1f}"
        rows.append((name, *words, same, minutes))
    head = ("pair", "by data alone", "diagnosis", "long training", "agree", "minutes")
    return markdown(head, rows, "lllllr")


def main(options: Options) -> int:
    chosen = options.pairs or tuple(PAIRS)
    if unknown := [name for name in chosen if name not in PAIRS]:
        raise DomainError(f"No pair {', '.join(unknown)}; there are {', '.join(PAIRS)}.")
    found: dict[str, dict[str, Any]] = {}
    if options.out.exists():
        stored = json.loads(options.out.read_text())
        if stored["options"] != options.shared:
            raise ShiftgymError(
                f"{options.out} was measured with {stored['options']}: give the same, or another "
                "--out."
            )
        found = stored["pairs"]
    failed = False
    for place, name in enumerate(chosen, 1):
        if name in found:
            continue
        print(f"[{place}/{len(chosen)}] {name}", flush=True)
        try:
            new = measure(name, options)
        except StoppedError:
            raise
        except Exception:  # a day's work goes on with the next
            failed = True
            traceback.print_exc()
            continue
        found[name] = json.loads(json.dumps(new, default=str))
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.out, {"options": options.shared, "pairs": found})
    print("\n".join(lines(found)))
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(
            main(tyro.cli(Options, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,)))
        )
    except ShiftgymError as error:
        print(f"diagnose: {error}", file=sys.stderr)
        sys.exit(error.exit_code)

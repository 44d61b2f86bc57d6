"""Hold verdicts of `shiftgym diagnose` against what training finds, on sixteen pairs.

    shiftgym sweep diagnose && shiftgym sweep diagnose --collect
    python benchmarks/diagnose.py --trained runs/sweeps/diagnose.csv

The grid `diagnose` names the pairs and trains bc and iql-target without the source, and iql, otdf
and tabb with it, longer than a diagnosis does and with other seeds' number; the same rule makes a
verdict of its scores. In half of the pairs the source is of the target's own domain, by the
target's policy or by an expert, which ought to help where there is something to learn; what others
do is measured. Without --trained the pairs are diagnosed alone.

Each pair is diagnosed with the defaults. What stands in the file is not measured again; a
diagnosis that was stopped begins anew, so that its minutes are all of it. Two cores do as much with
one thread each: `--threads 1 --robots hopper ant` beside `--threads 1 --robots walker2d
halfcheetah`, into one file. Exits with 1 if something failed.
"""

from __future__ import annotations

import json
import shutil
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import figures
import numpy as np

from shiftgym.basics.errors import ShiftgymError, StoppedError
from shiftgym.basics.pages import markdown
from shiftgym.basics.ranges import Count, Size, Threads, check_ranges
from shiftgym.datasets.locks import locked
from shiftgym.datasets.names import dataset_name
from shiftgym.datasets.pair import Pair
from shiftgym_agents.commands.diagnose import shown, write
from shiftgym_agents.evaluation.diagnosis import trials
from shiftgym_agents.evaluation.diagnosis.verdict import HELPS, by_training
from shiftgym_agents.evaluation.diagnosis.whole import Options as DiagnosisOptions
from shiftgym_agents.reports.leaderboard import sections
from shiftgym_agents.reports.results import read_results
from shiftgym_agents.sweeps.grid import read_grids
from shiftgym_agents.training.artifacts import write_json, write_text

GRID = "diagnose"
OWN, EXPERT = "own", "own, expert"  # sources of the target's domain: by its policy, by an expert
PAGE = """\
# Diagnosis beside training

Verdicts of [`shiftgym diagnose`](diagnose.md) with its defaults ({most:,} updates, {seeds} seeds)
beside the verdict that the same rule gives of longer trainings: the grid `{grid}`, in the
[laptop protocol](sweeps.md#a-protocol-that-fits-a-laptop), five seeds. *By the data* is what it
forecasts before any training. Minutes are of {machine}. Rows marked
"own" have a source of the target's own domain, by the policy that made the target's data or by an
expert. {agree}

```
shiftgym sweep {grid} && shiftgym sweep {grid} --collect
python benchmarks/diagnose.py --trained runs/sweeps/{grid}.csv \\
    --out docs/data/diagnose.json --page docs/diagnose_pairs.md
```

{table}

What the trainings found, means over seeds:

{scores}

[Figures](data/diagnose.json), each diagnosis whole.
"""


@dataclass(frozen=True)
class Options:
    """Choose what is measured.

    Attributes:
        robots: pairs of these alone; all by default.
        trained: table of `shiftgym sweep diagnose --collect`.
        most: updates of the diagnosis.
        seeds: of the diagnosis.
        threads: CPU threads; 0 for one per core.
        device: auto, cpu, cuda.
        work: folder of the reports.
        out: JSON file of everything that was found.
        page: write it as a page of the documentation, too.
    """

    robots: tuple[str, ...] = ()
    trained: Path | None = None
    most: Count = 10_000
    seeds: Size = 3
    threads: Threads = 0
    device: str = "auto"
    work: Path = Path("runs/diagnose")
    out: Path = Path("runs/diagnose/found.json")
    page: Path | None = None

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def shared(self) -> dict[str, Any]:
        """Give what all entries of a file have in common."""
        return {"most": self.most, "seeds": self.seeds}


def pairs() -> list[tuple[str, str]]:
    """List (source, target) of the grid, as its table names them."""
    return read_grids(GRID)[0].called_pairs()


def kind(source: str, target: str) -> str:
    """Say what a source of the target's own domain was made by, "" of another domain."""
    one, two = dataset_name(source), dataset_name(target)
    if one.domain != two.domain:
        return ""
    return OWN if one.quality == two.quality else EXPERT


def named(source: str, target: str) -> str:
    return f"{source} -> {target}"


def measure(source: str, target: str, options: Options) -> dict[str, Any]:
    """Diagnose a pair, and write its report."""
    out = options.work / f"{source}-{target}".replace("/", "-")
    asked = DiagnosisOptions(
        out=out, most=options.most, seeds=options.seeds, threads=options.threads,
        device=options.device,
    )  # fmt: skip
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    machine = figures.machine(figures.load())
    found = shown(Pair(source, target), asked)
    write(found, out)
    return found.told | {"machine": machine}


def truths(table: Path) -> dict[str, Any]:
    """Judge the scores of the grid by the rule of diagnoses."""
    section = next((s for s in sections(read_results(table)) if s.name == GRID), None)
    if section is None:
        raise ShiftgymError(f"{table} is none of the grid {GRID!r}.")
    found = {}
    for source, target in section.pairs:
        values: dict[str, tuple[float, ...]] = {
            name: tuple(np.asarray(by[source, target], float))
            for name, by in section.scores.items()
            if (source, target) in by
        }
        if missing := {*trials.ALONE, *trials.USING} - set(values):
            print(f"{named(source, target)}: no results of {', '.join(sorted(missing))}")
            continue
        alone, using = ({n: values[n] for n in ns} for ns in (trials.ALONE, trials.USING))
        judged = by_training(trials.Trials(section.unit, alone, using))
        found[named(source, target)] = vars(judged) | {"alone": alone, "using": using}
    return found


def lines(found: Mapping[str, Any], truth: Mapping[str, Any]) -> list[str]:
    """Lay out verdicts beside what training found."""
    rows = []
    for source, target in pairs():
        if (told := found.get(name := named(source, target))) is None:
            continue
        words = [told["data_alone"]["word"], told["verdict"]["word"]]
        words.append(truth[name]["word"] if name in truth else "")
        agree = {True: "yes", False: "no"}[words[1] == words[2]] if words[2] else ""
        rows.append(
            (source, target, kind(source, target), *words, agree, f"{told['seconds'] / 60:.1f}")
        )
    head = ("source", "target", "", "by the data", "diagnosis", "training", "agree", "minutes")
    return markdown(head, rows, "lllllllr")


def scores(truth: Mapping[str, Any]) -> list[str]:
    """Lay out the scores that training found."""
    names = (*trials.ALONE, *trials.USING)
    rows = [
        (name, *(f"{np.mean((each['alone'] | each['using'])[n]):.1f}" for n in names))
        for name, each in truth.items()
    ]
    return markdown(("pair", *names), rows, "l" + "r" * len(names))


def summary(found: Mapping[str, Any], truth: Mapping[str, Any]) -> str:
    """Count agreements, and what is worse than a shrug: a verdict that training contradicts."""
    both = [name for name in found if name in truth]
    same = sum(found[name]["verdict"]["word"] == truth[name]["word"] for name in both)
    opposite = sum(
        {found[name]["verdict"]["word"], truth[name]["word"]} == {"helps", "harms"}
        for name in both
    )  # fmt: skip
    helped = []
    for what in (OWN, EXPERT):
        own = [n for s, t in pairs() if kind(s, t) == what and (n := named(s, t)) in found]
        helped.append(
            f"{sum(found[name]['verdict']['word'] == HELPS for name in own)} of {len(own)}"
        )
    return (
        f"They agree on {same} of {len(both)} pairs and contradict each other on {opposite}; the "
        f"diagnosis says that data of the target's own domain help in {helped[0]} by its own "
        f"policy, and in {helped[1]} by an expert."
    )


def main(options: Options) -> int:
    found, truth = stored(options)
    if options.trained is not None:
        truth = json.loads(json.dumps(truths(options.trained)))
    chosen = [each for each in pairs() if _wanted(each, options.robots)]
    failed = False
    for place, (source, target) in enumerate(chosen, 1):
        if (name := named(source, target)) in found:
            continue
        print(f"[{place}/{len(chosen)}] {name}", flush=True)
        try:
            told = measure(source, target, options)
        except StoppedError:
            raise
        except Exception:  # an hour's work goes on with the next
            failed = True
            traceback.print_exc()
            continue
        found[name] = json.loads(json.dumps(told, default=str))
        store(options, found, truth)
    found = store(options, found, truth)
    print("\n".join(lines(found, truth)) + f"\n\n{summary(found, truth)}")
    if options.page is not None:
        write_text(options.page, page(found, truth, options))
    return 1 if failed else 0


def stored(options: Options) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the diagnoses and trainings of the file.

    Raises:
        ShiftgymError: it was measured with other options.
    """
    if not options.out.exists():
        return {}, {}
    told = json.loads(options.out.read_text())
    if told["options"] != options.shared:
        raise ShiftgymError(
            f"{options.out} was measured with {told['options']}: give the same, or another --out."
        )
    return told["pairs"], told["training"]


def store(options: Options, found: Mapping[str, Any], truth: Mapping[str, Any]) -> dict[str, Any]:
    """Add to what the file holds: robots may be measured side by side. Gives all diagnoses."""
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with locked(options.out.with_suffix(".lock")):
        others, known = stored(options)
        every = others | found
        kept = {name: every[name] for s, t in pairs() if (name := named(s, t)) in every}
        told = {"options": options.shared, "pairs": kept, "training": truth or known}
        write_json(options.out, told)
    return kept


def page(found: Mapping[str, Any], truth: Mapping[str, Any], options: Options) -> str:
    """Write the page of the documentation."""
    return PAGE.format(
        most=options.most, seeds=options.seeds, grid=GRID, agree=summary(found, truth),
        machine=machine_of(found.values()),
        table="\n".join(lines(found, truth)), scores="\n".join(scores(truth)),
    )  # fmt: skip


def machine_of(found: Iterable[Mapping[str, Any]]) -> str:
    """Say on what the minutes were taken, and what ran beside."""
    cpus, threads, loads = set(), set(), []
    for told in found:
        cpus.add(f"{told['machine']['cpu']}, {told['machine']['cores']} cores")
        threads.add(told["provenance"].get("threads"))
        loads.append(told["machine"]["load_before"])
    several = " or ".join(str(each) for each in sorted(threads, key=str))
    load = max(loads, default=0.0)
    return f"{several} threads ({', '.join(sorted(cpus))}; load before up to {load:.1f})"


def _wanted(pair: Sequence[str], robots: Sequence[str]) -> bool:
    return not robots or dataset_name(pair[1]).domain.robot in robots


if __name__ == "__main__":
    figures.command(main, Options, __doc__)

"""``shiftgym diagnose``: does plenty of data A help with little data B?"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from shiftgym.datasets.folders import explained
from shiftgym.reading.anywhere import own_name
from shiftgym_agents.data.pairs import TrainingPair
from shiftgym_agents.data.places import NONE
from shiftgym_agents.evaluation.diagnosis.whole import TRAININGS, Diagnosis, Options, check
from shiftgym_agents.evaluation.diagnosis.whole import diagnose as find_out
from shiftgym_agents.reports.diagnosis import page as text_page
from shiftgym_agents.reports.diagnosis_page import page as html_page
from shiftgym_agents.training.artifacts import ELSEWHERE, write_json, write_text
from shiftgym_agents.training.asking import DataOptions, open_pair

Flat = tyro.conf.arg(name="")
REPORT, NUMBERS = "report.html", "report.json"


def diagnose(
    data: Annotated[DataOptions, Flat],
    options: Annotated[Options, Flat] = Options(),  # noqa: B008
    json_: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """Ask whether a source helps its target, in minutes: overlap, dynamics, value, filters, trials.

    Ends with a sentence, the source helps, harms, or makes no difference that can be told, and with
    what it rests on. The report goes to the terminal, and to report.html and report.json in --out.
    Where there is an environment, bc and iql-target train without the source, and iql, otdf and
    tabb with it; --quick, or --eval-env none, looks at the data alone. docs/diagnose.md says what
    each number means.

    Example: shiftgym diagnose --source hopper/medium --target hopper-kinematic/medium

    A diagnosis that was stopped goes on with its trainings by the same command.

    Args:
        data: Which data.
        options: How much.
        json_: Print JSON for programs.
    """
    if options.quick and data.eval_env is None and own_name(data.target) is None:
        data = replace(data, eval_env=NONE)
    if json_:
        options = replace(options, progress=False)
    pair = open_pair("iql", data, lambda note: print(note, file=sys.stderr))
    check(pair, options)
    with explained(options.out, ELSEWHERE):
        options.out.mkdir(parents=True, exist_ok=True)
    found = shown(pair, options)
    written = write(found, options.out)
    if json_:
        print(json.dumps(found.told, indent=1))
        return
    print(text_page(found.told))
    trained = found.verdict.basis == "training"
    after = f"report {options.out}/runs/*" if trained else "train --help"
    print(f"\nWrote {' and '.join(map(str, written))}. Next: shiftgym {after}")


def shown(pair: TrainingPair, options: Options) -> Diagnosis:
    """Diagnose a pair behind a bar for each part."""
    bars: dict[str, tqdm] = {}
    with ExitStack() as stack:

        def tell(name: str, taken: int, total: int) -> None:
            if name not in bars:
                for other in bars.values():  # a part that is over
                    other.close()
                if name == TRAININGS:  # they have bars of their own
                    return
                bars[name] = stack.enter_context(
                    tqdm(desc=f"{name:<8}", unit="upd", dynamic_ncols=True, mininterval=1.0,
                         disable=not options.progress, file=sys.stderr)
                )  # fmt: skip
            bar = bars[name]
            bar.total = max(total, bar.n + taken)
            bar.update(taken)

        return find_out(pair, options, tell)


def write(found: Diagnosis, out: Path) -> tuple[Path, Path]:
    """Write the page and the numbers."""
    paths = out / REPORT, out / NUMBERS
    write_text(paths[0], html_page(found.told, found.raw))
    write_json(paths[1], found.told)
    return paths

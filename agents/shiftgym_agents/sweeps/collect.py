"""Collect what a sweep has trained into one table with its provenance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from shiftgym.basics.errors import ShiftgymError
from shiftgym.scores import Reference
from shiftgym_agents.data.places import slug_of
from shiftgym_agents.reports.bars import measure_bars
from shiftgym_agents.reports.results import write_results
from shiftgym_agents.sweeps.grid import Wanted
from shiftgym_agents.sweeps.plan import STARTED, Plan, Planned, identity
from shiftgym_agents.sweeps.sets import NO_SOURCE
from shiftgym_agents.training.artifacts import read_json
from shiftgym_agents.training.metrics import read_metrics
from shiftgym_agents.training.records import domain_of, read_about, read_result, reference_of

RAW = Reference(0.0, 100.0)  # by which a return is its own score


def collect(made: Plan, path: Path) -> tuple[list[Path], list[str]]:
    """Write the table of a plan's finished groups.

    Args:
        made: the plan.
        path: of the table, without ending.

    Returns:
        The files, and why some groups are left out.

    Raises:
        ShiftgymError: Nothing is finished, or was evaluated anywhere; or a directory is damaged.
    """
    done = [each for each in made.groups if each.state == "done"]
    if not done:
        raise ShiftgymError("Nothing is finished yet: run the sweep without --collect first.")
    places = {
        identity(run): (each, k) for each in done for k, run in enumerate(each.group.wanted())
    }
    evaluations = {each.group.key: _evaluations(each.out) for each in done}
    rows: list[dict[str, Any]] = []
    for grid, variant, run in made.wanted:
        if (found := places.get(identity(run))) is not None:
            own = evaluations[found[0].group.key][found[1]]
            named = {"grid": grid, "variant": variant, "group": found[0].group.key}
            rows += [named | _row(run, row) for row in own]
    nowhere = [each for each in done if not any(evaluations[each.group.key])]
    reasons = [f"{each.out}: {each.reason or each.state}" for each in made.left]
    reasons += [
        f"{each.out}: evaluated nowhere, without returns; shiftgym report shows what it logged"
        for each in nowhere
    ]
    if not rows:
        homes = " ".join(str(each.out) for each in nowhere)
        raise ShiftgymError(
            "A table is of returns, and these runs were evaluated nowhere: "
            f"shiftgym report {homes} shows how far their policies act from the target data."
        )
    about: dict[str, Any] = {
        "grids": {grid.name: {"title": grid.title} for grid in made.grids},
        "groups": {each.group.key: _facts(each) for each in done},
        "targets": dict(_bars(done)),
    }
    return write_results(rows, about, path), reasons


def _evaluations(out: Path) -> list[list[dict[str, str]]]:
    """Read the evaluations of each run of a directory."""
    found: list[list[dict[str, str]]] = [[] for _ in read_about(out)["runs"]]
    for row in read_metrics(out / "metrics.csv"):
        if row.get("return"):
            found[int(row["run"])].append(row)
    return found


def _row(run: Wanted, row: Mapping[str, str]) -> dict[str, Any]:
    told = {"method": run.method, "source": run.source, "target": run.target, "seed": run.seed}
    told |= {"updates": int(row["update"]), "return": float(row["return"])}
    return told | {name: float(row.get(name) or "nan") for name in ("score", "length")}


def _facts(planned: Planned) -> dict[str, Any]:
    """Say how a group was trained."""
    out, group = planned.out, planned.group
    about, result, began = read_about(out), read_result(out), read_json(out / STARTED)
    assert result is not None
    return {
        "method": group.method,
        "origin": about.get("origin"),
        "robot": group.robot,
        "config": about["config"],
        "every": group.every,
        "episodes": group.episodes,
        "runs": len(group.runs),
        "domains": {run["target"]: run["domain"] for run in about["runs"]},
        "scored": {run["target"]: run["reference"] is not None for run in about["runs"]},
        "reference": {run["target"]: run["reference"] for run in about["runs"]},
        "datasets": {
            run[side]: run[f"{side}_sha256"]
            for run in about["runs"]
            for side in ("source", "target")
            if run[side] != NO_SOURCE
        },
        "finished": True,
        "seconds": round(float(result["seconds"]), 1),
        "run_updates_per_second": round(float(result.get("run_updates_per_second", 0.0)), 1),
        "updates_by": began.get("updates"),
        "machine": began.get("machine"),
        "versions": about.get("provenance"),
    }


def _bars(done: list[Planned]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Measure the bars of every target once."""
    seen: set[str] = set()
    for each in done:
        for entry in read_about(each.out)["runs"]:
            where, scores = domain_of(entry, each.out), reference_of(entry, each.out)
            if entry["target"] in seen or where is None:
                continue
            seen.add(entry["target"])
            unit = "return" if scores is None else "score"
            told: dict[str, Any] = {"domain": slug_of(where), "unit": unit}
            yield entry["target"], told | measure_bars(entry["target"], scores or RAW, where)

"""``shiftgym eval``: evaluate the policies of run directories anew, in any domain of the robot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from shiftgym.domains import Domain, domain, from_kwargs
from shiftgym.errors import DomainError, ShiftgymError
from shiftgym.scores import Reference, default_reference, reference
from shiftgym.statistics import bootstrap_interval
from shiftgym_agents.commands.robustness import PerturbOptions, evaluate_perturbed
from shiftgym_agents.evaluation import Evaluator
from shiftgym_agents.policy import Policy
from shiftgym_agents.robustness import read_subject

UNPERTURBED = PerturbOptions()


def evaluate(
    run: Annotated[Path, tyro.conf.Positional],
    others: Annotated[tuple[Path, ...], tyro.conf.Positional] = (),
    domains: tuple[str, ...] = (),
    episodes: int = 10,
    seed: int = 1_000_000,
    json_: Annotated[bool, tyro.conf.arg(name="json")] = False,
    options: Annotated[PerturbOptions, tyro.conf.arg(name="")] = UNPERTURBED,
) -> None:
    """Evaluate the deterministic policies of run directories over fresh episodes.

    Example: shiftgym eval runs/iql --domains hopper hopper-kinematic --episodes 100

    With --perturb, policies are tested where they were trained for and at every level, easy, medium
    and hard, of perturbations of that domain, from the same starts. A table says what is lost;
    robustness.csv (every episode), robustness.json and a picture per suite go to the run directory,
    and several directories share one table and picture.

    Example: shiftgym eval runs/iql runs/droco --perturb kinematic,morph,friction,gravity,min-q

    Args:
        run: A run directory; its last checkpoint is evaluated.
        others: More of them.
        domains: Domains of the same robot; the one each policy was trained for by default.
        episodes: Episodes per policy and domain.
        seed: Episode starts are drawn from this seed on, apart from those of training.
        json_: Print JSON for programs, with every episode's return; with --perturb, the summaries.
        options: Perturbations.
    """
    if episodes < 1:
        raise ShiftgymError("--episodes must be at least 1.")
    if options.perturb:
        if domains:
            raise ShiftgymError("Give --perturb or --domains: levels perturb a run's own domain.")
        evaluate_perturbed((run, *others), options, episodes, seed, json_)
        return
    results = [entry for out in (run, *others) for entry in _evaluate(out, domains, episodes, seed)]
    if json_:
        print(json.dumps(results, indent=1))
        return
    for i, entry in enumerate(results):
        if i == 0 or entry["out"] != results[i - 1]["out"]:
            about = f"{entry['out']}: {entry['method']} after {entry['updates']} updates"
            print(f"{about}, {episodes} episodes per run and domain:")
        low, high = entry["interval"]
        line = f"  {entry['domain']:<24} seed {entry['seed']:<3} return {entry['return']:9.1f} "
        line += f"[{low:.1f}, {high:.1f}]  length {entry['length']:.0f}"
        print(line if entry["score"] is None else f"{line}  score {entry['score']:.1f}")
    print(f"Next: shiftgym report {' '.join(map(str, (run, *others)))}")


def _evaluate(
    run: Path, domains: tuple[str, ...], episodes: int, seed: int
) -> list[dict[str, Any]]:
    """Evaluate every run of a directory in its own domain, or in each of some others."""
    subject = read_subject(run)
    chosen = [domain(name) for name in domains]
    for other in chosen:
        if other.robot != subject.robot:
            raise DomainError(f"These policies are for {subject.robot}, not {other.robot}.")
    about = {"out": str(run), "method": subject.method, "updates": subject.updates}
    results: list[dict[str, Any]] = []
    for where in chosen or [None]:
        places = subject.domains if where is None else [where] * len(subject.runs)
        results += _measure(subject.policy, places, subject.runs, episodes, seed)
    return [about | entry for entry in results]


def _measure(
    policy: Policy, places: list[Domain], runs: list[dict[str, Any]], episodes: int, seed: int
) -> list[dict[str, Any]]:
    """Evaluate every run's policy in its place."""
    evaluator = Evaluator(places, [seed + entry["seed"] for entry in runs], episodes)
    try:
        found = evaluator.evaluate(policy, 0)
    finally:
        evaluator.close()
    results: list[dict[str, Any]] = []
    for k, (place, entry) in enumerate(zip(places, runs, strict=True)):
        returns = found.returns[k]
        if not np.isfinite(returns).all():
            raise ShiftgymError(f"Run {k} (seed {entry['seed']}) diverged in training.")
        scores = _reference(place, entry)
        about = {"run": k, "seed": entry["seed"], "domain": place.slug}
        about |= {"source": entry["source"], "target": entry["target"]}
        about |= {"return": float(returns.mean()), "interval": bootstrap_interval(returns)}
        about["score"] = scores and scores.score(float(returns.mean()))
        about |= {"length": float(found.lengths[k].mean()), "returns": returns.tolist()}
        results.append(about)
    return results


def _reference(place: Domain, entry: dict[str, Any]) -> Reference | None:
    """Find the returns that count as 0 and 100: training's own in its domain, else the default."""
    if place == from_kwargs(**entry["domain"]):
        return entry["reference"] and Reference(**entry["reference"])
    table = default_reference(place)
    return None if table is None else reference(place, table)

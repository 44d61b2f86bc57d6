"""``shiftgym eval``: evaluate the policies of a run directory anew, in any domain of the robot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from shiftgym.domains import Domain, domain, from_kwargs
from shiftgym.errors import DomainError, ShiftgymError
from shiftgym.scores import Reference, has_reference, reference
from shiftgym.statistics import bootstrap_interval
from shiftgym_agents.artifacts import read_checkpoint, read_json
from shiftgym_agents.evaluation import Evaluator
from shiftgym_agents.policy import Policy


def evaluate(
    run: Annotated[Path, tyro.conf.Positional],
    domains: tuple[str, ...] = (),
    episodes: int = 10,
    seed: int = 1_000_000,
    json_: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """Evaluate the deterministic policies of a run directory over fresh episodes.

    Example: shiftgym eval runs/iql --domains hopper hopper-kinematic --episodes 100

    Args:
        run: A run directory; its last checkpoint is evaluated.
        domains: Domains of the same robot; the one each policy was trained for by default.
        episodes: Episodes per policy and domain.
        seed: Episode starts are drawn from this seed on, apart from those of training.
        json_: Print JSON for programs, with every episode's return.
    """
    if episodes < 1:
        raise ShiftgymError("--episodes must be at least 1.")
    config = read_json(run / "config.json")
    found = read_checkpoint(run)
    if found is None:
        raise ShiftgymError(f"{run} holds no checkpoint yet: let it train on.")
    policy, runs = Policy.from_arrays(found[0]), config["runs"]
    own = [from_kwargs(**entry["domain"]) for entry in runs]
    chosen = [domain(name) for name in domains]
    for other in chosen:
        if other.robot != own[0].robot:
            raise DomainError(f"These policies are for {own[0].robot}, not {other.robot}.")
    results: list[dict[str, Any]] = []
    for where in chosen or [None]:
        places = own if where is None else [where] * len(own)
        results += _measure(policy, places, runs, episodes, seed)
    if json_:
        print(json.dumps(results, indent=1))
        return
    updates = found[1]["count"]
    print(f"{config['method']} after {updates} updates, {episodes} episodes per run and domain:")
    for entry in results:
        low, high = entry["interval"]
        line = f"  {entry['domain']:<24} seed {entry['seed']:<3} return {entry['return']:9.1f} "
        line += f"[{low:.1f}, {high:.1f}]  length {entry['length']:.0f}"
        print(line if entry["score"] is None else f"{line}  score {entry['score']:.1f}")
    print(f"Next: shiftgym report {run}")


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
    """Find the returns that count as 0 and 100: training's own in its domain, else ours."""
    if place == from_kwargs(**entry["domain"]):
        return entry["reference"] and Reference(**entry["reference"])
    return reference(place) if has_reference(place) else None

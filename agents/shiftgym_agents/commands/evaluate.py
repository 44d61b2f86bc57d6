"""``shiftgym eval``: evaluate the policies of run directories anew, in any domain of the robot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from shiftgym.basics.errors import DomainError, ShiftgymError
from shiftgym.basics.ranges import CountOrNone, Seed, Size, ranged
from shiftgym.basics.statistics import bootstrap_interval
from shiftgym.domains import Domain
from shiftgym.making import domain
from shiftgym.scores import default_reference, reference
from shiftgym_agents.commands.members import finish, gather
from shiftgym_agents.commands.robustness import PerturbOptions, evaluate_perturbed
from shiftgym_agents.data.places import Place, check_fit, place, robot_of, slug_of
from shiftgym_agents.evaluation.robustness import Subject, read_subject
from shiftgym_agents.training.evaluator import Evaluator
from shiftgym_agents.training.records import reference_of

UNPERTURBED = PerturbOptions()


@ranged
def evaluate(
    run: Annotated[Path, tyro.conf.Positional],
    others: Annotated[tuple[Path, ...], tyro.conf.Positional] = (),
    domains: tuple[str, ...] = (),
    env: str | None = None,
    env_steps: CountOrNone = 0,
    episodes: Size = 10,
    seed: Seed = 1_000_000,
    json_: Annotated[bool, tyro.conf.arg(name="json")] = False,
    options: Annotated[PerturbOptions, tyro.conf.arg(name="")] = UNPERTURBED,
) -> None:
    """Evaluate the deterministic policies of run directories over fresh episodes.

    Example: shiftgym eval runs/iql --domains hopper hopper-kinematic --episodes 100

    With --perturb, policies are tested where they were trained for and at every level, easy, medium
    and hard, of perturbations of that domain, from the same starts. A table says what is lost;
    robustness.csv (every episode), robustness.json and a picture per suite go to the run directory,
    and several directories share one table and picture.

    Example: shiftgym eval runs/iql --perturb kinematic,morph,friction,gravity,min-q,noise

    A run that diverged, and a directory that cannot be evaluated, are left out and named, and the
    exit code is 1.

    Args:
        run: A run directory; its last checkpoint is evaluated.
        others: More of them.
        domains: Domains of the same robot; the one each policy was trained for by default.
        env: Any Gymnasium environment in their place: an id, module:Id-v0 or FILE.py:Id-v0.
        env_steps: Cut episodes of --env after so many steps; 0 for its own limit.
        episodes: Episodes per policy and domain.
        seed: Episode starts are drawn from this seed on, apart from those of training.
        json_: Print JSON for programs, with every episode's return; with --perturb, the summaries.
        options: Perturbations.
    """
    if options.perturb:
        if domains or env:
            raise ShiftgymError("Give --perturb or --domains: levels perturb a run's own domain.")
        evaluate_perturbed((run, *others), options, episodes, seed, json_)
        return
    left_out: list[str] = []
    chosen: list[Place] = [domain(name) for name in domains]
    chosen += [] if env is None else [place(env, env_steps)]
    each = gather(
        (run, *others), lambda out: _evaluate(out, chosen, episodes, seed, left_out), left_out
    )
    results = [entry for _, own in each for entry in own]
    if json_:
        print(json.dumps(results, indent=1))
        finish(left_out)
        return
    for i, entry in enumerate(results):
        if i == 0 or entry["out"] != results[i - 1]["out"]:
            about = f"{entry['out']}: {entry['method']} after {entry['updates']} updates"
            print(f"{about}, {episodes} episodes per run and domain:")
        low, high = entry["interval"]
        line = f"  {entry['domain']:<24} seed {entry['seed']:<3} return {entry['return']:9.1f} "
        line += f"[{low:.1f}, {high:.1f}]  length {entry['length']:.0f}"
        print(line if entry["score"] is None else f"{line}  score {entry['score']:.1f}")
    print(f"Next: shiftgym report {' '.join(str(out) for out, _ in each)}")
    finish(left_out)


def _evaluate(
    out: Path, chosen: list[Place], episodes: int, seed: int, left_out: list[str]
) -> list[dict[str, Any]]:
    """Evaluate every run of a directory in its own domain, or in each of some others."""
    subject = read_subject(out)
    good = [k for k in range(len(subject.runs)) if subject.policy.finite(k)]
    diverged = [
        f"{out}: run {k} (seed {entry['seed']}) diverged in training."
        for k, entry in enumerate(subject.runs)
        if k not in good
    ]
    if not good:
        raise ShiftgymError("\n".join(diverged))
    left_out += diverged
    robot = robot_of(subject.domains[0])
    for other in chosen or subject.domains:
        if other is None:
            raise ShiftgymError(f"{out} was evaluated nowhere: name an environment with --env ID.")
        if robot is not None and robot_of(other) not in (None, robot):
            raise DomainError(f"These policies are for {robot}, not {robot_of(other)}.")
        check_fit(other, subject.policy.shift.shape[-1], subject.policy.act_size)
    about = {"out": str(out), "method": subject.method, "updates": subject.updates}
    results: list[dict[str, Any]] = []
    for where in chosen or [None]:
        places = subject.domains if where is None else [where] * len(subject.runs)
        results += _measure(subject, good, places, episodes, seed)
    return [about | entry for entry in results]


def _measure(
    subject: Subject, good: list[int], places: Sequence[Place], episodes: int, seed: int
) -> list[dict[str, Any]]:
    """Evaluate the policies of some runs, each in its place."""
    runs = [subject.runs[k] for k in good]
    seeds = [seed + entry["seed"] for entry in runs]
    evaluator = Evaluator([places[k] for k in good], seeds, episodes)
    try:
        found = evaluator.evaluate(subject.policy.take(good), 0)
    finally:
        evaluator.close()
    results: list[dict[str, Any]] = []
    for i, (k, entry) in enumerate(zip(good, runs, strict=True)):
        returns, where = found.returns[i], places[k]
        scores = None
        if isinstance(where, Domain) and (table := default_reference(where)) is not None:
            scores = reference(where, table)
        if where == subject.domains[k]:  # training's own in its domain, else ours
            scores = reference_of(entry, subject.out)
        about = {"run": k, "seed": entry["seed"], "domain": slug_of(where)}
        about |= {"source": entry["source"], "target": entry["target"]}
        about |= {"return": float(returns.mean()), "interval": bootstrap_interval(returns)}
        about["score"] = scores and scores.score(float(returns.mean()))
        about |= {"length": float(found.lengths[i].mean()), "returns": returns.tolist()}
        results.append(about)
    return results

"""Race `shiftgym eval --perturb` against bare vector stepping of the same simulations, in one run.

    python benchmarks/robustness.py --out docs/data/robustness_benchmarks.json
    python benchmarks/robustness.py --robot hopper --rounds 1

The harness evaluates 5 policies, unperturbed and in 12 perturbed domains, 10 episodes each. Bare
stepping makes one vector environment of the same sub-environments and steps it as often, with the
actions that the policies took, from memory; ended episodes restart, nothing is recorded. Both
clocks include making the environments; the ratio to stepping alone is given beside. The harness may
leave ended episodes behind and then takes fewer steps: ratios are of seconds per step of one
sub-environment. The two take turns, and a ratio is the median over rounds, of wall seconds and,
for machines that do other work too, of CPU seconds. Exits with 1 if the bar is missed.

Policies are random networks: a cheetah never falls and takes all of its 1000 steps; a hopper falls
within fifty, so that making the environment is half of the work.
"""

from __future__ import annotations

import datetime
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import figures
import numpy as np

import shiftgym
from shiftgym.basics.machine import usable_cpus
from shiftgym_agents.core.policy import Policy
from shiftgym_agents.evaluation import rollouts
from shiftgym_agents.evaluation.perturb import UNPERTURBED, suite_levels
from shiftgym_agents.evaluation.robustness import Subject, measure

BAR = 2.0
SUITES = ("kinematic", "morph", "friction", "gravity")


@dataclass
class Options:
    """Choose what runs.

    Attributes:
        robots: whose policies.
        runs: policies.
        episodes: per policy and domain.
        rounds: turns of each; ratios are medians over them.
        bars: whether a missed bar fails.
        out: write the figures as JSON here.
    """

    robots: tuple[str, ...] = ("halfcheetah", "hopper")
    runs: int = 5
    episodes: int = 10
    rounds: int = 3
    bars: bool = True
    out: Path | None = None


@dataclass
class Recorder:
    """Remember the actions of every step, and how many sub-environments each one moved."""

    actions: list[np.ndarray] = field(default_factory=list)
    steps: int = 0


def random_policy(robot: str, runs: int) -> Policy:
    """Draw networks of the agents' shape."""
    rng = np.random.default_rng(0)
    envs: Any = shiftgym.make_vec(robot)
    obs, act = (s.shape[0] for s in (envs.single_observation_space, envs.single_action_space))
    envs.close()
    sizes = (obs, 256, 256, 2 * act)
    layers = [
        (
            (rng.normal(size=(runs, i, o)) / np.sqrt(i)).astype(np.float32),
            np.zeros((runs, 1, o), np.float32),
        )
        for i, o in zip(sizes[:-1], sizes[1:], strict=True)
    ]
    blank = np.zeros((runs, 1, obs), np.float32)
    return Policy(layers, blank, blank + 1, act)


def subject_of(robot: str, runs: int) -> Subject:
    own = shiftgym.domain(robot)
    about = {"source": "none", "target": "none", "reference": None, "domain": own.kwargs()}
    entries = [about | {"seed": seed} for seed in range(runs)]
    policy = random_policy(robot, runs)
    return Subject(Path(robot), "random", 0, entries, [own] * runs, policy)


def record(subject: Subject, levels: list[Any], episodes: int) -> Recorder:
    """Run the harness once, watched."""
    seen, make, act = Recorder(), rollouts._make, rollouts._act

    def watched_make(*given: Any) -> Any:
        envs = make(*given)
        step = envs.step

        def watched_step(actions: np.ndarray) -> Any:
            seen.steps += len(actions)
            return step(actions)

        envs.step = watched_step
        return envs

    def watched_act(*given: Any) -> np.ndarray:
        seen.actions.append(act(*given))
        return seen.actions[-1]

    rollouts._make, rollouts._act = watched_make, watched_act
    try:
        measure(subject, levels, episodes, 0)
    finally:
        rollouts._make, rollouts._act = make, act
    return seen


def step_bare(
    subject: Subject, levels: list[Any], episodes: int, seen: Recorder
) -> tuple[int, float]:
    """Step one vector environment of all sub-environments from memory.

    Returns:
        The steps taken, and the CPU seconds of stepping alone.
    """
    places = [
        level.domain(own)
        for own in subject.domains
        for level in (UNPERTURBED, *levels)
        for _ in range(episodes)
    ]
    envs: Any = shiftgym.make_vec(places, autoreset_mode="disabled")
    envs.reset(seed=0)
    begun = time.process_time()
    for actions in seen.actions:
        _, _, terminated, truncated, _ = envs.step(actions)
        ended = terminated | truncated
        if ended.any():
            envs.reset(options={"reset_mask": ended})
    seconds = time.process_time() - begun
    envs.close()
    return len(places) * len(seen.actions), seconds


def race(robot: str, options: Options) -> dict[str, Any]:
    """Let both take turns."""
    subject = subject_of(robot, options.runs)
    levels = [level for suite in SUITES for level in suite_levels(suite, robot)]
    seen = record(subject, levels, options.episodes)
    rounds: list[dict[str, float]] = []
    for _ in range(options.rounds):
        found: dict[str, float] = {}
        for name in ("harness", "bare"):
            wall, cpu, steps = time.perf_counter(), time.process_time(), seen.steps
            if name == "harness":
                measure(subject, levels, options.episodes, 0)
            else:
                steps, found["stepping_cpu"] = step_bare(subject, levels, options.episodes, seen)
            found |= {name: time.perf_counter() - wall, f"{name}_cpu": time.process_time() - cpu}
            found[f"{name}_steps"] = steps
        share = found["bare_steps"] / found["harness_steps"]
        found["ratio"] = share * found["harness"] / found["bare"]
        found["cpu_ratio"] = share * found["harness_cpu"] / found["bare_cpu"]
        found["stepping_ratio"] = share * found["harness_cpu"] / found["stepping_cpu"]
        rounds.append(found)
        print({key: round(value, 3) for key, value in found.items()}, flush=True)
    middle = {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
    print(
        f"{robot}: {options.runs} runs x {1 + len(levels)} domains x {options.episodes} episodes: "
        f"{middle['harness']:.1f} s for {seen.steps:,} steps of one, "
        f"{middle['ratio']:.2f} times bare stepping of as many "
        f"({middle['cpu_ratio']:.2f} in CPU seconds, {middle['stepping_ratio']:.2f} times stepping "
        "without making the environment)"
    )
    return {"robot": robot, "domains": 1 + len(levels), "rounds": rounds, "median": middle}


def main(options: Options) -> int:
    """Run, print, write; give 1 if the bar is missed."""
    load = figures.load()
    races = [race(robot, options) for robot in options.robots]
    found = {
        "date": datetime.date.today().isoformat(), "cores": usable_cpus(), "load_before": load,
        "runs": options.runs, "episodes": options.episodes, "bar": BAR, "races": races,
    }  # fmt: skip
    figures.write(options.out, found)
    missed = [each["robot"] for each in races if each["median"]["ratio"] >= BAR]
    print(f"Bar missed: {', '.join(missed)}" if missed else f"Bar met: below {BAR:g} times bare.")
    return 1 if missed and options.bars else 0


if __name__ == "__main__":
    figures.command(main, Options, __doc__)

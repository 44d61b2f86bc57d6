"""Grade trained policies: choose expert and medium, and measure what is kept on fresh episodes.

    candidates   snapshots of a domain, thinned to one per few evaluations
    selection    20 episodes each (seeds 500,000 on), deterministic
    expert       the best selection mean
    medium       the snapshot nearest to random + (expert - random) / 3, stochastic (D4RL's rule)
    ladder       for unshifted robots: 8 snapshots at even steps from random up to medium
    measurement  100 fresh episodes (seeds 900,000 on), deterministic and stochastic

No measurement seed takes part in the selection, so the reported numbers are not selected upwards.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from shiftgym.domains import domain
from shiftgym.errors import ShiftgymError
from shiftgym.evaluation import evaluate, policy_act, random_act
from shiftgym.policies import Policy, read_policy
from shiftgym_tools.snapshots import write_json

SELECTION_SEED, SELECTION_EPISODES = 500_000, 20
MEASUREMENT_SEED, MEASUREMENT_EPISODES = 900_000, 100
NOISE_SEED = 7
LADDER = 8


@dataclass(frozen=True)
class Candidate:
    """Hold a snapshot and what it earned in the selection, stochastic and deterministic."""

    path: Path
    updates: int
    deterministic: float
    stochastic: float


def measure(policy: Policy, slug: str, episodes: int = MEASUREMENT_EPISODES) -> dict[str, Any]:
    """Measure a policy on fresh episodes of a domain, deterministic and stochastic.

    Returns:
        ``{"deterministic": {...}, "stochastic": {...}}``, each with the mean return, its 95 %
        interval, the mean length, for hands the success rate, and every episode's return.
    """
    found = {}
    for name, noise in (("deterministic", None), ("stochastic", NOISE_SEED)):
        run = evaluate(policy_act(policy, noise), slug, episodes, MEASUREMENT_SEED)
        found[name] = run.summary() | {"returns": [round(float(r), 2) for r in run.returns]}
    return found


def grade_domain(slug: str, snapshots: Sequence[Path], ladder: bool, every: int) -> dict[str, Any]:
    """Choose and measure a domain's policies.

    Args:
        slug: the domain.
        snapshots: its snapshot files.
        ladder: whether to keep a ladder from random to medium.
        every: keep only every so many snapshots as candidates (the last one always).

    Returns:
        The random policy's return, and per tier the file, its updates and its measurement.
    """
    ordered = sorted(snapshots, key=_updates)
    if not ordered:
        raise ShiftgymError(f"No snapshots of {slug}: train it first (shiftgym policies train).")
    thinned = sorted({*ordered[::every], ordered[-1]}, key=_updates)
    random = evaluate(random_act(slug), slug, MEASUREMENT_EPISODES, MEASUREMENT_SEED).summary()
    candidates = [_select(path, slug) for path in tqdm(thinned, desc=slug, leave=False)]
    best = max(candidates, key=lambda candidate: candidate.deterministic)
    third = random["return"] + (best.stochastic - random["return"]) / 3
    chosen = {"expert": best, "medium": _nearest(candidates, third)}
    if ladder:
        for rung in range(LADDER):
            goal = random["return"] + (third - random["return"]) * rung / (LADDER - 1)
            chosen[f"ladder-{rung}"] = _nearest(candidates, goal)
    tiers = {}
    for tier, candidate in chosen.items():
        measured = measure(read_policy(candidate.path), slug)
        tiers[tier] = {"file": str(candidate.path), "updates": candidate.updates} | measured
    return {"domain": slug, "random": random, "tiers": tiers}


def grade(
    runs: tuple[Path, ...], out: Path = Path("runs/behaviours/graded"), every: int = 1
) -> None:
    """Choose expert, medium and ladder policies of trained domains, and measure them.

    Every domain's result is written to <out>/<domain>.json as it comes; a domain that is there
    already is not graded again.

    Example: shiftgym policies grade --runs runs/behaviours/hopper runs/behaviours/ant

    Args:
        runs: Folders of `shiftgym policies train`.
        out: Folder for the results.
        every: Consider only every so many snapshots.
    """
    out.mkdir(parents=True, exist_ok=True)
    for slug, snapshots in tqdm(sorted(by_domain(runs).items()), unit="domain"):
        target = out / f"{slug}.json"
        if target.exists():
            continue
        result = grade_domain(slug, snapshots, ladder=domain(slug).shift is None, every=every)
        write_json(target, result)
        best = result["tiers"]["expert"]["deterministic"]
        tqdm.write(f"{slug}: expert {best['return']:.0f} at {result['tiers']['expert']['updates']}")
    print(f"Graded policies in {out}. Next: shiftgym policies package --graded {out}")


def by_domain(runs: Iterable[Path]) -> dict[str, list[Path]]:
    """Find the snapshots in run folders, by domain."""
    found: dict[str, list[Path]] = {}
    for run in runs:
        for path in (run / "snapshots").glob("*.safetensors"):
            found.setdefault(path.stem.rpartition("-")[0], []).append(path)
    if not found:
        raise ShiftgymError(f"No snapshots in {', '.join(map(str, runs))}.")
    return found


def _updates(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def _select(path: Path, slug: str) -> Candidate:
    policy, means = read_policy(path), []
    for noise in (None, NOISE_SEED):
        run = evaluate(policy_act(policy, noise), slug, SELECTION_EPISODES, SELECTION_SEED)
        means.append(float(run.returns.mean()))
    return Candidate(path, _updates(path), *means)


def _nearest(candidates: Sequence[Candidate], goal: float) -> Candidate:
    return min(candidates, key=lambda candidate: abs(candidate.stochastic - goal))


def load_graded(folder: Path) -> dict[str, dict[str, Any]]:
    """Read every graded domain of a folder, by slug."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}

"""Grade trained policies: choose expert and medium, and measure what is kept on fresh episodes.

    candidates   every snapshot, with what it earned when it was saved: the mean of a few
                 deterministic episodes
    expert       of the 3 best candidates the one that earns most over 20 episodes (seeds
                 500,000 on), deterministic
    medium       of the 5 candidates nearest to random + (expert - random) / 3 (D4RL's rule) the
                 nearest over 20 episodes, stochastic; none where even that one earns more than
                 two thirds of the way. One that only stands, where surviving pays 1 per step, has
                 to do where none that moves is near enough
    ladder       for unshifted locomotion: 8 different candidates at even steps from random up to
                 medium
    measurement  100 fresh episodes (seeds 900,000 on), deterministic and stochastic

No measurement seed takes part in the selection, so the reported numbers are not selected upwards.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from shiftgym.domains import domain
from shiftgym.errors import ShiftgymError
from shiftgym.evaluation import HELD, evaluate, policy_act, random_act
from shiftgym.policies import Policy, read_policy
from shiftgym_agents.artifacts import write_json

SELECTION_SEED, SELECTION_EPISODES = 500_000, 20
MEASUREMENT_SEED, MEASUREMENT_EPISODES = 900_000, 100
NOISE_SEED = 7
LADDER, SHORTLIST, NEAR = 8, 3, 5
PAID_TO_STAND, STANDING = {"hopper", "walker2d", "ant"}, 1.3  # robots; return per step


@dataclass(frozen=True)
class Candidate:
    """Hold a snapshot and what it earned when it was saved."""

    path: Path
    updates: int
    deterministic: float
    length: float = 1000.0

    def moves(self, slug: str) -> bool:
        """Say whether it earned more than what standing upright is paid."""
        standing = STANDING if domain(slug).robot in PAID_TO_STAND else -np.inf
        return self.deterministic / self.length > standing


def measure(policy: Policy, slug: str, episodes: int = MEASUREMENT_EPISODES) -> dict[str, Any]:
    """Measure a policy on fresh episodes of a domain, deterministic and stochastic.

    Returns:
        ``{"deterministic": {...}, "stochastic": {...}}``, each with the mean return, its 95 %
        interval, the mean length, for hands the success rate, how fast, smooth and noisy it is,
        and every episode's return.
    """
    found = {}
    for name, noise in (("deterministic", None), ("stochastic", NOISE_SEED)):
        likely = None if noise is None else policy.act
        run = evaluate(policy_act(policy, noise), slug, episodes, MEASUREMENT_SEED, likely)
        found[name] = run.summary() | {"returns": [round(float(r), 2) for r in run.returns]}
    return found


def grade_domain(slug: str, candidates: Sequence[Candidate], ladder: bool) -> dict[str, Any]:
    """Choose and measure a domain's policies.

    Args:
        slug: the domain.
        candidates: its snapshots.
        ladder: whether to keep a ladder from random to medium.

    Returns:
        The random policy's return, and per tier the file, its updates and its measurement.
    """
    random = evaluate(random_act(slug), slug, MEASUREMENT_EPISODES, MEASUREMENT_SEED).summary()
    best = sorted(candidates, key=lambda candidate: -candidate.deterministic)[:SHORTLIST]
    expert = max(best, key=lambda candidate: _selected(candidate, slug, None))
    measured = measure(read_policy(expert.path), slug)
    floor = random["return"]
    third = floor + (measured["stochastic"]["return"] - floor) / 3
    tiers = {"expert": _entry(expert) | measured}
    moving = [candidate for candidate in candidates if candidate.moves(slug)]
    for pool in filter(None, (moving, candidates)):
        near = sorted(pool, key=lambda candidate: abs(candidate.deterministic - third))[:NEAR]
        medium = min(near, key=lambda one: abs(_selected(one, slug, NOISE_SEED) - third))
        found = _entry(medium) | measure(read_policy(medium.path), slug)
        if found["stochastic"]["return"] - floor <= 2 * (third - floor):
            tiers["medium"] = found
            break
    chosen = choose_ladder(candidates, floor, third, slug) if ladder else []
    rungs = [_entry(candidate) | measure(read_policy(candidate.path), slug) for candidate in chosen]
    rungs.sort(key=lambda entry: entry["stochastic"]["return"])
    tiers |= {f"ladder-{k}": entry for k, entry in enumerate(rungs)}
    return {"domain": slug, "random": random, "tiers": tiers}


def choose_ladder(
    candidates: Sequence[Candidate], low: float, high: float, slug: str
) -> list[Candidate]:
    """Choose different candidates whose stochastic returns step evenly from `low` to `high`.

    Twice as many as needed are shortlisted by what they earned when saved, then tried.

    Raises:
        ShiftgymError: fewer candidates than rungs.
    """
    if len(candidates) < LADDER:
        raise ShiftgymError(
            f"A ladder needs {LADDER} snapshots, there are {len(candidates)}: train with a smaller "
            "--evaluate-every."
        )
    saved = {candidate: candidate.deterministic for candidate in candidates}
    short = _evenly(saved, low, high, min(2 * LADDER, len(candidates)))
    tried = {candidate: _selected(candidate, slug, NOISE_SEED) for candidate in short}
    return _evenly(tried, low, high, LADDER)


def _evenly(values: Mapping[Candidate, float], low: float, high: float, n: int) -> list[Candidate]:
    """Choose n different candidates with values nearest to even steps from low to high."""
    left, chosen = dict(values), []
    for goal in np.linspace(low, high, n):
        chosen.append(min(left, key=lambda candidate: abs(left[candidate] - goal)))  # noqa: B023
        del left[chosen[-1]]
    return chosen


def grade(runs: tuple[Path, ...], out: Path = Path("runs/behaviours/graded")) -> None:
    """Choose expert, medium and ladder policies of trained domains, and measure them.

    Every domain's result is written to <out>/<domain>.json as it comes; a domain that is there
    already is not graded again.

    Example: shiftgym policies grade --runs runs/behaviours/hopper runs/behaviours/ant

    Args:
        runs: Folders of `shiftgym policies train`.
        out: Folder for the results.
    """
    out.mkdir(parents=True, exist_ok=True)
    for slug, candidates in tqdm(sorted(by_domain(runs).items()), unit="domain"):
        target = out / f"{slug}.json"
        if target.exists():
            continue
        result = grade_domain(slug, candidates, ladder=_has_ladder(slug))
        write_json(target, result)
        best = result["tiers"]["expert"]
        earned = best["deterministic"]["return"]
        tqdm.write(f"{slug}: best {earned:.0f} after {best['updates']} updates")
    print(f"Graded policies in {out}. Next: shiftgym policies package --graded {out}")


def by_domain(runs: Iterable[Path]) -> dict[str, list[Candidate]]:
    """Find the snapshots in run folders, by domain."""
    found: dict[str, list[Candidate]] = {}
    for run in runs:
        for path in sorted((run / "snapshots").glob("*.safetensors")):
            told = read_policy(path).metadata
            if told["train_return"] != "nan":  # the untrained one at step 0
                earned, length = float(told["return_mean"]), float(told.get("length", 1000))
                candidate = Candidate(path, int(told["updates"]), earned, length)
                found.setdefault(told["domain"], []).append(candidate)
    if not found:
        raise ShiftgymError(f"No snapshots in {', '.join(map(str, runs))}.")
    return found


def _selected(candidate: Candidate, slug: str, noise: int | None) -> float:
    """Measure a candidate on the selection's episodes."""
    act = policy_act(read_policy(candidate.path), noise)
    return float(evaluate(act, slug, SELECTION_EPISODES, SELECTION_SEED).returns.mean())


def _has_ladder(slug: str) -> bool:
    """Say whether a domain keeps a ladder for medium-replay: unshifted robots but the hands."""
    return domain(slug).shift is None and domain(slug).robot not in HELD


def _entry(candidate: Candidate) -> dict[str, Any]:
    return {"file": str(candidate.path.resolve()), "updates": candidate.updates}


def load_graded(folder: Path) -> dict[str, dict[str, Any]]:
    """Read every graded domain of a folder, by slug."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}

"""Grade trained policies: choose expert, medium and ladder, and measure them on fresh episodes.

    candidates   every snapshot, with what it earned when it was saved: the mean of a few
                 deterministic episodes
    expert       of the 4 best candidates the one whose finished policy (finishing.py) earns most
                 over 20 stochastic episodes, as it acts in data
    medium       of the candidates nearest to the goal the first whose set of 5,000 transitions can
                 be expected to earn it to within 4 % of the way from random to expert, else the
                 nearest; a wide spread of returns is as far off as another mean. The goal is what
                 the field's medium set of this very domain earns where there is one
                 (medium_goals.toml), else half the way from random to expert. One that only stands
                 where surviving pays has to do where none that moves is near enough. A shift's
                 training that began with the robot's own expert may never have been medium: where
                 it has none to within 4 %, snapshots of the robot's own training compete, by what
                 they earn in this domain. Where a ladder is wanted, trainings with one go first
    ladder       for the robots and their kinematic and morph shifts: 8 snapshots of the medium's
                 own training, at even steps of updates up to the medium's, none of which earns
                 more than the medium; with the noise of training
    measurement  100 fresh episodes (seeds 900,000 on), 400 for hands, whose returns have heavy
                 tails; deterministic and stochastic; 20 for rungs

No measurement seed takes part in the selection, so the reported numbers are not selected upwards.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from shiftgym.basics.errors import ShiftgymError
from shiftgym.datasets.names import TARGET_SIZE
from shiftgym.evaluation import HELD, evaluate, policy_act, random_act
from shiftgym.making import domain
from shiftgym.policies import POLICIES, Policy, index, read_policy
from shiftgym.scores import reference
from shiftgym_agents.training.artifacts import read_json, write_arrays, write_json
from shiftgym_tools.behaviours.finishing import finish

GOALS = Path(__file__).with_name("medium_goals.toml")
SELECTION_SEED, SELECTION_EPISODES = 500_000, 20
MEASUREMENT_SEED, MEASUREMENT_EPISODES, HAND_EPISODES = 900_000, 100, 400
NOISE_SEED = 7
LADDER, RUNG_EPISODES, EXPERTS, MEDIUMS, NEAR = 8, 20, 4, 10, 0.04
BORROWED, BORROWED_EPISODES = 16, 4  # snapshots of the robot's own training, tried in a shift
LADDERS = (None, "kinematic", "morph")  # shifts whose domains have a ladder
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
        return moves(slug, self.deterministic, self.length)

    @property
    def run(self) -> Path:
        """Give the run folder it comes from."""
        return self.path.parent.parent


def moves(slug: str, earned: float, length: float) -> bool:
    """Say whether episodes of some length earn more than what standing upright is paid."""
    return domain(slug).robot not in PAID_TO_STAND or earned / length > STANDING


def measured_episodes(slug: str) -> int:
    """Give the number of episodes behind a domain's recorded measurements."""
    return HAND_EPISODES if domain(slug).robot in HELD else MEASUREMENT_EPISODES


def measure(policy: Policy, slug: str, episodes: int) -> dict[str, Any]:
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


@cache
def medium_goals() -> dict[str, dict[str, float]]:
    """Read what the field's medium sets earn: by table of references, domain to score."""
    return tomllib.loads(GOALS.read_text())


def medium_goal(slug: str, random: float, expert: float) -> float:
    """Give the return that a domain's medium data should have.

    Args:
        slug: the domain.
        random: what random actions earn in it.
        expert: what its expert earns, as it acts in data.
    """
    for table, scores in medium_goals().items():
        if slug in scores:
            published = reference(slug, table)
            return published.random + scores[slug] / 100 * (published.expert - published.random)
    return random + (expert - random) / 2


def grade_domain(
    slug: str, candidates: Sequence[Candidate], out: Path, robots: Sequence[Candidate] = ()
) -> dict[str, Any]:
    """Choose, finish and measure a domain's policies.

    Args:
        slug: the domain.
        candidates: its snapshots.
        out: folder for the finished policies.
        robots: snapshots of the unshifted robot, among which a medium is looked for where the
            domain's own training has none.

    Returns:
        The random policy's return, and per tier the file, its updates and its measurement.
    """
    episodes = measured_episodes(slug)
    random = evaluate(random_act(slug), slug, episodes, MEASUREMENT_SEED).summary()
    floor = random["return"]
    best = sorted(candidates, key=lambda candidate: -candidate.deterministic)[:EXPERTS]
    tried = [(candidate, *_tried(candidate, slug)) for candidate in best]
    expert, policy, *_ = max(tried, key=lambda one: one[2])
    measured = measure(policy, slug, episodes)
    tiers = {"expert": _entry(expert, policy, out / f"{slug}-expert.safetensors") | measured}
    earned = measured["stochastic"]["return"]
    goal, width = medium_goal(slug, floor, earned), earned - floor
    found = find_medium(candidates, robots, slug, goal, width)
    if found is not None:
        medium, policy, _ = found
        entry = _entry(medium, policy, out / f"{slug}-medium.safetensors")
        tiers["medium"] = entry | measure(policy, slug, episodes)
        if has_ladder(slug):
            ceiling = tiers["medium"]["stochastic"]["return"]
            tiers |= _ladder(slug, candidates, medium, ceiling, out)
    return {"domain": slug, "random": random, "tiers": tiers}


def _ladder(
    slug: str, candidates: Sequence[Candidate], medium: Candidate, ceiling: float, out: Path
) -> dict[str, Any]:
    """Choose and measure the rungs; what turns out above the medium is none, and makes way."""
    measured: dict[Candidate, tuple[Policy, dict[str, Any]]] = {}
    left = list(candidates)
    while True:
        try:
            rungs = choose_ladder(left, medium, ceiling)
        except ShiftgymError as error:
            tqdm.write(f"{slug} has no ladder, and so no medium-replay: {error}")
            return {}
        for rung in rungs:
            if rung not in measured:
                policy = finish(read_policy(rung.path), slug, quiet=False)
                measured[rung] = policy, measure(policy, slug, RUNG_EPISODES)
        above = [rung for rung in rungs if measured[rung][1]["stochastic"]["return"] > ceiling]
        if not above:
            break
        left = [candidate for candidate in left if candidate not in above]
    tiers: dict[str, Any] = {}
    for k, rung in enumerate(rungs):
        policy, found = measured[rung]
        entry = _entry(rung, policy, out / f"{slug}-ladder-{k}.safetensors")
        tiers[f"ladder-{k}"] = entry | found
    return tiers


def find_medium(
    candidates: Sequence[Candidate],
    robots: Sequence[Candidate],
    slug: str,
    goal: float,
    width: float,
) -> tuple[Candidate, Policy, float] | None:
    """Choose a medium: of a training that has a ladder where one is wanted, or a borrowed one."""
    climbed = [
        c for c in candidates
        if from_nothing(c.run) and len(before(c, candidates)) >= LADDER
    ]  # fmt: skip
    found = choose_medium(climbed, slug, goal, width) if has_ladder(slug) else None
    found = found or choose_medium(candidates, slug, goal, width)
    if robots and (found is None or found[2] > NEAR * width):
        others = choose_medium(borrowed(robots, slug), slug, goal, width)
        found = min(filter(None, (found, others)), key=lambda one: one[2], default=None)
    return found


def choose_medium(
    candidates: Sequence[Candidate], slug: str, goal: float, width: float
) -> tuple[Candidate, Policy, float] | None:
    """Choose the snapshot whose finished policy earns nearest to the goal; None if none is near.

    The third of what is given is how far off its set is to be expected, root mean square.

    Args:
        candidates: the domain's snapshots.
        slug: the domain.
        goal: the return that its data should have.
        width: what the expert earns more than random actions.
    """
    moving = [candidate for candidate in candidates if candidate.moves(slug)]
    for pool in filter(None, (moving, candidates)):
        near = sorted(pool, key=lambda candidate: abs(candidate.deterministic - goal))[:MEDIUMS]
        best: tuple[float, Candidate, Policy] | None = None
        for candidate in near:
            policy, earned, spread = _tried(candidate, slug)
            off = math.hypot(earned - goal, spread)
            if best is None or off < best[0]:
                best = off, candidate, policy
            if best[0] <= NEAR * width:
                break
        if best is not None and best[0] <= width / 4:
            return *best[1:], best[0]
    return None


def borrowed(robots: Sequence[Candidate], slug: str) -> list[Candidate]:
    """Try snapshots of the robot's own training, evenly spread by return, in a shifted domain."""
    ranked = sorted(robots, key=lambda candidate: candidate.deterministic)
    places = np.linspace(0, len(ranked) - 1, min(BORROWED, len(ranked)))
    tried = []
    for candidate in [ranked[round(place)] for place in places]:
        act = policy_act(read_policy(candidate.path))
        run = evaluate(act, slug, BORROWED_EPISODES, SELECTION_SEED)
        earned, length = float(run.returns.mean()), float(run.lengths.mean())
        tried.append(replace(candidate, deterministic=earned, length=length))
    return tried


def choose_ladder(
    candidates: Sequence[Candidate], medium: Candidate, ceiling: float
) -> list[Candidate]:
    """Choose 8 snapshots of the medium's training before it, at even steps of updates.

    Args:
        candidates: the domain's snapshots.
        medium: the one that is the medium.
        ceiling: what it earns; none that earned more is a rung.

    Raises:
        ShiftgymError: fewer candidates than rungs.
    """
    own = [c for c in before(medium, candidates) if c.deterministic <= ceiling]
    own = sorted(own, key=lambda c: c.updates)
    if len(own) < LADDER:
        raise ShiftgymError(
            f"A ladder needs {LADDER} snapshots before the medium, {medium.run} has {len(own)}: "
            "train with a smaller --evaluate-every."
        )
    return [own[round(i)] for i in np.linspace(0, len(own) - 1, LADDER)]


def before(medium: Candidate, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Give the snapshots of a candidate's training that came before it and earned no more."""
    return [
        c for c in candidates
        if c.run == medium.run and c.updates < medium.updates
        if c.deterministic <= medium.deterministic
    ]  # fmt: skip


def from_nothing(run: Path) -> bool:
    """Say whether a training began with random weights, as a ladder from random has to."""
    told = run / "config.json"
    return told.exists() and read_json(told)["config"].get("warm_start") is None


def grade(
    runs: tuple[Path, ...],
    out: Path = Path("runs/behaviours/graded"),
    domains: tuple[str, ...] = (),
    packaged: bool = False,
) -> None:
    """Choose expert, medium and ladder policies of trained domains, finish and measure them.

    Every domain's result is written to <out>/<domain>.json as it comes, its policies beside it; a
    domain that is there already is not graded again.

    Example: shiftgym policies grade --runs runs/behaviours/hopper runs/behaviours/ant

    Args:
        runs: Folders of `shiftgym policies train`.
        out: Folder for the results.
        domains: Only these; all that the runs trained by default.
        packaged: Let the packaged policies of these domains compete, too.
    """
    out.mkdir(parents=True, exist_ok=True)
    found = by_domain(runs)
    if packaged:
        for slug, candidates in found.items():
            candidates += packaged_candidates(slug)
    wanted = sorted(domains or found)
    for slug in tqdm(wanted, unit="domain", disable=None):
        target = out / f"{slug}.json"
        if target.exists():
            continue
        if slug not in found:
            raise ShiftgymError(f"No snapshots of {slug} in these runs.")
        of = domain(slug)
        robots = found.get(of.robot, []) if of.shift else []
        result = grade_domain(slug, found[slug], out, robots)
        write_json(target, result)
        told = ", ".join(
            f"{tier} {entry['stochastic']['return']:.0f}" for tier, entry in result["tiers"].items()
        )
        tqdm.write(f"{slug}: {told}")
    print(f"Graded policies in {out}. Next: shiftgym policies package --graded {out}")


def by_domain(runs: Iterable[Path]) -> dict[str, list[Candidate]]:
    """Find the snapshots in run folders, by domain."""
    found: dict[str, list[Candidate]] = {}
    for run in runs:
        for path in sorted((run / "snapshots").glob("*.safetensors")):
            told = read_policy(path).metadata
            if told["train_return"] != "nan":  # the untrained one at step 0
                found.setdefault(told["domain"], []).append(_candidate(path))
    if not found:
        raise ShiftgymError(f"No snapshots in {', '.join(map(str, runs))}.")
    return found


def packaged_candidates(slug: str) -> list[Candidate]:
    """Give a domain's packaged policies as candidates; rungs of ladders are none."""
    names = [
        f"{slug}/{tier}" for tier in ("expert", "best", "medium") if f"{slug}/{tier}" in index()
    ]
    return [_candidate(POLICIES / index()[name]["file"]) for name in names]


def _candidate(path: Path) -> Candidate:
    told = read_policy(path).metadata
    earned, length = float(told["return_mean"]), float(told.get("length", 1000))
    return Candidate(path, int(told["updates"]), earned, length)


def has_ladder(slug: str) -> bool:
    """Say whether a domain keeps a ladder for medium-replay."""
    of = domain(slug)
    return of.robot not in HELD and of.shift in LADDERS


def _tried(candidate: Candidate, slug: str) -> tuple[Policy, float, float]:
    """Finish a candidate and measure it on the selection's episodes, as it acts in data.

    Returns:
        The policy, its mean return, and the standard error that this has in a target set.
    """
    policy = finish(read_policy(candidate.path), slug)
    run = evaluate(policy_act(policy, NOISE_SEED), slug, SELECTION_EPISODES, SELECTION_SEED)
    episodes = max(1.0, TARGET_SIZE / float(run.lengths.mean()))
    return policy, float(run.returns.mean()), float(run.returns.std()) / math.sqrt(episodes)


def _entry(candidate: Candidate, policy: Policy, path: Path) -> dict[str, Any]:
    """Write a finished policy and say where it is and how long it was trained."""
    write_arrays(path, policy.arrays, policy.metadata)
    return {"file": path.name, "updates": candidate.updates, "run": candidate.run.name}


def load_graded(folder: Path) -> dict[str, dict[str, Any]]:
    """Read every graded domain of a folder, by slug."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}

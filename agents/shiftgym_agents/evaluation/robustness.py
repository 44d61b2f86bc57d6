"""Measure what a run directory's policies earn under perturbation, and keep every episode.

    runs/x/
      robustness.csv     one row per run, level and episode
      robustness.json    what was asked for, each level's domains, means with 95 % intervals
      robustness-*.png   one picture per suite (see `robustness_pictures`)

Clean and perturbed episodes of a run start from the same reset seeds, and all levels are stepped
side by side. A score is the run's own: the references of its training, whatever the level.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from shiftgym.basics.errors import ShiftgymError
from shiftgym.domains import Domain, episode_steps
from shiftgym_agents.core.policy import Policy
from shiftgym_agents.data.places import Place, robot_of
from shiftgym_agents.evaluation.attack import MinQAttack
from shiftgym_agents.evaluation.perturb import NOISE, OBSERVED, UNPERTURBED, Level
from shiftgym_agents.evaluation.rollouts import roll_out, rows_that_fit
from shiftgym_agents.training.artifacts import read_checkpoint, write_text
from shiftgym_agents.training.evaluator import SPACING, Returns
from shiftgym_agents.training.records import domain_of, read_about, reference_of

KEYS = ("method", "source", "target", "run", "seed")


@dataclass(frozen=True)
class Subject:
    """Hold the policies of a run directory.

    Attributes:
        out: the run directory.
        method: its method.
        updates: how many the checkpoint has had.
        runs: what `config.json` says of each run.
        domains: where each was trained to act.
        policy: the policies.
    """

    out: Path
    method: str
    updates: int
    runs: list[dict[str, Any]]
    domains: list[Place]
    policy: Policy

    @property
    def robot(self) -> str:
        """Give the robot of all runs.

        Raises:
            ShiftgymError: It is none of shiftgym's.
        """
        robot = robot_of(self.domains[0])
        if robot is None:
            raise ShiftgymError(
                f"{self.out}: perturbations edit the models of shiftgym's robots; evaluate "
                "policies for others in variants of their own environment, with --env."
            )
        return robot

    @property
    def own(self) -> list[Domain]:
        """Give the domains of shiftgym's that runs were trained to act in; as for `robot`."""
        assert self.robot
        return [where for where in self.domains if isinstance(where, Domain)]

    def score(self, run: int, returns: np.ndarray) -> np.ndarray:
        """Normalise returns of a run; NaN where it has no reference."""
        worth = reference_of(self.runs[run], self.out)
        return returns * np.nan if worth is None else np.vectorize(worth.score)(returns)


def read_subject(out: Path) -> Subject:
    """Read the last checkpoint's policies.

    Raises:
        ShiftgymError: This is no run directory, or one without a checkpoint yet.
    """
    about, found = read_about(out), read_checkpoint(out)
    if found is None:
        raise ShiftgymError(f"{out} holds no checkpoint yet: let it train on.")
    domains = [domain_of(entry, out) for entry in about["runs"]]
    if len({robot_of(domain) for domain in domains}) > 1:
        raise ShiftgymError(f"{out / 'config.json'} is damaged: runs are of several robots.")
    policy = Policy.from_arrays(found[0])
    if len(policy.shift) != len(domains):
        raise ShiftgymError(f"{out} is damaged: config.json and the checkpoint tell of other runs.")
    return Subject(out, about["method"], found[1]["count"], about["runs"], domains, policy)


@dataclass(frozen=True)
class Measured:
    """Hold what every episode earned.

    Attributes:
        subject: whose episodes.
        levels: where, the first of them unperturbed.
        starts: reset seeds `(R, E)`.
        returns: sums of rewards `(R, L, E)`; NaN where a run had diverged.
        scores: normalised `(R, L, E)`.
        lengths: environment steps `(R, L, E)`.
    """

    subject: Subject
    levels: list[Level]
    starts: np.ndarray
    returns: np.ndarray
    scores: np.ndarray
    lengths: np.ndarray

    def rows(self) -> list[dict[str, Any]]:
        """List every episode, as `robustness.csv` does."""
        found: list[dict[str, Any]] = []
        for run, level, episode in np.ndindex(*self.returns.shape):
            entry, where = self.subject.runs[run], self.levels[level]
            about = {"method": self.subject.method, "run": run} | entry
            row = {key: about[key] for key in KEYS}
            row |= {"suite": where.suite, "level": where.name, "strength": where.strength}
            row |= {"domain": where.domain(self.subject.own[run]).slug, "episode": episode}
            place = run, level, episode
            row |= {"start": int(self.starts[run, episode])}
            row |= {"return": float(self.returns[place]), "score": float(self.scores[place])}
            if entry["reference"] is None:
                row["score"] = ""
            found.append(row | {"length": int(self.lengths[place])})
        return found

    def write_csv(self, path: Path) -> None:
        """Write every episode with all digits."""
        rows, text = self.rows(), io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        write_text(path, text.getvalue())


def plan_passes(levels: Sequence[Level], rows: int) -> list[list[Level]]:
    """Split levels among as few passes as memory allows, `rows` sub-environments for each level."""
    at_once = max(1, rows_that_fit() // rows)
    return [list(levels[i : i + at_once]) for i in range(0, len(levels), at_once)]


def measure(
    subject: Subject,
    levels: Sequence[Level],
    episodes: int,
    seed: int,
    attack: MinQAttack | None = None,
) -> Measured:
    """Evaluate every run of a subject unperturbed and at all levels.

    Args:
        subject: The policies.
        levels: Perturbations; the clean level is added before them.
        episodes: Per run and level.
        seed: Episode starts are drawn from this seed on, as `shiftgym eval` draws them.
        attack: What finds other observations; needed where a level is of `min-q` or `noise`.

    Raises:
        ShiftgymError: There is a level of the attack, and no attack.
    """
    everything = [UNPERTURBED, *levels]
    firsts = [SPACING * (1 + seed + entry["seed"]) for entry in subject.runs]
    starts = np.array(firsts)[:, None] + np.arange(episodes)
    passes, limit = plan_passes(everything, starts.size), episode_steps(subject.robot)
    found: list[Returns] = []
    with tqdm(total=limit * len(passes), desc=str(subject.out), unit="step", disable=None) as bar:
        for some in passes:
            places = [[level.domain(own) for level in some] for own in subject.own]
            perceive = _perceive(some, attack)
            found.append(roll_out(subject.policy, places, starts, perceive, bar.update))
            bar.update(limit * len(found) - bar.n)
    returns = np.concatenate([part.returns for part in found], 1)
    lengths = np.concatenate([part.lengths for part in found], 1)
    scores = np.stack([subject.score(run, own) for run, own in enumerate(returns)])
    return Measured(subject, everything, starts, returns, scores, lengths)


def _perceive(levels: Sequence[Level], attack: MinQAttack | None) -> Any:
    """Give what changes the observations of attacked levels; None where there are none."""
    places = [k for k, level in enumerate(levels) if level.suite in OBSERVED]
    if not places:
        return None
    if attack is None:
        raise ShiftgymError(f"Levels of {' and '.join(OBSERVED)} need an attack.")
    scales = [float(levels[k].strength or 0.0) for k in places]
    noise = [levels[k].suite == NOISE for k in places]
    attack.restart()

    def perceive(obs: np.ndarray, alive: np.ndarray) -> np.ndarray:
        seen = obs.copy()
        seen[:, places] += attack.offsets(obs[:, places], scales, alive[:, places], noise)
        return seen

    return perceive

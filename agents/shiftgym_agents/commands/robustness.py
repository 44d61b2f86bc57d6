"""Evaluate under perturbation: what ``shiftgym eval --perturb`` does."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from shiftgym.basics.errors import DomainError, ShiftgymError
from shiftgym.basics.ranges import Amount, Size, check_ranges
from shiftgym_agents.commands.members import finish, gather
from shiftgym_agents.evaluation.attack import CANDIDATES, MinQAttack
from shiftgym_agents.evaluation.perturb import ATTACK, NOISE, OBSERVED, SCALES, Level, suite_levels
from shiftgym_agents.evaluation.robustness import Measured, Subject, measure, read_subject
from shiftgym_agents.reports.robustness import as_json, curves, notes, overall, table
from shiftgym_agents.reports.robustness_pictures import draw
from shiftgym_agents.training.artifacts import write_json
from shiftgym_agents.training.restore import restore_agent
from shiftgym_agents.training.running import pick_device


@dataclass(frozen=True)
class PerturbOptions:
    """Choose perturbations."""

    perturb: str = ""
    """Suites, separated by commas: kinematic, morph, friction, gravity, min-q, noise; a family of
    the robot, such as kinematic-legjnt; or a TOML file of domains of your own."""
    scales: tuple[Amount, ...] = SCALES
    """Levels of min-q and noise: half widths of the box around an observation, in the target data's
    standard deviations."""
    candidates: Size = CANDIDATES
    """Observations in that box that min-q tries at every step."""
    attack_at: Literal["clean", "perturbed"] = "clean"
    """Observation at which min-q asks the critics what an action is worth."""
    device: str = "auto"
    """Where min-q's networks run: auto, cpu or cuda; episodes are simulated on the CPU."""
    out: Path | None = None
    """Where the picture that compares several run directories goes; robustness.png in the first of
    them by default."""

    def __post_init__(self) -> None:
        """Refuse numbers outside the ranges of their fields."""
        check_ranges(self)


def evaluate_perturbed(
    runs: Sequence[Path], options: PerturbOptions, episodes: int, seed: int, json_: bool
) -> None:
    """Evaluate run directories at every level of some suites; write tables and pictures.

    Raises:
        ShiftgymError: Wrong options, or a directory or method that cannot be evaluated so; nothing
            has been simulated.
    """
    suites, left_out = _suites(options), []
    opened = gather(runs, lambda out: _open(out, suites, options), left_out)
    subjects, levels, attacks = map(list, zip(*(each for _, each in opened), strict=True))
    if len({tuple((level.suite, level.name) for level in each) for each in levels}) > 1:
        raise ShiftgymError("The suites have other levels for other robots: evaluate them apart.")
    picture = options.out or subjects[0].out / "robustness.png"
    _check_places(subjects, picture)
    shown = list(dict.fromkeys(level.suite for level in levels[0]))
    measured: list[Measured] = []
    for subject, own, attack in zip(subjects, levels, attacks, strict=True):
        measured.append(measure(subject, own, episodes, seed, attack))
        _write(measured[-1], shown, seed, options)
    parts = curves(measured)
    if len(subjects) > 1:
        draw(parts, shown, picture)
    if json_:
        found = {"runs": [as_json(each, curves([each])) for each in measured]}
        methods = [{"method": c.name, "pairs": c.pair, "levels": c.summary} for c in overall(parts)]
        print(json.dumps(found | {"methods": methods}, indent=1))
        finish(left_out)
        return
    for subject in subjects:
        print(
            f"{subject.out}: {subject.method} after {subject.updates:,} updates, "
            f"{len(subject.runs)} runs x {episodes} episodes per level"
        )
    print("\n".join(["", table(parts), *notes(parts), ""]))
    for subject in subjects:
        print(f"Wrote {subject.out}/robustness.csv, .json and -{{{','.join(shown)}}}.png")
    if len(subjects) > 1:
        print(f"Wrote {picture}, which compares them")
    else:
        print(f"Next: shiftgym eval {subjects[0].out} OTHER_RUN --perturb {options.perturb}")
    finish(left_out)


def _open(
    out: Path, suites: Sequence[str], options: PerturbOptions
) -> tuple[Subject, list[Level], MinQAttack | None]:
    """Read a run directory's policies and find their levels and, where asked for, their attack."""
    subject = read_subject(out)
    levels = _levels(subject, suites, options)
    asked = {*OBSERVED} & {*suites}
    return subject, levels, _attack(subject, options, asked == {NOISE}) if asked else None


def _suites(options: PerturbOptions) -> list[str]:
    """Check the options; list the suites asked for."""
    if not options.scales:
        raise ShiftgymError("--scales needs at least one number.")
    names = [name.strip() for name in options.perturb.split(",")]
    return list(dict.fromkeys(name for name in names if name))


def _levels(subject: Subject, suites: Sequence[str], options: PerturbOptions) -> list[Level]:
    """List the levels of all suites, and check that they go with the policies' domains."""
    scales = sorted(set(options.scales))
    found = [level for name in suites for level in suite_levels(name, subject.robot, scales)]
    try:
        for level in found:
            for own in subject.own:
                level.domain(own)
    except DomainError as error:
        raise DomainError(f"{subject.out}: {error}") from None
    return found


def _check_places(subjects: Sequence[Subject], picture: Path) -> None:
    """Refuse places that cannot be written before anything is simulated."""
    if picture.suffix not in (".png", ".pdf", ".svg"):
        raise ShiftgymError(f"--out {picture}: pictures end in .png, .pdf or .svg.")
    for folder in (*(subject.out for subject in subjects), picture.parent):
        if not os.access(folder, os.W_OK):
            raise ShiftgymError(f"Cannot write to {folder}: make it, or get permission.")


def _attack(subject: Subject, options: PerturbOptions, blind: bool) -> MinQAttack:
    """Rebuild a run directory's agent and attack it with its own critics, or only with noise."""
    seeds = [entry["seed"] for entry in subject.runs]
    try:
        agent = restore_agent(subject.out, pick_device(options.device))
        return MinQAttack(agent, seeds, options.candidates, options.attack_at, blind=blind)
    except ShiftgymError as error:
        raise ShiftgymError(
            f"{subject.out}: {error}\nWithout {ATTACK} in --perturb it can be evaluated."
        ) from None


def _write(measured: Measured, suites: Sequence[str], seed: int, options: PerturbOptions) -> None:
    """Write a run directory's own tables and pictures."""
    out, parts = measured.subject.out, curves([measured])
    measured.write_csv(out / "robustness.csv")
    about: dict[str, Any] = {"seed": seed}
    if ATTACK in suites:
        about |= {"candidates": options.candidates, "attack_at": options.attack_at}
    write_json(out / "robustness.json", as_json(measured, parts) | {"options": about})
    for suite in suites:
        draw(parts, [suite], out / f"robustness-{suite}.png")

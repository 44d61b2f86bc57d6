"""Say which data a training is of: what the command line, a diagnosis and a grid ask for alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shiftgym.basics.errors import DomainError
from shiftgym.basics.ranges import CountOrNone, Number, SomeShare, check_ranges
from shiftgym.reading.anywhere import own_name
from shiftgym_agents.data.opening import TARGETS, Wanted, open_wanted
from shiftgym_agents.data.pairs import TrainingPair
from shiftgym_agents.data.places import place
from shiftgym_agents.data.sources import Arrays
from shiftgym_agents.methods.table import method


@dataclass(frozen=True)
class DataOptions:
    """Choose the datasets, the score, and where policies are evaluated."""

    target: str
    """Dataset of the domain that policies are for: hopper-kinematic/medium; or, of any robot, a
    Minari id (hf://ORGANISATION/ID fetches it), an HDF5 or npz file."""
    source: tuple[str, ...] = ()
    """Dataset of another domain of the same robot, hopper/medium; several make one union, whose
    kept shares are logged per source."""
    source_shares: tuple[SomeShare, ...] = ()
    """Part of each source that is kept, in whole trajectories; everything by default."""
    reference: str | None = None
    """Table of reference returns for scores: shiftgym, otdf, odrl or d4rl; by default that of the
    target's origin, shiftgym for this package's own sets."""
    reference_returns: tuple[Number, Number] | None = None
    """Returns that count as 0 and as 100, random and expert, where no table has them; without,
    returns are reported as returns."""
    eval_env: str | None = None
    """Where policies are evaluated: a Gymnasium id, module:Id-v0 or FILE.py:Id-v0, or none, which
    reports losses and diagnostics of the data alone; by default the target's own domain."""
    eval_steps: CountOrNone = 0
    """Cut episodes of --eval-env after so many steps; 0 for its own limit."""
    action_low: tuple[Number, ...] = ()
    """Lowest actions; by default those of where policies are evaluated, or of the data."""
    action_high: tuple[Number, ...] = ()
    """Highest actions; see --action-low."""
    terminal: str | None = None
    """FILE.py:FUNCTION or MODULE:FUNCTION that says which states (N, O) end an episode, (N,) bool;
    mobody and droco ask for it where the robot is none of shiftgym's."""

    def __post_init__(self) -> None:
        """Refuse numbers outside the ranges of their fields."""
        check_ranges(self)


def open_pair(
    name: str,
    chosen: DataOptions,
    tell: Callable[[str], None] = print,
    shared: dict[str, Arrays] | None = None,
) -> TrainingPair:
    """Load the datasets of a pair; methods for the target alone need no source.

    Args:
        name: The method.
        chosen: Which datasets.
        tell: Takes a sentence on what reading changed.
        shared: Sets by name that other pairs have read; see `open_wanted`.

    Raises:
        ShiftgymError: A dataset is not here (the message has the command that gets or makes it) or
            cannot be learned from, nobody knows where to evaluate, or the two are of different
            robots.
    """
    if method(name).uses_source and not chosen.source:
        known = own_name(chosen.target)
        example = "FILE.hdf5" if known is None else f"{known.domain.robot}/medium"
        raise DomainError(f"{name} needs a source: add --source {example}.")
    if bool(chosen.action_low) != bool(chosen.action_high):
        raise DomainError("Give both --action-low and --action-high, or none of them.")
    if chosen.reference and chosen.reference_returns:
        raise DomainError("Give --reference or --reference-returns, not both.")
    where = TARGETS if chosen.eval_env is None else place(chosen.eval_env, chosen.eval_steps)
    wanted = Wanted(
        target=chosen.target,
        sources=chosen.source,
        shares=chosen.source_shares,
        where=where,
        worth=chosen.reference_returns or chosen.reference,
        bounds=(chosen.action_low, chosen.action_high) if chosen.action_low else None,
        terminal=chosen.terminal,
    )
    return open_wanted(wanted, tell, shared)

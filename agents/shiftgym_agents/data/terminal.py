"""Say which states end an episode, for methods that make transitions of their own.

The rule is the one given with the pair, else that of the place's robot, else nobody knows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from shiftgym.basics.errors import ShiftgymError
from shiftgym.envs.tasks import TASKS
from shiftgym_agents.data.pairs import Terminal, TrainingPair, terminal_of
from shiftgym_agents.data.places import robot_of

Rule = Callable[[Tensor], Tensor]
"""Says which raw states `(N, O)` are terminal, `(N,)` bool."""


def rule_of(pair: TrainingPair) -> Rule | None:
    """Give the rule of a pair; None where there is none.

    Raises:
        ShiftgymError: the function that was named cannot be loaded.
    """
    given, robot = terminal_of(pair), robot_of(pair.domain)
    if given is not None:
        return _of_numpy(given)
    return None if robot is None else TASKS[robot].terminal


def require_rules(rules: Sequence[Rule | None], why: str, instead: str) -> list[Rule]:
    """Give rules that are all known.

    Args:
        rules: one per run.
        why: who asks, and what for.
        instead: the option that does without.

    Raises:
        ShiftgymError: one is missing; the message says how to give it.
    """
    found = [rule for rule in rules if rule is not None]
    if len(found) < len(rules):
        raise ShiftgymError(
            f"{why} and must know which states end an episode: add --terminal FILE.py:FUNCTION, a "
            f"function of states (N, O) that gives (N,) bool, or {instead} where none does."
        )
    return found


def ended(rules: Sequence[Rule], states: Tensor) -> Tensor:
    """Ask every run's rule about its raw states `(R, N, O)`; one rule of all runs is asked once.

    Returns:
        `(R, N)` bool.
    """
    if all(rule == rules[0] for rule in rules):
        return rules[0](states.flatten(0, 1)).view(states.shape[:2])
    return torch.stack([rule(own) for rule, own in zip(rules, states, strict=True)])


def _of_numpy(given: Terminal) -> Rule:
    def rule(states: Tensor) -> Tensor:
        """Ask the user's function, which knows of no tensors and stands in no graph."""
        if states.is_cuda and torch.cuda.is_current_stream_capturing():
            raise ShiftgymError(
                "Your function of terminal states is asked in every update, which then is no CUDA "
                "graph: add --backend eager, or train with --device cpu."
            )
        flat = states.detach().cpu().numpy()
        found = np.asarray(given(flat))
        if found.shape != (len(flat),) or found.dtype.kind not in "bui":
            raise ShiftgymError(
                f"The function that says which states end an episode was given {flat.shape} and "
                f"gave {found.dtype} {found.shape}: give one truth value for each, ({len(flat)},)."
            )
        return torch.from_numpy(found.astype(bool)).to(states.device)

    return rule

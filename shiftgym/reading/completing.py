"""Complete what users have, arrays or episodes under any usual names, to flat arrays.

    given                                            flat (see shiftgym/datasets/flat.py)
    rows with next observations                      as they are; where a row does not lead to the
                                                     next one, an episode is cut
    rows without, and truncated (or timeouts)        the next row's observation; the last row of a
                                                     trajectory without a known one is dropped
    episodes of T + 1 observations and T actions     one after the other

Observations and actions may have any length. What was changed on the way is said in notes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shiftgym.basics.errors import ShiftgymError
from shiftgym.datasets.flat import FIELDS, Flat, breaks, check_flat, concatenate

ALIASES = {  # what arrays are called here -> what others call them
    "observations": ("observations", "obs", "states"),
    "actions": ("actions", "acts"),
    "rewards": ("rewards", "reward"),
    "next_observations": ("next_observations", "next_obs", "next_states"),
    "terminated": ("terminated", "terminals", "terminations"),
    "truncated": ("truncated", "timeouts", "truncations"),
}
NEEDED = ("observations", "actions", "rewards", "terminated")
WIDE = ("observations", "actions", "next_observations")


@dataclass(frozen=True)
class Reading:
    """Hold a dataset as it was read.

    Attributes:
        flat: the arrays.
        notes: what was changed on the way, a sentence each.
    """

    flat: Flat = field(repr=False)
    notes: tuple[str, ...] = ()


def pick(keys: Iterable[str]) -> dict[str, str]:
    """Find arrays under any of their usual names: ours -> theirs, for those that are there."""
    there = set(keys)
    found = {ours: next((n for n in names if n in there), "") for ours, names in ALIASES.items()}
    return {ours: theirs for ours, theirs in found.items() if theirs}


def complete(arrays: Mapping[str, Any], label: str) -> Reading:
    """Make flat arrays of rows.

    Args:
        arrays: by any of the names in `ALIASES`; anything that numpy makes an array of.
        label: what the dataset is called in messages.

    Raises:
        ShiftgymError: arrays are missing, of odd shape, not finite, or of spaces that continuous
            control does not have; the message says what to do.
    """
    names = pick(arrays)
    if missing := [name for name in NEEDED if name not in names]:
        hint = ""
        if "terminated" in missing and {"dones", "done"} & set(arrays):
            hint = " (dones do not say whether an episode was over or only cut)"
        raise ShiftgymError(
            f"{label} lacks {', '.join(missing)}{hint}; it has {', '.join(arrays) or 'nothing'}."
        )
    given = {ours: _numbers(arrays[theirs], theirs, label) for ours, theirs in names.items()}
    rows = len(given["rewards"])
    if not rows:
        raise ShiftgymError(f"{label} is empty: it has no transitions.")
    found = {ours: _shaped(array, ours, label, rows) for ours, array in given.items()}
    notes: list[str] = []
    if "next_observations" not in found:
        found = _led_on(found, label, notes)
    elif found["next_observations"].shape != found["observations"].shape:
        raise ShiftgymError(
            f"{label}: observations {found['observations'].shape} and next_observations "
            f"{found['next_observations'].shape} differ in shape."
        )
    found.setdefault("truncated", np.zeros(len(found["rewards"]), bool))
    flat = {name: np.ascontiguousarray(found[name]) for name in FIELDS}
    cut = breaks(flat)
    if len(cut):
        flat["truncated"][cut] = True
        notes.append(f"{label}: {len(cut):,} rows do not lead to the next one: cut there")
    flat["truncated"][-1] |= not flat["terminated"][-1]
    flat["truncated"] &= ~flat["terminated"]
    try:
        check_flat(flat)
    except ShiftgymError as error:
        raise ShiftgymError(f"{label}: {error}") from None
    return Reading(flat, tuple(notes))


def join_episodes(episodes: Iterable[Mapping[str, Any]], label: str) -> Reading:
    """Make flat arrays of episodes of T + 1 observations and T actions, rewards and ends.

    Raises:
        ShiftgymError: as for `complete`, or there are no episodes.
    """
    parts: list[Flat] = []
    for number, episode in enumerate(episodes):
        own, names = f"{label}, episode {number}", pick(episode)
        if "observations" not in names or "rewards" not in names:
            raise ShiftgymError(f"{own} lacks observations or rewards; it has {list(episode)}.")
        seen = _numbers(episode[names["observations"]], "observations", own)
        steps = np.size(_numbers(episode[names["rewards"]], "rewards", own))
        if len(seen) != steps + 1 or not steps:
            raise ShiftgymError(
                f"{own} has {len(seen)} observations and {steps} rewards: give T + 1 and T > 0."
            )
        rows = {ours: episode[theirs] for ours, theirs in names.items()}
        parts.append(
            complete(rows | {"observations": seen[:-1], "next_observations": seen[1:]}, own).flat
        )
        widths = [
            parts[k]["observations"].shape[1:] + parts[k]["actions"].shape[1:] for k in (0, -1)
        ]
        if widths[0] != widths[1]:
            raise ShiftgymError(
                f"{own} has other lengths than the first: {widths[1]}, {widths[0]}."
            )
    if not parts:
        raise ShiftgymError(f"{label} holds no episodes.")
    return Reading(concatenate(parts))


def _numbers(value: Any, name: str, label: str) -> np.ndarray:
    """Make an array of numbers of whatever was given."""
    if isinstance(value, Mapping):
        raise ShiftgymError(
            f"{label}: {name} is a dict of {', '.join(map(str, value))}: put its arrays side by "
            "side into one array (N, O)."
        )
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:  # ragged, or on a GPU
        raise ShiftgymError(f"{label}: {name} is no array of numbers: {error}.") from None
    if array.dtype.kind not in "fiub":
        raise ShiftgymError(f"{label}: {name} must be numbers, got {array.dtype}.")
    if not array.ndim:
        raise ShiftgymError(f"{label}: {name} must be an array, got one number.")
    if name in ALIASES["actions"] and array.dtype.kind in "iub":
        raise ShiftgymError(
            f"{label}: {name} are whole numbers ({array.dtype}), as of a discrete choice. The "
            "methods choose continuous actions; if these are, store them as floats."
        )
    return array


def _shaped(array: np.ndarray, name: str, label: str, rows: int) -> np.ndarray:
    """Bring one array to its shape and type here: (N, width) float32, (N,) float32 or bool."""
    wide, flag = name in WIDE, name in ("terminated", "truncated")
    if wide and array.ndim > 2:
        raise ShiftgymError(
            f"{label}: {name} have shape {array.shape}, as images have. The methods learn from "
            "vectors: encode or flatten them to (N, O)."
        )
    if not wide and array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if wide and array.ndim == 1:
        array = array[:, None]
    if array.ndim != (2 if wide else 1) or len(array) != rows or not array.size:
        wanted = f"({rows}, length)" if wide else f"({rows},)"
        raise ShiftgymError(f"{label}: {name} must be {wanted}, got {array.shape}.")
    if flag and not np.isin(array, (0, 1)).all():
        raise ShiftgymError(f"{label}: {name} must be 0 or 1 in every row.")
    with np.errstate(over="ignore"):
        return array.astype(bool if flag else np.float32)  # a copy: what is given stays as it is


def _led_on(found: dict[str, np.ndarray], label: str, notes: list[str]) -> dict[str, np.ndarray]:
    """Take the next row's observation where rows have no next one; drop rows that know none."""
    if "truncated" not in found:
        raise ShiftgymError(
            f"{label} has neither next_observations nor truncated (or timeouts), so nobody can "
            "tell where one episode ends and another begins: add one of them."
        )
    seen = found["observations"]
    over = found["terminated"] | found["truncated"]
    over[-1] = True
    after = np.concatenate([seen[1:], seen[-1:]])
    # A terminal state's value is never asked for, so any observation may stand there.
    after[over] = seen[over]
    known = ~over | found["terminated"]
    if not known.any():
        raise ShiftgymError(f"{label}: no row is followed by another of its episode.")
    last = np.flatnonzero(~known)
    found = found | {"next_observations": after, "truncated": found["truncated"].copy()}
    found["truncated"][last[last > 0] - 1] |= ~over[last[last > 0] - 1]
    if len(last):
        notes.append(
            f"{label}: the last rows of {len(last):,} episodes have no next observation: dropped"
        )
    return {name: array[known] for name, array in found.items()}

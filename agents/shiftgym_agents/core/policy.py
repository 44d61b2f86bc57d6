"""Act as trained runs do, with numpy alone: for evaluation beside training, and long after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from shiftgym.basics.errors import ShiftgymError

PREFIX = "policy."


@dataclass(frozen=True)
class Policy:
    """Act for all runs at once: tanh of an MLP's first outputs, spread over the box of actions.

    Attributes:
        layers: `[(W (R, in, out), b (R, 1, out)), ...]`, ReLU between them.
        shift: subtracted from observations, `(R, 1, O)`.
        scale: divides them, `(R, 1, O)`.
        act_size: length of an action.
        center: middle of the box of actions, `(R, 1, A)`; 0 by default.
        half: half its width, likewise; 1 by default.
    """

    layers: list[tuple[np.ndarray, np.ndarray]]
    shift: np.ndarray
    scale: np.ndarray
    act_size: int
    center: np.ndarray = field(default_factory=lambda: np.zeros((1, 1, 1), np.float32))
    half: np.ndarray = field(default_factory=lambda: np.ones((1, 1, 1), np.float32))

    def __post_init__(self) -> None:
        """Give every run a box of its own."""
        shape = len(self.shift), 1, self.act_size
        for name in ("center", "half"):
            object.__setattr__(self, name, np.broadcast_to(getattr(self, name), shape))

    def act(self, obs: np.ndarray) -> np.ndarray:
        """Choose actions `(R, k, A)` at observations `(R, k, O)`; `center` where a run diverged."""
        x = ((obs - self.shift) / self.scale).astype(np.float32)
        last = len(self.layers) - 1
        with np.errstate(all="ignore"):
            for i, (weight, bias) in enumerate(self.layers):
                x = x @ weight + bias
                if i < last:
                    x = np.maximum(x, 0)
        return self.center + self.half * np.nan_to_num(np.tanh(x[..., : self.act_size]))

    def take(self, runs: Sequence[int]) -> Policy:
        """Give the policies of some runs."""
        own = list(runs)
        layers = [(weight[own], bias[own]) for weight, bias in self.layers]
        box = self.center[own], self.half[own]
        return Policy(layers, self.shift[own], self.scale[own], self.act_size, *box)

    def finite(self, run: int) -> bool:
        """Say whether all weights of a run are finite."""
        return all(bool(np.isfinite(part[run]).all()) for layer in self.layers for part in layer)

    def arrays(self) -> dict[str, np.ndarray]:
        """Give everything as named arrays, for a checkpoint."""
        found = {f"{PREFIX}shift": self.shift, f"{PREFIX}scale": self.scale}
        found[f"{PREFIX}act_size"] = np.array([self.act_size])
        found |= {f"{PREFIX}center": self.center, f"{PREFIX}half": self.half}
        for i, (weight, bias) in enumerate(self.layers):
            found |= {f"{PREFIX}W{i}": weight, f"{PREFIX}b{i}": bias}
        return found

    @staticmethod
    def from_arrays(arrays: Mapping[str, np.ndarray]) -> Policy:
        """Read what `arrays` gave, among the arrays of a checkpoint.

        Raises:
            ShiftgymError: There are no policies, or their arrays do not go together.
        """
        own = {k.removeprefix(PREFIX): v for k, v in arrays.items() if k.startswith(PREFIX)}
        count = sum(name.startswith("W") for name in own)
        try:
            layers = [(own[f"W{i}"], own[f"b{i}"]) for i in range(count)]
            box = {name: own[name] for name in ("center", "half") if name in own}  # not in old ones
            size = int(own["act_size"].item())
            found = Policy(layers, own["shift"], own["scale"], size, **box)
            runs, width = len(found.shift), found.shift.shape[-1]
            same = found.shift.shape == found.scale.shape == (runs, 1, width) and count > 0
            for weight, bias in layers:
                same &= weight.shape == (runs, width, bias.shape[-1])
                same &= bias.shape == (runs, 1, weight.shape[-1])
                width = weight.shape[-1]
            if same and 0 < found.act_size <= width:
                return found
        except (KeyError, ValueError, IndexError, TypeError):
            pass
        raise ShiftgymError("The checkpoint holds no policies of a training.")

    def require_fit(self, obs: np.ndarray) -> None:
        """Refuse observations `(..., O)` of another length than these policies learned from.

        Raises:
            ShiftgymError: The message gives both lengths.
        """
        learned, given = self.shift.shape[-1], obs.shape[-1]
        if learned != given:
            raise ShiftgymError(f"Policies for {learned} observed numbers are given {given}.")

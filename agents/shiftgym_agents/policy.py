"""Act as trained runs do, with numpy alone: for evaluation beside training, and long after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

PREFIX = "policy."


@dataclass(frozen=True)
class Policy:
    """Act for all runs at once: tanh of an MLP's first outputs.

    Attributes:
        layers: `[(W (R, in, out), b (R, 1, out)), ...]`, ReLU between them.
        shift: subtracted from observations, `(R, 1, O)`.
        scale: divides them, `(R, 1, O)`.
        act_size: length of an action.
    """

    layers: list[tuple[np.ndarray, np.ndarray]]
    shift: np.ndarray
    scale: np.ndarray
    act_size: int

    def act(self, obs: np.ndarray) -> np.ndarray:
        """Choose actions `(R, k, A)` at observations `(R, k, O)`; zeros where a run diverged."""
        x = ((obs - self.shift) / self.scale).astype(np.float32)
        last = len(self.layers) - 1
        with np.errstate(all="ignore"):
            for i, (weight, bias) in enumerate(self.layers):
                x = x @ weight + bias
                if i < last:
                    x = np.maximum(x, 0)
        return np.nan_to_num(np.tanh(x[..., : self.act_size]))

    def finite(self, run: int) -> bool:
        """Say whether all weights of a run are finite."""
        return all(bool(np.isfinite(part[run]).all()) for layer in self.layers for part in layer)

    def arrays(self) -> dict[str, np.ndarray]:
        """Give everything as named arrays, for a checkpoint."""
        found = {f"{PREFIX}shift": self.shift, f"{PREFIX}scale": self.scale}
        found[f"{PREFIX}act_size"] = np.array([self.act_size])
        for i, (weight, bias) in enumerate(self.layers):
            found |= {f"{PREFIX}W{i}": weight, f"{PREFIX}b{i}": bias}
        return found

    @staticmethod
    def from_arrays(arrays: Mapping[str, np.ndarray]) -> Policy:
        """Read what `arrays` gave, among the arrays of a checkpoint."""
        own = {k.removeprefix(PREFIX): v for k, v in arrays.items() if k.startswith(PREFIX)}
        count = sum(name.startswith("W") for name in own)
        layers = [(own[f"W{i}"], own[f"b{i}"]) for i in range(count)]
        return Policy(layers, own["shift"], own["scale"], int(own["act_size"][0]))

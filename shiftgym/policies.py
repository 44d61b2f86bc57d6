"""Behaviour policies: small files in the package, run with numpy alone.

A file is safetensors. Its arrays are one actor's layers, its metadata says of which kind it is, in
which domain it was trained for how long with which seed, and what it earned there:

    W0 (obs, H)  b0 (H,)  W1 (H, H)  b1 (H,)  W2 (H, out)  b2 (out,)

    kind = sac        h = relu(..);  mean, log_std = split(h @ W2 + b2)
                      deterministic tanh(mean); stochastic tanh(mean + exp(log_std) * normal)
    kind = gaussian   h = tanh(..) of (obs - in_shift) / (in_scale + 1e-8)
                      mean = (h @ W2 + b2) * out_scale + out_shift; log_std is an array (act,)
                      deterministic mean; stochastic mean + exp(log_std) * normal; the
                      environment clips
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from shiftgym.basics import exact
from shiftgym.basics.arrays import Array
from shiftgym.basics.errors import ShiftgymError, nearest
from shiftgym.basics.plain_files import require_plain
from shiftgym.domains import ASSETS, Domain
from shiftgym.making import domain

POLICIES = ASSETS / "policies"
LAYERS = ("W0", "b0", "W1", "b1", "W2", "b2")
GAUSSIAN = ("in_shift", "in_scale", "out_shift", "out_scale", "log_std")
LOG_STD_RANGE = (-20.0, 2.0)


@dataclass(frozen=True)
class Policy:
    """Act as a trained agent does.

    Attributes:
        arrays: the layers, float32.
        metadata: kind, domain, step, seed, returns and versions, all strings.
    """

    arrays: dict[str, Array] = field(repr=False)
    metadata: dict[str, str]

    def act(self, observations: Array, rng: np.random.Generator | None = None) -> Array:
        """Choose actions, the same bits on every processor: see :mod:`shiftgym.basics.exact`.

        Each row's action is a function of that row, and of the noise drawn for it, alone.

        Args:
            observations: (N, obs) or (obs,).
            rng: draws the noise of the stochastic policy; None for the deterministic one.

        Returns:
            Actions float32, (N, act) or (act,).
        """
        a = self.arrays
        x = np.asarray(observations, dtype=np.float64)
        if x.shape[-1] != a["W0"].shape[0]:
            raise ShiftgymError(
                f"This policy of {self.metadata.get('domain')} takes {a['W0'].shape[0]} numbers "
                f"per observation, got {x.shape[-1]}."
            )
        if self.metadata["kind"] == "sac":
            mean, log_std = self.before_tanh(x)
            if rng is not None:
                mean = mean + exact.exp(log_std) * exact.normal(rng, mean.shape)
            return _action(exact.tanh(mean))
        x = (x - a["in_shift"]) / (a["in_scale"] + 1e-8)
        hidden = exact.tanh(self._layer(exact.tanh(self._layer(x, 0)), 1))
        mean = self._layer(hidden, 2) * a["out_scale"] + a["out_shift"]
        if rng is not None:
            spread = exact.exp(a["log_std"].astype(np.float64))
            mean = mean + spread * exact.normal(rng, mean.shape)
        return _action(mean)

    def before_tanh(self, observations: Array) -> tuple[Array, Array]:
        """Give a ``sac`` policy's mean and log deviation before tanh, each (N, act) float64."""
        x = np.asarray(observations, dtype=np.float64)
        for layer in (0, 1):
            x = self._layer(x, layer)
            np.maximum(x, 0, out=x)
        mean, log_std = np.split(self._layer(x, 2), 2, axis=-1)
        return mean, np.clip(log_std, *LOG_STD_RANGE)

    @cached_property
    def _layers(self) -> list[tuple[exact.Weights, Array]]:
        """Give weights and biases as :meth:`_layer` takes them."""
        a = self.arrays
        return [(exact.Weights.of(a[f"W{k}"]), a[f"b{k}"].astype(np.float64)) for k in range(3)]

    def _layer(self, x: Array, layer: int) -> Array:
        weights, bias = self._layers[layer]
        found = exact.product(x, weights)
        found += bias
        return found


def _action(x: Array) -> Array:
    """Round to float32, with one zero only."""
    return (x + 0.0).astype(np.float32)


def read_policy(path: str | Path) -> Policy:
    """Read a policy file; nothing in it is executed.

    Raises:
        ShiftgymError: no such file, or not a policy (the message says what is wrong with it).
    """
    try:
        require_plain(path)
        with safe_open(path, "numpy") as file:
            arrays = {k: np.asarray(file.get_tensor(k), np.float32) for k in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
    except (OSError, SafetensorError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise ShiftgymError(f"Cannot read a policy from {path}: {error}") from None
    needed = LAYERS + (GAUSSIAN if metadata.get("kind") == "gaussian" else ())
    missing = [name for name in needed if name not in arrays]
    if metadata.get("kind") not in ("sac", "gaussian") or missing:
        raise ShiftgymError(
            f"{path} is not a policy: kind {metadata.get('kind')}, lacks {missing}."
        )
    _check_shapes(path, arrays, metadata["kind"])
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ShiftgymError(f"{path} holds numbers that are not finite.")
    return Policy(arrays, metadata)


def _check_shapes(path: str | Path, arrays: dict[str, Array], kind: str) -> None:
    """Check that layers fit together and are floating-point numbers."""
    (inputs, hidden), (_, last), (_, outputs) = (
        arrays[name].shape if arrays[name].ndim == 2 else (0, 0) for name in ("W0", "W1", "W2")
    )
    shapes = {"W0": (inputs, hidden), "b0": (hidden,), "W1": (hidden, last), "b1": (last,),
              "W2": (last, outputs), "b2": (outputs,)}  # fmt: skip
    if kind == "gaussian":
        shapes |= {"in_shift": (inputs,), "in_scale": (inputs,)}
        shapes |= {name: (outputs,) for name in GAUSSIAN[2:]}
    wrong = [
        f"{name} {arrays[name].dtype} {list(arrays[name].shape)}"
        for name, shape in shapes.items()
        if arrays[name].shape != shape or arrays[name].dtype.kind != "f" or 0 in shape
    ]
    if kind == "sac" and outputs % 2:
        wrong.append(f"W2 {list(arrays['W2'].shape)}, which is no mean and deviation per action")
    if wrong:
        raise ShiftgymError(f"{path} is not a policy: its layers do not fit: {', '.join(wrong)}.")


@cache
def index() -> dict[str, dict[str, str]]:
    """List the packaged policies by name, ``hopper-kinematic/expert``, with file and SHA-256."""
    path = POLICIES / "index.json"
    return json.loads(path.read_text()) if path.exists() else {}


@cache
def load_policy(name: str) -> Policy:
    """Load a packaged policy, or a file.

    Args:
        name: ``<domain>/<tier>`` such as ``hopper-kinematic/expert``, or a path that ends in
            ``.safetensors``.

    Raises:
        ShiftgymError: no such policy, or a file that is not what was packaged.
    """
    if name.endswith(".safetensors"):
        return read_policy(name)
    slug, _, tier = name.partition("/")
    known = index()
    full = f"{domain(slug).slug}/{tier}"
    if full not in known:
        raise ShiftgymError(f"No packaged policy {name!r}. {nearest(name, known)}")
    path = POLICIES / known[full]["file"]
    if hashlib.sha256(path.read_bytes()).hexdigest() != known[full]["sha256"]:
        raise ShiftgymError(f"{path.name} is damaged: its checksum differs. Reinstall shiftgym.")
    return read_policy(path)


def top_policy(of: Domain) -> str:
    """Name a domain's best packaged policy: its ``expert``, or its ``best`` where that is below.

    Raises:
        ShiftgymError: none is packaged for this domain.
    """
    for tier in ("expert", "best"):
        if f"{of.slug}/{tier}" in index():
            return f"{of.slug}/{tier}"
    raise ShiftgymError(f"No packaged policy of {of.slug}. {nearest(of.slug, index())}")

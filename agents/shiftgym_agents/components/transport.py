"""Measure how far every source transition is from the target data, by optimal transport.

OTDF (Lyu et al. 2025, ICLR) couples source and target transitions u = (s, a, s') at least cost and
reads each source row's own share of it as its deviation from the target's dynamics:

    C_ij = 1 - cos(u_i, u'_j)                        cost, in [0, 2]; or the Euclidean distance
    mu   = argmin <C, mu> - eps H(mu),  mu 1 = 1/n,  mu' 1 = 1/m,   eps = 0.05 mean(C)
    d_i  = -sum_j C_ij mu_ij / sum_j mu_ij           deviation, in [-max C, 0]; 0 is a target row

POT solves it (`ot.sinkhorn`) with torch tensors on the device that trains, in blocks of source rows
against all target rows.

Stated by the paper: cost, deviation, one coupling of all rows. Read in its released code: blocks of
10,000 consecutive rows, raw units, 100 iterations, eps = 0.05 of the mean of C / max C in units of
max C, which is 0.05 mean(C). Chosen here:

* d_i is the *conditional* cost, the mean cost of where row i goes. The released code keeps
  sum_j C_ij mu_ij, which is 1/n of it, so that the rows of a last, shorter block look many times
  farther away (`mass="block"` does that). A conditional cost depends on its block only through the
  target's potentials and eps, both of which describe the set that the block is a sample of.
* Blocks are samples: block k of b holds rows k, k + b, k + 2b, ... (`blocks="strided"`), because
  consecutive rows of a replay buffer share one policy, and their potentials are that policy's own.
  Then the size of a block changes results by no more than sampling does.
* float32 with the kernel exp(-C/eps), which agrees with the logarithmic domain to 1e-5 and is 20
  times faster; where C/eps spans more than float32 can hold, the logarithmic domain. Each iteration
  ends on the rows, whose marginal is then exact.
* A block of 10,000 rows meets up to 5,000 target rows (200 MB per matrix, five of them at most at a
  time); with more target rows, blocks shrink in proportion.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.kernels.caches import cache_folder

TARGET_ROWS = 5_000  # that a block of full size is meant for
KEEP_FROM = 1_000_000  # entries of the cost matrix from which a result is worth a file
SPAN = {torch.float32: 60.0, torch.float64: 600.0}  # largest C / eps that the kernel mode takes
VERSION = 1  # of what a cached file holds: raise it when the numbers change
NAME = "deviation"


@dataclass(frozen=True)
class Transport:
    """Say how deviations are computed; see the module.

    Attributes:
        cost: cosine or euclidean.
        epsilon: Entropic regularisation, as a share of the mean cost of a block.
        iterations: Sinkhorn iterations.
        block: Source rows solved together, for up to 5,000 target rows.
        blocks: strided or consecutive rows.
        mass: conditional cost per row, or the released code's cost times mass.
    """

    cost: Literal["cosine", "euclidean"] = "cosine"
    epsilon: float = 0.05
    iterations: int = 100
    block: int = 10_000
    blocks: Literal["strided", "consecutive"] = "strided"
    mass: Literal["conditional", "block"] = "conditional"

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        if self.epsilon <= 0 or self.iterations < 1 or self.block < 1:
            raise ShiftgymError(
                "Transport needs a positive epsilon and at least one iteration and one row per "
                f"block, got {self.epsilon}, {self.iterations}, {self.block}."
            )


def require_pot() -> None:
    """Refuse to start without POT.

    Raises:
        ShiftgymError: It is not installed; the message says how to.
    """
    if importlib.util.find_spec("ot") is None:
        raise ShiftgymError("Optimal transport needs POT: pip install 'shiftgym[agents]'")


def require_rows(rows: Tensor, cost: str, name: str) -> None:
    """Refuse rows `(N, D)` that have no cost.

    Raises:
        ShiftgymError: There are none, some are not finite, or all zeros under the cosine cost.
    """
    if rows.dim() != 2 or not rows.numel():
        raise ShiftgymError(f"{name}: transport needs rows of numbers, got {tuple(rows.shape)}.")
    sizes = rows.norm(dim=1)
    bad = (~sizes.isfinite()).nonzero()[:, 0]
    if len(bad):
        raise ShiftgymError(
            f"{name}: {len(bad)} of {len(rows)} rows hold NaN or infinite numbers, first row "
            f"{int(bad[0])}: drop those rows or import the dataset again."
        )
    zero = (sizes == 0).nonzero()[:, 0]
    if cost == "cosine" and len(zero):
        raise ShiftgymError(
            f"{name}: {len(zero)} of {len(rows)} rows are all zeros, first row {int(zero[0])}, and "
            "have no angle to others: drop those rows or use --transport-cost euclidean."
        )


def cost_matrix(source: Tensor, target: Tensor, cost: str = "cosine") -> Tensor:
    """Give the cost `(n, m)` between rows `(n, D)` and `(m, D)`."""
    if cost == "euclidean":
        return torch.cdist(source, target)
    unit, other = (rows / rows.norm(dim=1, keepdim=True) for rows in (source, target))
    return torch.mm(unit, other.T).neg_().add_(1).clamp_(0, 2)


def couple(
    cost: Tensor,
    epsilon: float,
    iterations: int = 100,
    mode: Literal["auto", "kernel", "log"] = "auto",
) -> Tensor:
    """Couple uniform masses by POT's Sinkhorn: `(n, m)` costs -> `(n, m)` masses, rows of 1/n.

    Args:
        cost: Costs.
        epsilon: Regularisation in units of the cost.
        iterations: Pairs of half-steps, the last on the rows.
        mode: The kernel exp(-cost / epsilon), the logarithmic domain, or the first that is safe.

    Raises:
        ShiftgymError: The numbers overflow in every mode.
    """
    require_pot()
    import ot

    a, b = (cost.new_full((size,), 1 / size) for size in cost.shape)
    options = {"numItermax": iterations, "stopThr": 0.0, "warn": False, "log": True}
    safe = float(cost.max()) / epsilon <= SPAN[cost.dtype]
    kinds = [mode] if mode != "auto" else ["kernel", "log"] if safe else ["log"]
    for kind in kinds:
        solver = "sinkhorn" if kind == "kernel" else "sinkhorn_log"
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Warning: numerical errors")  # looked at below
            mass, log = ot.sinkhorn(a, b, cost, epsilon, method=solver, **options)
        if log["niter"] == iterations - 1 and bool(mass.sum(1).isfinite().all()):
            return mass
    raise ShiftgymError(
        f"Sinkhorn failed: costs up to {float(cost.max()):.3g} with epsilon {epsilon:.3g} exceed "
        f"{cost.dtype}: use a larger --transport-epsilon."
    )


@torch.no_grad()
def solve(source: Tensor, target: Tensor, settings: Transport, progress: str = "") -> Tensor:
    """Compute the deviations `(N,)` of source rows `(N, D)` from target rows `(M, D)`.

    Args:
        source: Source transitions, on any device; their dtype is computed in.
        target: Target transitions, likewise.
        settings: How.
        progress: Title of a progress bar over blocks, shown in terminals where there are several.

    Raises:
        ShiftgymError: Rows without a cost, or no POT.
    """
    for rows, name in ((source, "source"), (target, "target")):
        require_rows(rows, settings.cost, name)
    full = max(1, min(settings.block, settings.block * TARGET_ROWS // len(target)))
    deviations = source.new_empty(len(source))
    parts = list(_blocks(len(source), full, settings.blocks))
    hidden = True if len(parts) == 1 or not progress else None  # None: where this is no terminal
    for part in tqdm(parts, progress, disable=hidden, unit="block", file=sys.stderr):
        cost = cost_matrix(source[part], target, settings.cost)
        mean = float(cost.mean())
        if mean == 0:  # every row is every other one
            deviations[part] = 0
            continue
        mass = couple(cost, settings.epsilon * mean, settings.iterations)
        rows = mass.sum(1)
        paid = -(mass.mul_(cost).sum(1) / rows)
        deviations[part] = paid if settings.mass == "conditional" else paid * (full / len(cost))
    return deviations


def _blocks(rows: int, full: int, kind: str) -> Iterator[slice]:
    """Cut rows into blocks of at most `full`."""
    count = -(-rows // full)
    for k in range(count):
        yield slice(k, None, count) if kind == "strided" else slice(k * full, (k + 1) * full)


def deviations(source: Tensor, target: Tensor, settings: Transport, name: str = "") -> Tensor:
    """Give what `solve` gives in float32, from the user's cache where it was computed before.

    The file's name is the SHA-256 of both sets of rows and of the settings. It is written under
    another name and renamed; a damaged one is refused, computed again and replaced. Small problems
    are solved anew each time.

    Args:
        source: Source transitions `(N, D)`.
        target: Target transitions `(M, D)`.
        settings: How.
        name: Names the pair in the progress bar.
    """
    source, target = (rows.detach().float().contiguous() for rows in (source, target))
    if len(source) * len(target) < KEEP_FROM:
        return solve(source, target, settings)
    key = _key(source, target, settings)
    path = cache_folder("transport") / f"{key}.safetensors"
    kept = _read(path, key, len(source))
    if kept is not None:
        return kept.to(source.device)
    found = solve(source, target, settings, f"optimal transport {name}".strip())
    _write(path, key, found.cpu())
    return found


def _key(source: Tensor, target: Tensor, settings: Transport) -> str:
    digest = hashlib.sha256(json.dumps([VERSION, asdict(settings)], sort_keys=True).encode())
    for rows in (source, target):
        digest.update(str(tuple(rows.shape)).encode())
        digest.update(rows.cpu().numpy().data)
    return digest.hexdigest()


def _sum(values: Tensor) -> str:
    return hashlib.sha256(values.numpy().data).hexdigest()


def _read(path: Path, key: str, rows: int) -> Tensor | None:
    """Read deviations, or say why a file is of no use and return None."""
    try:
        with safe_open(path, "pt") as file:
            about, values = file.metadata() or {}, file.get_tensor(NAME)
        if about.get("key") == key and about.get("sha256") == _sum(values) and len(values) == rows:
            return values
        reason = "its checksum is wrong"
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error)
    warnings.warn(f"{path} is damaged ({reason}): computing it again", stacklevel=3)
    return None


def _write(path: Path, key: str, values: Tensor) -> None:
    """Write deviations whole or not at all; a cache that cannot be written is a warning."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(".tmp", f".{key[:16]}-", path.parent)
        os.close(handle)
        about = {"key": key, "sha256": _sum(values)}
        save_file({NAME: values.contiguous()}, temporary, about)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        warnings.warn(f"cannot keep deviations in {path}: {error}", stacklevel=3)
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)

"""Read the policies that hand training starts from: DAPG experts, or policies of our own.

The experts are those of the public hand_dapg repository (Rajeswaran et al. 2018, arXiv:1709.10087;
Apache-2.0). None is part of this package: the user gives the path of an ``.npz`` file that holds
one as torch stores it, where ``o`` is an observation:

    W0 (H, obs)  b0 (H,)  W1 (H, H)  b1 (H,)  W2 (act, H)  b2 (act,)     torch's (out, in)
    in_shift (obs,)  in_scale (obs,)  out_shift (act,)  out_scale (act,)  log_std (act,)

    mean(o) = out_shift + out_scale * MLP_tanh((o - in_shift) / (in_scale + 1e-8))

which is the kind ``gaussian`` of :mod:`shiftgym.policies` with its weights transposed.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shiftgym.basics.errors import ShiftgymError
from shiftgym.policies import GAUSSIAN, LAYERS, Policy, read_policy

Arrays = dict[str, np.ndarray]
ATTRIBUTION = "fine-tuned from the DAPG expert of hand_dapg (Apache-2.0)"
LAYOUT = "tanh MLP W0 b0 W1 b1 W2 b2, x @ W + b, of (obs - in_shift) / (in_scale + 1e-8)"


@dataclass(frozen=True)
class Start:
    """Hold the weights that training starts from.

    Attributes:
        arrays: layers and normalisation in the layout of :mod:`shiftgym.policies`, float32.
        about: SHA-256 of the file and the attribution, for the metadata of what comes of it.
    """

    arrays: Arrays
    about: dict[str, str]

    def policy(self, slug: str) -> Policy:
        """Give the untrained start as a policy that acts in a domain."""
        return Policy(self.arrays, {"kind": "gaussian", "domain": slug} | self.about)


def read_start(path: Path, obs_size: int, act_size: int) -> Start:
    """Read an expert (``.npz``) or a policy of kind gaussian (``.safetensors``).

    Args:
        path: the file; nothing in it is executed.
        obs_size: length of the robot's observations.
        act_size: length of the robot's actions.

    Raises:
        ShiftgymError: no such file, another format, or the policy of another robot.
    """
    if not path.is_file():
        raise ShiftgymError(
            f"No policy file at {path}. Give --expert the .npz of a DAPG expert or a gaussian "
            "policy (.safetensors), or leave it out to train from scratch."
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if path.suffix == ".safetensors":
        policy = read_policy(path)
        if policy.metadata["kind"] != "gaussian":
            raise ShiftgymError(f"{path} is a {policy.metadata['kind']} policy, not a gaussian one")
        inherited = {
            k: v for k, v in policy.metadata.items() if k in ("expert_sha256", "attribution")
        }
        start = Start(policy.arrays, inherited | {"start_sha256": digest})
    else:
        about = {"expert_sha256": digest, "attribution": ATTRIBUTION}
        start = Start(convert(_read_npz(path), path), about)
    sizes = start.arrays["W0"].shape[0], start.arrays["W2"].shape[1]
    if sizes != (obs_size, act_size):
        raise ShiftgymError(
            f"{path} takes {sizes[0]} observations and gives {sizes[1]} actions; this robot has "
            f"{obs_size} and {act_size}: is it the policy of another robot?"
        )
    return start


def _read_npz(path: Path) -> Arrays:
    if not zipfile.is_zipfile(path):
        raise ShiftgymError(f"Cannot read an expert from {path}: it is no .npz archive.")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ShiftgymError(f"Cannot read an expert from {path}: {error}") from None


def convert(expert: Mapping[str, np.ndarray], name: object = "the expert") -> Arrays:
    """Turn an expert's arrays (torch layout) into those of a policy of kind gaussian.

    Args:
        expert: the arrays of the module's docstring; others are ignored.
        name: what messages call it.

    Returns:
        Float32 arrays: ``W0 (obs, H)``, ``b0 (H,)``, ..., ``log_std (act,)``.

    Raises:
        ShiftgymError: arrays are missing, do not fit together, or are not finite.
    """
    missing = [key for key in (*LAYERS, *GAUSSIAN) if key not in expert]
    if missing:
        raise ShiftgymError(f"{name} is not a DAPG expert: it lacks {', '.join(missing)}.")
    if str(expert.get("nonlinearity", "tanh")) != "tanh":
        raise ShiftgymError(f"{name} has units of {expert['nonlinearity']}, not tanh.")
    found = {
        key: np.ascontiguousarray(np.asarray(expert[key], np.float32).T)
        for key in (*LAYERS, *GAUSSIAN)
    }
    if any(found[f"W{i}"].ndim != 2 for i in range(3)):
        raise ShiftgymError(f"{name} has weights that are not matrices.")
    (obs, first), act = found["W0"].shape, found["W2"].shape[1]
    second = found["W1"].shape[1]
    shapes = {"b0": (first,), "W1": (first, second), "b1": (second,), "W2": (second, act)}
    shapes |= {"b2": (act,), "in_shift": (obs,), "in_scale": (obs,), "log_std": (act,)}
    shapes |= {"out_shift": (act,), "out_scale": (act,)}
    wrong = [
        f"{key} {found[key].shape}" for key, shape in shapes.items() if found[key].shape != shape
    ]
    if wrong:
        raise ShiftgymError(f"{name} has shapes that do not fit together: {', '.join(wrong)}.")
    if not all(np.isfinite(array).all() for array in found.values()):
        raise ShiftgymError(f"{name} holds numbers that are not finite.")
    return found

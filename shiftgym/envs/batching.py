"""From single environments to one batch: where models differ, and infos as Gymnasium has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from shiftgym.arrays import Array
from shiftgym.engine import mujoco


def infos_of(details: dict[str, Array], mask: Array) -> dict[str, Any]:
    """Give infos as Gymnasium's vector environments do: values, and where they are valid."""
    infos: dict[str, Any] = {}
    for name, values in details.items():
        infos[name] = np.where(mask, values, np.zeros_like(values))
        infos[f"_{name}"] = mask.copy()
    return infos


def differing(models: Sequence[mujoco.MjModel]) -> dict[str, list[Array]]:
    """Give the model fields that differ between models, one array per model."""
    if all(model is models[0] for model in models):
        return {}
    different = {id(model): model for model in models}
    found = {}
    for name in mujoco.batch.MODEL_FIELDS:
        values = {key: _field(model, name) for key, model in different.items()}
        first = values[id(models[0])]
        if any(not np.array_equal(first, value) for value in values.values()):
            found[name] = [values[id(model)] for model in models]
    return found


def _field(model: mujoco.MjModel, name: str) -> Array:
    holder, _, attribute = name.rpartition(".")
    return np.asarray(getattr(model.opt if holder else model, attribute))

"""Losses shared by the methods, each refusing shapes that would broadcast rows against rows.

A weight `(R, B)` against errors `(R, B, 1)` broadcasts to `(R, B, B)`, whose mean is the product of
the means: the weights lose all effect without any error. Two of four released implementations of
the methods here do that. So every mean below is taken by `weighted_mean`, which compares shapes.
"""

from __future__ import annotations

import torch
from torch import Tensor


def weighted_mean(errors: Tensor, weights: Tensor | None = None) -> Tensor:
    """Average `weights * errors` per run: `(R, ...) -> (R,)`.

    Raises:
        ValueError: `weights` is not exactly shaped as `errors`.
    """
    if weights is not None:
        if weights.shape != errors.shape:
            raise ValueError(
                f"weights {tuple(weights.shape)} and errors {tuple(errors.shape)} must have the "
                "same shape: rows would be multiplied with other rows' weights"
            )
        errors = weights * errors
    return errors.flatten(1).mean(1)


def expectile(difference: Tensor, level: Tensor | float) -> Tensor:
    """Give |level - 1{u < 0}| u^2 elementwise (IQL, Kostrikov et al. 2022, equation 5)."""
    return torch.abs(level - (difference < 0).to(difference.dtype)) * difference**2


def advantage_weights(
    advantage: Tensor, temperature: Tensor | float, cap: Tensor | float
) -> Tensor:
    """Give min(exp(temperature * advantage), cap), without gradient (IQL, equation 7)."""
    return torch.exp(temperature * advantage.detach()).clamp(max=cap)  # pyright: ignore


def sparse_weights(advantage: Tensor, alpha: Tensor | float) -> Tensor:
    """Give [z]_+ = [1 + advantage / (2 alpha)]_+, without gradient (SQL, Xu et al. 2023)."""
    return (1 + advantage.detach() / (2 * alpha)).clamp(min=0)


def sparse_errors(best: Tensor, value: Tensor, alpha: Tensor | float) -> Tensor:
    """Give [z]_+^2 + V / alpha elementwise, whose mean over actions the sparse value minimises.

    Raises:
        ValueError: The shapes differ.
    """
    if best.shape != value.shape:
        raise ValueError(f"Q {tuple(best.shape)} and V {tuple(value.shape)} differ in shape")
    z = 1 + (best - value) / (2 * alpha)
    return z.clamp(min=0) ** 2 + value / alpha


def huber(error: Tensor, delta: float) -> Tensor:
    """Give e^2/2 where |e| <= delta, else delta (|e| - delta/2), elementwise."""
    size = error.abs()
    small = size.clamp(max=delta)
    return small * (size - 0.5 * small)


def least_return(reward: Tensor, discount: Tensor) -> Tensor:
    """Give the least return that rewards of at least `reward` allow: once, or for ever."""
    return torch.minimum(reward, reward / (1 - discount).clamp(min=1e-6))

"""Run one gated recurrent unit (GRU; Cho et al. 2014) per run over batches of sequences.

    r = sigmoid(W_r x + U_r h)    u = sigmoid(W_u x + U_u h)    n = tanh(W_n x + r (U_n h))
    h <- (1 - u) n + u h

with a bias beside every product, as PyTorch has it. All weights of a run are one row of a
`Parameter`, so that optimiser, checkpoints and runs in lockstep are those of every other network.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from shiftgym_agents.core.agent import Agent


class GRU:
    """Hold the recurrent unit of every run.

    Args:
        agent: Declares the weights under `name`; call this while it builds.
        name: What they are called.
        size: Numbers per step of a sequence.
        width: Numbers of the state h.
    """

    def __init__(self, agent: Agent[Any], name: str, size: int, width: int) -> None:
        self.width = width
        self.shapes = [(size, 3 * width), (1, 3 * width), (width, 3 * width), (1, 3 * width)]
        total, bound = sum(i * o for i, o in self.shapes), width**-0.5
        drawn = [torch.empty(total).uniform_(-bound, bound, generator=g) for g in agent.generators]
        self.weights = agent.parameter(name, torch.stack(drawn))

    def parts(self) -> list[Tensor]:
        """View the weights of x and h with their biases: W, b, U, c, `(R, in, 3 width)` each."""
        rows = self.weights.rows
        pieces = rows.split([i * o for i, o in self.shapes], 1)
        return [piece.view(len(rows), *s) for piece, s in zip(pieces, self.shapes, strict=True)]

    def __call__(self, x: Tensor, valid: Tensor) -> Tensor:
        """Give the state after the last valid step.

        Args:
            x: Sequences `(R, B, L, size)`.
            valid: 1 at steps that count, 0 at the others, `(R, B, L)`.

        Returns:
            h, `(R, B, width)`, from a state of zeros.
        """
        runs, batch, length, size = x.shape
        w, b, u, c = self.parts()
        steps = torch.baddbmm(b, x.reshape(runs, -1, size), w).view(runs, batch, length, -1)
        h = x.new_zeros(runs, batch, self.width)
        for k in range(length):
            own, state = steps[:, :, k], torch.baddbmm(c, h, u)
            gates = torch.sigmoid(own[..., : 2 * self.width] + state[..., : 2 * self.width])
            reset, keep = gates.split(self.width, 2)
            new = torch.tanh(
                torch.addcmul(own[..., -self.width :], reset, state[..., -self.width :])
            )
            h = torch.where(valid[:, :, k, None] > 0, torch.lerp(new, h, keep), h)
        return h

    def freeze(self) -> None:
        """Stop training it."""
        self.weights.freeze()

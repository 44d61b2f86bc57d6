"""Learn densities p(x|c) as conditional variational autoencoders whose likelihood can be bounded.

    encoder  (c, x) -> m, log sigma in [-4, 15]   latent of 2k numbers;   decoder (c, z) -> x
    training mean (x - dec(c, z))^2 + beta KL,   z = m + sigma xi,  both means over rows and numbers
    density  log p(x|c) >= E log 1/L sum_{i=1..L} w_i
             w_i = N(x; dec(c, z_i), beta/4 I) N(z_i; 0, I) / N(z_i; m, sigma^2 I)

for x of k numbers, until `calibrate` replaces the variance beta/4 of each number by its mean
squared error on held-out rows, which is what the networks know: beta/4 is as wide as 0.35
deviations of x, and every x as near as that to what is likely passes for likely. The bound grows
with L towards log p (importance weighting, Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519).
At L = 1 the training loss is -beta/(2k) times the bound, up to a constant: that is what the
variance beta/4 is for.

BOSA (see `bosa`) asks these which actions and which next states are supported. `cvae` is OTDF's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from shiftgym_agents.components.cvae import LOG_STD_RANGE
from shiftgym_agents.components.dynamics import each
from shiftgym_agents.components.ensemble import small_normal_mlp
from shiftgym_agents.components.holdout import HoldOut
from shiftgym_agents.core.agent import Agent, Noise, Stage
from shiftgym_agents.core.losses import weighted_mean
from shiftgym_agents.core.nets import Init, minimise
from shiftgym_agents.core.networks import Layers, init_mlp
from shiftgym_agents.data.batches import Batch

Reading = Callable[[Batch], tuple[Tensor, Tensor]]
"""Takes c `(R, B, .)` and x `(R, B, k)` from a batch."""


def unscaled_normal_mlp(sizes: Sequence[int], generators: Sequence[torch.Generator]) -> Layers:
    """Draw weights from N(0, 1) folded into (-2, 2), whatever the fan-in, and zero biases."""
    layers: Layers = []
    for wide_in, wide_out in zip(sizes[:-1], sizes[1:], strict=True):
        drawn = [torch.randn(wide_in, wide_out, generator=g).fmod(2) for g in generators]
        layers.append((torch.stack(drawn), torch.zeros(len(drawn), 1, wide_out)))
    return layers


INITS: dict[str, Init] = {
    "uniform": init_mlp,
    "scaled": small_normal_mlp,
    "unscaled": unscaled_normal_mlp,
}


@dataclass(frozen=True, kw_only=True)
class DensityOptions:
    """Say how large a density's networks are and how they are trained.

    Attributes:
        steps: Updates of its stage, at most.
        width: Units in each hidden layer.
        rate: Adam's step size, or one per run `(R,)`.
        beta: Weight of the KL term, `(R, 1, 1)`.
        copies: Networks that learn it independently.
        init: Initial weights: PyTorch's uniform, normal scaled by the fan-in, or not scaled.
        squash: Put tanh on the decoder's output.
        source: Learn from source rows besides target rows.
        hold_out: Share of target rows to judge copies by, whose best weights are kept; 0 for none.
        every: Updates between looks at them.
        patience: Looks without a copy improving by 1 % before a run stops; 0 for never.
    """

    steps: int
    width: int
    rate: float | Tensor
    beta: Tensor
    copies: int = 1
    init: Literal["uniform", "scaled", "unscaled"] = "uniform"
    squash: bool = False
    source: bool = True
    hold_out: float = 0.0
    every: int = 0
    patience: int = 0


class Density:
    """Hold the networks of a density, declared in an agent.

    Args:
        agent: Declares and saves the networks; call this from its `build`.
        name: What they and its stage are called.
        sizes: Numbers in c and in x.
        read: Takes c and x from a batch.
        options: How large, and how trained.
    """

    def __init__(
        self,
        agent: Agent[Any],
        name: str,
        sizes: tuple[int, int],
        read: Reading,
        options: DensityOptions,
    ) -> None:
        self.agent, self.name, self.read, self.options = agent, name, read, options
        given, self.size = sizes
        self.latent = 2 * self.size
        hidden = (options.width, options.width)
        how = {"copies": options.copies, "rate": options.rate, "init": INITS[options.init]}
        self.encoder = agent.net(
            f"{name}_encoder", (given + self.size, *hidden, 2 * self.latent), **how
        )
        self.decoder = agent.net(
            f"{name}_decoder", (given + self.latent, *hidden, self.size), **how
        )
        variance = 0.25 * options.beta[:, None, None]  # (R, C, 1, 1, k), broadcast over rows
        variance = variance.expand(-1, options.copies, 1, 1, self.size).clone()
        self.variance = agent.buffer(f"{name}_variance", variance)
        self.held: HoldOut | None = None
        if options.hold_out:
            share, patience = options.hold_out, options.patience
            along = [self.encoder]
            self.held = HoldOut(agent, self.decoder, share, patience, 0.01, along=along)

    # --- training ---------------------------------------------------------------------------------

    def stage(self) -> Stage:
        """Give the stage that trains it and then freezes it."""
        options, rows = self.options, self.agent.config.batch
        source = rows if options.source else 0
        shape = (options.copies, source + rows, self.latent)
        looks: dict[str, Any] = {}
        if self.held is not None:
            held = self.held
            looks = {"every": options.every, "check": self.look, "idle": lambda: held.over}
        return Stage(
            self.name,
            options.steps,
            self.update,
            source,
            rows,
            normal={"latent": shape},
            finish=self.finish,
            **looks,
        )

    def update(self, batch: Batch, noise: Noise) -> None:
        """Take one gradient step of every copy, all on the same rows."""
        errors = self.errors(*self.read(batch), noise["latent"])
        if self.held is None:
            loss = weighted_mean(errors)
        else:
            weights = self.held.training_weights(batch)[:, None].expand_as(errors)
            loss = self.held.active * weighted_mean(errors, weights)
        minimise(self.options.copies * loss, self.encoder, self.decoder)
        self.agent.log(f"{self.name}_loss", loss)

    def errors(self, given: Tensor, x: Tensor, noise: Tensor | None) -> Tensor:
        """Give each row's loss `(R, C, B, 1)`, at z = m without noise `(R, C, B, 2k)`."""
        mean, log_std = self.encode(given, x)
        z = mean if noise is None else torch.addcmul(mean, log_std.exp(), noise)
        missed = ((self.decode(given, z) - x[:, None]) ** 2).mean(3, keepdim=True)
        spread = -0.5 * (1 + 2 * log_std - mean**2 - (2 * log_std).exp())
        return missed + self.options.beta[:, None] * spread.mean(3, keepdim=True)

    @torch.no_grad()
    def look(self) -> None:
        """Judge every copy by its loss on held-out rows."""
        if self.held is not None:
            self.held.look(self.errors(*self.read(self.held.batch()), None))

    def finish(self) -> None:
        """Freeze the networks, at their best weights where rows are held out."""
        if self.held is not None:
            self.held.restore()
        self.encoder.freeze()
        self.decoder.freeze()

    @torch.no_grad()
    def calibrate(self, noise: Tensor) -> None:
        """Take the decoders' variance of each number from their errors on held-out rows.

        Args:
            noise: Standard normal, `(R, C, 1, L, 2k)`: latents of each row's encoding.
        """
        assert self.held is not None
        given, x = self.read(self.held.batch())
        _, decoded = self._decoded(given, x, noise)
        squares = ((x[:, None, :, None] - decoded) ** 2).mean(3, keepdim=True)
        weights = self.held.weights[:, None, :, None]
        self.variance.copy_((squares * weights).mean(2, keepdim=True).clamp(min=1e-8))

    # --- densities --------------------------------------------------------------------------------

    def log_density(self, given: Tensor, x: Tensor, noise: Tensor) -> Tensor:
        """Bound log p(x|c) by every copy, `(R, C, B, 1)`; x gets gradients.

        Args:
            given: c, `(R, B, .)`.
            x: `(R, B, k)`.
            noise: Standard normal, `(R, C, B, L, 2k)`, or with 1 for B to use it for all rows.
        """
        log_std = self.encode(given, x)[1][:, :, :, None]
        z, decoded = self._decoded(given, x, noise)
        distance = (x[:, None, :, None] - decoded) ** 2 / self.variance
        fit = -0.5 * (distance + torch.log(2 * math.pi * self.variance)).sum(4)
        ratio = (0.5 * (noise**2 - z**2) + log_std).sum(4)
        return torch.logsumexp(fit + ratio, 3, keepdim=True) - math.log(z.shape[3])

    def _decoded(self, given: Tensor, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Give latents `(R, C, B, L, 2k)` of x by their noise, and what they decode to."""
        mean, log_std = (part[:, :, :, None] for part in self.encode(given, x))
        z = torch.addcmul(mean, log_std.exp(), noise)
        runs, copies, rows, samples, _ = z.shape
        wide = given[:, :, None].expand(-1, -1, samples, -1).flatten(1, 2)
        decoded = self.decode(wide, z.flatten(2, 3)).view(runs, copies, rows, samples, -1)
        return z, decoded

    def encode(self, given: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give mean and log standard deviation of the latents, `(R, C, B, 2k)` each."""
        mean, log_std = self.encoder(torch.cat([given, x], 2)).chunk(2, 3)
        return mean, log_std.clamp(*LOG_STD_RANGE)

    def decode(self, given: Tensor, z: Tensor) -> Tensor:
        """Decode latents `(R, C, B, 2k)` given c `(R, B, .)`, `(R, C, B, k)`."""
        wide = given[:, None].expand(-1, self.options.copies, -1, -1)
        x = each(self.decoder, torch.cat([wide, z], 3))
        return torch.tanh(x) if self.options.squash else x

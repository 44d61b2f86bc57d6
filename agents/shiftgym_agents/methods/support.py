"""Keep a policy within the target's support: OTDF's term in the actor's loss, for who wants it.

    actor : E[w |tanh mean - a|^2] - support E[log pi(a'|s)],   a' ~ policy(s), tanh

with the density pi of a CVAE of the target's behaviour (see `cvae`), on the source rows kept and
the target's. Read in OTDF's released code: squared errors summed over action dimensions, which
`support` is calibrated against, and 0.1 where a shift is kinematic, else 0.5. Chosen: the CVAE's
width and samples, which keep it near IQL's speed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, Self, TypeVar

import torch
from torch import Tensor

from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.ranges import Amount, CountOrNone, Positive, Size
from shiftgym.datasets.names import dataset_name
from shiftgym.domains import Domain
from shiftgym_agents.components.cvae import CVAE
from shiftgym_agents.core.agent import Config, Noise
from shiftgym_agents.core.losses import weighted_mean
from shiftgym_agents.data.batches import Batch
from shiftgym_agents.data.pairs import TrainingPair
from shiftgym_agents.methods.iql import HANDS, IQL, LOG_STD_RANGE, IQLConfig


@dataclass(frozen=True)
class SupportConfig(IQLConfig):
    """Set the hyperparameters of the support term; a method's configuration extends it."""

    bc_reduce: Literal["mean", "sum"] = "sum"
    """Average or sum the squared error over action dimensions; `support` is made for the sum."""
    support: Amount | None = None
    """Weight of the support term; None for 0.1 where a shift of the pair is kinematic, else 0.5."""
    support_rows: Literal["kept", "all"] = "kept"
    """Ask for support at the kept source rows and the target's, or at all rows drawn."""
    cvae_steps: CountOrNone = 10_000
    """Updates that train the CVAE of the target's behaviour."""
    cvae_width: Size = 256
    """Units in each hidden layer of the CVAE; 750 as published, at a fraction of the speed."""
    cvae_samples: Size = 4
    """Latents per action in the support term; 10 as published."""
    cvae_rate: Positive = 1e-3
    """Adam's step size for the CVAE."""
    cvae_kl: Amount = 0.5
    """Weight of the KL term in the CVAE's loss."""

    def for_pair(self, pair: TrainingPair) -> Self:
        """Choose `support` where it was left open: published values, 0.5 on hands.

        Published pairs go both ways, so either side may be the shifted one. Arrays are of the
        domain that their name says, if it does.

        Raises:
            ShiftgymError: nothing is known of the target.
        """
        if self.support is not None:
            return self
        if not isinstance(pair.domain, Domain):
            raise ShiftgymError(
                "How much support weighs is known for shiftgym's robots only: add --support 0.5 "
                "(published: 0.1 for pairs with other joints, 0.5 for others)."
            )
        sources = [shift_of(name) for name in str(pair.names[0]).split(" + ")]
        kinematic = any(s.startswith("kinematic") for s in (*sources, pair.domain.shift or ""))
        weak = kinematic and pair.domain.robot not in HANDS
        return replace(self, support=0.1 if weak else 0.5)


C = TypeVar("C", bound=SupportConfig)


class Supported(IQL[C], Generic[C]):
    """IQL whose policy stays within the target's support; its `cvae.stage()` comes first."""

    def __init__(
        self, configs: C | Sequence[C], pairs: Sequence[TrainingPair], *args: Any, **kwargs: Any
    ) -> None:
        """Settle what the pair's shifts decide; arguments as for `Agent`."""
        each = [configs] * len(pairs) if isinstance(configs, Config) else list(configs)
        chosen = [c.for_pair(p) for c, p in zip(each, pairs, strict=True)]
        super().__init__(chosen, pairs, *args, **kwargs)

    def build(self) -> None:
        """Declare the CVAE besides IQL's networks."""
        super().build()
        config, rate = self.config, self.per_run("cvae_rate").flatten()
        sizes = config.cvae_steps, config.cvae_width, config.cvae_samples
        self.cvae = CVAE(self, *sizes, rate, self.per_run("cvae_kl"))
        self.support = self.per_run("support").flatten()
        self.supports = any(c.support for c in self.configs)

    @property
    def kept(self) -> int:
        """Count the source rows of each batch that reach the actor."""
        return self.config.batch

    def relabel(self, batch: Batch, noise: Noise) -> Batch:
        """Remember the rows drawn, where they are all asked for."""
        if self.config.support_rows == "all":
            self._drawn = batch
        return batch

    def noise_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Name the numbers that the support term draws."""
        sources = self.kept if self.config.support_rows == "kept" else self.config.batch
        rows = sources + self.config.batch
        return {"support_action": (rows, self.act_size), **self.cvae.noise_shapes(rows)}

    def policy_penalty(self, batch: Batch, output: Tensor, noise: Noise) -> Tensor | None:
        """Ask for actions within the target's support: -support E[log pi(a'|s)]."""
        if not self.supports:
            return None
        obs = batch.obs
        if self.config.support_rows == "all":
            obs = self._drawn.obs
            output = self.actor(obs)
        act = self.sampled(output, noise["support_action"])
        return -self.support * weighted_mean(self.cvae.log_support(obs, act, noise))

    def sampled(self, output: Tensor, normal: Tensor) -> Tensor:
        """Draw actions tanh(mean + std xi) `(R, B, A)` from the actor's outputs."""
        own = output[..., self.act_size :] if self.log_std is None else self.log_std.rows
        std = own.clamp(*LOG_STD_RANGE).exp()
        return torch.tanh(output[..., : self.act_size] + std * normal)


def require_share(configs: Sequence[Any]) -> None:
    """Refuse runs that keep different shares of their source rows, or none.

    Raises:
        ShiftgymError: The message gives the shares.
    """
    shares = sorted({config.keep for config in configs})
    if len(shares) > 1 or int(shares[0] * configs[0].batch + 1e-9) < 1:
        raise ShiftgymError(
            f"Runs in lockstep share one --keep, of at least one row of {configs[0].batch} and at "
            f"most 1, got {shares}."
        )


def shift_of(name: str) -> str:
    """Give the shift of the domain that a dataset's name tells; empty for none."""
    try:
        return dataset_name(name).domain.shift or ""
    except ShiftgymError:
        return ""

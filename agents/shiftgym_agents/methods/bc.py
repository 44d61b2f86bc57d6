"""Imitate the target data: behaviour cloning, which any honest table shows.

    actor : mean over rows and action dimensions of (tanh mean(s) - a)^2

the imitation term of IQL's actor at temperature 0, on target rows alone, with the same decay of
the step size. Observations are read as they are, as the methods here do; standardised, the same
network imitates 5,000 rows of the larger robots much better (`normalize_states`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from shiftgym_agents.core.agent import Agent, Config, Noise, Stage
from shiftgym_agents.core.losses import weighted_mean
from shiftgym_agents.core.nets import Net, minimise
from shiftgym_agents.data.batches import Batch, Scaling


@dataclass(frozen=True)
class BCConfig(Config):
    """Set the hyperparameters of behaviour cloning."""

    normalize_states: Literal["none", "target"] = "none"
    """Standardise observations by the target's rows."""

    @property
    def scaling(self) -> Scaling:
        """Say how the data are scaled before training."""
        return Scaling(self.normalize_states)


class BC(Agent[BCConfig]):
    """Behaviour cloning of the target data; see the module."""

    config_class = BCConfig
    presets: ClassVar[Mapping[str, Any]] = dict.fromkeys(("ours", "paper", "official"), BCConfig())
    uses_source = False

    def build(self) -> None:
        """Declare the actor."""
        sizes = (self.obs_size, *self.hidden, self.act_size)
        self._actor = self.net("actor", sizes, decay_steps=self.config.steps)

    @property
    def actor(self) -> Net:
        """Give the policy network."""
        return self._actor

    def stages(self) -> list[Stage]:
        """List the one stage."""
        rows = self.config.batch
        return [Stage("train", self.config.steps, self.update, 0, rows, evaluate=True)]

    def update(self, batch: Batch, noise: Noise) -> None:
        """Take one gradient step for every run."""
        error = torch.tanh(self.actor(batch.obs)) - batch.act
        loss = weighted_mean(error**2)
        minimise(loss, self.actor)
        self.log("actor_loss", loss)

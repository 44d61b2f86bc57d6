"""Judge source rows by a plain model of the target's dynamics: the yardstick for what methods do.

A row's score is how much its next state misses what the model says, negative, in errors that the
model makes on the target itself (see `components/plain_model.py`). Nothing is learned from source
rows, and no policy is learned at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.ranges import Count, CountOrNone, Positive, Size
from shiftgym_agents.components.plain_model import PlainModel
from shiftgym_agents.core.agent import Agent, Config, Noise, Stage
from shiftgym_agents.core.nets import Net
from shiftgym_agents.data.batches import Batch


@dataclass(frozen=True)
class TargetModelConfig(Config):
    """Set the hyperparameters of the model."""

    batch: Size = 256
    learning_rate: Positive = 1e-3
    model_steps: CountOrNone = 5_000
    """Updates of the model."""
    model_every: Count = 100
    """Updates between looks at its error on held-out rows; the best is kept."""


class TargetModel(Agent[TargetModelConfig]):
    """Model the target's dynamics; see the module."""

    config_class = TargetModelConfig
    presets: ClassVar[Mapping[str, Any]] = {"ours": TargetModelConfig()}

    def build(self) -> None:
        """Declare the model and hold target rows out."""
        self.model = PlainModel(self)

    def stages(self) -> list[Stage]:
        """Train the model; there is nothing after it."""
        config = self.config
        model = self.model.stage(config.model_steps, config.model_every)
        return [model, Stage("nothing", 0, self.nothing, 0, config.batch)]

    @property
    def actor(self) -> Net:
        """Refuse: no policy is learned."""
        raise ShiftgymError("The target model judges source rows and learns no policy.")

    def nothing(self, batch: Batch, noise: Noise) -> None:
        """Do nothing: the method ends with its model."""

    def source_scores(self) -> Tensor | None:
        """Give every source row's miss, negative, `(R, N)`."""
        return -self.model.misses()

"""Judge source rows by a plain model of the target's dynamics: the yardstick for what methods do.

    m(s, a) -> s' - s     one MLP; what it reads and predicts is standardised by the target's rows
    score   = -mean_k (e_k / h_k)^2,   e = s' - s - m(s, a) of a source row

with h_k the root mean square of e_k over target rows held out of its training: a row is suspect as
far as the model misses it by more than it misses the target's own. Nothing here is learned from
source rows, and no policy is learned at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.ranges import Count, CountOrNone, Positive, Size
from shiftgym_agents.components.holdout import HoldOut
from shiftgym_agents.core.agent import Agent, Config, Noise, Stage
from shiftgym_agents.core.losses import weighted_mean
from shiftgym_agents.core.nets import Net, minimise
from shiftgym_agents.data.batches import Batch

HELD_OUT = 0.1  # share of the target rows


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
        pairs = self.obs_size + self.act_size
        self.model = self.net("model", (pairs, *self.hidden, self.obs_size))
        self.held = HoldOut(self, self.model, HELD_OUT)
        rows = [self.data.rows_of("target", run)[None] for run in range(self.runs)]
        known = [each[..., :pairs] for each in rows]
        change = [each[..., pairs : pairs + self.obs_size] - each[..., : self.obs_size]
                  for each in rows]  # fmt: skip
        self.known_mean, self.known_scale = moments(known)
        self.change_mean, self.change_scale = moments(change)

    def stages(self) -> list[Stage]:
        """Train the model; there is nothing after it."""
        config = self.config
        model = Stage(
            "model",
            config.model_steps,
            self.update,
            0,
            config.batch,
            every=config.model_every,
            check=self.look,
            finish=self.held.restore,
        )
        return [model, Stage("nothing", 0, self.update, 0, config.batch)]

    @property
    def actor(self) -> Net:
        """Refuse: no policy is learned."""
        raise ShiftgymError("The target model judges source rows and learns no policy.")

    def errors(self, batch: Batch) -> Tensor:
        """Give how far the model is off, in usual changes, `(R, B, O)`."""
        known = (batch.obs_act - self.known_mean) / self.known_scale
        change = (batch.next_obs - batch.obs - self.change_mean) / self.change_scale
        return self.model(known) - change

    def update(self, batch: Batch, noise: Noise) -> None:
        """Take one gradient step."""
        errors = (self.errors(batch) ** 2).mean(-1, keepdim=True)
        loss = weighted_mean(errors, self.held.training_weights(batch))
        minimise(loss, self.model)
        self.log("model_loss", loss)

    @torch.no_grad()
    def look(self) -> None:
        """Judge the model by its error on held-out rows."""
        errors = self.errors(self.held.batch()) ** 2
        self.held.look(errors.mean(-1, keepdim=True)[:, None])

    @torch.no_grad()
    def source_scores(self) -> Tensor | None:
        """Give every source row's error beside the held-out ones, negative."""
        usual = (self.errors(self.held.batch()) ** 2 * self.held.weights).mean(1, keepdim=True)
        sweep = self.data.sweep("source")
        parts = [-(self.errors(batch) ** 2 / usual.clamp(min=1e-12)).mean(-1) for _, batch in sweep]
        return torch.cat(parts, 1)


def moments(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Give mean and deviation of each run's rows `(1, N, k)`, `(R, 1, k)` each."""
    found = [torch.var_mean(each.double(), 1, correction=0, keepdim=True) for each in rows]
    variance, mean = (torch.cat(part).to(rows[0].dtype) for part in zip(*found, strict=True))
    return mean, variance.sqrt().clamp(min=1e-6)

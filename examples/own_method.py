r"""Write a method of your own: IQL that trusts source rows which a model of the target predicts.

    model   : mean over rows and dimensions of (m(s, a) - (s' - s))^2, on target rows
    critics : errors of a source row weigh exp(-strictness e / mean e), e its error in that model

Run it as any other method, and compare it with any other:

    shiftgym train examples/own_method.py:Modelled --source hopper/medium-100k \
        --target hopper-kinematic/medium --seeds 3 --steps 10000 --model-steps 2000
    shiftgym report runs/quickstart/iql runs/Modelled
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from shiftgym_agents.core.agent import Noise, Stage
from shiftgym_agents.core.losses import weighted_mean
from shiftgym_agents.core.nets import minimise
from shiftgym_agents.data.batches import Batch
from shiftgym_agents.methods.iql import IQL, IQLConfig


@dataclass(frozen=True)
class ModelledConfig(IQLConfig):
    """Set the hyperparameters: every field is an option of the command, this text its help."""

    model_steps: int = 5_000
    """Updates of the model of the target's dynamics before IQL."""
    strictness: float = 1.0
    """How fast a source row loses weight with its error in the model; 0 is IQL."""


class Modelled(IQL[ModelledConfig]):
    """IQL on source rows that a model of the target predicts."""

    config_class = ModelledConfig
    presets = {"ours": ModelledConfig()}

    def build(self) -> None:
        """Declare the model besides IQL's networks: what is declared is in every checkpoint."""
        super().build()
        inputs, outputs = self.obs_size + self.act_size, self.obs_size
        self.model = self.net("model", (inputs, *self.hidden, outputs))
        self.strictness = self.per_run("strictness")

    def pretraining(self) -> list[Stage]:
        """Train the model on target rows alone, then judge the source with it (hook 5)."""
        steps, rows = self.config.model_steps, self.config.batch
        return [Stage("model", steps, self.update_model, 0, rows, finish=self.judge)]

    def update_model(self, batch: Batch, noise: Noise) -> None:
        """Take one gradient step for every run at once."""
        loss = weighted_mean(self.errors(batch))
        minimise(loss, self.model)
        self.log("model_loss", loss)

    def errors(self, batch: Batch) -> Tensor:
        """Give the model's squared error in each row, `(R, B, 1)`."""
        change = batch.next_obs - batch.obs
        return ((self.model(batch.obs_act) - change) ** 2).mean(-1, keepdim=True)

    @torch.no_grad()
    def judge(self) -> None:
        """Store every source row's error; runs again on resuming, so it only reads what is kept."""
        self.model.freeze()
        rows = [self.errors(batch)[..., 0] for _, batch in self.data.sweep("source")]
        self.data.add_column("source", "error", torch.cat(rows, 1))

    def source_scores(self) -> Tensor | None:
        """Say how much like the target's each source row is: benchmarks/selection.py asks."""
        error = self.data.columns["source"].get("error")
        return None if error is None else -error

    def choose(self, batch: Batch, noise: Noise) -> tuple[Batch, Tensor | None]:
        """Keep all rows, and weigh those of the source in the critics' loss (hook 2)."""
        error = batch.source.columns["error"]
        weights = torch.exp(-self.strictness * error / error.mean(1, keepdim=True))
        self.log("source_weight", weights)
        return batch, batch.on_source(weights, 1.0)

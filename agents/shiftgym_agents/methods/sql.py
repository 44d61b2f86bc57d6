"""Train sparse Q-learning (SQL): a value that is nearly the best action in the data.

Sparse Q-learning (Xu et al., ICLR 2023, arXiv:2303.15810). With alpha > 0, Polyak copy Q' of twin
critics, u = min Q'(s, a) - V(s) and z = 1 + u / (2 alpha):

    value    : mean 1{z > 0} z^2 + V(s) / alpha
    critics  : sum_j mean (Q_j(s, a) - y)^2,   y = r + gamma (1 - d) V(s')
    actor    : mean weight * imitation(s, a),  weight = [z]_+ or clip(u, 0, weight_cap)

The value's gradient is (1 - mean [z]_+) / alpha, so at the optimum the weights [z]_+ average to one
at every state: they are the density ratio of the best policy to the data's. Large alpha gives
V = E[Q], small alpha the best action in the data; most rows then weigh 0.

Stated: value and critics. Derived: the weight [z]_+. Read in released code: the clipped advantage
as weight. Chosen: trained on source and target rows like IQL; alpha = 0.1 and raw rewards, as DVDF
has them (the release of SQL has alpha = 1 and rewards scaled to 1000 / range of returns).
`expectile` and `temperature` belong to IQL and play no part here.

Presets: `ours`; `paper` and `official` scale rewards by returns (see `iql`), alpha = 1, and have a
Gaussian policy; `paper` weighs by [z]_+, `official` by the clipped advantage, with layer
normalisation in the value (without its learned scale and shift, unlike the release) and orthogonal
weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from torch import Tensor

from shiftgym.basics.ranges import Positive
from shiftgym_agents.core.agent import Noise
from shiftgym_agents.core.losses import sparse_errors, sparse_weights, weighted_mean
from shiftgym_agents.core.nets import minimise
from shiftgym_agents.data.batches import Batch
from shiftgym_agents.methods.iql import IQL, IQLConfig


@dataclass(frozen=True)
class SQLConfig(IQLConfig):
    """Set the hyperparameters of sparse Q-learning."""

    alpha: Positive = 0.1
    """How far the value stays below the best action in the data; large values give the mean."""
    policy_weight: Literal["advantage", "sparse"] = "advantage"
    """Imitate in proportion to the clipped advantage, or to the density ratio [z]_+."""
    value_layer_norm: bool = False
    """Normalise the hidden layers of the value."""


SCALED = SQLConfig(policy_head="gaussian", advantage="new_v", normalize_reward="returns", alpha=1.0)
C = TypeVar("C", bound=SQLConfig)


class SQL(IQL[C], Generic[C]):
    """Sparse Q-learning on source and target data; see the module."""

    config_class = SQLConfig
    presets: ClassVar[Mapping[str, Any]] = {
        "ours": SQLConfig(),
        "paper": replace(SCALED, policy_weight="sparse"),
        "official": replace(SCALED, value_layer_norm=True, init="orthogonal"),
    }

    def build(self) -> None:
        """Declare IQL's networks."""
        super().build()
        self.alpha = self.per_run("alpha")
        if self.config.value_layer_norm:
            self.value.activation = norm_relu

    def update_value(self, batch: Batch, best: Tensor) -> Tensor:
        """Step the value towards `best` `(R, B, 1)` sparsely; return the actor's advantages."""
        value = self.value(batch.obs)
        loss = weighted_mean(sparse_errors(best, value, self.alpha))
        minimise(loss, self.value)
        self.log("value_loss", loss)
        self.log("sparse_weight", sparse_weights(best - value, self.alpha))
        if self.config.advantage == "new_v":
            with torch.no_grad():
                value = self.value(batch.obs)
        return (best - value).detach()

    def update_actor(self, batch: Batch, advantage: Tensor, noise: Noise) -> None:
        """Step the actor by imitation of the actions that the value finds best."""
        weights = advantage.clamp(min=0).minimum(self.weight_cap)
        if self.config.policy_weight == "sparse":
            weights = sparse_weights(advantage, self.alpha)
        loss = self.actor_loss(self.imitation(self.actor(batch.obs), batch.act), weights)
        minimise(loss, *([self.actor] if self.log_std is None else [self.actor, self.log_std]))
        self.log("actor_loss", loss)
        self.log("imitated_rows", (weights > 0).to(self.dtype))


def norm_relu(x: Tensor) -> Tensor:
    """Normalise along the last axis, then keep what is positive."""
    return torch.relu(torch.nn.functional.layer_norm(x, x.shape[-1:]))

"""Give source rows the action and the reward that the target would have had, where that helps: STC.

Selective transition correction (Yan et al., arXiv:2602.05776). Models of the target alone (see
`target_models`), a forward f, an inverse g and a reward r, make of a source row (s, a, r0, s')

    action  : a^ = g(s, s'),  what would have led from s to s' in the target
    reward  : r^ = r0 + clip(grad_a r(s, a) . (a^ - a), -reward_clip, reward_clip)
    accept  : (s, a^, r^, s') where |f(s, a^) - s'|^2 < (1 - correction_threshold) |f(s, a) - s'|^2,
              else the row as it was

and IQL trains on target rows and these. Next states stay, so a row the target cannot make at all
stays too: what is far off is kept as it was, on purpose.

Rebuilt: the text beyond its abstract was not available, and no code is public. Stated: the three
models and that they learn from target rows, corrected actions and rewards, the choice between both
rows by f, IQL. From reviews of two venues: the linear correction of rewards and its clip, that
rejected rows stay, and that a threshold and a number for rewards were tuned. Inferred: the models
rest while IQL trains, so that the correction is made once; errors are squared distances. Chosen:
threshold 0, clip 1, f's errors in standard deviations of the target's changes, the threshold as a
share of them, actions cut at [-1, 1], held-out rows, sizes and steps. The presets are one and the
same, since there are no numbers that they could differ by.

Known weak points: corrected everywhere (`selective` off), the paper's reviewers say, it loses; its
bound on rewards measures actions by two distances; it was not compared with DROCO or MOBODY.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from shiftgym.basics.ranges import AmountOrInf, Share
from shiftgym_agents.components.target_models import TargetModels, TargetModelsConfig
from shiftgym_agents.core.agent import Noise, Stage
from shiftgym_agents.data.batches import Batch
from shiftgym_agents.methods.iql import IQL, IQLConfig

CORRECTED = "corrected"  # column of source rows: action, reward, and whether they are corrected
LEFT = "left"  # column of source rows: the share of f's error that the other action leaves


@dataclass(frozen=True)
class STCConfig(IQLConfig, TargetModelsConfig):
    """Set the hyperparameters of STC."""

    correction_threshold: Share = 0.0
    """Share of f's error that a corrected action must take away; at 1 nothing is corrected."""
    reward_clip: AmountOrInf = 1.0
    """Largest change of a reward; 0 leaves rewards alone."""
    selective: bool = True
    """Correct where f agrees; else correct every source row (ablation)."""


class STC(IQL[STCConfig]):
    """IQL on target rows and corrected source rows; see the module."""

    config_class = STCConfig
    presets: ClassVar[Mapping[str, Any]] = dict.fromkeys(("ours", "paper", "official"), STCConfig())

    def build(self) -> None:
        """Declare the models of the target besides IQL's networks."""
        super().build()
        self.models = TargetModels(self, self.config)
        self.threshold = self.per_run("correction_threshold")
        self.reward_clip = self.per_run("reward_clip")

    def pretraining(self) -> list[Stage]:
        """Learn the models, then correct every source row."""
        stage = self.models.stage()

        def finish() -> None:
            self.models.finish()
            self.store_corrections()

        return [replace(stage, finish=finish)]

    def store_corrections(self) -> None:
        """Store every source row's action and reward to train on as a column."""
        parts = [torch.cat(self.corrected(batch), 2) for _, batch in self.data.sweep("source")]
        found = torch.cat(parts, 1)
        self.data.add_column("source", CORRECTED, found[..., :-1])
        self.data.add_column("source", LEFT, found[..., -1])

    def source_scores(self) -> Tensor | None:
        """Give how little f's error falls by the other action, for every source row, `(R, N)`."""
        return self.data.columns["source"].get(LEFT)

    def corrected(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Correct source rows.

        Returns:
            Actions `(R, B, A)`, rewards, whether they are corrected, and the share of f's error
            that is left, `(R, B, 1)` each.
        """
        change = self.reward_change(batch, act := self.models.action(batch).detach())
        with torch.no_grad():
            before = self.models.forward_error(batch, batch.act)
            left = self.models.forward_error(batch, act) / before.clamp(min=1e-12)
        accepted = left < 1 - self.threshold if self.config.selective else torch.ones_like(left) > 0
        reward = batch.reward + torch.where(accepted, change, 0)
        return torch.where(accepted, act, batch.act), reward, accepted.to(left), left

    def reward_change(self, batch: Batch, act: Tensor) -> Tensor:
        """Give how the reward changes from the row's own action to another, `(R, B, 1)`."""
        own = batch.act.detach().clone().requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(self.models.reward(batch.obs, own).sum(), own)
        change = (slope * (act - own.detach())).sum(2, keepdim=True)
        return change.maximum(-self.reward_clip).minimum(self.reward_clip)

    def relabel(self, batch: Batch, noise: Noise) -> Batch:
        """Put corrected actions and rewards into the source rows."""
        found = batch.source.columns[CORRECTED]
        act, reward, accepted = found.split([self.act_size, 1, 1], 2)
        self.log("corrected_rows", accepted)
        self.log("action_change", (act - batch.source.act).abs())
        self.log("reward_change", (reward - batch.source.reward).abs())
        start, stop = self.obs_size, self.obs_size + self.act_size
        acts = torch.cat([act, batch.target.act], 1)
        rows = torch.cat([batch.rows[..., :start], acts, batch.rows[..., stop:]], 2)
        return replace(batch, rows=rows, reward=torch.cat([reward, batch.target.reward], 1))

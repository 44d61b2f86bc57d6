"""Pay source rows for being plausible in the target, and charge them otherwise: DARA.

Dynamics-aware reward augmentation (Liu, Zhang & Wang, ICLR 2022, arXiv:2203.06662). Classifiers
(see `classifiers`) estimate the log-ratio of the two dynamics, and IQL trains on

    source : r + eta clip(log P_T(s'|s, a) - log P_S(s'|s, a), -10, 10)
    target : r

eta = 0 is IQL. The classifiers learn first, are frozen at their best on held-out rows, and give
every source row its ratio once. With `joint` they take one more step in every update instead, on
the rows of that update, before it asks them; nothing then keeps them from learning rows by heart.

Stated: the ratio, eta 0.1. The paper puts it on several algorithms; on IQL it is ODRL's. Chosen:
hold-out, and no noise (see `classifiers`).

Presets: `ours`; `paper` has the authors' bounded form and no hold-out (but Adam for their RMSprop,
and two layers for their three); `official` is ODRL's, which the tables of other papers have: no
updates first, joint training, noise N(0, 1) on raw inputs, and a double softmax, whose log-odds are
near 0 or far beyond the clip, with little between, so that most rewards change by 0, 1 or -1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.ranges import Amount, Limit
from shiftgym_agents.components.classifiers import Classifiers, ClassifiersConfig
from shiftgym_agents.core.agent import Noise, Stage
from shiftgym_agents.data.batches import Batch
from shiftgym_agents.methods.iql import IQL, IQLConfig

RATIO = "log_ratio"  # column of source rows where the classifiers are frozen


@dataclass(frozen=True)
class DARAConfig(IQLConfig, ClassifiersConfig):
    """Set the hyperparameters of DARA."""

    eta: Amount = 0.1
    """Weight of the log-ratio of dynamics in a source row's reward; 0 is IQL."""
    ratio_clip: Limit = 10.0
    """Largest size of the log-ratio."""
    joint: bool = False
    """Go on training the classifiers in every update; else freeze them before IQL."""


class DARA(IQL[DARAConfig]):
    """IQL on augmented rewards of source rows; see the module."""

    config_class = DARAConfig
    presets: ClassVar[Mapping[str, Any]] = {
        "ours": DARAConfig(),
        "paper": DARAConfig(classifier_form="residual", classifier_hold_out=0.0),
        "official": DARAConfig(
            joint=True,
            classifier_steps=0,
            classifier_noise=1.0,
            classifier_hold_out=0.0,
            classifier_inputs="raw",
            classifier_form="double_softmax",
        ),
    }

    def build(self) -> None:
        """Declare the classifiers besides IQL's networks."""
        super().build()
        if self.config.joint and self.config.classifier_hold_out:
            raise ShiftgymError(
                "--joint goes on training classifiers that held-out rows would have stopped: add "
                "--classifier-hold-out 0."
            )
        self.classifiers = Classifiers(self, self.config)
        self.eta, self.ratio_clip = self.per_run("eta"), self.per_run("ratio_clip")

    def pretraining(self) -> list[Stage]:
        """Train the classifiers first."""
        stage = self.classifiers.stage()
        if not self.config.joint:
            return [replace(stage, finish=self.store_ratios)]
        return [replace(stage, finish=None)] if stage.steps else []

    @torch.no_grad()
    def store_ratios(self) -> None:
        """Freeze the classifiers and store every source row's log-ratio as a column."""
        self.classifiers.freeze()
        sweep = self.data.sweep("source")
        ratios = [self.classifiers.log_ratio(batch)[..., 0] for _, batch in sweep]
        self.data.add_column("source", RATIO, torch.cat(ratios, 1))

    def source_scores(self) -> Tensor | None:
        """Give the log-ratios of all source rows, once the classifiers have learned."""
        known = self.data.columns["source"].get(RATIO)
        if known is not None or not self.classifiers.of_whole.moved:
            return known
        sweep = self.data.sweep("source")
        return torch.cat([self.classifiers.log_ratio(batch)[..., 0] for _, batch in sweep], 1)

    def noise_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Ask for the classifiers' noise where they go on learning."""
        return self.classifiers.noise_shapes() if self.config.joint else {}

    def relabel(self, batch: Batch, noise: Noise) -> Batch:
        """Add to source rewards what the classifiers find."""
        if self.config.joint:
            with torch.enable_grad():
                self.classifiers.step(batch, noise)
        bonus = self.bonus(batch.source)
        self.log("bonus", bonus)
        return batch.relabelled(batch.reward + batch.on_source(bonus))

    def bonus(self, source: Batch) -> Tensor:
        """Give what is added to the rewards of source rows, `(R, S, 1)`."""
        if self.config.joint:
            ratio = self.classifiers.log_ratio(source)
        else:
            ratio = source.columns[RATIO]
        self.log("clipped_ratios", (ratio.abs() > self.ratio_clip).to(self.dtype))
        return self.eta * ratio.maximum(-self.ratio_clip).minimum(self.ratio_clip)

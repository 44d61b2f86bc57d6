"""Climb the critic while imitating the data: TD3+BC, on source and target data.

Fujimoto & Gu (NeurIPS 2021, arXiv:2106.06860, equations 3 to 5): TD3 (see `td3`) whose actor has

    actor : -weight mean Q_1(s, pi(s)) / mean |Q_1(s, pi(s))| + mean (pi(s) - a)^2

over rows of both datasets; the second mean is over rows and action dimensions, the divisor has no
gradient. weight = 0 is imitation.

Stated: both terms, weight 2.5, observations standardised (standard deviation + 1e-3), smoothing 0.2
clipped at 0.5, delay 2, 256 rows. Chosen: 128 rows from each dataset, and statistics in which both
weigh half, as they do in batches. `ours` is this, `paper` with the statistics of all rows, which
are the larger dataset's; `official` is ODRL's variant for two domains, with no standardising, the
lower critic, and TD3's three parts left out: no Polyak copy of the actor, no smoothing, no delay.
(Rewards of Hopper's medium sets, which some single-domain code scales, are left as they are.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from shiftgym.basics.ranges import Amount
from shiftgym_agents.core.agent import Noise
from shiftgym_agents.core.losses import weighted_mean
from shiftgym_agents.data.batches import Batch
from shiftgym_agents.methods.td3 import TD3, TD3Config, scale_free


@dataclass(frozen=True)
class TD3BCConfig(TD3Config):
    """Set the hyperparameters of TD3+BC."""

    weight: Amount = 2.5
    """Weight of the critic beside the imitation's squared error; 0 is imitation."""
    normalize_states: Literal["none", "merged", "balanced", "target"] = "balanced"
    """Standardise observations by all rows, by both datasets weighing half, or by the target's."""


class TD3BC(TD3[TD3BCConfig]):
    """TD3+BC on source and target data; see the module."""

    config_class = TD3BCConfig
    presets: ClassVar[Mapping[str, Any]] = {
        "ours": TD3BCConfig(),
        "paper": TD3BCConfig(normalize_states="merged"),
        "official": TD3BCConfig(
            smoothing=0.0,
            policy_delay=1,
            target_actor=False,
            actor_q="min",
            normalize_states="none",
        ),
    }

    def build(self) -> None:
        """Declare TD3's networks."""
        super().build()
        self.weight = self.per_run("weight").flatten()

    def actor_loss(self, batch: Batch, action: Tensor, noise: Noise) -> Tensor:
        """Climb the critic at a fixed scale, and imitate."""
        climb = scale_free(self.action_values(batch.obs, action))
        return self.weight * climb + weighted_mean((action - batch.act) ** 2)

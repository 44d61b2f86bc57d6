"""Train on the target model's answers besides the data, and imitate what the critics like: MOBODY.

MOBODY (ICLR 2026, arXiv:2506.08460) learns the target's dynamics from both datasets (see
`mobody_dynamics`), pays source rows for being plausible in the target as DARA does (see
`classifiers`), and trains a deterministic actor on source rows, target rows and rows that the model
makes (see `mobody_rows`), half as many as from either dataset:

    critics : sum_j mean_all (Q_j(s, a) - y)^2,   y = r + gamma (1 - d) min_j Q'_j(s', pi(s'))
    actor   : -weight mean_all q_pi / mean |q_pi| + bc_weight mean_data W (pi(s) - a)^2
              W = min(exp(bc_temperature q / mean |q|), 100) of data rows, without gradient

q and q_pi being the lower critic at the data's and the actor's action: TD3 (see `td3`) without
Polyak copy of the actor, smoothing and delay. Without model rows and at bc_temperature 0 it is the
variant of TD3+BC that has none of the three either.

Stated: the model, its penalised rows, the weighted imitation. Read in released code: these losses
and numbers, and that W judges the data's action; in the paper it judges the actor's, which says
nothing of the action imitated (preset "paper"). Chosen: `penalty` 1 (the release's examples have
0.1 to 5, by task), fewer model rows; more in the modules named. Preset "official" has the release's
sizes, classifiers that see no log-ratio beyond 2, a disagreement without the last dimension,
hoppers that may be at -100, and states as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.ranges import Amount, Count, Limit, Share
from shiftgym_agents.components.classifiers import Classifiers, ClassifiersConfig
from shiftgym_agents.components.mobody_dynamics import LatentDynamics, LatentDynamicsConfig
from shiftgym_agents.components.mobody_rows import ModelRows, ModelRowsConfig
from shiftgym_agents.core.agent import Noise, Stage
from shiftgym_agents.core.losses import advantage_weights, weighted_mean
from shiftgym_agents.data.batches import Batch
from shiftgym_agents.data.pairs import TrainingPair
from shiftgym_agents.data.places import robot_of
from shiftgym_agents.methods.td3 import TD3, TD3Config, scale_free

EXTRA = "extra_reward"  # column of source rows


@dataclass(frozen=True)
class MOBODYConfig(TD3Config, LatentDynamicsConfig, ModelRowsConfig, ClassifiersConfig):
    """Set the hyperparameters of MOBODY."""

    smoothing: Amount = 0.0
    """Standard deviation of the noise on the actions that critics bootstrap from; 0 for none."""
    policy_delay: Count = 1
    """Updates of the critics per update of the actor and of all Polyak copies."""
    target_actor: bool = False
    """Bootstrap from actions of the actor's Polyak copy, or of the actor itself."""
    actor_q: Literal["first", "min"] = "min"
    """The actor climbs the first critic, or the lower of both."""
    weight: Amount = 2.5
    """Weight of the critic beside the imitation's squared error; 0 is imitation."""
    bc_weight: Amount = 1.0
    """Weight of the imitation."""
    bc_temperature: Amount = 3.0
    """How much more actions of high value are imitated; 0 imitates all alike."""
    bc_cap: Limit = 100.0
    """Largest weight of a row in the imitation."""
    bc_judges: Literal["data", "policy"] = "data"
    """Imitate rows whose own action is good, or in whose state the actor's action is."""
    source_reward: Literal["dara", "par"] = "dara"
    """Add DARA's log-ratio of dynamics to source rewards, or subtract the model's squared error."""
    eta: Amount = 0.1
    """Weight of that; 0 leaves source rewards alone."""
    ratio_clip: Limit = 10.0
    """Largest size of the log-ratio."""
    model_share: Share = 0.5
    """Model rows per update, as a share of the rows from each dataset; 0 for none."""


PAPER = MOBODYConfig(
    model_width=256,
    model_activation="swish",
    target_cost=1.0,
    cycle_cost=1.0,
    kl_cost=1.0,
    cycle_next=False,
    source_reward_cost=1.0,
    bc_judges="policy",
    bc_temperature=1.0,
    model_aims="state",
    classifier_noise=1.0,
    classifier_hold_out=0.0,
    disagreement_units="raw",
    disagreement_limit=10.0,
    rollout_source=50_000,
    rollout_target=2_000,
    rollout_pairs=50_000,
    model_capacity=1_000_000,
)
OFFICIAL = MOBODYConfig(
    model_width=256,
    model_activation="swish",
    model_batch=256,
    model_standard=False,
    classifier_form="bounded",
    classifier_noise=1.0,
    classifier_hold_out=0.0,
    classifier_inputs="raw",
    penalty=0.1,
    model_aims="state",
    disagreement_units="raw",
    disagreement_limit=10.0,
    disagreement_dims="but_last",
    model_ends="released",
    rollout_source=50_000,
    rollout_target=2_000,
    rollout_pairs=50_000,
    model_capacity=1_000_000,
)


class MOBODY(TD3[MOBODYConfig]):
    """TD3 on data and on a model's rows; see the module."""

    config_class = MOBODYConfig
    presets: ClassVar[Mapping[str, Any]] = {
        "ours": MOBODYConfig(),
        "paper": PAPER,
        "official": OFFICIAL,
    }

    def __init__(self, configs: Any, pairs: Sequence[TrainingPair], *args: Any, **options: Any):
        """Note the robots, whose rules say where model rows end; arguments as for `Agent`."""
        self.robots = [robot_of(pair.domain) for pair in pairs]
        super().__init__(configs, pairs, *args, **options)

    def build(self) -> None:
        """Declare dynamics, classifiers and the model's rows besides TD3's networks."""
        super().build()
        config = self.config
        if not 0 <= config.model_share <= 1:
            raise ShiftgymError(f"--model-share is {config.model_share}: give 0 to 1.")
        self.made = int(config.model_share * config.batch)
        self.dynamics = LatentDynamics(self, config)
        self.model_rows = ModelRows(self, self.dynamics, config, self.robots, self.terminal_rules)
        self.classifiers: Classifiers | None = None
        if config.source_reward == "dara":
            self.classifiers = Classifiers(self, config)
        self.eta, self.ratio_clip = self.per_run("eta"), self.per_run("ratio_clip")
        self.temperature, self.cap = self.per_run("bc_temperature"), self.per_run("bc_cap")
        self.weight, self.bc_weight = (
            self.per_run(name).flatten() for name in ("weight", "bc_weight")
        )

    # --- stages -----------------------------------------------------------------------------------

    def pretraining(self) -> list[Stage]:
        """Learn dynamics, then to tell domains apart; then make the first model rows."""
        stages = [self.dynamics.stage()] if self.made or self.classifiers is None else []
        if self.classifiers is not None:
            stages.append(self.classifiers.stage())
        learned = stages[-1].finish

        def finish() -> None:
            if learned is not None:
                learned()
            self.store_extra()
            if self.made:
                self.model_rows.fill()

        return [*stages[:-1], replace(stages[-1], finish=finish)]

    def stages(self) -> list[Stage]:
        """List the stages; the last one refills the model's rows."""
        *before, last = super().stages()
        if self.made:
            every, check = self.config.rollout_every, self.model_rows.refill
            uniform = {"model_rows": (self.made, 1)}
            last = replace(last, uniform=uniform, every=every, check=check)
        return [*before, last]

    @torch.no_grad()
    def store_extra(self) -> None:
        """Store what every source row's reward gains as a column."""
        sweep = self.data.sweep("source")
        parts = [self.extra_reward(batch)[..., 0] for _, batch in sweep]
        self.data.add_column("source", EXTRA, torch.cat(parts, 1))

    def extra_reward(self, source: Batch) -> Tensor:
        """Give what source rows' rewards gain, `(R, S, 1)`."""
        if self.classifiers is None:
            after = self.dynamics.predict(source.obs, source.act).mean(1)
            return -self.eta * ((source.next_obs - after) ** 2).mean(2, keepdim=True)
        ratio = self.classifiers.log_ratio(source)
        return self.eta * ratio.maximum(-self.ratio_clip).minimum(self.ratio_clip)

    def source_scores(self) -> Tensor | None:
        """Give what every source row's reward gains."""
        return self.data.columns["source"].get(EXTRA)

    # --- one update -------------------------------------------------------------------------------

    def noise_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Ask for as much smoothing as there are rows with the model's."""
        shapes = super().noise_shapes()
        return {name: (rows + self.made, *rest) for name, (rows, *rest) in shapes.items()}

    def prepare(self, batch: Batch, noise: Noise) -> Batch:
        """Give source rows their rewards, and add the model's rows."""
        extra = batch.columns[EXTRA]
        self.log("extra_reward", extra[:, : batch.sources])
        batch = batch.relabelled(batch.reward + extra)
        if not self.made:
            return batch
        self.log("model_kept", self.model_rows.kept)
        rows = self.model_rows.draw(noise["model_rows"], batch.target.rows[:, : self.made])
        every = torch.cat([batch.rows, rows], 1)
        reward = torch.cat([batch.reward, rows[..., -2:-1]], 1)
        return Batch(every, reward, every[..., -1:], batch.sources, self.obs_size, self.act_size)

    def actor_loss(self, batch: Batch, action: Tensor, noise: Noise) -> Tensor:
        """Climb the critics at a fixed scale on all rows, and imitate the data's good actions."""
        count = batch.rows.shape[1] - self.made
        q = self.action_values(batch.obs, action)
        obs, act = batch.obs[:, :count], batch.act[:, :count]
        with torch.no_grad():
            judged = q[:, :count] if self.config.bc_judges == "policy" else None
            if judged is None:
                judged = self.action_values(obs, act)
            relative = judged / judged.abs().mean(1, keepdim=True).clamp(min=1e-8)
            weights = advantage_weights(relative, self.temperature, self.cap)
        self.log("imitation_weight", weights)
        error = ((action[:, :count] - act) ** 2).mean(2, keepdim=True)
        return self.weight * scale_free(q) + self.bc_weight * weighted_mean(error, weights)

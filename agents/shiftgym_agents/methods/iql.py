"""Train IQL on source and target data: the base of most methods, with a hook for each idea.

Implicit Q-learning (Kostrikov, Nair & Levine 2022, arXiv:2110.06169; equations 5, 6, 7). With
rewards r, termination flag d (never truncation), Polyak copy Q' of twin critics and advantage
u = min Q'(s, a) - V(s):

    value    : mean |level - 1{u < 0}| u^2
    critics  : sum_j mean (Q_j(s, a) - y)^2,   y = r + gamma (1 - d) V(s')
    actor    : mean min(exp(temperature u), cap) * imitation(s, a)

One step goes value -> critics -> Polyak -> actor. The default "ours" is the variant that every
cross-domain result descends from (ODRL's): 128 + 128 rows, imitation = mean over action dimensions
of (tanh mean - a)^2, V(s') from the value just updated, u from the one before, cosine decay of the
actor's step size only. Other published choices are options; the presets say which.

Presets `paper` and `official` have a Gaussian policy and, on the three robots whose rewards the JAX
release scales, rewards scaled by returns: by one factor of the pair, since a single-domain release
does not say what two datasets would get, and factors of their own would make one domain's rewards
count up to 24 times the other's. `official` adds that release's initial weights and its floor of
log-deviations. Not reproduced: its dropout in the hands' actors. On the target alone both take 256
rows per update, as the release does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

import torch
from torch import Tensor

from shiftgym.basics.ranges import Amount, Level, Limit, Number, Share, SomeShare
from shiftgym_agents.core.agent import Agent, Config, Noise, Stage
from shiftgym_agents.core.losses import advantage_weights, expectile, weighted_mean
from shiftgym_agents.core.nets import Net, Parameter, minimise, orthogonal_mlp
from shiftgym_agents.core.networks import init_mlp
from shiftgym_agents.data.batches import Batch, Scaling

LOG_STD_RANGE = (-20.0, 2.0)
SCALED = ("hopper", "walker2d", "halfcheetah")  # whose rewards the release scales by returns
HANDS = ("pen", "door", "hammer", "relocate")


@dataclass(frozen=True)
class IQLConfig(Config):
    """Set the hyperparameters of IQL."""

    expectile: Level = 0.7
    """Level of the value's expectile: 0.5 is the mean, towards 1 the best action in the data."""
    temperature: Amount = 3.0
    """Inverse temperature of the actor's weights exp(temperature * advantage); 0 is imitation. Try
    1 for a few thousand updates: 3 then trusts values that are not yet right."""
    weight_cap: Limit = 100.0
    """Largest weight of a row in the actor's loss."""
    discount: Share = 0.99
    """Discount per environment step."""
    tau: SomeShare = 0.005
    """Share of the critics that their Polyak copies take over per update."""
    policy_head: Literal["mse", "gaussian"] = "mse"
    """Imitation by squared error of tanh(mean), or by log-likelihood with a learned deviation."""
    bc_reduce: Literal["mean", "sum"] = "mean"
    """Average or sum the squared error over action dimensions."""
    advantage: Literal["old_v", "new_v"] = "old_v"
    """Advantage in the actor's weights from the value before or after its own step."""
    bootstrap_v: Literal["new", "old"] = "new"
    """Bootstrap the critics from the value after or before its own step."""
    init: Literal["uniform", "orthogonal"] = "uniform"
    """Initial weights: PyTorch's uniform, or orthogonal with gain sqrt(2)."""
    normalize_states: Literal["none", "merged", "balanced", "target"] = "none"
    """Standardise observations by all rows, by both datasets weighing half, or by the target's."""
    normalize_reward: Literal["none", "returns"] = "none"
    """Scale a pair's rewards by 1000 / (best - worst return of a trajectory in either dataset)."""
    log_std_floor: Number = LOG_STD_RANGE[0]
    """Least log-deviation of a Gaussian policy."""

    @property
    def scaling(self) -> Scaling:
        """Say how the data are scaled before training."""
        return Scaling(self.normalize_states, self.normalize_reward)

    def for_robot(self, robot: str) -> Self:
        """Imitate more on the hands, and scale rewards of three robots only, as published."""
        chosen = self if robot in SCALED else replace(self, normalize_reward="none")
        return replace(chosen, temperature=0.5) if robot in HANDS else chosen


PAPER = IQLConfig(policy_head="gaussian", advantage="new_v", normalize_reward="returns")
OFFICIAL = replace(PAPER, init="orthogonal", log_std_floor=-5.0)
C = TypeVar("C", bound=IQLConfig)


class IQL(Agent[C], Generic[C]):
    """Train IQL on the mixture of source and target data.

    A method built on this overrides one of five hooks, and nothing else (`batch` holds source rows
    first, then target rows; `noise` holds the random numbers its stage asked for):

        relabel(batch, noise) -> Batch            1  other rewards, usually of the source rows
        choose(batch, noise) -> Batch, weights    2  keep some source rows; weigh the critics' rows
        next_value(batch, noise) -> (R, B, 1)     3  what rows bootstrap from, in place of V(s');
                                                     `targets` for more than that
        policy_penalty(batch, output, noise)      4  (R,) added to the actor's loss
        pretraining() -> [Stage, ...]             5  stages before this one

    and, where it needs them, `critic_errors`, `actor_loss`, which rows the value and the actor
    learn from (`value_rows`, `actor_rows`) and by what weights (`value_weights`, `actor_weights`),
    and what the networks read (`critic_inputs`, ...).
    """

    config_class = IQLConfig
    presets: ClassVar[Mapping[str, Any]] = {
        "ours": IQLConfig(),
        "paper": PAPER,
        "official": OFFICIAL,
    }
    value_rows: ClassVar[Literal["all", "target"]] = "all"
    actor_rows: ClassVar[Literal["all", "target"]] = "all"

    def build(self) -> None:
        """Declare value, twin critics with Polyak copies, and actor."""
        config, pair = self.config, self.obs_size + self.act_size
        options = {"init": orthogonal_mlp if config.init == "orthogonal" else init_mlp}
        self.value = self.net("value", (self.obs_size, *self.hidden, 1), **options)
        self.critic = self.net("critic", (pair, *self.hidden, 1), copies=2, **options)
        self.critic_copy = self.target_of("critic_copy", self.critic)
        heads = 2 if config.policy_head == "mse" else 1
        sizes = (self.obs_size, *self.hidden, heads * self.act_size)
        self._actor = self.net("actor", sizes, decay_steps=config.steps, **options)
        self.log_std: Parameter | None = None
        if config.policy_head == "gaussian":
            start = torch.zeros(self.runs, 1, self.act_size)
            self.log_std = self.parameter("log_std", start, decay_steps=config.steps)
        self.level, self.temperature = self.per_run("expectile"), self.per_run("temperature")
        self.discount, self.tau = self.per_run("discount"), self.alike_or_per_run("tau")
        self.weight_cap, self.least_std = self.per_run("weight_cap"), self.per_run("log_std_floor")

    @property
    def actor(self) -> Net:
        """Give the policy network."""
        return self._actor

    def stages(self) -> list[Stage]:
        """List the pre-training stages and then IQL itself."""
        sources = self.config.batch if self.uses_source else 0
        last = Stage(
            "train",
            self.config.steps,
            self.update,
            sources,
            self.config.batch,
            normal=self.noise_shapes(),
            evaluate=True,
        )
        return [*self.pretraining(), last]

    # --- hooks ------------------------------------------------------------------------------------

    def pretraining(self) -> list[Stage]:
        """List stages that come first."""
        return []

    def noise_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Name the standard normal numbers that the other hooks read from `noise`."""
        return {}

    def relabel(self, batch: Batch, noise: Noise) -> Batch:
        """Give the batch with other rewards (`Batch.relabelled`)."""
        return batch

    def choose(self, batch: Batch, noise: Noise) -> tuple[Batch, Tensor | None]:
        """Give the rows to train on and their weights `(R, B, 1)` in the critics' loss."""
        return batch, None

    def next_value(self, batch: Batch, noise: Noise) -> Tensor:
        """Give what each row bootstraps from, `(R, B, 1)`."""
        return self.value(self.next_inputs(batch))

    def targets(self, batch: Batch, noise: Noise) -> Tensor:
        """Give what the critics regress to, `(R, B, 1)`, without gradient."""
        keep = self.discount * (1 - batch.terminated)
        return torch.addcmul(batch.reward, keep, self.next_value(batch, noise))

    def critic_errors(self, error: Tensor, batch: Batch) -> Tensor:
        """Give the loss of each row from `error` = Q_j(s, a) - y, both `(R, 2, B, 1)`."""
        return error**2

    def policy_penalty(self, batch: Batch, output: Tensor, noise: Noise) -> Tensor | None:
        """Give what is added to each run's actor loss, `(R,)`.

        `output` is the actor's at `batch.obs`: means before tanh, then (head "mse") log-deviations
        that nothing else trains.
        """
        return None

    def critic_inputs(self, batch: Batch) -> Tensor:
        """Give what the critics read."""
        return batch.obs_act

    def value_inputs(self, batch: Batch) -> Tensor:
        """Give what the value reads at s."""
        return batch.obs

    def next_inputs(self, batch: Batch) -> Tensor:
        """Give what the value reads at s'."""
        return batch.next_obs

    # --- one step ---------------------------------------------------------------------------------

    def update(self, batch: Batch, noise: Noise) -> None:
        """Take one gradient step for every run."""
        with torch.no_grad():
            batch, weights = self.choose(self.relabel(batch, noise), noise)
            self.log_kept(batch, weights)
            pairs = self.critic_inputs(batch)
            best = self.critic_copy(pairs).amin(1)
        old = None
        if self.config.bootstrap_v == "old":
            with torch.no_grad():
                old = self.targets(batch, noise)
        advantage = self.update_value(batch, best)
        with torch.no_grad():
            y = self.targets(batch, noise) if old is None else old
        self.update_critics(pairs, y, weights, batch)
        self.update_actor(batch, advantage, noise)

    def update_value(self, batch: Batch, best: Tensor) -> Tensor:
        """Step the value towards an expectile of `best` `(R, B, 1)`; return advantages."""
        targets_only = self.value_rows == self.actor_rows == "target"
        rows, best = (batch.target, best[:, batch.sources :]) if targets_only else (batch, best)
        inputs = self.value_inputs(rows)
        advantage = best - self.value(inputs)
        own = advantage[:, rows.sources :] if self.value_rows == "target" else advantage
        loss = weighted_mean(expectile(own, self.level), self.value_weights(rows))
        minimise(loss, self.value)
        self.log("value_loss", loss)
        if self.config.advantage == "new_v":
            with torch.no_grad():
                advantage = best - self.value(inputs)
        advantage = advantage.detach()
        return advantage[:, rows.sources :] if self.actor_rows == "target" else advantage

    def value_weights(self, batch: Batch) -> Tensor | None:
        """Give what the rows that the value learns from weigh, `(R, B, 1)`; None for all alike."""
        return None

    def update_critics(
        self, pairs: Tensor, y: Tensor, weights: Tensor | None, batch: Batch
    ) -> None:
        """Step both critics towards `y` and let their copies follow."""
        q = self.critic(pairs)
        errors = self.critic_errors(q - y[:, None], batch)
        if weights is not None:
            weights = weights[:, None].expand(-1, 2, -1, -1)
        loss = 2 * weighted_mean(errors, weights)  # the sum of two means
        minimise(loss, self.critic, follower=self.critic_copy, share=self.tau)
        self.log("critic_loss", loss)
        self.log("q", q)

    def update_actor(self, batch: Batch, advantage: Tensor, noise: Noise) -> None:
        """Step the actor by advantage-weighted imitation."""
        rows = batch.target if self.actor_rows == "target" else batch
        weights = self.actor_weights(advantage, rows)
        output = self.actor(rows.obs)
        loss = self.actor_loss(self.imitation(output, rows.act), weights)
        penalty = self.policy_penalty(rows, output, noise)
        if penalty is not None:
            self.log("policy_penalty", penalty)
        trained = [self._actor] if self.log_std is None else [self._actor, self.log_std]
        minimise(loss if penalty is None else loss + penalty, *trained)
        self.log("actor_loss", loss)

    def actor_weights(self, advantage: Tensor, batch: Batch) -> Tensor:
        """Give what each row weighs in the actor's loss, `(R, B, 1)`."""
        weights = advantage_weights(advantage, self.temperature, self.weight_cap)
        self.log("capped_weights", (weights >= self.weight_cap).to(self.dtype))
        return weights

    def actor_loss(self, imitation: Tensor, weights: Tensor) -> Tensor:
        """Give each run's weighted imitation loss `(R,)` from `(R, B, 1)` each."""
        return weighted_mean(imitation, weights)

    def imitation(self, output: Tensor, act: Tensor) -> Tensor:
        """Give how badly the actor imitates each row, `(R, B, 1)`."""
        error = torch.tanh(output[..., : self.act_size]) - act
        if self.log_std is not None:  # -log N(a; tanh mean, std), without its constant
            log_std = self.log_std.rows.maximum(self.least_std).clamp(max=LOG_STD_RANGE[1])
            return (0.5 * (error / log_std.exp()) ** 2 + log_std).sum(-1, keepdim=True)
        if self.config.bc_reduce == "sum":
            return (error**2).sum(-1, keepdim=True)
        return (error**2).mean(-1, keepdim=True)


class TargetIQL(IQL[IQLConfig]):
    """IQL on the target data alone: what any use of source data must beat."""

    uses_source = False
    presets: ClassVar[Mapping[str, Any]] = {
        "ours": IQLConfig(),
        "paper": replace(PAPER, batch=256),
        "official": replace(OFFICIAL, batch=256),
    }

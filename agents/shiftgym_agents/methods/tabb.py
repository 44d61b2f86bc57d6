"""Learn critics from source rows as the target would answer them, trusting rows whose value agrees.

With latents z, z_sa, a predictor (r^, z^) = P(z_sa) of the target's answer (see `latents`) and an
anchor value A that learned from target rows alone:

    TBM     = | r + gamma (1 - d) A(f(s')) - r^ - gamma (1 - d) A(z^) |           source rows (5)
    w       = B softmax( -TBM / (temperature * mean TBM) )   over the batch's B source rows (7)
    critics : target rows towards r  + gamma (1 - d) V(f(s')),
              source rows towards r^ + gamma (1 - d) V(z^) with weight w, Huber's loss       (8)
    value   : expectile of min Q'(z_sa) - V(z)         on target rows alone                  (9)
    actor   : weighted imitation, reading s            on target rows alone                 (10)

If P is within e of the target's reward and next latent, the Bellman error of a source row under the
target's dynamics is at most TBM + (1 + gamma L) e for an L-Lipschitz A (11-15).

TABB (arXiv:2605.22376), rebuilt from the paper's words: its displayed equations and hyperparameters
were not available, and no code is public; numbers in brackets are the paper's. Stated: what A, V
and the actor learn from, one A in both terms, small TBM means large weight, Huber, critics reading
z_sa. Inferred: the exponential normalised over the batch, V in (8), no gradient through TBM,
encoders frozen, A a value of its own (trained as latent IQL and then frozen, so that TBM is one
number per row). Chosen: weights of mean one, the scale mean TBM in (7), which bounds w by
exp(1/temperature), and its floor, d on both sides, sizes and steps. Preset "official" is "paper".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from shiftgym.basics.ranges import Amount, AmountOrInf, CountOrNone, Limit, Share
from shiftgym_agents.components.latents import Latents, LatentsConfig
from shiftgym_agents.core.agent import Noise, Stage
from shiftgym_agents.core.losses import expectile, huber, weighted_mean
from shiftgym_agents.core.nets import Net, minimise
from shiftgym_agents.data.batches import Batch
from shiftgym_agents.methods.iql import IQL, IQLConfig


@dataclass(frozen=True)
class TABBConfig(IQLConfig, LatentsConfig):
    """Set the hyperparameters of TABB."""

    weight_temperature: AmountOrInf = 1.0
    """Temperature of source weights: towards 0 only the best row counts, inf weighs all alike."""
    weight_scale: Literal["mean", "median", "one"] = "mean"
    """What TBM is divided by before: its mean or median over the batch, or nothing."""
    weight_floor: Share = 0.01
    """Least scale, in standard deviations of the target rows' Bellman targets (separate anchor)."""
    source_cap: Limit = 10.0
    """Largest weight of a source row; reached only below a temperature of 1 / log(cap)."""
    source_cost: Amount = 1.0
    """Weight of all source rows beside the target rows in the critics' loss."""
    source_weights: Literal["tbm", "one", "zero"] = "tbm"
    """Weights as above, or an ablation: all alike, or no source rows at all."""
    source_targets: Literal["aligned", "realised"] = "aligned"
    """Source rows regress to what the target would answer, or to what the source did (ablation)."""
    source_actor: bool = False
    """Imitate source actions, too (ablation)."""
    predicted_end: Literal["observed", "never"] = "observed"
    """Whether predicted next states are terminal: as the source row was, or never."""
    huber: Limit = 1.0
    """Error beyond which the critics' loss grows linearly; inf for squares."""
    anchor: Literal["separate", "shared", "polyak"] = "separate"
    """A: a value trained on target rows before, the running V, or V's Polyak copy."""
    anchor_steps: CountOrNone = 50_000
    """Updates of a separate anchor."""


PAPER = TABBConfig(latent_state=256, latent_pair=256, latent_activation="elu")
LATENT = {"value": "latent_state", "critic": "latent_pair"}  # networks that read latents


class TABB(IQL[TABBConfig]):
    """Latent IQL with weighted, target-aligned source rows; see the module."""

    config_class = TABBConfig
    presets: ClassVar[Mapping[str, Any]] = {"ours": TABBConfig(), "paper": PAPER, "official": PAPER}
    value_rows = "target"
    actor_rows = "target"

    def build(self) -> None:
        """Declare latents and anchor besides IQL's networks."""
        super().build()
        config = self.config
        if config.source_actor:
            self.actor_rows = "all"  # pyright: ignore[reportAttributeAccessIssue]
        self.latents = Latents(self, config)
        self.anchor = self.value
        if config.anchor == "polyak":
            self.anchor = self.target_of("anchor", self.value)
        elif config.anchor == "separate":
            self.anchor = self.net("anchor", self.value.sizes)
            self.anchor_critic = self.net("anchor_critic", self.critic.sizes, copies=2)
            self.anchor_copy = self.target_of("anchor_copy", self.anchor_critic)
        self.floor = torch.zeros(self.runs, 1, 1, dtype=self.dtype, device=self.device)
        self.delta, self.source_cost = self.per_run("huber"), self.per_run("source_cost")
        self.weight_temperature = self.per_run("weight_temperature")
        self.cap = self.per_run("source_cap")

    def net(self, name: str, sizes: Any, **options: Any) -> Net:
        """Declare networks; value and critics read latents in place of observations."""
        if name in LATENT:
            sizes = (getattr(self.config, LATENT[name]), *sizes[1:])
        return super().net(name, sizes, **options)

    def pretraining(self) -> list[Stage]:
        """Learn latents, then the anchor."""
        stages, config = self.latents.stages(), self.config
        if config.anchor != "separate":
            return stages
        last = Stage(
            "anchor", config.anchor_steps, self.update_anchor, 0, config.batch, finish=self.anchored
        )
        return [*stages, last]

    # --- the anchor -------------------------------------------------------------------------------

    def update_anchor(self, batch: Batch, noise: Noise) -> None:
        """Take one step of latent IQL on target rows."""
        with torch.no_grad():
            z = self.latents.state(batch.obs)
            pairs, after = self.latents.pair(z, batch.act), self.latents.state(batch.next_obs)
            best = self.anchor_copy(pairs).amin(1)
        loss = weighted_mean(expectile(best - self.anchor(z), self.level))
        minimise(loss, self.anchor)
        with torch.no_grad():
            y = batch.reward + self.discount * (1 - batch.terminated) * self.anchor(after)
        critic_loss = 2 * weighted_mean((self.anchor_critic(pairs) - y[:, None]) ** 2)
        minimise(critic_loss, self.anchor_critic, follower=self.anchor_copy, share=self.tau)
        self.log("anchor_loss", loss)
        self.log("anchor_critic_loss", critic_loss)

    @torch.no_grad()
    def anchored(self) -> None:
        """Freeze the anchor; store every source row's TBM and the least scale for weights."""
        self.anchor.freeze()
        self.anchor_critic.freeze()
        rows = [self.tbm(batch)[..., 0] for _, batch in self.data.sweep("source")]
        self.data.add_column("source", "tbm", torch.cat(rows, 1))
        rows = [self.realised(batch)[..., 0] for _, batch in self.data.sweep("target")]
        y, sizes = torch.cat(rows, 1).double(), self.data.sizes["target"]
        spread = [float(y[run, :size].std(correction=0)) for run, size in enumerate(sizes)]
        floor = self.per_run("weight_floor")
        self.floor.copy_(floor * torch.tensor(spread, device=self.device).view_as(floor))

    def realised(self, batch: Batch) -> Tensor:
        """Give r + gamma (1 - d) A(f(s')), `(R, B, 1)`."""
        after = self.anchor(self.latents.state(batch.next_obs))
        return batch.reward + self.discount * (1 - batch.terminated) * after

    def aligned(self, batch: Batch) -> Tensor:
        """Give r^ + gamma (1 - d) A(z^), `(R, B, 1)`."""
        pairs = self.latents.pair(self.latents.state(batch.obs), batch.act)
        reward, after = self.latents.predict(pairs)
        return reward + self.discount * (1 - self.predicted_end(batch)) * self.anchor(after)

    def tbm(self, batch: Batch) -> Tensor:
        """Give how much the two differ, `(R, B, 1)`."""
        return (self.realised(batch) - self.aligned(batch)).abs()

    def predicted_end(self, batch: Batch) -> Tensor:
        """Say where predicted next states are terminal, `(R, B, 1)`."""
        never = self.config.predicted_end == "never"
        return torch.zeros_like(batch.terminated) if never else batch.terminated

    def source_scores(self) -> Tensor | None:
        """Give every source row's TBM, negative; a running anchor has to have learned first."""
        if self.config.anchor == "separate":
            known = self.data.columns["source"].get("tbm")
            return None if known is None else -known
        if not self.value.moved:
            return None
        return -torch.cat([self.tbm(batch)[..., 0] for _, batch in self.data.sweep("source")], 1)

    def tbm_weights(self, tbm: Tensor) -> Tensor:
        """Weigh the source rows of a batch by their TBM, `(R, S, 1)` each."""
        scale = torch.ones_like(self.floor)
        if self.config.weight_scale == "mean":
            scale = tbm.mean(1, keepdim=True).clamp(min=1e-8).maximum(self.floor)
        elif self.config.weight_scale == "median":
            scale = tbm.median(1, keepdim=True).values.clamp(min=1e-8).maximum(self.floor)
        weights = torch.softmax(-tbm / (self.weight_temperature * scale), 1)
        return (tbm.shape[1] * weights).minimum(self.cap)

    # --- the hooks --------------------------------------------------------------------------------

    def relabel(self, batch: Batch, noise: Noise) -> Batch:
        """Put latents beside the rows; give source rows the predicted reward and next latent."""
        z = self.latents.state(batch.obs)
        pairs = self.latents.pair(z, batch.act)
        reward, ends = batch.reward, batch.terminated
        if self.config.source_targets == "realised":
            after = self.latents.state(batch.next_obs)
        else:
            source, target = batch.source, batch.target
            predicted, after = self.latents.predict(pairs[:, : batch.sources])
            reward = torch.cat([predicted, target.reward], 1)
            ends = torch.cat([self.predicted_end(source), target.terminated], 1)
            after = torch.cat([after, self.latents.state(target.next_obs)], 1)
        columns = {**batch.columns, "state": z, "pair": pairs, "next": after}
        if self.config.anchor != "separate":
            columns["tbm"] = batch.on_source(self.tbm(batch.source))
        return replace(batch, reward=reward, terminated=ends, columns=columns)

    def choose(self, batch: Batch, noise: Noise) -> tuple[Batch, Tensor | None]:
        """Keep all rows; weigh source rows."""
        ones = torch.ones_like(batch.reward[:, : batch.sources])
        if self.config.source_weights != "tbm":
            weights = ones if self.config.source_weights == "one" else 0 * ones
        else:
            weights = self.tbm_weights(batch.source.columns["tbm"])
            size = weights.sum(1) ** 2 / (weights**2).sum(1) / batch.sources
            self.log("effective_sources", size)
        return batch, batch.on_source(self.source_cost * weights, 1.0)

    def update_value(self, batch: Batch, best: Tensor) -> Tensor:
        """Step the value as IQL does; let its Polyak copy follow where it is the anchor."""
        advantage = super().update_value(batch, best)
        if self.config.anchor == "polyak":
            self.anchor.follow(self.value, self.tau)
        return advantage

    def critic_inputs(self, batch: Batch) -> Tensor:
        """Give z_sa."""
        return batch.columns["pair"]

    def critic_pairs(self, obs: Tensor, act: Tensor) -> Tensor:
        """Give z_sa of any actions."""
        return self.latents.pair(self.latents.state(obs), act)

    def value_inputs(self, batch: Batch) -> Tensor:
        """Give z."""
        return batch.columns["state"]

    def next_inputs(self, batch: Batch) -> Tensor:
        """Give f(s') or z^."""
        return batch.columns["next"]

    def critic_errors(self, error: Tensor, batch: Batch) -> Tensor:
        """Take Huber's loss twice: the core averages over both sides together."""
        return 2 * huber(error, self.delta[:, None])  # pyright: ignore[reportArgumentType]

"""Keep values of actions outside the data low: CQL, on source and target data.

Conservative Q-learning (Kumar et al., NeurIPS 2020, arXiv:2006.04779, equation 4, with importance
sampling as in its appendix F): soft actor-critic, and critics that push down what they overrate.
Twin critics Q_j with Polyak copies Q'_j, a Gaussian policy squashed by tanh, entropy weight e:

    critics : sum_j mean (Q_j(s, a) - y)^2 + penalty mean [ lse_j(s) - Q_j(s, a) ]
              y = r + gamma (1 - d) min_j Q'_j(s', a'),   a' ~ pi(.|s')
              lse_j(s) = log sum_k exp(Q_j(s, a_k)) / w_k
    actor   : mean [ e log pi(a|s) - min_j Q_j(s, a) ],   a ~ pi(.|s)
    entropy : -log e * mean (log pi(a|s) - A),   e > 0

a_k are `candidates` uniform actions (density w = 2^-A) and as many of pi(.|s) and of pi(.|s') (w
their density), all valued at s. The three losses are taken before the three steps. penalty = 0 is
soft actor-critic without entropy in its targets. Source and target rows are treated alike: this is
the CQL* of tables that train it on both.

Stated: the losses. Read in CORL's code: penalty 10 (hands: 1), actor and entropy 3e-5 (hands: 1e-4)
and critics 3e-4, three layers, orthogonal critics, log deviation m x + b with learned m = 1, b = -1
from the actor's output x, all 30 candidates at every row, observations standardised. Chosen: 128 +
128 rows.

Presets: `official` has CORL's values, `paper` also the authors' penalty of 5. On the CPU an update
of theirs costs as much as 25 of IQL, nearly all of it for candidates at every row. `ours` has two
layers, and all 30 candidates at 16 rows of each dataset, drawn anew in every update: the mean over
rows is as right, only noisier. Fewer candidates would be another penalty: where Q has one broad
peak in six dimensions, 3 of them estimate log sum exp 5.3 too low, and 30 (as published) 2.1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor
from torch.nn.functional import softplus

from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.ranges import Amount, Count, Positive, Share, Size, SizeOrNone, SomeShare
from shiftgym_agents.core.agent import Agent, Config, Noise, Stage
from shiftgym_agents.core.losses import weighted_mean
from shiftgym_agents.core.nets import Net, minimise, orthogonal_mlp
from shiftgym_agents.core.networks import Layers
from shiftgym_agents.data.batches import Batch, Scaling
from shiftgym_agents.methods.iql import HANDS, LOG_STD_RANGE


@dataclass(frozen=True)
class CQLConfig(Config):
    """Set the hyperparameters of CQL."""

    steps: Count = 1_000_000
    """Gradient updates per run."""
    width: Size = 256
    """Units in each hidden layer of every network."""
    layers: Size = 2
    """Hidden layers of every network."""
    actor_rate: Positive = 3e-5
    """Adam's step size for actor and entropy weight; the critics' is `learning_rate`."""
    discount: Share = 0.99
    """Discount per environment step."""
    tau: SomeShare = 0.005
    """Share of the critics that their Polyak copies take over per update."""
    penalty: Amount = 10.0
    """Weight of the conservative penalty beside the squared error; 0 is soft actor-critic."""
    penalty_rows: SizeOrNone = 16
    """Most rows of each dataset per update that the penalty is averaged over; 0 for all."""
    candidates: Size = 10
    """Actions of each of three kinds that the penalty weighs against the data's, per row; few of
    them miss peaks of Q."""
    normalize_states: Literal["none", "merged", "balanced", "target"] = "balanced"
    """Standardise observations by all rows, by both datasets weighing half, or by the target's."""

    @property
    def scaling(self) -> Scaling:
        """Say how the data are scaled before training."""
        return Scaling(self.normalize_states)

    def for_robot(self, robot: str) -> Self:
        """Give the hands their published penalty and step size, 1 and 1e-4."""
        return replace(self, penalty=1.0, actor_rate=1e-4) if robot in HANDS else self


PUBLISHED = CQLConfig(layers=3, penalty_rows=0, normalize_states="merged")


class CQL(Agent[CQLConfig]):
    """CQL on source and target data; see the module."""

    config_class = CQLConfig
    presets: ClassVar[Mapping[str, Any]] = {
        "ours": CQLConfig(),
        "paper": replace(PUBLISHED, penalty=5.0),
        "official": PUBLISHED,
    }

    def build(self) -> None:
        """Declare actor, entropy weight and twin critics with Polyak copies."""
        config, hidden = self.config, [self.config.width] * self.config.layers
        rate = self.per_run("actor_rate").flatten()
        self._actor = self.net("actor", (self.obs_size, *hidden, 2 * self.act_size), rate=rate)
        spread = torch.tensor([[1.0, -1.0]]).repeat(self.runs, 1)
        self.spread = self.parameter("log_std", spread, rate=rate)  # m, b
        self.log_entropy_weight = self.parameter("entropy", torch.zeros(self.runs, 1), rate=rate)
        sizes = (self.obs_size + self.act_size, *hidden, 1)
        self.critic = self.net("critic", sizes, copies=2, init=flat_orthogonal_mlp)
        self.critic_copy = self.target_of("critic_copy", self.critic)
        self.discount, self.penalty = self.per_run("discount"), self.per_run("penalty").flatten()
        self.tau = self.alike_or_per_run("tau")
        self.penalised = min(config.penalty_rows or config.batch, config.batch)
        if self.penalised < 1:
            raise ShiftgymError(f"--penalty-rows is {config.penalty_rows}: give 0 or more.")

    @property
    def actor(self) -> Net:
        """Give the policy network."""
        return self._actor

    def stages(self) -> list[Stage]:
        """List the one stage."""
        rows, act = self.config.batch, self.act_size
        candidates = (2 * self.penalised, self.config.candidates, act)
        normal = {
            "now": (2 * rows, act),
            "next": (2 * rows, act),
            "candidates": candidates,
            "next_candidates": candidates,
        }
        uniform = {"candidates_anywhere": candidates}
        steps, update = self.config.steps, self.update
        return [Stage("train", steps, update, rows, rows, normal, uniform, evaluate=True)]

    def update(self, batch: Batch, noise: Noise) -> None:
        """Take one gradient step for every run."""
        weight = self.log_entropy_weight.rows.exp().detach()[..., None]
        now = self.distribution(batch.obs)
        action, log_prob = squashed(*now, noise["now"])
        with torch.no_grad():
            after = self.distribution(batch.next_obs)
            pairs = torch.cat([batch.next_obs, squashed(*after, noise["next"])[0]], 2)
            keep = self.discount * (1 - batch.terminated)
            y = torch.addcmul(batch.reward, keep, self.critic_copy(pairs).amin(1))
            candidates, log_density = self.candidates(batch, now, after, noise)
        self.update_entropy_weight(log_prob.detach())
        self.update_actor(batch, action, log_prob, weight)
        self.update_critics(batch, y, candidates, log_density)

    def distribution(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Give mean and log deviation of actions before tanh, `(R, B, A)` each."""
        mean, raw = self.actor(obs).chunk(2, 2)
        scale, shift = self.spread.rows[..., None, None].unbind(1)
        return mean, (scale * raw + shift).clamp(*LOG_STD_RANGE)

    def some(self, x: Tensor) -> Tensor:
        """Keep the rows of a batch that are penalised: the first of each dataset."""
        source, target = x.tensor_split(2, -2)
        rows = self.penalised
        return torch.cat([source[..., :rows, :], target[..., :rows, :]], -2)

    def candidates(
        self,
        batch: Batch,
        now: tuple[Tensor, Tensor],
        after: tuple[Tensor, Tensor],
        noise: Noise,
    ) -> tuple[Tensor, Tensor]:
        """Draw K actions per penalised row: pairs `(R, P, K, O + A)` and log w `(R, P, K, 1)`."""
        anywhere = 2 * noise["candidates_anywhere"] - 1
        found = [(anywhere, torch.full_like(anywhere[..., :1], -self.act_size * math.log(2)))]
        for of, name in ((now, "candidates"), (after, "next_candidates")):
            mean, log_std = (self.some(part)[:, :, None] for part in of)
            found.append(squashed(mean, log_std, noise[name]))
        actions, log_density = (torch.cat(parts, 2) for parts in zip(*found, strict=True))
        obs = self.some(batch.obs)[:, :, None].expand(-1, -1, actions.shape[2], -1)
        return torch.cat([obs, actions], 3), log_density

    def update_entropy_weight(self, log_prob: Tensor) -> None:
        """Step the entropy's weight towards an entropy of -A."""
        gap = weighted_mean(log_prob) - self.act_size
        weight = self.log_entropy_weight
        minimise(-weight.rows[:, 0] * gap, weight)
        self.log("entropy", -log_prob)
        self.log("entropy_weight", weight.rows.exp())

    def update_actor(self, batch: Batch, action: Tensor, log_prob: Tensor, weight: Tensor) -> None:
        """Step the actor up the lower critic, with entropy `weight` `(R, 1, 1)`."""
        q = self.critic.fixed(torch.cat([batch.obs, action], 2)).amin(1)
        loss = weighted_mean(weight * log_prob - q)
        minimise(loss, self.actor, self.spread)
        self.log("actor_loss", loss)

    def update_critics(
        self, batch: Batch, y: Tensor, candidates: Tensor, log_density: Tensor
    ) -> None:
        """Step both critics towards `y` and against overrated candidates; copies follow."""
        runs, rows, count, _ = candidates.shape
        q = self.critic(batch.obs_act)
        others = self.critic(candidates.flatten(1, 2)).view(runs, 2, rows, count)
        gap = overrated(others, log_density[:, None, ..., 0], self.some(q))
        errors = 2 * weighted_mean((q - y[:, None]) ** 2)  # the sum of two means
        penalty = self.penalty * 2 * weighted_mean(gap)
        minimise(errors + penalty, self.critic, follower=self.critic_copy, share=self.tau)
        self.log("critic_loss", errors)
        self.log("overrated", gap)
        self.log("q", q)


def overrated(others: Tensor, log_density: Tensor, q: Tensor) -> Tensor:
    """Give log sum_k exp(Q(s, a_k)) / w_k - Q(s, a) of rows: `(..., P, K)` to `(..., P, 1)`."""
    return torch.logsumexp(others - log_density, -1, keepdim=True) - q


def squashed(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Give actions tanh(u), u ~ N(mean, std), `(..., A)`, and their log density `(..., 1)`."""
    u = mean + log_std.exp() * noise
    log_normal = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)
    log_slope = 2 * (math.log(2) - u - softplus(-2 * u))  # log of 1 - tanh(u)^2
    return torch.tanh(u), (log_normal - log_slope).sum(-1, keepdim=True)


def flat_orthogonal_mlp(sizes: Sequence[int], generators: Sequence[torch.Generator]) -> Layers:
    """Draw orthogonal layers of gain sqrt(2), the last of gain 0.01, with zero biases."""
    layers = orthogonal_mlp(sizes, generators)
    layers[-1][0].mul_(0.01 / math.sqrt(2))
    return layers

"""Learn latent states that predict reward and next latent state, shared by source and target.

    z     = N(f(s))                     state encoder; N divides by the mean absolute entry
    z_sa  = g(z, relu(E a))             state-action encoder, E linear
    r^, z^ = P(z_sa)                    predictor; N applies to z^, too
    loss  = mean [ c (r^ - r)^2 + (1/d) sum_k w_k (z^_k - sg z'_k)^2 ],   z' = N(f(s'))
    w_k   = 1 / (Var_target z_k + 1e-4)

First everything learns on source and target rows, then, encoders frozen, P alone on target rows.

TABB (arXiv:2605.22376; equations 4 and 6, rebuilt from the paper's words). Stated: two shared
encoders, an MLP for reward and next latent, both stages and their data, a diagonal matrix from the
variance of the target's latents. Inferred: squared errors, g reads z, an embedding of actions,
inverse variance, which makes predicting the mean cost 1 per dimension at any scale of the latents.
Chosen: sizes, N, the stopped gradient, w anew every 250 updates, as many source as target rows, a
tenth of the target rows held out of both stages, the best predictor on them kept, be it that of the
first stage. z^ is normalised as z' is, in the loss as in what is asked for later. ReLU and 64
dimensions are fast on the CPU; preset "paper" has ELU and 256.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import elu, layer_norm

from shiftgym.basics.ranges import Amount, Count, CountOrNone, HeldOut, Size
from shiftgym_agents.components.holdout import HoldOut
from shiftgym_agents.core.agent import Agent, Noise, Stage
from shiftgym_agents.core.losses import weighted_mean
from shiftgym_agents.core.nets import Net, minimise
from shiftgym_agents.data.batches import Batch

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "elu": elu}
COLLAPSED = 1e-3  # median variance of a latent dimension below which a warning is due


@dataclass(frozen=True)
class LatentsConfig:
    """Set the hyperparameters of the latents; a method's configuration extends it."""

    latent_state: Size = 64
    """Dimensions of latent states."""
    latent_pair: Size = 64
    """Dimensions of latent state-action pairs."""
    latent_action: Size = 64
    """Dimensions of a linear embedding of actions; 0 to give encoders the action itself."""
    latent_activation: Literal["relu", "elu"] = "relu"
    """Between the layers of encoders and predictor; relu runs in C++ on the CPU."""
    latent_norm: Literal["avg_l1", "layer_norm", "none"] = "avg_l1"
    """How latent states are normalised."""
    latent_spread: Literal["inverse", "variance", "identity"] = "inverse"
    """Weights of the latent error's dimensions: 1 / variance over target states, variance, or 1."""
    latent_every: Count = 250
    """Updates between estimates of that variance."""
    reward_cost: Amount = 1.0
    """Weight of the reward's squared error beside the latent error."""
    representation_steps: CountOrNone = 50_000
    """Updates of encoders and predictor on source and target rows."""
    finetune_steps: CountOrNone = 5_000
    """Updates of the predictor alone on target rows; 0 leaves this stage out."""
    finetune_every: Count = 50
    """Updates of that stage between looks at its error on held-out rows."""
    finetune_hold_out: HeldOut = 0.1
    """Share of target rows held out of both stages, to keep the best predictor by."""


class Latents:
    """Hold encoders and predictor of every run.

    Args:
        agent: The runs; call this while it builds.
        config: How large, and how trained.
    """

    def __init__(self, agent: Agent[Any], config: LatentsConfig) -> None:
        self.agent, self.config = agent, config
        hidden, embedded = agent.hidden, config.latent_action
        state, pair = config.latent_state, config.latent_pair
        self.activation = ACTIVATIONS[config.latent_activation]
        options = {"activation": self.activation}
        self.state_encoder = agent.net("state_encoder", (agent.obs_size, *hidden, state), **options)
        self.embedding: Net | None = None
        if embedded:
            self.embedding = agent.net("action_embedding", (agent.act_size, embedded), **options)
        sizes = (state + (embedded or agent.act_size), *hidden, pair)
        self.pair_encoder = agent.net("pair_encoder", sizes, **options)
        self.predictor = agent.net("predictor", (pair, *hidden, 1 + state), **options)
        self.encoders = [self.state_encoder, self.pair_encoder]
        self.encoders += [self.embedding] if self.embedding is not None else []
        self.reward_cost = agent.per_run("reward_cost")
        self.held: HoldOut | None = None
        if config.finetune_steps:
            self.held = HoldOut(agent, self.predictor, config.finetune_hold_out)
        weights = torch.ones(agent.runs, 1, state, dtype=agent.dtype)
        self.weights = agent.buffer("latent_weights", weights)
        self.reweigh()

    def state(self, obs: Tensor) -> Tensor:
        """Encode states `(R, B, O)` as `(R, B, latent_state)`."""
        return self.normalise(self.state_encoder(obs))

    def pair(self, state: Tensor, act: Tensor) -> Tensor:
        """Encode latent states with actions as `(R, B, latent_pair)`."""
        if self.embedding is not None:
            act = self.activation(self.embedding(act))
        return self.pair_encoder(torch.cat([state, act], -1))

    def predict(self, pair: Tensor) -> tuple[Tensor, Tensor]:
        """Predict reward `(R, B, 1)` and next latent state, normalised as those encoded are."""
        output = self.predictor(pair)
        return output[..., :1], self.normalise(output[..., 1:])

    def normalise(self, z: Tensor) -> Tensor:
        """Bring latent states to the scale that everything reads."""
        if self.config.latent_norm == "avg_l1":
            return z / z.abs().mean(-1, keepdim=True).clamp(min=1e-8)
        return layer_norm(z, z.shape[-1:]) if self.config.latent_norm == "layer_norm" else z

    def errors(self, batch: Batch) -> Tensor:
        """Give the loss of each row, `(R, B, 1)`."""
        with torch.no_grad():
            after = self.state(batch.next_obs)
        reward, latent = self.predict(self.pair(self.state(batch.obs), batch.act))
        missed = (self.weights * (latent - after) ** 2).mean(-1, keepdim=True)
        return self.reward_cost * (reward - batch.reward) ** 2 + missed

    # --- stages -----------------------------------------------------------------------------------

    def stages(self) -> list[Stage]:
        """List the stage of everything and, where it has updates, the predictor's own."""
        config, rows = self.config, self.agent.config.batch
        first = Stage(
            "latents",
            config.representation_steps,
            self.learn,
            rows,
            rows,
            every=config.latent_every,
            check=self.reweigh,
            finish=self.freeze,
        )
        if self.held is None:
            return [first]
        second = Stage(
            "predictor",
            config.finetune_steps,
            self.finetune,
            0,
            rows,
            every=config.finetune_every,
            check=self.look,
            finish=self.held.restore,
        )
        return [first, second]

    def learn(self, batch: Batch, noise: Noise) -> None:
        """Take one step of encoders and predictor on both sides' rows."""
        self._descend(batch, [*self.encoders, self.predictor], "latent_loss")

    def finetune(self, batch: Batch, noise: Noise) -> None:
        """Take one step of the predictor on target rows."""
        self._descend(batch, [self.predictor], "predictor_loss")

    def _descend(self, batch: Batch, nets: list[Net], name: str) -> None:
        weights = None if self.held is None else self.held.training_weights(batch)
        loss = weighted_mean(self.errors(batch), weights)
        minimise(loss, *nets)
        self.agent.log(name, loss)

    @torch.no_grad()
    def reweigh(self) -> None:
        """Weigh the latent error's dimensions by their variance over target states."""
        spread = self.covariance().diagonal(dim1=1, dim2=2)[:, None]
        if self.config.latent_spread == "inverse":
            self.weights.copy_(1 / (spread + 1e-4))
        elif self.config.latent_spread == "variance":
            self.weights.copy_(spread)

    @torch.no_grad()
    def look(self) -> None:
        """Judge the predictors by their errors on held-out rows."""
        if self.held is not None:
            self.held.look(self.errors(self.held.batch())[:, None])

    def freeze(self) -> None:
        """Fix the encoders, and the predictor where it has no stage of its own."""
        for net in self.encoders:
            net.freeze()
        if self.held is None:
            self.predictor.freeze()
        elif not self.held.looked:
            self.look()  # the first stage's predictor may be the best
        for run, covariance in enumerate(self.covariance()):
            middle = covariance.diagonal().median().item()
            if middle < COLLAPSED:
                warnings.warn(
                    f"run {run}: latent states hardly differ between target states (median "
                    f"variance {middle:.1e}, effective rank {effective_rank(covariance):.1f}); "
                    "train them longer or with another --latent-norm",
                    stacklevel=2,
                )

    @torch.no_grad()
    def covariance(self) -> Tensor:
        """Give the covariance of latents of each run's target states, `(R, d, d)` float64."""
        data, count = self.agent.data, self.agent.data.sizes["target"]
        sizes = torch.tensor(count, device=self.weights.device)[:, None, None]
        sums = products = torch.zeros((), dtype=torch.float64)
        for part, batch in data.sweep("target"):
            z = self.state(batch.obs).double()
            place = torch.arange(part.start, part.stop, device=z.device)[:, None]
            z = z * (place < sizes)  # shorter datasets repeat their last row
            sums = z.sum(1, keepdim=True) + sums.to(z.device)
            products = z.transpose(1, 2) @ z + products.to(z.device)
        mean = sums / sizes
        return products / sizes - mean.transpose(1, 2) @ mean


def effective_rank(covariance: Tensor) -> float:
    """Give exp of the entropy of a covariance's normalised eigenvalues."""
    values = torch.linalg.eigvalsh(covariance).clamp(min=1e-30)
    shares = values / values.sum()
    return float(torch.exp(-(shares * shares.log()).sum()))

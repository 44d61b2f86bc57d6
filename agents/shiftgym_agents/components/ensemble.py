"""Learn the dynamics of a dataset as an ensemble of Gaussian networks.

Member i of N predicts reward and change of state of a transition from the standardised (s, a):

    mu_i, v_i = MLP_i(s, a),  t = ((r, s' - s) - mean) / deviation,  each 1 + O long, reward first
    loss      = sum_i mean [ (mu_i - t)^2 exp(-v_i) + v_i ]  +  sum_l w_l |W_l|^2 / 2

v is softly bounded to [-10, 0.5], so that a member may expect deviations from 0.7 % to 128 % of the
usual ones; every member draws rows of its own. What is held out, when it stops and how good it
became is the frame's (see `dynamics`).

Chua et al. 2018 (arXiv:1805.12114) and Janner et al. 2019 (MBPO, arXiv:1906.08253), as used by
DROCO (arXiv:2512.02486). Stated there: N = 7, reward and state predicted. From the released code:
the loss with these w_l and constant bounds, four hidden layers of 200, Adam 1e-3, batches of 256,
no elites, inputs standardised and targets not (`model_targets`). Chosen: standardised targets,
without which bounds and losses are about the few dimensions of largest numbers; two layers, which
do no worse on them at less than half the cost; hold-out and stopping, which the released code lacks
(its number of epochs is not published); ReLU, which runs in C++ on the CPU, where it has Swish;
weights cut at two deviations, as it intends; rows drawn with replacement, not in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from shiftgym.basics.ranges import Size
from shiftgym_agents.components.dynamics import ACTIVATIONS, Model, ModelConfig, each, split
from shiftgym_agents.core.agent import Agent, Noise, Stage
from shiftgym_agents.core.losses import weighted_mean
from shiftgym_agents.core.nets import minimise
from shiftgym_agents.core.networks import Layers, unpack
from shiftgym_agents.data.batches import Batch

LOG_VARIANCE_RANGE = (-10.0, 0.5)
DECAY = (2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4)  # w_l of five layers, first layer first


@dataclass(frozen=True)
class EnsembleConfig(ModelConfig):
    """Set the hyperparameters of the ensemble; a method's configuration extends it."""

    model_layers: Size = 2
    """Hidden layers of a model; published are 4."""
    model_targets: Literal["standard", "raw"] = "standard"
    """Learn changes and rewards standardised by the data's, or as they are (released code)."""


class Ensemble(Model):
    """Model the dynamics of one side's data for every run.

    Args:
        agent: The runs; call this while it builds, after its own networks.
        config: How large, and how trained.
        name: What its parameters are called in the agent.
        side: Whose dynamics: target or source.
    """

    def __init__(
        self,
        agent: Agent[Any],
        config: EnsembleConfig,
        name: str = "dynamics",
        side: Literal["source", "target"] = "target",
    ) -> None:
        self.config, self.name = config, name
        obs, act = agent.obs_size, agent.act_size
        sizes = (obs + act, *[config.model_width] * config.model_layers, 2 * (1 + obs))
        self.net = agent.net(
            name,
            sizes,
            copies=config.members,
            rate=agent.per_run("model_rate").double().flatten(),
            activation=ACTIVATIONS[config.model_activation],
            init=small_normal_mlp,
        )
        super().__init__(agent, config, self.net, side)
        self.shift, self.scale = self.moments(lambda batch: batch.obs_act)
        self.aim_shift, self.aim_scale = self.moments(aims)
        self.ignorant = 0 * self.aim_shift  # what somebody would predict who knows the mean alone
        if config.model_targets == "raw":
            self.ignorant = self.aim_shift
            self.aim_shift, self.aim_scale = 0 * self.aim_shift, torch.ones_like(self.aim_scale)
        self.decay = torch.zeros(1, 1, self.net.rows.shape[2], dtype=agent.dtype)
        layers = unpack(self.decay[0], sizes)
        for (weight, _), cost in zip(layers, decays(len(layers)), strict=True):
            weight.fill_(cost)
        self.decay = self.decay.to(agent.device)

    def __call__(self, obs_act: Tensor) -> tuple[Tensor, Tensor]:
        """Predict reward and change of state at `(R, B, O + A)`.

        Returns:
            Mean and log variance, `(R, N, B, 1 + O)` each, the reward first.
        """
        mean, log_variance = self.standard(obs_act)
        shift, scale = self.aim_shift[:, None], self.aim_scale[:, None]
        return mean * scale + shift, log_variance + 2 * scale.log()

    def standard(self, obs_act: Tensor) -> tuple[Tensor, Tensor]:
        """Predict likewise in the units that are learned."""
        return bounded(self.net((obs_act - self.shift) / self.scale))

    def predict(self, obs: Tensor, act: Tensor) -> Tensor:
        """Predict every member's mean of next states, `(R, N, B, O)`."""
        return obs[:, None] + self(torch.cat([obs, act], 2))[0][..., 1:]

    def expected(self, obs: Tensor, act: Tensor) -> tuple[Tensor, Tensor]:
        """Give the Gaussians of every member."""
        mean, log_variance = self(torch.cat([obs, act], 2))
        return obs[:, None] + mean[..., 1:], log_variance[..., 1:].exp()

    def stage(self) -> Stage:
        """Give the stage that trains it."""
        config = self.config
        rows = config.members * config.model_batch
        here = {"source": 0, "target": 0} | {self.side: rows}
        looks: dict[str, Any] = {}
        if self.held is not None:
            held = self.held
            looks = {"every": config.model_every, "check": self.look, "idle": lambda: held.over}
        steps, step = config.model_steps, self.update
        return Stage(self.name, steps, step, finish=self.finish, **here, **looks)

    def aims(self, batch: Batch) -> Tensor:
        """Give what members learn to predict, in the units that are learned, `(R, B, 1 + O)`."""
        return (aims(batch) - self.aim_shift) / self.aim_scale

    def update(self, batch: Batch, noise: Noise) -> None:
        """Take one step of every member on rows of its own."""
        members = self.config.members
        inputs = (batch.obs_act - self.shift) / self.scale
        mean, log_variance = bounded(each(self.net, split(inputs, members)))
        error = (mean - split(self.aims(batch), members)) ** 2
        losses = (error * torch.exp(-log_variance) + log_variance).mean(-1, keepdim=True)
        weights = active = None
        if self.held is not None:
            weights = split(self.held.training_weights(batch), members)
            active = self.held.active
        likelihood = members * weighted_mean(losses, weights)
        decay = 0.5 * (self.decay * self.net.rows**2).sum((1, 2))
        loss = likelihood + decay
        minimise(loss if active is None else active * loss, self.net)
        error = weighted_mean(error.mean(-1, keepdim=True), weights).detach()
        for name, values in (("loss", likelihood.detach()), ("error", error)):
            self.agent.log(f"{self.name}_{name}", values if active is None else active * values)

    @torch.no_grad()
    def look(self) -> None:
        """Judge every member by its squared error on held-out rows."""
        if self.held is None:
            return
        rows = self.held.batch()
        goal = self.aims(rows)[:, None]
        miss = ((self.ignorant[:, None] - goal) ** 2).mean(-1, keepdim=True)
        error = ((self.standard(rows.obs_act)[0] - goal) ** 2).mean(-1, keepdim=True)
        self.held.look(error, self.held.mean(miss)[:, 0])

    def finish(self) -> None:
        """Keep the best weights of every member, for good, and say how good they are."""
        if self.held is None:
            self.net.freeze()
        else:
            self.held.restore()
        self.judge()


def aims(batch: Batch) -> Tensor:
    """Give reward, then change of state, `(R, B, 1 + O)`."""
    return torch.cat([batch.reward, batch.next_obs - batch.obs], -1)


def decays(layers: int) -> list[float]:
    """Give w_l of so many layers, between the published ones of five."""
    return np.interp(np.linspace(0, 1, layers), np.linspace(0, 1, len(DECAY)), DECAY).tolist()


def bounded(output: Tensor) -> tuple[Tensor, Tensor]:
    """Split outputs into means and log variances, the latter softly bounded."""
    mean, raw = output.chunk(2, -1)
    low, high = LOG_VARIANCE_RANGE
    return mean, low + softplus(high - softplus(high - raw) - low)


def small_normal_mlp(sizes: Sequence[int], generators: Sequence[torch.Generator]) -> Layers:
    """Draw weights from N(0, 1 / (4 in)) cut at two deviations, and zero biases."""
    layers: Layers = []
    for wide_in, wide_out in zip(sizes[:-1], sizes[1:], strict=True):
        std = 0.5 * wide_in**-0.5
        drawn = [torch.empty(wide_in, wide_out) for _ in generators]
        for weight, generator in zip(drawn, generators, strict=True):
            torch.nn.init.trunc_normal_(weight, 0, std, -2 * std, 2 * std, generator=generator)
        layers.append((torch.stack(drawn), torch.zeros(len(drawn), 1, wide_out)))
    return layers

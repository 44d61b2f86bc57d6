"""Learn the dynamics of a dataset as an ensemble of Gaussian networks.

Member i of N predicts reward and change of state of a transition from the standardised (s, a):

    mu_i, v_i = MLP_i(s, a),  t = (r, s' - s),  each 1 + O long, the reward first
    loss      = sum_i mean [ (mu_i - t)^2 exp(-v_i) + v_i ]  +  sum_l w_l |W_l|^2 / 2

v is softly bounded to [-10, 0.5]; every member draws rows of its own. A tenth of the rows is held
out; a run stops when no member's squared error on them fell by 1 % for `patience` looks, and each
member keeps its best weights.

Chua et al. 2018 (arXiv:1805.12114) and Janner et al. 2019 (MBPO, arXiv:1906.08253), as used by
DROCO (arXiv:2512.02486). Stated there: N = 7, reward and state predicted. From the released code:
the loss with these w_l and constant bounds, four hidden layers of 200, Adam 1e-3, batches of 256,
no elites, inputs standardised and targets not. Chosen: hold-out and stopping, which the released
code lacks (its number of epochs is not published); ReLU, which runs in C++ on the CPU, where it has
Swish; weights cut at two deviations, as it intends; rows drawn with replacement, not in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from shiftgym.basics.ranges import Count, CountOrNone, HeldOut, Positive, Size
from shiftgym_agents.components.holdout import HoldOut
from shiftgym_agents.core.agent import Agent, Noise, Stage
from shiftgym_agents.core.data import Batch
from shiftgym_agents.core.losses import weighted_mean
from shiftgym_agents.core.nets import Net, minimise
from shiftgym_agents.core.networks import Layers, unpack

LOG_VARIANCE_RANGE = (-10.0, 0.5)
DECAY = (2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4)  # w_l, first layer first
ACTIVATIONS = {"relu": torch.relu, "swish": silu}


@dataclass(frozen=True)
class EnsembleConfig:
    """Set the hyperparameters of the ensemble; a method's configuration extends it."""

    members: Size = 7
    """Networks in the ensemble of target dynamics."""
    model_width: Size = 200
    """Units in each of its four hidden layers."""
    model_activation: Literal["relu", "swish"] = "relu"
    """Between its layers; published is swish, which costs more on the CPU."""
    model_rate: Positive = 1e-3
    """Adam's step size for it."""
    model_batch: Size = 256
    """Rows per member and update."""
    model_steps: CountOrNone = 8000
    """Most updates of it: 400 epochs of 5,000 rows."""
    model_every: Count = 20
    """Updates between looks at its error on held-out rows: an epoch of 5,000 rows."""
    model_patience: Count = 5
    """Looks without a member improving by 1 % before it stops; 0 to go on to the end."""
    model_hold_out: HeldOut = 0.1
    """Share of target rows to judge it by; 0 to train on all rows and keep the last weights."""


class Ensemble:
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
        self.agent, self.config, self.name, self.side = agent, config, name, side
        obs, act = agent.obs_size, agent.act_size
        sizes = (obs + act, *[config.model_width] * (len(DECAY) - 1), 2 * (1 + obs))
        self.net = agent.net(
            name,
            sizes,
            copies=config.members,
            rate=agent.per_run("model_rate").double().flatten(),
            activation=ACTIVATIONS[config.model_activation],
            init=small_normal_mlp,
        )
        share, patience = config.model_hold_out, config.model_patience
        self.held = HoldOut(agent, self.net, share, patience, 0.01, side) if share else None
        self.shift, self.scale = self._moments()
        self.decay = torch.zeros(1, 1, self.net.rows.shape[2], dtype=agent.dtype)
        for (weight, _), cost in zip(unpack(self.decay[0], sizes), DECAY, strict=True):
            weight.fill_(cost)
        self.decay = self.decay.to(agent.device)

    def __call__(self, obs_act: Tensor) -> tuple[Tensor, Tensor]:
        """Predict at `(R, B, O + A)`: mean and log variance, `(R, N, B, 1 + O)` each."""
        return bounded(self.net((obs_act - self.shift) / self.scale))

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

    def update(self, batch: Batch, noise: Noise) -> None:
        """Take one step of every member on rows of its own."""
        members = self.config.members
        inputs = (batch.obs_act - self.shift) / self.scale
        mean, log_variance = bounded(each(self.net, split(inputs, members)))
        error = (mean - split(aims(batch), members)) ** 2
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
        if self.held is not None:
            rows = self.held.batch()
            mean, _ = self(rows.obs_act)
            self.held.look(((mean - aims(rows)[:, None]) ** 2).mean(-1, keepdim=True))

    def finish(self) -> None:
        """Keep the best weights of every member, for good."""
        if self.held is None:
            self.net.freeze()
        else:
            self.held.restore()

    def _moments(self) -> tuple[Tensor, Tensor]:
        """Give mean and deviation of the inputs over training rows, `(R, 1, O + A)` each."""
        agent, width = self.agent, self.agent.obs_size + self.agent.act_size
        found: list[tuple[Tensor, Tensor]] = []
        for run in range(agent.runs):
            rows = agent.data.rows_of(self.side, run)[:, :width].double()
            if self.held is not None:
                column = agent.data.columns[self.side][self.held.column]
                rows = rows[column[run, : len(rows)] >= 0]
            spread, mean = torch.std_mean(rows, 0, correction=0)
            found.append((mean, torch.where(spread < 1e-12, 1.0, spread)))
        shift, scale = (
            torch.stack(part)[:, None].to(agent.dtype) for part in zip(*found, strict=True)
        )
        return shift, scale


def aims(batch: Batch) -> Tensor:
    """Give what members predict: reward, then change of state, `(R, B, 1 + O)`."""
    return torch.cat([batch.reward, batch.next_obs - batch.obs], -1)


def bounded(output: Tensor) -> tuple[Tensor, Tensor]:
    """Split outputs into means and log variances, the latter softly bounded."""
    mean, raw = output.chunk(2, -1)
    low, high = LOG_VARIANCE_RANGE
    return mean, low + softplus(high - softplus(high - raw) - low)


def split(rows: Tensor, copies: int) -> Tensor:
    """Deal rows `(R, C * B, k)` to copies, `(R, C, B, k)`."""
    return rows.reshape(len(rows), copies, -1, rows.shape[-1])


def each(net: Net, x: Tensor) -> Tensor:
    """Apply every copy of a network to rows of its own, `(R, C, B, in) -> (R, C, B, out)`."""
    runs, copies, weights = net.rows.shape
    one = net._apply(x.flatten(0, 1), net.rows.view(runs * copies, 1, weights))
    return one.reshape(runs, copies, *one.shape[-2:])


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

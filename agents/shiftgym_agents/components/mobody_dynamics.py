"""Learn the target's dynamics with the source's help: one decoder, an action encoder per domain.

MOBODY (ICLR 2026, arXiv:2506.08460): in domain D, for each of N members,

    z = phi_E(s),   s^' = phi_T(z + psi_D(z, a)),   r^ = r(s, a, s')

States, decoder and reward are learned from both domains, and only how an action moves a latent
state is learned apart. With squared errors averaged over dimensions, a row's loss is

    |s^' - s'|^2 + c_D [ |z + psi_D(z, a) - sg z'|^2 + cycle ] + w_D [ (r(s, a, s^') - r)^2
                                                                     + (r(s, a, s')  - r)^2 ]
    cycle = cost ( |phi_T(z) - s|^2 + |phi_T(z') - s'|^2 ) + kl_cost ( KL(z) + KL(z') )

with z drawn from phi_E's Gaussian in training, its mean afterwards; KL to N(0, 1), per dimension.
The loss of a batch is the sum over members, each with rows of its own, of the mean over both
domains' rows. A tenth of the target rows is held out: each member keeps its best weights on them,
the `elites` best members predict. The rest is the frame's (see `dynamics`).

One step changes a state little beside how states differ, so that an error which hardly counts among
states may be all that the step does. By default (`model_aims`) the answer is therefore a change,

    s^' = s + phi_T(z + psi_D(z, a)) - phi_T(z)

and its error counts in usual changes.

Stated: the three networks, a shared decoder, the cycle without an action. Read in released code:
sizes, weights, Adam 1e-3, s^' itself rather than a change, members and elites, what stops training.
Chosen: changes; states standardised by the moments of both datasets together (`model_standard`), as
many source as target rows in every update where the release goes through the source once and then
three times through the target, no noise on s^' where the reward reads it, log variances cut to
[-10, 4]; ReLU and narrower networks, which are fast on the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.ranges import Amount, Count, CountOrNone, Size, SomeHeldOut
from shiftgym_agents.components.dynamics import ACTIVATIONS, Model, ModelConfig, each, split
from shiftgym_agents.core.agent import Agent, Noise, Stage
from shiftgym_agents.core.losses import weighted_mean
from shiftgym_agents.core.nets import minimise
from shiftgym_agents.data.batches import SIDES, Batch

LOG_VARIANCE_RANGE = (-10.0, 4.0)


@dataclass(frozen=True)
class LatentDynamicsConfig(ModelConfig):
    """Set the hyperparameters of the latent dynamics; a method's configuration extends it."""

    elites: Size = 5
    """Members that predict: the best on held-out target rows."""
    model_width: Size = 128
    """Units in each hidden layer of a model's networks; published is 256."""
    action_width: Size = 32
    """Units in the one hidden layer of its action encoders."""
    latent: Size = 16
    """Dimensions of latent states."""
    model_batch: Size = 128
    """Rows per member and update from each of source and target."""
    model_aims: Literal["change", "state"] = "change"
    """Predict how states change, in usual changes, or the states themselves (released code)."""
    model_standard: bool = True
    """Standardise the states that models read and predict, or not."""
    model_steps: CountOrNone = 20_000
    """Most updates of the models."""
    model_every: Count = 500
    """Updates between looks at their error on held-out target rows."""
    model_hold_out: SomeHeldOut = 0.1
    """Share of target rows to judge them by."""
    target_cost: Amount = 5.0
    """c of target rows: weight of their latent and cycle errors; 1 for source rows."""
    cycle_cost: Amount = 100.0
    """Weight of decoding a state from its own latent state."""
    kl_cost: Amount = 0.05
    """Weight of the divergence of latent states from N(0, 1)."""
    cycle_next: bool = True
    """Whether the cycle includes next states."""
    source_reward_cost: Amount = 0.01
    """w of source rows: weight of their reward's errors; 1 for target rows."""


class LatentDynamics(Model):
    """Model the target's dynamics for every run.

    Args:
        agent: The runs; call this while it builds, after its own networks.
        config: How large, and how trained.

    Raises:
        ShiftgymError: More elites than members.
    """

    def __init__(self, agent: Agent[Any], config: LatentDynamicsConfig) -> None:
        self.config = config
        if not 1 <= config.elites <= config.members:
            raise ShiftgymError(f"--elites is {config.elites}: give 1 to --members.")
        obs, act, z = agent.obs_size, agent.act_size, config.latent
        hidden = (config.model_width, config.model_width)
        options = {
            "copies": config.members,
            "rate": agent.per_run("model_rate").double().flatten(),
            "activation": ACTIVATIONS[config.model_activation],
        }
        self.encoder = agent.net("state_encoder", (obs, *hidden, 2 * z), **options)
        sizes = (z + act, config.action_width, z)
        self.actions = {s: agent.net(f"{s}_action_encoder", sizes, **options) for s in SIDES}
        self.decoder = agent.net("decoder", (z, *hidden, obs), **options)
        self.reward = agent.net("reward", (2 * obs + act, *hidden, 1), **options)
        self.nets = [self.encoder, *self.actions.values(), self.decoder, self.reward]
        rest = tuple(net for net in self.nets if net is not self.decoder)
        super().__init__(agent, config, self.decoder, "target", rest)
        self.elite = agent.buffer("elite", torch.zeros(agent.runs, config.elites).long())
        names = ("target_cost", "cycle_cost", "kl_cost", "source_reward_cost")
        self.costs = {name: agent.per_run(name) for name in names}
        self.shift, self.scale = self._moments()
        self.units = torch.ones_like(self.scale)  # what errors of predicted states are measured in
        if config.model_aims == "change":
            self.units = self.usual[1] / self.scale

    # --- training ---------------------------------------------------------------------------------

    def stage(self) -> Stage:
        """Give the stage that trains it."""
        config = self.config
        rows = config.members * config.model_batch
        latents = (config.members, 4 * config.model_batch, config.latent)
        held = self.held
        assert held is not None
        return Stage(
            "dynamics",
            config.model_steps,
            self.update,
            rows,
            rows,
            normal={"latent": latents},
            every=config.model_every,
            check=self.look,
            finish=self.finish,
            idle=lambda: held.over,
        )

    def update(self, batch: Batch, noise: Noise) -> None:
        """Take one step of every member on rows of its own."""
        held = self.held
        assert held is not None
        count = self.config.model_batch
        rows = self._dealt(batch.rows, batch.sources)
        weights = self._dealt(held.training_weights(batch), batch.sources)
        parts = self.errors(rows, count, noise["latent"])
        losses = {name: weighted_mean(errors, weights) for name, errors in parts.items()}
        total = self.config.members * torch.stack([*losses.values()]).sum(0)
        minimise(held.active * total, *self.nets)
        for name, loss in losses.items():
            self.agent.log(f"{name}_loss", held.active * loss)

    def errors(self, rows: Tensor, sources: int, noise: Tensor) -> dict[str, Tensor]:
        """Give the weighted terms of each row's loss.

        Args:
            rows: Packed transitions of each member, `(R, N, B, D)`.
            sources: How many of the `B` rows are of the source; they come first.
            noise: Standard normal numbers, `(R, N, 2B, latent)`.

        Returns:
            Transition, representation, cycle and reward terms, `(R, N, B, 1)` each.
        """
        o, a, count = self.agent.obs_size, self.agent.act_size, rows.shape[2]
        obs, act, after = rows[..., :o], rows[..., o : o + a], rows[..., o + a : 2 * o + a]
        states = self._standard(torch.cat([obs, after], 2))
        obs, after = states.chunk(2, 2)
        mean, log_variance = gaussian(each(self.encoder, states))
        latents = torch.addcmul(mean, torch.exp(0.5 * log_variance), noise)
        now, later = latents.chunk(2, 2)
        pairs = torch.cat([now, act], 3).split([sources, count - sources], 2)
        ways = [each(self.actions[side], part) for side, part in zip(SIDES, pairs, strict=True)]
        moved = now + torch.cat(ways, 2)
        decoded = each(self.decoder, torch.cat([moved, latents], 2))
        predicted, own = decoded.split([count, 2 * count], 2)
        if self.config.model_aims == "change":
            predicted = obs + predicted - own[:, :, :count]
        read = torch.cat([torch.cat([obs, act, x], 3) for x in (predicted, after)], 2)
        guessed, known = ((r - rows[..., -2:-1]) ** 2 for r in each(self.reward, read).chunk(2, 2))
        kl = average(0.5 * (mean**2 + log_variance.exp() - 1 - log_variance))
        cost = {name: value[:, None] for name, value in self.costs.items()}
        cycle = cost["cycle_cost"] * average((own - states) ** 2) + cost["kl_cost"] * kl
        here, there = cycle.chunk(2, 2)
        of_source = (torch.arange(count, device=rows.device) < sources).to(rows.dtype)[:, None]
        c = of_source + (1 - of_source) * cost["target_cost"]
        w = of_source * cost["source_reward_cost"] + (1 - of_source)
        return {
            "transition": average(((predicted - after) / self.units[:, None]) ** 2),
            "representation": c * average((moved - later.detach()) ** 2),
            "cycle": c * (here + there if self.config.cycle_next else here),
            "reward": w * (guessed + known),
        }

    @torch.no_grad()
    def look(self) -> None:
        """Judge every member by its squared error on held-out target rows."""
        held = self.held
        assert held is not None
        rows, scale = held.batch(), (self.scale * self.units)[:, None]
        after = rows.next_obs[:, None]
        error = (self.predict(rows.obs, rows.act) - after) / scale
        blank = (rows.obs + self.usual[0])[:, None] - after
        held.look(average(error**2), held.mean(average((blank / scale) ** 2))[:, 0])

    @torch.no_grad()
    def finish(self) -> None:
        """Keep the best weights of every member, which members are best, and how good they are."""
        held = self.held
        assert held is not None
        held.restore()
        self.elite.copy_(held.best.topk(self.config.elites, 1, largest=False).indices)
        self.judge()

    # --- prediction -------------------------------------------------------------------------------

    def predict(self, obs: Tensor, act: Tensor, side: str = "target") -> Tensor:
        """Predict every member's next states of rows `(R, B, .)` in one domain, `(R, N, B, O)`."""
        z, _ = gaussian(self.encoder(self._standard(obs)))
        pairs = torch.cat([z, act[:, None].expand(-1, z.shape[1], -1, -1)], 3)
        after = each(self.decoder, z + each(self.actions[side], pairs))
        if self.config.model_aims == "change":
            return obs[:, None] + (after - each(self.decoder, z)) * self.scale[:, None]
        return after * self.scale[:, None] + self.shift[:, None]

    def expected(self, obs: Tensor, act: Tensor) -> tuple[Tensor, Tensor]:
        """Give mean and variance of the members, which model rows are drawn with."""
        states = self.predict(obs, act)
        return states.mean(1, keepdim=True), states.var(1, correction=0, keepdim=True)

    def rewards(self, obs: Tensor, act: Tensor, after: Tensor) -> Tensor:
        """Predict rewards of rows `(R, B, .)` as the mean of all members, `(R, B, 1)`."""
        states = self._standard(obs), self._standard(after)
        return self.reward(torch.cat([states[0], act, states[1]], 2)).mean(1)

    # --- parts ------------------------------------------------------------------------------------

    def _standard(self, states: Tensor) -> Tensor:
        """Standardise states `(R, ..., O)`."""
        shape = self.agent.runs, *[1] * (states.dim() - 2), self.agent.obs_size
        return (states - self.shift.view(shape)) / self.scale.view(shape)

    def _dealt(self, rows: Tensor, sources: int) -> Tensor:
        """Deal each side's rows `(R, N * B, k)` to members: `(R, N, 2B, k)`, source rows first."""
        sides = rows[:, :sources], rows[:, sources:]
        return torch.cat([split(side, self.config.members) for side in sides], 2)

    def _moments(self) -> tuple[Tensor, Tensor]:
        """Give mean and deviation of the states of both datasets, `(R, 1, O)` each, or 0 and 1."""
        agent, size = self.agent, self.agent.obs_size
        shape = agent.runs, 1, size
        shift, scale = torch.zeros(shape).double(), torch.ones(shape).double()
        if self.config.model_standard:
            for run in range(agent.runs):
                seen = [agent.data.rows_of(side, run)[:, :size] for side in SIDES]
                scale[run], shift[run] = torch.std_mean(torch.cat(seen).double(), 0, correction=0)
            scale[scale < 1e-6] = 1.0
        return shift.to(agent.device, agent.dtype), scale.to(agent.device, agent.dtype)


def gaussian(output: Tensor) -> tuple[Tensor, Tensor]:
    """Split an encoder's outputs into means and log variances of latent states."""
    mean, log_variance = output.chunk(2, -1)
    return mean, log_variance.clamp(*LOG_VARIANCE_RANGE)


def average(values: Tensor) -> Tensor:
    """Average over the last axis and keep it, `(..., k) -> (..., 1)`."""
    return values.mean(-1, keepdim=True)

"""Learn with proximal policy optimisation for `R` agents at once, none touching another.

PPO with a clipped ratio (Schulman et al. 2017, arXiv:1707.06347) on advantages A by GAE (see
rollout.py), per agent:

    policy  : mean -min(rho A, clip(rho, 1 - c, 1 + c) A) - bonus * entropy,  rho = pi / pi_old
    value   : mean (V - return)^2 / 2, both in units of the running spread of returns

Advantages are standardised per agent. An agent's policy rests for the remainder of an iteration
once its KL(old || new) passes a limit; its values go on. Its learning rate is divided by 1.5 after
such an iteration, and multiplied by 1.5 after one that came less than half as far. When the running
mean and spread of returns move, the value network's last layer is rescaled so that its predictions
stay (van Hasselt et al. 2016, arXiv:1602.07714). Parameters are one row per agent; gradients come
from autograd and are clipped row by row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from shiftgym_agents.core.networks import (
    init_mlp,
    mlp,
    pack,
    restore_generators,
    run_generators,
    unpack,
)
from shiftgym_tools.behaviours.hands.config import PPOConfig
from shiftgym_tools.behaviours.hands.rollout import Rollout, advantages

ADAM = (0.9, 0.999, 1e-8)
METRICS = ("value_loss", "explained", "kl", "clipped", "policy_steps", "std", "policy_rate")
LEAST_SPREAD = 0.1  # of observations (m, rad): what hardly moves at first is not blown up later
RATE_FACTOR, RATES = 1.5, (1e-6, 1e-2)  # how policies' learning rates move, and between what
RETURN_MEMORY = 0.1  # least weight of the newest iteration in the running spread of returns
NORMALISATION = ("in_shift", "in_scale", "out_shift", "out_scale")


def clipped_loss(log_ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """Give PPO's loss per sample, in any shape: -min(rho A, clip(rho) A)."""
    ratio = log_ratio.exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


class PPO:
    """Hold and train `R` agents; parameters are one row per agent.

    Args:
        obs_size: Length of an observation.
        act_size: Length of an action.
        config: Hyperparameters.
        seeds: One seed per agent; agent `k` draws everything from its own generator.
        start: Arrays of a gaussian policy (see `shiftgym.policies`) that every agent starts from,
            with its normalisation kept; None for new networks that learn to normalise.
    """

    def __init__(
        self,
        obs_size: int,
        act_size: int,
        config: PPOConfig,
        seeds: list[int],
        start: dict[str, np.ndarray] | None = None,
    ) -> None:
        self.config, self.runs, self.act_size = config, len(seeds), act_size
        self.generators = run_generators(seeds)
        self.scratch = start is None
        self.critic_sizes = (obs_size, config.width, config.width, 1)
        critics = _new(self.critic_sizes, self.generators, 0.1)
        if start is None:
            self.actor_sizes = (obs_size, config.width, config.width, act_size)
            actors = _new(self.actor_sizes, self.generators, 0.01)
            own = {"in_shift": np.zeros(obs_size), "in_scale": np.ones(obs_size)}
            own |= {"out_shift": np.zeros(act_size), "out_scale": np.ones(act_size)}
            log_std = torch.full((act_size,), -0.7)
        else:
            self.actor_sizes = (obs_size, *(start[f"b{i}"].shape[0] for i in range(3)))
            flat = [start[f"{kind}{i}"].ravel() for i in range(3) for kind in "Wb"]
            actors = torch.from_numpy(np.concatenate(flat)).repeat(self.runs, 1)
            own, log_std = start, torch.from_numpy(start["log_std"])
        if config.initial_log_std is not None:
            log_std = torch.full((act_size,), config.initial_log_std)
        log_std = log_std.float().clamp(min=config.min_log_std).repeat(self.runs, 1)
        self.state = {"actors": torch.cat([actors, log_std], 1), "critics": critics}
        for name in ("actors", "critics"):
            for moment in "mv":
                self.state[f"{name}_{moment}"] = torch.zeros_like(self.state[name])
            self.state[f"{name}_steps"] = torch.zeros(self.runs, 1)
        for name in NORMALISATION:
            values = torch.from_numpy(np.asarray(own[name], np.float32))
            self.state[name] = values.repeat(self.runs, 1, 1)
        for name, size in (("obs", obs_size), ("return", 1)):
            self.state[f"{name}_mean"] = torch.zeros(self.runs, 1, size)
            self.state[f"{name}_var"] = torch.ones(self.runs, 1, size)
        self.state["rates"] = torch.full((self.runs, 1), config.learning_rate)
        self.state["metrics"] = torch.zeros(self.runs, len(METRICS))
        for moment in "mv":  # imitation keeps its own
            self.state[f"imitation_{moment}"] = torch.zeros_like(self.state["actors"])
        self.state["imitation_steps"] = torch.zeros(self.runs, 1)
        self.state["ceilings"] = torch.full((self.runs, act_size), math.inf)  # of log_std
        self.updates = 0  # iterations: one rollout and its gradient steps

    def means(self, obs: Tensor, rows: Tensor | None = None) -> Tensor:
        """Give the policies' most likely actions (R, B, act) at observations (R, B, obs)."""
        s = self.state
        rows = s["actors"] if rows is None else rows
        x = (obs - s["in_shift"]) / (s["in_scale"] + 1e-8)
        out = mlp(x, unpack(rows[:, : -self.act_size], self.actor_sizes), torch.tanh)
        return out * s["out_scale"] + s["out_shift"]

    @torch.no_grad()
    def act(self, obs: Tensor, noise: Tensor) -> Tensor:
        """Draw actions (R, B, act) with standard normal noise of the same shape."""
        return self.means(obs) + self.state["actors"][:, None, -self.act_size :].exp() * noise

    def draw(self, *shape: int) -> Tensor:
        """Draw standard normal numbers `(R, *shape)`, each run from its own generator."""
        return torch.stack([torch.randn(shape, generator=g) for g in self.generators])

    def values(self, obs: Tensor, rows: Tensor | None = None) -> Tensor:
        """Predict standardised returns (R, B, 1) at observations (R, B, obs)."""
        s = self.state
        rows = s["critics"] if rows is None else rows
        x = (obs - s["obs_mean"]) / s["obs_var"].sqrt().clamp(min=LEAST_SPREAD)
        return mlp(x.clamp(-10, 10), unpack(rows, self.critic_sizes), torch.tanh)

    def learn(self, rollout: Rollout) -> None:
        """Improve every agent's values, and after the warm-up its policy, on its own rollout."""
        cfg, s = self.config, self.state
        obs, actions = rollout.obs.flatten(1, 2), rollout.actions.flatten(1, 2)
        with torch.no_grad():
            self._track("obs", obs, least=0.0)
            advantage, returns, explained = self._targets(rollout, obs)
            old_mean = self.means(obs)
            old_log_std = s["actors"][:, None, -self.act_size :].clone()
        total = torch.zeros(self.runs, len(METRICS))
        self._lower_ceilings()
        going = torch.full((self.runs, 1), self.updates >= cfg.warmup)
        each = torch.arange(self.runs)[:, None]
        size = obs.shape[1] // cfg.minibatches
        for _ in range(cfg.epochs):
            order = [torch.randperm(obs.shape[1], generator=g) for g in self.generators]
            for rows in torch.stack(order)[:, : size * cfg.minibatches].split(size, 1):
                x = obs[each, rows]
                total[:, 0] += self._value_step(x, returns[each, rows])
                if not going.any():
                    continue
                batch = x, actions[each, rows], advantage[each, rows], old_mean[each, rows]
                kl, clipped, going = self._policy_step(batch, old_log_std, going)
                total[:, 2] = torch.maximum(total[:, 2], kl)
                total[:, 3] = torch.where(going[:, 0], clipped, total[:, 3])
                total[:, 4] += going[:, 0]
        total[:, 0] /= cfg.epochs * cfg.minibatches
        if self.updates >= cfg.warmup:
            short = (total[:, 2:3] < cfg.kl_limit / 2).float()
            s["rates"].mul_(RATE_FACTOR ** (short - (~going).float())).clamp_(*RATES)
        total[:, 1], total[:, 5] = explained, s["actors"][:, -self.act_size :].exp().mean(1)
        total[:, 6] = s["rates"][:, 0]
        s["metrics"].copy_(total)
        if self.scratch:
            s["in_shift"].copy_(s["obs_mean"])
            s["in_scale"].copy_(s["obs_var"].sqrt().clamp(min=LEAST_SPREAD))
        self.updates += 1

    def _lower_ceilings(self) -> None:
        """Lead every log_std from where it is to at most `final_log_std`, as `anneal` says."""
        if self.config.anneal is None or self.updates < self.config.anneal[0]:
            return
        log_std, ceilings = self.state["actors"][:, -self.act_size :], self.state["ceilings"]
        left = max(self.config.anneal[1] - self.updates, 1)
        ceilings.copy_(torch.minimum(log_std, ceilings))
        over = (ceilings - self.config.final_log_std).clamp(min=0)
        ceilings.sub_(over / left)

    def _targets(self, rollout: Rollout, obs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give standardised advantages (R, N, 1), standardised returns, explained variance (R,)."""
        s, shape = self.state, rollout.rewards.shape
        spread = s["return_var"].sqrt()
        both = (obs, rollout.next_obs.flatten(1, 2))
        values, after = ((self.values(x) * spread + s["return_mean"]).view(shape) for x in both)
        found = advantages(rollout, values, after, self.config.discount, self.config.gae_lambda)
        returns = (found + values).flatten(1)[:, :, None]
        found = found.flatten(1)[:, :, None]
        explained = 1 - found.var(1) / returns.var(1).clamp(min=1e-8)
        mean = s["return_mean"].clone()
        self._track("return", returns, least=RETURN_MEMORY)
        new = s["return_var"].sqrt()
        if self.updates:  # keep predictions; a new network has none worth keeping
            weight, bias = unpack(s["critics"], self.critic_sizes)[-1]  # views
            weight.mul_(spread / new)
            bias.copy_((bias * spread + mean - s["return_mean"]) / new)
        found = (found - found.mean(1, keepdim=True)) / (found.std(1, keepdim=True) + 1e-8)
        return found, (returns - s["return_mean"]) / new, explained[:, 0]

    def _track(self, name: str, x: Tensor, least: float) -> None:
        """Move the running mean and variance of (R, N, D) by 1 / iterations, or `least`."""
        mean, var = self.state[f"{name}_mean"], self.state[f"{name}_var"]
        weight = max(1 / (self.updates + 1), least)
        apart = x.mean(1, keepdim=True) - mean
        own = x.var(1, keepdim=True, unbiased=False)
        var.copy_((1 - weight) * var + weight * own + weight * (1 - weight) * apart**2)
        var.clamp_(min=1e-8)
        mean.add_(weight * apart)

    def _value_step(self, obs: Tensor, returns: Tensor) -> Tensor:
        """Take one gradient step on every value network; give the losses (R,)."""
        rows = self.state["critics"].detach().requires_grad_()
        losses = 0.5 * (self.values(obs, rows) - returns).square().mean((1, 2))
        (gradient,) = torch.autograd.grad(losses.sum(), rows)
        everyone = torch.ones(self.runs, 1, dtype=torch.bool)
        self._adam("critics", gradient, self.config.value_learning_rate, everyone)
        return losses.detach()

    def _policy_step(
        self, batch: tuple[Tensor, Tensor, Tensor, Tensor], old_log_std: Tensor, going: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Take one gradient step on the policies that are `going` (R, 1) and within the KL limit.

        Args:
            batch: Observations, actions, advantages and old means, each (R, B, ·).
            old_log_std: (R, 1, act).
            going: Which policies may step.

        Returns:
            KL divergence (R,), share of clipped ratios (R,), and which policies are still going.
        """
        cfg, (obs, actions, advantage, old_mean) = self.config, batch
        rows = self.state["actors"].detach().requires_grad_()
        mean, log_std = self.means(obs, rows), rows[:, None, -self.act_size :]
        old, new = _log_prob(actions, old_mean, old_log_std), _log_prob(actions, mean, log_std)
        losses = clipped_loss(new - old, advantage, cfg.clip).mean((1, 2))
        losses = losses - cfg.entropy_bonus * log_std.sum((1, 2))
        (gradient,) = torch.autograd.grad(losses.sum(), rows)
        with torch.no_grad():
            spread = (2 * old_log_std).exp() + (old_mean - mean).square()
            kl = (log_std - old_log_std + spread / (2 * (2 * log_std).exp()) - 0.5).sum(2).mean(1)
            clipped = ((new - old).exp() - 1).abs().gt(cfg.clip).float().mean((1, 2))
            going = going & (kl <= cfg.kl_limit)[:, None]
            self._adam("actors", gradient, self.state["rates"], going)
            log_std = self.state["actors"][:, -self.act_size :]
            log_std.copy_(torch.minimum(log_std, self.state["ceilings"]).clamp(min=cfg.min_log_std))
        return kl, clipped, going

    def imitate(self, obs: Tensor, actions: Tensor, rate: float, going: Tensor) -> Tensor:
        """Take one gradient step of the most likely actions towards given ones; give losses (R,).

        Args:
            obs: (R, B, obs).
            actions: (R, B, act).
            rate: Adam's step size.
            going: Which agents step, (R, 1).
        """
        rows = self.state["actors"].detach().requires_grad_()
        spread = self.state["actors"][:, None, -self.act_size :].exp()
        losses = 0.5 * ((self.means(obs, rows) - actions) / spread).square().mean((1, 2))
        (gradient,) = torch.autograd.grad(losses.sum(), rows)
        self._adam("actors", gradient, rate, going, moments="imitation")
        return losses.detach()

    @torch.no_grad()
    def _adam(
        self, name: str, gradient: Tensor, rate: float | Tensor, going: Tensor, moments: str = ""
    ) -> None:
        """Step the rows that are `going` (R, 1), each row's gradient cut to the greatest length."""
        rows, own = self.state[name], moments or name
        m, v, steps = (self.state[f"{own}_{part}"] for part in ("m", "v", "steps"))
        first, second, epsilon = ADAM
        length = gradient.norm(dim=1, keepdim=True)
        gradient = gradient * (self.config.max_gradient_norm / (length + epsilon)).clamp(max=1)
        steps.add_(going)
        m.copy_(torch.where(going, first * m + (1 - first) * gradient, m))
        v.copy_(torch.where(going, second * v + (1 - second) * gradient**2, v))
        corrected = m / (1 - first**steps), v / (1 - second**steps)
        move = rate * corrected[0] / (corrected[1].sqrt() + epsilon)
        rows.sub_(torch.where(going, move, torch.zeros_like(move)))

    def save(self) -> dict[str, Tensor]:
        """Return named tensors from which `load` goes on bit for bit."""
        generators = torch.stack([g.get_state() for g in self.generators])
        return self.state | {"generators": generators, "updates": torch.tensor([self.updates])}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `save` returned."""
        for name, tensor in self.state.items():
            tensor.copy_(tensors[name])
        restore_generators(self.generators, tensors["generators"])
        self.updates = int(tensors["updates"])

    def policy_arrays(self, run: int) -> dict[str, np.ndarray]:
        """Return one agent's policy in the layout of `shiftgym.policies`, float32."""
        rows = self.state["actors"][run : run + 1].clone()
        arrays = {name: self.state[name][run, 0].numpy().copy() for name in NORMALISATION}
        arrays["log_std"] = rows[0, -self.act_size :].numpy().copy()
        for i, (w, b) in enumerate(unpack(rows[:, : -self.act_size], self.actor_sizes)):
            arrays |= {f"W{i}": w[0].numpy().copy(), f"b{i}": b[0, 0].numpy().copy()}
        return arrays

    def diverged(self) -> list[int]:
        """List the runs whose parameters or last metrics are not finite."""
        s = self.state
        sums = s["metrics"].sum(1) + s["actors"].sum(1) + s["critics"].sum(1)
        return torch.nonzero(~torch.isfinite(sums)).flatten().tolist()


def _new(sizes: Sequence[int], generators: Sequence[torch.Generator], last: float) -> Tensor:
    """Draw networks as rows (R, P), the last layer times `last` so that they start near zero."""
    layers = init_mlp(sizes, generators)
    weight, bias = layers[-1]
    return pack([*layers[:-1], (weight * last, bias * last)])


def _log_prob(actions: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Give log densities (R, B, 1) of actions (R, B, act) under diagonal normals."""
    z = (actions - mean) * (-log_std).exp()
    return (-0.5 * z.square() - log_std - 0.5 * math.log(2 * math.pi)).sum(2, keepdim=True)

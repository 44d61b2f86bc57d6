"""Stay where the data support both the actor's actions and the target's dynamics: BOSA.

BOSA (Liu, Zhang, Wei, Zhuang, Kang, Gai & Wang, AAAI 2024, arXiv:2306.12755). Two densities are
learned first (see `likelihood`): pi^(a|s) of the actions in both datasets, and an ensemble p^_e of
the target's next states. Then TD3 (see `td3`) on source and target rows with

    mask    : m = 1 where min_e log p^_e(s'|s, a) > limit on source rows; 1 on target rows
    critics : 1/2 sum_j mean m (Q_j(s, a) - y)^2
              + conservation sum_j mean_source max(Q_j(s, a), floor)
    actor   : -mean Q_1(s, pi(s)) / mean |Q_1| - action_cost mean log pi^(pi(s)|s)

Stated: both constraints, and values of source actions pushed down. Read in ODRL's copy, the only
code at hand: densities, losses, numbers. Chosen where that copy departs from the idea: next states
of target rows alone are learned, the mask spares target rows, states are standardised so that one
threshold fits all robots, ten samples in the mask (drawn once, so that a source row is either in
the support or not), a tenth of the target rows held out to stop by. These rows also say how wide p^
is, by its errors there, and where the limit lies: it rejects `mask_rejects` of them. The published
density has a fixed deviation of 0.35 of the states' and a limit of log 0.01 (`mask_width`), so that
it tells unknown (s, a) from known ones, but hardly one dynamics from another: next states six
deviations of the noise away pass, all of them, where that noise is a twentieth of the states'
spread. Chosen besides: the floor, the
least return that the data's rewards allow, since nothing else stops the values of unsupported rows
from falling for ever; 256 units for 750, which are slow on the CPU.

Preset "paper" has no floor and the published mask. Preset "official" is ODRL's copy, in which
transitions that are not terminal are never bootstrapped: it takes the buffer's continuation flag
for a termination flag, so that Q is about r, and tables with results of that code do not show what
the method can do. Its mask is drawn anew in every update with one sample, on all rows, from
densities of both datasets whose initial weights ignore the fan-in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.ranges import (
    Amount,
    AmountOrInf,
    Count,
    CountOrNone,
    HeldOut,
    Positive,
    Share,
    Size,
)
from shiftgym_agents.components.likelihood import Density, DensityOptions
from shiftgym_agents.core.agent import Noise, Stage
from shiftgym_agents.core.losses import least_return, weighted_mean
from shiftgym_agents.data.batches import SIDES, Batch
from shiftgym_agents.methods.td3 import TD3, TD3Config, scale_free

CHUNK = 1024  # rows whose densities are computed at a time


@dataclass(frozen=True)
class BOSAConfig(TD3Config):
    """Set the hyperparameters of BOSA."""

    action_cost: Amount = 0.1
    """Weight of the actor's unlikely actions; 0 is TD3's actor, large values imitate."""
    action_samples: Size = 1
    """Latents per action in the actor's log-likelihood."""
    conservation: Amount = 0.1
    """Weight of the values of source rows' actions in the critics' loss."""
    conservation_floor: bool = True
    """Push these down to the least return that the data's rewards allow, no further."""
    mask_width: Literal["data", "published"] = "data"
    """Width and limit of the mask's density by held-out target rows, or as published."""
    mask_rejects: Share = 0.05
    """Share of held-out target rows that the mask's limit rejects, with its width from the data."""
    threshold: AmountOrInf = 0.01
    """Least density of a source row's next state to train the critics, with the published width."""
    mask: Literal["source", "all"] = "source"
    """Ask this of source rows, or of target rows, too."""
    mask_samples: Size = 10
    """Latents per next state in its log-likelihood."""
    mask_drawn: Literal["once", "always"] = "once"
    """Decide about every row once, or in every update that draws it."""
    density_steps: CountOrNone = 100_000
    """Updates of each of the two densities, at most."""
    density_width: Size = 256
    """Units in each hidden layer of theirs; published is 750."""
    density_rate: Positive = 1e-3
    """Adam's step size for them."""
    density_beta: Amount = 0.5
    """Weight of their KL term; a quarter of it is their decoders' variance."""
    density_members: Size = 5
    """Networks that learn the density of next states."""
    density_init: Literal["scaled", "unscaled"] = "scaled"
    """Initial weights of these: normal, scaled by the fan-in or not."""
    density_data: Literal["target", "mix"] = "target"
    """Learn next states from target rows, or from all."""
    density_hold_out: HeldOut = 0.1
    """Share of target rows held out to stop learning next states by; 0 to go on to the end."""
    density_every: Count = 500
    """Updates between looks at these."""
    density_patience: Count = 5
    """Looks without a member improving by 1 % before a run stops."""
    bootstrap: Literal["continuing", "terminal"] = "continuing"
    """Bootstrap rows that are not terminal, or (released code) only those that are."""
    normalize_states: Literal["none", "merged", "balanced", "target"] = "balanced"
    """Standardise observations by all rows, by both datasets weighing half, or by the target's."""


class BOSA(TD3[BOSAConfig]):
    """TD3 within two supports; see the module."""

    config_class = BOSAConfig
    presets: ClassVar[Mapping[str, Any]] = {
        "ours": BOSAConfig(),
        "paper": BOSAConfig(
            density_width=750,
            conservation_floor=False,
            mask_width="published",
            normalize_states="merged",
        ),
        "official": BOSAConfig(
            conservation_floor=False,
            mask="all",
            mask_width="published",
            mask_samples=1,
            mask_drawn="always",
            density_steps=50_000,
            density_width=750,
            density_init="unscaled",
            density_data="mix",
            density_hold_out=0.0,
            bootstrap="terminal",
            normalize_states="none",
        ),
    }

    def build(self) -> None:
        """Declare the densities besides TD3's networks."""
        super().build()
        config, obs, act = self.config, self.obs_size, self.act_size
        shared = DensityOptions(
            steps=config.density_steps,
            width=config.density_width,
            rate=self.per_run("density_rate").double().flatten(),
            beta=self.per_run("density_beta"),
        )
        behaviour = replace(shared, squash=True)
        self.behaviour = Density(
            self, "behaviour", (obs, act), lambda batch: (batch.obs, batch.act), behaviour
        )
        dynamics = replace(
            shared,
            copies=config.density_members,
            init=config.density_init,
            source=config.density_data == "mix",
            hold_out=config.density_hold_out,
            every=config.density_every,
            patience=config.density_patience,
        )
        self.dynamics = Density(
            self,
            "dynamics",
            (obs + act, obs),
            lambda batch: (batch.obs_act, batch.next_obs),
            dynamics,
        )
        self.conservation = self.per_run("conservation").flatten()
        self.action_cost = self.per_run("action_cost").flatten()
        self.least = torch.log(self.per_run("threshold"))
        if config.mask_width == "data" and not config.density_hold_out:
            raise ShiftgymError(
                "--mask-width data needs held-out rows: give --density-hold-out above 0, or "
                "--mask-width published."
            )
        shape = (config.density_members, 1, config.mask_samples, 2 * obs)
        drawn = [torch.randn(shape, generator=generator) for generator in self.generators]
        self.mask_noise = torch.stack(drawn).to(self.device, self.dtype)
        self.floor = self._least_return() if config.conservation_floor else None
        self.densities: dict[str, Tensor] = {}
        if config.mask_drawn == "once":
            self._declare_densities()

    def _least_return(self) -> Tensor:
        """Give the least return that the data's rewards allow, `(R, 1, 1, 1)`."""
        least = torch.tensor(self.data.least_rewards(), dtype=self.dtype, device=self.device)
        return least_return(least[:, None, None], self.discount)[:, None]

    def _declare_densities(self) -> None:
        """Declare the log-density of every row's next state."""
        for side in SIDES:
            blank = torch.full((self.runs, max(self.data.sizes[side])), math.nan, dtype=self.dtype)
            self.densities[side] = self.buffer(f"{side}_density", blank)

    # --- stages -----------------------------------------------------------------------------------

    def pretraining(self) -> list[Stage]:
        """Learn actions, then next states; then decide which rows are supported."""
        dynamics = replace(self.dynamics.stage(), finish=self.settle)
        return [self.behaviour.stage(), dynamics]

    @torch.no_grad()
    def settle(self) -> None:
        """Freeze the densities, measure how wide they are and where the limit lies; store them."""
        self.dynamics.finish()
        if self.config.mask_width == "data":
            self.dynamics.calibrate(self.mask_noise)
            held = self.dynamics.held
            assert held is not None
            known = self.next_density(held.batch(), self.mask_noise)[..., 0]
            for run, weights in enumerate(held.weights[..., 0]):
                own = known[run, weights > 0]
                self.least[run] = own.quantile(self.config.mask_rejects)
        self.store_densities()

    @torch.no_grad()
    def store_densities(self) -> None:
        """Store every row's density as a column, unless a checkpoint has it."""
        for side, table in self.densities.items():
            if table.isnan().any():
                for part, batch in self.data.sweep(side, CHUNK):
                    table[:, part] = self.next_density(batch, self.mask_noise)[..., 0]
            self.data.add_column(side, f"{side}_density", table)

    def next_density(self, batch: Batch, noise: Tensor) -> Tensor:
        """Give min_e log p^_e(s'|s, a) of every row, `(R, B, 1)`."""
        return self.dynamics.log_density(batch.obs_act, batch.next_obs, noise).amin(1)

    def source_scores(self) -> Tensor | None:
        """Give every source row's log-density; at the latents' means where the mask is drawn."""
        if self.config.mask_drawn == "once":
            return self.data.columns["source"].get("source_density")
        if self.dynamics.decoder.rows.requires_grad:  # still learning
            return None
        shape = (self.runs, self.config.density_members, 1, 1, 2 * self.obs_size)
        mean = torch.zeros(shape, dtype=self.dtype, device=self.device)
        sweep = self.data.sweep("source", CHUNK)
        return torch.cat([self.next_density(batch, mean)[..., 0] for _, batch in sweep], 1)

    # --- one update -------------------------------------------------------------------------------

    def noise_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Ask for latents of the actor's actions and, where the mask is drawn, of next states."""
        config, rows = self.config, 2 * self.config.batch
        shapes = {"action_latent": (1, rows, config.action_samples, 2 * self.act_size)}
        if config.mask_drawn == "always":
            sizes = (rows, config.mask_samples, 2 * self.obs_size)
            shapes["next_latent"] = (config.density_members, *sizes)
        return {**super().noise_shapes(), **shapes}

    def prepare(self, batch: Batch, noise: Noise) -> Batch:
        """Note which rows are supported, as a column."""
        if self.config.mask_drawn == "always":
            density = self.next_density(batch, noise["next_latent"])
        else:
            density = batch.columns["source_density"] + batch.columns["target_density"]
        supported = (density > self.least).to(self.dtype)
        self.log("supported_source", supported[:, : batch.sources])
        self.log("supported_target", supported[:, batch.sources :])
        self.log_kept(batch, supported)
        if self.config.mask == "source":
            supported = batch.on_source(supported[:, : batch.sources], 1.0)
        ends = batch.terminated if self.config.bootstrap == "continuing" else 1 - batch.terminated
        return replace(batch, terminated=ends, columns={"supported": supported})

    def critic_errors(self, error: Tensor, batch: Batch) -> Tensor:
        """Take half the square of supported rows, 0 of others."""
        return 0.5 * batch.columns["supported"][:, None] * error**2

    def critic_penalty(self, batch: Batch, q: Tensor, noise: Noise) -> Tensor:
        """Push values of source rows' actions down."""
        pushed = q[:, :, : batch.sources]
        if self.floor is not None:
            pushed = pushed.maximum(self.floor)
        return self.conservation * 2 * weighted_mean(pushed)  # both critics'

    def actor_loss(self, batch: Batch, action: Tensor, noise: Noise) -> Tensor:
        """Climb the first critic at a fixed scale among likely actions."""
        likely = self.behaviour.log_density(batch.obs, action, noise["action_latent"])
        climb = scale_free(self.action_values(batch.obs, action))
        return climb - self.action_cost * weighted_mean(likely)

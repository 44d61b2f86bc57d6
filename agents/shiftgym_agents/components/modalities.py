"""Find the modality of every source trajectory: a vector that says which dynamics it is of.

A trajectory x = ((s, a, s' - s), ...) has a latent z with prior N(0, I). An encoder q(z|x) and an
ensemble of decoders p(s' - s | s, a, z) learn by turns, one step of each per update:

    E : decoders rest, z = mean + sigma xi    loss  error + kl_cost KL(q | N(0, I))
    M : encoder rests, z = mean               loss  error

with error the mean over steps, dimensions and members of (decoder - (s' - s))^2, and KL summed over
z's numbers. What is the same all along a trajectory and makes its steps predictable ends up in z.
Afterwards z is the encoder's mean for the whole trajectory, and all its rows share it.

V2A's first stage (ICML 2026, arXiv:2605.24862). Read in released code: a GRU whose last state gives
mean and log-deviation in [-5, 2], three decoders, crops of random steps, gradients no longer than
10, Adam, trajectories that end at terminals, time limits, or after 1,000 steps. Chosen: inputs and
changes standardised over the source, so that no dimension drowns the others; sizes and steps, a
fraction of the released ones, for the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from shiftgym.basics.ranges import Amount, CountOrNone, Limit, Positive, Size
from shiftgym_agents.components.cvae import divergence
from shiftgym_agents.components.recurrent import GRU
from shiftgym_agents.core.agent import Agent, Noise, Stage
from shiftgym_agents.core.losses import weighted_mean
from shiftgym_agents.core.nets import minimise
from shiftgym_agents.data.batches import Batch

TRAJECTORY = "trajectory"  # column of source rows: which of the run's trajectories
LONGEST = 1000  # steps after which a trajectory counts as another
LOG_STD_RANGE = (-5.0, 2.0)
TOGETHER = 256  # trajectories that are encoded whole at a time


@dataclass(frozen=True)
class ModalitiesConfig:
    """Set the hyperparameters of the modalities; a method's configuration extends it."""

    modality_size: Size = 16
    """Numbers that say which modality a trajectory is of; 128 as released."""
    modality_steps: CountOrNone = 10_000
    """Updates of encoder and decoders; 100,000 as released."""
    modality_batch: Size = 16
    """Trajectories per update."""
    modality_crop: Size = 50
    """Most steps of a trajectory that an update sees; 200 as released."""
    modality_width: Size = 64
    """Units of the recurrent encoder and of the decoders' hidden layers; 256 as released."""
    modality_members: Size = 3
    """Decoders."""
    modality_kl: Amount = 1e-3
    """Weight of the KL term."""
    modality_rate: Positive = 3e-4
    """Adam's step size for encoder and decoders."""
    modality_norm: Limit = 10.0
    """Longest gradient of encoder and of decoders."""
    modality_inputs: Literal["standard", "raw"] = "standard"
    """Standardise what they read and predict, or not."""


class Modalities:
    """Hold encoder, decoders and trajectories of every run.

    Args:
        agent: The runs; call this while it builds.
        config: How large, and how trained.
    """

    def __init__(self, agent: Agent[Any], config: ModalitiesConfig) -> None:
        self.agent, self.config = agent, config
        self.size, width = config.modality_size, config.modality_width
        self.pair = agent.obs_size + agent.act_size
        options = {"rate": agent.per_run("modality_rate").flatten()}
        self.encoder = GRU(agent, "modality_encoder", self.pair + agent.obs_size, width)
        self.encoder.weights.rate.copy_(options["rate"])
        self.head = agent.net("modality_head", (width, 2 * self.size), **options)
        sizes = (self.pair + self.size, width, width, agent.obs_size)
        self.decoder = agent.net(
            "modality_decoder", sizes, copies=config.modality_members, **options
        )
        self.kl = agent.per_run("modality_kl").flatten()
        self.starts, self.lengths, self.counts = self._trajectories()
        self.shift, self.scale = self._moments()
        shape = agent.runs, self.starts.shape[1], self.size
        self.codes = torch.zeros(shape, dtype=agent.dtype, device=agent.device)

    def stage(self) -> Stage:
        """Give the stage that trains them and then encodes every trajectory."""
        rows = self.config.modality_batch
        return Stage(
            "modalities",
            self.config.modality_steps,
            self.update,
            0,
            0,
            normal={"modality": (rows, self.size)},
            uniform={"crop": (rows, 2)},
            finish=self.store,
        )

    def update(self, batch: Batch, noise: Noise) -> None:
        """Take one step of the encoder, then one of the decoders; rows come from `crop` numbers."""
        steps, valid = self.crops(noise["crop"])
        limit = self.config.modality_norm
        mean, log_std = self.encode(steps, valid)
        z = torch.addcmul(mean, log_std.exp(), noise["modality"])
        error = self.error(steps, valid, z, fixed=True)
        spread = self.size * divergence(mean, log_std)
        minimise(error + self.kl * spread, self.encoder.weights, self.head, limit=limit)
        with torch.no_grad():
            mean, _ = self.encode(steps, valid)
        loss = self.error(steps, valid, mean)
        minimise(loss, self.decoder, limit=limit)
        for name, values in {"sampled": error, "kl": spread, "error": loss}.items():
            self.agent.log(f"modality_{name}", values)

    def encode(self, steps: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Give mean and log-deviation `(R, B, Z)` of z for steps `(R, B, L, 2O + A)`."""
        mean, log_std = self.head(self.encoder(steps, valid)).chunk(2, 2)
        return mean, log_std.clamp(*LOG_STD_RANGE)

    def error(self, steps: Tensor, valid: Tensor, z: Tensor, fixed: bool = False) -> Tensor:
        """Give the mean squared error of the decoders on the valid steps, `(R,)`."""
        own = z[:, :, None].expand(-1, -1, steps.shape[2], -1)
        given = torch.cat([steps[..., : self.pair], own], 3).flatten(1, 2)
        said = self.decoder.fixed(given) if fixed else self.decoder(given)
        change = steps[..., self.pair :].flatten(1, 2)
        errors = ((said - change[:, None]) ** 2).mean((1, 3))
        weights = valid.flatten(1, 2)
        return weighted_mean(errors, weights) / weighted_mean(weights)

    def crops(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Cut random steps out of random trajectories by uniform numbers `(R, B, 2)`.

        Returns:
            Steps `(R, B, L, 2O + A)` as the networks read them, and which are valid `(R, B, L)`.
        """
        u, crop = uniform.double(), self.config.modality_crop
        picked = (u[..., 0] * self.counts[:, None]).long().minimum(self.counts[:, None] - 1)
        length = self.lengths.gather(1, picked)
        spare = (length - crop).clamp(min=0)
        first = (u[..., 1] * (spare + 1)).long().minimum(spare)
        return self._steps(self.starts.gather(1, picked) + first, length.clamp(max=crop), crop)

    @torch.no_grad()
    def store(self) -> None:
        """Freeze the networks and encode every trajectory as a whole."""
        for part in (self.encoder, self.head, self.decoder):
            part.freeze()
        for k in range(0, self.starts.shape[1], TOGETHER):
            part = slice(k, k + TOGETHER)
            lengths = self.lengths[:, part]
            steps, valid = self._steps(self.starts[:, part], lengths, int(lengths.max()))
            self.codes[:, part] = self.encode(steps, valid)[0]

    def of(self, batch: Batch) -> Tensor:
        """Give the modality of the trajectory of every source row, `(R, S, Z)`."""
        own = batch.source.columns[TRAJECTORY].long()
        return self.codes.gather(1, own.expand(-1, -1, self.size))

    def _steps(self, starts: Tensor, lengths: Tensor, most: int) -> tuple[Tensor, Tensor]:
        """Read `lengths` rows from `starts` on, `(R, B)` both, at most `most`; the last repeats."""
        data, place = self.agent.data, torch.arange(most, device=starts.device)
        valid = place < lengths[..., None]
        rows = starts[..., None] + place.minimum(lengths[..., None] - 1)
        found = data.rows[rows + data.offset["source"][..., None]][..., : self.shift.shape[3]]
        return (self._changes(found) - self.shift) / self.scale, valid.to(self.agent.dtype)

    def _changes(self, rows: Tensor) -> Tensor:
        """Put s' - s in the place of s'."""
        own, after = rows[..., : self.pair], rows[..., self.pair :]
        return torch.cat([own, after - rows[..., : self.agent.obs_size]], -1)

    def _trajectories(self) -> tuple[Tensor, Tensor, Tensor]:
        """Number every run's trajectories; give starts and lengths `(R, T)`, counts `(R,)`.

        A run with fewer trajectories than another has single rows in the places left.
        """
        agent, found = self.agent, self.agent.data.origins("source")
        first = (found["step"] % LONGEST == 0).cpu()
        numbers = torch.zeros(first.shape, dtype=torch.int64)
        starts: list[Tensor] = []
        for run, size in enumerate(agent.data.sizes["source"]):
            numbers[run, :size] = first[run, :size].cumsum(0) - 1
            starts.append(first[run, :size].nonzero()[:, 0])
        counts = torch.tensor([len(each) for each in starts])
        padded = torch.zeros(agent.runs, int(counts.max()), dtype=torch.int64)
        lengths = torch.ones_like(padded)
        for run, (own, size) in enumerate(zip(starts, agent.data.sizes["source"], strict=True)):
            padded[run, : len(own)] = own
            lengths[run, : len(own)] = torch.diff(own, append=torch.tensor([size]))
        agent.data.add_column("source", TRAJECTORY, numbers)
        return padded.to(agent.device), lengths.to(agent.device), counts.to(agent.device)

    def _moments(self) -> tuple[Tensor, Tensor]:
        """Give mean and deviation of (s, a, s' - s) over each run's source, `(R, 1, 1, 2O + A)`."""
        agent, width = self.agent, self.pair + self.agent.obs_size
        means, scales = torch.zeros(agent.runs, width), torch.ones(agent.runs, width)
        if self.config.modality_inputs == "standard":
            for run in range(agent.runs):
                rows = self._changes(agent.data.rows_of("source", run)[:, :width]).double()
                variance, mean = torch.var_mean(rows, 0, correction=0)
                means[run], scales[run] = mean, variance.sqrt().clamp(min=1e-6)
        shape = agent.runs, 1, 1, width
        return tuple(x.view(shape).to(agent.device, agent.dtype) for x in (means, scales))  # pyright: ignore

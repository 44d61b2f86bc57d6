"""Learn with soft actor-critic for `R` agents at once, one per domain, none touching another.

Soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905) as D4RL's behaviour policies were made:
tanh-Gaussian actor, twin critics with Polyak targets, learned temperature, target entropy `-|A|`.
With rewards r, termination flag d (never truncation), temperature alpha, next action a' ~ pi(s'):

    y        = c r + gamma (1 - d) (min_j Q'_j(s', a') - alpha log pi(a'|s'))
    critics  : mean (Q_j(s, a) - y)^2 / 2
    actor    : mean (alpha log pi(a|s) - min_j Q_j(s, a)),  a ~ pi(s) by reparameterisation
    alpha    : -log alpha * mean (log pi(a|s) + target entropy)

All three gradients are taken at the parameters before the step, so that one pass through the
critics serves both losses; they are written out by hand (`SAC.gradients`), which the tests compare
with autograd. Three backends run the same equations on the same random numbers:

    eager   stacked torch operations: the reference, on any device
    native  `sac_kernel.cpp`: all CPU cores, agents in parallel; the default on the CPU
    graph   the eager update captured in a CUDA graph; the default on a GPU
"""

from __future__ import annotations

import math
import warnings
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.core.capturing import capture, unchanged
from shiftgym_agents.core.networks import (
    Layers,
    init_mlp,
    linear,
    mlp,
    pack,
    restore_generators,
    run_generators,
    unpack,
)
from shiftgym_agents.kernels.native import NativeUnavailableError
from shiftgym_tools.behaviours import sac_native
from shiftgym_tools.behaviours.config import Backend, SACConfig
from shiftgym_tools.behaviours.replay_buffer import Replay

LOG_STD_RANGE = (-20.0, 2.0)
ADAM = (0.9, 0.999, 1e-8)
METRICS = ("critic_loss", "q", "entropy", "temperature")


def _best_backend(cuda: bool) -> Backend:
    """Choose the fastest backend that runs here; warn where the CPU one cannot be built."""
    if cuda:
        return "graph"
    try:
        sac_native.load()
    except NativeUnavailableError as error:
        warnings.warn(f"training eagerly, several times slower: {error}", stacklevel=3)
        return "eager"
    return "native"


class SAC:
    """Hold and train `R` agents; parameters are one row per agent.

    Args:
        obs_size: Length of an observation.
        act_size: Length of an action, each entry in [-1, 1].
        config: Hyperparameters.
        seeds: One seed per agent; agent `k` draws everything from its own generator.
        device: Where parameters and replay live.
        backend: `auto` takes `graph` on a GPU and `native` on the CPU, or says that it must take
            `eager` where no C++ compiler is.
        threads: CPU threads of the native backend; results do not depend on it.
    """

    def __init__(
        self,
        obs_size: int,
        act_size: int,
        config: SACConfig,
        seeds: list[int],
        device: str = "cpu",
        backend: Backend = "auto",
        threads: int = 1,
    ) -> None:
        self.config, self.obs_size, self.act_size = config, obs_size, act_size
        self.runs, self.device, self.threads = len(seeds), torch.device(device), threads
        cuda = self.device.type == "cuda"
        self.backend = _best_backend(cuda) if backend == "auto" else backend
        if (self.backend == "graph") != cuda and self.backend != "eager":
            raise ShiftgymError(f"backend {self.backend} does not run on {device}: use auto.")
        width = config.width
        self.actor_sizes = (obs_size, width, width, 2 * act_size)
        self.critic_sizes = (obs_size + act_size, width, width, 1)
        self.generators = run_generators(seeds)
        actors = pack(init_mlp(self.actor_sizes, self.generators))
        twins = [pack(init_mlp(self.critic_sizes, self.generators)) for _ in range(2)]
        critics = torch.stack(twins, 1)
        log_alphas = torch.full((self.runs, 1), math.log(config.init_temperature))
        if cuda:  # the CPU ones made the weights; batches and noise are drawn on the device
            self.generators = run_generators(seeds, self.device)
        self.updates = 0
        self.state: dict[str, Tensor] = {"targets": critics.clone().to(self.device)}
        for name, rows in (("critic", critics), ("actor", actors), ("alpha", log_alphas)):
            key = "log_alphas" if name == "alpha" else f"{name}s"
            self.state[key] = rows.to(self.device)
            self.state[f"{name}_m"] = torch.zeros_like(self.state[key])
            self.state[f"{name}_v"] = torch.zeros_like(self.state[key])
        self.state["metrics"] = torch.zeros(self.runs, len(METRICS), device=self.device)
        self._step = torch.zeros(1, dtype=torch.float64, device=self.device)
        self._rate = torch.zeros(1, dtype=torch.float64, device=self.device)
        self._entropy = torch.zeros(1, device=self.device)
        self._follow_schedule()
        self._graph: torch.cuda.CUDAGraph | None = None
        self._graph_inputs: tuple[Tensor, Tensor] | None = None

    # --- acting -----------------------------------------------------------------------------------

    def layers(self, name: Literal["actors", "critics", "targets"]) -> Layers:
        """View the parameters as layers: actors `(R, in, out)`, critics `(2R, in, out)`."""
        rows = self.state[name]
        sizes = self.actor_sizes if name == "actors" else self.critic_sizes
        return unpack(rows.flatten(0, -2), sizes)

    @torch.no_grad()
    def act(self, obs: np.ndarray, noise: Tensor | None = None) -> np.ndarray:
        """Choose actions `(R, k, A)` at observations `(R, k, obs)`; without noise, tanh(mean)."""
        x = torch.as_tensor(obs, dtype=torch.float32).to(self.device)
        mean, raw = mlp(x, self.layers("actors")).chunk(2, -1)
        if noise is not None:
            mean = mean + raw.clamp(*LOG_STD_RANGE).exp() * noise
        return torch.tanh(mean).cpu().numpy()

    def draw(self, *shape: int) -> Tensor:
        """Draw standard normal numbers `(R, *shape)`, each run from its own generator."""
        return torch.stack(
            [torch.randn(shape, generator=g, device=g.device) for g in self.generators]
        )

    def draw_uniform(self, *shape: int) -> Tensor:
        """Draw numbers `(R, *shape)` uniform in [-1, 1), each run from its own generator."""
        draws = [torch.rand(shape, generator=g, device=g.device) for g in self.generators]
        return torch.stack(draws) * 2 - 1

    # --- learning ---------------------------------------------------------------------------------

    def _follow_schedule(self) -> None:
        """Set the step size and target entropy that hold for the next block of updates."""
        rate, entropy = self.config.schedule(self.updates)
        self._rate.fill_(rate)
        self._entropy.fill_(entropy * self.act_size)

    def train(self, replay: Replay, updates: int) -> None:
        """Run a block of updates on batches drawn uniformly from each run's own replay."""
        batch = self.config.batch
        self._follow_schedule()
        indices = replay.sample(self.generators, (updates, batch))
        noise = self.draw(updates, 2 * batch, self.act_size)
        if self.backend == "native":
            self._native(replay, indices, noise)
        elif self.backend == "graph":
            self._replay_graph(replay, indices, noise)
        else:
            for u in range(updates):
                self.update(replay.gather(indices[:, u]), noise[:, u])
        self.updates += updates

    def gradients(self, rows: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of critics `(R, 2, PC)`, actors `(R, PA)`, log alpha `(R, 1)`.

        Args:
            rows: Transitions `(R, B, D)` laid out as `Replay` does.
            noise: Standard normals `(R, 2B, A)`: for the current, then for the next observations.
        """
        runs, size, act = self.runs, rows.shape[1], self.act_size
        obs_act, obs, next_obs, reward, terminated = self.split(rows)
        actor, critic = self.layers("actors"), self.layers("critics")
        alpha = self.state["log_alphas"].exp()[:, :, None]
        # --- actions of the current policy, for this and the next observation
        both = torch.cat([obs, next_obs], 1)
        h1 = torch.relu(linear(both, actor[0]))
        h2 = torch.relu(linear(h1, actor[1]))
        mean, raw = linear(h2, actor[2]).chunk(2, -1)
        log_std = raw.clamp(*LOG_STD_RANGE)
        std = log_std.exp()
        pre = mean + std * noise
        action = torch.tanh(pre)
        squash = 2 * (math.log(2) - pre - torch.nn.functional.softplus(-2 * pre))
        density = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)
        log_prob = (density - squash).sum(-1, keepdim=True)
        # --- bootstrap target: terminated only
        next_pair = torch.cat([next_obs, action[:, size:]], -1).repeat_interleave(2, 0)
        next_q = mlp(next_pair, self.layers("targets")).view(runs, 2, size, 1).amin(1)
        soft = next_q - alpha * log_prob[:, size:]
        scale, gamma = self.config.reward_scale, self.config.discount
        y = (scale * reward + gamma * (1 - terminated) * soft)[:, None]
        # --- critics: rows [0, B) carry the critic loss, rows [B, 2B) the actor's
        own = torch.cat([obs, action[:, :size]], -1)
        x = torch.cat([obs_act, own], 1).repeat_interleave(2, 0)
        k1 = torch.relu(linear(x, critic[0]))
        k2 = torch.relu(linear(k1, critic[1]))
        q = linear(k2, critic[2]).view(runs, 2, 2 * size, 1)
        error = q[:, :, :size] - y
        first = (q[:, :1, size:] <= q[:, 1:, size:]).to(q.dtype)
        gq = torch.cat([error, torch.cat([-first, first - 1], 1)], 2).flatten(0, 1) / size
        g2 = torch.bmm(gq, critic[2][0].mT) * (k2 > 0)
        g1 = torch.bmm(g2, critic[1][0].mT) * (k1 > 0)
        grad_critics = _weight_gradients(((x, g1), (k1, g2), (k2, gq)), size).view(runs, 2, -1)
        grad_action = torch.bmm(g1[:, size:], critic[0][0][:, self.obs_size :].mT)
        grad_action = grad_action.view(runs, 2, size, act).sum(1)
        # --- actor
        now, raw_now = action[:, :size], raw[:, :size]
        low, high = LOG_STD_RANGE
        grad_pre = grad_action * (1 - now**2) + 2 * alpha / size * now
        inside = (raw_now > low) & (raw_now < high)
        grad_std = (grad_pre * std[:, :size] * noise[:, :size] - alpha / size) * inside
        gout = torch.cat([grad_pre, grad_std], -1)
        j1, j2 = h1[:, :size], h2[:, :size]
        f2 = torch.bmm(gout, actor[2][0].mT) * (j2 > 0)
        f1 = torch.bmm(f2, actor[1][0].mT) * (j1 > 0)
        grad_actors = _weight_gradients(((obs, f1), (j1, f2), (j2, gout)), size)
        # --- temperature
        entropy = -log_prob[:, :size].mean(1)
        loss = 0.5 * (error**2).mean(2).sum(1)
        mean_q = q[:, 0, :size].mean(1)
        self.state["metrics"].copy_(torch.cat([loss, mean_q, entropy, alpha[:, 0]], 1))
        return grad_critics, grad_actors, entropy - self._entropy

    @torch.no_grad()
    def update(self, rows: Tensor, noise: Tensor) -> None:
        """Take one gradient step for every agent (see `gradients` for the shapes)."""
        grads = self.gradients(rows, noise)
        self._step += 1
        first, second, epsilon = ADAM
        rate = (self._rate / (1 - first**self._step)).float()
        correct = (1 / (1 - second**self._step)).float()
        for name, grad in zip(("critic", "actor", "alpha"), grads, strict=True):
            parameters = self.state["log_alphas" if name == "alpha" else f"{name}s"]
            m, v = self.state[f"{name}_m"], self.state[f"{name}_v"]
            m.lerp_(grad, 1 - first)
            v.mul_(second).addcmul_(grad, grad, value=1 - second)
            parameters.sub_(rate * m / ((v * correct).sqrt() + epsilon))
        self.state["targets"].lerp_(self.state["critics"], self.config.tau)

    def split(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """View rows `(..., D)` as obs+action, obs, next obs, reward `(..., 1)`, terminated."""
        pair, obs = self.obs_size + self.act_size, self.obs_size
        parts = rows[..., :pair], rows[..., :obs], rows[..., pair : pair + obs]
        return *parts, rows[..., -2:-1], rows[..., -1:]

    def _native(self, replay: Replay, indices: Tensor, noise: Tensor) -> None:
        cfg = self.config
        integers = dict(runs=self.runs, updates=indices.shape[1], batch=cfg.batch)
        integers |= dict(obs=self.obs_size, act=self.act_size, width=cfg.width)
        integers |= dict(capacity=replay.rows.shape[1], threads=self.threads, step=self.updates)
        floats = dict(discount=cfg.discount, tau=cfg.tau, rate=float(self._rate))
        floats |= dict(target_entropy=float(self._entropy), reward_scale=cfg.reward_scale)
        floats |= dict(log_std_min=LOG_STD_RANGE[0], log_std_max=LOG_STD_RANGE[1])
        arrays = self.state | {"rows": replay.rows, "indices": indices, "noise": noise}
        sac_native.sac_block(integers, floats, arrays)
        self._step += indices.shape[1]

    def _replay_graph(self, replay: Replay, indices: Tensor, noise: Tensor) -> None:
        """Replay the block of updates captured on first use (same block length every call)."""
        if self._graph_inputs is None:
            self._graph_inputs = indices.clone(), noise.clone()
            inputs = self._graph_inputs
            with unchanged(self._graph_state().values()):
                self._graph = capture(
                    lambda: self._block(replay, *inputs), self.device, "a block of SAC's updates"
                )
        assert self._graph is not None
        if self._graph_inputs[0].shape != indices.shape:
            raise ValueError("a captured block has one length: keep updates_per_block")
        self._graph_inputs[0].copy_(indices)
        self._graph_inputs[1].copy_(noise)
        self._graph.replay()

    def _block(self, replay: Replay, indices: Tensor, noise: Tensor) -> None:
        for u in range(indices.shape[1]):
            self.update(replay.gather(indices[:, u]), noise[:, u])

    def _graph_state(self) -> dict[str, Tensor]:
        return self.state | {"_step": self._step}

    # --- saving -----------------------------------------------------------------------------------

    def save(self) -> dict[str, Tensor]:
        """Return everything that a later `load` needs to go on bit for bit, as named tensors."""
        states = torch.stack([g.get_state() for g in self.generators])
        tensors = {name: tensor.cpu().contiguous() for name, tensor in self._graph_state().items()}
        return tensors | {"generators": states}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `save` returned."""
        for name, tensor in self._graph_state().items():
            tensor.copy_(tensors[name])
        if not restore_generators(self.generators, tensors["generators"]):
            warnings.warn(
                f"this checkpoint was written on another kind of device than {self.device}: "
                "training goes on with other random numbers than it would have had there",
                stacklevel=2,
            )
        self.updates = int(self._step)
        self._follow_schedule()

    def actor_arrays(self, run: int) -> dict[str, np.ndarray]:
        """Return one agent's actor as `W0 (obs, W), b0 (W,), W1, b1, W2 (W, 2A), b2` in float32."""
        rows = self.state["actors"][run : run + 1].cpu().clone()
        arrays: dict[str, np.ndarray] = {}
        for i, (weight, bias) in enumerate(unpack(rows, self.actor_sizes)):
            arrays |= {f"W{i}": weight[0].numpy().copy(), f"b{i}": bias[0, 0].numpy().copy()}
        return arrays

    def diverged(self) -> list[int]:
        """List the runs whose parameters or last losses are not finite."""
        sums = self.state["metrics"].sum(1) + self.state["actors"].sum(1)
        return torch.nonzero(~torch.isfinite(sums)).flatten().tolist()


def _weight_gradients(pairs: tuple[tuple[Tensor, Tensor], ...], size: int) -> Tensor:
    """Return gradients `(N, P)` in `pack` order from (layer input, output gradient) pairs."""
    pieces = [(x[:, :size], g[:, :size]) for x, g in pairs]
    return pack([(x.mT @ g, g.sum(1, keepdim=True)) for x, g in pieces])

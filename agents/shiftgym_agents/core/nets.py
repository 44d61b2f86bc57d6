"""Train stacked networks: parameters as one flat row per run, with Adam and Polyak steps.

A `Net` is `R` runs x `C` copies (twin critics, ensemble members) of one MLP. Its weights are rows
`(R, C, P)`, laid out by `networks.pack`, so that an optimiser step is a few elementwise operations
whatever the number of layers, and saving it is saving three tensors. There are two ways through
the same equations: stacked torch operations (the reference, any device and dtype), and, for float32
where `Net.native` is set, the kernels of `native.py` (C++, on the CPU) and `fused.py` (CUDA).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from shiftgym_agents.core.networks import Layers, init_mlp, mlp, pack, unpack
from shiftgym_agents.kernels import fused, native

BETAS = (0.9, 0.999)
EPSILON = 1e-8
Init = Callable[[Sequence[int], Sequence[torch.Generator]], Layers]


class Parameter:
    """Hold rows `(R, ...)` of one kind of parameter with the state of Adam.

    Args:
        rows: Initial values, `(R, ...)`, on the device and with the dtype of training.
        rate: Adam's step size, or one per run `(R,)`; None for rows that no optimiser moves.
        decay_steps: Let the step size fall along half a cosine, to 0 after this many steps:
            rate(t) = rate/2 (1 + cos(pi t / decay_steps)) at the t-th step, counted from 0.
    """

    native = False

    def __init__(
        self, rows: Tensor, rate: float | Tensor | None, decay_steps: int | None = None
    ) -> None:
        self.rows = rows.contiguous().requires_grad_(rate is not None)
        self.decay_steps = decay_steps
        self.state: dict[str, Tensor] = {"rows": self.rows}
        if rate is None:
            return
        rates = torch.as_tensor(rate, dtype=torch.float64, device=rows.device)
        self.rate = rates.expand(len(rows)).clone()
        self.state["m"] = torch.zeros_like(self.rows, requires_grad=False)
        self.state["v"] = torch.zeros_like(self.rows, requires_grad=False)
        self.state["steps"] = torch.zeros(1, dtype=torch.float64, device=rows.device)

    @property
    def moved(self) -> bool:
        """Say whether an optimiser has taken a step."""
        return bool(self.state["steps"].any())

    def rates(self) -> Tensor:
        """Give the step size of the next step for each run, `(R,)` float64."""
        if self.decay_steps is None:
            return self.rate
        turn = self.state["steps"].clamp(max=self.decay_steps) * (math.pi / self.decay_steps)
        return self.rate * (0.5 + 0.5 * torch.cos(turn))

    @torch.no_grad()
    def descend(
        self, gradient: Tensor, follower: Parameter | None = None, share: Tensor | float = 0.0
    ) -> None:
        """Take one Adam step (Kingma & Ba 2015, algorithm 1) along a gradient shaped as `rows`.

        A Polyak copy then follows by `share`; see `follow`.
        """
        if self.native and self.rows.is_cuda:
            numbers = BETAS, EPSILON
            if follower is not None and not isinstance(share, Tensor):  # one step does both
                together = follower.rows, share
                fused.adam_(self.state, gradient, self.rate, self.decay_steps, numbers, *together)
                return
            fused.adam_(self.state, gradient, self.rate, self.decay_steps, numbers)
        else:
            self._descend(gradient)
        if follower is not None:
            follower.follow(self, share)

    def _descend(self, gradient: Tensor) -> None:
        first, second = BETAS
        rates = self.rates()
        steps = self.state["steps"].add_(1)
        m, v = self.state["m"], self.state["v"]
        rate = (rates / (1 - first**steps)).to(self.rows.dtype)
        correct = (1 / (1 - second**steps)).to(self.rows.dtype)
        if self.native:
            everyone = correct.expand(len(rate)).contiguous()
            native.adam_(self.rows, m, v, gradient.contiguous(), rate, everyone, BETAS, EPSILON)
            return
        m.lerp_(gradient, 1 - first)
        v.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        rate = rate.view(-1, *[1] * (self.rows.dim() - 1))
        self.rows.sub_(rate * m / ((v * correct).sqrt() + EPSILON))

    @torch.no_grad()
    def follow(self, other: Parameter, share: Tensor | float) -> None:
        """Move a share of the way to another one's rows (Polyak averaging).

        Args:
            other: Whose rows.
            share: One for all runs, or one per run that broadcasts against the rows `(R, ...)`.
        """
        if not self.native or self.rows.is_cuda:
            self.rows.lerp_(other.rows, share)  # pyright: ignore[reportArgumentType]
            return
        shares = share.flatten().tolist() if isinstance(share, Tensor) else [share]
        if len(set(shares)) == 1:
            native.follow_(self.rows, other.rows, shares[0])
            return
        for mine, theirs, own in zip(self.rows, other.rows, shares, strict=True):
            native.follow_(mine, theirs, own)

    def freeze(self) -> None:
        """Stop computing gradients of these rows: a stage that trained them is over."""
        self.rows.requires_grad_(False)


class Net(Parameter):
    """Hold `R` runs x `C` copies of one MLP.

    Args:
        sizes: Widths from input to output, e.g. `(11, 256, 256, 1)`.
        generators: One CPU generator per run; each advances only by its own run's weights.
        copies: None for one network per run; else `C` networks on the same batch.
        rate: As for `Parameter`.
        decay_steps: As for `Parameter`.
        activation: Applied after every layer but the last; anything but ReLU runs as torch
            operations on every path.
        init: Draws the layers of one copy; PyTorch's default by default.
        device: Where the rows live.
        dtype: float32, or float64 in tests.

    Shapes: `net(x (R, B, in))` is `(R, B, out)`, with copies `(R, C, B, out)`.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        generators: Sequence[torch.Generator],
        copies: int | None = None,
        rate: float | Tensor | None = 3e-4,
        decay_steps: int | None = None,
        activation: Callable[[Tensor], Tensor] = torch.relu,
        init: Init = init_mlp,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        drawn = [pack(init(sizes, generators)) for _ in range(copies or 1)]
        rows = torch.stack(drawn, 1).to(device, dtype)
        super().__init__(rows, rate, decay_steps)
        self.sizes, self.copies, self.activation = tuple(sizes), copies, activation

    def layers(self, rows: Tensor | None = None) -> Layers:
        """View the rows as layers `[(W (R*C, in, out), b (R*C, 1, out)), ...]`."""
        return unpack((self.rows if rows is None else rows).flatten(0, 1), self.sizes)

    def __call__(self, x: Tensor) -> Tensor:
        """Apply the networks to batches `(R, B, in)`."""
        return self._apply(x, self.rows)

    def fixed(self, x: Tensor) -> Tensor:
        """Apply the networks as constants: gradients flow to `x` only."""
        return self._apply(x, self.rows.detach())

    @property
    def uses_kernels(self) -> bool:
        """Say whether the C++ kernels apply these networks; they know ReLU and the CPU alone."""
        return self.native and self.activation is torch.relu and not self.rows.is_cuda

    def _apply(self, x: Tensor, rows: Tensor) -> Tensor:
        runs, copies, _ = rows.shape
        if x.dim() != 3 or x.shape[0] != runs or x.shape[2] != self.sizes[0]:
            raise ValueError(
                f"expected a batch (runs {runs}, B, {self.sizes[0]}), not {tuple(x.shape)}"
            )
        if self.uses_kernels:
            y: Tensor = native.StackedMLP.apply(x, rows, self.sizes)  # pyright: ignore
        else:
            each = x if copies == 1 else x.repeat_interleave(copies, 0)
            y = mlp(each, self.layers(rows), self.activation)
            y = y.view(runs, copies, *y.shape[1:])
        return y[:, 0] if self.copies is None else y


def minimise(
    losses: Tensor,
    *parameters: Parameter,
    limit: float | None = None,
    follower: Parameter | None = None,
    share: Tensor | float = 0.0,
) -> None:
    """Take one Adam step of all `parameters` on the sum of per-run losses `(R,)`.

    Runs share no parameter, so the sum's gradient is each run's own.

    Args:
        losses: One number per run.
        parameters: What takes the step.
        limit: Shorten each run's gradient, of all parameters together, to this norm.
        follower: A Polyak copy of the first of them that follows it after the step.
        share: Part of the way that it goes; one for all runs, or one per run as for `follow`.

    Raises:
        ValueError: `losses` does not hold one number per run.
    """
    runs = len(parameters[0].rows)
    if losses.shape != (runs,):
        raise ValueError(f"expected one loss per run ({runs},), not {tuple(losses.shape)}")
    ones = _ones(runs, losses.dtype, losses.device)  # the gradient of the sum, without the sum
    gradients = torch.autograd.grad(losses, [p.rows for p in parameters], ones)
    if limit is not None:
        squares = torch.stack([(g.flatten(1) ** 2).sum(1) for g in gradients]).sum(0)
        part = (limit / squares.sqrt().clamp(min=1e-12)).clamp(max=1)
        gradients = [g * part.view(-1, *[1] * (g.dim() - 1)) for g in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        first = parameter is parameters[0]
        parameter.descend(gradient, follower if first else None, share)


@cache
def _ones(runs: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.ones(runs, dtype=dtype, device=device)


def copy_net(net: Net) -> Net:
    """Make a Polyak target: the same weights, moved only by `follow`."""
    twin = object.__new__(Net)
    Parameter.__init__(twin, net.rows.detach().clone(), rate=None)
    twin.sizes, twin.copies, twin.activation = net.sizes, net.copies, net.activation
    return twin


def orthogonal_mlp(sizes: Sequence[int], generators: Sequence[torch.Generator]) -> Layers:
    """Draw orthogonal layers with gain sqrt(2) and zero biases, as the JAX release of IQL does."""
    layers: Layers = []
    for wide_in, wide_out in zip(sizes[:-1], sizes[1:], strict=True):
        drawn = [torch.empty(wide_in, wide_out) for _ in generators]
        for weight, generator in zip(drawn, generators, strict=True):
            torch.nn.init.orthogonal_(weight, math.sqrt(2), generator=generator)
        layers.append((torch.stack(drawn), torch.zeros(len(drawn), 1, wide_out)))
    return layers

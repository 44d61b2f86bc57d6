"""Run many small networks of the same shape at once, stacked along a leading runs axis.

Every weight is `(R, in, out)`, every bias `(R, 1, out)`, every batch `(R, B, in)`. One layer of all
runs is a single batched matrix product, so `R` seeds (or domains) cost far less than `R` times one:

    x (R, B, in)  @  W (R, in, out)  +  b (R, 1, out)   ->   (R, B, out)

Runs never touch each other: run `k` reads only `x[k]`, `W[k]`, `b[k]`. Initial weights come from
one `torch.Generator` per run, so run `k` alone starts with the weights it has among others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Layers = list[tuple[Tensor, Tensor]]
"""A stacked MLP as `[(W (R, in, out), b (R, 1, out)), ...]`, first layer first."""


def run_generators(
    seeds: Sequence[int], device: torch.device | str = "cpu"
) -> list[torch.Generator]:
    """Make one generator per run from one seed per run."""
    return [torch.Generator(device).manual_seed(int(seed)) for seed in seeds]


def restore_generators(generators: Sequence[torch.Generator], states: Tensor) -> bool:
    """Go on drawing where states `(R, bytes)` left off; say whether that was possible.

    A state of a GPU fits no generator of a CPU, and the other way round. Generators then go on from
    a seed made of the state: different numbers, but the same ones every time.
    """
    fits = len(generators[0].get_state()) == states.shape[1]
    for generator, state in zip(generators, states, strict=True):
        if fits:
            generator.set_state(state.clone())  # a row view would be read from offset 0
        else:
            digest = hashlib.sha256(state.cpu().numpy().tobytes()).digest()
            generator.manual_seed(int.from_bytes(digest[:6], "little"))
    return fits


def init_mlp(sizes: Sequence[int], generators: Sequence[torch.Generator]) -> Layers:
    """Draw the layers of `len(generators)` MLPs, uniform in +-1/sqrt(in) as `torch.nn.Linear` does.

    Args:
        sizes: Widths from input to output, e.g. `(11, 256, 256, 6)`.
        generators: One CPU generator per run; each advances only by its own run's weights.

    Returns:
        One `(W (R, in, out), b (R, 1, out))` pair per layer, on the CPU, float32.
    """
    runs: list[Layers] = []
    for generator in generators:
        layers: Layers = []
        for wide_in, wide_out in zip(sizes[:-1], sizes[1:], strict=True):
            bound = wide_in**-0.5
            weight = torch.empty(wide_in, wide_out).uniform_(-bound, bound, generator=generator)
            bias = torch.empty(1, wide_out).uniform_(-bound, bound, generator=generator)
            layers.append((weight, bias))
        runs.append(layers)
    return [
        (torch.stack([run[i][0] for run in runs]), torch.stack([run[i][1] for run in runs]))
        for i in range(len(sizes) - 1)
    ]


def linear(x: Tensor, layer: tuple[Tensor, Tensor]) -> Tensor:
    """Apply one stacked layer: `(R, B, in) -> (R, B, out)`."""
    weight, bias = layer
    return torch.baddbmm(bias, x, weight)


def mlp(x: Tensor, layers: Layers, activation: Callable[[Tensor], Tensor] = torch.relu) -> Tensor:
    """Apply a stacked MLP: `(R, B, in) -> (R, B, out)`, no activation after the last layer."""
    for layer in layers[:-1]:
        x = activation(linear(x, layer))
    return linear(x, layers[-1])


class StackedMLP(nn.Module):
    """Hold `R` MLPs of one shape as parameters, for training with autograd.

    Args:
        sizes: Widths from input to output.
        generators: One CPU generator per run (see `run_generators`).
        layer_norm: Normalise each hidden layer before its ReLU (per run scale and shift).
        dropout: Probability of dropping a hidden unit while training.

    Shapes: `forward((R, B, in)) -> (R, B, out)`.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        generators: Sequence[torch.Generator],
        layer_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        layers = init_mlp(sizes, generators)
        self.weights = nn.ParameterList([weight for weight, _ in layers])
        self.biases = nn.ParameterList([bias for _, bias in layers])
        self.dropout = dropout
        runs = len(generators)
        norms = [torch.ones(runs, 1, width) for width in sizes[1:-1]] if layer_norm else []
        self.norm_scales = nn.ParameterList(norms)
        self.norm_shifts = nn.ParameterList([torch.zeros_like(norm) for norm in norms])

    def forward(self, x: Tensor) -> Tensor:
        """Apply the stacked network to a stacked batch."""
        last = len(self.weights) - 1
        for i, layer in enumerate(zip(self.weights, self.biases, strict=True)):
            x = linear(x, layer)
            if i == last:
                break
            if len(self.norm_scales):
                x = nn.functional.layer_norm(x, x.shape[-1:])
                x = torch.addcmul(self.norm_shifts[i], x, self.norm_scales[i])
            x = torch.relu(x)
            if self.dropout:
                x = nn.functional.dropout(x, self.dropout, self.training)
        return x


def pack(layers: Layers) -> Tensor:
    """Copy a stacked MLP into one row per run: `(R, P)`, in the order W0 b0 W1 b1 ...

    Optimiser and Polyak steps on the rows are then a handful of elementwise operations, whatever
    the number of layers, and one run's network is one contiguous piece of memory.
    """
    return torch.cat([tensor.flatten(1) for layer in layers for tensor in layer], 1).contiguous()


def unpack(rows: Tensor, sizes: Sequence[int]) -> Layers:
    """View `(R, P)` rows made by `pack` as the layers of an MLP with these widths."""
    total = sum((i + 1) * o for i, o in zip(sizes[:-1], sizes[1:], strict=True))
    if total != rows.shape[1]:
        raise ValueError(f"widths {tuple(sizes)} need {total} weights, not {rows.shape[1]}")
    shapes = [
        shape for i, o in zip(sizes[:-1], sizes[1:], strict=True) for shape in ((i, o), (1, o))
    ]
    parts = rows.split([i * o for i, o in shapes], 1)  # whose gradients autograd joins in one copy
    tensors = [part.view(-1, *shape) for part, shape in zip(parts, shapes, strict=True)]
    return list(zip(tensors[::2], tensors[1::2], strict=True))

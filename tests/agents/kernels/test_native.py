"""Compare the C++ kernels with torch operations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from agent_helpers import distance

from shiftgym_agents.core.nets import Net, Parameter
from shiftgym_agents.core.networks import run_generators
from shiftgym_agents.kernels import native


@pytest.fixture(autouse=True)
def kernels() -> None:
    try:
        native.load()
    except native.NativeUnavailableError as error:
        pytest.skip(str(error))


SHAPES = [  # widths, batch, copies
    ((14, 256, 256, 1), 256, 2),
    ((11, 256, 256, 6), 230, None),
    ((5, 17, 33, 9), 67, None),
    ((3, 8, 12), 1, 3),
    ((7, 750, 40, 40, 8), 129, None),
    ((4, 1), 30, None),
]


@pytest.mark.parametrize(("sizes", "rows", "copies"), SHAPES)
def test_values_and_gradients_are_torchs(
    sizes: tuple[int, ...], rows: int, copies: int | None
) -> None:
    net = Net(sizes, run_generators([0, 1, 2]), copies=copies)
    wide = torch.randn(3, rows, sizes[0] + 5, generator=torch.Generator().manual_seed(0))
    found = {}
    for fast in (False, True):
        net.native = fast
        x = wide.clone().requires_grad_()
        y = net(x[..., 2 : 2 + sizes[0]])  # a view whose rows are further apart than they are long
        loss = torch.sin(y).flatten(1).sum(1)
        grads = torch.autograd.grad(loss.sum(), [net.rows, x], retain_graph=True)
        (only_x,) = torch.autograd.grad(loss.sum(), [x])
        with torch.no_grad():
            plain = net(x[..., 2 : 2 + sizes[0]])
        assert torch.equal(plain, y) and torch.equal(only_x, grads[1])
        found[fast] = {"y": y.detach(), "rows": grads[0], "x": grads[1]}
    assert distance(found[False], found[True]) < 2e-6


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_result_depends_on_neither_threads_nor_other_runs(threads: int) -> None:
    net = Net((6, 64, 64, 2), run_generators([0, 1, 2]))
    alone = Net((6, 64, 64, 2), run_generators([1]))
    x = torch.randn(3, 300, 6, generator=torch.Generator().manual_seed(0))

    def gradient(of: Net, batch: torch.Tensor) -> torch.Tensor:
        of.native = True
        return torch.autograd.grad((of(batch) ** 2).sum(), of.rows)[0]

    single, before = gradient(net, x), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert torch.equal(gradient(net, x), single)
        assert torch.equal(gradient(alone, x[1:2]), single[1:2])
    finally:
        torch.set_num_threads(before)


def test_adam_and_polyak_steps_are_torchs() -> None:
    rows = torch.randn(3, 2, 40_001, generator=torch.Generator().manual_seed(0))
    found = {}
    for fast in (False, True):
        rate = torch.tensor([1e-3, 1e-2, 0.0])
        parameter, follower = Parameter(rows.clone(), rate), Parameter(rows + 1, None)
        parameter.native = follower.native = fast
        for step in range(4):
            parameter.descend(torch.sin(rows * (step + 1)))
            follower.follow(parameter, 0.1)
        found[fast] = {k: v.detach() for k, v in parameter.state.items()}
        found[fast]["follower"] = follower.rows
    assert distance(found[False], found[True]) < 1e-6
    assert torch.equal(found[True]["rows"][2], rows[2])


def test_not_a_number_passes_through() -> None:
    net = Net((3, 16, 16, 1), run_generators([0, 1]))
    net.native = True
    with torch.no_grad():
        net.rows[1, 0, 5] = np.nan
    y = net(torch.ones(2, 4, 3))
    assert torch.isfinite(y[0]).all() and torch.isnan(y[1]).all()


def test_other_tensors_are_refused() -> None:
    net = Net((3, 16, 1), run_generators([0]), dtype=torch.float64)
    net.native = True
    with pytest.raises(ValueError, match="float32"):
        net(torch.ones(1, 4, 3, dtype=torch.float64))

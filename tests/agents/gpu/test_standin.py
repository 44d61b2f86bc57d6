"""Test the stand-in itself against what CUDA does, as its documentation has it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from shiftgym_agents.core.capturing import capture, unchanged
from shiftgym_agents.standin.machine import machine


def captured(step, device: str = "cuda:0") -> torch.cuda.CUDAGraph:
    return capture(step, torch.device(device), "a step")


def test_tensors_of_two_devices_do_not_mix() -> None:
    one, two, here = (torch.ones(2, device=name) for name in ("cuda:0", "cuda:1", "cpu"))
    for other in (two, here):
        with pytest.raises(RuntimeError, match="same device"):
            one + other
    assert (one + torch.tensor(1.0)).tolist() == [2, 2]  # a number of the host is an argument
    with pytest.raises(TypeError, match="Use Tensor.cpu"):
        np.asarray(one)


def test_a_capture_runs_nothing_and_a_replay_everything() -> None:
    x, made = torch.zeros(3, device="cuda"), []

    def step() -> None:
        x.add_(1)
        made.append(x * 2)

    with unchanged([x]):
        graph = captured(step)
    assert x.tolist() == [0, 0, 0] and len(made) == 4
    assert made[-1].isnan().all()  # memory of the graph's own holds nothing yet
    graph.replay()
    graph.replay()
    assert x.tolist() == [2, 2, 2] and made[-1].tolist() == [4, 4, 4] and len(made) == 4


def test_a_number_of_the_host_is_baked_in() -> None:
    x, rate = torch.zeros(1, device="cuda"), torch.tensor(1.0)
    graph = captured(lambda: x.add_(rate))
    x.zero_()
    rate.fill_(5.0)
    graph.replay()
    assert x.tolist() == [1]


def test_work_on_another_device_or_stream_is_not_in_a_graph() -> None:
    other = torch.zeros(1, device="cuda:1")
    with pytest.raises(Exception, match="the graph would lack it"):
        captured(lambda: other.add_(1), "cuda:0")
    captured(lambda: other.add_(1), "cuda:1")
    graph, x = torch.cuda.CUDAGraph(), torch.zeros(1, device="cuda:1")
    with pytest.raises(RuntimeError, match="would lack it"), torch.cuda.graph(graph):
        x.add_(1)


def test_generators_draw_on_their_own_device_and_not_in_a_graph() -> None:
    one, same = (torch.Generator("cuda").manual_seed(3) for _ in range(2))
    drawn = torch.randn(4, device="cuda", generator=one)
    assert torch.equal(drawn.cpu(), torch.randn(4, device="cuda", generator=same).cpu())
    assert len(one.get_state()) == 16
    same.set_state(one.get_state())
    assert torch.rand(2, device="cuda", generator=one).tolist() == (
        torch.rand(2, device="cuda", generator=same).tolist()
    )
    with pytest.raises(RuntimeError, match="'cuda' device type for generator"):
        torch.randn(4, device="cuda", generator=torch.Generator())
    with pytest.raises(RuntimeError, match="wrong size"):
        one.set_state(torch.Generator().get_state())
    x = torch.zeros(4, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match="not in capture mode"), torch.cuda.graph(graph):
        x.normal_(generator=one)


def test_autograd_runs_on_a_device_and_in_a_graph() -> None:
    w = torch.ones(2, 3, device="cuda:1", requires_grad=True)
    x, out = torch.full((2, 3), 2.0, device="cuda:1"), torch.zeros(2, 3, device="cuda:1")

    def step() -> None:
        out.copy_(torch.autograd.grad((w * x).square().sum(), w)[0])

    graph = captured(step, "cuda:1")
    x.fill_(3.0)
    graph.replay()
    assert out.tolist() == [[18.0] * 3] * 2


def test_a_kernel_in_cuda_runs_now_or_when_replayed() -> None:
    source = """
    extern "C" __global__ void scale(float* x, const float* by, int count) {
      const int i = blockIdx.x * blockDim.x + threadIdx.x;
      if (i < count) x[i] *= by[0];
    }"""
    kernel = torch.cuda._compile_kernel(source, "scale")
    x, by = torch.ones(5, device="cuda"), torch.full((1,), 2.0, device="cuda")

    def step() -> None:
        kernel(grid=(3, 1, 1), block=(2, 1, 1), args=[x, by, 5])

    step()
    assert x.tolist() == [2] * 5
    with unchanged([x]):
        graph = captured(step)
    assert x.tolist() == [2] * 5
    by.fill_(3.0)
    graph.replay()
    assert x.tolist() == [6] * 5


def test_it_counts_what_makes_the_host_wait() -> None:
    x = torch.ones(2, device="cuda")
    before = machine().counts.copy()
    assert x.sum().item() == 2 and bool((x > 0).all())
    waited = machine().counts - before
    assert sum(n for what, n in waited.items() if what.startswith("wait: .item()")) == 2
    assert any("test_standin.py" in what for what in waited)

"""Make the mistakes that a CUDA graph punishes: each is found at the first replay, and named."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from shiftgym_agents.core.agent import Noise, Stage
from shiftgym_agents.core.capturing import CaptureError
from shiftgym_agents.core.losses import weighted_mean
from shiftgym_agents.core.nets import minimise
from shiftgym_agents.data.batches import Batch
from shiftgym_agents.methods.bc import BC
from shiftgym_agents.methods.table import method
from shiftgym_agents.training.checking import shrunk, toy_pair, train


class Weighted(BC):
    """Behaviour cloning whose loss has a factor `(R, 1, 1)` or a number."""

    def factor(self, batch: Batch) -> Tensor | float:
        return 1.0

    def update(self, batch: Batch, noise: Noise) -> None:
        error = torch.tanh(self.actor(batch.obs)) - batch.act
        loss = weighted_mean(self.factor(batch) * error**2)
        minimise(loss, self.actor)
        self.log("actor_loss", loss)


class Counter(BC):
    """Leaves every second update out."""

    count = 0

    def update(self, batch: Batch, noise: Noise) -> None:
        self.count += 1
        if self.count % 2:
            super().update(batch, noise)


class Schedule(Weighted):
    """Divides by a Python number that grows."""

    count = 0

    def factor(self, batch: Batch) -> float:
        self.count += 1
        return 1 / self.count


class Slow(Weighted):
    """Lets a Python number fall slowly."""

    now = 1.0

    def factor(self, batch: Batch) -> float:
        self.now *= 0.99
        return self.now


class Rebound(Weighted):
    """Binds a declared buffer's name to a new tensor every time."""

    def build(self) -> None:
        super().build()
        self.scale = self.buffer("scale", torch.ones(self.runs, 1, 1))

    def factor(self, batch: Batch) -> Tensor:
        self.scale = self.scale * 0.9
        return self.scale


class Undeclared(Weighted):
    """Changes a tensor in place that nobody was told of: warming up changes it for good."""

    def build(self) -> None:
        super().build()
        self.average = torch.zeros(self.runs, 1, 1, device=self.device)

    def factor(self, batch: Batch) -> Tensor:
        self.average.lerp_(batch.reward.mean(1, keepdim=True), 0.1)
        return 1 + self.average


class Exchanged(Weighted):
    """Binds another tensor when it looks at what it learned."""

    def build(self) -> None:
        super().build()
        self.scale = torch.ones(self.runs, 1, 1, device=self.device)

    def stages(self) -> list[Stage]:
        return [dataclasses.replace(s, every=4, check=self.look) for s in super().stages()]

    def look(self) -> None:
        self.scale = self.scale * 0.5

    def factor(self, batch: Batch) -> Tensor:
        return self.scale


class Draws(Weighted):
    """Draws random numbers in an update, which CUDA allows, from nobody's seed."""

    def factor(self, batch: Batch) -> Tensor:
        return torch.rand_like(batch.reward)


class Item(Weighted):
    """Reads a value."""

    def factor(self, batch: Batch) -> float:
        return 1.0 if batch.reward.mean().item() < 1e9 else 0.0


class Asks(Weighted):
    """Asks for a number of the configuration in an update."""

    def factor(self, batch: Batch) -> Tensor:
        return 1 + self.per_run("learning_rate")


class Masks(Weighted):
    """Takes rows by a mask, a size that depends on values."""

    def factor(self, batch: Batch) -> Tensor:
        return batch.reward[batch.reward > 0].mean()


class OnTheCpu(Weighted):
    """Makes a constant without a device."""

    def factor(self, batch: Batch) -> Tensor:
        return torch.ones(self.runs, batch.obs.shape[1], 1)


class Keeps(Weighted):
    """Keeps the last loss with its graph, which does no harm."""

    def update(self, batch: Batch, noise: Noise) -> None:
        error = torch.tanh(self.actor(batch.obs)) - batch.act
        self.last = weighted_mean(error**2)
        minimise(self.last, self.actor)


FROZEN = (Counter, Schedule, Slow, Rebound, Undeclared, Exchanged, Draws)
IMPOSSIBLE = {
    Item: ".item()",
    Asks: "pinned",
    Masks: "rows by mask",
}


def trained(kind: type[BC], backend: Any, device: str = "cuda") -> BC:
    config = shrunk(method("bc").presets["ours"], 12)
    agent = kind(config, [toy_pair(0), toy_pair(1)], [0, 1], device)
    train(agent, backend, 12)
    return agent


@pytest.mark.parametrize("kind", FROZEN)
def test_what_a_graph_freezes_is_refused_and_named(kind: type[BC]) -> None:
    trained(kind, "eager")
    with pytest.raises(CaptureError, match="another one as a CUDA graph.*actor.m.*declared") as e:
        trained(kind, "captured")
    assert f"{kind.__name__}'s stage train" in str(e.value) and "--backend eager" in str(e.value)


@pytest.mark.parametrize("kind", IMPOSSIBLE)
def test_what_no_graph_can_do_is_refused_with_its_line(kind: type[BC]) -> None:
    trained(kind, "eager")
    with pytest.raises(CaptureError, match="cannot be a CUDA graph") as found:
        trained(kind, "captured")
    said = str(found.value)
    assert IMPOSSIBLE[kind] in said and "test_mistakes_on_a_gpu.py:" in said or kind is Asks
    assert "--backend eager" in said


def test_a_constant_on_the_cpu_fails_on_every_path() -> None:
    for backend in ("eager", "captured"):
        with pytest.raises(RuntimeError, match="same device.*cuda:0 and cpu"):
            trained(OnTheCpu, backend)


@pytest.mark.parametrize("kind", [BC, Weighted, Keeps])
def test_what_does_no_harm_is_let_through(kind: type[BC]) -> None:
    agents = [trained(kind, backend) for backend in ("eager", "captured")]
    one, two = (agent.tensors() for agent in agents)
    assert all(torch.equal(one[name].cpu(), two[name].cpu()) for name in one)


@pytest.mark.parametrize("kind", FROZEN)
def test_the_cpu_shows_none_of_it(kind: type[BC]) -> None:
    """Say why a stand-in is needed: on a CPU every update is Python, captured or not."""
    for backend in ("eager", "captured"):
        assert trained(kind, backend, "cpu").finite().all()

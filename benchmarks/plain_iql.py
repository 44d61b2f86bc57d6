"""A one-run IQL in plain eager PyTorch, as public implementations write it: the yardstick."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


def mlp(wide_in: int, wide_out: int, width: int = 256) -> nn.Sequential:
    hidden = nn.Linear(width, width)
    return nn.Sequential(
        nn.Linear(wide_in, width), nn.ReLU(), hidden, nn.ReLU(), nn.Linear(width, wide_out)
    )


class ReplayBuffer:
    """Hold transitions as tensors and index them with random numbers."""

    def __init__(self, arrays, device: str) -> None:
        ends = arrays["rewards"][:, None], arrays["terminated"][:, None].astype("float32")
        names = "observations", "actions", "next_observations"
        self.tensors = [
            torch.as_tensor(x, device=device) for x in (*(arrays[n] for n in names), *ends)
        ]
        self.size, self.device = len(ends[0]), device

    def sample(self, count: int) -> list[Tensor]:
        index = torch.randint(self.size, (count,), device=self.device)
        return [tensor[index] for tensor in self.tensors]


class PlainIQL:
    """Update value, critics, Polyak copies and actor one after the other."""

    def __init__(self, source, target, device: str = "cpu", steps: int = 1_000_000) -> None:
        obs, act = source["observations"].shape[1], source["actions"].shape[1]
        self.buffers = ReplayBuffer(source, device), ReplayBuffer(target, device)
        self.value = mlp(obs, 1).to(device)
        self.critics = [mlp(obs + act, 1).to(device) for _ in range(2)]
        self.targets = [copy.deepcopy(critic) for critic in self.critics]
        self.actor, self.act = mlp(obs, 2 * act).to(device), act
        self.value_step = torch.optim.Adam(self.value.parameters(), 3e-4)
        both = [p for critic in self.critics for p in critic.parameters()]
        self.critic_step = torch.optim.Adam(both, 3e-4)
        self.actor_step = torch.optim.Adam(self.actor.parameters(), 3e-4)
        self.cosine = torch.optim.lr_scheduler.CosineAnnealingLR(self.actor_step, steps)

    def update(self) -> None:
        halves = [buffer.sample(128) for buffer in self.buffers]
        obs, action, after, reward, terminated = map(torch.cat, zip(*halves, strict=True))
        pairs = torch.cat([obs, action], 1)
        with torch.no_grad():
            best = torch.minimum(*[target(pairs) for target in self.targets])
        advantage = best - self.value(obs)
        weight = torch.abs(0.7 - (advantage < 0).float())
        self.step(self.value_step, (weight * advantage**2).mean())
        with torch.no_grad():
            y = reward + 0.99 * (1 - terminated) * self.value(after)
        loss = sum(nn.functional.mse_loss(critic(pairs), y) for critic in self.critics)
        self.step(self.critic_step, loss)
        for critic, target in zip(self.critics, self.targets, strict=True):
            for new, old in zip(critic.parameters(), target.parameters(), strict=True):
                old.data.copy_(0.005 * new.data + 0.995 * old.data)
        imitate = torch.exp(3 * advantage.detach()).clamp(max=100)
        mean = torch.tanh(self.actor(obs)[:, : self.act])
        self.step(self.actor_step, (imitate * ((mean - action) ** 2).mean(1, keepdim=True)).mean())
        self.cosine.step()

    @staticmethod
    def step(optimiser: torch.optim.Optimizer, loss) -> None:
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

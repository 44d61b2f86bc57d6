"""Train TD3 on source and target data: the base of methods with a deterministic actor.

Twin delayed deep deterministic policy gradients (Fujimoto, van Hoof & Meger, ICML 2018,
arXiv:1802.09477, algorithm 1). With actor pi = tanh(network), twin critics, Polyak copies pi' and
Q', and standard normal xi:

    critics : sum_j mean (Q_j(s, a) - y)^2,   y = r + gamma (1 - d) min_j Q'_j(s', a')
              a' = clip(pi'(s') + clip(smoothing xi, -c, c), -1, 1)
    actor   : -mean Q_1(s, pi(s)),  then all copies follow: every `policy_delay` updates

Step sizes are constant. A method built on this says what else the critics and the actor minimise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import torch
from torch import Tensor

from shiftgym.basics.ranges import Amount, Count, Limit, Share, SomeShare
from shiftgym_agents.core.agent import Agent, Config, Noise, Stage
from shiftgym_agents.core.losses import weighted_mean
from shiftgym_agents.core.nets import Net, Parameter, minimise
from shiftgym_agents.data.batches import Batch, Scaling


@dataclass(frozen=True)
class TD3Config(Config):
    """Set the hyperparameters of TD3."""

    steps: Count = 1_000_000
    """Gradient updates of the critics per run."""
    discount: Share = 0.99
    """Discount per environment step."""
    tau: SomeShare = 0.005
    """Share of the networks that their Polyak copies take over each time they follow."""
    smoothing: Amount = 0.2
    """Standard deviation of the noise on the actions that critics bootstrap from; 0 for none."""
    smoothing_clip: Limit = 0.5
    """Largest size of that noise."""
    policy_delay: Count = 2
    """Updates of the critics per update of the actor and of all Polyak copies."""
    target_actor: bool = True
    """Bootstrap from actions of the actor's Polyak copy, or of the actor itself."""
    actor_q: Literal["first", "min"] = "first"
    """The actor climbs the first critic, or the lower of both."""
    normalize_states: Literal["none", "merged", "balanced", "target"] = "none"
    """Standardise observations by all rows, by both datasets weighing half, or by the target's."""

    @property
    def scaling(self) -> Scaling:
        """Say how the data are scaled before training."""
        return Scaling(self.normalize_states)


C = TypeVar("C", bound=TD3Config)


class TD3(Agent[C], Generic[C]):
    """Train TD3 on the mixture of source and target data.

    A method built on this overrides some of (`batch` holds source rows first, then target rows;
    `noise` holds the random numbers its stage asked for):

        pretraining() -> [Stage, ...]              stages before this one
        prepare(batch, noise) -> Batch             other rewards, or rows besides
        targets(batch, noise) -> (R, B, 1)         what the critics regress to, without gradient
        critic_errors(error, batch)                loss of each row, (R, 2, B, 1)
        critic_penalty(batch, q, noise)            (R,) added to the critics' loss
        actor_loss(batch, action, noise) -> (R,)   what the actor minimises
    """

    config_class = TD3Config

    def build(self) -> None:
        """Declare actor and twin critics with their Polyak copies."""
        pair = self.obs_size + self.act_size
        self._actor = self.net("actor", (self.obs_size, *self.hidden, self.act_size))
        self.critic = self.net("critic", (pair, *self.hidden, 1), copies=2)
        self.critic_copy = self.target_of("critic_copy", self.critic)
        self.next_actor = self._actor
        if self.config.target_actor:
            self.next_actor = self.target_of("actor_copy", self._actor)
        self.discount, self.smoothing = self.per_run("discount"), self.per_run("smoothing")
        self.tau, self.clip = self.alike_or_per_run("tau"), self.per_run("smoothing_clip")
        self.smoothed = any(config.smoothing > 0 for config in self.configs)

    @property
    def actor(self) -> Net:
        """Give the policy network; an action is tanh of its outputs."""
        return self._actor

    def stages(self) -> list[Stage]:
        """List the pre-training stages and then TD3 itself."""
        rows = self.config.batch
        sources = rows if self.uses_source else 0
        normal = self.noise_shapes()
        last = Stage(
            "train", self.config.steps, self.update, sources, rows, normal=normal, evaluate=True
        )
        return [*self.pretraining(), last]

    # --- hooks ------------------------------------------------------------------------------------

    def pretraining(self) -> list[Stage]:
        """List stages that come first."""
        return []

    def noise_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Name the standard normal numbers that an update reads from `noise`."""
        rows = self.config.batch * (2 if self.uses_source else 1)
        return {"smoothing": (rows, self.act_size)} if self.smoothed else {}

    def prepare(self, batch: Batch, noise: Noise) -> Batch:
        """Give the batch to train on: with other rewards, or with more rows."""
        return batch

    def next_action(self, batch: Batch, noise: Noise) -> Tensor:
        """Give the actions that the critics bootstrap from, `(R, B, A)`."""
        action = torch.tanh(self.next_actor(batch.next_obs))
        if not self.smoothed:
            return action
        blur = (self.smoothing * noise["smoothing"]).maximum(-self.clip).minimum(self.clip)
        return (action + blur).clamp(-1, 1)

    def targets(self, batch: Batch, noise: Noise) -> Tensor:
        """Give what the critics regress to, `(R, B, 1)`, without gradient."""
        pairs = torch.cat([batch.next_obs, self.next_action(batch, noise)], 2)
        keep = self.discount * (1 - batch.terminated)
        return torch.addcmul(batch.reward, keep, self.critic_copy(pairs).amin(1))

    def critic_errors(self, error: Tensor, batch: Batch) -> Tensor:
        """Give the loss of each row from `error` = Q_j(s, a) - y, both `(R, 2, B, 1)`."""
        return error**2

    def critic_penalty(self, batch: Batch, q: Tensor, noise: Noise) -> Tensor | None:
        """Give what is added to the critics' loss, `(R,)`; `q` is Q_j(s, a), `(R, 2, B, 1)`."""
        return None

    def actor_loss(self, batch: Batch, action: Tensor, noise: Noise) -> Tensor:
        """Give the actor's loss `(R,)` at its own actions `(R, B, A)` in `batch.obs`."""
        return -weighted_mean(self.action_values(batch.obs, action))

    def action_values(self, obs: Tensor, action: Tensor) -> Tensor:
        """Give Q_1 or min_j Q_j (`actor_q`), `(R, B, 1)`, with gradients to the actions only."""
        q = self.critic.fixed(torch.cat([obs, action], 2))
        return q[:, 0] if self.config.actor_q == "first" else q.amin(1)

    # --- one update -------------------------------------------------------------------------------

    def update(self, batch: Batch, noise: Noise) -> None:
        """Take one gradient step of the critics for every run, and of the actors when due."""
        with torch.no_grad():
            batch = self.prepare(batch, noise)
            y = self.targets(batch, noise)
        self.update_critics(batch, y, noise)
        delay = self.config.policy_delay
        due = self.critic.state["steps"] % delay == 0
        if self.device.type == "cpu" and not due:
            return
        copies = [self.critic_copy] + ([self.next_actor] if self.config.target_actor else [])
        with only_where(due, self.actor, *copies):  # a graph cannot branch, but it can undo
            loss = self.update_actor(batch, noise)
            self.critic_copy.follow(self.critic, self.tau)
            if self.config.target_actor:
                self.next_actor.follow(self.actor, self.tau)
        self.log("actor_loss", loss * due * delay)

    def update_critics(self, batch: Batch, y: Tensor, noise: Noise) -> None:
        """Step both critics towards `y` `(R, B, 1)`."""
        q = self.critic(batch.obs_act)
        errors = self.critic_errors(q - y[:, None], batch)
        loss = 2 * weighted_mean(errors)  # the sum of two means
        penalty = self.critic_penalty(batch, q, noise)
        minimise(loss if penalty is None else loss + penalty, self.critic)
        self.log("critic_loss", loss)
        self.log("q", q)
        if penalty is not None:
            self.log("critic_penalty", penalty)

    def update_actor(self, batch: Batch, noise: Noise) -> Tensor:
        """Step the actor; return its loss `(R,)`."""
        loss = self.actor_loss(batch, torch.tanh(self.actor(batch.obs)), noise)
        minimise(loss, self.actor)
        return loss.detach()


def scale_free(q: Tensor) -> Tensor:
    """Give -mean q / mean |q| per run, `(R, B, 1) -> (R,)`, the divisor without gradient.

    The actor's term of TD3+BC (Fujimoto & Gu 2021, equation 5): its size does not depend on q's.
    """
    return -weighted_mean(q) / weighted_mean(q.detach().abs()).clamp(min=1e-8)


@contextmanager
def only_where(due: Tensor, *parameters: Parameter) -> Iterator[None]:
    """Undo what happens to parameters inside, unless `due` `(1,)` bool holds."""
    tensors = [tensor for parameter in parameters for tensor in parameter.state.values()]
    before = [tensor.detach().clone() for tensor in tensors]
    yield
    with torch.no_grad():
        for tensor, old in zip(tensors, before, strict=True):
            tensor.copy_(torch.where(due, tensor, old))

"""Bootstrap source rows from the worst of several predictions of where the target would lead.

DROCO (ICLR 2026, arXiv:2512.02486: the robust cross-domain Bellman operator, its dual form in
proposition 4.2, and the penalised targets). An ensemble of N dynamics models learns the target data
first (see `ensemble`). Then IQL, in which a source row bootstraps from

    V(s') - beta max(0, u),    u = V(s') - min_i V(s_i),    s_i ~ P_i(. | s, a),  i = 1 .. N

where s_i is member i's prediction of the target's next state; target rows bootstrap from V(s').
The critics' loss of source rows is Huber's, of target rows half the square; value and actor learn
from all rows, as in IQL. beta = 0 and huber = inf are IQL.

Stated: operator, N, the minimum of values, sampling, Huber on source rows, that huber 30 or 50 are
stable, that beta = 0.1 suits Hopper and 1 Walker2d. From the released script: beta 0.3 for
HalfCheetah. Chosen: beta 0.5 for the other robots (no evidence), u cut at 0 (with it, the target
is never above IQL's, and a ball of next states that contains s' itself is meant), penalty and
bootstrap from one V; and two things that every true value obeys, which V need not where a model
predicts states that no data have: a predicted state that the robot's rule ends is worth 0, and none
is worth less than the least return that the data's rewards allow. Neither moves the operator's
fixed point; without the second, values that once fell below 0 by a model's error teach still lower
ones, since the loop's gain then exceeds 1.

The models are asked about source rows, of which they saw none: what they are worth there is told
after their training, with a warning where their error is no less than the shift (see `dynamics`).

Presets: `ours`; `paper` has neither of the two, u as it is, and the published models; `official`
is the released code, with its minimum per coordinate of the predicted states, its samples
mu + sigma^2, its penalty from the V before its step, no hold-out (it does run, where the released
penalty has a wrong shape, and has beta by robot and huber 30, where the release's command line has
1 and 50); `early` is what is known of the authors' code before it: official, but Huber's loss on
all rows, and models that stop by rows held out.

The operator contracts with modulus discount for beta in [0, 1], discount (2 beta - 1) beyond.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from shiftgym.basics.ranges import Amount, Limit
from shiftgym_agents.components.ensemble import Ensemble, EnsembleConfig
from shiftgym_agents.core.agent import Noise, Stage
from shiftgym_agents.core.losses import huber, least_return
from shiftgym_agents.data.batches import Batch
from shiftgym_agents.data.terminal import Rule, ended, require_rules
from shiftgym_agents.methods.iql import IQL, IQLConfig

CHUNK = 1024  # source rows that all members are asked about at a time
BETA = {"hopper": 0.1, "halfcheetah": 0.3, "walker2d": 1.0}


@dataclass(frozen=True)
class DROCOConfig(IQLConfig, EnsembleConfig):
    """Set the hyperparameters of DROCO."""

    beta: Amount = 0.5
    """Share of the worst predicted value in a source row's bootstrap; 0 is IQL, 1 fully robust."""
    huber: Limit = 30.0
    """Error of a source row beyond which the critics' loss grows linearly; inf for squares."""
    minimum: Literal["value", "coordinate"] = "value"
    """Worst of the members' values, or the value where each coordinate is the members' least."""
    sample: Literal["std", "mean", "mean_plus_variance"] = "std"
    """Predicted states: mean + deviation * noise, mean, or mean + variance (released code)."""
    clamp: bool = True
    """Never raise a source row's bootstrap above V(s')."""
    predicted_end: Literal["robot", "never"] = "robot"
    """Value predicted states at 0 where the robot's own rule ends an episode, or nowhere."""
    value_floor: Literal["rewards", "none"] = "rewards"
    """Value predicted states no less than the data's rewards allow, or as V does."""
    cut_states: bool = False
    """Cut predicted states to the range of the target's next states, coordinate by coordinate."""
    huber_rows: Literal["source", "all"] = "source"
    """Rows whose error counts by Huber's loss; others by half the square."""
    penalty_value: Literal["new", "old"] = "new"
    """Penalty from the value after or before its own step."""

    def for_robot(self, robot: str) -> Self:
        """Give the robot's beta, where one was published."""
        return replace(super().for_robot(robot), beta=BETA.get(robot, self.beta))


RELEASED = DROCOConfig(
    minimum="coordinate",
    sample="mean_plus_variance",
    predicted_end="never",
    value_floor="none",
    penalty_value="old",
    model_layers=4,
    model_activation="swish",
    model_targets="raw",
    model_hold_out=0.0,
)


class DROCO(IQL[DROCOConfig]):
    """IQL with robust bootstraps of source rows; see the module."""

    config_class = DROCOConfig
    presets: ClassVar[Mapping[str, Any]] = {
        "ours": DROCOConfig(),
        "paper": replace(
            RELEASED,
            minimum="value",
            sample="std",
            clamp=False,
            penalty_value="new",
            model_hold_out=0.1,
        ),
        "official": RELEASED,
        "early": replace(RELEASED, huber_rows="all", model_hold_out=0.1),
    }

    def build(self) -> None:
        """Declare the ensemble besides IQL's networks."""
        super().build()
        self.ensemble = Ensemble(self, self.config)
        self.beta, self.delta = self.per_run("beta"), self.per_run("huber")
        self.bounds = self._bounds() if self.config.cut_states else None
        least = torch.tensor(self.data.least_rewards(), dtype=self.dtype, device=self.device)
        self.floor = least_return(least[:, None, None], self.discount)
        self.ends: list[Rule] = []
        if self.config.predicted_end == "robot":
            why = "droco values states that its model predicts"
            self.ends = require_rules(self.terminal_rules, why, "--predicted-end never")
        self.raw = [
            torch.from_numpy(part).to(self.device, self.dtype)
            for part in (self.data.shift, self.data.scale)
        ]
        top = max(config.beta for config in self.configs)
        if top > 1:
            warnings.warn(
                f"beta {top:g} is above 1: the operator need not contract, values may run away",
                stacklevel=2,
            )

    def pretraining(self) -> list[Stage]:
        """Learn the target's dynamics first."""
        return [self.ensemble.stage()]

    def noise_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Ask for what predicted states are sampled with."""
        config = self.config
        if config.sample != "std":
            return {}
        return {"dynamics": (config.members, config.batch, self.obs_size)}

    def choose(self, batch: Batch, noise: Noise) -> tuple[Batch, Tensor | None]:
        """Keep all rows; note the penalty here where it is due before the value's step."""
        if self.config.penalty_value == "old":
            self._penalty = self.penalty(batch, self.value(batch.next_obs), noise)
        return batch, None

    def next_value(self, batch: Batch, noise: Noise) -> Tensor:
        """Lower V(s') of source rows by the penalty."""
        value = super().next_value(batch, noise)
        if self.config.penalty_value == "old":
            penalty = self._penalty
        else:
            penalty = self.penalty(batch, value, noise)
        self.log("value_penalty", penalty)
        return value - batch.on_source(penalty)

    def penalty(self, batch: Batch, value: Tensor, noise: Noise) -> Tensor:
        """Give beta max(0, V(s') - min_i V(s_i)) of source rows, `(R, S, 1)`.

        Args:
            batch: Source and target rows.
            value: V(s') of all of them, `(R, B, 1)`.
            noise: See `noise_shapes`.
        """
        states = self.predictions(batch.source, noise)
        if self.config.minimum == "coordinate":
            worst = self.worth(states.amin(1))
        else:
            runs, members, rows, width = states.shape
            values = self.worth(states.reshape(runs, members * rows, width))
            worst = values.view(runs, members, rows, 1).amin(1)
        return self.beta * pessimism(value[:, : batch.sources], worst, self.config.clamp)

    def source_scores(self) -> Tensor | None:
        """Give every source row's penalty at the members' means, negative, once V has learned."""
        if not self.value.moved:
            return None
        parts: list[Tensor] = []
        for _, batch in self.data.sweep("source", CHUNK):
            size = self.runs, self.config.members, batch.sources, self.obs_size
            still = {"dynamics": batch.rows.new_zeros(size)}
            parts.append(-self.penalty(batch, self.value(batch.next_obs), still)[..., 0])
        return torch.cat(parts, 1)

    def worth(self, states: Tensor) -> Tensor:
        """Value predicted states `(R, B, O)` as far as every true value goes, `(R, B, 1)`."""
        value = self.value(states)
        if self.config.value_floor == "rewards":
            value = value.maximum(self.floor)
        if self.ends:
            shift, scale = self.raw
            over = ended(self.ends, states * scale + shift)
            value = value.masked_fill(over[..., None], 0.0)
        return value

    def predictions(self, source: Batch, noise: Noise) -> Tensor:
        """Sample every member's next state for source rows, `(R, N, S, O)`."""
        mean, log_variance = self.ensemble(source.obs_act)
        states = source.obs[:, None] + mean[..., 1:]
        if self.config.sample == "std":
            states = states + torch.exp(0.5 * log_variance[..., 1:]) * noise["dynamics"]
        if self.config.sample == "mean_plus_variance":
            states = states + torch.exp(log_variance[..., 1:])
        if self.bounds is not None:
            low, high = self.bounds
            states = states.maximum(low).minimum(high)
        return states

    def _bounds(self) -> tuple[Tensor, Tensor]:
        """Give the least and the greatest next states of each run's target, `(R, 1, 1, O)` each."""
        states = torch.cat([batch.next_obs for _, batch in self.data.sweep("target")], 1)[:, None]
        return states.amin(2, keepdim=True), states.amax(2, keepdim=True)

    def critic_errors(self, error: Tensor, batch: Batch) -> Tensor:
        """Take Huber's loss of source rows, half the square of target rows, both twice."""
        delta = self.delta[:, None]
        if self.config.huber_rows == "all":
            return 2 * huber(error, delta)  # pyright: ignore[reportArgumentType]
        source, target = error[:, :, : batch.sources], error[:, :, batch.sources :]
        return torch.cat([2 * huber(source, delta), target**2], 2)  # pyright: ignore


def pessimism(value: Tensor, worst: Tensor, clamp: bool) -> Tensor:
    """Give u = V(s') - min_i V(s_i), cut at 0 where `clamp`."""
    gap = value - worst
    return gap.clamp(min=0) if clamp else gap

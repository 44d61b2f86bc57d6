"""Be the frame of models of dynamics: their units, when they stop, and how good they became.

Everything a model is judged by is in units of the usual change: a dimension's deviation of s' - s
over the rows that train. An error of 1 is then that of knowing the mean change and nothing else, in
any robot and any dimension.

    stop     no member's held-out error fell by 1 % for `model_patience` looks, once one has beaten
             that error of 1: training opens with a plateau there
    quality  after training, for every run:
               held_out     its members' mean on held-out rows, over the error of "no change"
               calibration  squared errors there over the variance that members expect: 1 is right
               on_source    its error at source rows' (s, a), against the target's simulator
               shift        the error of the source rows' own next states there
             the last two where observations tell the simulator's state (see `answers`)
             a warning    where on_source is no less than shift: then most of what the model says
                          of source rows is its own error, and a method that asks it cannot help
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import silu

from shiftgym.basics.ranges import Count, CountOrNone, HeldOut, Positive, Size
from shiftgym_agents.components.answers import answers, tellable
from shiftgym_agents.components.holdout import HoldOut
from shiftgym_agents.core.agent import Agent
from shiftgym_agents.core.nets import Net
from shiftgym_agents.data.batches import Batch

ACTIVATIONS = {"relu": torch.relu, "swish": silu}
ASKED = 256  # source rows that the simulator answers


@dataclass(frozen=True)
class ModelConfig:
    """Set what all models of dynamics have; a model's configuration extends it."""

    members: Size = 7
    """Models in the ensemble."""
    model_width: Size = 200
    """Units in each hidden layer of a model."""
    model_activation: Literal["relu", "swish"] = "relu"
    """Between layers; published is swish, which costs more on the CPU."""
    model_rate: Positive = 1e-3
    """Adam's step size for the models."""
    model_batch: Size = 256
    """Rows per member and update."""
    model_steps: CountOrNone = 8000
    """Most updates of the models."""
    model_every: Count = 100
    """Updates between looks at their error on held-out target rows."""
    model_patience: CountOrNone = 5
    """Looks without a member improving by 1 % before a run stops; 0 to go on to the end."""
    model_hold_out: HeldOut = 0.1
    """Share of target rows to judge them by; 0 to train on all rows and keep the last weights."""


class Model(ABC):
    """Model the dynamics of one side's data for every run.

    Args:
        agent: The runs; call this while it builds, after its own networks.
        config: How large, and how trained.
        net: The network whose copies are the members.
        side: Whose dynamics: target or source.
        along: Further networks of the members.
    """

    def __init__(
        self,
        agent: Agent[Any],
        config: ModelConfig,
        net: Net,
        side: Literal["source", "target"] = "target",
        along: tuple[Net, ...] = (),
    ) -> None:
        self.agent, self.side = agent, side
        share, patience = config.model_hold_out, config.model_patience
        self.held: HoldOut | None = None
        if share:
            self.held = HoldOut(agent, net, share, patience, 0.01, side, along)
        self.usual = self.moments(changes)  # mean and deviation of changes of state
        self.quality: dict[str, Tensor] = {}

    # --- what a model writes ----------------------------------------------------------------------

    @abstractmethod
    def predict(self, obs: Tensor, act: Tensor) -> Tensor:
        """Predict every member's next states of rows `(R, B, .)`, `(R, N, B, O)`."""

    @abstractmethod
    def expected(self, obs: Tensor, act: Tensor) -> tuple[Tensor, Tensor]:
        """Give the mean and the variance that the members expect next states to have.

        Both broadcast to `(R, N, B, O)`.
        """

    # --- units ------------------------------------------------------------------------------------

    def moments(self, read: Callable[[Batch], Tensor]) -> tuple[Tensor, Tensor]:
        """Give mean and deviation of what `read` takes from training rows, `(R, 1, k)` each."""
        agent, parts = self.agent, []
        batches = [(part, read(batch).double()) for part, batch in agent.data.sweep(self.side)]
        everything = torch.cat([values for _, values in batches], 1)
        for run, size in enumerate(agent.data.sizes[self.side]):
            rows = everything[run, :size]
            if self.held is not None:
                rows = rows[self.held.trains(self.side, run)]
            spread, mean = torch.std_mean(rows, 0, correction=0)
            parts.append((mean, torch.where(spread < 1e-6, 1.0, spread)))
        shift, scale = (
            torch.stack(part)[:, None].to(agent.dtype) for part in zip(*parts, strict=True)
        )
        return shift, scale

    def misses(self, obs: Tensor, act: Tensor, after: Tensor) -> Tensor:
        """Give each member's mean squared error in usual changes, `(R, N, B, 1)`."""
        error = (self.predict(obs, act) - after[:, None]) / self.usual[1][:, None]
        return (error**2).mean(-1, keepdim=True)

    # --- how good it is ---------------------------------------------------------------------------

    @torch.no_grad()
    def judge(self) -> None:
        """Find the model's quality, tell it, and warn where its error exceeds the shift."""
        self.quality = self._held_out() | (self._on_source() if self.side == "target" else {})
        for name, values in self.quality.items():
            self.agent.tell(f"model_{name}", values)
        if "shift" not in self.quality:
            return
        pairs = zip(self.quality["on_source"].tolist(), self.quality["shift"].tolist(), strict=True)
        for run, (error, shift) in enumerate(pairs):
            if error >= shift:
                warnings.warn(
                    f"run {run}: the model of the target's dynamics misses its answers to source "
                    f"rows by {error:.2f} of a usual change, where the source's own next states "
                    f"miss them by {shift:.2f}. The shift is smaller than the model's error, so "
                    "what it says of source rows is mostly error: compare with iql-target.",
                    stacklevel=2,
                )

    def _held_out(self) -> dict[str, Tensor]:
        """Give the error on held-out rows over that of no change, and the calibration."""
        if self.held is None:
            return {}
        rows, weights = self.held.batch(), self.held.weights
        scale = self.usual[1]
        mean, variance = self.expected(rows.obs, rows.act)
        error = (self.predict(rows.obs, rows.act).mean(1) - rows.next_obs) / scale
        still = (rows.next_obs - rows.obs) / scale
        squares = [((x**2).mean(2, keepdim=True) * weights).mean((1, 2)) for x in (error, still)]
        surprise = (rows.next_obs[:, None] - mean) ** 2 / variance.clamp(min=1e-12)
        own = (surprise.mean((1, 3))[..., None] * weights).mean((1, 2))
        return {"held_out": (squares[0] / squares[1]).sqrt(), "calibration": own}

    def _on_source(self) -> dict[str, Tensor]:
        """Give the errors of the model and of the source's own next states at source rows."""
        data, found = self.agent.data, []
        for run, domain in enumerate(self.agent.domains):
            rows = data.rows_of("source", run)
            count = min(4 * ASKED, len(rows))
            some = np.sort(np.random.default_rng(0).choice(len(rows), count, replace=False))
            rows = rows[torch.from_numpy(some).to(rows.device)]
            o, a = data.obs_size, data.act_size
            raw = rows[:, :o].double().cpu().numpy() * data.scale[run] + data.shift[run]
            known = np.flatnonzero(tellable(domain, raw))[:ASKED]
            if not len(known):
                return {}
            act = rows[known, o : o + a]
            given = act.double().cpu().numpy() * data.action_half[run] + data.action_center[run]
            told = answers(domain, raw[known], given)
            after = torch.from_numpy((told - data.shift[run]) / data.scale[run]).to(rows)
            obs = rows[known, :o]
            blank = (obs[None].expand(data.runs, -1, -1), act[None].expand(data.runs, -1, -1))
            guess = self.predict(*blank)[run].mean(0)
            scale = self.usual[1][run]
            own = rows[known, o + a : 2 * o + a]
            found.append([(((x - after) / scale) ** 2).mean().sqrt() for x in (guess, own)])
        error, shift = (torch.stack(part) for part in zip(*found, strict=True))
        return {"on_source": error, "shift": shift}


def changes(batch: Batch) -> Tensor:
    """Give changes of state, `(R, B, O)`."""
    return batch.next_obs - batch.obs


def split(rows: Tensor, copies: int) -> Tensor:
    """Deal rows `(R, C * B, k)` to copies, `(R, C, B, k)`."""
    return rows.reshape(len(rows), copies, -1, rows.shape[-1])


def each(net: Net, x: Tensor) -> Tensor:
    """Apply every copy of a network to rows of its own, `(R, C, B, in) -> (R, C, B, out)`."""
    runs, copies, weights = net.rows.shape
    one = net._apply(x.flatten(0, 1), net.rows.view(runs * copies, 1, weights))
    return one.reshape(runs, copies, *one.shape[-2:])

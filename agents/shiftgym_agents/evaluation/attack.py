"""Attack a policy through what it observes: the nearby observation whose action is worth least.

    delta* = argmin over {0, delta_1 .. delta_K} of min_j Q_j(s, pi(s + delta)),
    delta_k uniform in the box +-scale * std of the target dataset's observations, drawn every step

The policy acts on s + delta*, the simulation goes on from s. The attack knows the policy and its
own critics, and since 0 is a candidate it never raises Q. All scales of a run share one draw per
step and episode, so that candidates grow with the scale, and which scales are asked for, or how
many runs there are, changes no draw. The control is noise: the first of the same draws, whatever it
is worth, at the same scales.

Min-Q attack of RORL (Yang et al. 2022, arXiv:2206.02829) and MICRO (arXiv:2312.03991), as DROCO
(arXiv:2512.02486) tests with. Read in their attackers: K = 50, deterministic actions, the lower of
two critics, Q at the unperturbed state. Chosen: the target dataset's standard deviation, where a
run has two datasets; DROCO's words could also mean Q at s + delta, which `at` offers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from shiftgym_agents.core.agent import Agent

CANDIDATES = 50
ROWS = 2**14  # candidates that networks read at once, of all runs together


class MinQAttack:
    """Find the worst observation among random ones near what every run's policy sees.

    Args:
        agent: The runs under attack, with their own critics.
        candidates: K.
        at: Judge actions at the clean or at the perturbed observation.
        seed: Run k draws from this and from its own seed.
        seeds: One per run.
        blind: Only noise will be asked for, so that no critic is needed.

    Raises:
        ShiftgymError: The method has no critic.
    """

    def __init__(
        self,
        agent: Agent[Any],
        seeds: Sequence[int],
        candidates: int = CANDIDATES,
        at: Literal["clean", "perturbed"] = "clean",
        seed: int = 0,
        blind: bool = False,
    ) -> None:
        self.agent, self.candidates, self.at = agent, candidates, at
        self.seeds = [(seed, own) for own in seeds]
        data, obs = agent.data, agent.obs_size
        rows = [data.rows_of("target", run)[:, :obs] for run in range(agent.runs)]
        self.spread = torch.stack([x.std(0, correction=0) for x in rows])[:, None]  # as scaled
        blank = self.spread.new_zeros(agent.runs, 1, obs + agent.act_size)
        if not blind:
            agent.min_q(blank[..., :obs], blank[..., obs:])  # no critic is an error now
        self.restart()

    def restart(self) -> None:
        """Draw from the beginning again, for another pass over the same episodes."""
        self._rngs = [np.random.default_rng(words) for words in self.seeds]

    @torch.no_grad()
    def offsets(
        self,
        obs: np.ndarray,
        scales: Sequence[float],
        alive: np.ndarray,
        noise: Sequence[bool] | None = None,
    ) -> np.ndarray:
        """Give what to add to observations `(R, S, E, O)`, one scale for each of S.

        Args:
            obs: What runs would see, as environments give it.
            scales: The half width of the box in standard deviations.
            alive: Which episodes still matter `(R, S, E)`; others may get zeros.
            noise: Which of the S get the first candidate whatever it is worth; none by default.
        """
        runs, _, episodes, size = obs.shape
        data, device = self.agent.data, self.agent.device
        shape = episodes, self.candidates, size
        units = np.stack([rng.uniform(-1, 1, shape).astype(np.float32) for rng in self._rngs])
        units = np.concatenate([np.zeros_like(units[:, :, :1]), units], 2)  # 0 is a candidate
        box = torch.from_numpy(units).to(device, self.agent.dtype) * self.spread[:, None]
        seen = ((obs - data.shift[:, None]) / data.scale[:, None]).astype(np.float32)
        seen = torch.from_numpy(seen).to(device, self.agent.dtype)
        found = torch.zeros_like(seen)
        wanted = np.argwhere(alive.any(0))  # scale and episode, where any run needs it
        at_once = max(1, ROWS // (runs * (self.candidates + 1)))
        widths = torch.tensor(scales, device=device, dtype=self.agent.dtype)
        given = torch.tensor(noise or [False] * len(scales), device=device)
        for first in range(0, len(wanted), at_once):
            s, e = torch.from_numpy(wanted[first : first + at_once].T).to(device)
            boxes = box[:, e] * widths[s][:, None, None]  # (R, P, K + 1, O)
            blind = given[s]
            best = torch.ones(runs, len(s), dtype=torch.long, device=device)  # 0 moves nothing
            if not blind.all():
                worst = self.values(seen[:, s, e][:, ~blind], boxes[:, ~blind]).argmin(2)
                best[:, ~blind] = worst
            picked = best[..., None, None].expand(-1, -1, 1, size)
            found[:, s, e] = boxes.gather(2, picked)[:, :, 0]
        return found.cpu().numpy() * data.scale[:, None]

    def values(self, obs: Tensor, boxes: Tensor) -> Tensor:
        """Give Q of the action at every candidate `(R, P, K + 1, O)` around `obs` `(R, P, O)`."""
        clean = obs[:, :, None].expand_as(boxes)
        near = (clean + boxes).flatten(1, 2)
        act = torch.tanh(self.agent.actor(near)[..., : self.agent.act_size])
        q = self.agent.min_q(near if self.at == "perturbed" else clean.flatten(1, 2), act)
        return q.view(boxes.shape[:3])

"""Say what the data alone can tell of a policy that is evaluated nowhere.

    policy_gap   mean distance of the policy's actions from the target data's, in half boxes
    policy_q     what the method's own critics expect of the policy's actions in target states
    data_q       and of the data's own actions there

The last two are of methods with critics. High `policy_q` beside `data_q` is a promise of the
critics, and no return.
"""

from __future__ import annotations

from typing import Any

import torch

from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.core.agent import Agent

ROWS = 2048  # target rows that are asked, spread over the data
GAP = "policy_gap"


@torch.no_grad()
def diagnose(agent: Agent[Any]) -> list[dict[str, float]]:
    """Give every run's numbers; the same rows every time."""
    size, acted = agent.obs_size, agent.act_size
    picked = []
    for run in range(agent.runs):
        rows = agent.data.rows_of("target", run)
        spread = torch.linspace(0, len(rows) - 1, min(ROWS, len(rows)), device=rows.device)
        picked.append(rows[spread.long()])
    longest = max(map(len, picked))
    rows = torch.stack([torch.cat([r, r[-1:].expand(longest - len(r), -1)]) for r in picked])
    obs, act = rows[..., :size], rows[..., size : size + acted]
    chosen = torch.tanh(agent.actor(obs)[..., :acted])
    found = {GAP: (chosen - act).abs().mean((1, 2))}
    try:
        found |= {name: agent.min_q(obs, a).mean((1, 2)) for name, a in _asked(chosen, act)}
    except ShiftgymError:  # no critics
        pass
    return [{name: float(value[run]) for name, value in found.items()} for run in range(agent.runs)]


def _asked(chosen: torch.Tensor, act: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    return [("policy_q", chosen), ("data_q", act)]

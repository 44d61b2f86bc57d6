"""Test the worked example of the documentation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from agent_helpers import make_agent, make_pair, small

from shiftgym_agents.methods.table import method
from shiftgym_agents.training.running import Running

EXAMPLE = f"{Path(__file__).parents[3] / 'examples' / 'own_method.py'}:Modelled"


def test_source_rows_weigh_by_their_error_in_the_model() -> None:
    agent = make_agent(EXAMPLE, small(EXAMPLE, strictness=2.0), pairs=[make_pair()] * 2)
    before, last = agent.stages()
    Running(agent, before, "eager").run(20)
    before.finish()
    drawn = Running(agent, last, "eager").draw(1)[""][:, 0]
    batch = agent.data.batch(drawn, last.source)
    _, weights = agent.choose(batch, {})
    rows = batch.source.rows.numpy()
    for run in range(2):
        ws = [(w[run].numpy(), b[run].numpy()) for w, b in agent.model.layers()]
        x = rows[run, :, :14]
        for k, (w, b) in enumerate(ws):
            x = x @ w + b if k == 2 else np.maximum(x @ w + b, 0)
        error = ((x - (rows[run, :, 14:25] - rows[run, :, :11])) ** 2).mean(1)
        expected = np.exp(-2.0 * error / error.mean())
        torch.testing.assert_close(
            weights[run, : last.source, 0], torch.from_numpy(expected), rtol=1e-4, atol=1e-5
        )
    assert (weights[:, last.source :] == 1).all()
    Running(agent, last, "eager").run(5)
    assert agent.finite().all()


@pytest.mark.parametrize("name", ["score", "update"])
def test_a_loss_does_not_take_the_column_of_something_else(name: str) -> None:
    agent = method("iql")(small("iql"), [make_pair()] * 2, [0, 1])
    with pytest.raises(ValueError, match=f"'{name}' for something else"):
        agent.log(name, torch.zeros(2, 5))

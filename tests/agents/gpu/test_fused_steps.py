"""Compare the GPU's own Adam and Polyak steps with the torch operations that define them."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from shiftgym_agents.core.agent import Agent
from shiftgym_agents.core.capturing import CaptureError
from shiftgym_agents.core.nets import Parameter
from shiftgym_agents.kernels import fused
from shiftgym_agents.methods.table import method
from shiftgym_agents.standin.machine import machine
from shiftgym_agents.training.checking import shrunk, toy_pair, train
from shiftgym_agents.training.running import has_kernels


@pytest.mark.parametrize("decay", [None, 7])
@pytest.mark.parametrize("share", [0.0, 0.005, 1.0])
def test_a_fused_step_is_the_step(decay: int | None, share: float) -> None:
    rates = torch.tensor([1e-2, 1e-3, 3e-4], dtype=torch.float64, device="cuda")
    start = torch.randn(3, 2, 300).to("cuda")  # more numbers than a block, no multiple of it
    plain, quick = (Parameter(start.clone(), rates, decay) for _ in range(2))
    copies = [Parameter(torch.zeros_like(start), None) for _ in range(2)]
    quick.native = copies[1].native = True
    for _ in range(10):
        gradient = torch.randn(3, 2, 300).to("cuda") * 10 ** torch.randn(3, 1, 1).to("cuda")
        for parameter, copy in zip((plain, quick), copies, strict=True):
            parameter.descend(gradient, copy if share else None, share)
    for name in ("m", "v", "rows", "steps"):
        one, two = (parameter.state[name].detach().cpu() for parameter in (plain, quick))
        torch.testing.assert_close(two, one, rtol=2e-6, atol=1e-7, msg=name)
    one, two = (copy.rows.cpu() for copy in copies)
    torch.testing.assert_close(two, one, rtol=2e-6, atol=1e-7)
    assert bool(one.any()) == (share > 0)


def iql(fast: bool) -> Agent:
    config = shrunk(method("iql").presets["ours"], 6)
    return method("iql")(config, [toy_pair(0), toy_pair(1)], [0, 1], "cuda", fast=fast)


def test_a_captured_training_takes_fused_steps() -> None:
    machine().log = launches = []
    try:
        train(iql(fast=True), "captured", 6)
    finally:
        machine().log = None
    names = [launch.name for launch in launches]
    assert names.count("adam_step") and "adam_scales" in names
    replays = sum(n for what, n in machine().counts.items() if what == "replay")
    assert replays == 6  # the first one compared with an eager update


def test_a_wrong_kernel_is_refused_at_the_first_replay(tmp_path: Path) -> None:
    wrong = tmp_path / "adam.cu"
    right = "static_cast<float>(1.0 - SECOND) * (slope * slope)"
    text = fused.SOURCE.read_text()
    assert right in text
    wrong.write_text(text.replace(right, right.replace("SECOND", "FIRST")))
    fused.load.cache_clear()
    try:
        with patch.object(fused, "SOURCE", wrong), pytest.raises(CaptureError, match="value.v"):
            train(iql(fast=True), "captured", 6)
    finally:
        fused.load.cache_clear()


def test_where_nothing_compiles_steps_are_torchs_and_that_is_said() -> None:
    def fails(*_: object) -> None:
        raise OSError("no library of the compiler")

    for compiler, says in ((None, "compiles no CUDA kernels"), (fails, "no library of the comp")):
        fused.load.cache_clear()
        with (
            patch.object(torch.cuda, "_compile_kernel", compiler),
            pytest.warns(UserWarning, match=f"PyTorch's own steps, slower: .*{says}"),
        ):
            assert not has_kernels(torch.device("cuda"))
    fused.load.cache_clear()
    assert has_kernels(torch.device("cuda")) and has_kernels(torch.device("cpu"))

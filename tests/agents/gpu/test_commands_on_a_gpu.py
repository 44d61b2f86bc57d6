"""Use the commands on a GPU, and make the mistakes that end in a sentence."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from shiftgym.cli import main
from shiftgym_agents.commands import train as command
from shiftgym_agents.methods.bc import BC
from shiftgym_agents.methods.table import METHODS
from shiftgym_agents.training import hardware
from shiftgym_agents.training.checking import toy_pair

EXAMPLE = Path(__file__).parents[3] / "examples" / "own_method.py"
TINY = "--source hopper/medium --target hopper-kinematic/medium --steps 12 --width 32 --batch 16 "
TINY += "--evaluate-every 12 --episodes 1 --threads 1 --no-progress"


class OutOfMemory(BC):
    """Needs more memory than there is."""

    def update(self, batch, noise) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


class NoRoom(BC):
    """Asks the CPU for more memory than there is."""

    def update(self, batch, noise) -> None:
        torch.empty(1 << 50)


class Illegal(BC):
    """Fails with an error of CUDA that speaks of memory."""

    def update(self, batch, noise) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


def shiftgym(*words: str) -> tuple[int, str]:
    """Run a command on toy data; return its exit code and what it said."""
    said = io.StringIO()
    with (
        patch.object(command, "open_pair", lambda name, chosen: toy_pair()),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
    ):
        return main(list(words)), said.getvalue()


@contextmanager
def named(name: str, place: str) -> Iterator[None]:
    METHODS[name] = (place, "a method of a test")
    try:
        yield
    finally:
        del METHODS[name]


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("test_mistakes_on_a_gpu:Asks", "cannot be a CUDA graph"),
        ("test_mistakes_on_a_gpu:Item", "cannot be a CUDA graph"),
        ("test_mistakes_on_a_gpu:Rebound", "another one as a CUDA graph"),
        ("test_commands_on_a_gpu:OutOfMemory", "Out of memory on --device auto with 2 runs"),
        ("test_commands_on_a_gpu:NoRoom", "Out of memory on --device auto with 2 runs"),
    ],
)
def test_a_mistake_ends_in_a_sentence(kind: str, says: str, tmp_path: Path) -> None:
    with named("own", kind):
        out = str(tmp_path / "x")
        code, said = shiftgym("train", "own", *TINY.split(), "--seeds", "2", "--out", out)
    assert code == 1 and says in said
    assert ("fewer --seeds" in said) == (says.startswith("Out of memory"))


def test_an_error_of_cuda_that_speaks_of_memory_is_not_lack_of_it(tmp_path: Path) -> None:
    with named("own", "test_commands_on_a_gpu:Illegal"):
        out = str(tmp_path / "x")
        with pytest.raises(RuntimeError, match="illegal memory access"):
            shiftgym("train", "own", *TINY.split(), "--out", out)


def test_the_device_is_printed_and_recorded(tmp_path: Path) -> None:
    out = tmp_path / "bc"
    words = ("train", "bc", *TINY.split(), "--precision", "tf32", "--out", str(out))
    code, said = shiftgym(*words)
    assert code == 0 and "Training bc, 1 run, on stand-in (captured, tf32, driver" in said
    assert torch.get_float32_matmul_precision() == "high"
    told = json.loads((out / "config.json").read_text())["provenance"]
    assert told["kind"] == "cuda" and told["device"] == "stand-in" and told["precision"] == "tf32"
    (entry,) = json.loads((out / "result.json").read_text())["trained_on"]
    assert entry["from_update"] == 0 and entry["backend"] == "captured"
    code, said = shiftgym(*words, "--resume", "--precision", "float32")
    assert code == 1 and "options.precision: tf32 there, float32 now" in said
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_gpu_that_pytorch_does_not_see_is_told_of(tmp_path: Path) -> None:
    driver = tmp_path / "version"
    driver.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19\n")
    out = str(tmp_path / "bc")
    with (
        patch.object(hardware, "DRIVER", driver),
        patch.object(torch.cuda, "is_available", lambda: False),
    ):
        code, said = shiftgym("train", "bc", *TINY.split(), "--out", out)
        assert code == 0 and "NVIDIA driver (535.104.05)" in said and "sees no GPU" in said
    with patch.object(hardware, "DRIVER", tmp_path / "none"):
        assert hardware.driver_version() is None or "." in str(hardware.driver_version())


def test_tf32_needs_a_gpu(tmp_path: Path) -> None:
    out = str(tmp_path / "x")
    words = ("train", "bc", *TINY.split(), "--device", "cpu", "--precision", "tf32", "--out", out)
    code, said = shiftgym(*words)
    assert code == 1 and "--precision tf32 needs a GPU" in said and not Path(out).exists()


def test_the_example_of_an_own_method_trains_on_a_gpu() -> None:
    from shiftgym_agents.methods.table import method
    from shiftgym_agents.training.checking import compare, shrunk

    kind = method(f"{EXAMPLE}:Modelled")
    config, pairs = shrunk(kind.presets["ours"], 8), [toy_pair(0), toy_pair(1)]
    stages, apart = compare(lambda: kind(config, pairs, [0, 1], "cuda"), 8)
    assert stages == ["model", "train"] and not apart


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        (str(EXAMPLE), 0, "Modelled, ours: captured = eager in 4 updates of model, train"),
        (str(Path(__file__).parent / "test_mistakes_on_a_gpu.py"), 1, "Rebound, ours: The update"),
        ("iqll", 2, "Did you mean 'iql'"),
    ],
)
def test_a_file_is_checked(name: str, code: int, says: str) -> None:
    from shiftgym_agents.commands.checking import main as check

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        assert check(name, "ours", "4") == code
    assert says in said.getvalue()

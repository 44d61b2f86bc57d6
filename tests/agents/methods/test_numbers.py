"""Every number of every configuration has a range, and numbers outside it change nothing."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from agent_helpers import NAMES, make_pair, small

from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.ranges import LONG, Count, Limit, Range, Seed, Share, Size, ranged, ranges_of
from shiftgym.cli import main
from shiftgym_agents.commands import train as command
from shiftgym_agents.commands.robustness import PerturbOptions
from shiftgym_agents.commands.train import PairOptions
from shiftgym_agents.methods.table import method
from shiftgym_agents.training.run_config import TrainOptions
from shiftgym_agents.training.trainer import Trainer
from shiftgym_tools.behaviours.config import BehaviourConfig, SACConfig
from shiftgym_tools.behaviours.hands.config import HandConfig, PPOConfig

METHODS = tuple(dict.fromkeys(method(name).config_class for name in NAMES))
OTHERS = (TrainOptions, PairOptions, PerturbOptions)
CONFIGS = (*METHODS, *OTHERS, BehaviourConfig, HandConfig, PPOConfig, SACConfig)
NEEDED = {PairOptions: {"target": "hopper-kinematic/medium"}}


def numeric(hint: Any) -> bool:
    """Say whether a type admits a number, besides true and false."""
    return hint in (int, float) or any(numeric(each) for each in get_args(hint))


def numbers() -> list[Any]:
    """List every numeric field of every configuration with its range."""
    found: list[Any] = []
    for config in CONFIGS:
        hints = get_type_hints(config, include_extras=True)
        for field in dataclasses.fields(config):
            if numeric(hints[field.name]):
                ranges = list(ranges_of(hints[field.name]))
                found.append(pytest.param(config, field.name, ranges, id=f"{config}.{field.name}"))
    return found


@pytest.mark.parametrize(("config", "name", "ranges"), numbers())
def test_every_number_has_a_range_and_is_held_to_it(
    config: type, name: str, ranges: list[Range]
) -> None:
    assert ranges, "give the field a type of shiftgym.basics.ranges"
    needed = NEEDED.get(config, {})
    default = getattr(config(**needed), name)
    for wrong in wrong_numbers(ranges[0]):
        given = (wrong, wrong) if isinstance(default, tuple) else wrong
        with pytest.raises(ShiftgymError, match=f"{name} must be"):
            config(**needed, **{name: given})


def wrong_numbers(allowed: Range) -> list[float]:
    """List numbers that a range must refuse."""
    found: list[float] = [math.nan, -math.inf]
    if not allowed.infinite:
        found.append(math.inf)
    if allowed.multiple:
        found += [10**20, -(10**20), 1.5]
    if allowed.low > -math.inf:
        found += [allowed.low - 1] + [allowed.low] * allowed.open_low
    if allowed.high < math.inf:
        found += [allowed.high + 1] + [allowed.high] * allowed.open_high
    return found


@pytest.mark.parametrize(
    ("hint", "inside", "outside", "says"),
    [
        (Count, (1, LONG), (0, 1.0, True, "1"), "a whole number from 1 to 1,000,000,000,000"),
        (Share, (0, 1, 0.5), (1.01, math.nan), "a number from 0 to 1"),
        (Limit, (0.1, math.inf), (0, -math.inf), "a number above 0 or inf"),
        (Seed, (0, 2**32 - 1), (-1, 2**32), "a whole number from 0 to 4,294,967,295"),
    ],
)
def test_ranges_hold_what_they_say(hint: Any, inside: Any, outside: Any, says: str) -> None:
    (allowed,) = ranges_of(hint)
    assert all(value in allowed for value in inside) and str(allowed) == says
    assert not any(value in allowed for value in outside)


def test_a_function_is_asked_before_it_runs() -> None:
    ran: list[int] = []

    @ranged
    def evaluate(out: str, episodes: Size = 10) -> None:
        ran.append(episodes)

    evaluate("x", 3)
    with pytest.raises(ShiftgymError, match="episodes must be a whole number from 1"):
        evaluate("x", episodes=0)
    assert ran == [3]


def test_changed_copies_are_checked_too() -> None:
    with pytest.raises(ShiftgymError, match="learning_rate must be a number above 0, got -1"):
        dataclasses.replace(small("iql"), learning_rate=-1.0)


WRONG = {
    "--steps": "0 -5 100000000000000000000",
    "--batch": "0 -1",
    "--learning-rate": "-1 nan inf 0",
    "--discount": "1.5 -0.1 nan",
    "--first-seed": "-3 100000000000000000000",
    "--seeds": "0 -2",
    "--episodes": "0",
    "--evaluate-every": "0 -10",
    "--checkpoint-minutes": "nan -1",
    "--target-share": "0 1.5",
    "--temperature": "-1",
}


@pytest.mark.parametrize(("flag", "values"), WRONG.items())
def test_the_command_line_refuses_before_it_writes(
    flag: str,
    values: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(command, "open_pair", lambda name, chosen: make_pair())
    sets = "--source hopper/medium --target hopper-kinematic/medium --device cpu".split()
    for value in values.split():
        out = tmp_path / "run"
        arguments = ["train", "iql", *sets, "--out", str(out), flag, value]
        assert main(arguments) == 1, (flag, value)
        said = capsys.readouterr().err
        assert flag.strip("-").replace("-", "_") + " must be" in said and len(said) < 200
        assert not out.exists()


def test_seeds_of_a_trainer_are_checked_before_it_writes(tmp_path: Path) -> None:
    for seeds in ([-1], [2**70], [0, 0.5]):
        pairs, options = [make_pair()] * len(seeds), TrainOptions(out=tmp_path / "x", device="cpu")
        with pytest.raises(ShiftgymError, match="seed must be"):
            Trainer("bc", small("bc"), pairs, seeds, options)  # pyright: ignore[reportArgumentType]
    assert not (tmp_path / "x").exists()

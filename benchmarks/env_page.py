"""Lay out the environment benchmarks, as a table for the terminal and as ``docs/benchmarks.md``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shiftgym.basics.pages import markdown, name_versions

CONTESTANTS = {
    "bare": "bare `mujoco.batch`",
    "vector": "shiftgym vector",
    "sync": "Sync, same id",
    "async": "Async, same id",
    "stock sync": "Sync, stock id",
    "stock async": "Async, stock id",
    "envpool": "EnvPool, stock id",
}
BARS = {
    "vector / bare": "vector environment / bare `mujoco.batch`",
    "vector / sync": "vector environment / SyncVectorEnv, same id",
    "installed / stock": "single environment / Gymnasium v4, same physics",
}
METHOD = """\
## How it is measured

- Contestants take turns in one run (A, B, C, A, B, C, ...), a block of steps each. A ratio is the
  median over the rounds of the two rates in the same round; in brackets, the smallest and largest.
- Actions are uniform random, the same for all contestants. Initial states are seeded. Episodes end
  and restart as they would (next-step autoreset): a call that resets a sub-environment costs time
  and counts as no step.
- **Bare `mujoco.batch`** writes the controls and steps all N rows with the same substeps: nothing
  is observed, rewarded, checked or reset. Every call starts from the very states the vector
  environment makes its own call from (a twin with the same seeds and actions tells them, untimed);
  a row that the vector environment resets is stepped from its new initial state, and counts.
- The vector environment skips MuJoCo's search for constraint islands where a robot is one
  kinematic tree: the numbers stay the same to the last bit and a step takes 5 to 8 % less. Bare
  `mujoco.batch` and the single environments run the model as compiled, islands included; that is
  why the vector environment can be faster than bare.
- **Sync** and **Async** are Gymnasium's `SyncVectorEnv` and `AsyncVectorEnv`; *same id* holds
  shiftgym's single environment. On the same id they run through the same trajectories.
- **Stock ids** are Gymnasium's `-v4` and gymnasium-robotics' `-v1`; their physics is that of the
  installed engine, so their robots go through other states.
- The stock Pen goes on after the pen is dropped, and a hand without a pen is quicker to simulate;
  shiftgym's ends there and starts anew. The Pen's ratios to stock ids carry that difference.
- **Single environments** are compared as `gymnasium.make` gives them. With `physics="installed"`
  both sides run through the same trajectory bit for bit; resets are not timed.
"""


def table(found: dict[str, Any]) -> str:
    """Lay out figures for the terminal."""
    lines = []
    for race in found["races"]:
        size = "single" if race["size"] is None else f"x {race['size']}"
        rates = "  ".join(f"{name} {rate:,.0f}" for name, rate in race["median_rates"].items())
        lines.append(f"{race['robot']:<12}{size:<8}{rates}")
        ratios = ",  ".join(f"{name} {_ratio(value)}" for name, value in race["ratios"].items())
        lines.append(f"{'':20}{ratios}")
        lines += [f"{'':20}{name}: {why}" for name, why in race["missing"].items()]
    lines.append("")
    for bar in found["bars"]:
        verdict = "met" if bar["met"] else "MISSED"
        lines.append(
            f"{verdict:<8}{bar['robot']:<12}{bar['ratio']} >= {bar['least']}: {_ratio(bar)}"
        )
    return "\n".join(lines)


def page(found: dict[str, Any]) -> str:
    """Lay out figures as a Markdown page."""
    machine = found["machine"]
    return "\n".join(
        [
            "# Benchmarks: how fast the environments step\n",
            "Everything on this page comes from one run of one command:\n",
            "```\npython benchmarks/envs.py --out docs/data/env_benchmarks.json "
            f"--page docs/benchmarks.md{found['flags']}\n```\n",
            f"{found['date']}, {machine['cpu']}, {machine['cores']} cores, {machine['system']}; "
            f"load before the run {machine['load_before']}; {name_versions(found['versions'])}. "
            f"{found['rounds']} rounds of {found['steps_per_block']} steps. All figures: "
            "[env_benchmarks.json](data/env_benchmarks.json). `pytest benchmarks` times the same "
            "contestants one at a time with pytest-benchmark.\n",
            *_bars(found["bars"]),
            *_vector(found["races"]),
            *_single(found["races"]),
            *_limits(found["races"]),
            METHOD,
        ]
    )


def _bars(bars: Sequence[dict[str, Any]]) -> list[str]:
    rows = [
        [
            BARS[bar["ratio"]] + (f", N = {bar['size']}" if bar["size"] else ""),
            bar["robot"],
            f"≥ {bar['least']}",
            _ratio(bar),
            "met" if bar["met"] else "**missed**",
        ]
        for bar in bars
    ]
    return ["## Bars\n", *_table(["ratio of rates", "robot", "bar", "measured", ""], rows)]


def _limits(races: Sequence[dict[str, Any]]) -> list[str]:
    """Say what no vector environment could beat: bare physics over SyncVectorEnv."""
    races = [race for race in races if "bare / sync" in race["ratios"]]
    if not races:
        return []
    rows = [
        [race["robot"], str(race["size"]), _ratio(race["ratios"]["bare / sync"])] for race in races
    ]
    return [
        "## What the physics allows\n",
        "Bare physics over SyncVectorEnv on the same id. Sync uses one core, so on C cores this is "
        "at most C times (physics + Python) / physics: where physics is slow, as the Ant's is, "
        "there is little Python to save.\n",
        *_table(["robot", "N", "bare / Sync, same id"], rows),
    ]


def _vector(races: Sequence[dict[str, Any]]) -> list[str]:
    races = [race for race in races if race["size"] is not None]
    if not races:
        return []
    names = [name for name in CONTESTANTS if any(name in r["median_rates"] for r in races)]
    heads = ["robot", "N"]
    rates = [[race["robot"], str(race["size"]), *_rates(race, names)] for race in races]
    others = [name for name in names if name != "vector"]
    ratios = [
        [race["robot"], str(race["size"]), *_ratios(race, "vector", others)] for race in races
    ]
    return [
        "## Vector environments: steps per second\n",
        *_table(heads + [CONTESTANTS[name] for name in names], rates),
        "## Vector environments: shiftgym's rate over the others'\n",
        *_table(heads + ["/ " + CONTESTANTS[name] for name in others], ratios),
    ]


def _single(races: Sequence[dict[str, Any]]) -> list[str]:
    races = [race for race in races if race["size"] is None]
    if not races:
        return []
    rows = []
    for race in races:
        microseconds = (f"{1e6 / race['median_rates'][n]:.0f}" for n in ("stock", "installed"))
        rows.append(
            [
                race["robot"],
                *microseconds,
                f"{1e6 / race['median_rates']['default']:.0f}",
                _ratio(race["ratios"]["installed / stock"]),
                _ratio(race["ratios"]["default / stock"]),
            ]
        )
    head = ["robot", "stock, µs per step", "shiftgym, `physics=\"installed\"`",
            "shiftgym, default", "speed: installed / stock", "speed: default / stock"]  # fmt: skip
    return ["## Single environments\n", *_table(head, rows)]


def _rates(race: dict[str, Any], names: Sequence[str]) -> list[str]:
    rates = race["median_rates"]
    return [f"{rates[name]:,.0f}" if name in rates else "-" for name in names]


def _ratios(race: dict[str, Any], ours: str, others: Sequence[str]) -> list[str]:
    ratios = race["ratios"]
    return [
        _ratio(ratios[f"{ours} / {other}"]) if f"{ours} / {other}" in ratios else "-"
        for other in others
    ]


def _ratio(value: dict[str, Any]) -> str:
    return f"{value['median']:.2f} ({value['min']:.2f}-{value['max']:.2f})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [*markdown(head, rows, "l" + "r" * (len(head) - 1)), ""]

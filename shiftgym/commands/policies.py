"""``shiftgym policies``: what behaviour policies the package holds, and how good they are."""

from __future__ import annotations

import json
from typing import Annotated, Any

import tyro

from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.pages import interval
from shiftgym.evaluation import evaluate, policy_act
from shiftgym.policies import POLICIES, index, load_policy

EPISODES = 100


def policies(
    robot: str | None = None, json_: Annotated[bool, tyro.conf.arg(name="json")] = False
) -> None:
    """List the packaged behaviour policies with what they earn over fresh episodes.

    Example: shiftgym policies --robot hopper

    Args:
        robot: Show only policies of this robot.
        json_: Print JSON for programs, with every episode's return.
    """
    known = _evaluations()
    shown = {name: known[name] for name in index() if robot is None or name.startswith(robot)}
    if json_:
        print(json.dumps(shown, indent=1))
        return
    if not shown:
        raise ShiftgymError("No packaged policies" + (f" of {robot}." if robot else "."))
    width = max(map(len, shown))
    head = f"{'policy':<{width}}  {'deterministic [95 %]':>26}  {'stochastic [95 %]':>26}"
    print(f"{head}  length")
    for name, entry in shown.items():
        cells = [f"{_cell(entry[mode]):>26}" for mode in ("deterministic", "stochastic")]
        length = f"{entry['deterministic']['length']:>6.0f}"
        print("  ".join([f"{name:<{width}}", *cells, length]))
    print(f"\n{len(shown)} policies. Next: shiftgym policies measure {next(iter(shown))}")


def measure(
    name: Annotated[str, tyro.conf.Positional],
    domain: str | None = None,
    episodes: int | None = None,
    seed: int = 900_000,
    stochastic: bool = False,
) -> None:
    """Measure a policy over fresh episodes; with the defaults this repeats a row of the table.

    Speed is in m/s; change is the root mean square of what an action's numbers change from step to
    step; noise, with --stochastic, of what they differ by from the most likely action's.

    Example: shiftgym policies measure hopper-kinematic/medium

    Args:
        name: A packaged policy, or a .safetensors file.
        domain: Where to run it; the domain it was trained in by default.
        episodes: Number of episodes; by default as many as the table's row is of, and 100 of a
            policy that is in none.
        seed: Episode i starts from seed + i.
        stochastic: Draw actions instead of taking the most likely one.
    """
    policy = load_policy(name)
    where = domain or policy.metadata["domain"]
    act = policy_act(policy, 7 if stochastic else None)
    likely = policy.act if stochastic else None
    row = _evaluations().get(name, {}).get("stochastic" if stochastic else "deterministic", {})
    count = row.get("episodes", EPISODES) if episodes is None else episodes
    found = evaluate(act, where, count, seed, likely).summary()
    print(f"{name} in {where}: " + ", ".join(f"{key} {value:.4g}" for key, value in found.items()))


def _evaluations() -> dict[str, Any]:
    """Read what the packaged policies earned when they were measured."""
    path = POLICIES / "evaluations.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _cell(summary: dict[str, Any]) -> str:
    return interval(summary["return"], summary["return_low"], summary["return_high"], form=".0f")

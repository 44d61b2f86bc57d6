"""Put graded policies into the package: files, an index with checksums, and evaluations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container
from pathlib import Path
from typing import Any

from shiftgym.domains import domain
from shiftgym.errors import ShiftgymError
from shiftgym.evaluation import HELD
from shiftgym.policies import POLICIES, read_policy
from shiftgym.scores import reference
from shiftgym_agents.artifacts import write_arrays, write_json
from shiftgym_tools.grading import load_graded

SOURCE_BARS = {  # unshifted robots: return, or success of the hands
    "hopper": 2900.0, "walker2d": 3900.0, "ant": 3400.0, "halfcheetah": 7500.0,
    "pen": 0.7, "door": 0.9,
}  # fmt: skip
SHIFTED_HAND_BAR = 0.6  # success
SHARE_OF_PUBLISHED = 0.7  # of the published reference maximum of the very domain
PUBLISHED = {"kinematic": "otdf", "morph": "otdf", "gravity-x0p5": "otdf"}
LIMIT = 25e6  # bytes, all policies together


def metric(slug: str) -> str:
    """Say what a domain's policies are judged by: ``return``, or ``success`` for the hands."""
    return "success" if domain(slug).robot in HELD else "return"


def bar(slug: str) -> float:
    """Give the return, or the hands' success rate, from which the best policy is an ``expert``."""
    of = domain(slug)
    if of.shift is None:
        return SOURCE_BARS[of.robot]
    if of.robot in HELD:
        return SHIFTED_HAND_BAR
    return SHARE_OF_PUBLISHED * reference(of, PUBLISHED.get(of.shift, "odrl")).expert


def package(graded: Path = Path("runs/behaviours/graded"), out: Path = POLICIES) -> None:
    """Copy graded policies into the package, with index.json (SHA-256) and evaluations.json.

    What is packaged already of domains that were not graded now stays as it is.

    A domain's best policy is its `expert` where it reaches the bar (a source robot's own return, or
    0.7 of the published reference maximum of the shifted domain; success for the hands), and its
    `best` elsewhere.

    Args:
        graded: Folder of `shiftgym policies grade`.
        out: The package's folder of policies.
    """
    found = load_graded(graded)
    if not found:
        raise ShiftgymError(f"No graded domains in {graded}: run shiftgym policies grade first.")
    out.mkdir(parents=True, exist_ok=True)
    index = _of_others(out / "index.json", found)
    evaluations = _of_others(out / "evaluations.json", found)
    for slug, result in found.items():
        reached = result["tiers"]["expert"]["deterministic"][metric(slug)] >= bar(slug)
        for tier, entry in result["tiers"].items():
            name = "best" if tier == "expert" and not reached else tier
            target = out / f"{slug}-{name}.safetensors"
            policy = read_policy(entry["file"])
            told = policy.metadata | {"tier": name}
            for mode in ("deterministic", "stochastic"):
                told[f"return_{mode}"] = f"{entry[mode]['return']:.2f}"
            write_arrays(target, policy.arrays, told)
            digest = hashlib.sha256(target.read_bytes()).hexdigest()
            index[f"{slug}/{name}"] = {"file": target.name, "sha256": digest}
            measured = {mode: entry[mode] for mode in ("deterministic", "stochastic")}
            evaluations[f"{slug}/{name}"] = {
                "updates": entry["updates"],
                "bar": bar(slug),
            } | measured
        evaluations[f"{slug}/random"] = {"random": result["random"]}
    size = sum((out / entry["file"]).stat().st_size for entry in index.values())
    if size > LIMIT:
        raise ShiftgymError(f"The policies take {size / 1e6:.1f} MB, more than {LIMIT / 1e6:.0f}.")
    for stale in out.glob("*.safetensors"):
        if stale.name not in {entry["file"] for entry in index.values()}:
            stale.unlink()
    write_json(out / "evaluations.json", dict(sorted(evaluations.items())))
    write_json(out / "index.json", dict(sorted(index.items())))
    print(f"Packaged {len(index)} policies, {size / 1e6:.1f} MB, in {out}")


def _of_others(path: Path, graded: Container[str]) -> dict[str, Any]:
    """Read the entries of domains that are not graded now."""
    known = json.loads(path.read_text()) if path.exists() else {}
    return {name: entry for name, entry in known.items() if name.split("/")[0] not in graded}

"""Put graded policies into the package: files, an index with checksums, and evaluations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shiftgym.basics.errors import ShiftgymError
from shiftgym.evaluation import HELD
from shiftgym.making import domain
from shiftgym.policies import POLICIES, read_policy
from shiftgym.scores import published_maximum
from shiftgym_agents.training.artifacts import write_arrays, write_json
from shiftgym_tools.behaviours.grading import load_graded, moves

HAND_BARS = {"pen": 0.7, "door": 0.9}  # success of the unshifted hands
SHIFTED_HAND_BAR = 0.6
SHARE_OF_PUBLISHED = 0.8  # of the published return that counts as 100 there
LIMIT = 25e6  # bytes, all policies together


def metric(slug: str) -> tuple[str, str]:
    """Say what a domain's policies are judged by: how they act, and which of its measures.

    Locomotion is judged by the return as the policy acts in data, hands by the success rate of
    the deterministic policy.
    """
    held = domain(slug).robot in HELD
    return ("deterministic", "success") if held else ("stochastic", "return")


def bar(slug: str) -> float | None:
    """Give what the best policy must reach to be an ``expert``: a return, or a success rate.

    None where nothing is published of such a body: there it has to move.
    """
    of = domain(slug)
    if of.robot in HELD:
        return SHIFTED_HAND_BAR if of.shift else HAND_BARS[of.robot]
    published = published_maximum(slug)
    return None if published is None else SHARE_OF_PUBLISHED * published


def is_expert(slug: str, entry: Mapping[str, Any]) -> bool:
    """Say whether a measured policy reaches its domain's bar, and does more than stand."""
    mode, measure = metric(slug)
    earned, needed = entry[mode][measure], bar(slug)
    return (needed is None or earned >= needed) and moves(slug, **_totals(entry[mode]))


def _totals(measured: Mapping[str, Any]) -> dict[str, float]:
    return {"earned": measured["return"], "length": measured["length"]}


def package(graded: Path = Path("runs/behaviours/graded"), out: Path = POLICIES) -> None:
    """Copy graded policies into the package, with index.json (SHA-256) and evaluations.json.

    What is packaged already of domains that were not graded now stays as it is.

    A domain's best policy is its `expert` where it reaches the bar (0.8 of the published return
    that counts as 100 there, as the policy acts in data; success for the hands), and its `best`
    elsewhere.

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
        reached = is_expert(slug, result["tiers"]["expert"])
        for tier, entry in result["tiers"].items():
            name = "best" if tier == "expert" and not reached else tier
            target = out / f"{slug}-{name}.safetensors"
            policy = read_policy(graded / entry["file"])
            told = policy.metadata | {"tier": name}
            for mode in ("deterministic", "stochastic"):
                told[f"return_{mode}"] = f"{entry[mode]['return']:.2f}"
            kept = np.float16 if told["kind"] == "sac" else np.float32  # finishing.py rounded them
            write_arrays(target, {n: a.astype(kept) for n, a in policy.arrays.items()}, told)
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

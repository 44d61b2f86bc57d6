"""Tiny trainings for the campaigns, through the commands that users give."""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "agents"))

from agent_helpers import make_pair  # noqa: E402
from campaign_helpers import Work, shiftgym  # noqa: E402

from shiftgym_agents.commands import train as command  # noqa: E402
from shiftgym_agents.training.artifacts import read_checkpoint  # noqa: E402

SETS = "--source hopper/medium --target hopper-kinematic/medium --device cpu --threads 1".split()
TINY = "--steps 120 --width 8 --batch 8 --evaluate-every 40 --episodes 1 --seeds 2".split()
TINY += "--checkpoint-minutes 0 --no-progress --backend eager".split()
OWN = {
    "iql": "",
    "otdf": "--cvae-steps 60 --cvae-width 8",
    "dvdf-igdf": "--advantage-steps 60 --contrast-steps 60",
    "droco": "--model-steps 60 --model-width 8",
    "tabb": "--anchor-steps 60 --representation-steps 60 --finetune-steps 60",
}
SAC = "--robot hopper --domains hopper --updates 64 --sac.width 32 --sac.batch 8 --threads 1"
SAC += " --envs-per-agent 4 --random-steps 32 --evaluate-every 32 --evaluation-episodes 1"
SAC += " --capacity 400 --checkpoint-minutes 0 --no-progress --backend eager"
BEHAVIOURS = "policies train"
SUBJECTS = (*OWN, BEHAVIOURS)


def training(subject: str, out: Path, resume: bool = False) -> Work:
    """Give the work of one training; behaviours go on by the same command."""

    def work() -> int | None:
        pair = make_pair()
        command.open_pair = lambda name, chosen: pair
        if subject == BEHAVIOURS:
            return shiftgym("policies", "train", *SAC.split(), "--out", str(out))()
        words = ["train", subject, *SETS, *TINY, *OWN[subject].split(), "--out", str(out)]
        return shiftgym(*words, *(["--resume"] if resume else []))()

    return work


def facts(out: Path) -> dict[str, Any]:
    """Give all that a finished training says, apart from times."""
    found = read_checkpoint(out)
    assert found is not None
    arrays, state = found
    told: dict[str, Any] = {
        "arrays": {
            name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays.items()
        }
    }
    times = {"seconds", "learner_seconds"}
    told["state"] = {k: v for k, v in state.items() if k not in times | {"sha256"}}
    if (out / "metrics.csv").exists():
        told["metrics"] = (out / "metrics.csv").read_text()
        told["result"] = json.loads((out / "result.json").read_text())["runs"]
        told["events"] = events_of(out)
    else:
        with open(out / "curves.csv", newline="") as file:
            told["curves"] = [
                {k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)
            ]
    shown = (p.relative_to(out) for p in out.rglob("*") if "tensorboard" not in p.parts)
    told["files"] = sorted(map(str, shown))
    return told


def events_of(out: Path) -> dict[str, list[int]]:
    """Give the steps that TensorBoard shows of every curve."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(out / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    tags = events.Tags()["scalars"]
    return {tag: [event.step for event in events.Scalars(tag)] for tag in sorted(tags)}

"""A trainer in a process of its own, for tests that kill it."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def trainer_process(name, options, out):
    """Start `shiftgym policies NAME` (train or train-hands)."""
    command = [sys.executable, "-m", "shiftgym.cli", "policies", name, *options, "--out", str(out)]
    paths = (ROOT, ROOT / "agents", ROOT / "dataset_tools")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))}
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finish(process, code=0):
    text, _ = process.communicate(timeout=300)
    assert process.returncode == code, text
    return text


def stored_updates(out):
    state = out / "state.json"
    return json.loads(state.read_text())["updates"] if state.exists() else -1

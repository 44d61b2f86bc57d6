"""Bend the files of run directories at random: readers refuse with a sentence, or read.

python tests/campaigns/malformed_runs.py --cases 4000 --seed 0
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from campaign_helpers import Tally, bent_bytes, bent_json, survey
from toy_runs import BEHAVIOURS, make_pair, training

from shiftgym.cli import main as shiftgym
from shiftgym.errors import ShiftgymError
from shiftgym_agents.evaluation.robustness import read_subject
from shiftgym_agents.training import restore
from shiftgym_agents.training.restore import restore_agent

Files = dict[str, bytes]
CELLS = ("", "nan", "inf", "x", "-1", "1e400", '"', "9" * 5000, "\x00", "99", "1.5", "0")


def bent_table(content: bytes, rng: np.random.Generator) -> bytes:
    """Change cells, rows or bytes of a CSV file."""
    if rng.random() < 0.3:
        return bent_bytes(content, rng)
    rows = [line.split(",") for line in content.decode().splitlines()]
    row, kind = rows[rng.integers(len(rows))], int(rng.integers(5))
    if kind < 2:
        row[rng.integers(len(row))] = CELLS[rng.integers(len(CELLS))]
    elif kind == 2:
        del row[rng.integers(len(row)) :]
    elif kind == 3:
        row += ["1"] * int(rng.integers(1, 4))
    else:
        rows.insert(int(rng.integers(len(rows))), row)
    return "\r\n".join(",".join(each) for each in rows).encode() + b"\r\n"


def bend(name: str, content: bytes, rng: np.random.Generator) -> bytes:
    """Bend a file as befits it."""
    if name.endswith(".json"):
        return bent_json(content, rng)
    return (bent_table if name.endswith(".csv") else bent_bytes)(content, rng)


def look(words: list[str]) -> str:
    """Give a command, quietly; say whether it read or refused."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = shiftgym(words)
    return "read" if code == 0 else "refused"


def readers(out: Path) -> dict[str, Callable[[], Any]]:
    """List what reads the run directory of an agent."""
    return {
        "policies": lambda: read_subject(out),
        "agent": lambda: restore_agent(out),
        "report": lambda: look(["report", str(out), "--json"]),
        "protocol": lambda: look(["report", str(out), "--protocol", "otdf-morph", "--json"]),
        "picture": lambda: look(["report", str(out), "--out", str(out / "curves.png")]),
        "eval": lambda: look(["eval", str(out), "--episodes", "1", "--json"]),
        "resume": training("iql", out, resume=True),
    }


SHARES = {
    "policies": 6,
    "agent": 6,
    "report": 6,
    "protocol": 4,
    "picture": 1,
    "eval": 2,
    "resume": 4,
}


def case(number: int, seed: int, out: Path, files: Files, behaviours: Files) -> str:
    """Bend one file and read; say what came of it."""
    rng = np.random.default_rng([seed, number])
    agent = number % 20 > 0
    chosen = files if agent else behaviours
    name = sorted(chosen)[rng.integers(len(chosen))]
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    for each, content in chosen.items():
        (out / each).write_bytes(bend(each, content, rng) if each == name else content)
    if agent:
        share = np.array([SHARES[reader] for reader in readers(out)], float)
        chooser = list(readers(out).values())[rng.choice(len(share), p=share / share.sum())]
    else:
        chooser = training(BEHAVIOURS, out)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            came = chooser()
    except ShiftgymError as error:
        assert str(error)
        return "refused"
    if isinstance(came, int):
        return "refused" if came else "read"
    return came if isinstance(came, str) else "read"


def malformed(cases: int, seed: int, scratch: Path) -> Tally:
    """Train once, and bend what that wrote."""
    kept: list[Files] = []
    for subject in ("iql", BEHAVIOURS):
        run = scratch / subject.replace(" ", "-")
        with contextlib.redirect_stdout(io.StringIO()):
            assert training(subject, run)() == 0
        kept.append({path.name: path.read_bytes() for path in run.iterdir() if path.is_file()})
        kept[-1].pop("curves.png", None)
    pair = make_pair()
    restore._pair = lambda entry, out: pair
    out = scratch / "bent"
    return survey(lambda number: case(number, seed, out, *kept), cases, scratch, limit=120.0)


def main() -> int:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        tally = malformed(chosen.cases, chosen.seed, Path(folder))
    return tally.finish(f"malformed run directories, seed {chosen.seed}")


if __name__ == "__main__":
    sys.exit(main())

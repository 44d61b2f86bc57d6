"""Train a method on toy data in a process of its own, for tests that kill it."""

from __future__ import annotations

import multiprocessing
from multiprocessing.process import BaseProcess
from pathlib import Path

from agent_helpers import make_pair, small

from shiftgym_agents.training.run_config import TrainOptions
from shiftgym_agents.training.trainer import Trainer


def train_toy(name: str, out: Path, resume: bool) -> None:
    """Train two runs for 150 updates with a checkpoint after every block."""
    options = TrainOptions(
        out=out,
        device="cpu",
        evaluate_every=40,
        episodes=2,
        checkpoint_minutes=0.0,
        progress=False,
        threads=1,
    )
    pairs = [make_pair(0), make_pair(1)]
    Trainer(name, small(name, steps=150), pairs, [0, 1], options, resume).run()


def start(name: str, out: Path, resume: bool) -> BaseProcess:
    """Start it in a process forked from one that has imported everything once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["toy_training"])
    process = context.Process(target=train_toy, args=(name, out, resume))
    process.start()
    return process

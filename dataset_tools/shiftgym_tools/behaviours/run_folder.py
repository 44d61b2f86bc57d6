"""Train one agent per domain in a folder: begin, go on after any kill, evaluate, stop politely.

    runs/behaviours/hopper/
      config.json  state.json  checkpoint-*.safetensors     to go on (see training/artifacts.py)
      curves.csv  curves.png                                evaluations, training episodes
      snapshots/<domain>-<updates>.safetensors              policies (see shiftgym.policies)

The manners that trainings of behaviours have in common, whatever they learn with. Everything random
comes from generators that the checkpoint holds, and everything else is deterministic: a run killed
at any moment and started again by the same command ends with the same parameters as one never
stopped.
"""

from __future__ import annotations

import dataclasses
import json
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from tqdm import tqdm

import shiftgym
from shiftgym.basics.errors import ShiftgymError, StoppedError
from shiftgym.datasets.folders import explained
from shiftgym_agents.training.artifacts import (
    ELSEWHERE,
    owned,
    provenance,
    read_checkpoint,
    read_json,
    section,
    sweep,
    write_arrays,
    write_checkpoint,
    write_json,
)
from shiftgym_agents.training.interrupt import StopRequest
from shiftgym_tools.behaviours.config import BehaviourConfig
from shiftgym_tools.behaviours.curves import Curves, Drawn
from shiftgym_tools.behaviours.hands.config import HandConfig
from shiftgym_tools.behaviours.hands.ppo import PPO
from shiftgym_tools.behaviours.sac import SAC

FREE = ("updates", "out", "threads", "checkpoint_minutes", "backend", "progress")
TESTED_FROM = 100_000  # evaluations reset their environments from this plus the run's seed on
Config = TypeVar("Config", BehaviourConfig, HandConfig)
Measured = tuple[dict[str, Any], dict[str, np.ndarray], dict[str, str]]


class RunFolder(ABC, Generic[Config]):
    """Own the environments and agents of one run folder, from a checkpoint or afresh.

    A subclass makes its learner and its rooms in `__init__`, and ends that with `start`.

    Attributes:
        kind: The learner's name: where its options and its arrays in checkpoints stand.
        columns: Of the curves: step, updates and domain, what `measure` measures, and seconds.
        drawn: What of it is drawn.
        arrays: Attributes, arrays, that a checkpoint keeps.
        episodes: Attributes, a deque per agent, that a checkpoint keeps.
        obs: What every sub-environment shows now, `(agents * copies, obs)`.
        steps: Environment steps of each agent.
        seconds: What these and the updates took, evaluations apart; `learner_seconds` of it for
            the updates.
    """

    kind: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]
    drawn: ClassVar[tuple[Drawn, ...]]
    arrays: ClassVar[tuple[str, ...]]
    episodes: ClassVar[tuple[str, ...]]

    def __init__(self, config: Config) -> None:
        self.config, self.out, self.slugs = config, config.out, config.slugs
        self.found = read_checkpoint(config.out)
        if self.found:
            require_same(config, read_json(config.out / "config.json"))
        self.agents, self.copies = len(self.slugs), config.envs_per_agent
        names = [slug for slug in self.slugs for _ in range(self.copies)]
        self.envs: Any = shiftgym.make_vec(
            names, autoreset_mode="disabled", num_threads=config.threads
        )
        self.obs_size = self.envs.single_observation_space.shape[0]
        self.act_size = self.envs.single_action_space.shape[0]
        self.seeds = [config.seed + run for run in range(self.agents)]
        self.provenance = provenance()
        with explained(config.out, ELSEWHERE):
            (config.out / "snapshots").mkdir(parents=True, exist_ok=True)
        self.running = np.zeros(self.agents * self.copies)  # returns of the running episodes
        self.steps, self.seconds, self.learner_seconds = 0, 0.0, 0.0
        self.stop = StopRequest()

    # --- what a subclass does -----------------------------------------------------------------

    @property
    @abstractmethod
    def learner(self) -> SAC | PPO:
        """Give what learns."""

    @abstractmethod
    def begin(self) -> dict[str, Any]:
        """Reset the environments; return what config.json says beside the configuration."""

    @abstractmethod
    def collect(self) -> None:
        """Step the environments for a block, and keep what they showed."""

    @abstractmethod
    def learn(self) -> None:
        """Update the agents with what was collected."""

    @abstractmethod
    def measure(self) -> Iterator[Measured]:
        """Give of each agent its measures, the arrays of its policy and what its metadata say."""

    @abstractmethod
    def shown(self, run: int) -> str:
        """Say in a word how an agent's last training episodes went."""

    def extras(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Give arrays and state that a checkpoint holds besides what all trainings keep."""
        return {}, {}

    def restore(self, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:
        """Go on from what `extras` gave."""

    @property
    def learned(self) -> bool:
        """Say whether training may end before its last update."""
        return False

    @property
    def full(self) -> bool:
        """Say whether a checkpoint has to be written before more is collected."""
        return False

    # --- starting and stopping ----------------------------------------------------------------

    def start(self) -> None:
        """Go on from the checkpoint, or begin, and write the first evaluation and checkpoint."""
        found, self.found = self.found, None
        if found:
            self._restore(*found)
        else:
            content = {"config": plain(self.config), "domains": self.slugs} | self.begin()
            write_json(self.out / "config.json", content | {"provenance": self.provenance})
        kept = self.learner.updates if found else -1
        self.curves = Curves(self.out / "curves.csv", self.columns, self.drawn, kept)
        if not found:
            self.evaluate()
            self.checkpoint()

    def _restore(self, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:
        own = section(arrays, f"{self.kind}.")
        self.learner.load({name: torch.from_numpy(array.copy()) for name, array in own.items()})
        self.envs.reset(seed=0)
        self.envs.set_state(section(arrays, "env."))
        for name in ("obs", "running", *self.arrays):
            setattr(self, name, arrays[name].copy())
        for name in self.episodes:
            for mine, values in zip(getattr(self, name), state[name], strict=True):
                mine.extend(values)
        self.steps, self.seconds = state["count"], state["seconds"]
        self.learner_seconds = state.get("learner_seconds", 0.0)
        self.restore(arrays, state)

    def checkpoint(self) -> None:
        """Write everything that resuming needs; the previous checkpoint lasts until it is whole."""
        arrays, state = self.extras()
        own = self.learner.save()
        arrays |= {f"{self.kind}.{name}": tensor.numpy() for name, tensor in own.items()}
        arrays |= {f"env.{name}": np.asarray(a) for name, a in self.envs.get_state().items()}
        arrays |= {name: getattr(self, name) for name in ("obs", "running", *self.arrays)}
        state |= {name: [list(mine) for mine in getattr(self, name)] for name in self.episodes}
        state |= {"count": self.steps, "updates": self.learner.updates, "seconds": self.seconds}
        write_checkpoint(self.out, arrays, state | {"learner_seconds": self.learner_seconds})

    def close(self) -> None:
        """Give the simulators back."""
        self.envs.close()

    # --- the loop -----------------------------------------------------------------------------

    def run(self) -> bool:
        """Train to the configured number of updates; return False when interrupted before it."""
        config, stop, learner = self.config, self.stop, self.learner
        last_save = time.monotonic()
        look = {"unit": "upd", "smoothing": 0.1, "dynamic_ncols": True, "mininterval": 2}
        start = learner.updates
        bar = tqdm(total=config.updates, initial=start, disable=not config.progress, **look)
        with stop, bar:
            while learner.updates < config.updates and not (stop.requested or self.learned):
                before = learner.updates
                self._block()
                if learner.updates // config.evaluate_every > before // config.evaluate_every:
                    self.evaluate()
                if time.monotonic() - last_save > 60 * config.checkpoint_minutes or self.full:
                    self.checkpoint()
                    last_save = time.monotonic()
                if config.progress:
                    bar.set_postfix_str(self._progress(), refresh=False)
                    bar.update(learner.updates - before)
        if not stop.requested and self.curves.last != learner.updates:
            self.evaluate()  # where training ended off the beat
        self.checkpoint()
        self.curves.draw(self.out / "curves.png")
        return not stop.requested

    def _block(self) -> None:
        began = time.monotonic()
        self.collect()
        collected = time.monotonic()
        self.learn()
        self._require_finite()
        ended = time.monotonic()
        self.seconds += ended - began
        self.learner_seconds += ended - collected

    def _require_finite(self) -> None:
        bad = [self.slugs[run] for run in self.learner.diverged()]
        if bad:
            raise ShiftgymError(
                f"training diverged (NaN or inf) in {', '.join(bad)} after {self.learner.updates} "
                f"updates; the last checkpoint in {self.out} is from before: start afresh with a "
                f"smaller --{self.kind}.learning-rate, or without these domains"
            )

    def evaluate(self) -> None:
        """Measure and save every agent's deterministic policy in its own domain."""
        rows: list[dict[str, str]] = []
        count = {"step": self.steps, "updates": self.learner.updates}
        clocks = {"seconds": self.seconds, "learner_seconds": self.learner_seconds}
        clocks = {name: round(value, 1) for name, value in clocks.items()}
        for slug, seed, found in zip(self.slugs, self.seeds, self.measure(), strict=True):
            measures, arrays, about = found
            row: dict[str, Any] = {"domain": slug} | count | measures | clocks
            rows.append({column: str(row[column]) for column in self.columns})
            told = rows[-1] | self.provenance | {"robot": self.config.robot, "seed": str(seed)}
            name = f"{slug}-{self.learner.updates:08d}.safetensors"
            write_arrays(self.out / "snapshots" / name, arrays, told | about)
        self.curves.add(rows)

    def _progress(self) -> str:
        """Show how each domain's training goes, shortly."""
        start = len(self.config.robot) + 1
        named = enumerate(slug[start:] or "source" for slug in self.slugs)
        return " ".join(f"{name}={self.shown(run)}" for run, name in named)


def train_in(training: type[RunFolder[Config]], config: Config) -> Path:
    """Train (or go on training) one agent per domain and return the run's folder.

    Raises:
        ShiftgymError: The folder holds a run of another configuration (the message lists what
            differs), is damaged, full or somebody else's; or an agent diverged.
        StoppedError: Ctrl-C or SIGTERM ended it early, after a checkpoint.
    """
    with owned(config.out):
        sweep(config.out / "snapshots")
        run = training(config)
        try:
            finished = run.run()
        finally:
            run.close()
    spent = max(run.seconds, 1e-9)
    print(f"{run.learner.updates} updates of {run.agents} agents in {config.out}")
    print(
        f"{run.steps} steps each, {run.agents * run.steps / spent:.0f} steps/s in all, "
        f"learner {run.learner_seconds / spent:.0%} of the time"
    )
    print(f"curves: {config.out / 'curves.png'}; policies: {config.out / 'snapshots'}")
    if not finished:
        raise StoppedError("interrupted: the same command goes on from here", run.stop.number)
    return config.out


def mean_of(values: deque[Any], digits: int) -> float:
    """Give the mean of an agent's last episodes, NaN where there are none."""
    return round(float(np.mean(values)), digits) if values else float("nan")


def plain(config: BehaviourConfig | HandConfig) -> dict[str, Any]:
    """Return the configuration as JSON-able values."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))


def require_same(config: BehaviourConfig | HandConfig, stored: Mapping[str, Any]) -> None:
    """Refuse to resume a run of another configuration (`stored` is its config.json).

    Raises:
        ShiftgymError: Something other than the names in `FREE` differs; the message lists it.
    """
    ours, theirs = plain(config), stored.get("config")
    if not isinstance(theirs, dict):
        raise ShiftgymError(f"{config.out / 'config.json'} is damaged: there is no config in it.")
    differ = [k for k in ours if k not in FREE and ours[k] != theirs.get(k)]
    if differ:
        lines = [f"  {key}: {theirs.get(key)} there, {ours[key]} now" for key in differ]
        raise ShiftgymError(
            "\n".join([f"{config.out} holds a run of another configuration:", *lines])
            + "\nUse the same values to resume it, or another --out to start afresh."
        )

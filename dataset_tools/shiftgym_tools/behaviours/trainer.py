"""Train behaviour policies: one soft actor-critic agent per domain, all of a robot in lockstep.

The loop alternates a few vector-environment steps with a block of updates. Beside what every run
folder holds (see run_folder.py) there is `replay.f32`, the transitions, to go on after any kill.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro

import shiftgym
from shiftgym.basics.errors import ShiftgymError
from shiftgym.policies import read_policy
from shiftgym_agents.training.artifacts import read_checkpoint, read_json, section
from shiftgym_agents.training.hardware import describe
from shiftgym_agents.training.running import pick_device
from shiftgym_tools.behaviours.config import BehaviourConfig
from shiftgym_tools.behaviours.curves import Drawn
from shiftgym_tools.behaviours.demonstrations import demonstrations_of, read_demonstrations
from shiftgym_tools.behaviours.multi_step import MultiStep
from shiftgym_tools.behaviours.replay_buffer import Replay
from shiftgym_tools.behaviours.run_folder import TESTED_FROM, Measured, RunFolder, mean_of, train_in
from shiftgym_tools.behaviours.sac import METRICS, SAC

MARGIN = 65_536  # replay rows per agent that fit between two checkpoints
RECENT = 20  # training episodes that the shown return is a mean of


class Trainer(RunFolder[BehaviourConfig]):
    """Own the environments, agents and replay of one run folder, from a checkpoint or afresh."""

    kind = "sac"
    columns = ("step", "updates", "domain", "return_mean", "return_std", "length", "train_return")
    columns = (*columns, *METRICS, "seconds")
    drawn = (Drawn("return_mean", "train_return", "return"),)
    arrays, episodes = ("before",), ("recent",)

    def __init__(self, config: BehaviourConfig) -> None:
        self.rounds, self.device = config.rounds, pick_device(config.device)
        super().__init__(config)
        self.tests: Any = shiftgym.make_vec(
            [slug for slug in self.slugs for _ in range(config.evaluation_episodes)],
            num_threads=config.threads,
        )
        torch.set_num_threads(config.threads)
        self.sac = SAC(
            self.obs_size,
            self.act_size,
            config.sac,
            self.seeds,
            device=str(self.device),
            backend=config.backend,
            threads=config.threads,
        )
        self.recent: list[deque[float]] = [deque(maxlen=RECENT) for _ in self.slugs]
        self.before = np.full((len(self.running), self.act_size), np.nan)  # last actions
        self.pending = self._multi_step(len(self.running))
        written = self.found[1]["written"] if self.found else 0
        self.replay = self._open_replay(written, fresh=not self.found)
        self.start()

    @property
    def learner(self) -> SAC:
        """Give what learns."""
        return self.sac

    # --- starting and stopping --------------------------------------------------------------------

    def _multi_step(self, envs: int) -> MultiStep:
        row = 2 * self.obs_size + self.act_size + 2
        config = self.config
        return MultiStep(config.multi_step, config.sac.discount, envs, self.obs_size, row)

    def _open_replay(self, written: int, fresh: bool) -> Replay:
        path = self.out / "replay.f32"
        if fresh:
            path.unlink(missing_ok=True)
        row, kept = 2 * self.obs_size + self.act_size + 2, None
        if self.config.demonstrations:
            shown = [
                read_demonstrations(path, self.obs_size, self.act_size, self._multi_step(1))
                for path in demonstrations_of(self.config.demonstrations, self.slugs)
            ]
            count = min(map(len, shown))
            kept = np.stack([rows[:count] for rows in shown])
        return Replay(
            path, self.agents, row, self.config.capacity, MARGIN, self.device, written, kept
        )

    def begin(self) -> dict[str, Any]:
        """Reset the environments, and start the agents from others where that is configured."""
        self.obs, _ = self.envs.reset(seed=1000 * (self.config.seed + 1))
        if self.config.warm_start:
            warm_start(self.sac, self.config.warm_start, self.slugs, self.config.warm_domain)
        return {"trained_on": describe(self.device, self.sac.backend, "float32")}

    def extras(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Give what a checkpoint holds of rewards that are not summed up, and of the replay."""
        pending = {f"pending.{name}": array for name, array in self.pending.save().items()}
        return pending, {"written": self.replay.written}

    def restore(self, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:
        """Go on from what `extras` gave."""
        self.pending.load(section(arrays, "pending."))

    def checkpoint(self) -> None:
        """Write everything that resuming needs; the previous checkpoint lasts until it is whole."""
        written = self.replay.flush()
        super().checkpoint()
        self.replay.commit(written)

    @property
    def full(self) -> bool:
        """Say whether the replay has no room for another block before a checkpoint."""
        return self.replay.room < self.rounds * self.copies

    def close(self) -> None:
        """Give the simulators back."""
        super().close()
        self.tests.close()

    # --- the loop ---------------------------------------------------------------------------------

    def collect(self) -> None:
        """Step every sub-environment `rounds` times and store the transitions."""
        random = self.steps < self.config.random_steps and self.config.warm_start is None
        shape = (self.rounds, self.copies, self.act_size)
        noise = self.sac.draw_uniform(*shape) if random else self.sac.draw(*shape)
        price = self.config.smoothing_after(self.sac.updates)
        for i in range(self.rounds):
            obs = self.obs.reshape(self.agents, self.copies, -1)
            actions = noise[:, i].cpu().numpy() if random else self.sac.act(obs, noise[:, i])
            flat = actions.reshape(self.agents * self.copies, -1)
            after, reward, terminated, truncated, _ = self.envs.step(flat)
            shaped = reward + self.config.reward_bonus
            shaped += self.config.control_refund * np.square(flat).sum(1)
            change = np.nan_to_num(flat - self.before)  # an episode's first action changes nothing
            shaped -= price * np.square(change).sum(1)
            ends = np.stack([shaped, terminated], 1)
            rows = np.concatenate([self.obs, flat, after, ends], 1, dtype=np.float32)
            done = terminated | truncated
            ripe = self.pending.push(rows, done)
            if ripe is not None:
                self.replay.add(ripe.reshape(self.agents, self.copies, -1))
            self.running += reward
            for k in np.flatnonzero(done):
                self.recent[k // self.copies].append(float(self.running[k]))
            self.before = np.where(done[:, None], np.nan, flat)
            if done.any():
                self.running[done] = 0
                after, _ = self.envs.reset(options={"reset_mask": done})
            self.obs = after
            self.steps += self.copies

    def learn(self) -> None:
        """Take a block of updates, once there are enough transitions."""
        if self.steps >= self.config.random_steps:
            self.sac.train(self.replay, self.config.updates_per_block)

    def measure(self) -> Iterator[Measured]:
        """Measure every agent's deterministic policy in its own domain."""
        count = self.config.evaluation_episodes
        obs, _ = self.tests.reset(seed=TESTED_FROM + self.config.seed)
        total = np.zeros(self.agents * count)
        length, alive = np.zeros_like(total), np.ones(len(total), bool)
        while alive.any():
            actions = self.sac.act(obs.reshape(self.agents, count, -1))
            step = self.tests.step(actions.reshape(len(total), -1))
            obs, reward, terminated, truncated, _ = step
            total += reward * alive
            length += alive
            alive &= ~(terminated | truncated)
        total, length = total.reshape(self.agents, count), length.reshape(self.agents, count)
        metrics = self.sac.state["metrics"].cpu().numpy()
        about = {"kind": "sac", "layout": "relu MLP W0 b0 W1 b1 W2 b2, x @ W + b"}
        for k in range(self.agents):
            row: dict[str, Any] = {"return_mean": round(float(total[k].mean()), 3)}
            row |= {"return_std": round(float(total[k].std()), 3), "length": length[k].mean()}
            row |= {"train_return": mean_of(self.recent[k], 3)}
            row |= {name: f"{value:.5g}" for name, value in zip(METRICS, metrics[k], strict=True)}
            yield row, self.sac.actor_arrays(k), about

    def shown(self, run: int) -> str:
        """Show an agent's mean training return."""
        return f"{mean_of(self.recent[run], 0):.0f}" if self.recent[run] else "-"


def warm_start(sac: SAC, path: Path, slugs: tuple[str, ...], domain: str = "") -> None:
    """Start every agent from a policy file, or from another run's folder.

    From a folder, each domain takes the agent of `domain`; where that is empty, the agent of the
    same domain, else the folder's first one.

    Raises:
        ShiftgymError: Nothing to start from at `path`, or networks of another shape.
    """
    if path.is_dir():
        found = read_checkpoint(path)
        if found is None:
            raise ShiftgymError(f"{path} holds no checkpoint to warm-start from.")
        theirs = read_json(path / "config.json").get("domains")
        if not isinstance(theirs, list) or "sac.actors" not in found[0]:
            raise ShiftgymError(f"{path} is no folder of shiftgym policies train.")
        if domain and domain not in theirs:
            raise ShiftgymError(f"{path} has no agent of {domain}: it has {', '.join(theirs)}.")
        wanted = [domain or slug for slug in slugs]
        rows = [theirs.index(slug) if slug in theirs else 0 for slug in wanted]
        names = ("actors", "critics", "targets", "log_alphas")
        values = {name: torch.from_numpy(found[0][f"sac.{name}"])[rows] for name in names}
    else:
        arrays = read_policy(path).arrays
        flat = np.concatenate([arrays[f"{kind}{i}"].ravel() for i in range(3) for kind in "Wb"])
        values = {"actors": torch.from_numpy(flat).expand(len(slugs), -1)}
    for name, value in values.items():
        if value.shape != sac.state[name].shape:
            raise ShiftgymError(
                f"{path} has {name} of shape {tuple(value.shape)}, this run needs "
                f"{tuple(sac.state[name].shape)}: same robot and --sac.width?"
            )
        sac.state[name].copy_(value)


def train(config: Annotated[BehaviourConfig, tyro.conf.arg(name="")]) -> None:
    """Train one agent per domain of a robot with SAC; run the same command again to resume.

    Example: shiftgym policies train --robot hopper --out runs/behaviours/hopper
    """
    train_in(Trainer, config)

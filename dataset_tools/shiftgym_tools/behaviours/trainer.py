"""Train behaviour policies: one soft actor-critic agent per domain, all of a robot in lockstep.

    runs/behaviours/hopper/
      config.json  state.json  checkpoint-*.safetensors  replay.f32    to go on after any kill
      curves.csv  curves.png                                           evaluations, training returns
      snapshots/<domain>-<updates>.safetensors                         policies (see snapshots.py)

The loop alternates a few vector-environment steps with a block of updates. Everything random comes
from generators saved in the checkpoint, and everything else is deterministic: a run killed at any
moment and started again by the same command ends with the same parameters as one never stopped.
"""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from tqdm import tqdm

import shiftgym
from shiftgym.datasets.folders import explained
from shiftgym.errors import ShiftgymError, StoppedError
from shiftgym.policies import read_policy
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
from shiftgym_agents.training.running import pick_device
from shiftgym_tools.behaviours.config import BehaviourConfig, plain, require_same
from shiftgym_tools.behaviours.curves import Curves, draw_curves
from shiftgym_tools.behaviours.demonstrations import demonstrations_of, read_demonstrations
from shiftgym_tools.behaviours.multi_step import MultiStep
from shiftgym_tools.behaviours.replay_buffer import Replay
from shiftgym_tools.behaviours.sac import METRICS, SAC

MARGIN = 65_536  # replay rows per agent that fit between two checkpoints


class Trainer:
    """Own the environments, agents and replay of one run folder, from a checkpoint or afresh."""

    def __init__(self, config: BehaviourConfig) -> None:
        self.config = config
        self.slugs = config.slugs
        self.rounds, device = config.rounds, str(pick_device(config.device))
        found = read_checkpoint(config.out)
        if found:
            require_same(config, read_json(config.out / "config.json"))
        self.agents, self.copies = len(self.slugs), config.envs_per_agent
        names = [slug for slug in self.slugs for _ in range(self.copies)]
        self.envs: Any = shiftgym.make_vec(
            names, autoreset_mode="disabled", num_threads=config.threads
        )
        self.tests: Any = shiftgym.make_vec(
            [slug for slug in self.slugs for _ in range(config.evaluation_episodes)],
            num_threads=config.threads,
        )
        self.obs_size = self.envs.single_observation_space.shape[0]
        self.act_size = self.envs.single_action_space.shape[0]
        torch.set_num_threads(config.threads)
        seeds = [config.seed + run for run in range(self.agents)]
        self.sac = SAC(
            self.obs_size,
            self.act_size,
            config.sac,
            seeds,
            device=device,
            backend=config.backend,
            threads=config.threads,
        )
        self.provenance = provenance()
        with explained(config.out, ELSEWHERE):
            (config.out / "snapshots").mkdir(parents=True, exist_ok=True)
        self.recent: list[deque[float]] = [deque(maxlen=20) for _ in self.slugs]
        self.running = np.zeros(self.agents * self.copies)
        self.before = np.full((self.agents * self.copies, self.act_size), np.nan)  # last actions
        self.steps, self.seconds, self.stop = 0, 0.0, StopRequest()
        self.pending = self._multi_step(self.agents * self.copies)
        self.replay = self._open_replay(found[1]["written"] if found else 0, fresh=not found)
        if found:
            self._restore(*found)
        else:
            self._begin()
        self.curves = Curves(config.out / "curves.csv", self.sac.updates if found else -1)
        if not found:
            self.evaluate()
            self.checkpoint()

    # --- starting and stopping --------------------------------------------------------------------

    def _multi_step(self, envs: int) -> MultiStep:
        row = 2 * self.obs_size + self.act_size + 2
        config = self.config
        return MultiStep(config.multi_step, config.sac.discount, envs, self.obs_size, row)

    def _open_replay(self, written: int, fresh: bool) -> Replay:
        path = self.config.out / "replay.f32"
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
            path, self.agents, row, self.config.capacity, MARGIN, self.config.device, written, kept
        )

    def _begin(self) -> None:
        start = 1000 * (self.config.seed + 1)
        self.obs, _ = self.envs.reset(seed=start)
        if self.config.warm_start:
            warm_start(self.sac, self.config.warm_start, self.slugs, self.config.warm_domain)
        content = {"config": plain(self.config), "domains": self.slugs}
        write_json(self.config.out / "config.json", content | {"provenance": self.provenance})

    def _restore(self, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:
        own = section(arrays, "sac.")
        self.sac.load({name: torch.from_numpy(array.copy()) for name, array in own.items()})
        self.envs.reset(seed=0)
        self.envs.set_state(section(arrays, "env."))
        self.pending.load(section(arrays, "pending."))
        self.obs, self.running = arrays["obs"].copy(), arrays["running"].copy()
        self.before = arrays["before"].copy()
        self.steps, self.seconds = state["count"], state["seconds"]
        for own, values in zip(self.recent, state["recent"], strict=True):
            own.extend(values)

    def checkpoint(self) -> None:
        """Write everything that resuming needs; the previous checkpoint lasts until it is whole."""
        written = self.replay.flush()
        arrays = {f"sac.{name}": tensor.numpy() for name, tensor in self.sac.save().items()}
        arrays |= {f"env.{name}": np.asarray(a) for name, a in self.envs.get_state().items()}
        arrays |= {f"pending.{name}": array for name, array in self.pending.save().items()}
        state = {"count": self.steps, "updates": self.sac.updates, "written": written}
        state |= {"seconds": self.seconds, "recent": [list(own) for own in self.recent]}
        write_checkpoint(
            self.config.out,
            arrays | {"obs": self.obs, "running": self.running, "before": self.before},
            state,
        )
        self.replay.commit(written)

    # --- the loop ---------------------------------------------------------------------------------

    def collect(self, random: bool) -> None:
        """Step every sub-environment `rounds` times and store the transitions."""
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

    def run(self) -> bool:
        """Train to the configured number of updates; return False when interrupted before it."""
        config, stop = self.config, self.stop
        last_save = last_time = time.monotonic()
        look = {"unit": "upd", "smoothing": 0.05, "dynamic_ncols": True, "mininterval": 2}
        start = self.sac.updates
        bar = tqdm(total=config.updates, initial=start, disable=not config.progress, **look)
        with stop, bar:
            while self.sac.updates < config.updates and not stop.requested:
                first = self.steps < config.random_steps
                self.collect(random=first and config.warm_start is None)
                before = self.sac.updates
                if self.steps >= config.random_steps:
                    self.sac.train(self.replay, config.updates_per_block)
                    self._require_finite()
                now = time.monotonic()
                self.seconds, last_time = self.seconds + now - last_time, now
                due = self.sac.updates // config.evaluate_every > before // config.evaluate_every
                if due:
                    self.evaluate()
                room = self.replay.room >= self.rounds * self.copies
                if now - last_save > 60 * config.checkpoint_minutes or not room:
                    self.checkpoint()
                    last_save = time.monotonic()
                if config.progress:
                    bar.set_postfix_str(self._returns(), refresh=False)
                    bar.update(self.sac.updates - before)
        self.checkpoint()
        draw_curves(config.out / "curves.csv", config.out / "curves.png")
        return not stop.requested

    def evaluate(self) -> None:
        """Measure and save every agent's deterministic policy in its own domain."""
        count = self.config.evaluation_episodes
        obs, _ = self.tests.reset(seed=100_000 + self.config.seed)
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
        rows: list[dict[str, object]] = []
        for k, slug in enumerate(self.slugs):
            own = float(np.mean(self.recent[k])) if self.recent[k] else float("nan")
            row: dict[str, object] = {"step": self.steps, "updates": self.sac.updates}
            row |= {"domain": slug, "return_mean": round(float(total[k].mean()), 3)}
            row |= {"return_std": round(float(total[k].std()), 3), "length": length[k].mean()}
            row |= {"train_return": round(own, 3), "seconds": round(self.seconds, 1)}
            row |= {name: f"{value:.5g}" for name, value in zip(METRICS, metrics[k], strict=True)}
            rows.append(row)
            about = {name: str(value) for name, value in row.items()} | self.provenance
            about |= {"robot": self.config.robot, "seed": str(self.config.seed + k)}
            about |= {"kind": "sac", "layout": "relu MLP W0 b0 W1 b1 W2 b2, x @ W + b"}
            name = f"{slug}-{self.sac.updates:08d}.safetensors"
            write_arrays(self.config.out / "snapshots" / name, self.sac.actor_arrays(k), about)
        self.curves.add(rows)

    def _returns(self) -> str:
        """Show each domain's mean training return, shortly."""
        start = len(self.config.robot) + 1
        means = [f"{np.mean(own):.0f}" if own else "-" for own in self.recent]
        pairs = zip(self.slugs, means, strict=True)
        return " ".join(f"{slug[start:] or 'source'}={mean}" for slug, mean in pairs)

    def _require_finite(self) -> None:
        bad = [self.slugs[run] for run in self.sac.diverged()]
        if bad:
            raise ShiftgymError(
                f"training diverged (NaN or inf) in {', '.join(bad)} after {self.sac.updates} "
                f"updates; the last checkpoint in {self.config.out} is from before: start afresh "
                "with a smaller --sac.learning-rate, or without these domains"
            )


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


def train_behaviours(config: BehaviourConfig) -> Path:
    """Train (or go on training) one agent per domain and return the run's folder.

    Raises:
        ShiftgymError: The folder holds a run of another configuration (the message lists what
            differs), is damaged, full or somebody else's; or an agent diverged.
        StoppedError: Ctrl-C or SIGTERM ended it early, after a checkpoint.
    """
    with owned(config.out):
        sweep(config.out / "snapshots")
        trainer = Trainer(config)
        try:
            finished = trainer.run()
        finally:
            trainer.envs.close()
            trainer.tests.close()
    print(f"{trainer.sac.updates} updates of {len(trainer.slugs)} agents in {config.out}")
    print(f"curves: {config.out / 'curves.png'}; policies: {config.out / 'snapshots'}")
    if not finished:
        raise StoppedError("interrupted: the same command goes on from here", trainer.stop.number)
    return config.out


def train(config: Annotated[BehaviourConfig, tyro.conf.arg(name="")]) -> None:
    """Train one agent per domain of a robot with SAC; run the same command again to resume.

    Example: shiftgym policies train --robot hopper --out runs/behaviours/hopper
    """
    train_behaviours(config)

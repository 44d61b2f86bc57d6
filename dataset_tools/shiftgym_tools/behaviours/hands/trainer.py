"""Train behaviour policies of the hands with PPO: one agent per domain, all of a robot in lockstep.

An update is one iteration of PPO: a rollout of every sub-environment, then the gradient steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import torch
import tyro

from shiftgym.evaluation import HELD, evaluate, policy_act
from shiftgym.policies import Policy
from shiftgym_agents.training.artifacts import section
from shiftgym_tools.behaviours.curves import Drawn
from shiftgym_tools.behaviours.hands.config import SEEDS_PER_AGENT, HandConfig
from shiftgym_tools.behaviours.hands.experts import LAYOUT, read_start
from shiftgym_tools.behaviours.hands.hindsight import Hindsight
from shiftgym_tools.behaviours.hands.pen_goals import DIRECTION, TARGET
from shiftgym_tools.behaviours.hands.ppo import METRICS, PPO
from shiftgym_tools.behaviours.hands.rollout import Rollout
from shiftgym_tools.behaviours.run_folder import TESTED_FROM, Measured, RunFolder, mean_of, train_in

RECENT = 100  # training episodes that the shown return and success are means of


class HandTrainer(RunFolder[HandConfig]):
    """Own the environments and agents of one run folder, from a checkpoint or afresh."""

    kind = "ppo"
    columns = ("step", "updates", "domain", "return_mean", "return_std", "success", "length")
    columns = (*columns, "train_return", "train_success", "covered", *METRICS)
    columns = (*columns, "seconds", "learner_seconds")
    drawn = (
        Drawn("success", "train_success", "success"),
        Drawn("return_mean", "train_return", "return"),
    )
    arrays, episodes = ("held", "ages", "covered"), ("returns", "successes")

    def __init__(self, config: HandConfig) -> None:
        super().__init__(config)
        torch.set_num_threads(1)  # small products; and results never depend on the threads
        self.about: dict[str, str] = self.found[1]["about"] if self.found else {}
        begun = section(self.found[0], "start.") if self.found else {}
        if config.expert and not self.found:
            start = read_start(config.expert, self.obs_size, self.act_size)
            self.about, begun = start.about, start.arrays
        self.begun_from = begun
        self.ppo = PPO(self.obs_size, self.act_size, config.ppo, self.seeds, begun or None)
        shape = (self.agents, config.rollout_steps, self.copies, self.obs_size, self.act_size)
        self.rollout = Rollout.empty(*shape)
        self.hindsight = Hindsight(config.hindsight, shape) if config.hindsight.steps else None
        self.covered = np.zeros(self.agents)  # share of targets that some episode would serve
        self.returns: list[deque[float]] = [deque(maxlen=RECENT) for _ in self.slugs]
        self.successes: list[deque[bool]] = [deque(maxlen=RECENT) for _ in self.slugs]
        self.held = np.zeros(len(self.running), dtype=np.int64)
        self.ages = np.zeros_like(self.held)  # steps of the running episodes
        self.start()

    @property
    def learner(self) -> PPO:
        """Give what learns."""
        return self.ppo

    # --- starting and stopping --------------------------------------------------------------------

    def begin(self) -> dict[str, Any]:
        """Reset the environments, each agent's from seeds of its own."""
        first = [SEEDS_PER_AGENT * (seed + 1) for seed in self.seeds]
        self.obs, _ = self.envs.reset(seed=[at + i for at in first for i in range(self.copies)])
        return {"start": self.about}

    def extras(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Give what a checkpoint holds of the start and of remembered episodes."""
        arrays = {f"start.{name}": array for name, array in self.begun_from.items()}
        if self.hindsight:
            kept = self.hindsight.save()
            arrays |= {f"hindsight.{name}": array for name, array in kept.items()}
        return arrays, {"about": self.about}

    def restore(self, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:
        """Go on from what `extras` gave."""
        if self.hindsight:
            self.hindsight.load(section(arrays, "hindsight."))

    # --- the loop ---------------------------------------------------------------------------------

    def collect(self) -> None:
        """Step every sub-environment `rollout_steps` times and note what finished episodes did."""
        shape = (self.agents, self.copies, -1)
        noise = self.ppo.draw(self.config.rollout_steps, self.copies, self.act_size)
        goal, kept = HELD[self.config.robot], self.rollout
        for t in range(self.config.rollout_steps):
            obs = torch.as_tensor(self.obs, dtype=torch.float32).view(shape)
            actions = self.ppo.act(obs, noise[:, t])
            step = self.envs.step(actions.flatten(0, 1).numpy())
            after, reward, terminated, truncated, infos = step
            self.ages += 1
            ended = terminated | truncated | (self.ages >= self.config.episode_steps)
            if self.hindsight and t == self.config.rollout_steps - 1:
                ended[:] = True  # the next rollout begins with whole episodes
            kept.obs[:, t], kept.actions[:, t] = obs, actions
            kept.next_obs[:, t] = torch.as_tensor(after, dtype=torch.float32).view(shape)
            rooms = kept.rewards, kept.terminated, kept.ended
            paid = reward + self.config.shaping * self._nearness(after)
            for room, values in zip(rooms, (paid, terminated, ended), strict=True):
                room[:, t] = torch.as_tensor(values).view(shape[:2])
            self.running += reward
            self.held += infos["success"]
            for row in np.flatnonzero(ended):
                self.returns[row // self.copies].append(float(self.running[row]))
                self.successes[row // self.copies].append(bool(self.held[row] > goal))
            if ended.any():
                self.running[ended], self.held[ended], self.ages[ended] = 0, 0, 0
                after, _ = self.envs.reset(options={"reset_mask": ended})
            self.obs = after
        self.steps += self.config.rollout_steps * self.copies

    def _nearness(self, obs: np.ndarray) -> np.ndarray | float:
        """Give (1 + cosine of pen and target) / 2 of the pen's observations; 0 for the door."""
        if self.config.robot != "pen":
            return 0.0
        return 0.5 + 0.5 * (obs[:, DIRECTION] * obs[:, TARGET]).sum(1)

    def learn(self) -> None:
        """Take one iteration of PPO, and imitate where that is configured."""
        self.ppo.learn(self.rollout)
        self._imitate()

    def _imitate(self) -> None:
        """Fit the pen's policies to their own episodes, with the targets these served best."""
        how = self.config.hindsight
        if not self.hindsight:
            return
        self.hindsight.remember(self.rollout)
        if self.ppo.updates <= self.config.ppo.warmup:
            return
        obs, actions, share = self.hindsight.choose(self.ppo.generators, how.steps * how.batch)
        for rows in zip(obs.split(how.batch, 1), actions.split(how.batch, 1), strict=True):
            self.ppo.imitate(*rows, how.learning_rate, share[:, None] > 0)
        self.covered = share.numpy()

    @property
    def learned(self) -> bool:
        """Say whether every agent's last training episodes succeeded often enough."""
        whole = all(len(own) == RECENT for own in self.successes)
        return whole and min(sum(own) for own in self.successes) > self.config.enough * RECENT

    def measure(self) -> Iterator[Measured]:
        """Measure every agent's deterministic policy in its own domain."""
        metrics, config = self.ppo.state["metrics"].numpy(), self.config
        about = {"kind": "gaussian", "layout": LAYOUT, "algorithm": "PPO"} | self.about
        for run, slug in enumerate(self.slugs):
            policy = Policy(self.ppo.policy_arrays(run), {"kind": "gaussian", "domain": slug})
            act, seed = policy_act(policy), TESTED_FROM + config.seed
            found = evaluate(act, slug, config.evaluation_episodes, seed)
            assert found.successes is not None
            row: dict[str, Any] = {"return_mean": round(float(found.returns.mean()), 3)}
            row |= {"return_std": round(float(found.returns.std()), 3)}
            row |= {"success": round(float(found.successes.mean()), 4)}
            row |= {"length": float(found.lengths.mean())}
            row |= {"train_return": mean_of(self.returns[run], 3)}
            row |= {"train_success": mean_of(self.successes[run], 4)}
            row |= {"covered": round(float(self.covered[run]), 4)}
            row |= {n: float(f"{v:.5g}") for n, v in zip(METRICS, metrics[run], strict=True)}
            yield row, policy.arrays, about

    def shown(self, run: int) -> str:
        """Show an agent's training success and return."""
        if not self.returns[run]:
            return "-"
        return f"{mean_of(self.successes[run], 2):.0%}/{mean_of(self.returns[run], 0):.0f}"


def train(config: Annotated[HandConfig, tyro.conf.arg(name="")]) -> None:
    """Train one agent per domain of a hand with PPO; run the same command again to resume.

    Example: shiftgym policies train-hands --robot door --expert door.npz --out runs/hands/door
    """
    train_in(HandTrainer, config)

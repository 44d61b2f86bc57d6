"""Train behaviour policies of the hands with SAC: guided first steps, and every goal for the pen.

The trainer of :mod:`shiftgym_tools.behaviours` with two additions, because a hand's reward is rare:

* a guide, a policy that half succeeds, acts until the first update instead of chance;
* every transition of the pen enters the replay more than once: with its own target, with targets
  drawn afresh, and with the direction that the pen has (see :mod:`shiftgym_tools.pen_goals`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro

from shiftgym.evaluation import evaluate, policy_act
from shiftgym.policies import Policy
from shiftgym_agents.artifacts import write_arrays
from shiftgym_tools.behaviour_config import BehaviourConfig
from shiftgym_tools.behaviours import Trainer, train_behaviours
from shiftgym_tools.hand_experts import read_start
from shiftgym_tools.hands import hand_slugs
from shiftgym_tools.pen_goals import DIRECTION, WIDEST, directions, is_goal, relabel
from shiftgym_tools.sac import METRICS, SACConfig

SIZES = {"pen": (45, 24), "door": (39, 28)}  # observation and action


@dataclass(frozen=True)
class HandSACConfig(BehaviourConfig):
    """Train one agent per domain of a hand with SAC; run the same command again to resume."""

    robot: Literal["pen", "door"] = "pen"
    """Hand whose domains are trained."""
    out: Path = Path("runs/hands/pen-sac")
    """Folder of checkpoints, snapshots and curves; a checkpoint found there is resumed."""
    sac: SACConfig = field(
        default_factory=lambda: SACConfig(discount=0.98, reward_scale=0.03, learning_rate=5e-4)
    )
    """Hyperparameters of the learner."""
    steps_per_update: float = 2.0
    """Environment steps per agent per gradient update."""
    envs_per_agent: int = 32
    """Sub-environments that each agent steps in parallel."""
    updates_per_block: int = 16
    """Updates between two rounds of environment steps."""
    random_steps: int = 20_000
    """Environment steps per agent before the first update: the guide's, or of uniform actions."""
    guide: Path | None = None
    """Policy (.npz of a DAPG expert, or gaussian .safetensors) that acts until the first update."""
    goals: int = 2
    """Copies of each of the pen's transitions with other targets; the door takes none."""
    capacity: int = 1_200_000
    """Transitions per agent that the replay samples from, copies with other targets included."""
    evaluation_episodes: int = 40
    """Deterministic episodes per domain and evaluation."""
    threads: int = 1
    """CPU threads for updates and simulation."""

    @property
    def slugs(self) -> tuple[str, ...]:
        """List the domains that are trained, one agent each."""
        return hand_slugs(self.robot, self.domains)


class HandSACTrainer(Trainer):
    """Own the environments, agents and replay of one run folder of a hand."""

    config: HandSACConfig
    more_columns = ("success", "noisy_return", "noisy_success")

    def __init__(self, config: HandSACConfig) -> None:
        self.copied = config.goals if config.robot == "pen" else 0
        self.rows_per_step = 1 + self.copied
        self.guide: Policy | None = None
        self.about: dict[str, str] = {}
        if config.guide:
            start = read_start(config.guide, *SIZES[config.robot])
            self.guide, self.about = start.policy(config.robot), start.about
        super().__init__(config)

    def first_actions(self, obs: np.ndarray, noise: torch.Tensor) -> np.ndarray:
        """Choose the guide's actions before the first update; without a guide, uniform ones."""
        if self.guide is None:
            return super().first_actions(obs, noise)
        spread = np.exp(self.guide.arrays["log_std"])
        uniform = noise.numpy()  # of standard deviation 1 / sqrt(3)
        return np.clip(self.guide.act(obs) + spread * uniform * np.sqrt(3), -1, 1)

    def store(self, rows: np.ndarray) -> None:
        """Put a step's transitions into the replay, the pen's also with other targets."""
        sets, flat = [rows], rows.reshape(-1, rows.shape[-1])
        for copy in range(self.copied):
            angles = WIDEST * self.sac.draw_uniform(rows.shape[1], 2).cpu().numpy()
            targets = directions(angles.reshape(-1, 2))
            if copy % 2:  # the direction that the pen has, wherever it could be a target
                reached = flat[:, -2 - self.obs_size : -2][:, DIRECTION]
                targets = np.where(is_goal(reached)[:, None], reached, targets)
            sets.append(relabel(flat, targets).reshape(rows.shape))
        self.replay.add(np.concatenate(sets, 1))

    def evaluate(self) -> None:
        """Measure and save every agent's policy in its own domain, success included."""
        metrics = self.sac.state["metrics"].cpu().numpy()
        count, seed = self.config.evaluation_episodes, 100_000 + self.config.seed
        rows: list[dict[str, Any]] = []
        for run, slug in enumerate(self.slugs):
            policy = Policy(self.sac.actor_arrays(run), {"kind": "sac", "domain": slug})
            found = evaluate(policy_act(policy), slug, count, seed)
            noisy = evaluate(policy_act(policy, seed), slug, count, seed)
            assert found.successes is not None and noisy.successes is not None
            row: dict[str, Any] = {"step": self.steps, "updates": self.sac.updates, "domain": slug}
            row |= {"return_mean": round(float(found.returns.mean()), 3)}
            row |= {"return_std": round(float(found.returns.std()), 3)}
            row |= {"success": round(float(found.successes.mean()), 4)}
            row |= {"length": float(found.lengths.mean())}
            row |= {"noisy_return": round(float(noisy.returns.mean()), 3)}
            row |= {"noisy_success": round(float(noisy.successes.mean()), 4)}
            own = float(np.mean(self.recent[run])) if self.recent[run] else float("nan")
            row |= {"train_return": round(own, 3), "seconds": round(self.seconds, 1)}
            row |= {n: f"{v:.5g}" for n, v in zip(METRICS, metrics[run], strict=True)}
            rows.append(row)
            about = {name: str(value) for name, value in row.items()} | self.provenance
            about |= {"robot": self.config.robot, "seed": str(self.config.seed + run)}
            about |= {"kind": "sac", "layout": "relu MLP W0 b0 W1 b1 W2 b2, x @ W + b"}
            name = f"{slug}-{self.sac.updates:08d}.safetensors"
            write_arrays(self.config.out / "snapshots" / name, policy.arrays, about | self.about)
        self.curves.add(rows)


def train(config: Annotated[HandSACConfig, tyro.conf.arg(name="")]) -> None:
    """Train one agent per domain of a hand with SAC; run the same command again to resume.

    Example: shiftgym policies train-hands-sac --robot pen --guide pen.npz --out runs/hands/pen-sac
    """
    train_behaviours(config, HandSACTrainer)

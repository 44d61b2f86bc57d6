"""Configure the training of hands' policies: which domains, how long, from what, with what."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from shiftgym.basics.errors import DomainError, ShiftgymError
from shiftgym.basics.ranges import (
    Amount,
    Count,
    CountOrNone,
    Number,
    Positive,
    Range,
    Seed,
    Share,
    Size,
    SomeThreads,
    check_ranges,
)
from shiftgym.making import domain
from shiftgym_tools.behaviours.hands.hindsight import HindsightConfig
from shiftgym_tools.behaviours.window import Window, require_window

SHIFTS = ("kinematic-medium", "kinematic-hard", "morph-medium", "morph-hard")
SEEDS_PER_AGENT = 1000  # environment seeds of agent k start at this times (seed + k + 1)


@dataclass(frozen=True)
class PPOConfig:
    """Set the learner's hyperparameters, the same for every agent."""

    discount: Share = 0.99
    """Discount per environment step."""
    gae_lambda: Share = 0.95
    """Decay of the advantage estimator: 0 trusts the values, 1 the sampled returns."""
    clip: Positive = 0.2
    """How far the probability ratio may leave 1 before it earns nothing more."""
    kl_limit: Positive = 0.03
    """KL divergence from the old policy at which an agent's policy rests until the next rollout."""
    learning_rate: Positive = 3e-5
    """Adam's first step size for policies; each agent's then follows its KL divergence."""
    value_learning_rate: Positive = 1e-3
    """Adam's step size for values."""
    epochs: Count = 6
    """Passes over each rollout."""
    minibatches: Size = 8
    """Gradient steps per pass."""
    warmup: CountOrNone = 2
    """First iterations that train values only, so that a good policy is not spoilt by bad ones."""
    initial_log_std: Number | None = None
    """Log of every action's spread at the start; None for the expert's own (-0.7 from scratch)."""
    min_log_std: Number = -3.0
    """Least log of an action's spread."""
    anneal: Window | None = None
    """From which iteration to which the logs of spreads are led to `final_log_std`."""
    final_log_std: Number = -2.5
    """Greatest log of an action's spread after `anneal`: what acts in data should err little."""
    entropy_bonus: Amount = 0.0
    """Reward per nat of the policy's entropy, in units of a standardised advantage."""
    max_gradient_norm: Positive = 0.5
    """Length to which each agent's gradients are cut."""
    width: Size = 64
    """Units per hidden layer of values, and of policies trained from scratch."""

    def __post_init__(self) -> None:
        """Refuse numbers outside the ranges of their fields, and an anneal that ends before it."""
        check_ranges(self)
        require_window("anneal", self.anneal)


@dataclass(frozen=True)
class HandConfig:
    """Train one agent per domain of a hand with PPO; run the same command again to resume."""

    robot: Literal["pen", "door"] = "pen"
    """Hand whose domains are trained."""
    out: Path = Path("runs/hands/pen")
    """Folder of checkpoints, snapshots and curves; a checkpoint found there is resumed."""
    domains: tuple[str, ...] = ()
    """Domain slugs, one agent each; empty for the hand itself and its four standard shifts."""
    expert: Path | None = None
    """DAPG expert (.npz) or gaussian policy (.safetensors) to start from; none: from scratch."""
    updates: CountOrNone = 320
    """Iterations of PPO; may be raised when resuming. Each takes envs x rollout steps per agent."""
    seed: Seed = 0
    """Agent k draws everything from seed + k, its environments from 1000 (seed + k + 1) on."""
    ppo: PPOConfig = field(default_factory=PPOConfig)
    """Hyperparameters of the learner."""
    hindsight: HindsightConfig = field(default_factory=HindsightConfig)
    """How the pen imitates its own episodes."""
    envs_per_agent: Annotated[int, Range(1, SEEDS_PER_AGENT, multiple=1)] = 48
    """Sub-environments that each agent steps in parallel (at most 1000)."""
    rollout_steps: Size = 200
    """Steps of each sub-environment per iteration; 200 is a whole episode."""
    episode_steps: Size = 200
    """Training episodes are cut here, and bootstrapped: 100 sees more of the first moves, which
    decide, and less of holding still. Evaluations take whole episodes."""
    enough: Share = 1.0
    """Success of every agent's last 100 training episodes above which training ends early."""
    shaping: Amount = 0.0
    """Times (1 + cosine of pen and target) / 2, added to what the pen's learner is paid: 20 leads
    far pens on, where the true reward hardly rises. Returns are always the true ones."""
    evaluate_every: Count = 10
    """Iterations between evaluations; each also writes a snapshot of every policy."""
    evaluation_episodes: Size = 20
    """Deterministic episodes per domain and evaluation."""
    checkpoint_minutes: Amount = 5.0
    """Minutes between checkpoints (one is written after a whole iteration)."""
    threads: SomeThreads = 1
    """CPU threads for the simulation; does not change results. The learner uses one."""
    progress: bool = True
    """Show a progress bar with each domain's training success and return."""

    def __post_init__(self) -> None:
        """Refuse numbers outside the ranges of their fields, and other targets for a door."""
        check_ranges(self)
        if self.hindsight.steps and self.robot != "pen":
            raise ShiftgymError(
                "Only the pen's episodes serve other targets: leave out --hindsight.steps for the "
                f"{self.robot}."
            )

    @property
    def slugs(self) -> tuple[str, ...]:
        """List the domains that are trained, one agent each."""
        names = self.domains or (self.robot, *(f"{self.robot}-{shift}" for shift in SHIFTS))
        found = [domain(name) for name in names]
        foreign = [of.slug for of in found if of.robot != self.robot]
        if foreign:
            raise DomainError(f"{', '.join(foreign)}: not of the robot {self.robot}.")
        return tuple(of.slug for of in found)

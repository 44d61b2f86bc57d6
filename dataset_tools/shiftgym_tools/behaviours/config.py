"""Configure the training of behaviour policies: which domains, how long, with what learner."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.ranges import (
    Amount,
    Count,
    CountOrNone,
    Number,
    Positive,
    Seed,
    Share,
    Size,
    SomeShare,
    SomeThreads,
    check_ranges,
)
from shiftgym_tools.behaviours.window import Window, passed, require_window

Backend = Literal["auto", "eager", "native", "graph"]
ENTROPY = -1.0  # target per action entry
SHIFTS = ("kinematic", "morph", "friction-x0p1", "friction-x0p5", "friction-x2", "friction-x5")
SHIFTS = (*SHIFTS, "gravity-x0p5")


@dataclass(frozen=True)
class SACConfig:
    """Set the learner's hyperparameters, the same for every agent."""

    width: Size = 128
    """Units in each of the two hidden layers; 256 on a GPU."""
    batch: Size = 128
    """Transitions per gradient update; 256 on a GPU."""
    learning_rate: Positive = 1e-3
    """Adam's step size for actor, critics, temperature; D4RL's 3e-4 learns slower at first."""
    discount: Share = 0.99
    """Discount per environment step."""
    tau: SomeShare = 0.005
    """Share of the critics that their targets take over per update."""
    reward_scale: Positive = 1.0
    """Factor on rewards inside the targets (not in reported returns)."""
    init_temperature: Positive = 0.2
    """Temperature alpha before the first update."""
    anneal: Window | None = None
    """From which update to which the step size and the entropy fall linearly; None for never."""
    final_rate: Share = 0.1
    """Share of the step size that is left after `anneal`."""
    final_entropy: Number = -3.0
    """Target entropy per action entry after `anneal`; -1 before it (Haarnoja et al. 2018)."""

    def __post_init__(self) -> None:
        """Refuse numbers outside the ranges of their fields, and an anneal that ends before it."""
        check_ranges(self)
        require_window("anneal", self.anneal)

    def schedule(self, updates: int) -> tuple[float, float]:
        """Give the step size and the target entropy per action entry after some updates."""
        if self.anneal is None:
            return self.learning_rate, ENTROPY
        done = passed(updates, self.anneal)
        rate = self.learning_rate * (1 + done * (self.final_rate - 1))
        return rate, ENTROPY + done * (self.final_entropy - ENTROPY)


@dataclass(frozen=True)
class BehaviourConfig:
    """Train one agent per domain of a robot with SAC; run the same command again to resume."""

    robot: str = "hopper"
    """Robot whose domains are trained: hopper, walker2d, halfcheetah or ant."""
    out: Path = Path("runs/behaviours/hopper")
    """Folder of checkpoints, snapshots and curves; a checkpoint found there is resumed."""
    domains: tuple[str, ...] = ()
    """Domain slugs, one agent each; empty for the robot itself and its seven standard shifts."""
    updates: CountOrNone = 300_000
    """Gradient updates per agent; may be raised when resuming."""
    seed: Seed = 0
    """Agent k draws everything from seed + k; environments from 1000 (seed + 1) on."""
    sac: SACConfig = field(default_factory=SACConfig)
    """Hyperparameters of the learner."""
    steps_per_update: Positive = 4.0
    """Environment steps per agent per gradient update; 1 (D4RL) where updates cost nothing."""
    envs_per_agent: Size = 8
    """Sub-environments that each agent steps in parallel."""
    updates_per_block: Size = 32
    """Updates between two rounds of environment steps."""
    multi_step: Size = 1
    """Steps that a stored reward sums over; 3 learns faster where updates are scarce."""
    reward_bonus: Number = 0.0
    """Added to every stored reward; below 0 it takes a survival bonus away. Returns stay true."""
    control_refund: Amount = 0.0
    """Times |action|^2, added to stored rewards: gives control costs back, so that an ant learns to
    run before it learns to stand still. Warm-start the run that counts from one trained so."""
    smoothing: Amount = 0.0
    """Times the squared change of the action since the step before, taken from stored rewards: a
    gait of smooth actions where the reward alone would bang from bound to bound."""
    smooth: Window | None = None
    """From which update to which `smoothing` grows from 0: from the first on, it hinders learning
    to hop at all. None for the whole of it from the start."""
    random_steps: CountOrNone = 5_000
    """Environment steps per agent before the first update: uniform actions, or a warm start's."""
    demonstrations: Path | None = None
    """HDF5 file of transitions (OTDF's layout) that half of every batch is drawn from, where an
    agent does not find out by itself; or a folder with a <domain>.hdf5 for each of the run."""
    capacity: Count = 400_000
    """Transitions per agent that the replay samples from (1,000,000 is usual on a GPU)."""
    evaluate_every: Count = 10_000
    """Updates between evaluations; each also writes a snapshot of every policy."""
    evaluation_episodes: Size = 3
    """Deterministic episodes per domain and evaluation."""
    checkpoint_minutes: Amount = 5.0
    """Minutes between checkpoints."""
    warm_start: Path | None = None
    """Policy file, or another run's folder (critics and temperature too), to start agents from."""
    warm_domain: str = ""
    """Domain of that folder whose agent all start from; by default each domain takes its own, or
    the first one where it is not there."""
    device: str = "cpu"
    """Where the learner runs: auto (the GPU where there is one), cpu, cuda or cuda:1."""
    backend: Backend = "auto"
    """Learner: auto, eager (the reference), native (C++, CPU) or graph (CUDA graph, GPU)."""
    threads: SomeThreads = 2
    """CPU threads for updates and simulation; does not change results of the native backend."""
    progress: bool = True
    """Show a progress bar with each domain's training return."""

    def __post_init__(self) -> None:
        """Refuse numbers outside the ranges of their fields, and a window that ends before it."""
        check_ranges(self)
        require_window("smooth", self.smooth)

    @property
    def slugs(self) -> tuple[str, ...]:
        """List the domains that are trained, one agent each."""
        return self.domains or (self.robot, *(f"{self.robot}-{shift}" for shift in SHIFTS))

    def smoothing_after(self, updates: int) -> float:
        """Give the price of a changed action after some updates."""
        if self.smooth is None:
            return self.smoothing
        return self.smoothing * passed(updates, self.smooth)

    @property
    def rounds(self) -> int:
        """Count the vector-environment steps per block."""
        rounds = self.updates_per_block * self.steps_per_update / self.envs_per_agent
        if rounds != int(rounds) or rounds < 1:
            raise ShiftgymError(
                f"updates_per_block * steps_per_update / envs_per_agent must be a whole number, "
                f"not {rounds:g}: change updates_per_block ({self.updates_per_block}) or "
                f"envs_per_agent ({self.envs_per_agent})"
            )
        return int(rounds)

"""Train behaviour policies of the hands with PPO: one agent per domain, all of a robot in lockstep.

    runs/hands/pen/
      config.json  state.json  checkpoint-*.safetensors            to go on after any kill
      curves.csv  curves.png                                       evaluations, training episodes
      snapshots/<domain>-<updates>.safetensors                     policies (see shiftgym.policies)

An update is one iteration of PPO: a rollout of every sub-environment, then the gradient steps.
Everything random comes from generators saved in the checkpoint: a run killed at any moment and
started again by the same command ends with the same parameters as one never stopped.
"""

from __future__ import annotations

import csv
import io
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from tqdm import tqdm

import shiftgym
from shiftgym.basics.errors import DomainError, ShiftgymError, StoppedError
from shiftgym.basics.ranges import (
    Amount,
    Count,
    CountOrNone,
    Range,
    Seed,
    Share,
    Size,
    SomeThreads,
    check_ranges,
)
from shiftgym.datasets.folders import explained
from shiftgym.evaluation import HELD, evaluate, policy_act
from shiftgym.making import domain
from shiftgym.policies import Policy
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
    write_text,
)
from shiftgym_agents.training.interrupt import StopRequest
from shiftgym_tools.behaviours.config import plain, require_same
from shiftgym_tools.behaviours.hand_experts import LAYOUT, read_start
from shiftgym_tools.behaviours.hindsight import Hindsight, HindsightConfig
from shiftgym_tools.behaviours.pen_goals import DIRECTION, TARGET
from shiftgym_tools.behaviours.ppo import METRICS, PPO, PPOConfig, Rollout

SHIFTS = ("kinematic-medium", "kinematic-hard", "morph-medium", "morph-hard")
SEEDS_PER_AGENT = 1000  # environment seeds of agent k start at this times (seed + k + 1)
RECENT = 100  # training episodes that the shown return and success are means of


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


class HandTrainer:
    """Own the environments and agents of one run folder, from a checkpoint or afresh."""

    def __init__(self, config: HandConfig) -> None:
        self.config, self.slugs = config, config.slugs
        self.agents, self.copies = len(self.slugs), config.envs_per_agent
        names = [slug for slug in self.slugs for _ in range(self.copies)]
        self.envs: Any = shiftgym.make_vec(
            names, autoreset_mode="disabled", num_threads=config.threads
        )
        self.obs_size = self.envs.single_observation_space.shape[0]
        self.act_size = self.envs.single_action_space.shape[0]
        torch.set_num_threads(1)  # small products; and results never depend on the threads
        found = read_checkpoint(config.out)
        if found:
            settings: Any = config
            require_same(settings, read_json(config.out / "config.json"))
        self.about: dict[str, str] = found[1]["about"] if found else {}
        start = None
        if config.expert and not found:
            start = read_start(config.expert, self.obs_size, self.act_size)
            self.about = start.about
        arrays = start.arrays if start else section(found[0], "start.") if found else None
        self.start = arrays or None
        seeds = [config.seed + run for run in range(self.agents)]
        self.ppo = PPO(self.obs_size, self.act_size, config.ppo, seeds, self.start)
        shape = (self.agents, config.rollout_steps, self.copies, self.obs_size, self.act_size)
        self.rollout = Rollout.empty(*shape)
        self.hindsight = Hindsight(config.hindsight, shape) if config.hindsight.steps else None
        self.covered = np.zeros(self.agents)  # share of targets that some episode would serve
        self.provenance = provenance()
        with explained(config.out, ELSEWHERE):
            (config.out / "snapshots").mkdir(parents=True, exist_ok=True)
        self.returns: list[deque[float]] = [deque(maxlen=RECENT) for _ in self.slugs]
        self.successes: list[deque[bool]] = [deque(maxlen=RECENT) for _ in self.slugs]
        count = self.agents * self.copies
        self.running, self.held = np.zeros(count), np.zeros(count, dtype=np.int64)
        self.ages = np.zeros(count, dtype=np.int64)  # steps of the running episodes
        self.steps, self.seconds, self.learner_seconds = 0, 0.0, 0.0
        self.rows: list[dict[str, Any]] = []
        self.stop = StopRequest()
        if found:
            self._restore(*found)
        else:
            self._begin()

    # --- starting and stopping --------------------------------------------------------------------

    def _begin(self) -> None:
        first = [SEEDS_PER_AGENT * (self.config.seed + run + 1) for run in range(self.agents)]
        self.obs, _ = self.envs.reset(seed=[at + i for at in first for i in range(self.copies)])
        settings: Any = self.config
        content = {"config": plain(settings), "domains": self.slugs, "start": self.about}
        write_json(self.config.out / "config.json", content | {"provenance": self.provenance})
        self.evaluate()
        self.checkpoint()

    def _restore(self, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:
        own = section(arrays, "ppo.")
        self.ppo.load({name: torch.from_numpy(array.copy()) for name, array in own.items()})
        self.envs.reset(seed=0)
        self.envs.set_state(section(arrays, "env."))
        self.obs = arrays["obs"].copy()
        self.running, self.held = arrays["running"].copy(), arrays["held"].copy()
        self.ages, self.covered = arrays["ages"].copy(), arrays["covered"].copy()
        if self.hindsight:
            self.hindsight.load(section(arrays, "hindsight."))
        self.steps, self.rows = state["count"], state["rows"]
        self.seconds, self.learner_seconds = state["seconds"], state["learner_seconds"]
        for run in range(self.agents):
            self.returns[run].extend(state["returns"][run])
            self.successes[run].extend(state["successes"][run])

    def checkpoint(self) -> None:
        """Write everything that resuming needs; the previous checkpoint lasts until it is whole."""
        arrays = {f"ppo.{name}": tensor.numpy() for name, tensor in self.ppo.save().items()}
        arrays |= {f"env.{name}": np.asarray(a) for name, a in self.envs.get_state().items()}
        arrays |= {f"start.{name}": array for name, array in (self.start or {}).items()}
        arrays |= {"obs": self.obs, "running": self.running, "held": self.held, "ages": self.ages}
        arrays |= {"covered": self.covered}
        if self.hindsight:
            kept = self.hindsight.save()
            arrays |= {f"hindsight.{name}": array for name, array in kept.items()}
        state: dict[str, Any] = {"count": self.steps, "updates": self.ppo.updates}
        state |= {"seconds": self.seconds, "learner_seconds": self.learner_seconds}
        state |= {"returns": [list(own) for own in self.returns], "about": self.about}
        state |= {"successes": [list(own) for own in self.successes], "rows": self.rows}
        write_checkpoint(self.config.out, arrays, state)

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

    def imitate(self) -> None:
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

    def _nearness(self, obs: np.ndarray) -> np.ndarray | float:
        """Give (1 + cosine of pen and target) / 2 of the pen's observations; 0 for the door."""
        if self.config.robot != "pen":
            return 0.0
        return 0.5 + 0.5 * (obs[:, DIRECTION] * obs[:, TARGET]).sum(1)

    def run(self) -> bool:
        """Train to the configured number of updates; return False when interrupted before it."""
        config, stop = self.config, self.stop
        last_save = time.monotonic()
        look = {"unit": "upd", "smoothing": 0.1, "dynamic_ncols": True, "mininterval": 2}
        start = self.ppo.updates
        bar = tqdm(total=config.updates, initial=start, disable=not config.progress, **look)
        with stop, bar:
            while self.ppo.updates < config.updates and not (stop.requested or self.learned):
                began = time.monotonic()
                self.collect()
                collected = time.monotonic()
                self.ppo.learn(self.rollout)
                self.imitate()
                self._require_finite()
                now = time.monotonic()
                self.seconds += now - began
                self.learner_seconds += now - collected
                if self.ppo.updates % config.evaluate_every == 0:
                    self.evaluate()
                if now - last_save > 60 * config.checkpoint_minutes:
                    self.checkpoint()
                    last_save = time.monotonic()
                if config.progress:
                    bar.set_postfix_str(self._progress(), refresh=False)
                    bar.update(1)
        if not stop.requested and self.rows[-1]["updates"] != self.ppo.updates:
            self.evaluate()  # where training ended off the beat
        self.checkpoint()
        draw_hand_curves(self.rows, config.out / "curves.png")
        return not stop.requested

    @property
    def learned(self) -> bool:
        """Whether every agent's last training episodes succeeded often enough."""
        whole = all(len(own) == RECENT for own in self.successes)
        return whole and min(sum(own) for own in self.successes) > self.config.enough * RECENT

    def evaluate(self) -> None:
        """Measure and save every agent's deterministic policy in its own domain."""
        metrics = self.ppo.state["metrics"].numpy()
        for run, slug in enumerate(self.slugs):
            policy = Policy(self.ppo.policy_arrays(run), {"kind": "gaussian", "domain": slug})
            found = evaluate(
                policy_act(policy),
                slug,
                self.config.evaluation_episodes,
                100_000 + self.config.seed,
            )
            assert found.successes is not None
            row: dict[str, Any] = {"step": self.steps, "updates": self.ppo.updates, "domain": slug}
            row |= {"return_mean": round(float(found.returns.mean()), 3)}
            row |= {"return_std": round(float(found.returns.std()), 3)}
            row |= {"success": round(float(found.successes.mean()), 4)}
            row |= {"length": float(found.lengths.mean())}
            row |= {"train_return": _mean(self.returns[run], 3)}
            row |= {"train_success": _mean(self.successes[run], 4)}
            row |= {"covered": round(float(self.covered[run]), 4)}
            row |= {n: float(f"{v:.5g}") for n, v in zip(METRICS, metrics[run], strict=True)}
            row |= {"seconds": round(self.seconds, 1)}
            row |= {"learner_seconds": round(self.learner_seconds, 1)}
            self.rows.append(row)
            about = {name: str(value) for name, value in row.items()} | self.provenance
            about |= {"robot": self.config.robot, "seed": str(self.config.seed + run)}
            about |= {"kind": "gaussian", "layout": LAYOUT, "algorithm": "PPO"} | self.about
            name = f"{slug}-{self.ppo.updates:08d}.safetensors"
            write_arrays(self.config.out / "snapshots" / name, policy.arrays, about)
        write_hand_curves(self.rows, self.config.out / "curves.csv")

    def _progress(self) -> str:
        """Show each domain's training success and return, shortly."""
        start = len(self.config.robot) + 1
        parts = []
        for run, slug in enumerate(self.slugs):
            if self.returns[run]:
                won, earned = _mean(self.successes[run], 2), _mean(self.returns[run], 0)
                parts.append(f"{slug[start:] or 'source'}={won:.0%}/{earned:.0f}")
        return " ".join(parts)

    def _require_finite(self) -> None:
        bad = [self.slugs[run] for run in self.ppo.diverged()]
        if bad:
            raise ShiftgymError(
                f"training diverged (NaN or inf) in {', '.join(bad)} after {self.ppo.updates} "
                f"updates; the last checkpoint in {self.config.out} is from before: start afresh "
                "with a smaller --ppo.learning-rate, or without these domains"
            )


def _mean(values: deque[Any], digits: int) -> float:
    return round(float(np.mean(values)), digits) if values else float("nan")


def write_hand_curves(rows: list[dict[str, Any]], path: Path) -> None:
    """Write all rows of the learning curves as CSV, renamed into place when whole."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def draw_hand_curves(rows: list[dict[str, Any]], picture: Path) -> None:
    """Draw success and return of each domain, evaluated (line) and training (dotted)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for i, slug in enumerate(dict.fromkeys(row["domain"] for row in rows)):
        own = [row for row in rows if row["domain"] == slug]
        steps = [row["step"] / 1e6 for row in own]
        names = (("success", "train_success"), ("return_mean", "train_return"))
        for axis, (line, dots) in zip(axes, names, strict=True):
            axis.plot(steps, [row[line] for row in own], color=f"C{i % 10}", label=slug)
            axis.plot(steps, [row[dots] for row in own], ":", color=f"C{i % 10}", alpha=0.6)
    axes[0].set(xlabel="million steps per agent", ylabel="success (line: deterministic)")
    axes[1].set(xlabel="million steps per agent", ylabel="return (dots: training)")
    axes[0].legend(fontsize=7)
    figure.savefig(picture, dpi=120)
    pyplot.close(figure)


def train_hands(config: HandConfig) -> Path:
    """Train (or go on training) one agent per domain and return the run's folder.

    Raises:
        ShiftgymError: No such expert, the expert of another robot, or an unknown domain; the folder
            holds a run of another configuration (the message lists what differs), is damaged, full
            or somebody else's; or an agent diverged.
        StoppedError: Ctrl-C or SIGTERM ended it early, after a checkpoint.
    """
    with owned(config.out):
        sweep(config.out / "snapshots")
        trainer = HandTrainer(config)
        try:
            finished = trainer.run()
        finally:
            trainer.envs.close()
    share = trainer.learner_seconds / max(trainer.seconds, 1e-9)
    rate = trainer.agents * trainer.steps / max(trainer.seconds, 1e-9)
    print(f"{trainer.ppo.updates} updates of {trainer.agents} agents in {config.out}")
    print(f"{trainer.steps} steps each, {rate:.0f} steps/s in all, learner {share:.0%} of the time")
    print(f"curves: {config.out / 'curves.png'}; policies: {config.out / 'snapshots'}")
    if not finished:
        raise StoppedError("interrupted: the same command goes on from here", trainer.stop.number)
    return config.out


def train(config: Annotated[HandConfig, tyro.conf.arg(name="")]) -> None:
    """Train one agent per domain of a hand with PPO; run the same command again to resume.

    Example: shiftgym policies train-hands --robot door --expert door.npz --out runs/hands/door
    """
    train_hands(config)

"""Be the frame of every method: runs, networks, random numbers, stages of training, what is saved.

A method declares its networks with `net`, `target_of`, `parameter` and `buffer`; everything
declared is saved in checkpoints and restored, nothing else is. It trains in `stages`: any number of
pre-training stages, then one that is evaluated. A stage's `update` reads a batch and random numbers
that were drawn outside, and changes declared tensors in place, so that it can be captured.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.ranges import Count, Positive, Size, SomeShare, check_ranges
from shiftgym_agents.core.columns import EVALUATED, KEYS
from shiftgym_agents.core.nets import Net, Parameter, copy_net
from shiftgym_agents.core.networks import restore_generators, run_generators, unpack
from shiftgym_agents.core.parts import Parts
from shiftgym_agents.core.policy import Policy
from shiftgym_agents.data.batches import SIDES, Batch, Data, Scaling
from shiftgym_agents.data.pairs import TrainingPair
from shiftgym_agents.data.terminal import rule_of

Noise = Mapping[str, Tensor]
"""Random numbers of one update by name, `(R, *shape)` each."""


@dataclass(frozen=True)
class Stage:
    """Describe one stage of training.

    Attributes:
        name: What logs call it.
        steps: Updates.
        update: Takes one gradient step for all runs, in place: `(batch, noise) -> None`. No Python
            branch on tensor values and no `.item()`, or it cannot be captured.
        source: Source rows per run and update.
        target: Target rows per run and update.
        normal: Standard normal numbers that `update` needs, by name, as shapes without the runs.
        uniform: Numbers uniform in [0, 1) that `update` needs, likewise.
        every: Call `check` after every so many updates (and after the last); 0 for never.
        check: Looks at hold-out errors and the like; it is never captured, and may branch.
        finish: Runs once after the last update, and again when training resumes in a later stage,
            so it must be a function of declared tensors and data: freeze networks, fill columns.
        evaluate: Whether policies are evaluated during this stage.
        idle: Says whether updates change nothing any more, because every run stopped early. Asked
            before a block, outside of what is captured; the block's numbers are drawn all the same.
    """

    name: str
    steps: int
    update: Callable[[Batch, Noise], None]
    source: int = 128
    target: int = 128
    normal: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    uniform: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    every: int = 0
    check: Callable[[], None] | None = None
    finish: Callable[[], None] | None = None
    evaluate: bool = False
    idle: Callable[[], bool] | None = None


@dataclass(frozen=True)
class Config:
    """Hold what every method needs; a method's own dataclass extends it."""

    steps: Count = 1_000_000
    """Gradient updates per run; the actor's step size falls to 0 over exactly these."""
    batch: Size = 128
    """Rows per update from each of source and target."""
    width: Size = 256
    """Units in each of the two hidden layers of every network."""
    learning_rate: Positive = 3e-4
    """Adam's step size."""
    target_share: SomeShare = 1.0
    """Share of the target's transitions that is trained on: 0.1 of a D4RL set for DROCO's grids."""

    def __post_init__(self) -> None:
        """Refuse numbers outside the ranges of their fields."""
        check_ranges(self)

    @property
    def scaling(self) -> Scaling:
        """Say how the data are scaled before training."""
        return Scaling()

    def for_robot(self, robot: str) -> Self:
        """Give the values that the method uses for a robot by default."""
        return self


C = TypeVar("C", bound=Config)
# What runs share, as they do everything but numbers:
STRUCTURE = ("steps", "batch", "width", "target_share")


class Agent(ABC, Generic[C]):
    """Train `R` runs of one method in lockstep.

    Args:
        configs: One configuration for all runs, or one per run where only numbers differ. What
            `per_run` gives may; a number that a method reads from `config` may not.
        pairs: One pair per run, of one robot.
        seeds: One seed per run; run `k` draws everything from its own generator.
        device: cpu or cuda.
        dtype: float32, or float64 in tests.
        fast: Use the kernels, C++ on the CPU and CUDA on a GPU (float32 only).

    Raises:
        ShiftgymError: Data that cannot be trained on; the message names the dataset.
    """

    config_class: ClassVar[type[Config]]
    presets: ClassVar[Mapping[str, Any]]
    """Named configurations: ours (default), paper, official."""
    uses_source: ClassVar[bool] = True

    def __init__(
        self,
        configs: C | Sequence[C],
        pairs: Sequence[TrainingPair],
        seeds: Sequence[int],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        fast: bool = False,
    ) -> None:
        self.runs = len(seeds)
        each = [configs] * self.runs if isinstance(configs, Config) else list(configs)
        if not len(each) == len(pairs) == self.runs:
            raise ValueError(f"{len(each)} configs, {len(pairs)} pairs, {self.runs} seeds: differ")
        _require_same_structure(each)
        self.configs: list[C] = each  # pyright: ignore[reportAttributeAccessIssue]
        self.config: C = _shared(self.configs)
        self.domains = [pair.domain for pair in pairs]
        self.device, self.dtype, self.fast = torch.device(device), dtype, fast
        if fast and dtype != torch.float32:
            raise ValueError("the kernels train float32 only")
        sides = SIDES if self.uses_source else SIDES[1:]
        scaling, share = self.config.scaling, self.config.target_share
        self.data = Data(pairs, device, dtype, scaling, share, sides)
        self.obs_size, self.act_size = self.data.obs_size, self.data.act_size
        self.generators = run_generators(seeds)
        rates = [config.learning_rate for config in self.configs]
        self._rate = torch.tensor(rates, dtype=torch.float64, device=self.device)
        self.parameters: dict[str, Parameter] = {}
        self.buffers: dict[str, Tensor] = {}
        self.logged: dict[str, Tensor] = {}
        self.told: dict[str, Tensor] = {}
        self.terminal_rules = [rule_of(pair) for pair in pairs]  # None where nobody knows
        self.parts = Parts(self.data, pairs, self.config.batch)
        self.build()
        if self.device.type != "cpu":  # the CPU ones drew the weights; batches are drawn there
            self.generators = run_generators(seeds, self.device)

    # --- what a method writes ---------------------------------------------------------------------

    @abstractmethod
    def build(self) -> None:
        """Declare networks and buffers."""

    @abstractmethod
    def stages(self) -> list[Stage]:
        """List the stages of training in order; the last one is evaluated."""

    @property
    @abstractmethod
    def actor(self) -> Net:
        """Give the network whose first `A` outputs, through tanh, are the deterministic action."""

    def critic_pairs(self, obs: Tensor, act: Tensor) -> Tensor:
        """Give what the critics read of observations and actions, `(R, B, .)`."""
        return torch.cat([obs, act], -1)

    def min_q(self, obs: Tensor, act: Tensor) -> Tensor:
        """Give the lowest critic's value of actions, `(R, B, 1)`; attacks on the policy read it.

        A method whose critics are not the networks that it declared as `critic` overrides this.

        Args:
            obs: Observations `(R, B, O)`, scaled as the data are.
            act: Actions `(R, B, A)`.

        Raises:
            ShiftgymError: The method has no critic.
        """
        critic = self.parameters.get("critic")
        if not isinstance(critic, Net):
            raise ShiftgymError(f"{type(self).__name__} learns no critic, so there is no Q(s, a).")
        return critic(self.critic_pairs(obs, act)).amin(1)

    def source_scores(self) -> Tensor | None:
        """Give how much like the target's each source row is to the method, higher for more.

        A method that filters, weighs or pays source rows says by what, and is then measured
        where the truth is known (`evaluation/selection.py`); any scale will do. It is asked after
        pre-training, and again after some training where it had no answer.

        Returns:
            `(R, N)`, laid out as `Data.sweep("source")` does; None as long as there is no answer,
            and of a method that takes all source rows alike.
        """
        return None

    # --- what a method uses -----------------------------------------------------------------------

    def net(self, name: str, sizes: Sequence[int], **options: Any) -> Net:
        """Declare networks, one (or `copies`) per run; options as for `Net`."""
        options = {"rate": self._rate} | options
        made = Net(sizes, self.generators, device=self.device, dtype=self.dtype, **options)
        return self._declare(name, made)

    def target_of(self, name: str, net: Net) -> Net:
        """Declare a Polyak copy of networks."""
        return self._declare(name, copy_net(net))

    def parameter(self, name: str, rows: Tensor, **options: Any) -> Parameter:
        """Declare trainable numbers `(R, ...)` that are no network; options as for `Parameter`."""
        options = {"rate": self._rate} | options
        return self._declare(name, Parameter(rows.to(self.device, self.dtype), **options))

    def buffer(self, name: str, tensor: Tensor) -> Tensor:
        """Declare a tensor that is saved; write to it in place only."""
        self.buffers[name] = tensor.to(self.device)
        return self.buffers[name]

    def per_run(self, name: str) -> Tensor:
        """Give a number of the configuration for every run, as `(R, 1, 1)`."""
        values = [float(getattr(config, name)) for config in self.configs]
        return torch.tensor(values, dtype=self.dtype, device=self.device)[:, None, None]

    def alike_or_per_run(self, name: str) -> Tensor | float:
        """Give a number of the configuration that all runs share, else as `per_run` does."""
        values = {float(getattr(config, name)) for config in self.configs}
        return values.pop() if len(values) == 1 else self.per_run(name)

    def log(self, name: str, values: Tensor) -> None:
        """Add numbers `(R, ...)` to a running mean that is logged for each run.

        Raises:
            ValueError: a name that `metrics.csv` has for something else.
        """
        rows = values.detach().to(self.dtype).reshape(self.runs, -1)
        sums = rows.mean(1) if rows.shape[1] > 1 else rows[:, 0]
        if name in self.logged:
            self.logged[name].add_(sums)
        elif name in (*KEYS, *EVALUATED):
            raise ValueError(f"metrics.csv has {name!r} for something else: log under another name")
        else:
            self.logged[name] = sums.clone()

    def tell(self, name: str, values: Tensor) -> None:
        """Note a number `(R,)` that a stage found out for each run; `result.json` keeps it."""
        self.told[name] = values.detach().float().cpu()

    def log_kept(self, batch: Batch, weights: Tensor | None = None) -> None:
        """Log what a filter kept of each of several sources, and what weights `(R, B, 1)` left."""
        for name, values in self.parts.shares(batch, weights):
            self.log(name, values)

    @property
    def hidden(self) -> tuple[int, int]:
        """Give the widths of the hidden layers."""
        return self.config.width, self.config.width

    # --- what the trainer uses --------------------------------------------------------------------

    @contextmanager
    def plainly(self) -> Iterator[None]:
        """Take steps in plain torch operations inside the block, whatever `fast` is."""
        before = {name: parameter.native for name, parameter in self.parameters.items()}
        for parameter in self.parameters.values():
            parameter.native = False
        yield
        for name, native in before.items():
            self.parameters[name].native = native

    def tensors(self) -> dict[str, Tensor]:
        """Name every declared tensor; training changes these in place and nothing else."""
        found = {
            f"{name}.{part}": tensor
            for name, parameter in self.parameters.items()
            for part, tensor in parameter.state.items()
        }
        return found | {f"buffer.{name}": tensor for name, tensor in self.buffers.items()}

    def save(self) -> dict[str, np.ndarray]:
        """Copy everything that going on bit for bit needs, besides the trainer's counters."""
        arrays = {name: t.detach().cpu().numpy().copy() for name, t in self.tensors().items()}
        arrays |= {f"logged.{name}": t.cpu().numpy().copy() for name, t in self.logged.items()}
        states = torch.stack([generator.get_state() for generator in self.generators])
        return arrays | {"generators": states.numpy()}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Restore what `save` gave.

        Raises:
            ShiftgymError: Something is missing or of another shape: another method or width.
        """
        self.load_tensors(arrays)
        prefix = "logged."
        self.logged = {
            name.removeprefix(prefix): torch.from_numpy(array.copy()).to(self.device)
            for name, array in arrays.items()
            if name.startswith(prefix)
        }
        states = torch.from_numpy(arrays["generators"].copy())
        if not restore_generators(self.generators, states):
            warnings.warn(
                f"this checkpoint was written on another kind of device than {self.device}, whose "
                "random numbers differ: training goes on with others than it would have had there",
                stacklevel=2,
            )

    @torch.no_grad()
    def load_tensors(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Restore what was learned, but no random numbers: those of a GPU fit no CPU."""
        for name, tensor in self.tensors().items():
            if name not in arrays or arrays[name].shape != tuple(tensor.shape):
                raise ShiftgymError(f"The checkpoint's {name} does not fit this configuration.")
            tensor.copy_(torch.from_numpy(arrays[name].copy()))

    def finite(self) -> np.ndarray:
        """Say which runs' parameters are all finite, `(R,)` bool."""
        sums = [p.rows.detach().flatten(1).sum(1) for p in self.parameters.values()]
        return torch.isfinite(torch.stack(sums)).all(0).cpu().numpy()

    def policy(self) -> Policy:
        """Copy the current deterministic policies of all runs for numpy."""
        rows = self.actor.rows.detach().float().cpu().clone().flatten(0, 1)
        layers = [(w.numpy(), b.numpy()) for w, b in unpack(rows, self.actor.sizes)]
        box = self.data.action_center, self.data.action_half
        return Policy(layers, self.data.shift, self.data.scale, self.act_size, *box)

    def _declare(self, name: str, made: Any) -> Any:
        if name in self.parameters:
            raise ValueError(f"two parameters are named {name}")
        made.native = self.fast
        self.parameters[name] = made
        return made


def _require_same_structure(configs: Sequence[Config]) -> None:
    """Refuse runs whose configurations differ in more than numbers."""
    first = configs[0]
    for config in configs[1:]:
        for name, value in vars(first).items():
            other = getattr(config, name)
            numbers = isinstance(value, float) and isinstance(other, float)
            if other != value and (not numbers or name in STRUCTURE):
                raise _apart(name, {value, other})


def _shared(configs: Sequence[C]) -> C:
    """Give what all runs share; a number in which they differ is refused when it is read."""
    first = configs[0]
    numbers = [name for name, value in vars(first).items() if isinstance(value, float)]
    given = {name: {getattr(config, name) for config in configs} for name in numbers}
    differing = {name: values for name, values in given.items() if len(values) > 1}
    if not differing:
        return first

    class Shared(type(first)):
        def __getattribute__(self, name: str) -> Any:
            if name in differing:
                raise _apart(name, differing[name])
            return super().__getattribute__(name)

    shared: Any = object.__new__(Shared)
    vars(shared).update(vars(first))
    return shared


def _apart(name: str, values: Collection[Any]) -> ShiftgymError:
    said = ", ".join(sorted(map(repr, values)))
    return ShiftgymError(f"Runs in lockstep share {name}, got {said}: train them apart.")

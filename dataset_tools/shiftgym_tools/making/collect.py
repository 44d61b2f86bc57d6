"""Collect transitions: a vector environment, behaviour policies, and streams of fixed length.

    parts     (policy, transitions), ...     one for `medium`; two for `medium-expert`
    streams   one simulation each; a stream belongs to a part and collects its share in a row

Every stream collects a fixed number of transitions, and only its last episode is cut there. Taking
the first N rows that many simulations finish would favour short, bad episodes. In a small set of
several parts, one stream each, a part goes on to the end of the episode it is in, and the next one
has so much less: only the last episode of all is cut.

Everything random is fixed by one number, the dataset's seed (:func:`name_seed` unless chosen):

    noise of part p             numpy.random.default_rng([seed, p])
    episode k of stream s       starts as reset(seed=seed + 1,000,000 s + k) does

The result does not depend on the number of threads, on the blocks, or on interruptions.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shiftgym.arrays import Array
from shiftgym.datasets.flat import Flat, ends
from shiftgym.datasets.tiers import RANDOM
from shiftgym.domains import Domain, domain, episode_steps
from shiftgym.envs.state import pack_rng, unpack_rng
from shiftgym.errors import ShiftgymError
from shiftgym.policies import Policy, load_policy
from shiftgym_tools.making.blas import one_blas_thread
from shiftgym_tools.making.blocks import (
    Arrays,
    Block,
    count_episodes,
    flat_chunks,
    read_blocks,
    write_block,
)

STREAM_ROWS, MAX_STREAMS = 15_000, 64  # a stream per 15 full episodes, as far as 64
BLOCK_ROWS = 50_000
STREAM_SEEDS = 1_000_000  # seeds set aside for the episodes of one stream


Actor = str | Callable[[Array], Any]
"""Who acts: a packaged policy, a ``.safetensors`` file, ``random``, or any function of observations
(S, O) float32 that gives actions (S, A)."""


@dataclass(frozen=True)
class Part:
    """Say who acts, for how many transitions, in how many streams."""

    policy: Actor
    size: int
    streams: int

    def shares(self) -> list[int]:
        """Give the transitions of each stream; they differ by at most one."""
        return split(self.size, self.streams)


def split(total: int, count: int) -> list[int]:
    """Split a number into `count` nearly equal ones, larger ones first."""
    return [total // count + (k < total % count) for k in range(count)]


def name_seed(minari_id: str) -> int:
    """Give the seed that a dataset's id stands for: the first 52 bits of its SHA-256."""
    return int(hashlib.sha256(minari_id.encode()).hexdigest()[:13], 16)


def plan_parts(wanted: Sequence[tuple[Actor, int]], streams: int | None = None) -> list[Part]:
    """Spread streams over parts.

    Args:
        wanted: policies with their transitions.
        streams: streams in all, at least one per part; by default one per 15,000 transitions of
            a part, as far as 64 in all.

    Raises:
        ShiftgymError: a part without transitions, or fewer streams than parts.
    """
    if not wanted or min(size for _, size in wanted) < 1:
        raise ShiftgymError(f"Every behaviour needs at least one transition, got {wanted}.")
    total, most = sum(size for _, size in wanted), streams or MAX_STREAMS
    if most < len(wanted):
        raise ShiftgymError(f"{len(wanted)} behaviours need at least as many streams, got {most}.")
    parts = []
    for policy, size in wanted:
        count = max(1, most * size // total)
        if streams is None:
            count = min(count, max(1, size // STREAM_ROWS))
        parts.append(Part(policy, size, min(count, size)))
    return parts


@dataclass(frozen=True)
class Given:
    """Let somebody's function act; what it gives is checked.

    Attributes:
        function: gives actions (S, A) for observations (S, O).
        width: numbers per action.
    """

    function: Callable[[Array], Any]
    width: int

    def act(self, observations: Array, rng: np.random.Generator | None = None) -> Array:
        """Ask the function for actions (S, A), or (A,) for one observation (O,).

        Raises:
            ShiftgymError: they are not finite numbers of that shape.
        """
        many = np.atleast_2d(observations)
        actions, wanted = np.asarray(self.function(many)), (len(many), self.width)
        if actions.shape != wanted or actions.dtype.kind not in "fiu":
            raise ShiftgymError(
                f"A behaviour must give {wanted} numbers for observations {many.shape}, got "
                f"{actions.dtype} {actions.shape}."
            )
        if not np.isfinite(actions).all():
            raise ShiftgymError("A behaviour gave an action that is not finite.")
        return actions.astype(np.float32).reshape(*observations.shape[:-1], self.width)


def _actor(behaviour: Actor, width: int) -> Policy | Given:
    return load_policy(behaviour) if isinstance(behaviour, str) else Given(behaviour, width)


def ends_with_episodes(parts: Sequence[Part], limit: int) -> bool:
    """Say whether parts end where an episode does: one stream each, of two full episodes or more.

    Args:
        parts: who acts.
        limit: steps of a full episode.
    """
    return len(parts) > 1 and all(part.streams == 1 and part.size >= 2 * limit for part in parts)


class Collector:
    """Step all streams together, and be able to go on from any block.

    Args:
        of: the domain.
        parts: who acts; see :func:`plan_parts`.
        seed: fixes everything random.
        folder: where blocks are written, and found again.
        num_threads: threads that step; 0 for one per CPU.

    Attributes:
        blocks: the blocks so far.
        shares: transitions wanted of each stream; :meth:`kept` says how many it is.
    """

    def __init__(
        self, of: Domain, parts: Sequence[Part], seed: int, folder: Path, num_threads: int = 0
    ):
        """Make the environment, and take up the blocks that are there."""
        self.folder, self.seed = folder, seed
        self.shares = [share for part in parts for share in part.shares()]
        self._parts, limit = list(parts), episode_steps(of.robot)
        self._by_episodes = ends_with_episodes(parts, limit)
        self.steps, self.streams = max(self.shares), len(self.shares)
        if self._by_episodes:
            self.steps = max(*(share + limit for share in self.shares[:-1]), self.shares[-1])
        self._env: Any = of.make_vec(
            self.streams, autoreset_mode="disabled", num_threads=num_threads
        )
        space = self._env.single_action_space
        self._low, self._high = space.low, space.high
        self._actors: list[tuple[slice, Policy | Given | None]] = []
        first = 0
        for part in parts:
            policy = None if part.policy == RANDOM else _actor(part.policy, len(self._low))
            self._actors.append((slice(first, first + part.streams), policy))
            first += part.streams
        self._check_policies(of, parts)
        self._rngs = [np.random.default_rng([seed, p]) for p in range(len(parts))]
        self._episodes = np.zeros(self.streams, dtype=np.int64)
        self.blocks: list[Block] = read_blocks(folder)
        if self.blocks:
            self._restore(self.blocks[-1].state())
        else:
            self._observations = self._restart(np.ones(self.streams, dtype=bool))

    @property
    def done(self) -> int:
        """Count the transitions collected so far."""
        return sum(min(share, self._step) for share in self.shares)

    @property
    def _step(self) -> int:
        return self.blocks[-1].end if self.blocks else 0

    def run(
        self,
        progress: Callable[[int], Any] | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Collect what is missing.

        Args:
            progress: called after every step with the number of transitions it brought.
            stopping: asked after every step; what was collected is kept when it says so.

        Returns:
            Whether everything is collected.

        Raises:
            ShiftgymError: the disk is full; the blocks before are kept.
        """
        with one_blas_thread():
            while self._step < self.steps and not stopping():
                steps = min(self.steps - self._step, max(1, BLOCK_ROWS // self.streams))
                rows = self._collect(steps, progress or (lambda rows: None), stopping)
                number = len(self.blocks)
                block = write_block(self.folder, number, self._step, rows, self._state())
                self.blocks.append(block)
        return self._step >= self.steps

    def chunks(self) -> Iterator[Flat]:
        """Give the rows, stream after stream, when everything is collected."""
        return flat_chunks(self.blocks, self.kept())

    def kept(self) -> list[int]:
        """Give the transitions that are kept of each stream, when everything is collected."""
        if not self._by_episodes:
            return self.shares
        found, wanted = [], 0
        for stream, share in enumerate(self.shares[:-1]):
            wanted += share
            rows = [block.rows(stream, self.steps) for block in self.blocks]
            over = np.flatnonzero(np.concatenate([ends(flat) for flat in rows])) + 1
            first = int(np.searchsorted(over, wanted - sum(found)))
            found.append(int(over[first]))
        return [*found, sum(self.shares) - sum(found)]

    def part_rows(self) -> list[int]:
        """Give the transitions of each part, when everything is collected."""
        firsts = np.cumsum([0, *(part.streams for part in self._parts[:-1])])
        return np.add.reduceat(self.kept(), firsts).tolist()

    def seeds(self) -> list[int]:
        """Give the seed that each episode of :meth:`chunks` started from."""
        counts = count_episodes(self.blocks, self.kept())
        return [self._seed(stream, k) for stream, n in enumerate(counts) for k in range(n)]

    def close(self) -> None:
        """Free the environment."""
        self._env.close()

    def _check_policies(self, of: Domain, parts: Sequence[Part]) -> None:
        """Try every policy on one observation."""
        observation = np.zeros(self._env.single_observation_space.shape, dtype=np.float32)
        for part, (_, policy) in zip(parts, self._actors, strict=True):
            if policy is not None and policy.act(observation).shape != self._low.shape:
                raise ShiftgymError(
                    f"{part.policy} gives {len(policy.act(observation))} numbers per action; "
                    f"{of.slug} takes {len(self._low)}."
                )

    def _act(self, observations: Array) -> Array:
        """Draw the actions (S, A) that are executed and stored, within the action space."""
        actions = np.empty((self.streams, len(self._low)), dtype=np.float32)
        for (rows, policy), rng in zip(self._actors, self._rngs, strict=True):
            if policy is None:
                shape = actions[rows].shape
                actions[rows] = rng.uniform(self._low, self._high, shape)
            else:
                actions[rows] = policy.act(observations[rows], rng)
        return np.clip(actions, self._low, self._high, out=actions)

    def _collect(
        self, steps: int, progress: Callable[[int], Any], stopping: Callable[[], bool]
    ) -> Flat:
        """Take steps, and give their rows (S, T, ...), fewer if asked to stop."""
        rows = self._empty(steps)
        observed, acted, earned = rows["observations"], rows["actions"], rows["rewards"]
        came, terminal, cut = rows["next_observations"], rows["terminated"], rows["truncated"]
        for t in range(steps):
            actions = self._act(self._observations)
            following, rewards, terminated, truncated, _ = self._env.step(actions)
            observed[:, t] = self._observations
            acted[:, t] = actions
            earned[:, t] = rewards
            came[:, t] = following
            terminal[:, t] = terminated
            cut[:, t] = truncated
            ended = terminated | truncated
            self._observations = self._restart(ended) if ended.any() else following
            progress(sum(self._step + t < share for share in self.shares))
            if stopping():
                return {name: array[:, : t + 1] for name, array in rows.items()}
        return rows

    def _restart(self, ended: Array) -> Array:
        """Start new episodes in some streams; give everybody's observations."""
        seeds: list[int | None] = [None] * self.streams
        for stream in np.flatnonzero(ended).tolist():
            seeds[stream] = self._seed(stream, int(self._episodes[stream]))
        self._episodes += ended
        return self._env.reset(seed=seeds, options={"reset_mask": ended})[0]

    def _seed(self, stream: int, episode: int) -> int:
        return self.seed + STREAM_SEEDS * stream + episode

    def _empty(self, steps: int) -> Flat:
        shape, width = (self.streams, steps), self._env.single_observation_space.shape[0]
        return {
            "observations": np.empty((*shape, width), np.float32),
            "actions": np.empty((*shape, len(self._low)), np.float32),
            "rewards": np.empty(shape, np.float32),
            "next_observations": np.empty((*shape, width), np.float32),
            "terminated": np.empty(shape, np.bool_),
            "truncated": np.empty(shape, np.bool_),
        }

    def _state(self) -> Arrays:
        """Give everything the next step depends on."""
        own = {"observations": self._observations, "episodes": self._episodes}
        noise = {"noise": np.stack([pack_rng(rng) for rng in self._rngs])}
        return own | noise | {f"env.{k}": v for k, v in self._env.unwrapped.get_state().items()}

    def _restore(self, state: Arrays) -> None:
        """Go on from a state of :meth:`_state`."""
        env = {k.removeprefix("env."): v for k, v in state.items() if k.startswith("env.")}
        self._env.unwrapped.set_state(env)
        self._observations = state["observations"]
        self._episodes = state["episodes"].copy()
        self._rngs = [unpack_rng(words) for words in state["noise"]]


def collect(
    where: str | Domain,
    parts: Sequence[tuple[Actor, int]],
    seed: int,
    streams: int | None = None,
    progress: Callable[[int], Any] | None = None,
    num_threads: int = 0,
) -> Iterator[Flat]:
    """Collect transitions and give them as flat chunks, cut anywhere between rows.

    Blocks pass through a temporary folder, so memory stays bounded at any size.

    Args:
        where: the domain.
        parts: behaviours with their transitions: a packaged policy, a ``.safetensors`` file,
            ``random``, or any function that gives actions (S, A) for observations (S, O), a row
            per stream. Packaged policies act stochastically, as in D4RL; a function brings its own
            noise, and the result is as reproducible as it is.
        seed: fixes everything random; see :func:`name_seed`.
        streams: streams in all; see :func:`plan_parts`.
        progress: called after every step with the number of transitions it brought.
        num_threads: threads that step; 0 for one per CPU.

    Example:
        >>> flat = concatenate(list(collect("hopper", [("random", 1000)], seed=0)))
    """
    with tempfile.TemporaryDirectory(prefix="shiftgym-") as folder:
        planned = plan_parts(parts, streams)
        collector = Collector(domain(where), planned, seed, Path(folder), num_threads)
        collector.run(progress)
        yield from collector.chunks()
        collector.close()

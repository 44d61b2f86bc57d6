"""Make source data of which it is known which rows obey the target's dynamics.

Half of the rows are of the target's own domain, half of another one of the same robot, in an order
that says nothing. Two designs:

    mixture   as sources are found: each half collected in its own domain, by that domain's own
              behaviour policy, whole episodes. States and actions differ too, and may tell
    twins     one simulation in the target's domain and, put into the same state at each of its
              steps, the other domain's, which takes the same action. What came before is equal to
              the bit, only what follows differs: what looks at states and actions alone scores 0.5.
              Steps are single, every other one is kept, so that no row leads to another

Where nothing is touched that the shift changes, twins are equal and nobody can tell them apart; the
share of such rows bounds what is attainable (`Labelled.ceiling`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from shiftgym.basics.errors import DomainError, nearest
from shiftgym.datasets.flat import Flat, concatenate, episode_bounds, rows_of
from shiftgym.datasets.load import load
from shiftgym.domains import Domain
from shiftgym.making import domain
from shiftgym.policies import load_policy
from shiftgym.registration import make_vec
from shiftgym_agents.data.pairs import ArrayPair

Design = Literal["mixture", "twins"]
DESIGNS: tuple[Design, ...] = ("mixture", "twins")
STREAM_SEEDS = 1_000_000  # seeds set aside for the episodes of one simulation


@dataclass(frozen=True, eq=False)
class Labelled:
    """Hold a pair whose source rows are labelled; methods see the pair alone.

    Attributes:
        pair: the source, and the packaged target set.
        true: which source rows obey the target's dynamics, `(N,)` bool.
        design: mixture or twins.
        other: the domain of the other half.
        equal: share of twins that are one and the same row; 0 for a mixture.
    """

    pair: ArrayPair = field(repr=False)
    true: np.ndarray = field(repr=False)
    design: Design
    other: Domain
    equal: float = 0.0

    @property
    def ceiling(self) -> float:
        """Give the greatest area under the curve that any score can have: equal rows tie."""
        return 1 - self.equal**2 / 2


def labelled(
    design: Design,
    target: str | Domain,
    other: str | Domain | None = None,
    quality: str = "medium",
    rows: int = 10_000,
    seed: int = 0,
) -> Labelled:
    """Pair a target with a source of known truth.

    Args:
        design: mixture or twins.
        target: the target's domain; its packaged set of this quality is the target data.
        other: the domain of the other half; the unshifted robot by default.
        quality: of the behaviour policies and of the target data.
        rows: of the source, both halves together; even.
        seed: fixes everything random; another one gives other rows.

    Raises:
        DomainError: an unknown design, twice the same domain, or an odd number of rows.
        ShiftgymError: no packaged policy or target set of this quality.

    Example:
        >>> found = labelled("twins", "hopper-morph")
        >>> found.pair.source["rewards"].shape, found.true.mean()
        ((10000,), 0.5)
    """
    own = domain(target)
    foreign = domain(other or own.robot)
    if design not in DESIGNS:
        raise DomainError(f"Unknown design {design!r}. {nearest(design, DESIGNS)}")
    if own == foreign:
        raise DomainError(f"Both halves would be of {own.slug}: choose another domain for one.")
    if rows < 2 or rows % 2:
        raise DomainError(f"{rows} source rows are no two halves: give an even number.")
    half, equal = rows // 2, 0.0
    if design == "mixture":
        each = [
            simulate([of], f"{of.slug}/{quality}", half, seed + k * STREAM_SEEDS)[0]
            for k, of in enumerate((own, foreign))
        ]
    else:
        both = simulate([own, foreign], f"{own.slug}/{quality}", 2 * half, seed)
        each = [single_steps(flat) for flat in both]
        same = each[0]["next_observations"] == each[1]["next_observations"]
        equal = float(same.all(1).mean())
    source, true = shuffled(each, np.random.default_rng([seed, 1]))
    name = f"{quality}, {design} of {own.slug} and {foreign.slug}"
    dataset = f"{own.slug}/{quality}"
    pair = ArrayPair(source, load(dataset), own, (name, dataset), None)
    return Labelled(pair, true, design, foreign, equal)


def simulate(domains: Sequence[Domain], policy: str, rows: int, seed: int) -> list[Flat]:
    """Let a policy act in the first domain, and the others follow it step by step.

    Before every step each domain is put into the state of the first, so all rows have the first
    one's observation and action, and what follows by their own dynamics.

    Args:
        domains: of one robot.
        policy: a packaged one, ``hopper/medium``; it acts stochastically.
        rows: steps to take.
        seed: episode k starts as ``reset(seed=seed + k)`` does.

    Returns:
        One dataset per domain; only the first's rows lead from one to the next.
    """
    envs: Any = make_vec(list(domains), autoreset_mode="disabled", num_threads=1).unwrapped
    actor, rng = load_policy(policy), np.random.default_rng([seed, 0])
    low, high = envs.single_action_space.low, envs.single_action_space.high
    obs = envs.reset(seed=[seed] * len(domains))[0][0]
    episodes, taken = 1, []
    for _ in range(rows):
        if len(domains) > 1:
            state = envs.get_state()
            envs.set_state({key: each[:1].repeat(len(domains), 0) for key, each in state.items()})
        action = np.clip(actor.act(obs, rng), low, high)
        after, rewards, terminated, truncated, _ = envs.step(action[None].repeat(len(domains), 0))
        taken.append((obs, action, rewards, after, terminated, truncated & ~terminated))
        obs = after[0].copy()
        if terminated[0] or truncated[0]:
            obs = envs.reset(seed=[seed + episodes] * len(domains))[0][0]
            episodes += 1
    envs.close()
    return [_flat(taken, place) for place in range(len(domains))]


def _flat(taken: Sequence[tuple[Any, ...]], place: int) -> Flat:
    """Collect what one domain answered; the last row ends an episode."""
    obs, act, rewards, after, terminated, truncated = zip(*taken, strict=True)
    flat = {
        "observations": np.array(obs, np.float32),
        "actions": np.array(act, np.float32),
        "rewards": np.array([each[place] for each in rewards], np.float32),
        "next_observations": np.array([each[place] for each in after], np.float32),
        "terminated": np.array([each[place] for each in terminated], np.bool_),
        "truncated": np.array([each[place] for each in truncated], np.bool_),
    }
    flat["truncated"][-1] = not flat["terminated"][-1]
    return flat


def single_steps(flat: Flat) -> Flat:
    """Keep every other row, each an episode of its own."""
    kept = {name: values[::2].copy() for name, values in flat.items()}
    kept["truncated"] = ~kept["terminated"]
    return kept


def shuffled(halves: Sequence[Flat], rng: np.random.Generator) -> tuple[Flat, np.ndarray]:
    """Join the true and the other half, their episodes in random order.

    Returns:
        The rows, and which of them are of the first half.
    """
    pieces = [
        (rows_of(flat, slice(start, stop)), np.full(stop - start, place == 0))
        for place, flat in enumerate(halves)
        for bounds in [episode_bounds(flat)]
        for start, stop in zip(bounds[:-1], bounds[1:], strict=True)
    ]
    order = [pieces[k] for k in rng.permutation(len(pieces))]
    return concatenate([flat for flat, _ in order]), np.concatenate([of for _, of in order])

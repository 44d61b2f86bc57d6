"""``shiftgym render --run``: a picture or a video of a trained policy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from shiftgym.basics.errors import DomainError
from shiftgym.basics.plain_files import require_folder
from shiftgym.domains import Domain
from shiftgym.drawing.opengl import prefer_headless
from shiftgym.drawing.pictures import VIDEO_SUFFIXES, Film, Image, film_strip, write_film
from shiftgym.making import domain
from shiftgym_agents.data.places import GymEnv, Place, place, robot_of
from shiftgym_agents.training.trained import TrainedPolicy, load

SLOWEST = 10.0  # frames per second of an environment that does not say


def render_run(
    run: Path,
    where: Annotated[str | None, tyro.conf.Positional] = None,
    index: int = 0,
    out: Path | None = None,
    steps: int = 200,
    every: int = 4,
    seed: int = 0,
    width: int = 480,
    height: int = 480,
) -> None:
    """Film the deterministic policy of a trained run, where it was evaluated or elsewhere.

    Example: shiftgym render --run runs/otdf --out otdf.mp4

    Example: shiftgym render hopper-friction-x2 --run runs/otdf --index 1 --out strip.png

    Without a display MUJOCO_GL=egl is chosen for you.

    Args:
        run: The run directory.
        where: Another domain of the same robot, or another environment with its observations and
            actions; the one it was evaluated in by default.
        index: Which of its runs.
        out: Where to write: .gif or .mp4, or .png and .jpg for six moments side by side;
            film-INDEX.gif in the run directory by default.
        steps: Environment steps to film; an episode that ends starts anew.
        every: Environment steps from one frame to the next.
        seed: Seed of the first episode.
        width: Pixels; an environment that is none of shiftgym's has a size of its own.
        height: Pixels.
    """
    policy = load(run, index)
    path = require_folder(out or run / f"film-{index}.gif")
    prefer_headless()
    filmed = _where(policy, where)
    if filmed is None:
        raise DomainError(f"{run} was evaluated nowhere: name an environment to film it in.")
    if isinstance(filmed, Domain):
        film = Film("run", steps, every, seed, width, height, act=policy.act)
        frames, fps = film.frames(filmed), film.fps(filmed)
    else:
        frames, fps = _foreign(filmed, policy, steps, every, seed)
    text = f"{policy.method}, seed {policy.seed}: {filmed.slug}"
    if path.suffix in VIDEO_SUFFIXES:
        write_film(path, frames, text, fps)
    else:
        film_strip(path, frames, text)
    print(f"Wrote {path} ({text}). Next: shiftgym eval {run}")


def _where(policy: TrainedPolicy, given: str | None) -> Place:
    """Give where to film: what is given, or where the policy was evaluated."""
    if given is None:
        return policy.place()
    if "robot" not in (policy.record or {}):
        return place(given)
    found, own = domain(given), policy.place()
    if found.robot != robot_of(own):
        raise DomainError(f"This policy is for {robot_of(own)}, not {found.robot}.")
    return found


def _foreign(
    filmed: GymEnv, policy: TrainedPolicy, steps: int, every: int, seed: int
) -> tuple[Iterator[Image], float]:
    """Give the frames of an environment that is none of shiftgym's, and how many a second has."""
    options = json.loads(filmed.options) | {"render_mode": "rgb_array"}
    env: Any = replace(filmed, options=json.dumps(options)).build()

    def frames() -> Iterator[Image]:
        observation, _ = env.reset(seed=seed)
        for step in range(steps):
            if step % every == 0:
                yield np.asarray(env.render(), np.uint8)
            observation, _, terminated, truncated, _ = env.step(policy.act(observation))
            if terminated or truncated:
                observation, _ = env.reset()
        env.close()

    return frames(), float(env.metadata.get("render_fps") or SLOWEST * every) / every

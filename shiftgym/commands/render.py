"""``shiftgym render``: a picture or a video of a domain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated

import tyro

from shiftgym.basics.plain_files import require_folder
from shiftgym.drawing.opengl import prefer_headless
from shiftgym.making import domain


def render(
    name: Annotated[str, tyro.conf.Positional],
    out: Path | None = None,
    compare: bool = False,
    policy: str = "random",
    steps: int = 200,
    every: int = 4,
    seed: int = 0,
    width: int = 480,
    height: int = 480,
) -> None:
    """Make a picture of a domain, or a video if --out ends in .gif or .mp4.

    With --compare the unshifted robot stands beside it, in the view that shows the shift best:
    at rest for another body, at both joint limits for another range of motion, and after the
    same actions for gravity and friction. Without a display MUJOCO_GL=egl is chosen for you.

    Example: shiftgym render ShiftHopper-morph-v0 --out hopper.png --compare

    A policy that you trained: shiftgym render --run runs/otdf --out otdf.mp4 (--run runs/otdf
    --help has its options).

    Args:
        name: A slug or id: hopper-morph, ShiftHopper-morph-v0, hopper-friction-x0p37, or
            FILE.toml:slug for a domain of your own.
        out: Where to write: .png, .jpg, .gif or .mp4; <slug>.png by default.
        compare: Show the unshifted robot beside it.
        policy: Who acts in a video: random, zero, a packaged tier such as expert (of each domain
            shown; top is its expert or else its best), a packaged policy such as hopper/expert, or
            a .safetensors file.
        steps: Environment steps in a video.
        every: Environment steps from one frame of a video to the next.
        seed: Seed of the video's episodes.
        width: Pixels (of one robot).
        height: Pixels.
    """
    prefer_headless()
    from shiftgym.drawing import pictures

    shown = domain(name)
    path = require_folder(out or Path(f"{shown.slug}.png"))
    if path.suffix in pictures.VIDEO_SUFFIXES:
        domains = [domain(shown.robot), shown] if compare else [shown]
        pictures.Film(policy, steps, every, seed, width, height).write(path, domains)
    elif compare:
        pictures.write_image(path, pictures.side_by_side(shown, width, height))
    else:
        pictures.write_image(path, pictures.portrait(shown, "rest", width, height))
    print(f"Wrote {path} ({shown.slug}). Next: shiftgym envs --robot {shown.robot}")


def _for_arguments(arguments: Sequence[str]) -> Callable[..., None]:
    """Choose the command: films of trained runs are the agents'."""
    if any(each == "--run" or each.startswith("--run=") for each in arguments):
        return import_module("shiftgym_agents.commands.render").render_run
    return render


render.for_arguments = _for_arguments  # pyright: ignore[reportFunctionMemberAccess]

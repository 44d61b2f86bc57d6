"""Pictures of a domain beside its source, made so that the shift can be seen.

What shows a shift depends on what it edits: another body shows at rest; another joint range shows
as the span between both limits; gravity and friction show in where the same actions lead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftgym.basics.errors import ShiftgymError
from shiftgym.domains import Domain
from shiftgym.drawing.rendering import Picture
from shiftgym.engine import mujoco
from shiftgym.envs.tasks import TASKS
from shiftgym.evaluation import Act, policy_act, random_act
from shiftgym.making import domain
from shiftgym.modelling import build_model
from shiftgym.policies import load_policy, top_policy

Image = NDArray[np.uint8]
BODY_EDITS = {"size", "pos", "fromto", "ipos"}
CLOSE = {  # cameras that show the hand large enough to see its joints
    "pen": {"distance": 0.55, "azimuth": -45.0, "elevation": -35.0, "lookat": (0.0, -0.2, 0.25)},
    "door": {"distance": 0.75, "azimuth": 90.0, "elevation": -35.0, "lookat": (0.0, -0.15, 0.2)},
}
BENT = {  # degrees; straight legs would hide where the knees are
    "hopper": {"thigh_joint": -20.0, "leg_joint": -35.0, "foot_joint": 15.0},
    "walker2d": {"thigh_joint": 25.0, "leg_joint": -35.0, "thigh_left_joint": -25.0,
                 "leg_left_joint": -35.0},
}  # fmt: skip
HEADROOM = {"hopper": (0.0, 0.0, 0.25), "walker2d": (0.0, 0.0, 0.25)}  # metres
STROBE_STEPS = (0, 12, 24)  # environment steps shown for gravity and friction
VIDEO_SUFFIXES = {".gif", ".mp4"}


def view_of(shifted: Domain) -> str:
    """Choose what makes a shift visible: ``rest``, ``range`` or ``motion``."""
    edited = {(edit.kind, edit.attribute) for edit in shifted.edits}
    if any(kind == "geom" and attribute in BODY_EDITS for kind, attribute in edited):
        return "rest"
    return "range" if ("joint", "range") in edited else "motion"


def portrait(
    of: Domain,
    view: str = "rest",
    width: int = 480,
    height: int = 480,
    ranges_of: Domain | None = None,
) -> Image:
    """Draw a domain, (height, width, 3) uint8.

    Args:
        of: the domain.
        view: ``rest``, the initial pose; ``range``, its joints at both limits, overlaid;
            ``motion``, moments of an episode under fixed actions, overlaid.
        width: pixels.
        height: pixels.
        ranges_of: whose edited joints the ``range`` view moves; the domain's own by default.
    """
    model = build_model(of)
    picture = Picture(model, _still_camera(of), width, height)
    poses = {
        "rest": lambda: [_bent_pose(model, of)],
        "range": lambda: _limit_poses(model, ranges_of or of),
        "motion": lambda: _moving_poses(of),
    }[view]()
    frames = []
    for pose in poses:
        mujoco.mj_resetData(model, picture.data)
        picture.data.qpos[:] = pose
        frames.append(picture.render())
    picture.close()
    return _overlay(frames)


def side_by_side(shifted: Domain, width: int = 360, height: int = 360) -> Image:
    """Draw the unshifted robot and the shifted one, labelled, (height + 28, 2 * width, 3)."""
    source, view = domain(shifted.robot), view_of(shifted)
    left = portrait(source, view, width, height, ranges_of=shifted)
    right = portrait(shifted, view, width, height)
    return np.concatenate([caption(left, source.slug), caption(right, shifted.slug)], axis=1)


def caption(image: Image, text: str, band: int = 28) -> Image:
    """Write a line of text under an image."""
    from PIL import Image as Pillow
    from PIL import ImageDraw, ImageFont

    height, width, _ = image.shape
    canvas = Pillow.new("RGB", (width, height + band), "white")
    canvas.paste(Pillow.fromarray(image), (0, 0))
    font = ImageFont.load_default(size=15)
    font = ImageFont.load_default(size=min(15, 15 * (width - 12) / font.getlength(text)))
    ImageDraw.Draw(canvas).text(
        (width / 2, height + band / 2), text, fill="black", font=font, anchor="mm"
    )
    return np.asarray(canvas)


@dataclass(frozen=True)
class Film:
    """Say how to film an episode.

    Attributes:
        policy: who acts: ``random``, ``zero``, a packaged tier of the filmed domain (``expert``;
            ``top`` is its expert or else its best), a packaged policy (``hopper/expert``) or a
            policy file.
        steps: environment steps.
        every: environment steps from one frame to the next.
        seed: seed of the first episode and of random actions.
        width: pixels of one robot.
        height: pixels.
        act: who acts instead, actions (N, A) at observations (N, O).
    """

    policy: str = "random"
    steps: int = 200
    every: int = 4
    seed: int = 0
    width: int = 480
    height: int = 480
    act: Act | None = None

    def frames(self, of: Domain) -> Iterator[Image]:
        """Film one domain; an episode that ends starts anew."""
        act = self.act or actor(of, self.policy, self.seed)
        env: Any = of.make(render_mode="rgb_array", width=self.width, height=self.height)
        observation, _ = env.reset(seed=self.seed)
        for step in range(self.steps):
            if step % self.every == 0:
                yield env.render()
            observation, _, terminated, truncated, _ = env.step(act(observation[None])[0])
            if terminated or truncated:
                observation, _ = env.reset()
        env.close()

    def fps(self, of: Domain) -> float:
        """Give the frames of a second, in the robot's own time."""
        return TASKS[of.robot].fps / self.every

    def write(self, path: Path, domains: Sequence[Domain]) -> None:
        """Film domains side by side, labelled; .gif, or .mp4 where imageio-ffmpeg is installed."""
        from tqdm import tqdm

        films = [self.frames(of) for of in domains]
        total = -(-self.steps // self.every)
        frames = []
        for moment in tqdm(zip(*films, strict=True), total=total, unit="frame", disable=None):
            captioned = [caption(f, of.slug) for f, of in zip(moment, domains, strict=True)]
            frames.append(np.concatenate(captioned, axis=1))
        _write_video(path, frames, self.fps(domains[0]))


def write_film(path: Path, frames: Iterable[Image], text: str, fps: float) -> None:
    """Write frames as a video with a line of text under each."""
    _write_video(path, [caption(frame, text) for frame in frames], fps)


def film_strip(path: Path, frames: Iterable[Image], text: str, count: int = 6) -> None:
    """Write ``count`` moments of a film side by side, the first and the last among them."""
    taken = list(frames)
    chosen = np.unique(np.linspace(0, len(taken) - 1, count).round().astype(int))
    write_image(path, caption(np.concatenate([taken[k] for k in chosen], axis=1), text))


def actor(of: Domain, policy: str, seed: int) -> Act:
    """Give who acts in a film; see :class:`Film`."""
    if policy in ("random", "zero"):
        act = random_act(of, seed)
        return act if policy == "random" else lambda observations: 0 * act(observations)
    if policy == "top":
        return policy_act(load_policy(top_policy(of)))
    whole = "/" in policy or policy.endswith(".safetensors")
    return policy_act(load_policy(policy if whole else f"{of.slug}/{policy}"))


def write_image(path: Path, image: Image) -> None:
    """Save a picture; the suffix says the format."""
    from PIL import Image as Pillow

    try:
        Pillow.fromarray(image).save(path)
    except ValueError as error:
        raise ShiftgymError(
            f"Cannot write {path}: {error}. Use .png, .jpg, .gif or .mp4."
        ) from None


def _write_video(path: Path, frames: Sequence[Image], fps: float) -> None:
    from PIL import Image as Pillow

    if path.suffix == ".gif":
        images = [Pillow.fromarray(frame) for frame in frames]
        palette = images[len(images) // 2].quantize(64)
        flat = Pillow.Dither.NONE
        first, *rest = [image.quantize(palette=palette, dither=flat) for image in images]
        first.save(path, save_all=True, append_images=rest, duration=1000 / fps, loop=0)
        return
    try:
        import imageio_ffmpeg  # noqa: F401  # type: ignore[import-not-found]
    except ImportError:
        fix = "pip install imageio-ffmpeg, or write a .gif"
        raise ShiftgymError(f".mp4 needs ffmpeg: {fix}.") from None
    import imageio.v3 as imageio

    imageio.imwrite(path, np.stack(list(frames)), fps=fps)


def _still_camera(of: Domain) -> dict[str, Any]:
    """Fix the camera on where the unshifted robot stands, the same for all of its domains."""
    camera = dict(TASKS[of.robot].camera)
    if of.robot in CLOSE:
        return CLOSE[of.robot]
    model = build_model(domain(of.robot))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    lookat = data.subtree_com[camera.pop("trackbodyid")] + HEADROOM.get(of.robot, 0.0)
    return camera | {"type": int(mujoco.mjtCamera.mjCAMERA_FREE), "lookat": lookat, "azimuth": 90.0}


def _limit_poses(model: mujoco.MjModel, shifted: Domain) -> list[NDArray[np.float64]]:
    """Give the poses with every edited joint at its lower, then at its upper limit."""
    edited = build_model(shifted)
    changed = np.any(edited.jnt_range != build_model(domain(shifted.robot)).jnt_range, axis=1)
    poses = []
    for side in (0, 1):
        pose = model.qpos0.copy()
        for joint in np.flatnonzero(changed):
            pose[model.jnt_qposadr[joint]] = model.jnt_range[joint, side]
        poses.append(pose)
    return poses


def _bent_pose(model: mujoco.MjModel, of: Domain) -> NDArray[np.float64]:
    """Give the model's own pose, with the joints of :data:`BENT` bent."""
    pose = model.qpos0.copy()
    for name, degrees in BENT.get(of.robot, {}).items():
        pose[model.joint(name).qposadr[0]] += np.deg2rad(degrees)
    return pose


def _moving_poses(of: Domain) -> list[NDArray[np.float64]]:
    """Give poses along an episode whose actions are drawn once and held."""
    env = of.make().unwrapped
    env.reset(seed=0)
    rng = np.random.default_rng(3)
    poses = [env.data.qpos.copy()]  # type: ignore[attr-defined]
    for step in range(1, max(STROBE_STEPS) + 1):
        if step % 6 == 1:
            action = rng.uniform(env.action_space.low, env.action_space.high)  # type: ignore[attr-defined]
        env.step(action.astype(np.float32))
        if step in STROBE_STEPS:
            poses.append(env.data.qpos.copy())  # type: ignore[attr-defined]
    return poses


def _overlay(frames: Sequence[Image]) -> Image:
    """Blend pictures, the last one as strong as all before it."""
    weights = np.array([1.0] * (len(frames) - 1) + [max(1, len(frames) - 1)])
    blended = np.tensordot(weights / weights.sum(), np.stack(frames).astype(float), axes=1)
    return np.clip(np.rint(blended), 0, 255).astype(np.uint8)

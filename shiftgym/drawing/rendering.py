"""Pictures by Gymnasium's MuJoCo renderer: whose it is, what it may be told, when it is freed."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from shiftgym.basics.errors import RenderError, ShiftgymError, nearest
from shiftgym.drawing.opengl import check_window, explain_gl, prefer_headless

if TYPE_CHECKING:  # importing MuJoCo can already fail for want of OpenGL; see explain_gl
    import mujoco

OPTIONS = ("width", "height", "camera_id", "camera_name", "max_geom", "visual_options")
OTHERS = (  # what else an environment is told, to say of a misspelt word what was meant
    "shift", "physics", "render_mode", "camera", "randomize", "randomize_every",
    "observe_parameters",
)  # fmt: skip
CAMERA = (
    "distance", "azimuth", "elevation", "lookat", "type", "trackbodyid", "fixedcamid",
    "orthographic",
)  # fmt: skip


class Owner(NamedTuple):
    """Name the process and the thread whose OpenGL context a renderer has."""

    process: int
    thread: threading.Thread

    @classmethod
    def here(cls) -> Owner:
        """Give the process and the thread that run this."""
        return cls(os.getpid(), threading.current_thread())


_owners: WeakKeyDictionary[Any, Owner] = WeakKeyDictionary()  # renderer -> who made its pictures
_abandoned: list[tuple[Owner, list[Any]]] = []  # contexts closed where they may not be freed


def check_rendering(camera: Mapping[str, Any] | None, options: Mapping[str, Any]) -> None:
    """Refuse unknown keyword arguments of an environment, and unknown settings of its camera.

    Raises:
        ShiftgymError: the message names the nearest that is known.
    """
    for what, given, valid in (("argument", options, OPTIONS), ("camera", camera or {}, CAMERA)):
        for name in given:
            if name not in valid:
                kind = "setting of the camera" if what == "camera" else "argument"
                known = valid if what == "camera" else (*valid, *OTHERS)
                raise ShiftgymError(f"Unknown {kind} {name!r}. {nearest(str(name), known)}")


def check_camera(model: mujoco.MjModel, options: Mapping[str, Any]) -> None:
    """Refuse a camera that the model does not have.

    Raises:
        ShiftgymError: the message names those that it has.
    """
    name, number = options.get("camera_name"), options.get("camera_id")
    names = [model.camera(index).name for index in range(model.ncam)]
    if name is not None and name not in names:
        raise ShiftgymError(f"Unknown camera_name {name!r}. {nearest(str(name), names)}")
    if number is not None and not -1 <= number < len(names):
        raise ShiftgymError(
            f"Unknown camera_id {number}: -1 is the free camera, 0 to {len(names) - 1} are "
            f"{', '.join(names)}."
        )
    if name is not None and number is not None:
        raise ShiftgymError("Give camera_name or camera_id, not both.")


def follow(renderer: Any, options: Mapping[str, Any]) -> None:
    """Let camera settings hold where no camera of the model is asked for.

    Gymnasium's renderer turns every camera that is not named into a free one that stands still,
    whatever ``type`` says; 1.2.2's takes the model's own `track`, and no setting holds.
    """
    if options.get("camera_name") is None and options.get("camera_id") in (None, -1):
        renderer.camera_id = None if "type" in (renderer.default_cam_config or {}) else -1


def render_with(renderer: Any, mode: str | None) -> Any:
    """Render with a Gymnasium renderer, whatever other environments did to OpenGL meanwhile.

    Args:
        renderer: a MujocoRenderer. It does not make its own context current, so that a picture
            taken after another environment was closed would come out black.
        mode: the render mode.

    Raises:
        RenderError: no mode, no OpenGL here, no display, or a renderer of another thread or
            process; the message says what to do.
    """
    if mode is None:
        raise RenderError('Make the environment with render_mode="rgb_array" to render it.')
    here = Owner.here()
    owner = _owners.get(renderer, here)
    if owner.process != here.process:
        raise RenderError(
            "The first picture of this environment was made in another process, and OpenGL does "
            "not survive a fork: make the environment in this process."
        )
    if owner.thread is not here.thread:
        raise RenderError(
            f"The first picture of this environment was made in thread {owner.thread.name!r}, and "
            f"OpenGL stays there: render there, not in {here.thread.name!r}, or close() first."
        )
    if mode == "human" and renderer.viewer is None:
        check_window()
    prefer_headless()
    with explain_gl(mode):
        if renderer.viewer is not None:
            renderer.viewer.make_context_current()
        picture = renderer.render(mode)
    if not _owners and not _abandoned:
        # Python's own end comes after EGL's, and would complain of every context still open.
        atexit.register(_free_all)
    _owners[renderer] = here
    return picture


def close_renderer(renderer: Any) -> None:
    """Free a Gymnasium renderer's OpenGL contexts; it makes new ones when it renders again."""
    viewers, owner = list(renderer._viewers.values()), _owners.pop(renderer, Owner.here())
    renderer._viewers.clear()
    renderer.viewer = None
    if owner != Owner.here():
        _abandoned.append((owner, viewers))
        return
    for viewer in viewers:
        viewer.make_context_current()
        viewer.con.free()  # while its context is current: else it frees another's names
        viewer.free()  # its close() would terminate GLFW, and with it the windows of others


def _free_all() -> None:
    for renderer in list(_owners):
        close_renderer(renderer)
    for owner, viewers in _abandoned:
        for viewer in viewers if owner.process == os.getpid() else ():
            viewer.free()


class Picture:
    """Take pictures of one model and its data with Gymnasium's renderer.

    Attributes:
        model: the model; may be overwritten in place with one of the same sizes.
        data: the data; write a state into it before rendering.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        camera: Mapping[str, Any],
        width: int = 480,
        height: int = 480,
        **options: Any,
    ):
        """Prepare; OpenGL is first touched by :meth:`render`."""
        import mujoco
        from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer

        self.model, self.data = model, mujoco.MjData(model)
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, width)
        model.vis.global_.offheight = max(model.vis.global_.offheight, height)
        self._renderer = MujocoRenderer(
            model, self.data, camera_config(camera), width, height, **options
        )
        follow(self._renderer, options)

    def render(self, mode: str | None = "rgb_array") -> Any:
        """Compute the data's derived fields and take a picture.

        Raises:
            RenderError: no OpenGL here; the message says what to set or install.
        """
        import mujoco

        mujoco.mj_forward(self.model, self.data)
        return render_with(self._renderer, mode)

    def close(self) -> None:
        """Free the OpenGL context; a picture taken later makes a new one."""
        close_renderer(self._renderer)


def camera_config(camera: Mapping[str, Any]) -> dict[str, Any]:
    """Turn JSON-able camera settings into what Gymnasium's renderer takes."""
    return {k: np.array(v) if isinstance(v, list | tuple) else v for k, v in camera.items()}

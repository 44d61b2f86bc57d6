"""OpenGL without a display: choose a backend, and explain what is missing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from shiftgym.errors import RenderError

if TYPE_CHECKING:  # importing MuJoCo can already fail for want of OpenGL; see explain_gl
    import mujoco

HELP = (
    "MuJoCo found no OpenGL ({reason}). Without a display, set MUJOCO_GL=egl "
    "(or MUJOCO_GL=osmesa) before Python starts. On Debian or Ubuntu the libraries are "
    "'apt-get install libegl1 libgl1 libgles2' for egl and 'apt-get install libosmesa6' for osmesa."
)
GL_WORDS = ("opengl", "egl", "glfw", "osmesa", "gladload", "display", "glgeterror", "mujoco_gl")
_failed: dict[str | None, str] = {}  # backend -> reason: a second try would abort the process


def prefer_headless() -> None:
    """Choose EGL where there is no display and the user chose nothing; call before rendering."""
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform.startswith("linux") and not display:
        os.environ.setdefault("MUJOCO_GL", "egl")


@contextmanager
def explain_gl(mode: str | None = None) -> Iterator[None]:
    """Turn whatever a missing OpenGL raises into a RenderError that says what to do."""
    backend = "window" if mode == "human" else os.environ.get("MUJOCO_GL")
    if backend in _failed:
        raise RenderError(HELP.format(reason=_failed[backend]))
    try:
        yield
    except RenderError:
        raise
    except Exception as error:
        if _about_gl(error):
            _failed[backend] = _first_line(error)
            raise RenderError(HELP.format(reason=_failed[backend])) from error
        raise


def follow(renderer: Any) -> None:
    """Let a camera setting ``type``, such as a tracking camera, hold.

    Gymnasium's renderer turns every camera that is not named into a free one that stands still.
    """
    if renderer.camera_id == -1 and "type" in (renderer.default_cam_config or {}):
        renderer.camera_id = None


def render_with(renderer: Any, mode: str | None) -> Any:
    """Render with a Gymnasium renderer, whatever other environments did to OpenGL meanwhile.

    Args:
        renderer: a MujocoRenderer. It does not make its own context current, so that a picture
            taken after another environment was closed would come out black.
        mode: the render mode.

    Raises:
        RenderError: no OpenGL here; the message says what to set or install.
    """
    prefer_headless()
    with explain_gl(mode):
        if renderer.viewer is not None:
            renderer.viewer.make_context_current()
        return renderer.render(mode)


def _about_gl(error: Exception) -> bool:
    text = f"{type(error).__module__} {type(error).__name__} {error}".lower()
    return any(word in text for word in GL_WORDS)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


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
        follow(self._renderer)

    def render(self, mode: str | None = "rgb_array") -> Any:
        """Compute the data's derived fields and take a picture.

        Raises:
            RenderError: no OpenGL here; the message says what to set or install.
        """
        import mujoco

        mujoco.mj_forward(self.model, self.data)
        return render_with(self._renderer, mode)

    def close(self) -> None:
        """Free the OpenGL context."""
        self._renderer.close()


def camera_config(camera: Mapping[str, Any]) -> dict[str, Any]:
    """Turn JSON-able camera settings into what Gymnasium's renderer takes."""
    return {k: np.array(v) if isinstance(v, list | tuple) else v for k, v in camera.items()}

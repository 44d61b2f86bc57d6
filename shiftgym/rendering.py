"""OpenGL without a display: choose a backend, and explain what is missing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import mujoco
import numpy as np

from shiftgym.errors import RenderError

HELP = (
    "No picture: MuJoCo found no OpenGL ({reason}). Without a display, set MUJOCO_GL=egl "
    "(or MUJOCO_GL=osmesa) before Python starts. On Debian or Ubuntu the libraries are "
    "'apt-get install libegl1 libgl1 libgles2' for egl and 'apt-get install libosmesa6' for osmesa."
)


def prefer_headless() -> None:
    """Choose EGL where there is no display and the user chose nothing; call before rendering."""
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform.startswith("linux") and not display:
        os.environ.setdefault("MUJOCO_GL", "egl")


@contextmanager
def explain_gl() -> Iterator[None]:
    """Turn whatever a missing OpenGL raises into a RenderError that says what to do."""
    try:
        yield
    except RenderError:
        raise
    except Exception as error:
        if _about_gl(error):
            raise RenderError(HELP.format(reason=_first_line(error))) from error
        raise


def _about_gl(error: Exception) -> bool:
    text = f"{type(error).__module__} {type(error).__name__} {error}".lower()
    return any(word in text for word in ("opengl", "egl", "glfw", "osmesa", "gladload", "display"))


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
        from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer

        self.model, self.data = model, mujoco.MjData(model)
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, width)
        model.vis.global_.offheight = max(model.vis.global_.offheight, height)
        self._renderer = MujocoRenderer(
            model, self.data, camera_config(camera), width, height, **options
        )

    def render(self, mode: str | None = "rgb_array") -> Any:
        """Compute the data's derived fields and take a picture.

        Raises:
            RenderError: no OpenGL here; the message says what to set or install.
        """
        mujoco.mj_forward(self.model, self.data)
        with explain_gl():
            return self._renderer.render(mode)

    def close(self) -> None:
        """Free the OpenGL context."""
        self._renderer.close()


def camera_config(camera: Mapping[str, Any]) -> dict[str, Any]:
    """Turn JSON-able camera settings into what Gymnasium's renderer takes."""
    return {k: np.array(v) if isinstance(v, list | tuple) else v for k, v in camera.items()}

"""OpenGL without a display: choose a backend, and explain what is missing."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from shiftgym.errors import RenderError

INSTALL = (
    "Without a display, set MUJOCO_GL=egl (or MUJOCO_GL=osmesa) before Python starts. On Debian or "
    "Ubuntu the libraries are 'apt-get install libegl1 libgl1 libgles2' for egl and "
    "'apt-get install libosmesa6' for osmesa."
)
LATER = (
    "Earlier pictures of this process worked. Each renderer belongs to the thread that made its "
    "first picture, and open ones use memory: render in that thread, and close() what is done."
)
NO_WINDOW = (
    "render_mode='human' opens a window, and there is no display{why}. Pass "
    "render_mode='rgb_array', or run under 'xvfb-run' or 'ssh -X'."
)
GL_WORDS = ("opengl", "egl", "glfw", "osmesa", "gladload", "display", "glgeterror", "mujoco_gl")
LONGEST = 400  # characters of a reason
_failed: dict[str | None, str] = {}  # backend -> reason: a second try would abort the process
_worked: set[str | None] = set()  # backends that made a picture: whatever fails later may pass


def has_display() -> bool:
    """Say whether this machine may open a window; certain on Linux alone."""
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(display) or not sys.platform.startswith("linux")


def prefer_headless() -> None:
    """Choose EGL where there is no display and the user chose nothing; call before rendering."""
    if not has_display():
        os.environ.setdefault("MUJOCO_GL", "egl")


def check_window() -> None:
    """Refuse to open a window where GLFW would abort the process.

    Raises:
        RenderError: there is no display.
    """
    if not has_display():
        raise RenderError(NO_WINDOW.format(why=": DISPLAY and WAYLAND_DISPLAY are not set"))
    import glfw

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GLFW warns of what is said here
        if not glfw.init() or not glfw.get_primary_monitor():
            raise RenderError(NO_WINDOW.format(why=" that GLFW can use"))


@contextmanager
def explain_gl(mode: str | None = None) -> Iterator[None]:
    """Turn whatever a missing OpenGL raises into a RenderError that says what to do.

    A failure is remembered, but only of a backend that never made a picture in this process.

    Args:
        mode: the render mode of the picture made inside; None where none is made.
    """
    backend = "window" if mode == "human" else os.environ.get("MUJOCO_GL")
    if backend in _failed:
        raise RenderError(f"MuJoCo found no OpenGL ({_failed[backend]}). {INSTALL}")
    try:
        yield
    except RenderError:
        raise
    except Exception as error:
        if not _about_gl(error):
            raise
        reason = " ".join(_text(error).split())[:LONGEST]
        if backend in _worked:
            raise RenderError(f"OpenGL refused a picture ({reason}). {LATER}") from error
        _failed[backend] = reason
        raise RenderError(f"MuJoCo found no OpenGL ({reason}). {INSTALL}") from error
    if mode is not None:
        _worked.add(backend)


def _text(error: Exception) -> str:
    try:
        return str(error).strip() or type(error).__name__
    except Exception:  # PyOpenGL's errors cannot be printed while Python shuts down
        return type(error).__name__


def _about_gl(error: Exception) -> bool:
    text = f"{type(error).__module__} {type(error).__name__} {_text(error)}".lower()
    return any(word in text for word in GL_WORDS)

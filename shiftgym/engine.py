"""MuJoCo, imported with an explanation of what it lacks.

Importing it loads OpenGL, and fails where MUJOCO_GL asks for a backend that is not installed. So
every module takes it from here: ``from shiftgym.engine import mujoco``.
"""

from shiftgym.rendering import explain_gl

with explain_gl():
    import mujoco
    import mujoco.batch

__all__ = ["mujoco"]

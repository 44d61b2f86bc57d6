"""The environments: one file per robot family, one single and one vector environment."""

from shiftgym.rendering import explain_gl

with explain_gl():  # MuJoCo loads OpenGL when imported, and fails where MUJOCO_GL asks for too much
    import mujoco  # noqa: F401

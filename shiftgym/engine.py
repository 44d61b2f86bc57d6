"""MuJoCo, imported with an explanation of what it lacks.

Importing it loads OpenGL, and fails where MUJOCO_GL asks for a backend that is not installed. Its
version decides what an id means: see docs/install.md. So every module takes it from here:
``from shiftgym.engine import mujoco``.
"""

from __future__ import annotations

import re
import warnings

from shiftgym.errors import EngineError
from shiftgym.opengl import explain_gl

LOWEST, OTHER = (3, 17), (4,)  # mujoco.batch is there from; free bodies move differently from
FIX = "pip install 'mujoco>=3.17,<4'"
MEND = f"pip uninstall -y mujoco mujoco-core mujoco-studio && {FIX}"


def check_version(version: str) -> None:
    """Refuse an engine that is too old, and warn of one in which some robots are others.

    Args:
        version: such as ``3.17.0``.

    Raises:
        EngineError: too old.
    """
    number = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if number < LOWEST:
        raise EngineError(
            f"shiftgym needs MuJoCo 3.17 or newer, and this is {version}: it has no mujoco.batch. "
            f"Install one: {FIX}"
        )
    if number >= OTHER:
        warnings.warn(
            f"MuJoCo {version} integrates the orientation of free bodies in another way than 3.17, "
            "on which the -v0 ids are defined: Ant and Pen are other robots (episodes of Ant end "
            "at other steps, recorded data do not replay). Hopper, Walker2d, HalfCheetah and Door "
            f"agree from step to step but for rounding. To have them all: {FIX}",
            UserWarning,
            stacklevel=2,
        )


with explain_gl():
    try:
        import mujoco
    except ImportError as error:
        if "mujoco-core" not in str(error):
            raise
        raise EngineError(
            "MuJoCo is installed in parts: pip upgraded it in place from 3 to 4, whose wheels are "
            f"split. Mend it: {MEND}"
        ) from error
    check_version(mujoco.__version__)
    import mujoco.batch

__all__ = ["mujoco"]

"""Importing shiftgym is light and quiet."""

import os
import subprocess
import sys

LIGHT = """
import sys
import shiftgym
assert "mujoco" not in sys.modules, "importing shiftgym loads MuJoCo"
env = shiftgym.domain("pen").make()
env.reset(seed=0)
env.step(env.action_space.sample())
for heavy in ("torch", "gymnasium_robotics", "matplotlib", "minari", "OpenGL"):
    assert heavy not in sys.modules, heavy
"""


def test_an_environment_needs_neither_torch_nor_the_asset_packages_code():
    environment = {k: v for k, v in os.environ.items() if k != "MUJOCO_GL"}
    command = [sys.executable, "-c", LIGHT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "" and done.stderr == ""

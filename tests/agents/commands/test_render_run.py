"""Films of trained runs, in shiftgym's domains and elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from run_helpers import some_policy, write_run

import shiftgym
from shiftgym.cli import main

POINT = '''
import gymnasium as gym
import numpy as np

class Point(gym.Env):
    """A white column that stands where the last action said."""
    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}
    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Box(-1, 1, (1,))

    def __init__(self, render_mode=None):
        self.render_mode, self.at = render_mode, 0.0

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.at = float(action[0])
        return np.array([self.at, 1], np.float32), 0.0, False, False, {}

    def render(self):
        image = np.zeros((40, 60, 3), np.uint8)
        image[:, int(30 + 29 * self.at)] = 255
        return image

gym.register("PointAlong-v0", Point, max_episode_steps=10)
'''


def test_a_run_is_filmed_where_it_was_evaluated_and_elsewhere(
    tmp_path: Path, gl: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = shiftgym.domain("hopper-kinematic").kwargs()
    out = write_run(tmp_path / "x", some_policy(11, 3), place)
    film = ["--steps", "8", "--every", "2", "--width", "64", "--height", "64"]
    assert main(["render", "--run", str(out), *film]) == 0
    assert "bc, seed 7: hopper-kinematic" in capsys.readouterr().out
    with Image.open(out / "film-0.gif") as made:
        assert made.n_frames == 4 and made.size == (64, 92)  # pyright: ignore
    strip = tmp_path / "strip.png"
    elsewhere = ["render", "hopper-morph", f"--run={out}", "--index", "1", "--out", str(strip)]
    assert main([*elsewhere, *film]) == 0
    assert "bc, seed 8: hopper-morph" in capsys.readouterr().out
    assert Image.open(strip).size == (4 * 64, 92)


def test_an_environment_that_is_none_of_ours_is_filmed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "point.py").write_text(POINT)
    place = {"env": f"{tmp_path / 'point.py'}:PointAlong-v0", "options": {}, "own": False}
    out = write_run(tmp_path / "x", some_policy(2, 1), place)
    strip = tmp_path / "strip.png"
    arguments = ["render", "--run", str(out), "--out", str(strip), "--steps", "4", "--every", "1"]
    assert main(arguments) == 0
    picture = np.asarray(Image.open(strip))[:40]
    assert picture.shape == (40, 240, 3)
    columns = np.flatnonzero(picture[0, :, 0]) % 60
    assert len(columns) == 4 and columns[0] == 30
    action = float(some_policy(2, 1).act(np.zeros((2, 1, 2), np.float32))[0, 0, 0])
    assert columns[1] == int(30 + 29 * action) != 30


def test_what_cannot_be_filmed_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = write_run(tmp_path / "x", some_policy(2, 1), None)
    assert main(["render", "--run", str(out)]) == 2
    assert "was evaluated nowhere: name an environment" in capsys.readouterr().err
    assert main(["render", "--run", "no/such"]) == 1
    assert "not a run directory" in capsys.readouterr().err
    assert main(["render", "--run", "x", "--help"]) == 0
    assert "film-INDEX.gif" in capsys.readouterr().out

"""Test pictures where there is OpenGL, and the advice where there is none."""

from __future__ import annotations

import ctypes.util
import os
import sys

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from shiftgym_helpers import CATALOGUE, LOCOMOTION, ROBOTS, domains_of, run_python

import shiftgym
from shiftgym import RenderError, ShiftgymError
from shiftgym.envs.env import ShiftEnv

BROKEN_GL = """
import sys
import gymnasium as gym
import shiftgym

def complain(make):
    try:
        env = make()
        env.reset(seed=0)
        env.render()
    except shiftgym.RenderError as error:
        print("RenderError", error)

for _ in range(2):
    size = {"render_mode": "rgb_array", "width": 64, "height": 64}
    complain(lambda: gym.make("ShiftHopper-v0", **size))
    complain(lambda: shiftgym.make_vec("hopper", 2, **size))
"""
NO_GL_TOUCHED = """
import sys
import gymnasium as gym
import shiftgym

for mode in ("rgb_array", "depth_array"):
    env = gym.make("ShiftHopper-v0", render_mode=mode)
    envs = shiftgym.make_vec("hopper", 2, render_mode=mode)
    for made in (env, envs):
        made.reset(seed=0)
        made.step(made.action_space.sample())
        made.close()
touched = {name for name in sys.modules if name.split(".")[0] == "OpenGL"}
assert not touched, touched
"""
THREADS = """
import threading
import gymnasium as gym, shiftgym

def make(name):
    env = gym.make(name, render_mode="rgb_array", width=32, height=32)
    env.reset(seed=0)
    return env

def look(who, env):
    try:
        print(who, "picture" if env.render().std() > 5 else "BLACK")
    except shiftgym.RenderError as error:
        print(who, "RenderError:", error)

def in_thread(*arguments):
    thread = threading.Thread(target=look, args=arguments, name="painter")
    thread.start()
    thread.join()

hopper, ant = make("ShiftHopper-v0"), make("ShiftAnt-v0")
look("main", hopper)
in_thread("worker", hopper)
look("main", hopper)
in_thread("worker", ant)
look("main", ant)
look("main", make("ShiftDoor-v0"))
ant.close()
look("main", ant)
look("main", hopper)
"""
LATE_FAILURE = """
import gymnasium as gym, shiftgym
from shiftgym.opengl import explain_gl

env = gym.make("ShiftHopper-v0", render_mode="rgb_array", width=32, height=32)
env.reset(seed=0)
env.render()
for _ in range(2):
    try:
        with explain_gl("rgb_array"):
            raise RuntimeError("EGLError(\\n  err = EGL_BAD_ACCESS,\\n  result = 0\\n)")
    except shiftgym.RenderError as error:
        print(error)
print("picture", env.render().std() > 5)
"""
WINDOW = """
import gymnasium as gym, shiftgym
env = gym.make("ShiftHopper-v0", render_mode="human")
for use in (env.reset, env.unwrapped.render):
    try:
        use()
    except shiftgym.RenderError as error:
        print("RenderError", error)
"""
FORKED = """
import os
import gymnasium as gym, shiftgym
env = gym.make("ShiftHopper-v0", render_mode="rgb_array", width=32, height=32)
env.reset(seed=0)
first = env.render()
if os.fork() == 0:
    try:
        env.render()
    except shiftgym.RenderError as error:
        print("child:", error, flush=True)
    env.close()
    print("child closed", flush=True)
    os._exit(0)
os.wait()
print("parent", (env.render() == first).all())
"""
HEADLESS = {"DISPLAY": None, "WAYLAND_DISPLAY": None}
linux = pytest.mark.skipif(sys.platform != "linux", reason="DISPLAY means something on Linux only")
no_osmesa = pytest.mark.skipif(
    ctypes.util.find_library("OSMesa") is not None, reason="OSMesa is installed here"
)


@pytest.mark.parametrize(
    "backend", [pytest.param("glfw", marks=linux), pytest.param("osmesa", marks=no_osmesa), "nope"]
)
def test_without_opengl_the_error_says_what_to_set_and_to_install(backend: str):
    done = run_python(BROKEN_GL, MUJOCO_GL=backend, **HEADLESS)
    assert done.returncode == 0, done.stderr
    messages = [line for line in done.stdout.splitlines() if line.startswith("RenderError")]
    assert len(messages) == 4, done.stdout + done.stderr
    for message in messages:
        assert "MUJOCO_GL=egl" in message and "MUJOCO_GL=osmesa" in message
        assert "apt-get install" in message


def test_without_pyopengl_the_error_says_what_to_set():
    hidden = "import sys; sys.modules['OpenGL'] = None\n"
    done = run_python(hidden + BROKEN_GL, MUJOCO_GL="egl", **HEADLESS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("RenderError MuJoCo found no OpenGL") == 4, done.stdout


def test_making_and_stepping_touch_no_opengl():
    done = run_python(NO_GL_TOUCHED, MUJOCO_GL=None, **HEADLESS)
    assert done.returncode == 0, done.stderr


@linux
def test_without_a_display_egl_is_chosen_where_it_works(gl: str):
    if gl != "egl":
        pytest.skip(f"MUJOCO_GL={gl} was asked for")
    code = BROKEN_GL + "print('MUJOCO_GL', __import__('os').environ['MUJOCO_GL'])"
    done = run_python(code, MUJOCO_GL=None, **HEADLESS)
    assert (done.returncode, done.stdout.split()) == (0, ["MUJOCO_GL", "egl"]), done.stderr


@pytest.mark.parametrize("robot", ROBOTS)
def test_single_environments_render_what_the_robot_does(robot: str, gl: str):
    env = gym.make(shiftgym.domain(robot).env_id, render_mode="rgb_array", width=120, height=80)
    env.reset(seed=0)
    first = env.render()
    assert isinstance(first, np.ndarray)
    assert first.shape == (80, 120, 3) and first.dtype == np.uint8
    assert first.std() > 5
    np.testing.assert_array_equal(env.render(), first)
    for _ in range(15):
        env.step(env.action_space.high)
    assert not np.array_equal(env.render(), first)
    env.close()


@pytest.mark.parametrize("mode", ["depth_array", "rgbd_tuple"])
def test_depth_is_rendered_too(mode: str, gl: str):
    env = gym.make("ShiftAnt-v0", render_mode=mode, width=64, height=48)
    envs = shiftgym.make_vec("ant", 2, render_mode=mode, width=64, height=48)
    env.reset(seed=0)
    envs.reset(seed=0)
    for picture in (env.render(), envs.render(0)):
        depth = picture[1] if mode == "rgbd_tuple" else picture
        assert np.shape(depth) == (48, 64)


@pytest.mark.parametrize(
    ("robot", "shifted"), [("hopper", "hopper-morph"), ("pen", "pen-morph-easy")]
)
def test_sub_environments_are_rendered_as_their_single_environments(
    robot: str, shifted: str, gl: str
):
    domains = [domains_of(robot)[0], CATALOGUE[shifted]]
    size = {"render_mode": "rgb_array", "width": 64, "height": 64}
    envs = shiftgym.make_vec(domains, **size)
    envs.reset(seed=4)
    envs.step(np.zeros(envs.action_space.shape, np.float32))
    frames = envs.render()
    assert len(frames) == 2
    for row, domain in enumerate(domains):
        env = domain.make(**size)
        env.reset(seed=4 + row)
        env.step(np.zeros(env.action_space.shape, np.float32))
        mujoco.mj_forward(env.unwrapped.model, env.unwrapped.data)  # a step leaves them behind
        np.testing.assert_array_equal(frames[row], env.render())
        env.close()
    np.testing.assert_array_equal(envs.render(0), frames[0])
    envs.close()
    envs.close()


def test_closing_another_environment_does_not_blacken_pictures(gl: str):
    envs = [gym.make("ShiftHopper-v0", render_mode="rgb_array") for _ in range(2)]
    for env in envs:
        env.reset(seed=0)
    before, _ = (env.render() for env in envs)
    envs[1].close()
    np.testing.assert_array_equal(envs[0].render(), before)
    envs[0].close()


def test_rendering_leaves_the_trajectory_alone(gl: str):
    def run(render: bool) -> list[np.ndarray]:
        env = gym.make("ShiftAnt-v0", render_mode="rgb_array", width=32, height=32)
        envs = shiftgym.make_vec("ant", 2, render_mode="rgb_array", width=32, height=32)
        found = []
        for made in (env, envs):
            made.reset(seed=0)
            made.action_space.seed(0)
            for _ in range(5):
                if render:
                    made.render()
                found.append(made.step(made.action_space.sample())[0])
        return found

    for plain, rendered in zip(run(False), run(True), strict=True):
        np.testing.assert_array_equal(plain, rendered)


@pytest.mark.parametrize("robot", LOCOMOTION)
def test_the_camera_follows_the_robot(robot: str, gl: str):
    env = shiftgym.domain(robot).make(render_mode="rgb_array", width=64, height=64).unwrapped
    env.reset(seed=0)
    for distance in (0.0, 30.0):
        qpos = env.init_qpos.copy()
        qpos[0] += distance
        env.set_state(qpos, env.init_qvel)
        env.render()
        lookat = env.mujoco_renderer.viewer.cam.lookat
        assert lookat[0] == pytest.approx(distance, abs=0.3)
    env.close()


def test_the_camera_can_be_moved(gl: str):
    frames = []
    for distance in (3.0, 9.0):
        env = gym.make("ShiftHopper-v0", render_mode="rgb_array", camera={"distance": distance})
        env.reset(seed=0)
        frames.append(env.render())
        env.close()
    assert not np.array_equal(*frames)


def test_a_vector_environment_without_a_render_mode_says_how_to_get_one():
    envs = shiftgym.make_vec("hopper", 2)
    envs.reset(seed=0)
    with pytest.raises(ShiftgymError, match='render_mode="rgb_array"'):
        envs.render(0)
    with pytest.raises(ShiftgymError, match="rgb_array, depth_array, rgbd_tuple, not 'human'"):
        shiftgym.make_vec("hopper", 2, render_mode="human")


@linux
@pytest.mark.parametrize(
    ("display", "said"),
    [({}, "DISPLAY and WAYLAND_DISPLAY are not set"), ({"DISPLAY": ":987"}, "that GLFW can use")],
)
@pytest.mark.parametrize("backend", [None, "egl"])
def test_without_a_display_a_window_is_refused_in_words(
    display: dict[str, str], said: str, backend: str | None
):
    pytest.importorskip("glfw")
    done = run_python(WINDOW, MUJOCO_GL=backend, **(HEADLESS | display))
    assert done.returncode == 0, done.stderr
    messages = [line for line in done.stdout.splitlines() if line.startswith("RenderError")]
    assert len(messages) == 2, done.stdout + done.stderr
    assert all(said in m and "render_mode='rgb_array'" in m for m in messages), messages


def test_a_renderer_belongs_to_a_thread_and_says_so(gl: str):
    done = run_python(THREADS)
    said = done.stdout.splitlines()
    assert [line.split()[:2] for line in said] == [
        ["main", "picture"],
        ["worker", "RenderError:"],
        ["main", "picture"],
        ["worker", "picture"],
        ["main", "RenderError:"],
        ["main", "picture"],
        ["main", "picture"],
        ["main", "picture"],
    ], done.stdout + done.stderr
    assert "in thread 'MainThread'" in said[1] and "not in 'painter'" in said[1]
    assert "in thread 'painter'" in said[4]
    assert done.stderr == "", done.stderr


def test_a_failure_after_a_success_is_told_whole_and_not_remembered(gl: str):
    done = run_python(LATE_FAILURE)
    first, second, last = done.stdout.splitlines()
    assert first == second and last == "picture True"
    assert "(EGLError( err = EGL_BAD_ACCESS, result = 0 ))" in first
    assert "thread" in first and "found no OpenGL" not in first


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_after_a_fork_a_renderer_says_so(gl: str):
    done = run_python(FORKED)
    said = done.stdout.splitlines()
    assert "does not survive a fork" in said[0], done.stdout + done.stderr
    assert said[1:] == ["child closed", "parent True"]


def test_a_picture_after_close_is_the_picture(gl: str):
    size = {"render_mode": "rgb_array", "width": 48, "height": 48}
    env, envs = gym.make("ShiftHopper-v0", **size), shiftgym.make_vec("hopper", 2, **size)
    other = gym.make("ShiftAnt-v0", **size)
    for made in (env, envs, other):
        made.reset(seed=0)
    pictures = [env.render(), envs.render(0), other.render()]
    for _ in range(2):
        env.close()
        np.testing.assert_array_equal(other.render(), pictures[2])
        envs.close()
        np.testing.assert_array_equal(other.render(), pictures[2])
        np.testing.assert_array_equal(env.render(), pictures[0])
        np.testing.assert_array_equal(envs.render(0), pictures[1])
    for made in (env, envs, other):
        made.close()
        made.close()


def test_an_environment_without_a_render_mode_says_how_to_get_one():
    env = gym.make("ShiftHopper-v0", disable_env_checker=True)
    env.reset(seed=0)
    with pytest.raises(RenderError, match='render_mode="rgb_array"'):
        env.render()
    with pytest.raises(ShiftgymError, match="'rgb_aray'. Did you mean 'rgb_array'"):
        ShiftEnv("hopper", render_mode="rgb_aray")

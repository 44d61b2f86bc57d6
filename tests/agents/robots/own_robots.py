"""Two robots that are none of shiftgym's, as a user would write them."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.envs.classic_control.pendulum import PendulumEnv

SLIDER = """
<mujoco>
  <option timestep="0.02"/>
  <worldbody>
    <body name="cart">
      <joint name="slide" type="slide" axis="1 0 0" damping="0.5"/>
      <geom type="box" size="0.1 0.1 0.1" mass="{mass}"/>
      <body name="pole" pos="0 0 0.1">
        <joint name="hinge" type="hinge" axis="0 1 0"/>
        <geom type="capsule" fromto="0 0 0 0 0 0.5" size="0.03" mass="0.2"/>
      </body>
    </body>
  </worldbody>
  <actuator><motor joint="slide" ctrlrange="-3 5" ctrllimited="true"/></actuator>
</mujoco>
"""


class HeavyPendulum(PendulumEnv):
    """Gymnasium's pendulum with a mass of its own."""

    def __init__(self, mass: float = 2.0, **options: Any) -> None:
        super().__init__(**options)
        self.m = mass


class Slider(gym.Env):
    """A cart with a pole from an XML of a few lines; it is over when the pole has fallen."""

    def __init__(self, mass: float = 1.0) -> None:
        self.model = mujoco.MjModel.from_xml_string(SLIDER.format(mass=mass))
        self.data = mujoco.MjData(self.model)
        low, high = self.model.actuator_ctrlrange.T.astype(np.float32)
        self.action_space = gym.spaces.Box(low, high)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (4,), np.float64)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = self.np_random.uniform(-0.05, 0.05, 2)
        return self._seen(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        assert self.action_space.contains(np.asarray(action, np.float32)), action
        self.data.ctrl[:] = action
        mujoco.mj_step(self.model, self.data)
        seen = self._seen()
        return seen, float(np.cos(seen[1])), bool(fallen(seen[None])[0]), False, {}

    def _seen(self) -> np.ndarray:
        return np.concatenate([self.data.qpos, self.data.qvel])


def fallen(states: np.ndarray) -> np.ndarray:
    """Say in which states (N, 4) the pole has fallen, (N,) bool."""
    return np.abs(states[:, 1]) > 0.3


def never(states: np.ndarray) -> np.ndarray:
    """Say that no state (N, O) ends a pendulum's episode, (N,) bool."""
    return np.zeros(len(states), bool)


ROBOTS: dict[str, Any] = {"HeavyPendulum-v0": HeavyPendulum, "Slider-v0": Slider}
for _name, _entry in ROBOTS.items():
    if _name not in gym.registry:
        gym.register(_name, _entry, max_episode_steps=20)

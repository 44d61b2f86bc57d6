"""Bring a robot of your own: its model, its logs, and what ends its episodes.

    python examples/own_robot.py logs        record logs/light.npz (plenty) and logs/heavy.npz (few)

The robot is a cart that balances a pole. Plenty of logs are of a light cart, few of the heavy one
that a policy is wanted for. In your case the logs are there already, and only the environment that
policies are tested in is needed, or none.
"""

import sys
from pathlib import Path

import gymnasium as gym
import mujoco
import numpy as np

MODEL = """
<mujoco>
  <option timestep="0.02"/>
  <worldbody>
    <body>
      <joint name="slide" type="slide" axis="1 0 0" damping="0.1"/>
      <geom type="box" size="0.1 0.1 0.05" mass="{mass}"/>
      <body pos="0 0 0.05">
        <joint name="hinge" type="hinge" axis="0 1 0"/>
        <geom type="capsule" fromto="0 0 0 0 0 0.6" size="0.03" mass="0.3"/>
      </body>
    </body>
  </worldbody>
  <actuator><motor joint="slide" ctrlrange="-10 10" ctrllimited="true"/></actuator>
</mujoco>
"""
LIGHT, HEAVY = 0.5, 3.0  # kg


class Cart(gym.Env):
    """Balance the pole for 200 steps: a reward of 1 per step, less the distance from the middle."""

    def __init__(self, mass: float = HEAVY) -> None:
        self.model = mujoco.MjModel.from_xml_string(MODEL.format(mass=mass))
        self.data = mujoco.MjData(self.model)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (4,), np.float64)
        self.action_space = gym.spaces.Box(-10, 10, (1,), np.float32)  # newtons

    def reset(self, *, seed=None, options=None):
        """Start near the upright position."""
        super().reset(seed=seed)
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = self.np_random.uniform(-0.1, 0.1, 2)
        return self.seen(), {}

    def step(self, action):
        """Push for 0.02 s."""
        self.data.ctrl[:] = action
        mujoco.mj_step(self.model, self.data)
        state = self.seen()
        return state, 1.0 - min(abs(state[0]), 1.0), bool(fallen(state[None])[0]), False, {}

    def seen(self) -> np.ndarray:
        """Give position, angle and both velocities."""
        return np.concatenate([self.data.qpos, self.data.qvel])


def fallen(states: np.ndarray) -> np.ndarray:
    """Say in which states (N, 4) the pole has fallen, (N,) bool."""
    return np.abs(states[:, 1]) > 0.5


gym.register("HeavyCart-v0", Cart, max_episode_steps=200)


def record(mass: float, rows: int, gain: float, noise: float, seed: int) -> dict[str, np.ndarray]:
    """Record a linear controller: rows of (s, a, r, s') as a robot would log them."""
    env = gym.make("HeavyCart-v0", mass=mass)
    rng = np.random.default_rng(seed)
    names = ("observations", "actions", "rewards", "next_observations", "terminated", "truncated")
    log = {name: [] for name in names}
    state, over = env.reset(seed=seed)[0], False
    while len(log["rewards"]) < rows or not over:
        wanted = np.array([1.0, 30.0, 2.0, 6.0]) * gain @ state + noise * rng.normal()
        action = np.clip([wanted], -10, 10).astype(np.float32)
        after, reward, terminated, truncated, _ = env.step(action)
        row = (state, action, reward, after, terminated, truncated)
        for name, value in zip(names, row, strict=True):
            log[name].append(value)
        over = terminated or truncated
        state = env.reset()[0] if over else after
    return {name: np.array(values) for name, values in log.items()}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    logs = {"light": (LIGHT, 20_000, 2.0), "heavy": (HEAVY, 1_000, 1.0)}  # the latter's too weak
    for name, (mass, rows, gain) in logs.items():
        log = record(mass, rows, gain, noise=4.0, seed=0)
        np.savez(folder / f"{name}.npz", **log)
        episodes = (log["terminated"] | log["truncated"]).sum()
        earned = log["rewards"].sum() / episodes
        print(f"{name}: {len(log['rewards'])} rows, {episodes} episodes, mean return {earned:.1f}")

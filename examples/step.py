"""Step a shifted environment, alone and sixty-four at once."""

import time

import gymnasium as gym

import shiftgym

env = gym.make("ShiftHopper-kinematic-v0")
observation, info = env.reset(seed=0)
for _ in range(5):
    observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
print(f"One hopper: observation {observation.shape}, reward {reward:.3f}")

envs = gym.make_vec("ShiftHopper-kinematic-v0", num_envs=64)
envs.reset(seed=0)
actions = envs.action_space.sample()
start = time.perf_counter()
for _ in range(100):
    envs.step(actions)
rate = 6400 / (time.perf_counter() - start)
print(f"Sixty-four at once: {rate:,.0f} steps per second")

mixed = shiftgym.make_vec(["hopper", "hopper-morph", "hopper-friction-x0p37"])
mixed.reset(seed=0)
_, rewards, *_ = mixed.step(0 * mixed.action_space.sample())
print("The same action in", *(domain.slug for domain in mixed.domains), "pays", rewards.round(3))

"""Record rollouts as other people store them: D4RL, OTDF and Minari files, made on the spot."""

import json
from pathlib import Path

import h5py
import numpy as np

import shiftgym

FLAT = ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts")


def rollouts(env, lengths, seed=0, scale=1.0, hold=1):
    """Step random actions; an episode ends when terminated or after its length.

    Returns flat float32 arrays; the last row of an episode is terminal or a timeout.
    """
    parts = {name: [] for name in FLAT}
    rng = np.random.default_rng(seed)
    for episode, length in enumerate(lengths):
        observation, _ = env.reset(seed=seed + episode)
        for step in range(length):
            if step % hold == 0:
                action = (scale * rng.uniform(-1, 1, env.action_space.shape)).astype(np.float32)
            after, reward, terminated, _, _ = env.step(action)
            row = (observation, action, reward, after, terminated)
            last = not terminated and step == length - 1
            for name, value in zip(FLAT, (*row, last), strict=True):
                parts[name].append(value)
            observation = after
            if terminated:
                break
    arrays = {name: np.asarray(values, np.float32) for name, values in parts.items()}
    return arrays | {name: arrays[name].astype(bool) for name in FLAT[4:]}


def recorded(slug, lengths, **kwargs):
    """Record in a domain of shiftgym."""
    env = shiftgym.domain(slug).make(max_episode_steps=10**6)
    return rollouts(env, lengths, **kwargs)


def ends(arrays):
    """Give the rows that end an episode."""
    return np.flatnonzero(arrays["terminals"] | arrays["timeouts"])


def joined(arrays):
    """Bake in what OTDF's medium_expert files hold: next observations are the next row's."""
    after = arrays["observations"][1:]
    cut = {name: values[:-1] for name, values in arrays.items()}
    return cut | {"next_observations": after}


def without(arrays, *names):
    """Leave arrays out."""
    return {name: values for name, values in arrays.items() if name not in names}


def write_flat(path, arrays, columns=False, extras=True, **options):
    """Write a flat file; ``columns`` writes rewards and flags as (N, 1), as OTDF does."""
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            narrow = columns and values.ndim == 1
            file.create_dataset(name, data=values[:, None] if narrow else values, **options)
        if extras:
            file["metadata/algorithm"] = "SAC"
            file["infos/qpos"] = np.zeros((3, 2))
    return Path(path)


def write_minari(folder, arrays, name="mujoco/hopper/medium-v0", **metadata):
    """Write a Minari folder, float64 and chunked as Minari's own."""
    data = Path(folder) / name / "data"
    data.mkdir(parents=True)
    bounds = np.concatenate(([0], ends(arrays) + 1))
    with h5py.File(data / "main_data.hdf5", "w") as file:
        for k, (start, stop) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
            rows, group = slice(start, stop), file.create_group(f"episode_{k}")
            group.attrs["seed"] = "None"
            states = (arrays["observations"][rows], arrays["next_observations"][stop - 1 : stop])
            columns = {
                "observations": np.concatenate(states).astype(float),
                "actions": arrays["actions"][rows],
                "rewards": arrays["rewards"][rows].astype(float),
                "terminations": arrays["terminals"][rows],
                "truncations": arrays["timeouts"][rows],
            }
            for key, values in columns.items():
                group.create_dataset(key, data=values, chunks=True)
            group["infos/x_position"] = np.zeros(stop - start + 1)
    told = {"dataset_id": name, "data_format": "hdf5", "total_steps": int(bounds[-1])}
    told |= {"total_episodes": len(bounds) - 1} | metadata
    (data / "metadata.json").write_text(json.dumps(told))
    return Path(folder) / name

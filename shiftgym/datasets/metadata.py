"""What a dataset says about itself: Minari's keys, and shiftgym's own under ``shiftgym``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box

from shiftgym.datasets.flat import spaces
from shiftgym.datasets.names import MAX_SIZE, DatasetName, dataset_name
from shiftgym.datasets.places import settled
from shiftgym.domains import Domain, from_kwargs
from shiftgym.edits import dump_edits, is_finite
from shiftgym.errors import ShiftgymError, shown
from shiftgym.plain_files import read_plain
from shiftgym.project import AUTHORS, DATA_LICENCE, contact, permalink
from shiftgym.scores import default_reference, reference

FORMAT = 1
METADATA = "metadata.json"
LARGEST = 4 << 20  # bytes of a metadata file that is believed
MINARI_FORMAT = "0.5.4"  # the version of Minari whose layout is written
REQUIREMENTS = ["shiftgym>=0.1.0", "mujoco>=3.17,<4"]
SCORED_EPISODES = 100
TEXTS = ("description", "algorithm", "author", "author_email", "code_permalink")
UNFIT = (KeyError, TypeError, ValueError, AttributeError, AssertionError, RecursionError,
         OverflowError, gym.error.Error)  # fmt: skip
RESERVED = (
    "format", "name", "domain", "robot", "shift", "edits", "size", "quality", "origin", "made",
    "sha256", "content", "return", "whole_episodes", "reference", "versions",
)  # fmt: skip


def env_spec(of: Domain) -> EnvSpec:
    """Give the Gymnasium spec that rebuilds a domain on any machine; its kwargs are JSON-able."""
    found = gym.spec(of.env_id)
    return EnvSpec(
        id=found.id,
        entry_point=found.entry_point,
        max_episode_steps=found.max_episode_steps,
        kwargs=of.kwargs(),
        vector_entry_point=found.vector_entry_point,
    )


def build(
    name: DatasetName,
    about: Mapping[str, Any],
    *,
    episodes: int,
    mean_return: float | None,
    whole_episodes: int,
    megabytes: float,
    sha256: str,
    content: str,
) -> dict[str, Any]:
    """Give the contents of a set's metadata.json.

    Args:
        name: the set.
        about: ``description``, ``algorithm``, ``author``, ``author_email`` and ``code_permalink``
            fill Minari's keys (contact and permalink are left out while neither `about` nor
            :mod:`shiftgym.project` gives them); everything else that is JSON-able (``policies`` as
            name -> SHA-256, ``seed``, ``steps``, ...) is kept under ``shiftgym``.
        episodes: number of episodes.
        mean_return: undiscounted, over whole episodes (a terminal state or the time limit ended
            them); None where none is whole.
        whole_episodes: how many are.
        megabytes: size of the data file.
        sha256: checksum of the data file.
        content: checksum of the rows; see :mod:`shiftgym.datasets.canonical`.
    """
    spec = env_spec(name.domain).to_json()
    observations, actions = spaces(name.domain)
    own = {key: value for key, value in about.items() if key not in TEXTS}
    clash = sorted(set(own) & set(RESERVED))
    if clash:
        raise ShiftgymError(f"about must not hold {', '.join(clash)}: shiftgym writes them.")
    found: dict[str, Any] = {
        "dataset_id": name.minari,
        "minari_version": MINARI_FORMAT,
        "data_format": "hdf5",
        "jpeg_encoding": False,
        "total_episodes": episodes,
        "total_steps": name.size,
        "dataset_size": round(megabytes, 1),
        "observation_space": _box(observations),
        "action_space": _box(actions),
        "env_spec": spec,
        "eval_env_spec": spec,
        "author": [about.get("author", AUTHORS)],
        "algorithm_name": about.get("algorithm", "unknown"),
        "description": about.get("description") or describe(name),
        "requirements": REQUIREMENTS,
    }
    if email := about.get("author_email") or contact():
        found["author_email"] = [email]
    if link := about.get("code_permalink") or permalink(_version("shiftgym")):
        found["code_permalink"] = link
    if not name.origin:  # imported sets keep their own terms
        found["license"] = DATA_LICENCE
    table = default_reference(name.domain, name.origin)
    if table is not None:  # a domain of the user's own has none
        scale = reference(name.domain, table)
        found |= {
            "ref_min_score": scale.random,
            "ref_max_score": scale.expert,
            "num_episodes_average_score": SCORED_EPISODES,
        }
    found["shiftgym"] = own | {
        "format": FORMAT,
        "name": name.short,
        "domain": name.domain.slug,
        "robot": name.domain.robot,
        "shift": name.domain.shift,
        "edits": dump_edits(name.domain.edits),
        "size": name.size,
        "quality": name.quality,
        "origin": name.origin,
        "made": name.made,
        "return": mean_return,
        "whole_episodes": whole_episodes,
        "reference": table,
        "sha256": sha256,
        "content": content,
        "versions": {package: _version(package) for package in ("shiftgym", "mujoco", "numpy")},
    }
    return found


def describe(name: DatasetName) -> str:
    """Say in a sentence what a set holds."""
    shift = f"{name.domain.shift} shift" if name.domain.shift else "no shift"
    return (
        f"{name.size:,} transitions of {name.quality} quality of the {name.domain.robot} with "
        f"{shift} ({name.domain.env_id}), for cross-domain offline reinforcement learning. "
        f'Load as arrays with shiftgym.load("{name.short}").'
    )


def read_metadata(folder: Path) -> dict[str, Any]:
    """Read and check the metadata of a set that shiftgym wrote.

    Args:
        folder: the set's own folder, which holds ``data``.

    Raises:
        ShiftgymError: none there, not JSON, not shiftgym's, or contradicting itself.
    """
    return settled(folder, _read)


def _read(folder: Path) -> dict[str, Any]:
    path = folder / "data" / METADATA
    try:
        content = read_plain(path, LARGEST)
    except OSError as error:
        raise ShiftgymError(f"Cannot read {path}: {error}") from None
    return parse(content, str(folder))


def parse(content: bytes, where: str) -> dict[str, Any]:
    """Read and check the content of a metadata.json; `where` is for messages.

    Raises:
        ShiftgymError: not JSON, not shiftgym's, or contradicting itself.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ShiftgymError(f"The metadata of {where} are damaged: {error}") from None
    own = found.get("shiftgym") if isinstance(found, dict) else None
    if not isinstance(own, dict) or own.get("format") != FORMAT:
        raise ShiftgymError(
            f"{where} was not written by this version of shiftgym. "
            "To use data from elsewhere: shiftgym data import"
        )
    counts = [found.get("total_steps"), found.get("total_episodes"), own.get("size")]
    good = all(type(count) is int and 0 < count <= MAX_SIZE for count in counts)
    if not good or counts[0] != counts[2]:
        raise ShiftgymError(f"The metadata of {where} are damaged: counts {shown(counts)}.")
    if own.get("return") is not None and not is_finite(own["return"]):
        raise ShiftgymError(f"The metadata of {where} are damaged: return {shown(own['return'])}.")
    texts = [found.get("dataset_id"), found.get("env_spec"), own.get("sha256")]
    if not all(isinstance(text, str) for text in texts):
        raise ShiftgymError(f"The metadata of {where} are damaged: id, env_spec or sha256.")
    return found


def name_of(metadata: Mapping[str, Any]) -> DatasetName:
    """Rebuild the name, and with it the domain, that metadata tell of.

    Raises:
        ShiftgymError: the metadata are damaged.
    """
    try:
        kwargs = EnvSpec.from_json(metadata["env_spec"]).kwargs
        of = from_kwargs(kwargs["robot"], kwargs["shift"])
        return dataset_name(metadata["dataset_id"], of).sized(metadata["total_steps"])
    except UNFIT as error:
        raise ShiftgymError(f"The metadata of a dataset are damaged: {str(error)[:500]}") from None


def widths(metadata: Mapping[str, Any]) -> tuple[int, int]:
    """Give the numbers per observation and per action."""
    try:
        shapes = [json.loads(metadata[f"{kind}_space"])["shape"] for kind in KINDS]
        (observations,), (actions,) = shapes
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ShiftgymError(f"The metadata of a dataset are damaged: {error}") from None
    if not all(type(width) is int and 0 < width <= 10_000 for width in (observations, actions)):
        raise ShiftgymError(f"The metadata of a dataset are damaged: spaces {shown(shapes)}.")
    return observations, actions


KINDS = ("observation", "action")


def _box(space: Box) -> str:
    """Write a space as Minari does."""
    bounds = {"low": space.low.tolist(), "high": space.high.tolist()}
    return json.dumps(
        {"type": "Box", "dtype": str(space.dtype), "shape": list(space.shape)} | bounds
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "source tree"


def dump(metadata: Mapping[str, Any]) -> bytes:
    """Write metadata as JSON.

    Raises:
        ShiftgymError: something in it is not JSON-able.
    """
    try:
        return json.dumps(metadata, indent=1).encode()
    except (TypeError, ValueError) as error:
        raise ShiftgymError(f"What is told about a dataset must be JSON-able: {error}") from None

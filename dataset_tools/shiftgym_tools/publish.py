"""``shiftgym data publish``: send datasets, with a card each, to a Minari remote.

What is sent is what Minari itself would send, by Minari's own storage classes, so that
``minari download`` and ``shiftgym data get --remote`` both find it:

    shiftgym/namespace_metadata.json
    shiftgym/hopper-kinematic/namespace_metadata.json
    shiftgym/hopper-kinematic/medium-v0/README.md                the card
    shiftgym/hopper-kinematic/medium-v0/data/main_data.hdf5
    shiftgym/hopper-kinematic/medium-v0/data/metadata.json       with the SHA-256 of the data
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from tqdm import tqdm

from shiftgym.basics.errors import DomainError, ShiftgymError
from shiftgym.basics.pages import markdown, name_versions
from shiftgym.datasets.flat import Flat, episode_bounds, episode_returns
from shiftgym.datasets.folders import write_file
from shiftgym.datasets.load import find, install
from shiftgym.datasets.metadata import read_metadata
from shiftgym.datasets.names import DatasetName
from shiftgym.datasets.packaged import packaged_index
from shiftgym.datasets.remote import CARD, open_remote, remote_metadata
from shiftgym.datasets.store import DATA, read_dataset, verify_file
from shiftgym.describe import describe
from shiftgym.domains import episode_steps
from shiftgym.scores import MEASURED


def publish(
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    remote: str | None = None,
    token: str | None = None,
    all_: Annotated[bool, tyro.conf.arg(name="all")] = False,
    replace: bool = False,
) -> None:
    """Send datasets with their cards to a Minari remote.

    Run again after a broken connection, it sends what is not there whole.

    Example: shiftgym data publish hopper-kinematic/medium --remote hf://my-lab

    Args:
        names: Datasets such as hopper-kinematic/medium; packaged ones are installed first.
        remote: hf://ORGANISATION or gcp://BUCKET; the variable MINARI_REMOTE by default.
        token: The remote's token (hf), or the path of a service account's key file (gcp).
        all_: Every packaged set.
        replace: Send anew a set that the remote has with other data.
    """
    wanted = [find(name) for name in (*names, *(packaged_index() if all_ else ()))]
    if not wanted:
        raise DomainError("Which? shiftgym data publish hopper-kinematic/medium, or --all.")
    storage = open_remote(remote, token)
    spaces: set[str] = set()
    with tqdm(wanted, disable=len(wanted) < 3 or None, unit="set") as bar:
        for name in bar:
            bar.write(f"{name}: {send(name, storage, replace, spaces)}")
    place = f" --remote {remote}" if remote else ""
    print(f"Next: shiftgym data get {wanted[0]}{place}")


def send(
    name: DatasetName, storage: Any, replace: bool = False, spaces: set[str] | None = None
) -> str:
    """Send one set.

    Args:
        name: the set, installed or packaged.
        storage: see :func:`shiftgym.datasets.remote.open_remote`.
        replace: send it though the remote has other data under its name.
        spaces: namespaces known to be on the remote; those sent are added.

    Returns:
        What was done.

    Raises:
        ShiftgymError: the set is damaged, the remote has another, or does not take it.
    """
    folder, _ = install(name)
    told = read_metadata(folder)
    digest = told["shiftgym"]["sha256"]
    verify_file(folder / "data" / DATA, digest)
    there = remote_metadata(storage, name)
    if there is not None and there["shiftgym"]["sha256"] != digest and not replace:
        raise ShiftgymError(
            f"The remote has another {name}: people may have used it. --replace sends yours."
        )
    whole = there == told and _arrived(storage, name, folder)
    if whole:
        return "there already"
    write_file(folder / CARD, card(name, told, read_dataset(folder)).encode())
    try:
        _send_namespaces(name, storage, set() if spaces is None else spaces)
        storage.upload_dataset(name.minari)
    except Exception as error:
        raise ShiftgymError(
            f"The connection broke while {name} was sent: {type(error).__name__}: {error}. "
            "The same command sends it again."
        ) from error
    if remote_metadata(storage, name) != told or not _arrived(storage, name, folder):
        raise ShiftgymError(f"{name} did not arrive whole. The same command sends it again.")
    return f"sent, {(folder / 'data' / DATA).stat().st_size / 1e6:.1f} MB"


def _arrived(storage: Any, name: DatasetName, folder: Path) -> bool:
    """Say whether a bucket has the whole data file; other remotes take all of a set or nothing."""
    if not hasattr(storage, "bucket"):
        return True
    blob = storage.bucket.get_blob(f"{name.minari}/data/{DATA}")
    return blob is not None and blob.size == (folder / "data" / DATA).stat().st_size


def _send_namespaces(name: DatasetName, storage: Any, known: set[str]) -> None:
    home, _, _ = name.minari.partition("/")
    inner = name.minari.rpartition("/")[0]
    if inner in known:
        return
    known.update(storage.list_namespaces())
    for space in (home, inner):
        if space not in known:
            storage.upload_namespace(space)
            known.add(space)


def card(name: DatasetName, told: dict[str, Any], flat: Flat) -> str:
    """Write a set's card: facts, numbers and how to load it, as Markdown with YAML on top."""
    own, lengths = told["shiftgym"], np.diff(episode_bounds(flat))
    returns, mean = episode_returns(flat, episode_steps(name.domain.robot)), own["return"]
    whole = own.get("whole_episodes", len(returns))
    earned, reference = "no episode is whole", "not measured"
    if mean is not None:
        earned = f"{mean:,.2f} of {whole:,} whole episodes"
        if len(returns) == whole:  # of an imported set, the rows alone may not tell
            earned += f", {returns.min():,.2f} to {returns.max():,.2f}"
        if "ref_max_score" in told:
            low, high = told["ref_min_score"], told["ref_max_score"]
            score = 100 * (mean - low) / (high - low)
            table = own.get("reference", MEASURED)
            reference = f"{score:.1f} of {table} (0 is {low:.2f}, 100 is {high:.2f})"
    changes = describe(name.domain) or ["nothing: this is the unshifted robot"]
    policies = own.get("policies") or {}
    made = [f"- `{policy}`, SHA-256 `{sha}`" for policy, sha in policies.items()]
    rows = {
        "transitions": f"{name.size:,}",
        "episodes": f"{len(lengths):,}",
        "mean return": earned,
        "normalised score": reference,
        "mean episode length": f"{lengths.mean():,.1f}",
        "terminated, truncated": f"{flat['terminated'].sum():,}, {flat['truncated'].sum():,}",
        "observations, actions": f"{flat['observations'].shape[1]}, {flat['actions'].shape[1]}",
        "licence": told.get("license", "that of the file it was imported from"),
        "SHA-256 of the data": f"`{own['sha256']}`",
        "versions": name_versions(own["versions"]),
    }
    return "\n".join(
        [
            "---",
            "tags: [reinforcement-learning, offline-rl, minari, mujoco, shiftgym]",
            f"pretty_name: {name.short}",
            *([f"license: {told['license'].lower()}"] if "license" in told else []),
            "---",
            "",
            f"# {name.short}",
            "",
            told["description"],
            "",
            f"## The shift, against the unshifted {name.domain.robot}",
            "",
            *(f"- {change}" for change in changes),
            "",
            "## Numbers",
            "",
            *markdown(("", ""), rows.items(), "ll"),
            "",
            *(["## Behaviour policies", "", *made, ""] if made else []),
            "## Loading",
            "",
            "```python",
            "import minari, shiftgym",
            "",
            f'dataset = minari.load_dataset("{name.minari}")   # episodes',
            f'flat = shiftgym.load("{name.short}")   # float32 arrays, a row per transition',
            "env = dataset.recover_environment(eval_env=True)",
            "```",
            "",
            f"Get it: `shiftgym data get {name.short} --remote ...`, which checks the SHA-256, or",
            f"`minari download {name.minari}`.",
            "",
        ]
    )

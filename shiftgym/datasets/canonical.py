"""Which bytes the package's own sets have: SHA-256 of their content, shipped with the package.

    assets/datasets/canonical.json
        "hopper/medium": {"sha256": "...", "recipe": 2, "seed": ..., "policies": {...},
                          "collected_with": {"mujoco": "3.17.0", "numpy": "2.4.6"}}

The content is the flat arrays in a fixed order with their dtypes and shapes, not the file they lie
in. `shiftgym data make` compares what it made; `shiftgym data package` and `shiftgym data
canonical` fill the table.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np

from shiftgym.datasets import packaged
from shiftgym.datasets.flat import DTYPES, FIELDS, WIDE, Flat
from shiftgym.datasets.folders import write_file
from shiftgym.datasets.locks import locked
from shiftgym.datasets.names import DatasetName
from shiftgym.errors import ShiftgymError

TABLE = "canonical.json"
ENGINE = "3.17"  # of MuJoCo, that the domains' ids are defined on


class Content:
    """Take flat arrays bit by bit, and give the SHA-256 of all.

    It is the SHA-256 of a line per field, ``observations float32 (5000, 11) <SHA-256>``, each over
    the array's bytes in row order, little-endian.
    """

    def __init__(self):
        """Begin with no rows."""
        self._rows = 0
        self._widths = dict.fromkeys(WIDE, 0)
        self._digests = {name: hashlib.sha256() for name in FIELDS}

    def add(self, flat: Flat) -> None:
        """Take the next rows."""
        self._rows += len(flat["rewards"])
        for name, digest in self._digests.items():
            if name in WIDE:
                self._widths[name] = flat[name].shape[1]
            kind = DTYPES[name].newbyteorder("<")
            digest.update(np.ascontiguousarray(flat[name], kind).view(np.uint8).data)

    def sha256(self) -> str:
        """Give the SHA-256 of the rows so far, as hexadecimal digits."""
        lines = []
        for name, digest in self._digests.items():
            shape = (self._rows, self._widths[name]) if name in WIDE else (self._rows,)
            lines.append(f"{name} {DTYPES[name]} {shape} {digest.hexdigest()}\n")
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def content_sha256(chunks: Flat | Iterable[Flat]) -> str:
    """Give the SHA-256 of a set's content; chunks may be cut anywhere between rows."""
    content = Content()
    one = isinstance(chunks, dict)
    for flat in cast("Iterable[Flat]", [chunks] if one else chunks):
        content.add(flat)
    return content.sha256()


def canonical_table() -> dict[str, dict[str, Any]]:
    """List the canonical contents by short name."""
    path = packaged.PACKAGED / TABLE
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ShiftgymError(f"{path} is damaged ({error}): reinstall shiftgym.") from None


def canonical(name: DatasetName) -> dict[str, Any] | None:
    """Give what is known of the bytes a set must have; None where nothing is.

    Of a packaged set that is not in the table they are the packaged ones.
    """
    found = canonical_table().get(name.short)
    if found is None and name.short in packaged.packaged_index():
        about = packaged.packaged_index()[name.short]["about"]
        found = {"sha256": content_sha256(packaged.load_packaged(name)), **about}
    return found


def record(name: DatasetName, sha256: str, about: Mapping[str, Any]) -> None:
    """Put a set into the table of canonical contents, or its new content in place of the old.

    Args:
        name: the set; one of the package's own.
        sha256: of its content, see :func:`content_sha256`.
        about: what the set tells of its making.
    """
    if name.made or name.origin or other_engine():
        raise ShiftgymError(f"{name} of {other_engine() or 'this name'} is not the package's own.")
    told = {key: about[key] for key in ("recipe", "seed", "policies", "collected_with")}
    folder = packaged.PACKAGED
    with locked(folder / ".lock"):
        table = canonical_table() | {name.short: {"sha256": sha256, **told}}
        write_file(
            folder / TABLE, json.dumps(dict(sorted(table.items())), indent=1).encode() + b"\n"
        )


def strike(names: Iterable[str]) -> None:
    """Take sets out of the table."""
    folder, gone = packaged.PACKAGED, set(names)
    with locked(folder / ".lock"):
        table = {short: told for short, told in canonical_table().items() if short not in gone}
        write_file(folder / TABLE, json.dumps(table, indent=1).encode() + b"\n")


def other_engine() -> str:
    """Give the engine's version as a word, ``mujoco3_18``, where it is not the defining one."""
    from shiftgym.engine import mujoco

    found = ".".join(mujoco.__version__.split(".")[:2])
    return "" if found == ENGINE else f"mujoco{found.replace('.', '_')}"

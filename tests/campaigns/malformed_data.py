"""Give malformed files to every reader of the data side.

    python tests/campaigns/malformed_data.py --count 6000

A reader gives what it should, or refuses with a sentence; a traceback, a crash, a hang and wrong
numbers are faults. Data are bent behind a checksum that fits, as somebody with intent would.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import sys
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from campaign_helpers import ODD, Tally, any_digits, bent_bytes, bent_json, bent_tree, survey

Rng = np.random.Generator
NAME = "hopper-kinematic/medium"
TOML = b"""format = 1
[hopper.slippery]
geom.foot_geom.friction = { scale = 0.3, index = [0] }
geom.torso_geom.size = [0.05]
[hopper.level]
levels = { easy = 0.5, hard = 2.0 }
geom.".*".friction = { scale = "level" }
at.hard.option.gravity = [0, 0, -20]
[ant.fat]
geom."(left|right)_leg_geom".size = { scale = 1.5 }
"""
WORDS = (  # from, to
    ("0.3", "nan"), ("0.3", "-inf"), ("0.3", "1e308"), ("0.3", "2024-01-01"), ("0.3", "07:32:00"),
    ("0.3", "0x" + "f" * 9000), ("[0]", "[9]"), ("[0]", "[-1]"), ("[0.05]", "[]"),
    ("[0.05]", '["a"]'), ("0.05", "1e-300"), ("0.05", "1e30"), ("foot_geom", '"("'),
    ("foot_geom", "x" * 20_000), ("foot_geom", '"(((((_*[a-z]*)*)*)*)*)*!"'),
    ('".*"', '".*a.*a.*a.*a.*a.*b"'), ('".*"', '"(.|.)(.|.)(.|.)(.|.)(.|.)(.|.)(.|.)(.|.)(.|.)"'),
    ("friction", "name"), ("hopper", "horse"), ("hopper", "x" * 20_000), ("slippery", '"../x"'),
    ("slippery", '"a b"'), ("slippery", "s" * 5000), ("0.5", '"level"'), ("0.5", "2024-01-01"),
    ("0.5", "[0.5]"), ("0.5", "true"), ("{ easy = 0.5, hard = 2.0 }", "5"),
    ("{ easy = 0.5, hard = 2.0 }", '["a"]'), ("{ easy = 0.5, hard = 2.0 }", "[nan, 1e300]"),
    ("at.hard.option.gravity = [0, 0, -20]", "at = 3"), ("at.hard", "at"),
    ("at.hard.option.gravity = [0, 0, -20]", "at.hard = 2024-01-01"), ("geom", "option"),
    ("scale", "index"), ("-20", "true"), ("[0, 0, -20]", "{}"), ("[0, 0, -20]", "[" * 3000),
    ("1.5", "[1.5, 2, 3, 4]"), ("[hopper.level]", "[[hopper.level]]"),
    ("[hopper.slippery]", "hopper." + "a." * 5000 + "b = 1\n[hopper.slippery]"),
)  # fmt: skip


class Readers:
    """Hold good files, and give each reader a bent one."""

    def __init__(self, folder: Path):
        from shiftgym import load
        from shiftgym.datasets import cache, names
        from shiftgym.datasets.packaged import pack
        from shiftgym.datasets.store import write_dataset
        from shiftgym.policies import POLICIES, index

        cache.FROM_ROWS = 10_000  # the packaged set is small, the cached one is made below
        self.root, self.flat = folder / "root", load(NAME)
        self.name = names.dataset_name(NAME)
        self.set = write_dataset(self.flat, self.name, {}, self.root)
        self.files = [self.set / "data" / part for part in ("metadata.json", "main_data.hdf5")]
        self.told, self.data = (file.read_bytes() for file in self.files)
        self.packed = pack(self.flat)
        cache.FROM_ROWS = 2_000
        self.cached = cache.cache_path(self.set)
        load(NAME, self.root)
        self.cache = self.cached.read_bytes()
        self.cached.unlink()
        self.other = folder / "other"
        self.policies = [
            (POLICIES / index()[name]["file"]).read_bytes()
            for name in ("hopper/medium", "pen/medium") if name in index()
        ]  # fmt: skip

    def metadata(self, rng: Rng) -> str:
        from shiftgym.datasets.listing import rows
        from shiftgym.datasets.load import find, load

        told = json.loads(self.told)
        if rng.random() < 0.4:  # the domain is text within the text
            spec = json.loads(told["env_spec"])
            spec = bent_tree(spec, rng, (*ODD, {"geom.(((((_*[a-z]*)*)*)*)*)*!.size": 1}))
            with any_digits():
                new = json.dumps(told | {"env_spec": json.dumps(spec)}).encode()
        else:
            new = bent_json(self.told, rng)
        self.files[0].write_bytes(new)
        self.files[1].write_bytes(self.data)
        with contextlib.redirect_stdout(io.StringIO()):
            list(rows(self.root))
        find(NAME, self.root)
        self._same(load(NAME, self.root))
        return "read"

    def hdf5(self, rng: Rng) -> str:
        from shiftgym.datasets.flat import check_flat
        from shiftgym.datasets.load import load

        new = bent_bytes(self.data, rng)
        told = json.loads(self.told)
        told["shiftgym"]["sha256"] = hashlib.sha256(new).hexdigest()
        self.files[0].write_text(json.dumps(told))
        self.files[1].write_bytes(new)
        flat = load(NAME, self.root)
        check_flat(flat)
        assert all(flat[field].shape == self.flat[field].shape for field in flat)
        return "read"

    def flat_cache(self, rng: Rng) -> str:
        """A cache that is bent costs time only."""
        from shiftgym.datasets.load import load

        self.files[0].write_bytes(self.told)
        self.files[1].write_bytes(self.data)
        self.cached.write_bytes(bent_bytes(self.cache, rng))
        self._same(load(NAME, self.root))
        return "read"

    def packaged(self, rng: Rng) -> str:
        from shiftgym.datasets.flat import episode_bounds
        from shiftgym.datasets.packaged import unpack

        episodes = len(episode_bounds(self.flat)) - 1
        unpack(bent_bytes(self.packed, rng), len(self.flat["rewards"]), episodes, (11, 3))
        return "read"

    def policy(self, rng: Rng) -> str:
        from shiftgym.policies import read_policy

        content = self.policies[rng.integers(len(self.policies))]
        self.other.write_bytes(bent_arrays(content, rng))
        with np.errstate(all="ignore"):
            policy = read_policy(self.other)
            policy.act(np.zeros((2, len(policy.arrays["W0"])), np.float32), rng)
        return "read"

    def toml(self, rng: Rng) -> str:
        from shiftgym.domains import load_domains

        text = TOML.decode()
        for _ in range(int(rng.integers(1, 3))):
            old, new = WORDS[rng.integers(len(WORDS))]
            text = text.replace(old, new, 1)
        bent = bent_bytes(TOML, rng) if rng.random() < 0.4 else text.encode()
        self.other.write_bytes(bent)
        load_domains(self.other)
        return "read"

    def place(self, rng: Rng) -> str:
        """Put a pipe or a device in a file's place; it must be refused at once."""
        from shiftgym.datasets.load import load
        from shiftgym.domains import load_domains
        from shiftgym.policies import read_policy

        path = [self.files[0], self.files[1], self.other][rng.integers(3)]
        self.files[0].write_bytes(self.told)
        self.files[1].write_bytes(self.data)
        path.unlink(missing_ok=True)
        os.mkfifo(path) if rng.random() < 0.5 else path.symlink_to("/dev/zero")
        try:
            for read in (read_policy, load_domains) if path == self.other else ():
                with contextlib.suppress(ValueError):
                    read(path)
                    raise AssertionError(f"{read} took {path}")
            load(NAME, self.root)
        finally:
            path.unlink()
        return "read"

    def _same(self, flat: dict[str, np.ndarray]) -> None:
        assert all(np.array_equal(flat[field], self.flat[field]) for field in self.flat), "wrong"


def bent_arrays(content: bytes, rng: Rng) -> bytes:
    """Bend a safetensors file: its bytes, its header, or the shapes of its arrays."""
    kind = int(rng.integers(5))
    if kind == 0:
        return bent_bytes(content, rng)
    length = int.from_bytes(content[:8], "little")
    head, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    names = [name for name in head if name != "__metadata__"]
    a, b = (names[k] for k in rng.integers(len(names), size=2))
    if kind == 1:
        with any_digits():
            head = bent_tree(head, rng)
    elif kind == 2:
        head[a] = head[b]
    elif kind == 3:
        head[a]["shape"] = [[1, *head[a]["shape"]], head[a]["shape"][::-1], []][rng.integers(3)]
    elif rng.random() < 0.5:
        head[a]["dtype"] = ["I32", "U32", "BF16", "F16", "F64", "F8_E4M3"][rng.integers(6)]
    else:
        del head[a]
    with any_digits():
        text = json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text + body


def campaign(count: int, seed: int, folder: Path) -> Tally:
    from shiftgym.errors import ShiftgymError

    tomllib.loads(TOML.decode())
    readers = Readers(folder)
    reading: list[Callable[[Rng], str]] = [
        readers.metadata, readers.hdf5, readers.flat_cache, readers.packaged, readers.policy,
        readers.toml, readers.metadata, readers.policy, readers.toml, readers.place,
    ]  # fmt: skip

    def case(k: int) -> str:
        read = reading[k % len(reading)]
        try:
            came = read(np.random.default_rng([seed, k]))
        except ShiftgymError as error:
            assert len(str(error)) < 5_000, "a sentence nobody reads"
            came = "refused"
        return f"{read.__name__} {came}"

    return survey(case, count, folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return campaign(options.count, options.seed, Path(folder)).finish("malformed data")


if __name__ == "__main__":
    sys.exit(main())

"""Files of others that are wrong on purpose: a sentence, no traceback, no hang."""

from __future__ import annotations

import json
import os
import random
import re
import time
from pathlib import Path

import numpy as np
import pytest
from dataset_helpers import made_up, named
from safetensors.numpy import load_file, save_file

import shiftgym
from shiftgym.datasets import listing
from shiftgym.datasets.store import write_dataset
from shiftgym.domains import load_domains
from shiftgym.errors import DomainError, ShiftgymError
from shiftgym.patterns import compiled, matches
from shiftgym.policies import POLICIES, index, read_policy

ATOMS = ("a", "b", ".", ".*", ".+", "[ab]", "[^a]", "(a|b)", "(ab|c.*)", "(a(b|c)|c)", "_", "a?",
         "(ab)?", "[ab]?")  # fmt: skip
EVIL = "(((((_*[a-z]*)*)*)*)*)*!"


def test_patterns_are_the_regular_expressions_they_look_like() -> None:
    rng = random.Random(0)
    for _ in range(500):
        pattern = "".join(rng.choices(ATOMS, k=rng.randint(0, 6)))
        for _ in range(3):
            name = "".join(rng.choices("abc_", k=rng.randint(0, 8)))
            assert matches(pattern, name) == bool(re.fullmatch(pattern, name)), (pattern, name)


@pytest.mark.parametrize(
    "pattern",
    [EVIL, "a+", "(a|b)*", "(?!x)", "[z-a]", "a{2}", "(a", "a)", "[", r"\d", "(a|b)" * 20],
)
def test_what_could_take_for_ever_is_no_pattern(pattern: str) -> None:
    with pytest.raises(ValueError, match="A name is written with"):
        compiled(pattern)


def test_no_pattern_takes_long() -> None:
    started = time.process_time()
    assert not matches(".*a" * 100 + "b", "a" * 400)
    assert time.process_time() - started < 5


def test_an_edit_in_metadata_cannot_hang_the_list(tmp_path: Path) -> None:
    folder = write_dataset(made_up(300), named(300), {}, tmp_path)
    path = folder / "data" / "metadata.json"
    told = json.loads(path.read_text())
    spec = json.loads(told["env_spec"])
    edits = {f"geom.{EVIL}.size": [0.1]}
    spec["kwargs"] = {"robot": "hopper", "shift": {"name": "icy", "edits": edits}}
    path.write_text(json.dumps(told | {"env_spec": json.dumps(spec)}))
    (row,) = [row for row in listing.rows(tmp_path) if row["name"].endswith("medium-300")]
    assert "no pattern of names" in row["where"]


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 50_000,
        "hopper.x.levels = 5",
        'hopper.x.levels = ["a"]',
        "hopper.x.levels = [2024-01-01]",
        "hopper.x.levels = { a = 0.5 }\nhopper.x.at = 3",
        "hopper.x.levels = { a = 0.5 }\nhopper.x.at.a = 2024-01-01",
        "hopper.x.geom.foot_geom.friction = 2024-01-01",
        "hopper.x.geom.foot_geom.friction = { scale = 07:32:00 }",
        "hopper.x.geom.foot_geom.friction = " + "9" * 5_000,
        "hopper.x.geom.foot_geom.friction = 0x" + "f" * 9_000,
        f"hopper.x.geom.'{EVIL}'.friction = 1",
        "hopper." + "a." * 5_000 + "b = 1",
        "\udcff",
    ],
    ids=range(13),
)
def test_domains_in_a_malformed_file_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "my.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DomainError) as caught:
        load_domains(path)
    assert len(str(caught.value)) < 2_000


@pytest.mark.parametrize("read", [load_domains, read_policy])
def test_a_pipe_is_no_file_of_domains_and_no_policy(tmp_path: Path, read) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ShiftgymError, match="a pipe, not a plain file"):
        read(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("name", "shape"),
    [("W0", (3, 3)), ("b0", (5,)), ("W1", (4,)), ("W2", (256, 3)), ("b2", ()), ("W0", (0, 256))],
)
def test_a_policy_whose_layers_do_not_fit_is_refused(tmp_path: Path, name: str, shape) -> None:
    file = POLICIES / index()["hopper/expert"]["file"]
    good = read_policy(file)
    arrays = load_file(file) | {name: np.zeros(shape, np.float32)}
    save_file(arrays, tmp_path / "x.safetensors", good.metadata)
    with pytest.raises(ShiftgymError, match="layers do not fit"):
        read_policy(tmp_path / "x.safetensors")


def test_every_packaged_policy_passes() -> None:
    for entry in index().values():
        assert read_policy(POLICIES / entry["file"])


def test_shown_values_are_short() -> None:
    nested: list = []
    for _ in range(100_000):
        nested = [nested]
    for value in (nested, 10**6000, "x" * 10_000):
        assert len(shiftgym.errors.shown(value)) < 250

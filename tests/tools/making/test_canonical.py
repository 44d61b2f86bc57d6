"""The table of canonical contents: what made sets are compared with, and what follows."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import minari
import numpy as np
import pytest
from test_make import packaged, root, told  # noqa: F401  fixtures

import shiftgym
from shiftgym.cli import main
from shiftgym.datasets import canonical as contents
from shiftgym.datasets import dataset_name
from shiftgym.datasets import packaged as sets
from shiftgym.datasets.canonical import canonical_table, content_sha256, record
from shiftgym.datasets.flat import FIELDS, Flat, rows_of
from shiftgym.datasets.packaged import load_packaged, packaged_index
from shiftgym.datasets.store import dataset_path, read_dataset
from shiftgym.datasets.tiers import called_instead
from shiftgym.domains import catalogue
from shiftgym.policies import index
from shiftgym_agents.sweeps.sets import check_free
from shiftgym_tools.making.canonical_sets import default_names, listed, make_content
from shiftgym_tools.making.jobs import plan_job

SMALLEST = sorted(canonical_table(), key=lambda short: dataset_name(short).size)[:3]
DOMAINS = sorted({name.partition("/")[0] for name in index()})


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty package of datasets."""
    folder = tmp_path / "package"
    folder.mkdir()
    monkeypatch.setattr(sets, "PACKAGED", folder)
    return folder


def made_up(rows: int = 7) -> Flat:
    rng = np.random.default_rng(rows)
    shapes = {"observations": (rows, 11), "actions": (rows, 3), "next_observations": (rows, 11)}
    flat = {n: rng.normal(size=shapes.get(n, (rows,))).astype(np.float32) for n in FIELDS[:4]}
    return flat | {name: rng.random(rows) < 0.5 for name in FIELDS[4:]}


def test_the_content_is_all_rows_whatever_the_chunks() -> None:
    flat = made_up()
    lines = []
    for name in FIELDS:  # as the module says, written once more
        kind = "bool" if name in ("terminated", "truncated") else "float32"
        digest = hashlib.sha256(flat[name].tobytes()).hexdigest()
        lines.append(f"{name} {kind} {flat[name].shape} {digest}\n")
    whole = hashlib.sha256("".join(lines).encode()).hexdigest()
    chunks = [rows_of(flat, slice(a, b)) for a, b in ((0, 1), (1, 5), (5, 7))]
    assert content_sha256(flat) == content_sha256(chunks) == whole
    for name in FIELDS:
        other = {key: array.copy() for key, array in flat.items()}
        other[name].view(np.uint8).ravel()[-1] ^= 1
        assert content_sha256(other) != whole


def test_what_is_made_is_judged_by_the_table(
    root: Path,  # noqa: F811
    shelf: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = dataset_name("hopper/random-300")
    assert main(["data", "canonical", name.short]) == 0
    entry = canonical_table()[name.short]
    assert main(["data", "make", name.short]) == 0
    assert "the canonical bytes" in capsys.readouterr().out
    path = dataset_path(name)
    assert told(path)["shiftgym"]["content"] == entry["sha256"]
    assert content_sha256(read_dataset(path)) == entry["sha256"]
    assert main(["data", "make", name.short]) == 0
    assert "the canonical bytes" in capsys.readouterr().out
    record(name, "f" * 64, entry | {"collected_with": {"mujoco": "3.17.9", "numpy": "1.0"}})
    for again in ([], ["--replace"]):
        assert main(["data", "make", name.short, *again]) == 1
        said = capsys.readouterr().err
        assert "not the canonical bytes" in said and "3.17.9" in said and "f" * 64 in said
    assert len(shiftgym.load("hopper/random-300-made_otherwise")["rewards"]) == 300
    # a sweep says so when it is planned, and not group by group when it cannot make the set
    for refused in (shiftgym.load, check_free):
        with pytest.raises(shiftgym.ShiftgymError, match="--replace"):
            refused(name.short)
    check_free("hopper/random-200")


def test_a_packaged_set_is_never_replaced_by_other_rows(
    root: Path,  # noqa: F811
    packaged: Path,  # noqa: F811
    shelf: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = dataset_name("hopper-kinematic/medium-300")
    sets.package_dataset(with_ends(made_up(300)), name, {})
    before = load_packaged(name)
    assert main(["data", "make", name.short]) == 1
    assert "not the canonical bytes" in capsys.readouterr().err
    assert not dataset_path(name).exists()
    assert np.array_equal(shiftgym.load(name)["actions"], before["actions"])
    assert main(["data", "make", name.short, "--name", "again"]) == 0
    made = dataset_path(f"{name}-made_again")
    made.rename(dataset_path(name))  # another one under its name, however it came there
    text = (dataset_path(name) / "data" / "metadata.json").read_text()
    (dataset_path(name) / "data" / "metadata.json").write_text(text.replace("-made_again", ""))
    assert np.array_equal(shiftgym.load(name)["actions"], before["actions"])
    capsys.readouterr()
    assert main(["data", "list", "--json"]) == 0
    (row,) = [row for row in json.loads(capsys.readouterr().out) if row["name"] == name.short]
    assert row["where"] == "packaged, installed with other bytes"


def with_ends(flat: Flat) -> Flat:
    """Make every row an episode."""
    true = np.ones(len(flat["rewards"]), np.bool_)
    return flat | {"terminated": true, "truncated": ~true}


def test_the_table_is_filled_one_by_one_and_goes_on(
    root: Path,  # noqa: F811
    packaged: Path,  # noqa: F811
    shelf: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = ["hopper/random-200", "hopper/medium-200"]
    assert main(["data", "canonical", *names[:1]]) == 0
    assert main(["data", "canonical", *names]) == 0
    said = capsys.readouterr().out
    assert "1 sets made, 1 as they were" in said and list(canonical_table()) == sorted(names)
    assert main(["data", "canonical", "hopper/random-200-made_x"]) == 1
    defaults = {str(name) for name in default_names()}
    assert defaults >= {*names, "hopper/medium", "hopper/medium-replay", "hopper/expert"}
    assert "walker2d/medium" not in defaults  # no policy here
    monkeypatch.setattr(contents, "other_engine", lambda: "mujoco3_18")
    with pytest.raises(shiftgym.ShiftgymError, match="mujoco3_18"):
        record(dataset_name(names[0]), "0" * 64, {})


def test_the_table_is_of_the_packaged_policies() -> None:
    outside = [short for short in canonical_table() if short not in packaged_index()]
    stale = [n for n in outside if not listed(plan_job(dataset_name(n)), canonical_table())]
    assert len(SMALLEST) == 3 and not stale, "run shiftgym data canonical"


@pytest.mark.parametrize("short", SMALLEST)
def test_canonical_sets_come_out_the_same_here(short: str) -> None:
    assert make_content(plan_job(dataset_name(short)), 1)[0] == canonical_table()[short]["sha256"]


@pytest.mark.parametrize("slug", DOMAINS)
def test_two_sets_of_every_domain_with_policies_are_made_and_loaded(
    slug: str,
    root: Path,  # noqa: F811
) -> None:
    assert slug in catalogue()
    best = dataset_name(f"{slug}/expert-8")
    second = "medium" if f"{slug}/medium" in index() else "random"
    for name in (called_instead(best) or best, dataset_name(f"{slug}/{second}-8")):
        assert main(["data", "make", name.short]) == 0
        assert minari.load_dataset(name.minari).total_steps == 8
        flat = shiftgym.load(name)
        assert len(flat["rewards"]) == 8 and np.abs(flat["actions"]).max() <= 1

"""Pairs own both sets, where to evaluate and the score; loading finds what is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from dataset_helpers import assert_equal, made_up, named

import shiftgym
from shiftgym.datasets.listing import rows
from shiftgym.datasets.metadata import read_metadata
from shiftgym.datasets.store import dataset_path, write_dataset
from shiftgym.scores import Reference


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give Minari's folder with a source and a target in it."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    write_dataset(made_up(300, 1), named(300, "hopper"), {})
    write_dataset(made_up(100, 2), named(100, "hopper-morph-foot-easy"), {})
    return tmp_path


def test_a_pair_owns_both_sets_the_domain_and_the_score(root: Path) -> None:
    pair = shiftgym.Pair("hopper/medium-300", "hopper-morph-foot-easy/medium-100", "odrl")
    assert_equal(pair.source, made_up(300, 1))
    assert_equal(pair.target, made_up(100, 2))
    assert pair.domain == shiftgym.domain("hopper-morph-foot-easy")
    assert [name.short for name in pair.names] == [
        "hopper/medium-300", "hopper-morph-foot-easy/medium-100",
    ]  # fmt: skip
    assert pair.score(pair.reference.expert) == 100 and pair.score(pair.reference.random) == 0
    names = "'hopper/medium-300', 'hopper-morph-foot-easy/medium-100'"
    assert repr(pair) == f"Pair({names}, reference='odrl')" and pair.reference_name == "odrl"


def test_pairs_go_both_ways_with_a_reference_of_ones_own(root: Path) -> None:
    own = Reference(random=0.0, expert=50.0)
    pair = shiftgym.Pair("hopper-morph-foot-easy/medium-100", "hopper/medium-300", own)
    assert pair.domain == shiftgym.domain("hopper") and pair.score(25.0) == 50.0
    assert pair.reference_name == "own"


@pytest.mark.parametrize(
    ("target", "table"),
    [
        ("hopper-morph/medium-otdf", "otdf"),
        ("hopper-friction-x2/medium-odrl", "odrl"),
        ("hopper-friction-x0p5/medium-from_lab7", "shiftgym"),
        ("hopper-friction-x2/medium-from_lab7", "odrl"),  # no expert of our own there
        ("hopper/expert-d4rl", "d4rl"),
        ("hopper/expert-minari", "shiftgym"),
        ("hopper-morph/medium-100", "shiftgym"),
    ],
)
def test_scores_are_of_the_reference_of_the_targets_origin(
    root: Path, target: str, table: str
) -> None:
    name = shiftgym.dataset_name(target).sized(100)
    write_dataset(made_up(100, 3), name, {})
    pair = shiftgym.Pair("hopper/medium-300", target)
    assert pair.reference_name == table and f"reference='{table}'" in repr(pair)
    assert pair.reference == shiftgym.scores.reference(name.domain, table)
    told = read_metadata(dataset_path(name, root))
    assert told["shiftgym"]["reference"] == table
    assert told["ref_max_score"] == pair.reference.expert
    (row,) = [row for row in rows(root) if row["name"] == target]
    assert row["reference"] == table and "origin" not in row
    if row["return"] is not None:
        assert row["score"] == pytest.approx(pair.score(row["return"]), abs=0.01)


@pytest.mark.parametrize(
    ("source", "target", "error", "says"),
    [
        ("hopper/medium-300", "ant/medium", shiftgym.DomainError, "one robot, got hopper and ant"),
        ("hopper/medium-300", "hopper/medium-300", shiftgym.DomainError, "twice"),
        ("hopper/medium-300", "hoper/medium", shiftgym.DomainError, "'hopper'"),
        (
            "hopper/medium",
            "hopper-morph-foot-easy/medium-100",
            shiftgym.ShiftgymError,
            "shiftgym data make hopper/medium",
        ),
    ],
)
def test_a_wrong_pair_is_refused_at_once(
    root: Path, source: str, target: str, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        shiftgym.Pair(source, target)


def test_an_unknown_reference_is_refused_at_once(root: Path) -> None:
    with pytest.raises(shiftgym.ShiftgymError, match="'otdf'"):
        shiftgym.Pair("hopper/medium-300", "hopper-morph-foot-easy/medium-100", "odtf")


def test_imported_sets_are_found_by_name_and_never_offered_to_make(root: Path) -> None:
    name = shiftgym.dataset_name("hopper-kinematic/medium-otdf")
    with pytest.raises(shiftgym.ShiftgymError, match="shiftgym data import") as refused:
        shiftgym.load(name)
    assert "data make" not in str(refused.value)
    write_dataset(made_up(97), name.sized(97), {})
    assert_equal(shiftgym.load("hopper-kinematic/medium-otdf"), made_up(97))

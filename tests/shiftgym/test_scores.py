"""Which reference a score is of, where nobody says: the origin's own, or what there is."""

import pytest

import shiftgym
from shiftgym import scores
from shiftgym.cli import main
from shiftgym.scores import default_reference, has_reference, normalized_score

EXPERT = {"random": 10.0, "expert": 110.0}
TABLES = {
    "otdf": {"hopper-morph": EXPERT},
    "odrl": {"hopper": EXPERT, "hopper-gravity-x2": EXPERT},
    "d4rl": {"hopper": EXPERT},
    "shiftgym": {"hopper": EXPERT} | {slug: {"random": 1.0} for slug in shiftgym.catalogue()},
}
TABLES["shiftgym"]["hopper-kinematic"] = EXPERT
TABLES["shiftgym"]["walker2d"] = {"random": 1.0}


@pytest.fixture
def few_experts(monkeypatch):
    """Give a table in which most domains have no expert of their own."""
    monkeypatch.setattr(scores, "_tables", lambda: TABLES)


@pytest.mark.parametrize(
    ("slug", "origin", "table"),
    [
        ("hopper-kinematic", "", "shiftgym"),
        ("hopper-kinematic", "otdf", "shiftgym"),  # nothing published there
        ("hopper-morph", "", "otdf"),  # no expert of our own
        ("hopper-morph", "odrl", "odrl"),
        ("hopper-morph", "from_lab7", "otdf"),
        ("hopper-gravity-x2", "", "odrl"),
        ("hopper-gravity-x2", "minari", "odrl"),
        ("hopper-friction-x5", "", "odrl"),  # ODRL's pair of the robot
        ("ant", "", None),
    ],
)
def test_the_default_without_an_expert_is_a_published_one(few_experts, slug, origin, table):
    assert default_reference(slug, origin) == table
    assert table is None or has_reference(slug, table)


@pytest.mark.parametrize(
    ("slug", "origin", "table"),
    [
        ("hopper-morph", "", "shiftgym"),
        ("hopper-morph", "otdf", "otdf"),
        ("walker2d-friction-x2", "odrl", "odrl"),
        ("walker2d", "d4rl", "d4rl"),
        ("pen", "d4rl", "shiftgym"),
        ("pen-kinematic-hard", "odrl", "odrl"),
    ],
)
def test_the_default_of_an_origin_is_its_own(slug, origin, table):
    assert default_reference(slug, origin) == table


def test_a_domain_of_ones_own_has_no_reference():
    own = shiftgym.make_domain("hopper", {"geom.foot_geom.friction": [0.5]}, name="mine")
    assert default_reference(own) is None and not has_reference(own, "odrl")
    with pytest.raises(shiftgym.ShiftgymError, match="odrl gives no reference for hopper-mine"):
        scores.reference(own, "odrl")


def test_a_published_maximum_is_the_domains_own_or_that_of_the_robot_where_bodies_are_equal():
    otdf = scores.reference("hopper-kinematic", "otdf")
    assert scores.published_maximum("hopper-kinematic") == otdf.expert
    for slug in ("hopper-friction-x5", "hopper-gravity-x2"):
        assert scores.published_maximum(slug) == scores.reference("hopper", "odrl").expert
    assert scores.has_reference("hopper-kinematic-footjnt-hard", "odrl")  # it stands in for scores
    assert scores.published_maximum("hopper-kinematic-footjnt-hard") is None
    own = shiftgym.make_domain("hopper", {"geom.foot_geom.friction": [0.5]}, name="mine")
    assert scores.published_maximum(own) is None


def test_lists_say_whose_score_it_is(few_experts, tmp_path, capsys):
    assert main(["data", "list", "--root", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    lines = {line.split()[0]: line.split() for line in told.splitlines() if "/" in line}
    assert lines["hopper-morph/medium"][5] == "otdf"
    assert lines["hopper-kinematic/medium"][5] == "shiftgym"
    mean = float(lines["hopper-morph/medium"][3].replace(",", ""))
    found = float(lines["hopper-morph/medium"][4])
    assert found == pytest.approx(normalized_score("hopper-morph", mean, "otdf"), abs=0.1)
    assert "the reference named beside it" in told

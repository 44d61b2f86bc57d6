"""Test the published experiments' data, and the command that shows them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from shiftgym.basics.errors import DomainError
from shiftgym.cli import main
from shiftgym.domains import catalogue
from shiftgym.scores import has_reference
from shiftgym_agents.commands import train as train_command
from shiftgym_agents.methods.table import METHODS, method
from shiftgym_agents.reports.protocols import BASELINES, direction_of, names, protocol

NAMES = names()
OTHERS = {"dara", "bosa", "srpo", "mobody", "cql"}  # published methods the package may not have
ROBOTS = ("halfcheetah", "hopper", "walker2d", "ant")

# --- the data ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_pairs_are_of_the_catalogue_and_go_one_way(name: str) -> None:
    found = protocol(name)
    sizes = {"shifted target": (1_000_000, 5_000), "shifted source": (1_000_000, 100_000)}
    for row in found.rows:
        for dataset in (row.source, row.target):
            assert catalogue()[dataset.domain.slug] == dataset.domain and not dataset.origin
        assert row.source.domain.robot == row.target.domain.robot
        assert direction_of(row.source.domain, row.target.domain) == found.direction
        source, target = sizes[found.direction]
        if str(row.source).endswith("/medium-replay"):  # by its usual size
            source = 500_000
        assert (row.source.size, row.target.size) == (source, target)
        assert has_reference(row.target.domain, row.reference)
    assert len({str(row) for row in found.rows}) == len(found.rows)
    assert found.source and found.remarks and found.seeds > 0 and found.steps > 0


@pytest.mark.parametrize("name", NAMES)
def test_methods_exist_or_are_marked_as_missing(name: str) -> None:
    found = protocol(name)
    for key, column in found.columns.items():
        if key in METHODS:
            assert column.preset in method(key).presets and key in found.methods
        else:
            assert key in OTHERS and key in found.missing_methods and key not in found.methods
    assert set(BASELINES) <= set(found.methods)


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_plausible_and_columns_sum_to_the_printed_totals(name: str) -> None:
    found = protocol(name)
    for key in found.columns:
        cells = [row.published[key] for row in found.rows if key in row.published]
        assert all(-5 < c.mean < 130 and (c.std is None or 0 <= c.std < 30) for c in cells)
        if key in found.totals and len(cells) == len(found.rows):
            assert sum(c.mean for c in cells) == pytest.approx(found.totals[key], abs=1e-6)


SUMS = {  # printed totals, and sums by robot taken from the tables by hand
    ("otdf-morph", None): (798.0, 816.8, 646.3, 803.1, 808.7, 1274.3),
    ("otdf-morph", "halfcheetah"): (195.0, 203.3, 200.6, 207.5, 201.1, 254.3),
    ("otdf-morph", "hopper"): (113.1, 109.4, 79.7, 114.0, 111.0, 86.8),
    ("otdf-morph", "walker2d"): (162.9, 162.9, 82.1, 156.8, 167.3, 398.9),
    ("otdf-morph", "ant"): (327.0, 341.2, 283.9, 324.8, 329.3, 534.3),
    ("otdf-gravity", None): (825.0, 851.0, 763.2, 825.5, 803.6, 1160.7),
    ("otdf-gravity", "halfcheetah"): (301.2, 304.4, 292.3, 303.0, 274.1, 251.4),
    ("otdf-gravity", "hopper"): (133.4, 147.9, 116.5, 140.1, 156.9, 276.2),
    ("otdf-gravity", "walker2d"): (276.2, 284.6, 255.8, 270.4, 258.2, 365.6),
    ("otdf-gravity", "ant"): (114.2, 114.1, 98.6, 112.0, 114.4, 267.5),
    ("tabb-locomotion", None): (326.6, 297.9, 183.9, 321.2, 424.9, 399.2, 451.2, 584.2),
    ("tabb-hands", None): (300.7, 251.8, 184.9, 51.4, 297.5, 321.9, 333.2, 453.4),
    ("tabb-grid", None): (572.40, 549.80, 396.10, 533.48, 652.57, 1038.42),
}


@pytest.mark.parametrize(("name", "robot"), SUMS)
def test_sums_are_those_taken_by_hand(name: str, robot: str | None) -> None:
    found = protocol(name)
    rows = [row for row in found.rows if robot in (None, row.target.domain.robot)]
    sums = [sum(row.published[key].mean for row in rows) for key in found.columns]
    assert sums == pytest.approx(SUMS[name, robot], abs=1e-6)


def test_totals_of_tables_with_unknown_cells() -> None:
    droco = protocol("droco-kinematic")
    known = [row.published["droco"].mean for row in droco.rows if "droco" in row.published]
    assert len(known) == 12 and droco.totals["droco"] - sum(known) == pytest.approx(270.0)
    assert droco.totals["droco"] / droco.totals["otdf"] == pytest.approx(1.14, abs=1e-3)
    gains = protocol("dvdf-kinematic").totals
    assert gains["dvdf-igdf"] / gains["igdf"] == pytest.approx(1.163, abs=1e-3)
    assert gains["dvdf-otdf"] / gains["otdf"] == pytest.approx(1.188, abs=1e-3)


@pytest.mark.parametrize("shift", ["morph", "kinematic", "gravity-x0p5"])
def test_otdf_grids_are_whole(shift: str) -> None:
    grid = {
        f"{robot}/{source} -> {robot}-{shift}/{target}"
        for robot in ROBOTS
        for source in ("medium", "medium-replay", "medium-expert")
        for target in ("medium", "medium-expert", "expert")
    }
    found = protocol(f"otdf-{shift.partition('-')[0]}")
    assert {str(row) for row in found.rows} == grid


@pytest.mark.parametrize(
    ("name", "other", "same"),
    [
        ("tabb-locomotion", "otdf-morph", {"iql", "dara", "bosa", "srpo", "otdf"}),
        ("tabb-grid", "otdf-morph", {"iql", "dara", "bosa"}),
        ("tabb-locomotion", "tabb-grid", {"iql", "dara", "bosa", "mobody", "tabb"}),
    ],
)
def test_cells_that_were_copied_agree(name: str, other: str, same: set[str]) -> None:
    """Tables print one or two digits; MOBODY's and TABB's are rounded up once by a little more."""
    theirs = {str(row): row for row in protocol(other).rows}
    pairs = [(row, theirs[str(row)]) for row in protocol(name).rows if str(row) in theirs]
    assert pairs
    for one, two in pairs:
        for key in same:
            assert one.published[key].mean == pytest.approx(two.published[key].mean, abs=0.11)


def test_the_slip_of_tabb_is_kept_and_told() -> None:
    pair = "ant/medium -> ant-kinematic/medium"
    texts = []
    for name in ("tabb-locomotion", "tabb-grid"):
        found = protocol(name)
        (row,) = [row for row in found.rows if str(row) == pair]
        texts.append(row.published["droco"].text)
        assert any("50.6 ± 8.3" in remark for remark in found.remarks)
    assert texts == ["50.6±8.3", "46.04±3.72"]


def test_direction_is_told_from_the_domains() -> None:
    known = catalogue()
    plain, kinematic, morph = (known[f"hopper{s}"] for s in ("", "-kinematic", "-morph"))
    assert direction_of(plain, morph) == direction_of(None, morph) == "shifted target"
    assert direction_of(morph, plain) == direction_of(None, plain) == "shifted source"
    assert direction_of(kinematic, morph) == "both shifted"
    assert direction_of(plain, plain) == "none shifted"


# --- the command ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["otdf-morph", "tabb-hands", "droco-kinematic"])
def test_commands_train_what_the_protocol_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found, asked = protocol(name), []
    monkeypatch.setattr(train_command, "train_pair", lambda *given: asked.append(given))
    for key in found.methods:
        commands = found.commands(key)
        targets = {str(row.target) for row in found.rows}
        assert len(commands) == len(found.rows) if method(key).uses_source else len(targets)
        assert main(shlex.split(commands[-1])[1:]) == 0
        trained, config, chosen, options, resume = asked.pop()
        row = found.rows[-1]
        assert (trained, chosen.target, chosen.reference) == (key, str(row.target), row.reference)
        assert chosen.source == ((str(row.source),) if method(key).uses_source else ())
        assert (chosen.seeds, config.steps, resume) == (found.seeds, found.steps, False)
        preset = found.columns[key].preset if key in found.columns else "ours"
        assert config == method(key).presets[preset].for_robot(row.target.domain.robot)
        assert options.out.parent == Path("runs") / name
    outs = [c.split("--out ")[1] for key in found.methods for c in found.commands(key)]
    assert len(set(outs)) == len(outs)


def test_protocols_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["protocols"]) == 0
    printed = capsys.readouterr().out
    assert all(f"{name} " in printed for name in NAMES) and "shifted source" in printed
    assert main(["protocols", "--json"]) == 0
    listed = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert list(listed) == NAMES and listed["otdf-morph"]["size"] == 36
    assert main(["protocols", "otdf-morph", "--robot", "ant", "--methods", "otdf"]) == 0
    printed = capsys.readouterr().out
    assert "86.4±2.2" in printed and printed.count("shiftgym train otdf") == 9
    assert "hopper" not in printed
    assert main(["protocols", "tabb-grid", "--methods", "tabb", "--commands"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(("shiftgym data make ", "shiftgym train tabb ")) for line in lines)
    assert main(["protocols", "tabb-locomotion", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pairs"][0]["published"]["tabb"] == {"mean": 44.0, "std": 0.3}
    assert {pair["reference"] for pair in found["pairs"]} == {"otdf", "odrl"}
    assert found["totals"]["tabb"] == 584.2 and found["direction"] == "shifted target"


def test_methods_that_are_not_here_have_numbers_and_no_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(METHODS, "tabb")
    assert main(["protocols", "tabb-grid", "--methods", "iql"]) == 0
    printed = capsys.readouterr().out
    assert "90.34±7.50" in printed and "numbers only: tabb" in " ".join(printed.split())
    assert "tabb" not in protocol("tabb-grid").methods
    assert main(["protocols", "tabb-grid", "--methods", "tabb"]) == 2
    assert "not in this package" in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["protocols", "--help"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Example: shiftgym protocols otdf-morph" in printed and "never compare" in printed
    assert "shiftgym report runs/otdf-morph/* --protocol otdf-morph" in printed


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["protocols", "otdf-morf"], "Did you mean 'otdf-morph'"),
        (["protocols", "otdf-morph", "--robot", "pen"], "no pair of 'pen'"),
        (["protocols", "otdf-morph", "--methods", "otfd"], "'otdf'"),
        (["protocols", "--commands"], "shiftgym protocols otdf-morph"),
        (["report", "no/such/run", "--protocol", "otdf-morf"], "'otdf-morph'"),
    ],
)
def test_a_mistake_is_named(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert says in capsys.readouterr().err


def test_unknown_protocols_are_refused() -> None:
    with pytest.raises(DomainError, match="'otdf-morph'"):
        protocol("otdf-morp")

"""Test grids as data: what they say, what they refuse, and what they are planned as."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from sweep_helpers import GRID, planned, write_grid

from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.methods.table import METHODS
from shiftgym_agents.reports.protocols import names as protocol_names
from shiftgym_agents.reports.protocols import protocol
from shiftgym_agents.sweeps.grid import Grid, change, names, read_grids
from shiftgym_agents.sweeps.plan import FAILURE, GROUP, Planned, identity, plan


@pytest.mark.parametrize("name", names())
def test_grids_of_the_package_can_be_trained(name: str) -> None:
    for grid in read_grids(name):
        assert grid.title
        if grid.pairs:
            runs = [run for _, run in grid.wanted()]
            assert runs and all(run.method in METHODS for run in runs)


@pytest.mark.parametrize("name", protocol_names())
def test_a_protocol_is_a_grid_with_its_own_presets_and_references(name: str) -> None:
    (grid,), found = read_grids(name), protocol(name)
    assert grid.pairs == tuple((str(row.source), str(row.target)) for row in found.rows)
    assert (grid.seeds, grid.settings["steps"]) == (found.seeds, found.steps)
    for row in found.rows:
        assert grid.reference[str(row.target)] == row.reference
    for key, column in found.columns.items():
        assert key not in METHODS or grid.method[key]["preset"] == column.preset


def test_values_come_from_preset_robot_settings_method_and_variant_in_this_order(
    tmp_path: Path,
) -> None:
    text = """
pairs = ["pen/expert-5k -> pen-kinematic-medium/medium"]
methods = ["iql", "otdf", "bc"]
[settings]
keep = 0.6
steps = 10
[method.otdf]
preset = "official"
steps = 20
[variant.one]
[variant.two]
steps = 30
"""
    (grid,) = read_grids(str(write_grid(tmp_path, text)))
    found = {(variant, run.method): run.config for variant, run in grid.wanted()}
    assert found["one", "iql"]["temperature"] == 0.5  # a hand's own
    assert found["one", "iql"]["steps"] == 10 and "keep" not in found["one", "iql"]
    assert found["one", "otdf"]["steps"] == 20 and found["one", "otdf"]["keep"] == 0.6
    assert found["one", "otdf"]["transport_mass"] == "block"  # the preset's
    assert {found["two", name]["steps"] for name in grid.methods} == {30}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("sedes = 3", "no 'sedes'.*'seeds'"),
        ("seeds = 0", "seeds must be a whole number from 1"),
        ('methods = ["iqll"]', "'iqll'.*'iql'"),
        ('methods = "iql"', "list of names"),
        ('pairs = ["hopper/medium"]', "source -> target"),
        ('pairs = ["hopper/medium -> ant/medium"]', "two robots"),
        (
            'pairs = ["hopper/medium -> hopper-friction-x0p5/medium"]\nreference = "otdf"',
            "otdf gives no reference for hopper-friction-x0p5. Tables that do: shiftgym",
        ),
        ('pairs = ["hopper/medium -> hopper-kinetic/medium"]', "mean 'kinematic'"),
        ('preset = "mine"', "no preset 'mine'"),
        ('reference = "d5rl"', "no reference 'd5rl'"),
        ("[settings]\nwidht = 8", "'widht'.*'width'"),
        ("[method.bc]\ntemperature = 1", "temperature"),
        ("settings = 3", "settings is a table"),
        ('protocol = "tabb"', "Unknown protocol"),
        ('like = "tiny"', "No grid 'tiny'"),
        ("= 3", "Cannot read the grid"),
    ],
)
def test_a_wrong_grid_is_refused_by_name(line: str, told: str, tmp_path: Path) -> None:
    start = {key.split(" =")[0] for key in (line,)}
    kept = [] if line.startswith("[") or line.startswith("settings") else GRID.splitlines()
    base = ['pairs = ["hopper-morph/medium -> hopper/medium"]', 'methods = ["bc", "iql"]']
    lines = [each for each in kept or base if each.split(" =")[0] not in start]
    if line.startswith("pairs"):
        lines = base[1:]
    text = "\n".join([*lines, line] if line.startswith(("[", "settings")) else [line, *lines])
    with pytest.raises(ShiftgymError, match=told):
        for grid in read_grids(str(write_grid(tmp_path, text))):
            list(grid.wanted())


def test_changes_are_read_as_toml_and_sorted_by_whose_they_are() -> None:
    found = change(["seeds=2", "width=64", "otdf.keep=0.5", "preset=paper", 'methods=["bc"]'])
    assert found == {
        "seeds": 2, "settings": {"width": 64}, "method": {"otdf": {"keep": 0.5}},
        "preset": "paper", "methods": ["bc"],
    }  # fmt: skip
    with pytest.raises(ShiftgymError, match="name=value"):
        change(["seeds"])


def test_runs_are_packed_pair_by_pair_within_a_robot_and_method(tmp_path: Path) -> None:
    path = write_grid(tmp_path)
    made = planned(path, tmp_path / "out")
    assert len(made.groups) == 24 == len({each.group.key for each in made.groups})
    grown = planned(path, tmp_path / "out", lockstep=5)
    sizes = Counter((each.group.method, len(each.group.runs)) for each in grown.groups)
    assert sizes == {(name, 4): 2 for name in ("bc", "iql-target", "iql")}
    whole = planned(path, tmp_path / "out", lockstep=8)
    assert [len(each.group.runs) for each in whole.groups] == [8, 8, 8]
    assert {run[0] for run in whole.groups[0].group.runs} == {"none"}
    sliced = planned(path, tmp_path / "out", lockstep=3)
    assert sorted(len(each.group.runs) for each in sliced.groups) == [2] * 3 + [3] * 6


def put(each: Planned, *files: str) -> None:
    each.out.mkdir(parents=True)
    (each.out / GROUP).write_text(json.dumps(each.group.plain()))
    for name in files:
        (each.out / name).write_text("{}")


def test_a_grid_that_grows_trains_what_is_new_alone(tmp_path: Path) -> None:
    path, out = write_grid(tmp_path), tmp_path / "out"
    for each in planned(path, out, lockstep=8).groups:
        put(each, "config.json", "result.json")
    grown = planned(path, out, lockstep=8, seeds=6)
    states = Counter((each.state, len(each.group.runs)) for each in grown.groups)
    assert states == {("done", 8): 3, ("new", 4): 3}
    runs = [identity(run) for each in grown.groups for run in each.group.wanted()]
    assert len(runs) == len(set(runs)) == 3 * 2 * 6
    other = planned(path, out, lockstep=8, settings={"width": 16})
    assert {each.state for each in other.groups} == {"new"}


def test_a_shared_run_is_trained_once(tmp_path: Path) -> None:
    grids = read_grids(str(write_grid(tmp_path)))
    made = plan([*grids, *grids], tmp_path)
    assert len(made.groups) == 24 and len(made.wanted) == 48


def test_what_was_trained_on_other_data_does_not_count(tmp_path: Path) -> None:
    path, out = write_grid(tmp_path), tmp_path / "out"
    group = planned(path, out).groups[0].group
    old = replace(group, data=dict.fromkeys(group.data, "0" * 64))
    assert old.data and old.key != group.key
    put(Planned(old, out / old.key, "done"), "result.json")
    assert {found.state for found in planned(path, out).groups} == {"new"}


def test_states_are_told_by_what_a_directory_holds(tmp_path: Path) -> None:
    path, out = write_grid(tmp_path), tmp_path / "out"
    groups = planned(path, out).groups
    put(groups[0], "config.json")
    put(groups[1], "config.json")
    (groups[1].out / FAILURE).write_text("first line\nEvery run diverged\n")
    put(groups[2])
    found = planned(path, out).groups
    assert [each.state for each in found[:4]] == ["begun", "failed", "new", "new"]
    assert found[1].reason == "Every run diverged"
    (groups[0].out / GROUP).write_text('{"method": "bc"}')
    with pytest.raises(ShiftgymError, match="damaged"):
        planned(path, out)


def test_sources_are_cut_where_their_names_say_no_size() -> None:
    grid = Grid(
        "own", methods=("iql",), source_size=100_000,
        pairs=(
            ("hopper/medium", "hopper-kinematic/medium"),
            ("hopper/medium-200k x0.5 + hopper/expert x0.5", "hopper-morph/medium"),
            ("hopper-morph/expert", "hopper-kinematic/medium"),
        ),
    )  # fmt: skip
    sources = {run.source for _, run in grid.wanted()}
    assert sources == {
        "hopper/medium-100k",
        "hopper/medium-200k x0.5 + hopper/expert-100k x0.5",
        "hopper-morph/expert",
    }
    whole = replace(grid, source_size=0)
    assert "hopper/medium" in {run.source for _, run in whole.wanted()}

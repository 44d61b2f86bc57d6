"""Making the packaged target sets: which, when anew, and the same rows as `data make` gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_canonical import made_up, with_ends
from test_collect import assert_equal
from test_make import packaged, root  # noqa: F401  fixtures

import shiftgym
from shiftgym import policies
from shiftgym.cli import main
from shiftgym.datasets import dataset_name
from shiftgym.datasets import packaged as sets
from shiftgym.datasets.canonical import canonical_table, record
from shiftgym.datasets.store import read_dataset
from shiftgym.datasets.tiers import missing_tiers
from shiftgym_tools.making import target_sets
from shiftgym_tools.making.jobs import plan_job
from shiftgym_tools.making.target_sets import make_target, target_names, up_to_date


@pytest.fixture
def package_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Package into an empty folder."""
    folder = tmp_path / "packaged"
    folder.mkdir()
    monkeypatch.setattr(sets, "PACKAGED", folder)
    monkeypatch.setattr(target_sets, "PACKAGED", folder)
    return folder


def test_which_sets_there_are_to_be() -> None:
    names = target_names()
    assert len(names) == 4 * 7 * 3 + 2 * 4 * 2 == len({name.minari for name in names})
    assert {name.size for name in names} == {5_000}
    assert {str(name) for name in target_names("pen")} >= {"pen-morph-hard/medium"}
    with pytest.raises(shiftgym.DomainError, match="Did you mean 'hopper'"):
        target_names("hoper")


def test_a_packaged_set_has_the_rows_that_make_gives(
    root: Path,  # noqa: F811
    packaged: Path,  # noqa: F811
    package_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = dataset_name("hopper-kinematic/medium")
    make_target(name.short)
    assert main(["data", "make", name.short]) == 0
    assert "the canonical bytes" in capsys.readouterr().out
    assert_equal(sets.load_packaged(name), read_dataset(root / name.minari))
    about = sets.packaged_index()[name.short]["about"]
    assert about["command"] == "shiftgym data make hopper-kinematic/medium"
    assert len(about["episode_seeds"]) == sets.packaged_index()[name.short]["episodes"]


def test_a_set_is_made_anew_when_a_policy_changes(
    packaged: Path,  # noqa: F811
    package_folder: Path,
) -> None:
    name = dataset_name("hopper-kinematic/medium-best")
    assert not missing_tiers(name) and name in target_names("hopper")
    assert missing_tiers(dataset_name("hopper-kinematic/medium-expert")) == ["expert"]
    assert missing_tiers(dataset_name("ant-morph/medium-expert")) == ["medium", "expert"]
    job = plan_job(name)
    known = {name.short: {"about": json.loads(json.dumps(job.about([5_000])))}}
    assert not up_to_date(job, known)  # its content is not in the table
    record(name, "0" * 64, job.about([5_000]))
    assert up_to_date(job, known) and not up_to_date(job, {})
    index = json.loads((packaged / "index.json").read_text())
    index["hopper-kinematic/best"] = index["hopper/expert"]
    (packaged / "index.json").write_text(json.dumps(index))
    policies.index.cache_clear()
    policies.load_policy.cache_clear()
    assert not up_to_date(plan_job(name), known)


def test_nothing_to_do_is_quick(
    package_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(target_sets, "missing_tiers", lambda name: ["medium"])
    assert main(["data", "package", "--robot", "ant"]) == 0
    said = capsys.readouterr().out
    assert "0 sets made" in said and "21 of the ant" in said


def test_a_set_that_no_policy_makes_any_more_is_taken_out(
    packaged: Path,  # noqa: F811
    package_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in map(dataset_name, ("hopper-kinematic/medium", "hopper-kinematic/best")):
        sets.package_dataset(with_ends(made_up(5_000)), name, {})
        record(name, "0" * 64, plan_job(name).about([5_000]))
    index = json.loads((packaged / "index.json").read_text())
    index["hopper-kinematic/expert"] = index.pop("hopper-kinematic/best")
    (packaged / "index.json").write_text(json.dumps(index))
    policies.index.cache_clear()
    monkeypatch.setattr(target_sets, "up_to_date", lambda job, known: True)
    assert main(["data", "package", "--robot", "ant"]) == 0
    assert set(sets.packaged_index()) == {"hopper-kinematic/medium", "hopper-kinematic/best"}
    assert main(["data", "package", "--robot", "hopper"]) == 0
    assert "Taken out" in capsys.readouterr().out
    assert list(sets.packaged_index()) == list(canonical_table()) == ["hopper-kinematic/medium"]
    assert not (package_folder / "hopper-kinematic" / "best.hdf5").exists()

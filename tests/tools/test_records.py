"""The datasheet, the Croissant record and CITATION.cff are those of the packaged sets.

`python docs/make_datasheet.py` writes all three. Needs nothing but JSON: the record was also
validated with mlcroissant, which is no dependency of this project.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import shiftgym
from shiftgym.basics import project
from shiftgym.datasets.packaged import PACKAGED, packaged_index

ROOT = Path(__file__).parents[2]
AGAIN = "python docs/make_datasheet.py writes it anew"
REQUIRED = ("@context", "@type", "conformsTo", "name", "description", "license", "creator")


@pytest.fixture
def maker(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import make_datasheet

    yield make_datasheet
    for name in ("make_datasheet", "make_measures", "measure_tables"):
        sys.modules.pop(name, None)


def record() -> dict[str, Any]:
    return json.loads((ROOT / "docs" / "croissant.json").read_text())


def test_the_record_has_what_croissant_requires():
    found = record()
    assert not [key for key in REQUIRED if not found.get(key)]
    assert found["@type"] == "sc:Dataset"
    assert found["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert found["license"] == project.DATA_LICENCE_URL
    assert found["version"] == shiftgym.__version__
    assert ("url" in found) == bool(project.REPOSITORY)
    assert ("datePublished" in found) == bool(project.RELEASED)
    assert len({entry["@id"] for entry in found["distribution"]}) == len(found["distribution"])


def test_the_record_lists_the_packages_files_with_their_checksums():
    listed = {entry["contentUrl"]: entry for entry in record()["distribution"]}
    files = {"index.json", "canonical.json", "LICENSE"} | {
        entry["file"] for entry in packaged_index().values()
    }
    assert set(listed) == {f"shiftgym/assets/datasets/{file}" for file in files}, AGAIN
    for entry in packaged_index().values():
        told = listed[f"shiftgym/assets/datasets/{entry['file']}"]
        assert told["sha256"] == entry["sha256"], AGAIN
    for file in files:
        told = listed[f"shiftgym/assets/datasets/{file}"]
        content = (PACKAGED / file).read_bytes()
        assert told["sha256"] == hashlib.sha256(content).hexdigest(), AGAIN
        assert told["@type"] == "cr:FileObject" and told["encodingFormat"] and told["name"]


def test_no_file_of_the_packages_folder_is_left_out():
    listed = {entry["contentUrl"] for entry in record()["distribution"]}
    there = {
        f"shiftgym/assets/datasets/{path.relative_to(PACKAGED).as_posix()}"
        for path in PACKAGED.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }
    assert there == listed


@pytest.mark.parametrize("kind", ["sheet", "record", "citation"])
def test_they_are_as_the_maker_writes_them(kind: str, maker: Any):
    path = {"sheet": maker.SHEET, "record": maker.RECORD, "citation": maker.CITATION}[kind]
    assert path.read_text() == getattr(maker, kind)(), AGAIN


def test_an_address_and_a_date_appear_everywhere_once_they_are_set(
    maker: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(project, "REPOSITORY", "https://example.org/shiftgym")
    for name, value in (("REPOSITORY", project.REPOSITORY), ("RELEASED", "2027-01-31")):
        monkeypatch.setattr(maker, name, value)
    found = json.loads(maker.record())
    assert found["url"] == "https://example.org/shiftgym"
    assert found["datePublished"] == "2027-01-31"
    assert "repository-code: " in maker.citation() and "2027-01-31" in maker.citation()
    assert "https://example.org/shiftgym/issues" in maker.sheet()
    assert "no public address" not in maker.sheet()


def test_citation_names_the_version_and_the_licence():
    text = (ROOT / "CITATION.cff").read_text()
    told = dict(re.findall(r"^([\w-]+): \"?(.*?)\"?$", text, re.MULTILINE))
    assert told["cff-version"] == "1.2.0" and told["version"] == shiftgym.__version__
    assert told["license"] == "MIT" and "authors:" in text and project.AUTHORS in text


def test_the_licence_of_the_data_is_in_the_package():
    text = (PACKAGED / "LICENSE").read_text()
    assert f"SPDX-License-Identifier: {project.DATA_LICENCE}" in text
    assert project.AUTHORS in text and "data import" in text

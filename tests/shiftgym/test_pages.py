"""Test what pages are written with."""

import pytest

from shiftgym.basics.pages import interval, markdown, name_versions


def test_a_table_has_as_many_cells_in_every_line():
    lines = markdown(("set", "return"), [("`a`", "1"), ("`b`", "22")], "lr")
    assert lines == ["| set | return |", "| --- | ---: |", "| `a` | 1 |", "| `b` | 22 |"]
    assert markdown(("", ""), [], "ll") == ["|  |  |", "| --- | --- |"]
    for rows, align in (([("one",)], "lr"), ([], "lrr"), ([], "l")):
        with pytest.raises(ValueError, match="2 columns"):
            markdown(("set", "return"), rows, align)


def test_intervals_and_versions_are_written_alike_everywhere():
    assert interval(1234.56, 1200.0, 1300.04) == "1234.6 [1200.0, 1300.0]"
    assert interval(1234.56, 1200.0, 1300.0, form=",.0f") == "1,235 [1,200, 1,300]"
    versions = {"shiftgym": "0.1.0", "git": "0123456789" * 4 + "-dirty", "torch": "2.9"}
    assert name_versions(versions) == "shiftgym 0.1.0, git 0123456789-dirty, torch 2.9"
    assert name_versions(versions, ("torch", "shiftgym")) == "torch 2.9, shiftgym 0.1.0"

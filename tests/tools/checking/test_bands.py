"""Our sets beside the published ones: the bars they have to pass, and those they are known to miss.

docs/data/set_measures.json holds what `python docs/make_measures.py` measured of the packaged sets;
docs/data/missed_bars.json lists what misses. A miss that is not listed fails here, and so does one
that is listed and passes: the list can only shrink, or grow by somebody's decision.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from published_files import FILES, published

from shiftgym.basics.errors import ShiftgymError
from shiftgym.datasets.packaged import load_packaged, packaged_index
from shiftgym.scores import published_maximum
from shiftgym_tools.comparing.bands import (
    DOMAINS,
    POINTS,
    TIMES,
    disagreements,
    judge,
    misses,
)
from shiftgym_tools.comparing.published_sets import (
    Published,
    measure_published,
    name_of_file,
    published_names,
    read_published,
    read_table,
    write_table,
)
from shiftgym_tools.comparing.style import measure_style

DATA = Path(__file__).parents[3] / "docs" / "data"
AGAIN = "python docs/make_measures.py writes it anew"
SLUG = "hopper-kinematic"


@cache
def measures() -> dict[str, dict[str, Any]]:
    return json.loads((DATA / "set_measures.json").read_text())


@cache
def table() -> dict[str, Published]:
    return read_table(DATA / "published_sets.csv")


@cache
def listed() -> list[dict[str, Any]]:
    return json.loads((DATA / "missed_bars.json").read_text())


def test_every_packaged_set_is_measured_as_it_is_now():
    stale = [
        name for name, entry in packaged_index().items()
        if measures().get(name, {}).get("sha256") != entry["sha256"]
    ]  # fmt: skip
    assert not stale, AGAIN


@pytest.mark.parametrize("name", ["hopper-kinematic/medium", "ant-gravity-x0p5/expert"])
def test_measures_on_file_are_those_of_the_sets(name: str):
    found, told = measure_style(load_packaged(name), name.split("/")[0]).rounded(), measures()[name]
    noise = found.pop("noise")
    assert told["noise"] == pytest.approx(noise, rel=0.03), AGAIN
    for key, value in found.items():
        assert told[key] == pytest.approx(value, rel=1e-4, abs=1e-4), f"{key}: {AGAIN}"


def test_sets_lie_in_their_bands_but_for_those_that_are_listed():
    wrong = disagreements(judge(measures(), table()), listed())
    assert not wrong, "\n".join([*wrong, AGAIN])


def test_the_table_has_every_published_set():
    assert list(table()) == published_names() and len(table()) == 36
    for name, row in table().items():
        assert row.transitions == 5000 or name.endswith("medium-expert")
        assert row.noise or name.endswith("medium-expert")
        assert 0 < row.change < 1.5 and 0 < row.length <= 1000


@published
def test_the_files_say_what_the_table_says_and_judge_alike():
    found = {name_of_file(path).short: measure_published(path) for path in FILES}
    for name, row in found.items():
        told = table()[name]
        assert told.measured == row.measured == "here"
        assert (told.transitions, told.episodes) == (row.transitions, row.episodes)
        assert told.noise == pytest.approx(row.noise, rel=0.03)
        for key in ("mean_return", "length", "speed", "change", "saturated"):
            assert getattr(told, key) == pytest.approx(getattr(row, key), rel=1e-4, abs=1e-4)
    wrong = disagreements(judge(measures(), table() | found), listed())
    assert not wrong, "\n".join(wrong)


def measured(earned: float, noise: float, change: float) -> dict[str, Any]:
    return {"mean_return": earned, "noise": noise, "change": change}


def made_up(**medium: float) -> dict[str, dict[str, Any]]:
    """Every set as published, the experts at the maximum; one medium otherwise."""
    ours = {}
    for name in (f"{slug}/{tier}" for slug in DOMAINS for tier in ("medium", "expert")):
        slug, tier = name.split("/")
        row = table()[name]
        earned = (published_maximum(slug) or 0.0) if tier == "expert" else row.mean_return
        ours[name] = measured(earned, row.noise or 0.0, row.change)
    ours[f"{SLUG}/medium"] |= medium
    return ours


def test_sets_like_the_published_ones_pass():
    verdicts = judge(made_up(), table())
    assert len(verdicts) == 7 * len(DOMAINS) and not misses(verdicts)
    assert not disagreements(verdicts, [])


def test_a_best_set_is_judged_as_the_expert_it_is_not():
    ours = made_up()
    ours[f"{SLUG}/best"] = ours.pop(f"{SLUG}/expert") | {"mean_return": 100.0}
    missed = misses(judge(ours, table()))
    assert [row["measure"] for row in missed] == ["expert return", "expert return, second bar"]


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_medium_may_be_ten_points_off_on_either_side(sign: int):
    per_point = (2842.73 + 26.3360015397715) / 100  # OTDF's two references of the domain
    row = table()[f"{SLUG}/medium"]
    inside = made_up(mean_return=row.mean_return + sign * 9.5 * per_point)
    assert not misses(judge(inside, table()))
    beyond = made_up(mean_return=row.mean_return + sign * 11 * per_point)
    (missed,) = misses(judge(beyond, table()))
    assert missed == {"domain": SLUG, "measure": "medium return", "value": 11.0, "bar": POINTS}


@pytest.mark.parametrize("measure", ["noise", "change"])
def test_a_set_may_be_a_third_noisier_than_the_published_one(measure: str):
    value = getattr(table()[f"{SLUG}/medium"], measure)
    assert not misses(judge(made_up(**{measure: 1.25 * value}), table()))
    (missed,) = misses(judge(made_up(**{measure: 2 * value}), table()))
    assert missed["measure"] == f"medium {measure}" and missed["bar"] == TIMES
    assert missed["value"] == 2.0


def test_an_expert_has_two_bars():
    ours = made_up()
    ours[f"{SLUG}/expert"]["mean_return"] = 0.85 * 2842.73
    assert [row["measure"] for row in misses(judge(ours, table()))] == ["expert return"]
    ours[f"{SLUG}/expert"]["mean_return"] = None  # no whole episode
    assert len(misses(judge(ours, table()))) == 2


def test_misses_that_are_not_listed_and_listed_ones_that_pass_are_told():
    verdicts = judge(made_up(noise=1.0), table())
    known = misses(verdicts)
    assert not disagreements(verdicts, known)
    (told,) = disagreements(verdicts, [])
    assert "not listed" in told and "medium noise" in told
    (told,) = disagreements(judge(made_up(), table()), known)
    assert "passes, but is listed" in told
    strange = [{"domain": "hopper-icy", "measure": "medium noise"}]
    assert "hopper-icy" in disagreements(judge(made_up(), table()), strange)[0]


def test_a_value_close_to_its_bar_may_count_either_way():
    row = table()[f"{SLUG}/medium"]
    verdicts = judge(made_up(change=1.31 * row.change), table())
    assert misses(verdicts)
    assert not disagreements(verdicts, []) and not disagreements(verdicts, misses(verdicts))


def test_a_published_file_is_cut_where_episodes_end(tmp_path: Path):
    import h5py

    rows = 1300  # falls in row 4; reaches the limit in row 1004; jumps after row 1100; is cut
    states = np.zeros((rows + 1, 11), np.float32)
    states[:, 0] = np.arange(rows + 1)
    after = states[1:].copy()
    after[1100, 0] = -1.0
    terminals = np.zeros(rows)
    terminals[4] = 1
    path = tmp_path / "hopper_gravity_0.5_medium.hdf5"
    with h5py.File(path, "w") as file:
        file["observations"], file["next_observations"] = states[:-1], after
        file["actions"], file["rewards"] = np.zeros((rows, 3)), np.ones((rows, 1))
        file["terminals"] = terminals
    flat = read_published(path)
    assert np.flatnonzero(flat["terminated"]).tolist() == [4]
    assert np.flatnonzero(flat["truncated"]).tolist() == [1004, 1100, 1299]
    style = measure_style(flat, "hopper-gravity-x0p5")
    assert (style.episodes, style.whole, style.mean_return) == (4, 2, 502.5)
    with h5py.File(path, "a") as file:
        del file["terminals"]
    with pytest.raises(ShiftgymError, match="Cannot read"):
        read_published(path)


def test_names_of_published_files():
    named = name_of_file(Path("walker2d_gravity_0.5_medium_expert.hdf5"))
    assert named.short == "walker2d-gravity-x0p5/medium-expert"
    for wrong in ("hopper_medium.hdf5", "pen_kinematic_medium.hdf5", "hopper_morph_best.hdf5"):
        with pytest.raises(ShiftgymError, match="not named"):
            name_of_file(Path(wrong))


def test_the_table_is_written_as_it_is_read(tmp_path: Path):
    write_table(table(), tmp_path / "table.csv")
    assert read_table(tmp_path / "table.csv") == table()

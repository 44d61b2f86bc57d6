"""Test runs put beside the numbers that papers printed."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from shiftgym.cli import main
from shiftgym.domains import catalogue
from shiftgym.errors import ShiftgymError
from shiftgym.scores import normalized_score
from shiftgym_agents.methods.table import method
from shiftgym_agents.reports.comparison import Comparison, compare, describe, table, total
from shiftgym_agents.reports.protocols import protocol
from shiftgym_agents.reports.report import read_groups

Json = dict[str, Any]


def fabricate(
    out: Path,
    name: str,
    pair: tuple[str, str],
    returns: Sequence[Sequence[float]],
    seeds: Sequence[int] | None = None,
    preset: str = "ours",
    domain: str | None = None,
    finished: bool = True,
    **values: Any,
) -> Path:
    """Write a run directory whose runs earned `returns` (runs, evaluations), with odd scores."""
    where = catalogue()[domain or pair[1].partition("/")[0]] if "toy" not in pair[1] else None
    where = where or catalogue()["hopper-morph"]
    seeds = list(seeds or range(len(returns)))
    config = dataclasses.asdict(method(name).presets[preset].for_robot(where.robot)) | values
    run = {"source": pair[0], "target": pair[1], "domain": where.kwargs()}
    run |= {"reference": {"random": 0.0, "expert": 1.0}}
    runs = [run | {"seed": seed} for seed in seeds]
    out.mkdir()
    about = {"method": name, "config": config, "runs": runs}
    (out / "config.json").write_text(json.dumps(about))
    if finished:
        (out / "result.json").write_text(json.dumps({"seconds": 1.0}))
    keys = ("stage", "update", "run", "source", "target", "seed", "return", "score")
    with open(out / "metrics.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(keys)
        for run, (seed, values_) in enumerate(zip(seeds, returns, strict=True)):
            for k, value in enumerate(values_):
                score = math.nan if math.isnan(value) else -999
                writer.writerow(["rl", 10_000 * (k + 1), run, *pair, seed, value, score])
    return out


PAIR = ("hopper/medium", "hopper-morph/medium")


def otdf_score(value: float) -> float:
    """Score a return in hopper-morph by the published reference, written out."""
    return 100 * (value + 26.3360015397715) / (3152.75 + 26.3360015397715)


def compared(name: str, *outs: Path) -> tuple[Comparison, Json]:
    made = compare(protocol(name), read_groups(outs))
    return made, json.loads(json.dumps(describe(made)))


def test_scores_are_made_anew_from_returns(tmp_path: Path) -> None:
    evaluations = [[100.0, 200, 300, 400, 500, 600], [0.0, 0, 0, 0, 0, 1000]]
    out = fabricate(tmp_path / "a", "otdf", PAIR, evaluations, preset="official")
    _, found = compared("otdf-morph", out)
    (entry,) = found["entries"]
    scores = [otdf_score(600), otdf_score(1000)]
    assert entry["last"]["scores"] == pytest.approx(scores)
    assert entry["last5"]["scores"] == pytest.approx([otdf_score(400), otdf_score(200)])
    assert entry["published"] == {"mean": 11.0, "std": 0.9} and entry["setting"] == "official"
    assert entry["difference"] == pytest.approx(sum(scores) / 2 - 11.0)
    assert (entry["last"]["low"], entry["last"]["high"]) == pytest.approx(tuple(scores))
    assert entry["seeds"] == [0, 1] and entry["reference"] == "otdf"
    assert len(found["missing"]["otdf"]) == 35 and len(found["missing"]["iql"]) == 36


def test_the_reference_is_the_rows_own(tmp_path: Path) -> None:
    outs = [
        fabricate(tmp_path / shift, "tabb", ("ant/medium", f"ant-{shift}/medium"), [[2000.0]])
        for shift in ("kinematic", "friction-x5")
    ]
    _, found = compared("tabb-locomotion", *outs)
    worth = [100 * 2325.6 / (5122.57 + 325.6), 100 * 2325.6 / (4545.021 + 325.6)]
    assert [entry["last"]["mean"] for entry in found["entries"]] == pytest.approx(worth)
    back = fabricate(
        tmp_path / "back", "droco", ("ant-kinematic/expert-1m", "ant/expert-100k"), [[2000.0]]
    )
    _, found = compared("droco-kinematic", back)
    assert found["entries"][0]["last"]["mean"] == pytest.approx(100 * 2325.6 / (3879.7 + 325.6))
    assert normalized_score("hopper", -20.272305, "d4rl") == pytest.approx(0)


@pytest.mark.parametrize(
    ("pair", "domain", "reason"),
    [
        (("hopper-morph/medium-1m", "hopper/medium-100k"), None, "the other direction: shifted so"),
        (("hopper-kinematic/medium-1m", "hopper-morph/medium"), None, "both shifted"),
        (("hopper/medium", "hopper-kinematic/medium"), None, "no pair of otdf-morph"),
        (("hopper/expert", "hopper-morph/medium"), None, "no pair of otdf-morph"),
        (("hopper/medium-100k", "hopper-morph/medium"), None, "another size or origin"),
        (("hopper/medium-minari", "hopper-morph/medium"), None, "another size or origin"),
        (("toy/source", "toy/target"), None, "not of the catalogue"),
        (PAIR, "hopper", "evaluated in hopper"),
    ],
)
def test_runs_that_do_not_belong_are_listed_and_enter_no_number(
    pair: tuple[str, str], domain: str | None, reason: str, tmp_path: Path
) -> None:
    good = fabricate(tmp_path / "good", "iql", PAIR, [[500.0]])
    stray = fabricate(tmp_path / "stray", "iql", pair, [[3000.0]], domain=domain)
    made, found = compared("otdf-morph", good, stray)
    (entry,) = found["entries"]
    assert entry["out"] == [str(good)] and entry["seeds"] == [0]
    (other,) = found["not_of_this_protocol"]
    assert other["out"] == str(stray) and reason in other["reason"]
    assert found["totals"]["iql, ours"]["mean"] == pytest.approx(otdf_score(500))
    *above, below = table(made).split("Not of otdf-morph")
    assert str(stray) in below and str(stray) not in "".join(above)


def test_the_reverse_protocol_refuses_the_forward_runs(tmp_path: Path) -> None:
    forward = fabricate(tmp_path / "forward", "iql", PAIR, [[500.0]])
    target_only = fabricate(tmp_path / "bc", "bc", ("none", PAIR[1]), [[500.0]])
    _, found = compared("droco-morph", forward, target_only)
    assert not found["entries"] and not found["totals"]
    reasons = [other["reason"] for other in found["not_of_this_protocol"]]
    assert all("droco-morph is shifted source" in reason for reason in reasons)


def test_published_files_imported_are_a_block_of_their_own(tmp_path: Path) -> None:
    own = fabricate(tmp_path / "own", "iql", PAIR, [[500.0]])
    imported = ("hopper/medium-d4rl", "hopper-morph/medium-otdf")
    theirs = fabricate(tmp_path / "theirs", "iql", imported, [[900.0]])
    _, found = compared("otdf-morph", own, theirs)
    assert set(found["totals"]) == {"iql, ours", "iql, ours, data d4rl -> otdf"}
    assert [entry["data"] for entry in found["entries"]] == ["", "d4rl -> otdf"]


def test_directories_of_one_setting_are_pooled_and_others_kept_apart(tmp_path: Path) -> None:
    one = fabricate(tmp_path / "one", "iql", PAIR, [[100.0], [200.0]])
    two = fabricate(tmp_path / "two", "iql", PAIR, [[600.0]], seeds=[2])
    wide = fabricate(tmp_path / "wide", "iql", PAIR, [[900.0]], width=512)
    half = fabricate(tmp_path / "half", "iql", PAIR, [[0.0]], seeds=[3], finished=False)
    made, found = compared("otdf-morph", one, two, wide, half)
    assert [(e["setting"], e["seeds"]) for e in found["entries"]] == [
        ("ours", [0, 1, 2]),
        ("ours", [3]),
        ("ours width=512", [0]),
    ]
    assert found["totals"]["iql, ours"]["mean"] == pytest.approx(otdf_score(300))
    assert "unfinished, 10,000 updates" in table(made)
    again = fabricate(tmp_path / "again", "iql", PAIR, [[100.0]])
    with pytest.raises(ShiftgymError, match="seed 0. Give one of them"):
        compared("otdf-morph", one, again)


def test_configurations_trained_side_by_side_are_kept_apart(tmp_path: Path) -> None:
    out = fabricate(tmp_path / "x", "iql", PAIR, [[100.0], [200.0]])
    about = json.loads((out / "config.json").read_text())
    about["configs"] = [about["config"], about["config"] | {"temperature": 10.0}]
    (out / "config.json").write_text(json.dumps(about))
    _, found = compared("otdf-morph", out)
    settings = {entry["setting"]: entry["last"]["scores"] for entry in found["entries"]}
    assert settings["ours"] == pytest.approx([otdf_score(100)])
    assert settings["ours temperature=10.0"] == pytest.approx([otdf_score(200)])


def test_totals_are_over_the_same_pairs(tmp_path: Path) -> None:
    other = ("hopper/medium", "hopper-morph/expert")
    runs = [[[300.0], [900.0]], [[math.nan], [600.0]]]
    outs = [
        fabricate(tmp_path / str(k), "iql", pair, returns)
        for k, (pair, returns) in enumerate(zip((PAIR, other), runs, strict=True))
    ]
    made, found = compared("otdf-morph", *outs)
    about = found["totals"]["iql, ours"]
    assert about["mean"] == pytest.approx(2 * otdf_score(600)) and about["pairs"] == 2
    assert about["published"] == pytest.approx(13.5 + 13.5)
    low, high = (otdf_score(600) + otdf_score(value) for value in (300, 900))
    assert (about["low"], about["high"]) == pytest.approx((low, high))
    assert "1 diverged" in table(made)
    assert total(made.protocol, []) is None


def test_target_alone_stands_for_every_pair_of_its_target(tmp_path: Path) -> None:
    alone = fabricate(tmp_path / "a", "bc", ("none", PAIR[1]), [[500.0]])
    beside = fabricate(tmp_path / "b", "bc", ("hopper/medium", "hopper-morph/expert"), [[600.0]])
    made, found = compared("otdf-morph", alone, beside)
    assert [len(entry["pairs"]) for entry in found["entries"]] == [3, 3]
    about = found["totals"]["bc, ours"]
    assert about["mean"] == pytest.approx(3 * (otdf_score(500) + otdf_score(600)))
    assert about["pairs"] == 6 and about["published"] is None
    assert len(found["missing"]["bc"]) == 30
    assert "any of 3" in table(made)


def test_other_methods_of_the_package_may_stand_beside(tmp_path: Path) -> None:
    _, found = compared("otdf-morph", fabricate(tmp_path / "x", "dvdf-otdf", PAIR, [[500.0]]))
    (entry,) = found["entries"]
    assert entry["published"] is None and entry["difference"] is None


def test_report_prints_ours_beside_the_published(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = fabricate(tmp_path / "good", "otdf", PAIR, [[500.0], [700.0]], preset="official")
    stray = fabricate(
        tmp_path / "stray", "otdf", ("hopper-morph/medium-1m", "hopper/medium-100k"), [[500.0]]
    )
    arguments = ["report", str(good), str(stray), "--protocol", "otdf-morph"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    (line,) = [each for each in printed.splitlines() if "11.0±0.9" in each]
    mean, low, high = (otdf_score(value) for value in (600, 500, 700))
    assert f"{mean:.1f} [{low:.1f}, {high:.1f}]" in line and f"{mean - 11:+.1f}" in line
    assert "2 of 5" in line and "35 of 36 pairs" in printed
    assert "the other direction: shifted source" in printed
    assert not (good / "curves.png").exists()
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["protocol"] == "otdf-morph" and len(found["not_of_this_protocol"]) == 1


def test_an_imported_target_counts_with_the_published_share_of_it(tmp_path: Path) -> None:
    outs = [
        fabricate(
            tmp_path / f"{origin}-{share}",
            "droco",
            ("ant-kinematic/expert-1m", f"ant/expert-{origin}"),
            [[2000.0]],
            target_share=share,
        )
        for origin in ("d4rl", "100k")
        for share in (0.1, 1.0)
    ]
    made, _ = compared("droco-kinematic", *outs)
    assert [entry.outs for entry in made.entries] == [(outs[3],), (outs[0],)]
    assert [reason for _, reason in made.others] == [
        "target_share 1.0 of ant/expert-d4rl instead of 0.1",
        "target_share 0.1 of ant/expert-100k instead of 1.0",
    ]

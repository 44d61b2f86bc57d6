"""Test the robustness harness against tables, brute force and plain computations."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from robustness_helpers import make_subject

import shiftgym
from shiftgym.basics.errors import DomainError
from shiftgym.cli import main
from shiftgym.domains import Domain
from shiftgym.making import from_kwargs, make_domain
from shiftgym.modelling import build_model
from shiftgym_agents.evaluation import rollouts
from shiftgym_agents.evaluation.perturb import FAMILIES, SUITES, Level, families, suite_levels
from shiftgym_agents.evaluation.robustness import measure
from shiftgym_agents.reports.robustness import curves
from shiftgym_agents.training.evaluator import Evaluator

LOCOMOTION = ("hopper", "walker2d", "halfcheetah", "ant")
DEGREES = math.pi / 180

# ODRL's model files, joints by joint: (unit, nominal, easy, medium, hard).
ANKLE = (DEGREES, (30, 70), (30, 62), (30, 50), (30, 38))
MIRRORED = (DEGREES, (-70, -30), (-62, -30), (-50, -30), (-38, -30))
FOOT = (DEGREES, (-45, 45), (-36, 36), (-22.5, 22.5), (-9, 9))
THIGH = (DEGREES, (-150, 0), (-120, 0), (-75, 0), (-30, 0))
HIP = (DEGREES, (-30, 30), (-24, 24), (-15, 15), (-6, 6))
RANGES: dict[tuple[str, str], dict[str, Any]] = {
    ("halfcheetah", "kinematic-thighjnt"): {
        "bthigh": (1, (-0.52, 1.05), (-0.416, 0.84), (-0.26, 0.525), (-0.104, 0.21)),
        "fthigh": (1, (-1.0, 0.7), (-0.8, 0.56), (-0.5, 0.35), (-0.2, 0.14)),
    },
    ("halfcheetah", "kinematic-footjnt"): {
        "bfoot": (1, (-0.4, 0.785), (-0.32, 0.628), (-0.2, 0.3925), (-0.08, 0.157)),
        "ffoot": (1, (-0.5, 0.5), (-0.4, 0.4), (-0.25, 0.25), (-0.1, 0.1)),
    },
    ("hopper", "kinematic-footjnt"): {"foot_joint": FOOT},
    ("hopper", "kinematic-legjnt"): {"leg_joint": THIGH},
    ("walker2d", "kinematic-footjnt"): {"foot_joint": FOOT, "foot_left_joint": FOOT},
    ("walker2d", "kinematic-thighjnt"): {"thigh_joint": THIGH, "thigh_left_joint": THIGH},
    ("ant", "kinematic-hipjnt"): {f"hip_{k}": HIP for k in (1, 2, 3, 4)},
    ("ant", "kinematic-anklejnt"): {
        "ankle_1": ANKLE,
        "ankle_2": MIRRORED,
        "ankle_3": MIRRORED,
        "ankle_4": ANKLE,
    },
}


def joint_range(place: Domain, joint: str) -> np.ndarray:
    return build_model(place).joint(joint).range


@pytest.mark.parametrize(("robot", "family"), RANGES)
def test_ranges_are_the_published_ones_and_nothing_else_changes(robot: str, family: str) -> None:
    own = shiftgym.domain(robot)
    places = [own, *(level.domain(own) for level in suite_levels(family, robot))]
    assert len(places) == 4
    for joint, (unit, *expected) in RANGES[robot, family].items():
        for place, values in zip(places, expected, strict=True):
            assert joint_range(place, joint) == pytest.approx(np.array(values) * unit, abs=1e-12)
    clean = build_model(own)
    for place in places[1:]:
        model = build_model(place)
        same = (model.jnt_range == clean.jnt_range).all(1)
        assert (~same).sum() == len(RANGES[robot, family])
        assert np.array_equal(model.body_inertia, clean.body_inertia)


def test_default_families_are_the_first_of_each_kind() -> None:
    for robot in LOCOMOTION:
        for suite in FAMILIES:
            levels, named = suite_levels(suite, robot), suite_levels(FAMILIES[suite][robot], robot)
            assert [level.name for level in levels] == ["easy", "medium", "hard"]
            assert [level.shift for level in levels] == [level.shift for level in named]


@pytest.mark.parametrize("own", ["", "-kinematic"])
@pytest.mark.parametrize(("robot", "family"), RANGES)
def test_ranges_are_nested_on_any_domain(robot: str, family: str, own: str) -> None:
    place = shiftgym.domain(robot + own)
    wider = build_model(place).jnt_range
    for level in suite_levels(family, robot):
        narrower = build_model(level.domain(place)).jnt_range
        assert (narrower[:, 0] >= wider[:, 0]).all() and (narrower[:, 1] <= wider[:, 1]).all()
        assert not np.array_equal(narrower, wider)
        wider = narrower


def link_lengths(place: Domain) -> np.ndarray:
    model = build_model(place)
    return np.concatenate([model.geom_size.ravel(), model.body_pos.ravel()])


@pytest.mark.parametrize("robot", [*LOCOMOTION, "pen", "door"])
def test_other_suites_go_ever_further_from_the_clean_model(robot: str) -> None:
    own = shiftgym.domain(robot)
    read = {
        "morph": link_lengths,
        "friction": lambda place: build_model(place).geom_friction[:, 0],
        "gravity": lambda place: build_model(place).opt.gravity,
    }
    for suite, values in read.items():
        if robot in ("pen", "door") and suite != "morph":
            continue
        places = [own, *(level.domain(own) for level in suite_levels(suite, robot))]
        gaps = [np.abs(values(place) - values(own)).sum() for place in places]
        assert gaps == sorted(gaps) and len(set(gaps)) == 4, suite
        if suite != "morph":
            factors = [float(values(place)[-1] / values(own)[-1]) for place in places]
            assert factors == pytest.approx([1, 0.8, 0.5, 0.2])


def test_edits_come_on_top_of_a_shifted_domain() -> None:
    own = shiftgym.domain("hopper-kinematic")  # foot +-18 degrees
    easy, _, hard = (level.domain(own) for level in suite_levels("kinematic", "hopper"))
    assert joint_range(easy, "foot_joint")[1] == pytest.approx(14.4 * DEGREES)
    assert joint_range(hard, "foot_joint")[1] == pytest.approx(3.6 * DEGREES)
    assert joint_range(hard, "thigh_joint")[0] == joint_range(own, "thigh_joint")[0]
    light = shiftgym.domain("ant-gravity-x0p5")
    assert build_model(suite_levels("gravity", "ant")[1].domain(light)).opt.gravity[2] == -9.81 / 4
    rebuilt = from_kwargs(**hard.kwargs())
    assert joint_range(rebuilt, "foot_joint").tolist() == joint_range(hard, "foot_joint").tolist()


def test_what_a_level_would_undo_is_an_error_that_names_another() -> None:
    for robot, other in [("hopper", "morph-foot"), ("walker2d", "morph-torso")]:
        own = shiftgym.domain(f"{robot}-morph")
        with pytest.raises(DomainError, match=f"another family: {other}"):
            suite_levels("morph", robot)[0].domain(own)
        assert suite_levels(other, robot)[0].domain(own).shift == f"morph-and-{other}-easy"
    for robot in LOCOMOTION:  # every classic domain has a family of either kind
        for shift in ("kinematic", "morph"):
            own, fits = shiftgym.domain(f"{robot}-{shift}"), set()
            for family in families(robot):
                try:
                    suite_levels(family, robot)[0].domain(own)
                    fits.add(family.partition("-")[0])
                except DomainError:
                    pass
            assert fits == {"kinematic", "morph"}, own


def test_a_file_of_domains_is_a_suite(tmp_path: Path) -> None:
    file = tmp_path / "weak.toml"
    file.write_text(
        '[hopper.weak]\nlevels = { mild = 0.8, strong = 0.5 }\nactuator.".*".gear = '
        '{ scale = "level", index = [0] }\n'
    )
    mild, strong = suite_levels(str(file), "hopper")
    assert (mild.suite, mild.name, strong.name) == ("weak", "weak-mild", "weak-strong")
    assert build_model(strong.domain(shiftgym.domain("hopper"))).actuator_gear[0, 0] == 100
    with pytest.raises(DomainError, match="no domain of the ant"):
        suite_levels(str(file), "ant")


@pytest.mark.parametrize("wrong", ["kinematik", "morph-leg", "x"])
def test_unknown_suites_are_named(wrong: str) -> None:
    with pytest.raises(DomainError, match="Valid choices: .*kinematic-footjnt.*min-q"):
        suite_levels(wrong, "hopper")


# --- episodes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("slug", ["hopper", "walker2d-kinematic", "pen-morph-easy"])
def test_level_one_returns_exactly_what_clean_does(slug: str) -> None:
    subject = make_subject(slug)
    robot = subject.robot
    if robot == "pen":
        same = [make_domain(robot, {"option.gravity": {"scale": 1.0}})]
    else:
        names = (FAMILIES["kinematic"][robot], "friction", "gravity")
        same = [make_domain(robot, name, level=1.0) for name in names]
    levels = [Level("same", str(d.shift), 1.0, d) for d in same]
    hard = suite_levels("kinematic", robot)[2]
    found = measure(subject, [*levels, hard], episodes=3, seed=7)
    for k in range(1, 1 + len(levels)):
        assert np.array_equal(found.returns[:, k], found.returns[:, 0])
        assert np.array_equal(found.lengths[:, k], found.lengths[:, 0])
    assert not np.array_equal(found.returns[:, -1], found.returns[:, 0])
    evaluator = Evaluator(subject.domains, [7, 8], 3)  # as `shiftgym eval --seed 7`
    assert np.array_equal(evaluator.evaluate(subject.policy, 0).returns, found.returns[:, 0])
    evaluator.close()


def test_returns_are_those_of_single_episodes() -> None:
    subject, levels = make_subject("hopper"), suite_levels("morph", "hopper")
    found = measure(subject, levels, episodes=2, seed=0)
    for run, level in [(0, 0), (1, 2), (1, 3)]:
        env: Any = found.levels[level].domain(subject.domains[run]).make()
        blocks = []
        for episode in range(2):
            obs, _ = env.reset(seed=int(found.starts[run, episode]))
            total, over = 0.0, False
            while not over:
                block = np.zeros((2, 2, len(obs)))
                block[run, episode] = obs
                obs, reward, ended, cut, _ = env.step(subject.policy.act(block)[run, episode])
                total, over = total + reward, ended or cut
            blocks.append(total)
        env.close()
        assert blocks == pytest.approx(found.returns[run, level], rel=1e-6)


def test_how_work_is_split_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    subject, levels = make_subject("hopper"), suite_levels("gravity", "hopper")
    monkeypatch.setattr(rollouts, "STAY", 2)
    whole = measure(subject, levels, episodes=3, seed=0)
    monkeypatch.setattr(rollouts, "SHRINK_AT", 0.0)
    never_smaller = measure(subject, levels, episodes=3, seed=0)
    monkeypatch.setattr("shiftgym_agents.evaluation.robustness.rows_that_fit", lambda: 13)
    in_two = measure(subject, levels, episodes=3, seed=0)
    for other in (never_smaller, in_two):
        assert np.array_equal(whole.returns, other.returns)
        assert np.array_equal(whole.lengths, other.lengths)


def test_diverged_runs_are_counted_not_averaged() -> None:
    subject = make_subject("hopper")
    subject.policy.layers[0][0][1, 0, 0] = np.nan
    (curve,) = curves([measure(subject, suite_levels("gravity", "hopper"), 2, 0)])
    assert [(about["runs"], about["diverged"]) for about in curve.summary] == [(2, 1)] * 4
    assert curve.summary[1]["return"]["mean"] == pytest.approx(curve.returns[0, 1].mean())


# --- the command ----------------------------------------------------------------------------------

SETS = "--source hopper-morph/medium --target hopper-kinematic/medium".split()
TINY = "--steps 20 --width 32 --batch 16 --evaluate-every 20 --episodes 1 --threads 1 --seeds 2"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    found = {name: folder / name for name in ("iql", "iql-target", "bc")}
    for name, out in found.items():
        sets = SETS if name == "iql" else SETS[2:]
        options = [*TINY.split(), "--no-progress", "--device", "cpu", "--out", str(out)]
        assert main(["train", name, *sets, *options]) == 0
    return found


def test_command_writes_what_it_says(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    outs = [str(runs["iql"]), str(runs["iql-target"])]
    capsys.readouterr()
    suites = ["--perturb", "kinematic,gravity,min-q", "--episodes", "2"]
    fixed = ["--scales", "0", "0.2", "--device", "cpu"]
    assert main(["eval", *outs, *suites, *fixed]) == 0
    printed = capsys.readouterr().out
    assert "ratio of means" in printed and printed.count("medium") == 2
    for out in runs["iql"], runs["iql-target"]:
        with open(out / "robustness.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 2 * (1 + 3 + 3 + 2) * 2
        about = json.loads((out / "robustness.json").read_text())
        (pair,) = about["pairs"]
        assert pair["seeds"] == [0, 1] and about["options"]["candidates"] == 50
        for level in pair["levels"]:
            own = [r for r in rows if (r["suite"], r["level"]) == (level["suite"], level["level"])]
            returns = [float(row["return"]) for row in own]
            assert level["return"]["mean"] == pytest.approx(np.mean(returns))
            assert level["length"] == pytest.approx(np.mean([int(row["length"]) for row in own]))
        clean = [row["return"] for row in rows if row["suite"] == "clean"]
        assert [row["return"] for row in rows if row["level"] == "0"] == clean
        assert {row["start"] for row in rows if row["suite"] == "gravity"} == {
            row["start"] for row in rows if row["suite"] == "clean"
        }
        for suite in ("kinematic", "gravity", "min-q"):
            assert (out / f"robustness-{suite}.png").stat().st_size > 10_000
    assert (runs["iql"] / "robustness.png").stat().st_size > 10_000
    assert main(["eval", outs[0], "--episodes", "2", "--json"]) == 0
    plain = [value for run in json.loads(capsys.readouterr().out) for value in run["returns"]]
    with open(runs["iql"] / "robustness.csv", newline="") as file:
        clean = [float(r["return"]) for r in csv.DictReader(file) if r["suite"] == "clean"]
    assert plain == clean


def test_command_prints_json(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    arguments = ["eval", str(runs["bc"]), "--perturb", "gravity", "--episodes", "1", "--json"]
    assert main(arguments) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert [level["level"] for level in run["levels"]] == ["clean", "easy", "medium", "hard"]
    slugs = [list(level["domains"]) for level in run["levels"]]
    assert slugs[0] == ["hopper-kinematic"] and slugs[3] == ["hopper-kinematic-and-gravity-x0p2"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--perturb", "kinematik"], 2, "Did you mean 'kinematic'"),
        (["--perturb", "min-q"], 1, "BC learns no critic"),
        (["--perturb", "morph", "--domains", "hopper"], 1, "--perturb or --domains"),
        (["--perturb", "min-q", "--scales", "-0.1"], 1, "scales must be"),
        (["--perturb", "min-q", "--candidates", "0"], 1, "candidates must be"),
        (["--perturb", "morph", "--episodes", "0"], 1, "episodes must be"),
        (["--perturb", "morph", "--out", "x.jpg"], 1, ".png"),
        (["--perturb", "morph", "--out", "no/such/x.png"], 1, "Cannot write"),
        (["--perturb", "missing.toml"], 2, "missing.toml"),
    ],
)
def test_a_mistake_is_named_before_anything_is_simulated(
    arguments: list[str],
    code: int,
    says: str,
    runs: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("shiftgym_agents.commands.robustness.measure", None)
    assert main(["eval", str(runs["bc"]), *arguments]) == code
    assert says in capsys.readouterr().err


def test_data_made_anew_since_training_are_refused(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = json.loads((runs["iql"] / "config.json").read_text())
    about["runs"][0]["target_sha256"] = "0"
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in runs["iql"].iterdir():
        if file.is_file():
            (copy / file.name).write_bytes(file.read_bytes())
    (copy / "config.json").write_text(json.dumps(about))
    assert main(["eval", str(copy), "--perturb", "min-q"]) == 1
    assert "not the dataset" in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--help"]) == 0
    printed = capsys.readouterr().out
    assert "--perturb kinematic,morph,friction,gravity,min-q,noise" in printed
    assert all(suite in printed for suite in SUITES)

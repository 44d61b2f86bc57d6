"""Test grids of data and environments that are none of shiftgym's."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import tomllib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import minari
import numpy as np
import pytest
import torch
from minari.data_collector import EpisodeBuffer
from sweep_helpers import HOW, planned

from shiftgym.basics.errors import ShiftgymError
from shiftgym.cli import main
from shiftgym_agents.commands import sweep as command
from shiftgym_agents.data.batches import Data
from shiftgym_agents.data.opening import Wanted, open_wanted
from shiftgym_agents.reports.leaderboard import sections
from shiftgym_agents.reports.results import read_results
from shiftgym_agents.sweeps import rates
from shiftgym_agents.sweeps.grid import read_grids
from shiftgym_agents.sweeps.plan import plan
from shiftgym_agents.sweeps.sets import read_sources, write_sources
from shiftgym_agents.sweeps.work import MARK, How, Outcome, train_group
from shiftgym_agents.training.records import read_about

ROBOT = """
import gymnasium as gym
from gymnasium.envs.classic_control.pendulum import PendulumEnv

class Heavy(PendulumEnv):
    def __init__(self, mass=2.0, **options):
        super().__init__(**options)
        self.m = mass

if "HeavyPole-v0" not in gym.registry:
    gym.register("HeavyPole-v0", Heavy, max_episode_steps=20)
"""
TINY = """
title = "a pole"
pairs = ["{source} -> {target}"]
methods = ["bc", "iql"]
seeds = 2
every = 5
episodes = 1
eval_env = "{env}"
[settings]
steps = 5
width = 8
batch = 8
"""
MINARI = "lab/pole/light-v0"
QUICK = ("--device", "cpu", "--updates", "eager", "--jobs", "1", "--threads", "1")


def record(mass: float, episodes: int, seed: int) -> list[dict[str, np.ndarray]]:
    """Record random actions in Gymnasium's pendulum of a mass, episodes of 20 steps."""
    env: Any = gym.make("Pendulum-v1", max_episode_steps=20)
    env.unwrapped.m = mass
    env.action_space.seed(seed)
    found = []
    for k in range(episodes):
        seen, over = [env.reset(seed=seed + k)[0]], False
        actions, rewards = [], []
        while not over:
            actions.append(env.action_space.sample())
            after, reward, _, over, _ = env.step(actions[-1])
            seen.append(after)
            rewards.append(float(reward))
        found.append({"observations": seen, "actions": actions, "rewards": rewards})
    env.close()
    return [{key: np.array(values) for key, values in each.items()} for each in found]


def flat(episodes: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Lay episodes out as rows."""
    ends = np.concatenate([np.arange(len(e["rewards"])) == len(e["rewards"]) - 1 for e in episodes])
    return {
        "observations": np.concatenate([each["observations"][:-1] for each in episodes]),
        "actions": np.concatenate([each["actions"] for each in episodes]),
        "rewards": np.concatenate([each["rewards"] for each in episodes]),
        "next_observations": np.concatenate([each["observations"][1:] for each in episodes]),
        "terminated": np.zeros(len(ends), bool),
        "truncated": ends,
    }


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a heavy pole's few logs, a light one's many, and the robot."""
    folder = tmp_path_factory.mktemp("logs")
    np.savez(folder / "heavy.npz", **flat(record(2.0, 4, 0)))  # pyright: ignore
    with h5py.File(folder / "old.hdf5", "w") as file:
        for name, array in flat(record(0.5, 4, 50)).items():
            file[{"terminated": "terminals", "truncated": "timeouts"}.get(name, name)] = array
    (folder / "pole.py").write_text(ROBOT)
    return folder


@pytest.fixture
def home(logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be where the logs are, copied, with a Minari set of the light pole."""
    for path in logs.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    if "forkserver" in multiprocessing.get_all_start_methods():  # which begins elsewhere
        before = multiprocessing.get_context("forkserver").Process(target=int)
        before.start()
        before.join()
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path


def make_minari() -> None:
    """Write the light pole's episodes as a Minari set."""
    buffers = []
    for k, each in enumerate(record(0.5, 4, 100)):
        ends = np.arange(len(each["rewards"])) == len(each["rewards"]) - 1
        over = {"terminations": np.zeros(len(ends), bool), "truncations": ends}
        told: dict[str, Any] = {**each, **over}
        buffers.append(EpisodeBuffer(id=k, seed=k, **told))
    minari.create_dataset_from_buffers(MINARI, buffers, env=gym.make("Pendulum-v1"))


def grid(
    home: Path,
    source: str = "old.hdf5",
    target: str = "heavy.npz",
    env: str = "pole.py:HeavyPole-v0",
    top: str = "",
    name: str = "own",
) -> Path:
    path = home / f"{name}.toml"
    path.write_text(top + TINY.format(source=source, target=target, env=env))
    return path


def train_here(path: str, *words: str, collected: int = 0) -> None:
    """Train the groups of a grid in this process, and collect them by the command."""

    def here(made: Any, room: Any, how: How, out: Path, board: Any) -> int:
        out.mkdir()
        (out / MARK).write_text("{}")
        for each in made.left:
            outcome = Outcome(**train_group(each.group.plain(), str(each.out), asdict(how)))
            board.end(each.group.key, outcome)
        return 0

    words = ("sweep", path, "--out", "runs", *words)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(command, "drive", here)
        assert main([*words, *QUICK]) == 0
    assert main([*words, "--collect"]) == collected


@pytest.mark.filterwarnings("ignore:`")  # what Minari would have told of a set
def test_a_minari_source_and_an_npz_target_from_plan_to_leaderboard(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_minari()
    here = lambda kinds, jobs: [rates.measure(*kind) for kind in kinds]  # noqa: E731
    monkeypatch.setattr(rates, "_measure_all", here)
    path = grid(home, source=f"{MINARI} + old.hdf5 x0.5")
    words = ["sweep", str(path), "--out", "runs", *QUICK]
    assert main([*words, "--dry", "--json"]) == 0, capsys.readouterr().err
    told = json.loads(capsys.readouterr().out)
    assert told["runs"] == 4 and told["missing"] == [] and 0 < told["hours"] < 1
    assert not (home / "runs").exists()
    assert main(words) == 0, capsys.readouterr().err
    assert "2 groups: 2 done." in capsys.readouterr().out

    homes = {each.name.split("-")[0]: each for each in (home / "runs").glob("*-HeavyPole-v0-*")}
    assert set(homes) == {"bc", "iql"}
    about = read_about(homes["iql"])["runs"][0]
    named = {part["name"]: part["sha256"] for part in about["sources"]}
    named |= {"heavy.npz": about["target_sha256"]}
    kept = json.loads((homes["iql"] / "group.json").read_text())["data"]
    assert {name: kept[name] for name in named} == named and set(kept) - set(named) == {"pole.py"}
    assert [part["rows"] for part in about["sources"]] == [80, 40]
    assert about["domain"]["env"] == "pole.py:HeavyPole-v0"

    assert main([*words[:4], "--collect"]) == 0
    capsys.readouterr()
    rows = read_results(home / "runs" / "own.csv").rows
    assert {row["source"] for row in rows} == {"none", f"{MINARI} + old.hdf5 x0.5"}
    for row in rows:
        result = json.loads((homes[row["method"]] / "result.json").read_text())["runs"]
        assert row["return"] == pytest.approx(result[row["seed"]]["return"], abs=1e-3)
        assert np.isnan(row["score"]) and row["return"] < 0 and row["length"] == 20
    assert main(["leaderboard", "runs/own.csv", "--page", "page.html"]) == 0
    said = capsys.readouterr().out
    assert "own, returns in pole.py:HeavyPole-v0: a pole" in said
    assert "(target data)" in said and "policy without noise" not in said
    assert "nothing says what they are worth" in said and "tabb-locomotion" not in said
    (section,) = sections(read_results(home / "runs" / "own.csv"))
    returns = [each["rewards"].sum() for each in record(2.0, 4, 0)]
    bar = section.bars["heavy.npz"]["data"]
    assert bar["score"] == pytest.approx(np.mean(returns), abs=1e-2) and bar["episodes"] == 4
    assert main(["report", "runs/own.csv", "--json"]) == 0
    assert {each["unit"] for each in json.loads(capsys.readouterr().out)["runs"]} == {"return"}

    arrays = dict(np.load("heavy.npz"))
    os.remove("heavy.npz")  # what is trained can be collected without the data
    assert main([*words[:4], "--collect"]) == 0
    assert main(words) == 0 and "2 groups: 2 done." in capsys.readouterr().out
    np.savez("heavy.npz", **(arrays | {"rewards": arrays["rewards"] - 1}))  # pyright: ignore
    for each in planned(path, home / "runs").groups:  # other content is trained on anew
        assert each.state == "new"
        each.out.mkdir()
        (each.out / "group.json").write_text(json.dumps(each.group.plain()))
    os.remove("heavy.npz")  # which of the two is meant?
    assert main([*words[:4], "--collect"]) == 1
    assert (
        "heavy.npz is not here, and runs holds trainings on 2 versions" in capsys.readouterr().err
    )


def test_what_decides_the_numbers_is_in_the_key(home: Path) -> None:
    def keys(**options: Any) -> set[str]:
        made = plan(read_grids(str(grid(home, **options))), home / "runs", check=False)
        return {each.group.key for each in made.groups}

    first = keys()
    assert first == keys() and len(first) == 2
    for top in ("reference_returns = [-300, -10]\n", "eval_steps = 10\n"):
        assert not keys(top=top) & first
    assert keys(top="reference_returns = [-300, -10]\n") == keys(
        top="reference_returns = [-300.0, -10.0]\n"
    )
    assert not keys(env="none") & first
    assert keys(source="old.hdf5 x1") == first and keys(source=" old.hdf5  ") == first
    (home / "pole.py").write_text(ROBOT.replace("2.0", "3.0"))
    assert not (other := keys()) & first
    arrays = dict(np.load(home / "heavy.npz"))
    np.savez_compressed(home / "heavy.npz", **arrays)  # pyright: ignore
    assert keys() == other  # the same content in another file
    np.savez(home / "heavy.npz", **(arrays | {"rewards": arrays["rewards"] + 1}))  # pyright: ignore
    assert not keys() & other


def test_the_file_of_a_method_is_in_the_key(home: Path) -> None:
    text = "from shiftgym_agents.methods.bc import BC\n\n\nclass Mine(BC):\n    pass\n"
    found = []
    for more in ("", "# another\n"):
        (home / "mine.py").write_text(text + more)
        made = plan(read_grids(str(grid(home)), {"methods": ["mine.py:Mine"]}), home / "runs")
        found.append(made.groups[0].group)
        assert found[-1].data["mine.py"] == hashlib.sha256((text + more).encode()).hexdigest()
    assert found[0].key != found[1].key
    found[0] = replace(found[0], data=found[1].data | {"heavy.npz": "0" * 64})
    (home / "runs").mkdir()
    (home / "runs" / MARK).write_text("{}")  # a worker finds other data than were planned
    told = train_group(found[0].plain(), str(home / "runs" / found[0].key), asdict(HOW))
    assert told["state"] == "failed" and "heavy.npz has changed since" in told["reason"]


@pytest.mark.parametrize("share", ["0.5", ".25", "0.00005", "0.1234567891"])
def test_sources_are_written_as_they_are_read(share: str) -> None:
    written = write_sources(f"a.npz  x{share} + b.npz")
    assert write_sources(written) == written
    assert read_sources(written) == (("a.npz", "b.npz"), (float(share), 1.0))


@pytest.mark.parametrize("method", ["bc", "iql"])
def test_a_table_that_lacks_the_domain_is_refused_with_a_source_and_without(
    method: str, home: Path
) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 11)).astype(np.float32)
    arrays = flat(record(2.0, 3, 0))
    arrays |= {"observations": rows, "next_observations": rows, "actions": np.tanh(rows[:, :3])}
    np.savez("hopper.npz", **arrays)  # pyright: ignore
    path = grid(home, "hopper.npz", "hopper.npz", "ShiftHopper-friction-x0p37-v0")
    with pytest.raises(ShiftgymError, match="shiftgym gives no reference for hopper-friction"):
        planned(path, home / "runs", methods=[method], reference="shiftgym")


def test_keys_of_grids_that_tell_nothing_are_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "old.toml"
    path.write_text(
        'pairs = ["hopper/medium -> hopper-kinematic/medium"]\n'
        'methods = ["bc", "iql"]\n[settings]\nsteps = 40\n'
    )
    for each in planned(path, tmp_path / "out").groups:
        told = each.group.plain()
        decides = {name: told[name] for name in BEFORE}
        digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
        assert each.group.key == f"{told['method']}-hopper-{digest[:10]}"
        assert set(told) - set(BEFORE) == {"told"} and set(told["data"]) <= {*told["runs"][0][:2]}


BEFORE = ("method", "robot", "config", "reference", "every", "episodes", "runs", "data")


def test_runs_are_packed_by_what_may_train_in_lockstep(home: Path) -> None:
    """Two targets of one environment go together, another environment's do not."""
    arrays = dict(np.load("heavy.npz"))
    np.savez("more.npz", **(arrays | {"rewards": 2 * arrays["rewards"]}))  # pyright: ignore
    wide = {key: np.repeat(arrays[key], 2, 1) for key in ("observations", "next_observations")}
    np.savez("wide.npz", **(arrays | wide))  # pyright: ignore
    path = grid(home, env="none")
    pairs = [f"old.hdf5 -> {name}" for name in ("heavy.npz", "more.npz")] + ["none -> wide.npz"]
    made = planned(path, home / "runs", pairs=pairs, methods=["bc"])
    assert [len(each.group.runs) for each in made.groups] == [4, 2]
    assert {each.group.robot for each in made.groups} == {"nowhere"}


def test_a_worker_elsewhere_finds_relative_paths_and_trains_targets_in_lockstep(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = dict(np.load("heavy.npz"))
    np.savez("more.npz", **(arrays | {"rewards": 2 * arrays["rewards"]}))  # pyright: ignore
    pairs = [f"none -> {name}" for name in ("heavy.npz", "more.npz")]
    (each,) = planned(grid(home), home / "runs", pairs=pairs, methods=["bc"]).groups
    for folder in ("runs", "elsewhere"):
        (home / folder).mkdir()
    (home / "runs" / MARK).write_text("{}")
    monkeypatch.chdir(home / "elsewhere")
    how = asdict(replace(HOW, folder=str(home)))
    assert train_group(each.group.plain(), str(each.out), how) == {"state": "done", "reason": ""}
    assert {run["target"] for run in read_about(each.out)["runs"]} == {"heavy.npz", "more.npz"}
    assert Path.cwd() == home / "elsewhere"


def test_pairs_that_share_a_set_store_it_once(home: Path) -> None:
    """Rows drawn are those of pairs that were opened apart, bit for bit."""
    asked = [
        Wanted("hopper-kinematic/medium", ("hopper-morph/medium",)),
        Wanted("hopper-kinematic/medium", ("hopper-morph/medium", "hopper-kinematic/expert")),
        Wanted("hopper-kinematic/expert", ("hopper-morph/medium",)),
        Wanted("hopper-morph/expert", ("hopper-morph/medium", "hopper-kinematic/expert")),
    ]
    shared: dict[str, Any] = {}
    apart = Data([open_wanted(each) for each in asked])
    together = Data([open_wanted(each, shared=shared) for each in asked])
    assert len(apart.rows) == 50_000 and len(together.rows) == 30_000

    def drawn(data: Data) -> Any:
        generators = [torch.Generator().manual_seed(k) for k in range(len(asked))]
        places = data.draw(generators, 3, 16, 8)
        return torch.stack([data.batch(places[:, k], 16).rows for k in range(3)])

    assert torch.equal(drawn(apart), drawn(together))
    for side in ("source", "target"):
        one, two = (data.origins(side) for data in (apart, together))
        assert all(torch.equal(one[key], two[key]) for key in one)


def test_scores_and_returns_are_in_no_table_together(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid(home, name="raw")
    grid(home, name="worth", top="reference_returns = [-300, -10]\n")
    (home / "both.toml").write_text('include = ["raw.toml", "worth.toml"]\n')
    train_here("both.toml", "--methods", "bc", "--set", "seeds=1")
    capsys.readouterr()
    found = {each.name: each for each in sections(read_results(home / "runs" / "both.csv"))}
    assert {name: each.unit for name, each in found.items()} == {
        "raw, returns in pole.py:HeavyPole-v0": "return", "worth": "score",
    }  # fmt: skip
    raw, worth = (each.scores["bc"]["none", "heavy.npz"][0] for each in found.values())
    assert worth == pytest.approx(100 * (raw + 300) / 290, abs=1e-3)
    assert sum(bool(each.known_bars) for each in found.values()) == 1


def test_runs_that_were_evaluated_nowhere_make_no_table(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (each,) = planned(grid(home, env="none"), home / "runs", methods=["bc"]).groups
    assert rates.measure(each.group.plain(), asdict(HOW)).step == 0
    train_here("own.toml", "--methods", "bc", collected=1)
    said = capsys.readouterr().err
    (report,) = re.findall(r"shiftgym (report \S+)", said)
    assert main(report.split()) == 0
    assert "evaluated nowhere: mean distance" in capsys.readouterr().out


def test_grids_that_the_page_shows_are_understood(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "sweeps.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```toml\n(.*?)^```", text, re.M | re.S)
    assert len(blocks) == 2
    for block in blocks:
        path = tmp_path / "shown.toml"
        path.write_text(block, encoding="utf-8")
        (shown,) = read_grids(str(path))
        assert len(list(shown.wanted())) >= shown.seeds * len(shown.methods)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"eval_env": None}, 'Nobody knows where heavy.npz.*In a grid: eval_env = "Pendulum-v1"'),
        ({"pairs": ["gone.npz -> heavy.npz"]}, "gone.npz"),
        ({"pairs": ["old.hdf5 -> gone.npz"]}, "gone.npz"),
        ({"pairs": ["lab/gone-v0 -> heavy.npz"]}, "minari download lab/gone-v0"),
        ({"pairs": ["old.hdf5 x1.5 -> heavy.npz"]}, "source_shares must be"),
        ({"pairs": ["old.hdf5 + old.hdf5 -> heavy.npz"]}, "Several sources have one name"),
        ({"pairs": ["none -> heavy.npz"], "methods": ["iql"]}, "iql needs a source"),
        ({"pairs": ["hopper-morph/medium -> heavy.npz"]}, "11 observed, 3 acted"),
        ({"eval_env": "Pendulun-v1"}, "cannot be made.*Pendulum"),
        ({"eval_env": "gone.py:Pole-v0"}, "Cannot read gone.py"),
        ({"eval_env": "MountainCarContinuous-v0"}, "observes 2 numbers, the data have 3"),
        ({"eval_env": 3}, "eval_env is an environment"),
        ({"eval_steps": -1}, "eval_steps must be a whole number"),
        ({"reference": "otdf"}, r"reference_returns = \[RANDOM, EXPERT\]"),
        ({"reference": "otdf", "reference_returns": [0, 1]}, "not both"),
        ({"reference_returns": [0, 0]}, "must differ"),
        ({"reference_returns": [0]}, "two numbers"),
        ({"action_low": [-1], "action_high": [1]}, r"beyond the bounds given.*action_low ="),
        ({"action_low": [-1]}, "both --action-low and --action-high"),
        ({"methods": ["mobody"]}, 'terminal = "FILE.py:FUNCTION"'),
        ({"methods": ["otdf"]}, r"support = ... under \[settings\]"),
        ({"terminal": "gone.py:never"}, "Cannot read gone.py"),
        ({"sedes": 3}, "no 'sedes'.*'seeds'"),
        ({"eval_envs": "none"}, "no 'eval_envs'.*'eval_env'"),
    ],
)
def test_what_train_refuses_is_refused_when_planning(
    change: dict[str, Any], says: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tomllib.loads(grid(home).read_text()) | change
    values = {key: value for key, value in raw.items() if value is not None and key != "settings"}
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    (home / "own.toml").write_text("\n".join([*lines, "[settings]", "steps = 5", "width = 8"]))
    assert main(["sweep", "own.toml", "--out", "runs", *QUICK]) in (1, 2)
    assert re.search(says, capsys.readouterr().err.replace("\n", " "))
    assert not (home / "runs").exists()

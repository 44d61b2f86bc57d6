"""Other people's files come in as what they are: rows, episodes and domains are checked."""

import gymnasium as gym
import minari
import mujoco
import numpy as np
import pytest
from import_helpers import ends, joined, recorded, rollouts, without, write_flat, write_minari
from published_files import FILES, JOINS, published

import shiftgym
from shiftgym.cli import main
from shiftgym.datasets import dataset_name, episode_bounds
from shiftgym.datasets.flat import check_flat
from shiftgym.datasets.load import load
from shiftgym.datasets.metadata import read_metadata
from shiftgym.datasets.store import dataset_path
from shiftgym.errors import DomainError, ShiftgymError
from shiftgym_tools.checking import retracing
from shiftgym_tools.checking.guessing import guess
from shiftgym_tools.checking.verify import check
from shiftgym_tools.importers import import_dataset, read_foreign
from shiftgym_tools.reading import layouts

OTHERS = {"kinematic": "morph", "morph": "kinematic"}
LOCOMOTION = ["hopper", "walker2d", "halfcheetah", "ant"]


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "root"))
    return tmp_path / "root"


@published
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_published_files_come_in_whole_but_for_their_joins(path, capsys):
    import_dataset(str(path))
    robot, shift, quality = path.stem.split("_", 2)
    name = f"{robot}-{shift}/{quality.replace('_', '-')}-otdf"
    told, flat = capsys.readouterr().out, load(name)
    wrong = JOINS.get(path.stem, [])
    rows = 4318 if wrong else 5000
    assert len(flat["rewards"]) == rows and flat["observations"].shape[1] in (11, 17, 27)
    check_flat(flat, shiftgym.domain(f"{robot}-{shift}"))
    assert f"{rows:,} read, {rows:,} kept" in told and "(otdf)" in told
    assert ("(rows 651, 1319, 2319, 3319) kept with the next observation" in told) == bool(wrong)
    assert ("last 84 numbers: zero padding" in told) == (robot == "ant")
    lengths = np.diff(episode_bounds(flat))
    assert lengths.max() <= 1000 and flat["truncated"][-1]
    there = minari.load_dataset(f"shiftgym/{name}-v0")
    assert there.total_steps == rows and there.total_episodes == len(lengths)


@published
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_published_files_are_refused_under_another_name(path, root):
    robot, shift = path.stem.split("_")[:2]
    claimed = f"{robot}-{OTHERS[shift]}"
    with pytest.raises(ShiftgymError, match=f"Say --domain {robot}-{shift}\\.$") as error:
        import_dataset(str(path), domain=claimed)
    assert f"not recorded in {claimed}" in str(error.value)
    assert not root.exists()


@published
def test_published_file_is_refused_as_another_robot():
    path = next(path for path in FILES if path.stem.startswith("hopper_kinematic"))
    with pytest.raises(ShiftgymError, match="observations are 11 .* fits --domain hopper-kinem"):
        import_dataset(str(path), domain="walker2d")
    with pytest.raises(ShiftgymError, match="fit hopper-kinematic"):
        import_dataset(str(path), domain="hopper-friction-x0p5")


def test_d4rl_v2(tmp_path, capsys):
    arrays = recorded("halfcheetah", [1000, 1000, 40], scale=0.3)
    arrays["timeouts"][-1] = False  # D4RL's last trajectory just stops
    path = write_flat(tmp_path / "halfcheetah_medium_replay-v2.hdf5", arrays, compression="gzip")
    import_dataset(str(path))
    told, flat = capsys.readouterr().out, load("halfcheetah/medium-replay-d4rl")
    assert "2 at the time limit, 1 cut without a flag" in told and "D4RL v2" in told
    for name in ("observations", "actions", "rewards", "next_observations"):
        np.testing.assert_array_equal(flat[name], arrays[name])
    assert np.flatnonzero(flat["truncated"]).tolist() == [999, 1999, 2039]
    assert not flat["terminated"].any()


def test_terminal_states_stay_terminal(tmp_path):
    arrays = recorded("hopper", [40] * 6)
    flat, report = read_foreign(write_flat(tmp_path / "hopper_random-v2.hdf5", arrays))
    np.testing.assert_array_equal(flat["terminated"], arrays["terminals"])
    np.testing.assert_array_equal(flat["truncated"], arrays["timeouts"])
    assert report.facts["ends"]["in a terminal state"] == arrays["terminals"].sum() > 0


@pytest.mark.parametrize(("flagged", "limit"), [(True, 30), (False, None)])
@pytest.mark.parametrize("robot", LOCOMOTION)
def test_cuts_are_found_without_flags(tmp_path, robot, flagged, limit):
    """Only a flag makes a time limit of what is not this robot's own."""
    arrays = recorded(f"{robot}-gravity-x0p5", [30] * 4, scale=0.1)
    arrays = arrays if flagged else without(arrays, "timeouts")
    path = write_flat(tmp_path / f"{robot}_gravity_0.5_medium.hdf5", arrays, columns=True)
    flat, report = read_foreign(path)
    assert report.facts["dropped"] == {} and report.facts["time_limit"] == limit
    assert report.facts["whole_episodes"] == (4 if flagged else 0)
    assert np.flatnonzero(flat["truncated"]).tolist() == [29, 59, 89, 119]


@pytest.mark.parametrize("robot", LOCOMOTION)
@pytest.mark.parametrize("flagged", [True, False])
def test_joined_rows_get_their_own_next_observation_back(tmp_path, robot, flagged):
    arrays = recorded(f"{robot}-morph", [60] * 4, scale=0.5)
    last = ends(arrays)[:-1]
    baked = joined(arrays)
    if not flagged:
        baked = without(baked, "timeouts")
        baked["terminals"] = np.zeros(len(baked["terminals"]))
    path = write_flat(tmp_path / f"{robot}_morph_medium.hdf5", baked)
    flat, report = read_foreign(path, mend_terminals=not flagged)
    assert report.facts["lost"] == {"join two episodes": len(last)}
    assert report.facts["dropped"] == {} and report.facts["kept"] == len(baked["rewards"])
    for name in ("observations", "actions", "rewards"):
        np.testing.assert_array_equal(flat[name], baked[name])
    own = arrays["next_observations"][:-1]
    np.testing.assert_allclose(flat["next_observations"], own, atol=2e-5)
    np.testing.assert_array_equal(flat["terminated"], arrays["terminals"][:-1])
    cut = np.setdiff1d(last, np.flatnonzero(arrays["terminals"]))
    np.testing.assert_array_equal(np.flatnonzero(flat["truncated"])[:-1], cut)


@published
@pytest.mark.parametrize("path", [p for p in FILES if p.stem in JOINS], ids=lambda path: path.stem)
def test_published_joins_get_what_the_clean_file_says(path):
    """The first episodes of a medium_expert file are rows of the medium file, which is right."""
    mended, report = read_foreign(path)
    clean, _ = read_foreign(path.with_stem(path.stem.removesuffix("_expert")))
    found = 0
    for row in JOINS[path.stem]:
        same = (clean["observations"] == mended["observations"][row]).all(axis=1)
        same &= (clean["actions"] == mended["actions"][row]).all(axis=1)
        for own in np.flatnonzero(same):
            found += 1
            np.testing.assert_allclose(
                mended["next_observations"][row], clean["next_observations"][own], atol=1e-5
            )
            assert mended["terminated"][row] == clean["terminated"][own]
    assert found >= 2 and mended["terminated"].sum() == 2
    bounds = episode_bounds(mended)
    returns = [mended["rewards"][a:b].sum() for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
    assert np.diff(bounds)[:4].tolist() == [652, 668, 1000, 1000]  # the fifth lacks a row
    assert report.facts["mean_return"] == pytest.approx(np.mean(returns[:4]), abs=0.01)
    assert report.facts["score_reference"] == "otdf" and report.facts["whole_episodes"] == 4


@pytest.mark.parametrize("robot", ["hopper", "walker2d"])
def test_rows_without_a_next_observation_are_kept_with_the_replays(tmp_path, robot):
    arrays = recorded(robot, [40] * 6)
    last = ends(arrays)
    assert arrays["terminals"].any() and arrays["timeouts"].any()
    bare = without(arrays, "next_observations")
    flat, report = read_foreign(write_flat(tmp_path / f"{robot}_random-v0.hdf5", bare))
    assert report.facts["lost"] == {"have no known next observation": len(last)}
    assert report.facts["dropped"] == {}
    for name in ("observations", "actions", "rewards"):
        np.testing.assert_array_equal(flat[name], arrays[name])
    np.testing.assert_allclose(flat["next_observations"], arrays["next_observations"], atol=2e-5)
    np.testing.assert_array_equal(flat["terminated"], arrays["terminals"])
    np.testing.assert_array_equal(flat["truncated"], arrays["timeouts"])
    assert any("no next observation of their own" in note for note in report.notes)


def test_resets_without_any_flag_are_found_by_replay(tmp_path):
    arrays = recorded("walker2d", [60] * 4, scale=0.5)
    last = ends(arrays)
    bare = without(arrays, "next_observations", "timeouts")
    bare["terminals"] = np.zeros(len(bare["terminals"]))
    path = write_flat(tmp_path / "walker2d_random-v0.hdf5", bare)
    flat, report = read_foreign(path, mend_terminals=True)
    assert report.facts["lost"] == {"have no known next observation": 1, "join two episodes": 3}
    np.testing.assert_array_equal(episode_bounds(flat)[1:] - 1, last)
    np.testing.assert_array_equal(flat["terminated"], arrays["terminals"])


def test_small_blocks_and_samples_find_the_same(tmp_path, monkeypatch):
    arrays = joined(recorded("hopper-morph", [50] * 40, scale=0.5))
    path = write_flat(tmp_path / "hopper_morph_medium.hdf5", without(arrays, "timeouts"))
    whole, report = read_foreign(path)
    for name, value in {"BLOCK": 4000, "IN_MEMORY": 0}.items():
        monkeypatch.setattr(layouts, name, value)
    for name, value in {"WHOLE": 100, "SAMPLE": 128, "RUN": 16, "PART": 50}.items():
        monkeypatch.setattr(retracing, name, value)
    pieces, sampled = read_foreign(path)
    assert any("rows were replayed" in note for note in sampled.notes)
    assert sampled.facts["filled_rows"] == report.facts["filled_rows"] != {}
    for name, values in whole.items():
        np.testing.assert_array_equal(values, pieces[name])
    _, everything = read_foreign(path, all_rows=True)
    assert not any("rows were replayed" in note for note in everything.notes)


def test_pen_of_d4rl(tmp_path, capsys):
    arrays = without(recorded("pen", [100] * 6, scale=0.2), "next_observations")
    path = write_flat(tmp_path / "pen-human-v1.hdf5", arrays)
    import_dataset(str(path))
    told, flat = capsys.readouterr().out, load("pen/human-d4rl")
    ended, last = arrays["terminals"], ends(arrays)
    assert len(flat["rewards"]) == len(arrays["rewards"]) - 6 + ended.sum()
    assert flat["terminated"].sum() == ended.sum()
    assert "have no known next observation" in told and "not checked" in told
    # A dropped last row is of its episode still: 100 steps are the time limit, and were paid for.
    whole = [part.sum() for part in np.split(arrays["rewards"], last[:-1] + 1)]
    told = read_metadata(dataset_path("pen/human-d4rl"))["shiftgym"]
    assert told["return"] == pytest.approx(np.mean(whole), rel=1e-5)
    assert told["whole_episodes"] == 6


def test_terminal_hands_are_kept_though_nobody_knows_what_came_next(tmp_path, capsys):
    arrays = recorded("pen", [100] * 6, hold=20)
    dropped = np.flatnonzero(arrays["terminals"])
    assert len(dropped) > 2
    path = write_flat(tmp_path / "pen-expert-v1.hdf5", without(arrays, "next_observations"))
    import_dataset(str(path))
    told, flat = capsys.readouterr().out, load("pen/expert-d4rl")
    assert f"{len(dropped)} that have no known next observation" in told
    assert "with their own observation in place of the next one" in told
    ended = np.flatnonzero(flat["terminated"])
    assert len(ended) == len(dropped)
    np.testing.assert_array_equal(flat["rewards"][ended], arrays["rewards"][dropped])
    np.testing.assert_array_equal(flat["next_observations"][ended], flat["observations"][ended])
    found = check("pen/expert-d4rl")  # which knows such rows
    assert found.problems == [] and found.facts["ends"]["in a terminal state"] == len(dropped)


def test_expert_hands_keep_their_terminals_and_limit(tmp_path):
    parts = [recorded("pen-morph-hard", [100] * 4, **how) for how in ({"scale": 0.2}, {"hold": 20})]
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    assert arrays["terminals"].any() and arrays["timeouts"].any()
    _, report = read_foreign(write_flat(tmp_path / "pen_shrink_finger_hard_expert.hdf5", arrays))
    assert report.facts["domain"] == "pen-morph-hard" and report.facts["time_limit"] == 100


def test_joined_hands_are_cut_at_the_reset(tmp_path):
    arrays = recorded("door", [50] * 3)
    path = write_flat(tmp_path / "door-cloned.hdf5", without(joined(arrays), "timeouts"))
    _, report = read_foreign(path)
    assert report.facts["dropped_rows"]["join two episodes"] == [49, 99]


def test_flipped_door_rewards_are_told_and_mended(tmp_path):
    arrays = recorded("door", [50] * 3)
    apart = np.linalg.norm(arrays["next_observations"][:, 35:38], axis=1)
    flipped = arrays | {"rewards": arrays["rewards"] + 0.2 * apart}
    path = write_flat(tmp_path / "door-expert-v1.hdf5", flipped)
    flat, report = read_foreign(path)
    assert any("wrong sign" in note for note in report.notes)
    np.testing.assert_array_equal(flat["rewards"], flipped["rewards"])
    mended, report = read_foreign(path, mend_rewards=True)
    np.testing.assert_allclose(mended["rewards"], arrays["rewards"], atol=1e-6)
    whole = arrays["rewards"].sum() / 3
    assert report.facts["mean_return"] == pytest.approx(whole, rel=1e-5)
    with pytest.raises(ShiftgymError, match="nothing to mend"):
        read_foreign(write_flat(tmp_path / "door-human-v1.hdf5", arrays), mend_rewards=True)


def test_mislabelled_hands(tmp_path):
    arrays = recorded("pen", [60] * 6, hold=20)
    path = write_flat(tmp_path / "pen_broken_joint_hard_expert.hdf5", arrays)
    with pytest.raises(ShiftgymError, match="limits of pen-kinematic-hard .* they fit pen, "):
        read_foreign(path)
    with pytest.raises(ShiftgymError, match="could be the pen's"):
        read_foreign(path, "door")
    swapped = arrays | {"next_observations": arrays["next_observations"][:, ::-1].copy()}
    with pytest.raises(ShiftgymError, match="contradict themselves.*rewards do not follow"):
        read_foreign(write_flat(tmp_path / "pen-expert.hdf5", swapped))


def test_minari_ant_with_contact_forces(root, capsys):
    env = gym.make("Ant-v5", max_episode_steps=10**6)
    arrays = rollouts(env, [40] * 3)
    assert arrays["observations"].shape[1] == 105
    write_minari(root, arrays, "mujoco/ant/medium-v0")
    import_dataset("mujoco/ant/medium-v0")
    told, flat = capsys.readouterr().out, load("ant/medium-minari")
    np.testing.assert_array_equal(flat["observations"], arrays["observations"][:, :27])
    assert "last 78 numbers: contact forces up to" in told
    assert "recorded with the physics of MuJoCo" in told and "rewards of" in told


def test_minari_ant_padded_to_111(root, capsys):
    arrays = recorded("ant", [40] * 3)
    for name in ("observations", "next_observations"):
        arrays[name] = np.pad(arrays[name], ((0, 0), (0, 84)))
    import_dataset(str(write_minari(root, arrays, "mine/ant-expert-v3")))
    assert "last 84 numbers: zero padding" in capsys.readouterr().out
    assert load("ant/expert-minari")["observations"].shape == (len(arrays["rewards"]), 27)
    arrays["observations"][5, 60] = 7.0
    write_minari(root, arrays, "mine/ant-medium-v3")
    with pytest.raises(ShiftgymError, match="reach 7: neither zero padding nor contact forces"):
        import_dataset("mine/ant-medium-v3")


def test_minari_of_todays_engine_and_v5_rewards(root):
    arrays = rollouts(gym.make("Hopper-v5", max_episode_steps=10**6), [40] * 40)
    _, report = read_foreign(write_minari(root, arrays))
    assert any("terminal rows lack the reward of 1" in note for note in report.notes)
    assert report.facts["replay"]["engine"].startswith("MuJoCo 3")
    assert report.facts["replay"]["beyond"] < 0.02


@pytest.mark.parametrize(
    ("body", "engine"),
    [("HalfCheetah-v5", f"2.1.1 to {mujoco.__version__}"), ("Hopper-v5", mujoco.__version__)],
)
def test_engines_that_are_one_for_a_robot_are_named_together(root, body, engine):
    """Only robots with contact margins can tell MuJoCo 2.1.1 to 3.4 from later ones."""
    arrays = rollouts(gym.make(body, max_episode_steps=10**6), [40] * 12)
    robot = body.removesuffix("-v5").lower()
    _, report = read_foreign(write_minari(root, arrays, f"mujoco/{robot}/medium-v0"))
    assert report.facts["replay"]["engine"] == f"MuJoCo {engine}"
    assert any(f"the physics of MuJoCo {engine}, not" in note for note in report.notes)


def test_v5_body_of_walker2d_is_another_domain(root, capsys):
    arrays = rollouts(gym.make("Walker2d-v5", max_episode_steps=10**6), [60] * 12)
    write_minari(root, arrays, "mujoco/walker2d/medium-v0")
    with pytest.raises(ShiftgymError, match="Say --domain walker2d-v5"):
        import_dataset("mujoco/walker2d/medium-v0")
    import_dataset("mujoco/walker2d/medium-v0", domain="walker2d-v5")
    assert len(load("walker2d-v5/medium-minari")["rewards"]) == len(arrays["rewards"])
    env = minari.load_dataset("shiftgym/walker2d-v5/medium-minari-v0").recover_environment()
    assert env.unwrapped.model.geom("foot_geom").friction[0] == 1.9


def test_minari_folders_in_other_forms(tmp_path, root):
    arrays = recorded("hopper", [30] * 3)
    folder = write_minari(tmp_path / "elsewhere", arrays, "some/hopper-random-v0")
    for path in (folder, folder / "data", folder / "data" / "main_data.hdf5"):
        flat, report = read_foreign(path)
        assert len(flat["rewards"]) == len(arrays["rewards"]) and report.facts["layout"] == "Minari"
    (folder / "data" / "metadata.json").write_text('{"data_format": "arrow"}')
    with pytest.raises(ShiftgymError, match="stored as arrow"):
        read_foreign(folder)
    with pytest.raises(ShiftgymError, match="minari download some/hopper-random-v0"):
        read_foreign("some/hopper-random-v0")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": np.nan}, "rewards are not finite, first in row 7; 1 rows"),
        ({"observations": np.inf}, "observations are not finite, first in row 7"),
        ({"next_observations": np.nan}, "next_observations are not finite"),
        ({"actions": np.nan}, "actions are not finite"),
        ({"terminals": 2}, "1 terminal or timeout flags are neither 0 nor 1"),
    ],
)
def test_bad_numbers_are_refused_with_their_row(tmp_path, root, changes, message):
    arrays = recorded("hopper", [30] * 3)
    for name, value in changes.items():
        arrays[name] = arrays[name].astype(float)
        arrays[name][7] = value
    with pytest.raises(ShiftgymError, match=message):
        import_dataset(str(write_flat(tmp_path / "hopper_random.hdf5", arrays)))
    assert not root.exists()


def test_names(tmp_path, root, capsys):
    path = str(write_flat(tmp_path / "run7.hdf5", recorded("hopper-morph", [15] * 6)))
    assert main(["data", "import", path]) == 1
    assert "Give --domain" in capsys.readouterr().err
    assert main(["data", "import", path, "--domain", "hopper-morf"]) == 2
    assert main(["data", "import", path, "--domain", "hopper-morph"]) == 1
    assert "Give --quality" in capsys.readouterr().err
    asked = ["data", "import", path, "--domain", "hopper-morph", "--quality", "expert"]
    assert main([*asked, "--name", "no/good"]) == 1
    assert main([*asked, "--name", "Lab7"]) == 0
    assert "shiftgym/hopper-morph/expert-from_lab7-v0" in capsys.readouterr().out
    assert len(load("hopper-morph/expert-from_lab7")["rewards"]) == 90
    assert main([*asked, "--name", "lab7"]) == 1 and "there already" in capsys.readouterr().err
    assert main([*asked, "--name", "lab7", "--replace"]) == 0
    assert main([*asked[:-1], "human"]) == 2
    assert dataset_name("hopper-morph/expert-from_lab7").origin == "from_lab7"
    with pytest.raises(DomainError):
        dataset_name("hopper-morph/expert-lab7")


def test_a_quality_without_a_word_here_is_told_as_such(tmp_path, capsys):
    path = write_flat(tmp_path / "hopper_full_replay-v2.hdf5", recorded("hopper", [15] * 6))
    assert main(["data", "import", str(path)]) == 1
    told = capsys.readouterr().err
    assert "D4RL's full_replay holds all that the training of its expert saw" in told
    assert "Give --quality" in told and "--domain" not in told


def test_domain_of_your_own(tmp_path):
    toml = tmp_path / "mine.toml"
    toml.write_text("[hopper.slippery]\ngeom.foot_geom.friction = { scale = 0.1 }\n")
    arrays = recorded(f"{toml}:hopper-slippery", [30] * 3)
    path = write_flat(tmp_path / "x.hdf5", arrays)
    _, report = read_foreign(path, f"{toml}:hopper-slippery")
    assert report.facts["replay"]["median"] < 1e-5


@pytest.mark.parametrize(
    ("name", "slug", "quality"),
    [
        ("hopper_kinematic_medium.hdf5", "hopper-kinematic", "medium"),
        ("ant_friction_0.5_expert.hdf5", "ant-friction-x0p5", "expert"),
        ("hopper_gravity_2.0_medium_expert.h5", "hopper-gravity-x2", "medium-expert"),
        ("pen_broken_joint_hard_expert.hdf5", "pen-kinematic-hard", "expert"),
        ("door_morph_shrink_finger_easy_cloned.hdf5", "door-morph-easy", "cloned"),
        ("halfcheetah_medium_replay-v2.hdf5", "halfcheetah", "medium-replay"),
        ("pen-human-v1.hdf5", "pen", "human"),
        ("pen-kinematic-medium-expert.hdf5", "pen-kinematic-medium", "expert"),
        (
            "hopper_kinematic_footjnt_medium_medium.hdf5",
            "hopper-kinematic-footjnt-medium",
            "medium",
        ),
        ("D4RL/door/expert-v2", "door", "expert"),
        ("mujoco/walker2d/simple-v0", "walker2d", None),
        ("hopper_mixed.hdf5", "hopper", "medium-replay"),
        ("walker_mixed.hdf5", "walker2d", "medium-replay"),
        ("ant_mixed-v0.hdf5", "ant", "medium-replay"),
        ("hopper_full_replay-v2.hdf5", "hopper", None),
        ("door_expert_clipped.hdf5", "door", "expert"),
        ("pen_demos_clipped.hdf5", "pen", "human"),
        ("pen-demos-v0-bc-combined.hdf5", "pen", "cloned"),
        ("hopper_demos_clipped.hdf5", "hopper", None),
        ("shiftgym/hopper/medium-from_lab7-v0", "hopper", "medium"),
        ("walker2d-kinematic-footjnt-hard-random", "walker2d-kinematic-footjnt-hard", "random"),
        ("data.hdf5", None, None),
        ("antmaze-umaze-v2", None, None),
        ("hopper_kinemtic_medium", None, "medium"),
    ],
)
def test_guesses(name, slug, quality):
    where, tier = guess(name)
    assert (where and where.slug, tier) == (slug, quality)

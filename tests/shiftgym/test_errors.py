"""Test that bad input raises an error naming the mistake and the nearest valid choice."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from shiftgym_helpers import ROBOTS, assert_same, random_actions

import shiftgym
from shiftgym import ActionError, DomainError, ShiftgymError
from shiftgym.basics.errors import EngineError
from shiftgym.modelling import build_model

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hoper", "Unknown robot 'hoper'. Did you mean 'hopper'?"),
        ("humanoid", "Unknown robot 'humanoid'. Valid choices|Unknown robot 'humanoid'. Did you"),
        ("ShiftHoper-kinematic-v0", "Unknown robot 'hoper'. Did you mean 'hopper'?"),
        ("hopper-kinematc", "no shift 'kinematc'. Did you mean 'kinematic'?"),
        ("pen-friction-x2", "The pen has no shift 'friction-x2'"),
        ("hopper-friction", "hopper-friction has no level None.*x0p1, x0p5, x2, x5"),
        ("hopper-friction-x0.5", "no level 'x0.5'. Did you mean 'x0p5'?"),
        ("hopper-friction-x500", "no level 'x500'.*from x0 to x100"),
        ("hopper-kinematic-footjnt-esay", "no level 'esay'. Did you mean 'easy'?"),
        ("hopper-kinematic-hard", "no shift 'kinematic-hard'. Did you mean 'kinematic"),
        ("hopper-morph-torso-x1p7", "no level 'x1p7'.*easy, hard, medium"),
        ("hopper-kinematic-thighjnt-easy", "Did you mean 'kinematic-|no levels"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(name: str, said: str):
    with pytest.raises(DomainError, match=said.replace("?", r"\?")):
        shiftgym.domain(name)


@pytest.mark.parametrize("bad", [NAN, INF, -0.5, 101.0, "huge"])
def test_a_level_outside_the_scale_is_refused(bad: object):
    with pytest.raises(DomainError, match="hopper-friction has no level .*Valid choices: x0p1"):
        shiftgym.make_domain("hopper", "friction", level=bad)  # type: ignore[arg-type]


def test_a_level_given_twice_is_refused():
    with pytest.raises(DomainError, match="Give the level once"):
        shiftgym.make_domain("hopper", "friction-x2", level=0.5)


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ({"joint.foot_jont.range": [-1, 1]},
         "no joint of the hopper matches 'foot_jont'. Did you mean 'foot_joint'?"),
        ({"geom.foot_gem.friction": {"scale": 2}}, "'foot_gem'. Did you mean 'foot_geom'?"),
        ({"body.tors.pos": [0, 0, 1]}, "Did you mean 'torso'?"),
        ({"joints.foot_joint.range": [-1, 1]}, "Unknown kind 'joints'.*Did you mean 'joint'?"),
        ({"geom.foot_geom.frction": 1.0}, "attribute 'frction'. Did you mean 'friction'?"),
        ({"option.gravty": [0, 0, -1]}, "no editable attribute 'gravty'. Did you mean 'gravity'?"),
        ({"geom.foot_geom.friction": {"scal": 2}}, "Unknown rule 'scal'.*Did you mean 'scale'?"),
        ({"geom.foot_geom.friction": {"index": [0]}}, "needs a 'scale'"),
        ({"geom.foot_geom.friction": {"scale": 2, "index": [3]}}, "components 0 to 2"),
        ({"geom.foot_geom.friction": {"scale": 2, "index": [True, 7]}}, "components 0 to 2"),
        ({"geom.foot_geom.friction": {"scale": [1, 2], "index": [0]}}, "1 components to scale"),
        ({"geom.foot_geom.friction": [-0.1]}, "cannot be negative"),
        ({"geom.foot_geom.friction": {"scale": -1}}, "cannot be scaled by a negative factor"),
        ({"geom.foot_geom.friction": [NAN]}, "needs finite numbers, got nan"),
        ({"geom.foot_geom.friction": {"scale": INF}}, "needs finite numbers, got inf"),
        ({"geom.foot_geom.friction": {"scale": 1, "of": [NAN]}}, "needs finite numbers, got nan"),
        ({"geom.foot_geom.friction": [1, 2, 3, 4]}, "takes 1 to 3 numbers, got 4"),
        ({"geom.foot_geom.friction": []}, "takes 1 to 3 numbers, got 0"),
        ({"geom.foot_geom.friction": "slippery"}, "needs numbers, got 'slippery'"),
        ({"geom.foot_geom.friction": True}, "needs numbers, got True"),
        ({"geom.foot_geom.friction": {"scale": "level"}}, "says 'level', but no level was given"),
        ({"joint.foot_joint.range": [1, -1]}, "low <= high"),
        ({"joint.foot_joint.range": [1]}, "low <= high"),
        ({"geom.foot_(geom.friction": 1.0}, "'foot_\\(geom'.*is no pattern of names"),
        ({"geom": 3}, "names no attribute"),
        ({"geom.foot_geom": 3}, "needs three parts"),
        ({"geom": {"foot_geom": 3}}, "names no attribute"),
        ({"geom.foot_geom.fromto": {"scale": 2}}, "was not placed by fromto"),
        ({"body.torso.ipos": [0, 0, 1]}, "centre of mass of torso follows from its geoms"),
        (["geom"], "Edits are a table"),
    ],
)  # fmt: skip
def test_bad_edits_say_what_is_wrong(edits: object, said: str):
    with pytest.raises(DomainError, match=said.replace("?", r"\?")):
        shiftgym.make_domain("hopper", edits)  # type: ignore[arg-type]


def test_a_model_that_does_not_compile_says_so():
    domain = shiftgym.make_domain("hopper", {"geom.torso_geom.size": [0.0, 0.0]}, name="flat")
    with pytest.raises(DomainError, match="hopper-flat does not compile: .*size"):
        build_model(domain)


def test_names_that_cannot_be_ids_or_are_taken_are_refused():
    edits = {"option.gravity": [0, 0, -1]}
    with pytest.raises(DomainError, match="letters, digits"):
        shiftgym.make_domain("hopper", edits, name="a.b")
    with pytest.raises(DomainError, match="hopper-kinematic is a catalogue domain"):
        shiftgym.make_domain("hopper", edits, name="kinematic")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[hopper", "Cannot read domains"),
        ("", "holds no domains"),
        ("[hoper.soft]\n", "Did you mean 'hopper'?"),
        ("hopper = 3\n", "write \\[hopper.<shift>\\] tables"),
        ("[hopper.soft]\njoint.knee.range = [0, 1]\n", "no joint of the hopper matches 'knee'"),
    ],
)
def test_bad_toml_files_are_named(tmp_path, text: str, said: str):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(DomainError, match=said.replace("?", r"\?")):
        shiftgym.load_domains(path)


def test_a_missing_toml_file_or_slug_is_named(tmp_path):
    with pytest.raises(DomainError, match="Cannot read domains from .*absent.toml"):
        shiftgym.domain(f"{tmp_path}/absent.toml:hopper-soft")
    path = tmp_path / "mine.toml"
    path.write_text("[hopper.soft]\noption.gravity = [0, 0, -1]\n")
    with pytest.raises(DomainError, match=r"Did you mean 'hopper-soft'\?"):
        shiftgym.domain(f"{path}:hopper-sotf")


@pytest.mark.parametrize(
    ("key", "wrong"), [("robot", "hoper"), ("shift", "kinematc"), ("physics", "mujoco")]
)
def test_environment_kwargs_are_checked(key: str, wrong: str):
    for make in (gym.make, gym.make_vec):
        with pytest.raises(DomainError, match=f"'{wrong}'.*Did you mean"):
            make("ShiftHopper-v0", **{key: wrong})
    with pytest.raises(DomainError, match="'name': .., 'edits': .."):
        gym.make("ShiftHopper-v0", shift={"edit": {}})


def _bad_actions(shape: tuple[int, ...]) -> list[tuple[object, str]]:
    """List wrong actions for a shape, each with what the message says."""
    zero = np.zeros(shape, np.float32)
    nan, inf = zero.copy(), zero.copy()
    nan.flat[-1], inf.flat[0] = NAN, -INF
    where = [size - 1 for size in shape]
    return [
        (nan, rf"finite; found nan at index \[{', '.join(map(str, where))}\]"),
        (inf, "finite; found -inf at index"),
        (np.zeros((*shape, 1)), "Expected an action of shape"),
        (np.zeros(shape[-1] + 1), rf"shape \({', '.join(map(str, shape))},?\), got"),
        (0.0, "Expected an action of shape"),
        (zero.astype(str), "Expected an action of numbers, got dtype <U"),
        (zero.astype(object), "Expected an action of numbers, got dtype object"),
        (zero.astype(complex), "Expected an action of numbers, got dtype complex"),
        (zero.astype(bool), "Expected an action of numbers, got dtype bool"),
    ]


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_bad_action_is_refused_before_anything_moves(robot: str):
    single = gym.make(f"{shiftgym.domain(robot).env_id}", disable_env_checker=True).unwrapped
    single.reset(seed=0)
    vector = shiftgym.make_vec(robot, 3)
    vector.reset(seed=0)
    for env in (single, vector):
        good = random_actions(env.action_space.shape, 2)
        env.step(good[0])
        before = env.get_state()
        for action, said in _bad_actions(env.action_space.shape):
            with pytest.raises(ActionError, match=said):
                env.step(action)
        assert_same(env.get_state(), before)
        env.step(good[1])


def test_actions_may_be_lists_integers_or_float64():
    for action in ([0, 0, 0], np.zeros(3, np.int64), np.zeros(3), [0.0, 0.0, 0.0]):
        env = gym.make("ShiftHopper-v0", disable_env_checker=True)
        env.reset(seed=0)
        assert env.step(action)[0].shape == (11,)


def test_a_vector_environment_holds_one_robot():
    with pytest.raises(DomainError, match="one robot, got ant, hopper"):
        shiftgym.make_vec(["hopper", "ant"])
    with pytest.raises(DomainError, match="at least one domain"):
        shiftgym.make_vec([])
    with pytest.raises(DomainError, match="num_envs=3, but 2 domains"):
        shiftgym.make_vec(["hopper", "hopper-morph"], num_envs=3)
    with pytest.raises(DomainError, match="2 shifts for num_envs=3"):
        gym.make_vec("ShiftHopper-v0", num_envs=3, shift=[None, "morph"])


@pytest.mark.parametrize("num_envs", [0, -1])
def test_a_vector_environment_needs_a_sub_environment(num_envs: int):
    with pytest.raises(ShiftgymError, match="num_envs"):
        shiftgym.make_vec("hopper", num_envs)


@pytest.mark.parametrize("kind", [shiftgym.ShiftgymError, shiftgym.DomainError, EngineError])
def test_no_message_is_longer_than_anybody_reads(kind: type[shiftgym.ShiftgymError]) -> None:
    assert str(kind("short")) == "short"
    long = str(kind("9" * 100_000))
    assert len(long) < 5_000 and long.endswith("(100,000 characters)")

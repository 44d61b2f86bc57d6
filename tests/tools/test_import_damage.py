"""Damage decides: flags are judged one by one, and what is no recording is refused."""

import numpy as np
import pytest
from import_helpers import recorded, without, write_flat, write_minari

from shiftgym.cli import main
from shiftgym.datasets import episode_bounds
from shiftgym.errors import ShiftgymError
from shiftgym_tools.checking.verify import check
from shiftgym_tools.importers import read_foreign


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "root"))
    return tmp_path / "root"


@pytest.fixture(scope="module")
def hopper():
    return recorded("hopper", [40] * 30)


@pytest.fixture(scope="module")
def cheetah():
    """Give two whole episodes, as others store them: the time limit looks like a terminal state."""
    return recorded("halfcheetah", [1000] * 2, scale=0.3)


def late(arrays):
    """Flag the time limit as a terminal state."""
    flagged = arrays["terminals"] | arrays["timeouts"]
    return arrays | {"terminals": flagged, "timeouts": np.zeros(len(flagged))}


def test_time_limits_flagged_terminal_are_refused_or_mended(tmp_path, cheetah, capsys):
    path = write_flat(tmp_path / "halfcheetah_medium-v2.hdf5", late(cheetah))
    text = "2 rows have another terminal flag .* 999, 1999.* 2 of them at the time limit of 1000"
    with pytest.raises(ShiftgymError, match=f"refused: {text}.*--mend-terminals.*--allow term"):
        read_foreign(path)
    assert main(["data", "verify", str(path)]) == 1
    assert "2 rows have another terminal flag than halfcheetah gives" in capsys.readouterr().out
    mended, report = read_foreign(path, mend_terminals=True)
    assert not mended["terminated"].any() and report.facts["time_limit"] == 1000
    assert np.flatnonzero(mended["truncated"]).tolist() == [999, 1999]
    assert any("2 terminal flags where nothing ends" in note for note in report.notes)
    kept, report = read_foreign(path, allow=("terminals",))
    assert np.flatnonzero(kept["terminated"]).tolist() == [999, 1999]
    assert any("another terminal flag than halfcheetah" in note for note in report.notes)
    assert main(["data", "import", str(path), "--mend-terminals"]) == 0
    assert main(["data", "verify", "halfcheetah/medium-d4rl"]) == 0
    assert main(["data", "import", str(path), "--allow", "terminals", "--replace"]) == 0
    assert main(["data", "verify", "halfcheetah/medium-d4rl"]) == 1


@pytest.mark.parametrize("where", [5, -1])
def test_one_false_terminal_among_many_rows_is_found(tmp_path, cheetah, where):
    arrays = {name: values.copy() for name, values in cheetah.items()}
    arrays["terminals"][where] = True
    path = write_flat(tmp_path / "halfcheetah_medium-v2.hdf5", arrays)
    with pytest.raises(ShiftgymError, match="1 rows have another terminal flag"):
        read_foreign(path)


def test_falls_without_a_flag_are_flagged_when_told(tmp_path, hopper):
    fell = np.flatnonzero(hopper["terminals"])
    silent = hopper | {"terminals": np.zeros(len(hopper["terminals"])), "timeouts": np.zeros(0)}
    path = write_flat(tmp_path / "hopper_random-v2.hdf5", without(silent, "timeouts"))
    with pytest.raises(ShiftgymError, match="the last of an episode, in a terminal state, without"):
        read_foreign(path)
    flat, report = read_foreign(path, mend_terminals=True)
    np.testing.assert_array_equal(np.flatnonzero(flat["terminated"]), fell)
    assert any("terminal states without a flag were flagged" in note for note in report.notes)


def test_right_flags_of_a_large_set_are_all_replayed(tmp_path, hopper, monkeypatch):
    from shiftgym_tools.checking import retracing

    for name, value in {"WHOLE": 100, "SAMPLE": 128, "RUN": 16}.items():
        monkeypatch.setattr(retracing, name, value)
    arrays = {name: values.copy() for name, values in hopper.items()}
    last = np.flatnonzero(arrays["timeouts"])[-1]
    arrays["terminals"][last] = True
    path = write_flat(tmp_path / "hopper_random-v2.hdf5", arrays)
    with pytest.raises(ShiftgymError, match=rf"1 rows have another terminal flag.*\(row {last}\)"):
        read_foreign(path)


def test_doors_never_end(tmp_path):
    arrays = recorded("door", [200] * 2)
    path = write_flat(tmp_path / "door-expert-v1.hdf5", late(arrays))
    with pytest.raises(ShiftgymError, match="2 of them at the time limit of 200 steps"):
        read_foreign(path)
    flat, _ = read_foreign(path, mend_terminals=True)
    assert np.flatnonzero(flat["truncated"]).tolist() == [199, 399]


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (lambda rewards: np.roll(rewards, 1), ": they are those of the row before"),
        (lambda rewards: np.roll(rewards, -1), ": they are those of the next row"),
        (lambda rewards: 0.1 * rewards, ": they are 0.1 times as large"),
        (lambda rewards: rewards[::-1].copy(), r"\(--allow rewards"),
    ],
)
@pytest.mark.parametrize("slug", ["hopper", "ant", "pen"])
def test_wrong_rewards_are_refused_unless_allowed(tmp_path, slug, change, how):
    arrays = recorded(slug, [40] * 4)
    wrong = arrays | {"rewards": change(arrays["rewards"])}
    path = write_flat(tmp_path / f"{slug}_expert-v2.hdf5", wrong)
    text = "rewards do not follow" if slug == "pen" else f"rewards of .*{how}"
    with pytest.raises(ShiftgymError, match=text) as error:
        read_foreign(path)
    assert "--allow rewards imports it as it is" in str(error.value)
    flat, report = read_foreign(path, allow=("rewards",))
    np.testing.assert_array_equal(flat["rewards"], wrong["rewards"])
    assert any(note.startswith("rewards ") for note in report.notes)
    assert any(problem.startswith("rewards ") for problem in check(str(path)).problems)


def test_rows_that_lead_elsewhere_are_refused_unless_allowed(tmp_path, hopper):
    arrays = {name: values.copy() for name, values in hopper.items()}
    arrays["next_observations"][10:20] += 0.5
    path = write_flat(tmp_path / "hopper_random-v2.hdf5", arrays)
    with pytest.raises(ShiftgymError, match="10 rows lead elsewhere .*--allow rows"):
        read_foreign(path)
    assert any("lead elsewhere" in note for note in read_foreign(path, allow=("rows",))[1].notes)


def test_rows_in_random_order_are_refused(tmp_path, hopper):
    order = np.random.default_rng(0).permutation(len(hopper["rewards"]))
    arrays = {name: values[order] for name, values in without(hopper, "timeouts").items()}
    path = write_flat(tmp_path / "hopper_random-v2.hdf5", arrays)
    with pytest.raises(
        ShiftgymError, match="are shorter than 5 steps .*: the rows are in no order"
    ):
        read_foreign(path, allow=("terminals", "rewards", "rows", "repeats"))
    assert "in no order" in "; ".join(check(str(path)).problems)


def test_a_time_limit_no_environment_has_is_refused(tmp_path):
    arrays = recorded("hopper", [7] * 20)
    path = write_minari(tmp_path, arrays, "some/hopper/random-v0")
    with pytest.raises(ShiftgymError, match="no environment has a time limit of 7 steps"):
        read_foreign(path)


def test_every_episode_twice_is_refused_unless_allowed(tmp_path, hopper):
    twice = {name: np.concatenate((values, values)) for name, values in hopper.items()}
    path = write_flat(tmp_path / "hopper_random-v2.hdf5", twice)
    with pytest.raises(ShiftgymError, match="30 of 60 episodes occur more than .*--allow repeats"):
        read_foreign(path)
    flat, _ = read_foreign(path, allow=("repeats",))
    assert len(episode_bounds(flat)) == 61


def test_an_unknown_kind_of_damage_is_bad_usage(tmp_path, hopper, capsys):
    path = write_flat(tmp_path / "hopper_random-v2.hdf5", hopper)
    assert main(["data", "import", str(path), "--allow", "everything"]) == 2
    assert "repeats" in capsys.readouterr().err

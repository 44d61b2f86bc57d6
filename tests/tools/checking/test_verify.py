"""Datasets are verified as what they are; whatever was done to one is told."""

import json
import shutil

import h5py
import numpy as np
import pytest
from import_helpers import joined, recorded, without, write_flat, write_minari
from published_files import FILES, published

from shiftgym.cli import main
from shiftgym.datasets import dataset_name
from shiftgym.datasets.packaged import packaged_index
from shiftgym.datasets.store import write_dataset
from shiftgym_tools.checking.verify import check, compare
from shiftgym_tools.importers import import_dataset

JOINED = "hopper_morph_medium_expert"


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "root"))
    return tmp_path / "root"


def own(slug="hopper-morph", lengths=(10,) * 5, **kwargs):
    """Write a set of shiftgym's own, and give its name and folder."""
    arrays = recorded(slug, lengths, **kwargs)
    flat = without(arrays, "terminals", "timeouts")
    flat |= {"terminated": arrays["terminals"], "truncated": arrays["timeouts"]}
    name = dataset_name(f"{slug}/random").sized(len(flat["rewards"]))
    return name, write_dataset(flat, name, {})


@published
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_published_files_verify_in_their_own_domain(path):
    found = check(str(path))
    joins = "4 rows join two episodes (rows 651, 1319, 2319, 3319), 2 of them with no terminal flag"
    assert found.problems == ([joins] if path.stem == JOINED else [])
    replay = found.facts["replay"]
    assert replay["domain"] == "-".join(path.stem.split("_")[:2])
    assert replay["median"] < 1e-6 and replay["beyond"] < 1e-3
    assert found.facts["rows"] == (4318 if path.stem == JOINED else 5000)


@published
def test_published_file_claimed_for_another_domain(capsys):
    path = next(path for path in FILES if "halfcheetah_kinematic" in path.stem)
    found = check(str(path), "halfcheetah-gravity-x0p5")
    assert "they fit halfcheetah-kinematic" in found.problems[0]


@published
def test_imported_set_is_compared_with_its_file(capsys):
    path = next(path for path in FILES if path.stem == JOINED)
    import_dataset(str(path))
    capsys.readouterr()
    assert main(["data", "verify", "hopper-morph/medium-expert-otdf"]) == 0
    told = capsys.readouterr().out
    assert "  ok" in told and "1 verified, nothing wrong." in told
    both = [check("hopper-morph/medium-expert-otdf"), check(str(path))]
    compare(both)
    assert any("4,318 of its rows are also in" in note for note in both[0].notes)


def test_own_sets_verify(capsys):
    name, folder = own()
    for text in (name.short, name.minari, str(folder), str(folder / "data" / "main_data.hdf5")):
        found = check(text)
        assert found.problems == [] and found.facts["rows"] == 50
        assert found.facts["replay"]["median"] < 1e-6
    assert main(["data", "verify", name.short, "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["ok"] and len(told["content_sha256"]) == 64 and told["ends"]


def test_content_does_not_depend_on_the_layout(tmp_path):
    arrays = recorded("hopper", [12] * 4)
    flat = write_flat(tmp_path / "hopper_random-v2.hdf5", arrays, compression="gzip")
    folder = write_minari(tmp_path, arrays, "mujoco/hopper/random-v0")
    found = [check(str(flat)), check(str(folder))]
    assert found[0].content == found[1].content
    compare(found)
    assert all("holds exactly the rows of" in each.problems[0] for each in found)


def edit_file(folder, change):
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        change(file)


def edit_metadata(folder, **changes):
    path = folder / "data" / "metadata.json"
    told = json.loads(path.read_text())
    told["shiftgym"] |= changes.pop("shiftgym", {})
    path.write_text(json.dumps(told | changes))


def set_row(key, value, episode=1, row=2):
    def change(file):
        file[f"episode_{episode}/{key}"][row] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_row("rewards", 5.0), "SHA-256 differs"),
        (set_row("observations", np.nan), "observations are not finite, first in row 12"),
        (set_row("observations", 0.3), "2 rows lead elsewhere than hopper-morph does (rows 11, 12"),
        (set_row("rewards", 5.0), "rewards of 1 of 150 replayed rows differ"),
        (set_row("terminations", True), "1 rows are flagged as last ones, yet their episode goes"),
        (set_row("terminations", True), "another terminal flag than hopper-morph gives"),
        (set_row("truncations", True), "flagged as last ones"),
    ],
)
def test_changed_rows_are_told(change, message):
    _, folder = own(lengths=[10] * 15)
    edit_file(folder, change)
    assert message in "; ".join(check(str(folder)).problems)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"total_steps": 51}, "total_steps is 50; the metadata say 51"),
        ({"total_episodes": 4}, "total_episodes is 5; the metadata say 4"),
        ({"shiftgym": {"size": 60}}, "contradict themselves about id or size"),
        ({"shiftgym": {"sha256": "0"}}, "SHA-256 differs"),
        ({"env_spec": "{}"}, "metadata of a dataset are damaged"),
        ({"dataset_id": "shiftgym/hopper-morph/expert-60-v0"}, "contradict themselves about id"),
    ],
)
def test_changed_metadata_are_told(changes, message):
    _, folder = own()
    edit_metadata(folder, **changes)
    assert message in "; ".join(check(str(folder)).problems)


def test_another_engine_is_told_before_damage(capsys):
    name, folder = own(lengths=[10] * 15)
    edit_metadata(folder, shiftgym={"versions": {"mujoco": "3.99.0"}})
    found = check(str(folder))
    assert found.problems == []
    assert found.notes[0].startswith("another engine: made with MuJoCo 3.99.0, replayed here with")
    edit_file(folder, set_row("observations", 0.3))
    problems = check(str(folder)).problems
    assert problems[0].startswith("another engine: made with MuJoCo 3.99.0")
    assert "can be the cause of what follows" in problems[0] and len(problems) > 1
    assert main(["data", "verify", name.short]) == 1
    told = capsys.readouterr().out
    assert told.index("another engine") < told.index("lead elsewhere")


def test_packaged_sets_know_the_engine_they_were_made_with(monkeypatch):
    from shiftgym_tools.checking import verify

    monkeypatch.setattr(verify.mujoco, "__version__", "3.99.0")
    assert (
        "another engine: made with MuJoCo 3.17.0, replayed here with 3.99.0"
        in check("door-morph-hard/medium").notes
    )


def test_another_domain_than_the_metadata_say():
    _, folder = own("hopper-gravity-x2")
    _, other = own("hopper-gravity-x5", lengths=[10] * 6)
    shutil.copy(other / "data" / "main_data.hdf5", folder / "data" / "main_data.hdf5")
    problems = check(str(folder)).problems
    assert any("they fit hopper-gravity-x5" in problem for problem in problems)


def test_joins_and_missing_limits_are_told(tmp_path):
    arrays = without(joined(recorded("hopper-morph", [20] * 3, scale=0.2)), "timeouts")
    path = write_flat(tmp_path / "hopper_morph_medium.hdf5", arrays)
    (problem,) = check(str(path)).problems
    assert "2 rows join two episodes (rows 19, 39), 2 of them with no terminal flag" == problem


def test_episodes_beyond_the_limit(tmp_path):
    path = write_flat(tmp_path / "halfcheetah_random.hdf5", recorded("halfcheetah", [1010]))
    assert check(str(path)).problems == ["the longest episode has 1010 steps, the limit is 1000"]


def test_duplicates_within_a_set(tmp_path):
    arrays = recorded("hopper", [12] * 4)
    twice = {name: np.concatenate((values, values[:12])) for name, values in arrays.items()}
    path = write_flat(tmp_path / "hopper_random.hdf5", twice)
    assert check(str(path)).problems == ["1 of 5 episodes occur more than once"]
    row = {name: np.concatenate((values, values[5:6])) for name, values in arrays.items()}
    row["timeouts"][-1] = True
    found = check(str(write_flat(path, row)))
    assert found.problems == [] and "1 rows occur more than once" in " ".join(found.notes)


@pytest.mark.parametrize("slug", ["pen-kinematic-medium", "door-morph-hard"])
def test_hands_say_what_was_not_checked(tmp_path, slug):
    path = write_flat(tmp_path / f"{slug}-expert.hdf5", recorded(slug, [40] * 3))
    found = check(str(path))
    assert found.problems == [] and "not checked" in found.notes[0]


def test_hands_with_other_rewards(tmp_path):
    arrays = recorded("pen", [40] * 3)
    sparse = arrays | {"rewards": np.where(arrays["rewards"] > 40, 10.0, -0.1).astype("f4")}
    found = check(str(write_flat(tmp_path / "pen-expert.hdf5", sparse)))
    assert any("sparse" in note for note in found.notes)
    wrong = arrays | {"rewards": arrays["rewards"][::-1].copy()}
    found = check(str(write_flat(tmp_path / "pen-expert.hdf5", wrong)))
    assert "rewards do not follow from the states they were paid in" in found.problems
    ended = arrays | {"terminals": np.arange(len(arrays["rewards"])) == 5}
    found = check(str(write_flat(tmp_path / "pen-expert.hdf5", ended)))
    assert any("another terminal flag than pen gives" in problem for problem in found.problems)


def test_one_bad_set_does_not_hide_another(tmp_path, capsys):
    good = write_flat(tmp_path / "hopper_random.hdf5", recorded("hopper", [12] * 4))
    (tmp_path / "bad.hdf5").write_bytes(b"no")
    assert main(["data", "verify", str(tmp_path / "bad.hdf5"), str(good), "hopper/expert"]) == 1
    told = capsys.readouterr()
    assert "2 of 3 have problems" in told.err and "cannot be read as HDF5" in told.out
    assert "median" in told.out and "data make hopper/expert" in told.out
    assert main(["data", "verify"]) == 2
    assert main(["data", "verify", str(good), "--domain", "hoper"]) == 1


def test_a_packaged_set_verifies():
    name = next(iter(packaged_index()))
    found = check(name)
    assert found.problems == [] and found.facts["rows"] == 5000


@pytest.mark.parametrize(
    "name",
    [
        "walker2d-friction-x0p1/expert",
        "walker2d-friction-x0p5/expert",
        "walker2d-gravity-x0p5/medium",
    ],
)
def test_a_step_at_a_contacts_threshold_is_not_damage(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Replays from rounded states miss by 0.24 and more there; whole episodes happen again."""
    assert main(["data", "verify", name]) == 0
    assert "lead elsewhere" not in capsys.readouterr().out

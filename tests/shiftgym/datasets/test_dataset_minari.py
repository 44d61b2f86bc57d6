"""Installed sets work with Minari itself, without torch."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from dataset_helpers import made_up, named
from shiftgym_helpers import run_python

import shiftgym
from shiftgym import project, scores
from shiftgym.datasets import cache
from shiftgym.datasets.flat import episode_bounds, episode_returns, spaces
from shiftgym.datasets.metadata import build
from shiftgym.datasets.names import dataset_name
from shiftgym.datasets.store import write_dataset

ROWS = 120
WITHOUT_TORCH = """
import sys, warnings
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "jax", "google", "huggingface_hub"):
            raise ImportError(name + " is not to be imported")
sys.meta_path.insert(0, Refuse())
warnings.simplefilter("error")
warnings.filterwarnings("ignore", category=DeprecationWarning)
import minari
listed = minari.list_local_datasets()
assert set(listed) == set(sys.argv[1:]), listed
for name in sys.argv[1:]:
    dataset = minari.load_dataset(name)
    episode = next(iter(dataset.iterate_episodes()))
    for env in (dataset.recover_environment(), dataset.recover_environment(eval_env=True)):
        observation, _ = env.reset(seed=0)
        env.step(env.action_space.sample())
        assert observation.shape == dataset.observation_space.shape == episode.observations[0].shape
        assert env.action_space == dataset.action_space
        print(name, env.spec.id, env.spec.kwargs)
import shiftgym
flat = shiftgym.load(sys.argv[1])
assert "torch" not in sys.modules
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give Minari's folder of datasets, empty."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


def write(place: str, of: shiftgym.Domain | None = None, seed: int = 0):
    name = dataset_name(f"{place}/medium-{ROWS}", of)
    widths = tuple(space.shape[0] for space in spaces(name.domain))
    flat = made_up(ROWS, seed, widths=(widths[0], widths[1]))
    return name, flat, write_dataset(flat, name, {}, episode_seeds=range(1000))


def test_minari_reads_the_same_numbers(root: Path) -> None:
    import minari

    name, flat, _ = write("ant-kinematic")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = minari.load_dataset(name.minari)
    bounds = episode_bounds(flat)
    assert (dataset.total_steps, dataset.total_episodes) == (ROWS, len(bounds) - 1)
    assert not dataset.storage.jpeg_encoding
    for k, episode in enumerate(dataset.iterate_episodes()):
        rows = slice(bounds[k], bounds[k + 1])
        assert len(episode.observations) == len(episode.rewards) + 1
        np.testing.assert_array_equal(episode.observations[:-1], flat["observations"][rows])
        np.testing.assert_array_equal(episode.observations[1:], flat["next_observations"][rows])
        np.testing.assert_array_equal(episode.actions, flat["actions"][rows])
        np.testing.assert_array_equal(episode.rewards, flat["rewards"][rows])
        np.testing.assert_array_equal(episode.terminations, flat["terminated"][rows])
        np.testing.assert_array_equal(episode.truncations, flat["truncated"][rows])
        assert dataset.observation_space.contains(episode.observations[0])
        assert dataset.action_space.contains(episode.actions[0])
    part = dataset.filter_episodes(lambda episode: len(episode.rewards) > 5)
    assert part.total_steps == int(np.diff(bounds)[np.diff(bounds) > 5].sum())


def test_everything_minari_does_locally_works_without_torch(root: Path) -> None:
    icy = shiftgym.make_domain("hopper", {"geom.foot_geom.friction": {"scale": 0.1}}, name="icy")
    names = [write("pen-kinematic-hard")[0], write("hopper-icy", icy)[0]]
    names.append(write("walker2d-friction-x0p37")[0])
    ids = [name.minari for name in names]
    done = run_python(WITHOUT_TORCH, *ids, MINARI_DATASETS_PATH=str(root))
    assert done.returncode == 0, done.stderr
    assert f"{ids[0]} ShiftPen-kinematic-hard-v0" in done.stdout
    assert "'name': 'icy'" in done.stdout
    assert shiftgym.load("hopper-icy/medium-120")["rewards"].shape == (ROWS,)


def test_minaris_own_commands_show_the_set(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from minari.cli import app
    from typer.testing import CliRunner

    monkeypatch.setattr(cache, "FROM_ROWS", 10)
    monkeypatch.setenv("COLUMNS", "200")
    name, _, folder = write("hopper-morph")
    assert cache.cache_path(folder).exists()
    for arguments in (["list", "local"], ["show", name.minari]):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        assert "hopper-morph" in done.output


def test_the_cache_is_nothing_to_minari(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import minari

    monkeypatch.setattr(cache, "FROM_ROWS", 10)
    name, _, folder = write("hopper-morph")
    assert cache.cache_path(folder).exists()
    dataset = minari.load_dataset(name.minari)
    assert dataset.storage.get_size() == dataset.storage.metadata["dataset_size"]
    assert minari.namespace.list_local_namespaces() == ["shiftgym", "shiftgym/hopper-morph"]
    sent = [path.name for path in folder.rglob("*") if path.is_file()]
    assert sorted(sent) == ["main_data.hdf5", "metadata.json"]
    minari.delete_dataset(name.minari)
    with pytest.raises(shiftgym.ShiftgymError, match="shiftgym data make"):
        shiftgym.load(name)


def test_scores_are_a_hundred_times_minaris(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import minari

    entry = {"random": 16.0, "expert": 3016.0, "episodes": 100}
    monkeypatch.setattr(scores, "_tables", lambda *_: {"shiftgym": {"hopper-kinematic": entry}})
    name, flat, _ = write("hopper-kinematic")
    dataset = minari.load_dataset(name.minari)
    returns = episode_returns(flat)
    ours = [scores.normalized_score("hopper-kinematic", value, "shiftgym") for value in returns]
    np.testing.assert_allclose(100 * minari.get_normalized_score(dataset, returns), ours)
    metadata = dataset.storage.metadata
    assert (metadata["ref_min_score"], metadata["ref_max_score"]) == (16.0, 3016.0)
    assert metadata["num_episodes_average_score"] == 100


def test_metadata_fill_every_key_minari_asks_for(root: Path, monkeypatch) -> None:
    """Minari warns of each of these that is missing when a set is made."""
    import minari

    monkeypatch.setattr(project, "REPOSITORY", "https://example.org/shiftgym")
    name, _, _ = write("hopper")
    metadata = minari.load_dataset(name.minari).storage.metadata
    for key in ("author", "author_email", "code_permalink", "algorithm_name", "description"):
        assert metadata[key], key
    assert metadata["minari_version"] in minari.supported_dataset_versions
    assert "mujoco" in " ".join(metadata["requirements"])
    assert metadata["author_email"] == {"https://example.org/shiftgym/issues"}
    assert metadata["code_permalink"].startswith("https://example.org/shiftgym/tree/v")


def test_no_address_is_invented_and_the_licence_is_that_of_our_own_data(root: Path) -> None:
    import minari

    own, _, _ = write("hopper")
    metadata = minari.load_dataset(own.minari).storage.metadata
    assert metadata["license"] == "CC-BY-4.0"
    if not project.REPOSITORY:
        assert "author_email" not in metadata and "code_permalink" not in metadata
    told = {"author_email": "lab@example.org"}
    foreign = build(
        dataset_name("hopper/medium-d4rl"), told, episodes=1, mean_return=None, megabytes=0.1,
        sha256="0" * 64, whole_episodes=0, content="0" * 64,
    )  # fmt: skip
    assert "license" not in foreign and foreign["author_email"] == ["lab@example.org"]


def test_arrays_go_into_torch_without_a_copy(root: Path) -> None:
    torch = pytest.importorskip("torch")
    name, _, _ = write("hopper")
    for array in shiftgym.load(name).values():
        assert torch.from_numpy(array).data_ptr() == array.ctypes.data


def test_a_domain_that_has_changed_since_is_named(root: Path) -> None:
    def icy(scale: float) -> shiftgym.Domain:
        return shiftgym.make_domain(
            "hopper", {"geom.foot_geom.friction": {"scale": scale}}, name="icy"
        )

    name, _, _ = write("hopper-icy", icy(0.1))
    assert shiftgym.load(name)["rewards"].shape == (ROWS,)
    with pytest.raises(shiftgym.ShiftgymError, match="its edits differ"):
        shiftgym.load(dataset_name(f"hopper-icy/medium-{ROWS}", icy(0.2)))
    assert named(5).short == "hopper-kinematic/medium-5"

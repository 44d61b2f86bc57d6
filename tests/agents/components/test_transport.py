"""Test optimal transport against exact linear programs, its own bounds, and real transitions."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment, linprog
from scipy.stats import spearmanr
from torch import Tensor

from shiftgym.errors import ShiftgymError
from shiftgym_agents.components import transport
from shiftgym_agents.components.transport import Transport, cost_matrix, couple, deviations, solve

ot = pytest.importorskip("ot")


def rows(count: int, seed: int, size: int = 6, shift: float = 0.0) -> Tensor:
    made = torch.randn(count, size, generator=torch.Generator().manual_seed(seed))
    made[:, 0] += 1 + shift
    return made


def ranks_agree(one: Tensor, two: Tensor) -> float:
    return float(spearmanr(one.numpy(), two.numpy())[0])


# --- the coupling ---------------------------------------------------------------------------------


def test_marginals_and_total_cost() -> None:
    cost = cost_matrix(rows(300, 0), rows(200, 1, shift=0.5))
    mass = couple(cost, 0.05 * float(cost.mean()))
    torch.testing.assert_close(mass.sum(1), torch.full((300,), 1 / 300), rtol=1e-5, atol=0)
    assert float((mass.sum(0) - 1 / 200).abs().sum()) < 1e-4
    found = solve(rows(300, 0), rows(200, 1, shift=0.5), Transport())
    assert -float(cost.max()) <= float(found.min()) and float(found.max()) <= 0
    torch.testing.assert_close(found.mean(), -(mass * cost).sum(), rtol=1e-5, atol=1e-7)


def test_epsilon_is_relative_to_cost_over_its_maximum() -> None:
    """The release's eps = 0.05 mean(C / max C) for C / max C is 0.05 mean(C) for C."""
    cost = cost_matrix(rows(80, 0), rows(60, 1))
    scaled = cost / cost.max()
    torch.testing.assert_close(
        couple(cost, 0.05 * float(cost.mean())),
        couple(scaled, 0.05 * float(scaled.mean())),
        rtol=1e-3,
        atol=1e-9,
    )


def test_kernel_and_logarithmic_domain_agree() -> None:
    source, target = rows(120, 0), rows(90, 1, shift=0.3)
    cost = cost_matrix(source, target)
    epsilon = 0.05 * float(cost.mean())
    one, two = (-120 * (couple(cost, epsilon, 100, m) * cost).sum(1) for m in ("kernel", "log"))
    assert float((one - two).abs().max()) < 1e-5


def test_costs_beyond_the_kernels_range_go_through_logarithms() -> None:
    """Many rows close together and a few far ones: exp(-C / eps) is 0 in float32."""
    close = torch.tensor([1.0, 0, 0]) + 1e-3 * rows(60, 0, 3)
    far = torch.tensor([-1.0, 0, 0]) + 1e-3 * rows(1, 2, 3)
    source, target = torch.cat([close, far]), torch.tensor([1.0, 0, 0]) + 1e-3 * rows(50, 1, 3)
    cost = cost_matrix(source, target)
    assert float(cost.max()) / (0.05 * float(cost.mean())) > transport.SPAN[torch.float32]
    found = solve(source, target, Transport())
    exact = solve(source.double(), target.double(), Transport())
    torch.testing.assert_close(found.double(), exact, rtol=1e-3, atol=1e-5)
    assert float(found[-1]) < -1.9


@pytest.mark.parametrize(("n", "m"), [(12, 12), (9, 14)])
@pytest.mark.parametrize("kind", ["cosine", "euclidean"])
def test_small_epsilon_gives_the_linear_programs_cost(n: int, m: int, kind: str) -> None:
    source, target = rows(n, 3).double(), rows(m, 4).double()
    cost = cost_matrix(source, target, kind)
    made = Transport(cost=kind, epsilon=2e-3, iterations=2000)  # pyright: ignore
    paid = -float(solve(source, target, made).mean())
    ours = cost.numpy()
    assert paid == pytest.approx(float(ot.emd2([], [], ours)), rel=0.02)
    equal = np.zeros((n + m, n * m))
    for i in range(n):
        equal[i, i * m : (i + 1) * m] = 1
    for j in range(m):
        equal[n + j, j::m] = 1
    sides = np.concatenate([np.full(n, 1 / n), np.full(m, 1 / m)])
    assert paid == pytest.approx(linprog(ours.ravel(), A_eq=equal, b_eq=sides).fun, rel=0.02)
    if n == m:
        chosen = ours[linear_sum_assignment(ours)].mean()
        assert paid == pytest.approx(float(chosen), rel=0.02)


@pytest.mark.parametrize("seed", range(4))
def test_exact_deviations_lie_between_total_variation_and_zero(seed: int) -> None:
    """OTDF's theorem 3.2, for the mass-carrying d of the unregularised coupling."""
    draw = np.random.default_rng(seed)
    atoms = rows(5, 10 + seed, 3).double()
    here, there = draw.integers(0, 4, 8), draw.integers(1, 5, 8)
    cost = cost_matrix(atoms[here], atoms[there])
    gap = 0.5 * abs(np.bincount(here, minlength=5) - np.bincount(there, minlength=5)).sum() / 8
    exact = -(cost.numpy() * ot.emd([], [], cost.numpy())).sum(1)
    ours = solve(atoms[here], atoms[there], Transport(epsilon=1e-3, iterations=3000)).numpy() / 8
    for found, slack in ((exact, 1e-12), (ours, 2e-3)):
        assert found.max() <= slack
        assert found.min() >= -float(cost.max()) * gap - slack
    assert ours.sum() == pytest.approx(exact.sum(), abs=2e-3)


# --- deviations -----------------------------------------------------------------------------------


def test_equal_datasets_deviate_by_nothing() -> None:
    same = rows(80, 5).double()
    found = solve(same, same, Transport(epsilon=1e-3, iterations=200))
    assert float(found.min()) > -0.02 and float(found.max()) <= 0
    one = torch.ones(30, 4)
    assert float(solve(one, one[:7], Transport()).abs().max()) < 1e-6


def test_rows_turned_away_deviate_more() -> None:
    target = torch.tensor([1.0, 0, 0]) + 0.05 * rows(100, 6, 3)
    angle = torch.linspace(0.3, 3.0, 20)
    source = torch.stack([angle.cos(), angle.sin(), torch.zeros(20)], 1)
    assert bool((solve(source, target, Transport()).diff() < 0).all())


def test_scale_does_not_matter_to_the_cosine() -> None:
    source, target = rows(100, 0), rows(80, 1)
    one, two = solve(source, target, Transport()), solve(7 * source, 7 * target, Transport())
    assert float((one - two).abs().max()) < 1e-5


def test_order_of_rows_does_not_matter() -> None:
    source, target = rows(150, 0), rows(90, 1, shift=0.5)
    found = solve(source, target, Transport())
    turn, other = torch.randperm(150), torch.randperm(90)
    assert float((solve(source[turn], target, Transport()) - found[turn]).abs().max()) < 1e-5
    assert float((solve(source, target[other], Transport()) - found).abs().max()) < 1e-5


def test_deviation_ranks_like_the_nearest_target_row() -> None:
    source = torch.cat([rows(400, k, shift=s) for k, s in enumerate((0.0, -3.0))])
    target = rows(300, 9)
    nearest = cost_matrix(source, target).min(1).values
    assert ranks_agree(solve(source, target, Transport()), -nearest) > 0.6


# --- blocks ---------------------------------------------------------------------------------------


def test_size_of_blocks_changes_next_to_nothing() -> None:
    """Rows drift as a replay buffer's do: samples of them agree, stretches of them do not."""
    source, target = rows(2400, 2), rows(100, 3)
    source[:, 0] += torch.linspace(-2, 2, 2400)
    whole = solve(source, target, Transport(block=2400))
    cut = solve(source, target, Transport(block=800))
    assert ranks_agree(whole, cut) > 0.98
    assert float((whole - cut).abs().mean()) < 0.05 * float(whole.abs().mean())
    in_turn = solve(source, target, Transport(block=800, blocks="consecutive"))
    assert ranks_agree(whole, in_turn) < 0.9


def test_released_mass_makes_a_short_last_block_look_far() -> None:
    source, target = rows(330, 0), rows(200, 1)
    plain = solve(source, target, Transport(block=300, blocks="consecutive"))
    official = solve(source, target, Transport(block=300, blocks="consecutive", mass="block"))
    torch.testing.assert_close(official[:300], plain[:300])
    torch.testing.assert_close(official[300:], 10 * plain[300:])


def test_memory_is_bounded_by_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []

    def look(cost: Tensor, *_: object) -> Tensor:
        seen.append(tuple(cost.shape))
        return torch.full_like(cost, 1 / cost.numel())

    monkeypatch.setattr(transport, "couple", look)
    monkeypatch.setattr(transport, "TARGET_ROWS", 50)
    solve(rows(1000, 0), rows(40, 1), Transport(block=100))
    assert max(n * m for n, m in seen) <= 100 * 50 and len(seen) == 10
    seen.clear()
    found = solve(rows(1000, 0), rows(200, 1), Transport(block=100))
    assert max(n * m for n, m in seen) <= 100 * 50 and sum(n for n, _ in seen) == 1000
    assert found.shape == (1000,) and bool(found.isfinite().all())


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["source", "target"])
def test_rows_without_a_cost_are_refused(side: str) -> None:
    good, bad, zero = rows(20, 0), rows(20, 1), rows(20, 2)
    bad[3, 1], zero[5] = torch.nan, 0
    for wrong, said in ((bad, "row 3"), (zero, "row 5"), (rows(0, 0), "needs rows")):
        pair = (wrong, good) if side == "source" else (good, wrong)
        with pytest.raises(ShiftgymError, match=f"{side}: .*{said}"):
            solve(*pair, Transport())  # pyright: ignore
    pair = (zero, good) if side == "source" else (good, zero)
    assert bool(solve(*pair, Transport(cost="euclidean")).isfinite().all())  # pyright: ignore


def test_settings_that_mean_nothing_are_refused() -> None:
    for wrong in ({"epsilon": 0.0}, {"iterations": 0}, {"block": 0}):
        with pytest.raises(ShiftgymError, match="positive epsilon"):
            Transport(**wrong)  # pyright: ignore


def test_without_pot_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ShiftgymError, match=r"pip install 'shiftgym\[agents\]'"):
        couple(torch.ones(2, 2), 0.1)


# --- the cache ------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHIFTGYM_CACHE", str(tmp_path))
    monkeypatch.setattr(transport, "KEEP_FROM", 1)
    return tmp_path / "transport"


def test_cached_deviations_are_the_fresh_ones(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = rows(60, 0), rows(50, 1)
    fresh = deviations(source, target, Transport())
    assert torch.equal(fresh, solve(source, target, Transport()))
    assert len(list(cache.iterdir())) == 1
    with monkeypatch.context() as patch:
        patch.setattr(transport, "solve", lambda *_: pytest.fail("solved again"))
        assert torch.equal(deviations(source.double(), target, Transport()), fresh)
    deviations(source, target, Transport(epsilon=0.1))
    deviations(target, source, Transport())
    assert len(list(cache.iterdir())) == 3


@pytest.mark.parametrize("harm", ["flip", "truncate", "foreign", "other"])
def test_damaged_cache_is_made_again(
    cache: Path, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = rows(60, 0), rows(50, 1)
    fresh = deviations(source, target, Transport())
    (path,) = cache.iterdir()
    content = path.read_bytes()
    if harm == "other":
        deviations(source + 1, target, Transport())
        (second,) = set(cache.iterdir()) - {path}
        path.write_bytes(second.read_bytes())
    else:
        flipped = content[:-5] + bytes([content[-5] ^ 1]) + content[-4:]
        path.write_bytes({"flip": flipped, "truncate": content[:-9], "foreign": b"no"}[harm])
    with pytest.warns(UserWarning, match="damaged .*computing it again"):
        again = deviations(source, target, Transport())
    assert torch.equal(again, fresh) and not list(cache.glob(".*"))
    monkeypatch.setattr(transport, "solve", lambda *_: pytest.fail("not mended"))
    assert torch.equal(deviations(source, target, Transport()), fresh)


def test_folder_that_cannot_be_written_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SHIFTGYM_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(transport, "KEEP_FROM", 1)
    with pytest.warns(UserWarning, match="cannot keep"):
        assert len(deviations(rows(9, 0), rows(8, 1), Transport())) == 9


# --- real transitions -----------------------------------------------------------------------------


def read(folder: Path, name: str) -> Tensor:
    h5py = pytest.importorskip("h5py")
    path = folder / f"{name}.hdf5"
    if not path.exists():
        pytest.skip(f"no {path.name} among the published files")
    with h5py.File(path) as file:
        parts = [file[key][:] for key in ("observations", "actions", "next_observations")]
    return torch.from_numpy(np.concatenate(parts, 1).astype(np.float32))


FACTS = [  # sources, target, max C, eps for C / max C, range of d, rank agreement with -min C
    (
        ("hopper_kinematic_medium", "hopper_kinematic_expert"),
        "hopper_morph_medium",
        (1.90, 0.0195, (-0.63, -0.03), 0.94),
    ),
    (
        ("halfcheetah_morph_expert",),
        "halfcheetah_kinematic_medium",
        (1.84, 0.0256, (-0.81, -0.21), 0.75),
    ),
]


@pytest.mark.parametrize(("sources", "target", "facts"), FACTS)
def test_published_transitions(
    published: Path, sources: tuple[str, ...], target: str, facts: tuple
) -> None:
    """Compare with what another implementation measured, on 10,000 rows of two other shifts.

    Which two is not known: only ranges of deviations and the agreement of ranks can differ.
    """
    source = torch.cat([read(published, name) for name in sources])
    source, goal = source[:: len(source) // 1500], read(published, target)
    most, epsilon, (low, high), agreement = facts
    cost = cost_matrix(source, goal)
    assert float(cost.max()) == pytest.approx(most, abs=0.05)
    assert 0.05 * float((cost / cost.max()).mean()) == pytest.approx(epsilon, abs=0.0015)
    found = solve(source, goal, Transport())
    assert low - 0.08 < float(found.min()) < low + 0.15
    assert high - 0.1 < float(found.max()) <= min(0, high + 0.12)
    assert ranks_agree(found, -cost.min(1).values) > agreement - 0.1


def test_size_of_blocks_hardly_matters_on_published_transitions(published: Path) -> None:
    source = torch.cat([read(published, f"hopper_kinematic_{q}") for q in ("medium", "expert")])
    source, target = source[::4], read(published, "hopper_morph_medium")[::5]
    whole, halves = (solve(source, target, Transport(block=b)) for b in (2500, 1250))
    assert ranks_agree(whole, halves) > 0.99
    assert float((whole - halves).abs().mean()) < 0.02 * float(whole.abs().mean())

"""Names of datasets: read, written, and wrong ones explained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import shiftgym
from shiftgym.datasets.names import QUALITIES, DatasetName, dataset_name, size_token


@pytest.mark.parametrize(
    ("text", "short", "size"),
    [
        ("hopper/medium", "hopper/medium", 1_000_000),
        ("hopper/medium-1m", "hopper/medium", 1_000_000),
        ("hopper-kinematic/medium", "hopper-kinematic/medium", 5_000),
        ("hopper-kinematic/medium-5k", "hopper-kinematic/medium", 5_000),
        ("hopper-kinematic/medium-1m", "hopper-kinematic/medium-1m", 1_000_000),
        ("shiftgym/ant-friction-x0p5/medium-expert-v0", "ant-friction-x0p5/medium-expert", 5_000),
        ("shiftgym/hopper/medium-replay-200k-v0", "hopper/medium-replay-200k", 200_000),
        ("ShiftHopper-kinematic-v0/expert-1234", "hopper-kinematic/expert-1234", 1234),
        ("hopper-friction-x0p37/random", "hopper-friction-x0p37/random", 5_000),
        ("pen-morph-hard/human", "pen-morph-hard/human", 5_000),
        ("hopper/medium-replay", "hopper/medium-replay", 500_000),
        ("ant-morph/medium-replay-500k", "ant-morph/medium-replay", 500_000),
        ("ant-morph/medium-replay-1m", "ant-morph/medium-replay-1m", 1_000_000),
        ("hopper-friction-x5/medium-best-1k", "hopper-friction-x5/medium-best-1k", 1_000),
        ("hopper/medium-made_seed5", "hopper/medium-made_seed5", 1_000_000),
        ("hopper/medium-1m-made_seed5", "hopper/medium-made_seed5", 1_000_000),
        ("hopper/medium-expert-50k-made_a_b", "hopper/medium-expert-50k-made_a_b", 50_000),
    ],
)
def test_a_name_is_read(text: str, short: str, size: int) -> None:
    name = dataset_name(text)
    assert (name.short, name.size, str(name)) == (short, size, short)
    assert name.minari == f"shiftgym/{short}-v0"
    assert dataset_name(name.minari) == dataset_name(short) == dataset_name(name) == name


@pytest.mark.parametrize("slug", shiftgym.catalogue())
def test_every_domain_and_quality_has_an_id_that_minari_takes(slug: str) -> None:
    from minari.dataset.minari_dataset import parse_dataset_id

    for quality in QUALITIES:
        for size in (5_000, 1_000_000, 4_321):
            name = DatasetName(shiftgym.domain(slug), quality, size)
            assert parse_dataset_id(name.minari) == (f"shiftgym/{slug}", name.label, 0)
            assert dataset_name(name.minari) == name
            other = replace(name, made="made_seed5")
            assert parse_dataset_id(other.minari) == (f"shiftgym/{slug}", other.label, 0)
            assert dataset_name(other.minari) == other and other.own == name


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hopper", "<domain>/<quality>"),
        ("hopper/", "<domain>/<quality>"),
        ("hoper/medium", "'hopper'"),
        ("hopper-kinematics/medium", "'kinematic'"),
        ("hopper/medum", "'medium'"),
        ("hopper/human", "no quality"),
        ("hopper/medium-v1", "is no size"),
        ("hopper/medium-0", "is no size"),
        ("hopper/medium-5x", "is no size"),
        ("hopper/medium-99999m", "is no size"),
        ("hopper/medium-made_", "is no size"),
        ("hopper/medium-made_seed5-5k", "is no size"),
        ("hopper/medium-5k-otdf", "is no size"),
        ("../../etc/medium", "Unknown robot"),
    ],
)
def test_a_wrong_name_is_explained(text: str, says: str) -> None:
    with pytest.raises(shiftgym.DomainError, match=says):
        dataset_name(text)


def test_sizes_are_whole_thousands_and_millions_or_digits() -> None:
    assert [size_token(n) for n in (1, 999, 1_000, 1_500, 200_000, 2_000_000)] == [
        "1", "999", "1k", "1500", "200k", "2m",
    ]  # fmt: skip


def test_users_own_domains_have_datasets(tmp_path: Path) -> None:
    mine = shiftgym.make_domain("hopper", {"geom.foot_geom.friction": {"scale": 0.1}}, name="icy")
    name = dataset_name("hopper-icy/medium", mine)
    assert name.minari == "shiftgym/hopper-icy/medium-v0" and name.domain is mine
    with pytest.raises(shiftgym.DomainError, match="does not name"):
        dataset_name("hopper-wet/medium", mine)
    (tmp_path / "my.toml").write_text("[hopper.wet]\ngeom.foot_geom.friction = {scale = 0.5}\n")
    assert dataset_name(f"{tmp_path}/my.toml:hopper-wet/expert").short == "hopper-wet/expert"

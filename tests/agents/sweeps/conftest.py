"""Train the tiny grid once with processes of this machine, for every test that compares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sweep_helpers import facts, run, write_grid

from shiftgym_agents.sweeps.backends.base import Room


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_grid(tmp_path_factory.mktemp("grid"))


@pytest.fixture(scope="session")
def trained(grid: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train the grid with two processes of this machine; where."""
    out = tmp_path_factory.mktemp("local")
    board = run(grid, out, Room(jobs=2))
    assert board.summary() == "24 groups: 24 done."
    return out


@pytest.fixture(scope="session")
def local(trained: Path) -> dict[str, Any]:
    """Give what it says."""
    return facts(trained)

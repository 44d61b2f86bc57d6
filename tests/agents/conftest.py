"""Make the agents' tests repeatable, and quick beside each other."""

from __future__ import annotations

import pytest
import torch

torch.set_num_threads(1)  # tiny networks on shared cores: threads would only wait for each other


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Seed torch's own generator, which a test may draw from."""
    torch.manual_seed(0)

"""Run the snippets of docs/clients.md where their libraries are installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
SNIPPETS = re.findall(r"^```python (\w+)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)


def test_the_page_has_its_snippets() -> None:
    assert len(SNIPPETS) == len({library for library, _ in SNIPPETS}) >= 6


@pytest.mark.parametrize(("library", "code"), SNIPPETS, ids=[library for library, _ in SNIPPETS])
def test_a_client_takes_what_we_give(library: str, code: str, tmp_path: Path) -> None:
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed: pip install {library}")
    own = {"MINARI_DATASETS_PATH": str(tmp_path / "minari")}
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | own, timeout=300,
        capture_output=True, text=True,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr[-2000:]

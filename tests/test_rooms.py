"""Test that imports point one way, from floor to floor, and never in a circle."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("shiftgym", "shiftgym_agents", "shiftgym_tools")
FOLDERS = [
    init.parent
    for place in ("shiftgym", "agents/shiftgym_agents", "dataset_tools/shiftgym_tools")
    for init in (ROOT / place).rglob("__init__.py")
]

needs_linter = pytest.mark.skipif(
    find_spec("importlinter") is None, reason="import-linter is not installed"
)


@needs_linter
def test_imports_point_downwards(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    from importlinter.cli import lint_imports

    monkeypatch.chdir(ROOT)
    failed = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert not failed, capsys.readouterr().out


@needs_linter
def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports within functions count: they only hide a circle."""
    import grimp

    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    left = {
        module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules
    }
    while free := [module for module, needed in left.items() if not needed & left.keys()]:
        for module in free:
            del left[module]
    assert not left, f"these are in circles, or stand on one: {sorted(left)}"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_a_folder_says_what_lives_there_and_is_no_shelf(folder: Path) -> None:
    assert (folder / "__init__.py").read_text(encoding="utf-8").startswith('"""')
    files = [path for path in folder.iterdir() if path.suffix in (".py", ".cpp", ".hpp")]
    assert len(files) <= 25, f"{folder.name} has {len(files)} files: is it one room?"

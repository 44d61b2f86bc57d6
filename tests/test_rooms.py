"""Test that imports point one way, from floor to floor, and never in a circle."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ELSEWHERE = {"envpool"}  # what scripts use and the tests do not install
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


@pytest.mark.parametrize("folder", ["benchmarks", "docs", "examples"])
def test_scripts_import_what_is_there(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts outside of the packages import each other by name, which nothing else checks."""
    monkeypatch.syspath_prepend(str(ROOT / folder))
    for path in sorted((ROOT / folder).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            named = [node.module] if isinstance(node, ast.ImportFrom) else []
            named += [a.name for a in node.names] if isinstance(node, ast.Import) else []
            for module in filter(None, named):
                if module.startswith("shiftgym") or (ROOT / folder / f"{module}.py").exists():
                    assert find_spec(module), f"{path.name} imports {module}"
                elif not find_spec(module.split(".")[0]):
                    assert module.split(".")[0] in ELSEWHERE, f"{path.name} imports {module}"

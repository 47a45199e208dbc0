"""Two floors: the machinery never imports the method, no two folders import each other, and no two files have one name."""

import ast
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest

from tests.conftest import ROOT


def imported(path: Path) -> Iterator[str]:
    """Dotted names that the code in a folder, or in a file, imports."""
    for file in path.rglob("*.py") if path.is_dir() else [path]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
                yield from (module + alias.name for alias in node.names)


def test_the_machinery_never_imports_the_method() -> None:
    names = [name for name in imported(ROOT / "boldscribe" / "machinery") if name.startswith("boldscribe.")]
    assert names and {name for name in names if not name.startswith("boldscribe.machinery")} == set()


@pytest.mark.parametrize("package", ["boldscribe", "boldscribe/machinery"])
def test_no_two_folders_import_each_other(package: str) -> None:
    parts = {path.stem: set(imported(path)) for path in (ROOT / package).iterdir() if path.is_dir() or path.suffix == ".py"}
    below = package.replace("/", ".")
    reached = {
        part: {other for other in parts if any(f"{n}.".startswith(f"{below}.{other}.") for n in names)} for part, names in parts.items()
    }
    assert [(a, b) for a, b in combinations(parts, 2) if b in reached[a] and a in reached[b]] == []


def test_no_two_files_have_one_name() -> None:
    names = [path.name for path in (ROOT / "boldscribe").rglob("*.py") if path.name != "__init__.py"]
    assert len(names) > 100 and len(set(names)) == len(names), sorted({name for name in names if names.count(name) > 1})

"""Benchmarks are not run by tests; at least what they import exists."""

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from app.settings import ROOT

FILES = sorted((ROOT / "benchmarks").rglob("*.py"))
PACKAGES = ("app", "benchmarks", "tests", "vezna", "worker")


def imported(file: Path) -> Iterator[tuple[str, str]]:
    """Module and name of each import from this repository's packages."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PACKAGES:
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(ROOT)) for file in FILES])
def test_every_imported_name_exists(file: Path) -> None:
    for module, name in imported(file):
        if not hasattr(import_module(module), name):
            import_module(f"{module}.{name}")

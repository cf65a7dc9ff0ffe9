"""The arrows of docs/architecture.md hold, and the processes that must stay small never import the ML libraries."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Collection
from graphlib import TopologicalSorter
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from app.settings import ROOT

HEAVY = {"torch", "transformers", "peft", "safetensors", "accelerate", "sklearn", "tokenizers", "sentence_transformers"}
LIGHT = (
    "app.main",
    "app.cli.program",
    "worker.celery",
    "worker.tasks",
    "worker.context",
    "worker.training.supervisor",
    "worker.training.host",
    "worker.training.child",
    "worker.estimation.host",
    "worker.estimation.child",
    "worker.ingest.host",
    "worker.inspection.host",
)


def test_the_contracts_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_importing_these_and_making_the_application_brings_no_ml_library(tmp_path: Path) -> None:
    """In one process, one after the other: what the first brings would be there after the last."""
    code = """if True:
        import importlib, sys
        heavy = set(sys.argv[1].split())
        for module in sys.argv[2:]:
            importlib.import_module(module)
            assert not heavy & sys.modules.keys(), f"{module}: {heavy & sys.modules.keys()}"
        from app.main import create_app
        create_app().openapi()
        assert not heavy & sys.modules.keys(), f"create_app: {heavy & sys.modules.keys()}"
        assert {"pydantic", *sys.argv[2:]} <= sys.modules.keys()
    """
    environment = {"VEZNA_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, " ".join(HEAVY), *LIGHT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.nightly
def test_a_server_is_there_without_what_only_some_pages_need(tmp_path: Path) -> None:
    """Each takes a twentieth of the start or more: charts, migrations, the client of the broker,
    hashing of passwords."""
    code = "import sys, app.cli.program; from app.main import create_app; create_app(); print(*sys.modules)"
    environment = {"VEZNA_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert {"altair", "alembic", "redis", "argon2", "pwdlib", "zxcvbn"} & set(done.stdout.split()) == set()


@pytest.mark.slow
def test_the_web_server_imports_what_it_installs_and_nothing_else() -> None:
    """Its image has the dependencies without extras, while the environment of the tests has everything."""
    installed: set[str] = set()
    waiting = [Requirement("vezna")]
    while waiting:
        wanted = waiting.pop()
        needs = [
            need
            for need in map(Requirement, requires(wanted.name) or [])
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *wanted.extras))
        ]
        waiting += [need for need in needs if need.extras or _normal(need.name) not in installed]
        installed |= {_normal(need.name) for need in needs}
    distributions = packages_distributions()
    foreign = {
        f"{file.relative_to(ROOT)}: {package}"
        for file in (ROOT / "app").rglob("*.py")
        for package in {name.partition(".")[0] for name, _ in _names(file)} - sys.stdlib_module_names - {"app", "vezna"}
        if not {_normal(name) for name in distributions.get(package, [])} & installed
    }
    assert foreign == set()


@pytest.mark.parametrize("package", ["app", "worker"])
def test_every_root_module_is_in_a_layer(package: str) -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layered = {
        name.strip()
        for contract in contracts
        if contract["type"] == "layers"
        for layer in contract["layers"]
        for name in re.split("[|:]", layer)
    }
    modules = {
        f"{package}.{path.stem}"
        for path in (ROOT / package).iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    unplaced = {name for name in modules if not any(f"{one}.".startswith(f"{name}.") for one in layered)}
    assert unplaced == {f"{package}.__init__"}


@pytest.mark.parametrize("name", ["utils", "helpers", "common", "manager", "misc"])
def test_no_file_is_a_grab_bag(name: str) -> None:
    assert not [path for room in ("app", "worker", "vezna") for path in (ROOT / room).rglob(f"{name}.py")]


@pytest.mark.slow
def test_no_modules_import_each_other_in_a_circle() -> None:
    """File by file, with what is imported for types alone; import-linter compares packages."""
    files = {_module(file): file for room in ("app", "worker", "vezna") for file in (ROOT / room).rglob("*.py")}
    TopologicalSorter({module: _imported(module, file, files) for module, file in files.items()}).prepare()


def _module(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _normal(distribution: str) -> str:
    """As an index compares names (PEP 503)."""
    return re.sub("[-_.]+", "-", distribution).lower()


def _names(file: Path) -> list[tuple[str, str]]:
    """What a file imports, at any depth: module and name, "" for a whole module."""
    names: list[tuple[str, str]] = []
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [(node.module, alias.name) for alias in node.names]
    return names


def _imported(module: str, file: Path, modules: Collection[str]) -> set[str]:
    names = _names(file)
    found = {f"{package}.{name}" if f"{package}.{name}" in modules else package for package, name in names}
    return found & set(modules) - {module}

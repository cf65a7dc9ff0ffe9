"""Who may import whom, what an import brings along, and what features add."""

import ast
import gc
import re
import subprocess
import sys
import tomllib
from collections.abc import Collection
from graphlib import TopologicalSorter
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from packaging.requirements import Requirement

from app import feature
from app.domain.errors import Invalid
from app.domain.tasks import TASKS
from app.features import FEATURES
from app.imports import import_large
from app.main import create_app
from app.settings import ROOT, Settings, load
from app.store.database import migrate
from app.store.database.session import Database

HEAVY = {"torch", "transformers", "peft", "safetensors", "accelerate", "sklearn", "tokenizers", "sentence_transformers"}
LIGHT = (
    "app.main", "app.cli.program", "worker.celery", "worker.tasks", "worker.nodes.context",
    "worker.training.supervisor", "worker.training.host", "worker.training.child",
    "worker.estimation.host", "worker.estimation.child",
    "worker.ingest.host", "worker.inspection.host",
)  # fmt: skip


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


def has_code(entry: Path) -> bool:
    """A module, a template, or a folder with any: not one that a move left behind with compiled files."""
    return any(file.suffix in {".py", ".html"} for file in (entry.rglob("*") if entry.is_dir() else [entry]))


def test_a_folder_has_at_most_15_entries() -> None:
    left = {"templates/features/lab", "tests/unit/worker/engine"}
    large = {
        folder.relative_to(ROOT).as_posix()
        for room in ("app", "worker", "vezna", "templates", "tests")
        for folder in (path for path in (ROOT / room).rglob("*") if path.is_dir() and path != ROOT / "tests/data")
        if sum(has_code(entry) for entry in folder.iterdir() if entry.name[0] != "_") > 15
    }
    assert large <= left


def test_few_places_outside_the_tables_quote_the_name_of_a_task() -> None:
    """Other code asks `TaskFacts` or the task's file; `vezna` cannot import these and has a table of its own. Samples
    and examples of requests name tasks as data; a file that quotes `preference-messages` too means the format
    `preference`, not the task."""
    tables = {ROOT / file for file in ("app/domain/tasks.py", "vezna/trackers/study.py")}
    tables |= {*(ROOT / "worker/engine/tasks").iterdir()}
    quoted: list[str] = []
    for file in (file for room in ("app", "worker", "vezna") for file in (ROOT / room).rglob("*.py")):
        if file in tables or file.name == "examples.py" or file.is_relative_to(ROOT / "app/samples"):
            continue
        if any(f'"{name}"' in (text := file.read_text(encoding="utf-8")) for name in TASKS):
            values = [node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)]
            formats = {"preference"} if "preference-messages" in values else set()
            quoted += [f"{file.relative_to(ROOT)}: {value}" for value in values if value in {*TASKS} - formats]
    for template in (ROOT / "templates").rglob("*.html"):
        code = re.findall(r"\{[{%].*?[%}]\}", template.read_text(encoding="utf-8"), re.DOTALL)
        quoted += [f"{template.name}: {name}" for name in TASKS for part in code if f'"{name}"' in part]
    assert len(quoted) <= 2, quoted


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


@pytest.mark.slow
def test_a_large_import_is_not_searched_for_garbage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "large_library.py").write_text(
        "import gc\nSEARCHED = gc.isenabled()\nOBJECTS = [[] for _ in range(5000)]\n"
    )
    (tmp_path / "broken_library.py").write_text("raise RuntimeError('no driver')\n")
    frozen = gc.get_freeze_count()
    found = import_large("large_library")
    assert not found.SEARCHED and gc.isenabled()
    assert gc.get_freeze_count() >= frozen + 5000
    assert import_large("large_library") is found
    with pytest.raises(RuntimeError, match="no driver"):
        import_large("broken_library")
    assert gc.isenabled()


def test_all_are_active_unless_the_variable_names_some_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(feature.VARIABLE, raising=False)
    assert feature.active() == FEATURES
    monkeypatch.setenv(feature.VARIABLE, "all")
    assert feature.active() == FEATURES
    monkeypatch.setenv(feature.VARIABLE, "")
    assert feature.active() == ()
    monkeypatch.setenv(feature.VARIABLE, " webhooks, lab,")
    assert feature.active() == ("lab", "webhooks")


def test_a_feature_that_does_not_exist_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(feature.VARIABLE, "lab,weebhooks")
    with pytest.raises(Invalid, match="there is no feature weebhooks; there are agents, elsewhere"):
        load()


def test_every_package_below_features_is_in_the_list() -> None:
    for package in ("app", "worker"):
        folder = Path(feature.__file__).parents[1] / package / "features"
        named = {path.name for path in folder.iterdir() if (path / "__init__.py").exists()}
        assert named <= {*FEATURES} and (package == "worker" or named == {*FEATURES})


def test_a_server_without_features_serves_the_core_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(feature.VARIABLE, "")
    settings = Settings(home=tmp_path, allowed_hosts=["testserver"])
    migrate.upgrade(Database(settings.database))
    with TestClient(create_app(settings)) as client:
        for page in ("/studies", "/runs", "/data", "/models", "/workers", "/studies/new"):
            assert client.get(page).status_code == 200, page
        for page in ("/lab", "/recipes", "/playground", "/webhooks", "/api/v1/recipes"):
            assert client.get(page).status_code == 404, page
        shown = client.get("/studies").text
        assert 'href="/models"' in shown and 'href="/lab"' not in shown

"""The package for scripts works alone; facts that it reads off a model."""

import ast
import os
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, requires
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

from app.settings import ROOT
from vezna import facts

PACKAGE = ROOT / "vezna"
NEEDS = {"httpx2", "pydantic"}
SERVER = {"app", "worker", "fastapi", "starlette", "sqlalchemy", "celery", "redis", "typer", "rich", "numpy"}
HEAVY = {"torch", "transformers", "peft", "safetensors"}


def closure(name: str, known: set[str] | None = None) -> set[str]:
    """A distribution with all that it needs."""
    known = known if known is not None else set()
    known.add(name)
    for need in map(Requirement, requires(name) or []):
        if need.name not in known and (need.marker is None or need.marker.evaluate({"extra": ""})):
            closure(need.name, known)
    return known


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the package and what it needs, and nothing else that is installed here."""
    place = tmp_path_factory.mktemp("alone")
    (place / "vezna").symlink_to(PACKAGE)
    for name in NEEDS:
        for needed in closure(name):
            for file in distribution(needed).files or []:
                top = Path(file.parts[0])
                if ".." not in file.parts and not (place / top).exists():
                    (place / top).symlink_to(Path(str(distribution(needed).locate_file(top))))
    return place


def python(place: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process that finds the standard library and one directory."""
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(place)!r})\n{code}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )


def test_the_client_works_where_nothing_of_the_server_is_installed(alone: Path) -> None:
    code = f"""if True:
        import vezna
        assert "httpx2" not in sys.modules and "pydantic" not in sys.modules
        from vezna import AsyncClient, Client, track
        from vezna.errors import Unreachable
        assert not {SERVER | HEAVY} & sys.modules.keys()
        for absent in ("fastapi", "torch", "app"):
            try:
                __import__(absent)
            except ModuleNotFoundError:
                continue
            raise AssertionError(absent + " is there")
        try:
            Client("http://127.0.0.1:9").run(1)
        except Unreachable as error:
            print(error)
    """
    done = python(alone, code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("The server at http://127.0.0.1:9 does not answer")


def test_it_imports_what_its_distribution_names() -> None:
    named = {Requirement(need).name for need in _project()["dependencies"]}
    assert named == NEEDS
    of_callback = PACKAGE / "trainer.py"
    assert imported([file for file in PACKAGE.rglob("*.py") if file != of_callback]) == NEEDS
    assert imported([of_callback]) == {"transformers"}


def imported(files: list[Path]) -> set[str]:
    """The packages that files import, but for the standard library and this one."""
    names = {
        (alias.name if isinstance(node, ast.Import) else node.module or "").partition(".")[0]
        for file in files
        for node in ast.walk(ast.parse(file.read_bytes()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    return names - sys.stdlib_module_names - {"vezna"}


@pytest.mark.slow
def test_its_distribution_has_the_version_of_the_server_and_is_built(tmp_path: Path) -> None:
    assert _project()["version"] == _project(ROOT)["version"]
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    copy = tmp_path / "vezna"
    modules = [*PACKAGE.rglob("*.py"), PACKAGE / "py.typed"]
    for file in [*modules, PACKAGE / "pyproject.toml"]:
        there = copy / file.relative_to(PACKAGE)
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(file.read_bytes())
    subprocess.run([*command, "--wheel-dir", str(tmp_path), str(copy)], check=True, timeout=120)
    [wheel] = tmp_path.glob("vezna_client-*.whl")
    with ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("vezna/")}
    assert packed == {f"vezna/{file.relative_to(PACKAGE)}" for file in modules}


def _project(folder: Path = PACKAGE) -> dict[str, Any]:
    return dict(tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"])


class Sharded:
    """A model whose weights lie in several processes."""

    config = SimpleNamespace(_name_or_path="someone/bert", _commit_hash="abc")

    def parameters(self) -> list[Any]:
        """A part of them."""
        return []

    def state_dict(self) -> dict[str, Any]:
        """Would wait for the other processes."""
        raise AssertionError("the weights were gathered")


def test_weights_in_several_processes_are_neither_counted_nor_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert facts.of_model(Sharded()) == {"base_model": "someone/bert"}
    monkeypatch.setenv("WORLD_SIZE", "1")
    with pytest.raises(AssertionError, match="gathered"):
        facts.of_model(Sharded())


def test_the_files_of_a_model_are_those_of_its_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    hub = SimpleNamespace(try_to_load_from_cache=lambda *args, **kwargs: asked.append((args, kwargs)))
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setenv("WORLD_SIZE", "2")
    facts.of_model(Sharded())
    assert asked == [(("someone/bert", "config.json"), {"revision": "abc"})]

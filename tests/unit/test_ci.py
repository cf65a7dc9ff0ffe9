"""What CI runs exists, and what benchmarks import does."""

import ast
import os
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import ROOT
from tests.containers import __main__ as containers

WORKFLOWS = ["ci", "nightly"]


def workflow(name: str = "ci") -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())
    return found


def steps(name: str = "ci") -> list[dict[str, Any]]:
    return [step for job in workflow(name)["jobs"].values() for step in job["steps"]]


def commands(name: str = "ci") -> list[str]:
    return [step["run"] for step in steps(name) if "run" in step]


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


RUN = (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("command", [command for name in WORKFLOWS for command in commands(name)])
def test_each_command_of_a_job_exists(command: str) -> None:
    program, *arguments = shlex.split(command)
    assert set(arguments) <= targets() if program == "make" else os.access(ROOT / program, os.X_OK)


def test_the_jobs_run_the_tests_and_the_containers_once() -> None:
    assert commands() == [".ci/run", "make containers"]
    assert commands("nightly") == [".ci/run nightly"]
    assert workflow()["jobs"]["tests"]["env"]["CONTAINERS"] == "no"
    assert '"${CONTAINERS:-yes}" = no' in RUN


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_job_knows_the_index_of_torch(name: str) -> None:
    assert workflow(name)["env"] == {"TORCH_INDEX_URL": "${{ vars.TORCH_INDEX_URL }}"}


def test_what_ci_run_makes_exists() -> None:
    made = re.findall(r"^ *(?:step )?make ([a-z-]+)", RUN, re.MULTILINE)
    assert made == ["nightly", "soak", "check", "test", "test-slow", "containers"] and set(made) <= targets()


def test_what_ci_run_does_ends_before_its_limit_even_if_the_containers_use_all_their_time() -> None:
    [minutes] = re.findall(r"^LIMIT_MINUTES=(\d+)", RUN, re.MULTILINE)
    assert int(minutes) * 60 + containers.END_SECONDS < workflow()["jobs"]["tests"]["timeout-minutes"] * 60


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_may_only_read_and_its_actions_are_pinned_by_major_version(name: str) -> None:
    found = workflow(name)
    assert found["permissions"] == {"contents": "read"}
    assert found["concurrency"]["group"]
    assert all("permissions" not in job and job["timeout-minutes"] <= 90 for job in found["jobs"].values())
    for step in steps(name):
        if "uses" in step:
            assert re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"])


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

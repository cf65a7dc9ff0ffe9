"""docs/gpu-server.md: which of its blocks are executed, and those that Compose answers without an engine. Those of a
running installation are in tests/faults/machine/test_gpus.py, that of a study in
tests/integration/deploy/test_tutorials.py."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from app.domain.runs.training import TrainingArguments
from app.settings import ROOT
from tests.support.tutorials import blocks, shell

PAGE = "gpu-server.md"
NOT_EXECUTED = re.compile(r"# needs (a GPU|Docker|both machines)\n")
UPDATE, SETTINGS = "VEZNA_TAG=$(git", "cat >"


def executed() -> list[str]:
    """The blocks of the page that a test executes."""
    return [block for block in blocks(PAGE, "sh") if not NOT_EXECUTED.match(block)]


def test_every_block_is_executed_by_a_test_or_says_what_it_needs() -> None:
    kinds = {
        "compose": [block for block in executed() if SETTINGS in block or UPDATE in block],
        "installation": [block for block in executed() if "docker compose exec" in block or "/workers" in block],
        "study": [block for block in executed() if "estimate" in block or "/fit" in block],
    }
    assert {kind: len(found) for kind, found in kinds.items()} == {"compose": 3, "installation": 3, "study": 2}
    assert sorted(block for found in kinds.values() for block in found) == sorted(executed())
    skipped = [block for block in blocks(PAGE, "sh") if NOT_EXECUTED.match(block)]
    assert all(re.search(r"nvidia|docker compose|scp|ssh", block) for block in skipped)
    [training] = blocks(PAGE, "yaml")
    assert TrainingArguments(**yaml.safe_load(training)["training"]).devices == 2


@pytest.mark.slow
def test_compose_accepts_the_settings_of_both_machines(tmp_path: Path) -> None:
    if not shutil.which("docker") or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("docker has no compose here")
    server, worker = tmp_path / "server", tmp_path / "worker"
    for folder in (server, worker):
        shutil.copytree(ROOT / "deploy", folder / "deploy")
        shutil.copy(ROOT / "docker-compose.yml", folder)
    of_server, of_worker, update = [block for block in executed() if SETTINGS in block or UPDATE in block]
    (server / ".env").write_text("COMPOSE_FILE=docker-compose.yml:deploy/compose.gpu.yml\n")
    assert shell(server, of_server, "") == ""
    services = shell(server, "docker compose config --services", "").split()
    assert "worker-gpu" in services and "worker-cpu" not in services
    kept = "COMPOSE_FILE=docker-compose.yml:deploy/compose.gpu.yml:deploy/compose.remote.yml:compose.own.yml\n"
    assert (server / ".env").read_text().startswith(kept)
    assert shell(worker, of_worker, "") == "worker-gpu\n"
    settings = subprocess.run(
        ["docker", "compose", "config"], cwd=worker, capture_output=True, text=True, check=True, env=os.environ
    ).stdout
    environment = yaml.safe_load(settings)["services"]["worker-gpu"]["environment"]
    assert environment["VEZNA_DATABASE_URL"] == "postgresql://vezna@10.8.0.1:5432/vezna"
    assert environment["CUDA_VISIBLE_DEVICES"] == "0,1" and environment["AWS_ACCESS_KEY_ID"] == "vezna"
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "A version"]):
        subprocess.run([*git, *words], cwd=worker, check=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=worker, capture_output=True, text=True).stdout
    assert shell(worker, update, "") == f"vezna-worker:{commit}"

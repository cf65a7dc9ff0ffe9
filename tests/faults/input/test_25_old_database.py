"""Fault 25: new code on an old database. Nothing starts until it is migrated, and nothing is written to it."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config

from app.settings import ROOT
from app.store.database import migrate
from app.store.database.session import Database
from tests.support.servers.running_stack import free_port

STARTS = {
    "web": [sys.executable, "-m", "app.cli", "web"],
    "train": [sys.executable, "-m", "celery", "-A", "worker.celery", "worker", "-Q", "train", "-c", "1"],
    "control": [sys.executable, "-m", "celery", "-A", "worker.celery", "worker", "-Q", "control", "-c", "1"],
}


@pytest.mark.nightly
def test_no_process_starts_on_an_old_database_and_migrating_mends_it(tmp_path: Path, migrated_file: Path) -> None:
    file = Path(shutil.copy(migrated_file, tmp_path / "vezna.sqlite"))
    old = Database(f"sqlite:///{file}")
    config = Config()
    config.set_main_option("script_location", str(migrate.MIGRATIONS))
    with old.engine.connect() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "-1")
    old.dispose()
    content = hashlib.sha256(file.read_bytes()).hexdigest()
    environment = os.environ | {
        "VEZNA_HOME": str(tmp_path),
        "VEZNA_PORT": str(free_port()),
        "VEZNA_BROKER_URL": "redis://127.0.0.1:9/0",
    }
    started = {
        name: subprocess.Popen(start, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
        for name, start in STARTS.items()
    }
    for name, process in started.items():
        _, errors = process.communicate(timeout=200)
        assert process.returncode not in (0, None), name
        assert "this version of Vezna needs" in " ".join(errors.split()) and "Run: vezna migrate" in errors, name
    assert hashlib.sha256(file.read_bytes()).hexdigest() == content

    migrated = subprocess.run([sys.executable, "-m", "app.cli", "migrate"], cwd=ROOT, env=environment, check=False)
    assert migrated.returncode == 0
    current = Database(f"sqlite:///{file}")
    migrate.require_current(current)
    current.dispose()

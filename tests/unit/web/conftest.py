"""Browsers without JavaScript, before an application on an empty and on a filled database."""

import html
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.main import create_app
from app.settings import Settings
from app.store.database.session import Database
from app.store.tables import RunRow
from tests.support.fakes.fakes import SilentBell
from tests.support.filled.filled import register, still_alive
from tests.support.filled.language import fill_language, register_language
from tests.support.rows.factories import empty_database, plain
from tests.support.servers.forms import form_headers


@pytest.fixture
def empty(tmp_path: Path, migrated_file: Path) -> Iterator[TestClient]:
    """A client of an application that knows nothing yet."""
    settings = Settings(home=tmp_path, allowed_hosts=["testserver"])
    shutil.copy(migrated_file, tmp_path / "vezna.sqlite")
    app = create_app(settings)
    app.state.doorbell = SilentBell()
    yield TestClient(app, headers=form_headers(app), follow_redirects=False)
    app.state.database.dispose()


@pytest.fixture
def registered_only(empty: TestClient) -> TestClient:
    """… that knows the sample model and data, and no study."""
    with database_of(empty).transaction() as session:
        register(session)
    return empty


@pytest.fixture
def full(empty: TestClient, tmp_path: Path, filled_file: Path) -> TestClient:
    """… that has one of everything."""
    database_of(empty).dispose()
    shutil.copy(filled_file, tmp_path / "vezna.sqlite")
    with database_of(empty).transaction() as session:
        still_alive(session)
    return empty


@pytest.fixture
def with_language(full: TestClient) -> TestClient:
    """… and studies of language models."""
    with database_of(full).transaction() as session:
        fill_language(session)
    return full


@pytest.fixture
def language(registered_only: TestClient) -> TestClient:
    """… that knows the sample and language models."""
    with database_of(registered_only).transaction() as session:
        register_language(session)
    return registered_only


@pytest.fixture
def session() -> Iterator[Session]:
    """A database of its own."""
    with empty_database() as found:
        yield found


def database_of(client: TestClient) -> Database:
    """The database behind a client."""
    found: Database = client.app.state.database  # type: ignore[attr-defined]
    return found


def become_tagger(client: TestClient, run_id: int, task: str = "token-classification") -> None:
    """Have a run of the database be for token classification, or another task."""
    with database_of(client).transaction() as session:
        row = session.get_one(RunRow, run_id)
        row.spec_json = row.spec_json | {"task": task}
        row.task = task


def page_words(client: TestClient, address: str, status: int = 200) -> str:
    """What one reads of a page: without tags, drawings and code, spaces as one."""
    answer = client.get(address)
    assert answer.status_code == status, answer.text
    text = re.sub(r"<(pre|svg|style|script).*?</\1>", " ", answer.text, flags=re.DOTALL)
    return plain(" ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split()))

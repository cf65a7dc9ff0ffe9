"""An open event stream ends once its user may no longer read it."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from app.domain.accounts.ownership import Visibility
from app.domain.accounts.policy import Role
from app.domain.accounts.users import NewUser
from app.services.users import tokens, users
from app.store.database.session import Database
from app.store.runs import queries as runs
from app.store.workers import queue
from app.web.http.csrf import SESSION_COOKIE
from app.web.http.files import checked_stream
from tests.support.rows.accounts import Installation, installed
from tests.support.servers.served import served


@pytest.fixture
def installation(tmp_path: Path, filled_file: Path) -> Iterator[Installation]:
    with installed(tmp_path, filled_file) as found:
        yield found


def a_live_run(database: Database) -> int:
    with database.reading() as session:
        return queue.first_of_each(session, 1)[0].run_id


@pytest.mark.parametrize("way", ["revoked", "disabled", "logged out"])
def test_it_ends_without_an_event_when_its_token_or_session_ends_or_its_user_is_disabled(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(checked_stream, "CHECK_SECONDS", 0.05)
    monkeypatch.setattr("fastapi.routing._PING_INTERVAL", 3600)
    browser = installation.browser(Role.VIEWER)
    headers = {"authorization": f"Bearer {installation.token(Role.VIEWER)}"}
    if way == "logged out":
        headers = {"cookie": f"{SESSION_COOKIE}={browser.cookies[SESSION_COOKIE]}"}
    path = f"/api/v1/runs/{a_live_run(installation.database)}/events"
    viewer = installation.ids[Role.VIEWER]
    with served(installation.app) as url, httpx2.stream("GET", url + path, headers=headers, timeout=30) as stream:
        lines = stream.iter_lines()
        assert next(line for line in lines if not line.startswith(":")).startswith("event:")
        if way == "logged out":
            assert browser.post("/logout").status_code == 303
        with installation.database.transaction() as session:
            if way == "revoked":
                [row] = tokens.of_user(session, viewer)
                tokens.revoke(session, viewer, row.id)
            elif way == "disabled":
                users.set_disabled(session, viewer, True)
        for _line in lines:  # until the server ends it
            pass
    assert stream.is_stream_consumed


@pytest.mark.parametrize("way", ["admin is demoted", "run becomes private"])
def test_it_ends_when_its_user_no_longer_sees_the_run(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Otherwise a former admin would go on to receive what is private to others."""
    monkeypatch.setattr(checked_stream, "CHECK_SECONDS", 0.05)
    monkeypatch.setattr("fastapi.routing._PING_INTERVAL", 3600)
    database = installation.database
    run_id = a_live_run(database)

    def make_private() -> None:
        with database.transaction() as session:
            runs.get(session, run_id).give(installation.ids[Role.MEMBER], Visibility.PRIVATE)

    if admin := way == "admin is demoted":
        make_private()
        with database.transaction() as session:
            users.create(session, NewUser(email="second@example.org", role=Role.ADMIN), "hash")
    role = Role.ADMIN if admin else Role.VIEWER
    headers = {"authorization": f"Bearer {installation.token(role)}"}
    path = f"/api/v1/runs/{run_id}/events"
    with served(installation.app) as url, httpx2.stream("GET", url + path, headers=headers, timeout=30) as stream:
        lines = stream.iter_lines()
        assert next(line for line in lines if not line.startswith(":")).startswith("event:")
        if admin:
            with database.transaction() as session:
                users.set_role(session, installation.ids[Role.ADMIN], Role.MEMBER)
        else:
            make_private()
        for _line in lines:  # until the server ends it
            pass
    assert stream.is_stream_consumed


def test_it_goes_on_while_the_session_lasts(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checked_stream, "CHECK_SECONDS", 0.05)
    monkeypatch.setattr("fastapi.routing._PING_INTERVAL", 0.05)
    headers = {"authorization": f"Bearer {installation.token(Role.VIEWER)}"}
    path = f"/api/v1/runs/{a_live_run(installation.database)}/events"
    with served(installation.app) as url, httpx2.stream("GET", url + path, headers=headers, timeout=30) as stream:
        pings = (line for line in stream.iter_lines() if line.startswith(":"))
        assert [next(pings)[:1] for _ping in range(3)] == [":"] * 3

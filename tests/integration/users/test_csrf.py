"""Forms that another site sends change nothing: every form has a token, and every route of a page asks for it."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import func, select
from starlette.requests import Request

from app.main import create_app
from app.settings import ROOT, Settings
from app.store.database import migrate
from app.store.database.session import Database
from app.store.requests import form_key
from app.store.tables import Base
from app.web.http import csrf
from tests.support.checks.routes import calls
from tests.support.fakes.fakes import SilentBell
from tests.support.servers.forms import form_headers

FORM = re.compile(r'<form\b[^>]*\bmethod="post".*?</form>', re.DOTALL)
FIELD = re.compile(r'<input type="hidden" name="csrf_token" value="([^"]*)">')
PAGES = (
    "/studies/1", "/studies/2", "/studies/new", "/studies/3/arms/new?method=lora", "/runs/2", "/runs/16",
    "/runs/2/notes", "/recipes", "/data", "/models", "/models/all-MiniLM-L6-v2", "/imports", "/runs/2/delete",
    "/studies/1/delete",
)  # fmt: skip


@pytest.fixture
def app(tmp_path: Path, filled_file: Path) -> Iterator[FastAPI]:
    """An application that has one of everything."""
    shutil.copy(filled_file, tmp_path / "vezna.sqlite")
    app = create_app(Settings(home=tmp_path, allowed_hosts=["testserver"]))
    app.state.doorbell = SilentBell()
    yield app
    app.state.database.dispose()


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    """A browser that has opened no page yet."""
    return TestClient(app, follow_redirects=False)


def empty_application(home: Path) -> FastAPI:
    """An application of another installation."""
    database = Database(Settings(home=home).database)
    migrate.upgrade(database)
    database.dispose()
    return create_app(Settings(home=home))


def rows(app: FastAPI) -> dict[str, int]:
    with app.state.database.reading() as session:
        return {
            table.name: session.scalar(select(func.count()).select_from(table)) or 0
            for table in Base.metadata.sorted_tables
        }


def test_every_template_of_a_form_has_the_token_before_anything_else() -> None:
    forms = 0
    for template in (ROOT / "templates").rglob("*.html"):
        for text in re.findall(r'<form\b(?:[^>"]|"[^"]*")*method="post".*?</form>', template.read_text(), re.DOTALL):
            forms += 1
            assert 'name="csrf_token" value="{{ csrf_token }}"' in text, template
            assert text.index("csrf_token") < min(
                place for place in map(text.find, ('type="file"', "<button", "</form>")) if place > 0
            ), template
    assert forms > 15


@pytest.mark.slow
def test_every_form_of_a_page_is_accepted_with_what_it_has(client: TestClient) -> None:
    seen = 0
    for path in PAGES:
        answer = client.get(path)
        assert answer.status_code == 200, path
        for form in FORM.findall(answer.text):
            [token] = FIELD.findall(form)
            action = re.findall(r'action="([^"]+)"', form)[0]
            sent = client.post(f"{action}?".removesuffix("?"), data={"csrf_token": token, "do": "show"})
            assert sent.status_code != 403, (path, action)
            seen += 1
        [header] = re.findall(r"hx-headers='\{\"X-CSRF-Token\": \"([^\"]+)\"\}'", answer.text)
        assert client.post("/studies/plan", headers={"X-CSRF-Token": header}).status_code != 403, path
    assert seen > 15


@pytest.mark.slow
def test_no_route_of_a_page_does_anything_without_a_token(app: FastAPI, client: TestClient) -> None:
    before, posts = rows(app), 0
    stranger = empty_application(app.state.settings.home / "other")
    forged = form_headers(stranger)[csrf.HEADER]
    stranger.state.database.dispose()
    other_session = form_headers(app, "another user's session")[csrf.HEADER]
    for call in calls(app):
        if not call.page or call.method == "GET":
            continue
        posts += 1
        assert call.method == "POST", call
        for token in ("", "x", "x.y", "é.é", forged, other_session):
            files = {"file": ("a.csv", b"text,label\na,b\n")}
            if call.path in ("/data/files", "/imports"):
                answer = client.post(call.path, data={"csrf_token": token}, files=files)
            else:
                answer = client.post(call.path, data={"csrf_token": token})
            assert answer.status_code == 403, (call, token)
            assert "Reload the page" in answer.text and "<html" in answer.text
    assert posts > 20
    assert rows(app) == before
    assert not [file for file in (app.state.settings.home / "files").rglob("*") if file.is_file()]


def test_a_form_with_files_has_its_token_before_the_first_one(app: FastAPI, client: TestClient) -> None:
    token = form_headers(app)[csrf.HEADER]
    part = '--b\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n{}\r\n'
    field = part.format("csrf_token", "", token)
    file = part.format("file", '; filename="a.csv"', "text,label\na,b")
    headers = {"content-type": "multipart/form-data; boundary=b"}

    late = client.post("/data/files", content=f"{file}{field}--b--\r\n", headers=headers)
    first = client.post("/data/files", content=f"{field}{file}--b--\r\n", headers=headers)

    assert late.status_code == 403
    assert (first.status_code, first.headers["location"]) == (303, "/data/uploads/1")


def test_a_token_is_of_its_session(app: FastAPI, client: TestClient) -> None:
    mine = form_headers(app, "mine")
    assert client.post("/runs/2/clone", headers=mine, cookies={"vezna_session": "other"}).status_code == 403
    assert client.post("/runs/2/clone", headers=mine, cookies={"vezna_session": "mine"}).status_code == 303


def test_programs_need_no_token_for_the_api(client: TestClient) -> None:
    assert client.patch("/api/v1/runs/2", json={"note": "kept"}).status_code == 200


def test_each_page_has_another_token_and_each_is_good(client: TestClient) -> None:
    first, second = (FIELD.findall(client.get("/studies/new").text)[0] for _ in range(2))
    assert first != second
    for token in (first, second):
        assert client.post("/studies/plan", data={"csrf_token": token}).status_code != 403


def test_every_process_of_a_database_has_its_key_and_another_database_another(app: FastAPI, tmp_path: Path) -> None:
    database = app.state.database
    with database.reading() as session:
        key = form_key.get(session)
    assert len(key) == 32
    second = create_app(app.state.settings)
    csrf.prepare(second)
    assert second.state.forms_key == key
    second.state.database.dispose()
    other = empty_application(tmp_path / "other")
    csrf.prepare(other)
    assert other.state.forms_key != key
    other.state.database.dispose()


def test_the_key_is_known_while_the_database_is_away(app: FastAPI, client: TestClient) -> None:
    before = form_headers(app)
    app.state.database = Database(f"sqlite:///{app.state.settings.home / 'gone.sqlite'}")
    away = client.get("/studies")
    assert away.status_code == 503 and csrf.HEADER in away.text
    csrf.check(
        Request({"type": "http", "app": app, "headers": [(csrf.HEADER.lower().encode(), before[csrf.HEADER].encode())]})
    )
    app.state.database.dispose()


def test_a_page_says_that_the_database_is_away_before_the_key_was_read(tmp_path: Path) -> None:
    app = create_app(Settings(home=tmp_path, allowed_hosts=["testserver"]))
    away = TestClient(app).get("/studies")
    assert away.status_code == 503 and "The database does not answer" in away.text
    app.state.database.dispose()

"""Forms that another site sends change nothing: every form has a token, and every route of a page asks for it."""

import hashlib
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import func, select

from app.domain.errors import Unavailable
from app.main import create_app
from app.settings import ROOT, Settings
from app.store.tables import Base
from app.web.http import csrf
from tests.fakes import SilentBell
from tests.forms import form_headers
from tests.routes import calls

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


def test_no_route_of_a_page_does_anything_without_a_token(app: FastAPI, client: TestClient) -> None:
    before, posts = rows(app), 0
    forged = form_headers(create_app(Settings(home=app.state.settings.home / "other")))[csrf.HEADER]
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


def test_the_key_is_made_once_for_the_processes_of_a_home_and_its_owner_alone(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "new")
    key = csrf.key_of(settings)
    file = settings.home / csrf.KEY_FILE
    assert csrf.key_of(settings) == key and len(key) == 32
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [other.name for other in settings.home.iterdir()] == [csrf.KEY_FILE]
    file.unlink()
    assert csrf.key_of(settings) != key


def test_machines_with_the_same_database_have_the_same_key_without_a_file(tmp_path: Path) -> None:
    def key(password: str, host: str) -> bytes:
        url = SecretStr(f"postgresql://vezna:{password}@{host}/vezna")
        return csrf.key_of(Settings(home=tmp_path / host, database_url=url))

    assert key("a-password", "one") == key("a-password", "two") != key("another", "one")
    assert list(tmp_path.iterdir()) == []


def test_the_key_of_a_password_costs_what_scrypt_costs(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, database_url=SecretStr("postgresql://vezna:a-password@host/vezna"))
    key = hashlib.scrypt(b"a-password", salt=b"vezna: tokens in forms", n=2**15, r=8, p=3, maxmem=2**27, dklen=32)
    assert csrf.key_of(settings) == key


@pytest.mark.parametrize("content", ["", "00", "0" * 63, "0" * 65, "g" * 64, "\udcff"])
def test_a_file_without_a_whole_key_is_refused_and_says_what_to_do(tmp_path: Path, content: str) -> None:
    (tmp_path / csrf.KEY_FILE).write_text(content, errors="surrogateescape")
    with pytest.raises(Unavailable, match=r"forms\.key does not hold a key of 32 bytes.* Remove the file and start"):
        csrf.key_of(Settings(home=tmp_path))


def test_a_key_that_cannot_be_kept_is_that_of_the_process(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / csrf.KEY_FILE).mkdir()
    assert csrf.key_of(Settings(home=home)) != csrf.key_of(Settings(home=home))

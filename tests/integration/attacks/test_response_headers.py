"""No answer lacks the headers that keep a browser from doing what the site never does (docs/security.md)."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.main import MOST_BODY_BYTES, create_app
from app.settings import ROOT, Settings
from app.web.http.middleware.security import HEADERS, NOTHING
from tests.support.checks.routes import calls
from tests.support.fakes.fakes import SilentBell

INLINE = re.compile(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=|javascript:", re.IGNORECASE)
"""What a policy without `unsafe-inline` forbids in a page."""


@pytest.fixture
def app(tmp_path: Path, filled_file: Path) -> Iterator[FastAPI]:
    """An application that has one of everything."""
    shutil.copy(filled_file, tmp_path / "vezna.sqlite")
    app = create_app(Settings(home=tmp_path, allowed_hosts=["testserver", "vezna.example"]))
    app.state.doorbell = SilentBell()
    yield app
    app.state.database.dispose()


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    """A client of it."""
    return TestClient(app, follow_redirects=False, raise_server_exceptions=False)


def check(name: str, answer: object) -> None:
    headers = answer.headers  # type: ignore[attr-defined]
    assert headers.keys() >= HEADERS.keys(), name
    assert headers["x-content-type-options"] == "nosniff", name
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "base-uri 'none'" in policy, name
    assert "unsafe" not in policy and "*" not in policy and "http" not in policy, name


@pytest.mark.slow
def test_every_route_answers_with_every_header_and_no_page_has_inline_script_or_style(
    app: FastAPI, client: TestClient
) -> None:
    statuses = set()
    made = list(calls(app))
    assert len(made) > 100 and {call.method for call in made} >= {"GET", "POST", "PUT", "PATCH", "DELETE"}
    for call in made:
        answer = client.request(call.method, call.path)
        check(f"{call.method} {call.path}", answer)
        statuses.add(answer.status_code)
        if (
            call.page
            and "text/html" in answer.headers.get("content-type", "")
            and not call.path.endswith("report.html")
        ):
            assert not INLINE.findall(re.sub(r"<(pre|code|textarea).*?</\1>", "", answer.text, flags=re.DOTALL)), call
    assert statuses >= {200, 303, 404, 409, 422}


@pytest.mark.slow
def test_errors_before_and_beside_the_routes_have_them(app: FastAPI, client: TestClient) -> None:
    answers = {
        "unknown page": (404, client.get("/nowhere")),
        "unknown resource": (404, client.get("/api/v1/nowhere")),
        "method": (405, client.put("/studies")),
        "host": (400, client.get("/studies", headers={"Host": "rebound.example"})),
        "other site": (403, client.post("/studies", headers={"Origin": "http://evil.example"})),
        "body": (413, client.post("/api/v1/runs", content=b" " * (MOST_BODY_BYTES + 1))),
    }
    whole, app.state.database = app.state.database, None  # an internal error
    answers["internal page"] = (500, client.get("/recipes"))
    answers["internal resource"] = (500, client.get("/api/v1/runs"))
    app.state.database = whole
    for name, (status, answer) in answers.items():
        assert answer.status_code == status, name
        check(name, answer)


def test_static_files_have_them(client: TestClient) -> None:
    files = [file for file in (ROOT / "static").rglob("*") if file.is_file()]
    assert len(files) > 30
    for file in files:
        path = f"/static/{file.relative_to(ROOT / 'static')}"
        answer = client.get(path)
        assert answer.status_code == 200, path
        check(path, answer)
    check("no file", client.get("/static/none.js"))


def test_https_alone_brings_strict_transport_security(app: FastAPI) -> None:
    def header(address: str) -> str | None:
        client = TestClient(app, base_url=address, raise_server_exceptions=False)
        return client.get("/livez").headers.get("strict-transport-security")

    assert header("https://vezna.example") == "max-age=31536000"
    assert header("http://vezna.example") is None
    assert header("https://localhost") is None  # it would hold for every other program on this machine


@pytest.mark.parametrize("path", ["/runs.csv", "/studies/1/charts/trade-off.csv", "/api/v1/studies/1/tables/runs.csv"])
def test_tables_are_downloads(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.headers["content-disposition"].split(";")[0]) == (200, "attachment")


def test_a_picture_that_is_opened_alone_may_load_nothing(client: TestClient) -> None:
    answer = client.get("/studies/1/charts/trade-off.svg")
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"] == NOTHING


def test_a_report_allows_its_own_stylesheet_and_nothing_else(client: TestClient) -> None:
    answer = client.get("/studies/1/report.html")
    policy = answer.headers["content-security-policy"]
    assert re.search(r"style-src 'sha256-[\w+/]{43}='", policy)
    assert "script-src" not in policy and "form-action 'none'" in policy and "frame-ancestors 'none'" in policy

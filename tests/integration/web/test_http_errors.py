"""What the web answers when a part is away, when it is called by another's name, and when a request is no request."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.exc import OperationalError

from app.domain.methods import METHODS
from app.domain.runs.result import ArtifactFile
from app.main import MOST_BODY_BYTES, create_app
from app.services.runs import attempts, submission
from app.settings import Settings
from app.store.database.session import Database
from app.store.files.files import Files
from tests.integration.web.test_api import RUN
from tests.support.fakes.fakes import Refused, SilentBell
from tests.support.rows.results import result
from tests.support.servers.forms import form_headers

ROOT = "http://127.0.0.1"


@pytest.fixture
def orphan(registered: Database, settings: Settings, bell: SilentBell, tmp_path: Path) -> Iterator[TestClient]:
    """A client of an application whose database has gone away since it started."""
    app = create_app(settings)
    app.state.doorbell = bell
    with TestClient(app, headers=form_headers(app), base_url=ROOT, raise_server_exceptions=False) as client:
        whole = app.state.database
        whole.dispose()
        gone = f"sqlite:///{tmp_path}" if whole.url.get_backend_name() == "sqlite" else "postgresql://127.0.0.1:9/gone"
        app.state.database = Database(gone)
        yield client
        app.state.database = whole


@pytest.mark.parametrize("path", ["/api/v1/runs", "/api/v1/studies/1/events", "/metrics"])
def test_a_database_that_is_away_is_a_503_that_says_when_to_try_again(orphan: TestClient, path: str) -> None:
    answer = orphan.get(path)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "database does not answer" in answer.json()["detail"]


def test_the_same_is_a_page_for_people(orphan: TestClient) -> None:
    answer = orphan.get("/studies")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "database does not answer" in answer.text and "<html" in answer.text


def test_nothing_is_accepted_while_the_database_is_away(orphan: TestClient, bell: SilentBell) -> None:
    assert orphan.post("/api/v1/runs", json=RUN).status_code == 503
    assert bell.rung == []


def test_an_artifact_whose_file_is_gone_is_a_404(api: TestClient, registered: Database, files: Files) -> None:
    run_id = api.post("runs", json=RUN).json()["id"]
    file = ArtifactFile(name="metrics.json", kind="metrics", bytes=7, sha256="ab")
    with registered.transaction() as session:
        mine = attempts.claim(session, run_id, "w1", 45)
        assert mine is not None
        found = result().model_copy(update={"artifacts": [file]})
        attempts.finish(session, SilentBell(), mine, found, {file.name: f"runs/{run_id}/1/{file.name}"})
    [artifact] = api.get(f"runs/{run_id}/artifacts").json()
    answer = api.get(f"artifacts/{artifact['id']}/content")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


def test_a_path_with_control_characters_is_refused(api: TestClient) -> None:
    for sign in ("%00", "%09", "%0A", "%0D", "%1F", "%7F", "%C2%85"):
        answer = api.get(f"runs/1{sign}")
        assert answer.status_code == 400 and "control characters" in answer.json()["detail"], sign
        assert "control characters" in api.get(f"{ROOT}/studies{sign}").text, sign
    assert api.get("models/a%20b").status_code == 404
    for query in ("filter=%00", "filter=a%00b&limit=5"):
        answer = api.get(f"runs?{query}")
        assert answer.status_code == 400 and "%00" in answer.json()["detail"], query
    assert api.get("runs?filter=%2500").status_code == 422, "a text that only looks like it"


def test_a_nul_in_an_address_is_no_mistake_of_ours(api: TestClient) -> None:
    assert api.get("models/a%00b").status_code == 400
    assert api.get("datasets/a%00b").status_code == 400
    assert api.get("runs?method=a%00b").status_code == 400
    assert api.get(f"{ROOT}/runs?method=a%00b&status=%00&study=%00&sort=%00").status_code == 400
    assert api.get(f"{ROOT}/a%00b").status_code == 400


def test_runs_of_an_unknown_method_are_not_an_empty_list(api: TestClient) -> None:
    [error] = api.get("runs", params={"method": "lorra"}).json()["errors"]
    assert (error["path"], error["remedy"]) == ("method", f"Choose from: {', '.join(METHODS)}")
    assert api.get("runs", params={"method": "lora"}).json()["items"] == []


@pytest.mark.parametrize("name", ["127.0.0.1", "127.0.0.1:8000", "TESTSERVER", "[::1]", "[::1]:8000"])
def test_the_server_answers_to_its_names_at_any_port(settings: Settings, registered: Database, name: str) -> None:
    known = settings.model_copy(update={"allowed_hosts": [*settings.allowed_hosts, "[::1]"]})
    assert TestClient(create_app(known)).get("/livez", headers={"Host": name}).status_code == 200


def test_a_foreign_name_and_a_foreign_site_are_problems_for_programs_and_lines_for_people(api: TestClient) -> None:
    answer = api.get("runs", headers={"Host": "rebound.example:80"})
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert "VEZNA_ALLOWED_HOSTS" in answer.json()["detail"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    answer = api.post("runs", json=RUN, headers={"Origin": "http://evil.example"})
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:vezna:refused")
    page = api.get(f"{ROOT}/studies", headers={"Host": "rebound.example"})
    assert (page.status_code, page.headers["content-type"]) == (400, "text/plain; charset=utf-8")


def test_a_file_of_the_site_can_only_be_read(api: TestClient) -> None:
    answer = api.put(f"{ROOT}/static/css/study.css")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


def test_a_body_above_the_limit_is_not_read_completely(api: TestClient) -> None:
    answer = api.post("runs", content=b" " * (MOST_BODY_BYTES + 1))
    assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")
    assert answer.json()["title"] == "Content too large"
    page = api.post(f"{ROOT}/models", content=b" " * (MOST_BODY_BYTES + 1))
    assert (page.status_code, page.headers["content-type"]) == (413, "text/html; charset=utf-8")


@pytest.mark.slow
def test_every_route_with_a_body_documents_that_it_may_be_too_large(api: TestClient) -> None:
    described = api.get("openapi.json").json()["paths"]
    ours = [methods for path, methods in described.items() if not path.startswith("/v1/")]  # there it is a 400
    operations = [operation for methods in ours for operation in methods.values()]
    with_body = [operation for operation in operations if "requestBody" in operation]
    assert len(with_body) > 12
    for operation in with_body:
        assert set(operation["responses"]["413"]["content"]) == {"application/problem+json"}, operation["operationId"]
    assert not any("413" in o["responses"] for o in operations if "requestBody" not in o)


def _failing(monkeypatch: pytest.MonkeyPatch, times: int, cause: Exception) -> None:
    """Have the first submissions fail in the database."""
    submit, failures = submission.submit, iter(range(times))

    def failing(*args: Any, **named: Any) -> Any:
        if next(failures, None) is not None:
            raise OperationalError("INSERT", {}, cause)
        return submit(*args, **named)

    monkeypatch.setattr(submission, "submit", failing)


def test_a_submission_that_ends_in_a_deadlock_is_repeated(api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    _failing(monkeypatch, 1, Refused("deadlock detected", "40P01"))
    answer = api.post("runs", json=RUN)
    assert answer.status_code == 202
    assert api.get(f"runs/{answer.json()['id']}").json()["status"] == "queued"


def test_deadlocks_without_end_say_so(api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    _failing(monkeypatch, 100, Refused("deadlock detected", "40P01"))
    answer = api.post("runs", json=RUN)
    assert answer.status_code == 503
    assert "changed the same rows" in answer.json()["detail"]


@pytest.mark.parametrize(
    "cause", [sqlite3.OperationalError("database or disk is full"), Refused("could not extend file", "53100")]
)
def test_a_full_disk_of_the_database_is_named(
    api: TestClient, monkeypatch: pytest.MonkeyPatch, cause: Exception
) -> None:
    _failing(monkeypatch, 1, cause)
    answer = api.post("runs", json=RUN)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "The disk of the database is full" in answer.json()["detail"]

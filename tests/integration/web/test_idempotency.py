"""A request with an `Idempotency-Key` is done once, on SQLite and on PostgreSQL (fault 3)."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier, Event
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update
from sqlalchemy.exc import OperationalError

from app.domain.data.guesses.mapping import Column
from app.domain.data.uploads import SourceScan
from app.main import create_app
from app.services.runs import runs as run_service
from app.services.workers.sweep import sweep
from app.settings import Settings
from app.store.database.session import Database
from app.store.requests import idempotency as stored
from app.store.tables import Base, IdempotencyKeyRow, RunRow, StudyRow, UploadRow, now
from app.web.http import idempotency
from tests.integration.web.test_api import RUN, STUDY
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.imported_results import result
from tests.support.servers.forms import form_headers

KEY = {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}
MAPPING = {"format": "labelled", "columns": {"text": "review", "label": "stars"}}
CSV = b"review,stars\ngood,1\nbad,0\n"
Sent = tuple[str, dict[str, Any]]
REQUESTS: dict[str, tuple[Sent, Sent]] = {
    "run": (("runs", {"json": RUN}), ("runs", {"json": RUN | {"method": {"kind": "full"}}})),
    "insisted run": (("runs?insist=true", {"json": RUN}), ("runs", {"json": RUN})),
    "study": (("studies", {"json": STUDY}), ("studies", {"json": STUDY | {"name": "Another"}})),
    "seeds": (("studies/1/seeds", {"json": {"count": 1}}), ("studies/1/seeds", {"json": {"count": 2}})),
    "arm": (
        ("studies/1/arms", {"json": {"method": {"kind": "bitfit"}}}),
        ("studies/1/arms", {"json": {"method": {"kind": "head-only"}}}),
    ),
    "recipe": (
        ("recipes/seed-noise/runs", {"json": {"base_model": "tiny", "dataset": "small"}}),
        ("recipes/seed-noise/runs", {"json": {"base_model": "tiny", "dataset": "small@1"}}),
    ),
    "cancelled run": (("runs/1/cancel", {}), ("runs/2/cancel", {})),
    "cancelled study": (("studies/1/cancel", {}), ("studies", {"json": STUDY})),
    "results": (
        ("imports", {"json": {"results": [result()]}}),
        ("imports", {"json": {"collection": "other", "results": [result()]}}),
    ),
    "source": (
        ("uploads/sources", {"json": {"source": "hub", "location": "a/b"}}),
        ("uploads/sources", {"json": {"source": "hub", "location": "a/c"}}),
    ),
    "files": (
        ("uploads", {"files": [("file", ("a.csv", CSV))], "data": {"delimiter": ","}}),
        ("uploads", {"files": [("file", ("a.csv", CSV + b"fine,1\n"))], "data": {"delimiter": ","}}),
    ),
    "dataset": (
        ("datasets", {"json": {"name": "reviews", "upload_id": 1, "mapping": MAPPING}}),
        ("datasets", {"json": {"name": "others", "upload_id": 1, "mapping": MAPPING}}),
    ),
}


@pytest.fixture
def client(registered: Database, api: TestClient) -> TestClient:
    """A client of an application with study 1, and upload 1, which has been read."""
    columns = [
        Column(name="review", kind="text", longest=9),
        Column(name="stars", kind="integer", distinct=2, values={"0": 5, "1": 5}, longest=1),
    ]
    scan = SourceScan(kind="csv", rows=10, splits={"": 10}, columns=columns)
    with registered.transaction() as session:
        session.add(UploadRow(source="files", name="a.csv", status="read", scan_json=scan.model_dump(mode="json")))
    assert api.post("studies", json=STUDY).status_code == 202
    return api


def rows(database: Database) -> dict[str, int]:
    """How many rows each table has."""
    with database.reading() as session:
        return {
            name: session.scalar(select(func.count()).select_from(table)) or 0
            for name, table in Base.metadata.tables.items()
        }


def runs_of(database: Database) -> int:
    """How many runs there are."""
    return rows(database)["runs"]


@pytest.mark.by_day
@pytest.mark.parametrize("name", REQUESTS)
def test_the_same_request_is_done_once_and_a_key_is_of_one_request(
    registered: Database, client: TestClient, name: str
) -> None:
    (path, body), (other_path, other) = REQUESTS[name]
    first = client.post(path, headers=KEY, **body)
    assert first.status_code in (201, 202), first.text
    before = rows(registered)
    assert before["idempotency_keys"] == 1
    again = client.post(path, headers=KEY, **body)
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert (first.headers.get("Idempotency-Replayed"), again.headers["Idempotency-Replayed"]) == (None, "true")
    assert rows(registered) == before
    refused = client.post(other_path, headers=KEY, **other)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["path"] == "Idempotency-Key"
    assert "another request" in refused.json()["detail"]
    assert rows(registered) == before
    assert client.post(other_path, headers={"Idempotency-Key": "new"}, **other).is_success


def test_without_a_key_nothing_is_stored(registered: Database, client: TestClient) -> None:
    first, second = (client.post("runs", json=RUN).json()["id"] for _ in range(2))
    assert first != second
    assert rows(registered)["idempotency_keys"] == 0


def test_a_refused_request_leaves_its_key_unused(registered: Database, client: TestClient) -> None:
    assert client.post("runs", json=RUN | {"dataset": "none"}, headers=KEY).status_code == 422
    assert client.post("runs", json={"base_model": 1}, headers=KEY).status_code == 422
    assert rows(registered)["idempotency_keys"] == 0
    assert client.post("runs", json=RUN, headers=KEY).status_code == 202


@pytest.mark.parametrize("header", ['"a b\\"c\\\\"', "x" * 255, "8e03978e-40d5-43dd-bc93-6894a57f9324"])
def test_a_key_may_have_quotes_or_none(client: TestClient, header: str) -> None:
    first = client.post("runs", json=RUN, headers={"Idempotency-Key": header})
    bare = header.removeprefix('"').removesuffix('"') if header[1] != " " and "\\" not in header else None
    again = client.post("runs", json=RUN, headers={"Idempotency-Key": f'"{bare}"' if bare else header})
    assert first.json()["id"] == again.json()["id"]


@pytest.mark.parametrize("header", ["", '""', "two words", '"open', "x" * 256, "ä"])
def test_a_key_that_is_none_is_refused(registered: Database, client: TestClient, header: str) -> None:
    before = runs_of(registered)
    refused = client.post("runs", json=RUN, headers={"Idempotency-Key": header.encode("latin-1")})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["path"] == "Idempotency-Key"
    assert "UUID" in refused.json()["errors"][0]["remedy"]
    assert runs_of(registered) == before


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Event, Event]]:
    """Submissions of runs wait in their transaction: the events say that one has begun, and let it end."""
    begun, go = Event(), Event()
    submit = run_service.submit

    def waiting(*args: Any) -> RunRow:
        begun.set()
        assert go.wait(30)
        return submit(*args)

    monkeypatch.setattr(run_service, "submit", waiting)
    yield begun, go
    go.set()


def test_while_the_first_is_in_progress_the_second_is_told_to_wait(
    registered: Database, client: TestClient, held: tuple[Event, Event]
) -> None:
    begun, go = held
    before = runs_of(registered)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(client.post, "runs", json=RUN, headers=KEY)
        assert begun.wait(30)
        second = client.post("runs", json=RUN, headers=KEY)
        go.set()
        assert first.result().status_code == 202
    assert second.status_code == 409
    assert second.json()["type"] == "urn:vezna:conflict"
    assert int(second.headers["Retry-After"]) > 0
    again = client.post("runs", json=RUN, headers=KEY)
    assert again.json() == first.result().json()
    assert runs_of(registered) == before + 1


@pytest.fixture
def another(registered: Database, settings: Settings, bell: SilentBell) -> Iterator[TestClient]:
    """A client of a second web process on the same database."""
    app = create_app(settings)
    app.state.doorbell = bell
    with TestClient(app, headers=form_headers(app), base_url="http://127.0.0.1/api/v1") as client:
        yield client


@pytest.mark.parametrize("name", ["run", "arm", "files"])
def test_two_processes_that_race_do_it_once(
    registered: Database, client: TestClient, another: TestClient, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have seen that the key is new before either begins its transaction."""
    find, both, calls = stored.find, Barrier(2), iter(range(1000))

    def together(*args: Any) -> IdempotencyKeyRow | None:
        known = find(*args)
        if next(calls) < 2:
            both.wait(30)
        return known

    monkeypatch.setattr(stored, "find", together)
    (path, body), _other = REQUESTS[name]
    before = rows(registered)
    with ThreadPoolExecutor() as pool:
        answers = [pool.submit(each.post, path, headers=KEY, **body) for each in (client, another)]
        first, second = (answer.result() for answer in answers)
    assert first.is_success and first.status_code == second.status_code, (first.text, second.text)
    assert first.json() == second.json()
    after = rows(registered)
    assert after["idempotency_keys"] == before["idempotency_keys"] + 1
    assert {answer.headers.get("Idempotency-Replayed") for answer in (first, second)} == {None, "true"}
    table, more = {"run": ("runs", 1), "arm": ("runs", 2), "files": ("uploads", 1)}[name]
    assert after[table] == before[table] + more


def test_threads_that_race_submit_one_run(registered: Database, client: TestClient, another: TestClient) -> None:
    before, together = runs_of(registered), Barrier(8)

    def submit(each: TestClient) -> Any:
        together.wait(30)
        return each.post("runs", json=RUN, headers=KEY)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(submit, [client, another] * 4))
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 202}) == 1
    assert runs_of(registered) == before + 1


AWAY = OperationalError("COMMIT", {}, Exception("connection lost"))


def test_an_answer_that_is_lost_after_the_commit_is_given_by_another_process(
    registered: Database, client: TestClient, another: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: Any) -> bool:
        raise AWAY

    before = runs_of(registered)
    with monkeypatch.context() as patch:
        patch.setattr(SilentBell, "ring", lose)
        assert client.post("runs", json=RUN, headers=KEY).status_code == 503
    again = another.post("runs", json=RUN, headers=KEY)
    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (202, "true")
    assert runs_of(registered) == before + 1


def test_an_end_before_the_commit_leaves_neither_run_nor_key(
    registered: Database, client: TestClient, another: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = idempotency.Once.keep

    def lose(*args: Any) -> None:
        keep(*args)
        raise AWAY

    before = rows(registered)
    with monkeypatch.context() as patch:
        patch.setattr(idempotency.Once, "keep", lose)
        assert client.post("runs", json=RUN, headers=KEY).status_code == 503
    assert rows(registered) == before
    assert another.post("runs", json=RUN, headers=KEY).headers.get("Idempotency-Replayed") is None
    assert runs_of(registered) == before["runs"] + 1


def test_a_key_expires_after_a_day(
    registered: Database, client: TestClient, bell: SilentBell, settings: Settings
) -> None:
    def aged(hours: float) -> None:
        with registered.transaction() as session:
            session.execute(update(IdempotencyKeyRow).values(created_at=now() - timedelta(hours=hours)))

    first = client.post("runs", json=RUN, headers=KEY).json()["id"]
    aged(23.9)
    assert client.post("runs", json=RUN, headers=KEY).json()["id"] == first
    aged(24.1)
    second = client.post("runs", json=RUN, headers=KEY)
    assert second.status_code == 202, second.text
    assert second.json()["id"] != first
    assert client.post("runs", json=RUN, headers=KEY).json() == second.json()

    def swept() -> int:
        with registered.transaction() as session:
            sweep(session, bell, settings)
        return rows(registered)["idempotency_keys"]

    assert swept() == 1
    aged(24.1)
    assert swept() == 0


@pytest.mark.slow
def test_the_documentation_has_the_header_and_its_statuses(client: TestClient) -> None:
    paths = client.get("openapi.json").json()["paths"]
    for path in (
        "/runs",
        "/runs/{run_id}/cancel",
        "/studies",
        "/studies/{study_id}/cancel",
        "/studies/{study_id}/arms",
        "/uploads",
        "/datasets",
        "/imports",
    ):
        post = paths[f"/api/v1{path}"]["post"]
        assert "Idempotency-Key" in {parameter["name"] for parameter in post.get("parameters", [])}, path
        assert {"409", "422"} <= set(post["responses"]), path


PAGE = "http://127.0.0.1"
FORM = {"name": "Typed", "base_model": "tiny", "dataset": "small", "seeds": "1", "margin_points": "1"}


@pytest.fixture
def page(client: TestClient) -> Callable[..., Any]:
    """Sends a form, and does not follow where it leads."""

    def send(path: str, **options: Any) -> Any:
        return client.post(f"{PAGE}{path}", follow_redirects=False, **options)

    return send


def key_in(client: TestClient, path: str) -> str:
    """The key of the first form of a page that has one."""
    keys = re.findall(r'name="idempotency_key" value="([^"]+)"', client.get(f"{PAGE}{path}").text)
    assert keys, path
    return str(keys[0])


@pytest.mark.parametrize("path", ["/studies/new", "/studies/1/arms/new?method=head-only", "/data", "/data/uploads/1"])
def test_each_form_has_a_key_of_its_own(client: TestClient, path: str) -> None:
    assert key_in(client, path) != key_in(client, path)


def test_a_second_click_submits_no_second_study(
    registered: Database, client: TestClient, page: Callable[..., Any]
) -> None:
    form = FORM | {"idempotency_key": key_in(client, "/studies/new"), "arms.0.method.kind": "full"}
    before = rows(registered)["studies"]
    with ThreadPoolExecutor() as pool:
        clicks = [pool.submit(page, "/studies", data=form) for _ in range(2)]
        first, second = (click.result() for click in clicks)
    assert first.status_code == second.status_code == 303, first.text
    assert first.headers["location"] == second.headers["location"]
    assert rows(registered)["studies"] == before + 1
    changed = page("/studies", data=form | {"name": "Typed again"})
    assert changed.headers["location"] != first.headers["location"]
    assert rows(registered)["studies"] == before + 2


@pytest.mark.parametrize(
    ("path", "options", "table", "more"),
    [
        ("/studies/1/seeds", {"data": {"count": "1"}}, "runs", 2),
        ("/studies/1/arms", {"data": {"arms.0.method.kind": "bitfit"}}, "runs", 2),
        ("/runs/1/clone", {"data": {}}, "runs", 1),
        ("/data/sources", {"data": {"location": "a/b"}}, "uploads", 1),
        ("/data/files", {"data": {}, "files": [("file", ("a.csv", CSV))]}, "uploads", 1),
    ],
)
def test_a_form_that_is_sent_twice_counts_once(
    registered: Database, page: Callable[..., Any], path: str, options: dict[str, Any], table: str, more: int
) -> None:
    before = rows(registered)[table]
    options = options | {"data": options["data"] | {"idempotency_key": "k"}}
    first, second = page(path, **options), page(path, **options)
    assert first.status_code == second.status_code == 303, first.text
    assert first.headers["location"] == second.headers["location"]
    assert rows(registered)[table] == before + more
    assert rows(registered)["idempotency_keys"] == 1


def test_a_second_click_that_another_process_would_refuse_leads_where_the_first_did(
    registered: Database, page: Callable[..., Any], another: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looked for an answer before the first click had one, and planned the arm after the first click added it."""
    form = {"arms.0.method.kind": "bitfit", "idempotency_key": "k"}
    first, before = page("/studies/1/arms", data=form), rows(registered)
    find, calls = stored.find, iter(range(1000))
    monkeypatch.setattr(stored, "find", lambda *args: find(*args) if next(calls) else None)
    second = another.post(f"{PAGE}/studies/1/arms", data=form, follow_redirects=False)
    assert first.status_code == second.status_code == 303, second.text
    assert first.headers["location"] == second.headers["location"]
    assert rows(registered) == before


def test_a_second_click_waits_for_the_first(
    registered: Database, client: TestClient, page: Callable[..., Any], held: tuple[Event, Event]
) -> None:
    begun, go = held
    with registered.reading() as session:
        study = session.scalars(select(StudyRow)).one()
        run = session.scalars(select(RunRow.id).where(RunRow.study_id == study.id)).first()
    before = runs_of(registered)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(page, f"/runs/{run}/clone", data={"idempotency_key": "k"})
        assert begun.wait(30)
        second = pool.submit(page, f"/runs/{run}/clone", data={"idempotency_key": "k"})
        go.set()
        assert first.result().headers["location"] == second.result().headers["location"]
    assert runs_of(registered) == before + 1

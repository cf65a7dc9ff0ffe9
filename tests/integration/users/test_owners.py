"""Private objects of another user: no route shows them, changes them, or tells that they exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.domain.accounts.policy import Role
from app.settings import Settings
from tests.support.checks.access_table import NOT_OBJECTS, OTHER, about_object, expected, routes
from tests.support.rows.owners import DATASET, MARK, MODEL, RECIPE, PrivateInstallation, ask

ABSENT = {
    "run_id",
    "study_id",
    "artifact_id",
    "collection_id",
    "upload_id",
    "export_id",
    "check_id",
    "class_id",
    "estimate_id",
    "key",
    "owner_id",
}


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory, filled_file: Path) -> Iterator[PrivateInstallation]:
    """An installation in which everything is private to its member."""
    home = tmp_path_factory.mktemp("private")
    (home / "vezna.sqlite").write_bytes(filled_file.read_bytes())
    found = PrivateInstallation(Settings(home=home, login="required"))
    yield found
    found.database.dispose()


def _about_objects(private: PrivateInstallation) -> list[tuple[str, str]]:
    """The routes about a study, run, dataset, model, …"""
    return [(method, path) for method, path in routes(private.app) if about_object(method, path)]


@pytest.mark.slow
def test_no_route_shows_or_changes_a_private_object_of_another_user(private: PrivateInstallation) -> None:
    """A new route about an object gets a value for its parameter in `PrivateInstallation.keys`."""
    other, walked = private.of_other(), _about_objects(private)
    assert len(walked) > 85
    answers = {route: ask(other, *route, private.keys(route[1])) for route in walked}
    assert {route: answer.text[:200] for route, answer in answers.items() if answer.status_code != 404} == {}
    told = [route for route, answer in answers.items() if MARK in answer.text.replace(DATASET, "").replace(MODEL, "")]
    assert told == []


@pytest.mark.slow
def test_another_member_gets_from_each_route_what_the_file_says(private: PrivateInstallation) -> None:
    """`absent` by the test above; the rest here, but for forms and routes with parameters of other kinds."""
    other, lines = private.of_other(), expected()
    absent = {(line["method"], line["path"]) for line in lines if line[OTHER] == "absent"}
    assert absent == set(_about_objects(private))
    walked = 0
    for line in lines:
        method, path, result = line["method"], line["path"], line[OTHER]
        if result == "absent" or "{" in path or path.startswith(("/account", "/static", "/login", "/logout")):
            continue
        if result == "refuse" or method == "GET":
            status = other.request(method, path).status_code
            assert status == 403 if result == "refuse" else status not in (401, 403, 404), (method, path, status)
            walked += 1
    assert walked > 50


@pytest.mark.slow
def test_the_answer_is_that_about_an_object_that_does_not_exist(private: PrivateInstallation) -> None:
    other = private.of_other()
    for method, path in _about_objects(private):
        if not path.startswith("/api/"):
            continue
        values = private.keys(path)
        missing = {name: "987654" if name in ABSENT else value for name, value in values.items()}
        if "{name" in path:
            missing["name"] = "nosuchname"
        answers = [ask(other, method, path, chosen).json() for chosen in (values, missing)]
        details = [re.sub(rf"\d+|{DATASET}|{MODEL}|nosuchname", "…", answer["detail"]) for answer in answers]
        assert details[0] == details[1], (method, path)


STREAMS = re.compile("event|live|/report$")
"""Routes that stream, and a report that takes seconds."""
WITHOUT_FILES = {
    "/api/v1/artifacts/{artifact_id}/content",
    "/v1/files/{file_id}/content",
    "/data/{name}/images/{item}",
    "/api/v1/studies/{study_id}/blind/next",
    "/api/v1/studies/{study_id}/blind/preference",
    "/models/{name:path}/map/{figure}.{ending}",
}
"""Routes about files, generated answers and a memory map that the filled database does not have."""


@pytest.mark.slow
def test_its_owner_and_an_admin_see_each_of_them(private: PrivateInstallation) -> None:
    """Else the tests above would prove nothing: a recipe, a run or a figure that does not exist is absent for all."""
    walked = [path for method, path in _about_objects(private) if method == "GET" and not STREAMS.search(path)]
    assert len(walked) > 80 and set(walked) > WITHOUT_FILES
    for client in (private.program(Role.MEMBER), private.program(Role.ADMIN)):
        answers = {path: ask(client, "GET", path, private.keys(path)) for path in walked if path not in WITHOUT_FILES}
        assert {path: answer.text[:200] for path, answer in answers.items() if answer.status_code in (403, 404)} == {}


@pytest.mark.slow
def test_no_list_count_or_search_tells_of_them(private: PrivateInstallation) -> None:
    other, owner = private.of_other(), private.program(Role.MEMBER)
    told = 0
    for method, path in routes(private.app):
        if method != "GET" or "{" in path or path.startswith(NOT_OBJECTS) or path == "/metrics":
            continue
        answer = other.get(path)
        if path == "/api/v1/openapi.json" or answer.status_code in (403, 422):
            continue
        own = owner.get(path)
        assert not re.search(rf"{MARK}|distilbert-base|/(runs|studies)/\d", answer.text), path
        told += MARK in own.text
    assert told >= 10
    for query in ("note ~ zephyr", "method = lora", "model ~ zephyr", "collection ~ zephyr"):
        found = other.get("/api/v1/runs", params={"filter": query})
        assert found.json().get("items") == [], (query, found.text[:300])


@pytest.mark.parametrize(
    "address",
    [
        "/compare?runs=1,2",
        "/compare?study=1",
        "/api/v1/compare?runs=1,2",
        "/api/v1/compare?study=1",
        "/studies/new?from_study=1",
        "/studies/new?from_run=1",
        f"/recipes/{RECIPE}?study=2",
        "/playground?model=1&text=x",
        "/playground?study=1&arm=LoRA&kind=gained",
        "/api/v1/playground/events?model=1&text=x",
    ],
)
def test_a_query_names_none_of_them(private: PrivateInstallation, address: str) -> None:
    answer = private.of_other().get(address)
    assert MARK not in answer.text and "LoRA r=8" not in answer.text
    assert answer.status_code in ((404, 422) if "/api/" in address or "from" in address else (200, 404, 422))


def test_kept_pages_of_an_owner_are_not_given_to_another_user(private: PrivateInstallation) -> None:
    owner, other = private.program(Role.MEMBER), private.of_other()
    for path in ("/studies", "/studies/1", "/runs", "/api/v1/studies", "/api/v1/runs", "/api/v1/studies/1/comparison"):
        assert owner.get(path).status_code == 200
        answer = other.get(path)
        assert answer.status_code == (404 if "1" in path[-14:].replace("v1", "") else 200), path
        assert MARK not in answer.text

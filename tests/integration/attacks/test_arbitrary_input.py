"""Whatever stands in a body or an address, the answer is a sentence: PostgreSQL keeps no NUL, UTF-8 no half character,
and no float a number of 400 digits."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.domain.data.guesses.mapping import Column
from app.domain.data.uploads import SourceScan
from app.store.database.session import Database
from app.store.tables import UploadRow
from tests.integration.web.test_api import LORA, RUN, STUDY
from tests.support.rows.imported_results import result

WHOLE = result(
    items=None,
    score=0.5,
    item_scores={"a": 1, "b": 0},
    versions={"torch": "2.13.0"},
    settings={"optimizer": {"lr": 0.1}, "targets": ["q"]},
)
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "imports": ("POST", {"collection": "mine", "results": [WHOLE], "files": [{"name": "a.json", "text": "{}"}]}),
    "runs": ("POST", RUN | {"method": LORA | {"layers_to_transform": [0]}, "training": {"max_length": 64}}),
    "studies": ("POST", STUDY | {"training": {"max_length": 64}, "reference": "full"}),
    "studies/1/arms": ("POST", {"name": "mine", "method": {"kind": "lora", "r": 4}}),
    "studies/1": ("PATCH", {"note": "a note", "tags": ["paper"]}),
    "runs/1": ("PATCH", {"note": "a note", "tags": ["paper"]}),
    "estimates": ("POST", {"config": {"model_type": "bert", "a": {"b": "c"}}, "methods": [{"kind": "full"}]}),
    "uploads/sources": (
        "POST",
        {"source": "hub", "location": "a/b", "config": "c", "revision": "main", "split": "train"},
    ),
    "uploads/1/read": ("POST", {"delimiter": ";", "encoding": "latin-1", "header": True}),
    "datasets": (
        "POST",
        {
            "name": "reviews",
            "title": "Reviews",
            "upload_id": 1,
            "mapping": {
                "format": "labelled",
                "columns": {"text": "review", "label": "stars"},
                "label_names": {"0": "bad", "1": "good"},
            },
            "splitting": {"kind": "predefined", "column": "part", "names": {"train": ["a"], "test": ["b"]}, "seed": 1},
        },
    ),
    "models": ("POST", {"name": "mine", "source": "hub", "location": "a/b", "revision": "main"}),
}
INFINITE = "1e999 without its quotes"
VALUES: tuple[Any, ...] = ("a\0b", "\ud800", ["\0"], {"\0": "\0"}, {"\ud800": 1}, 10**400, INFINITE)
KEYS = ("a\0b", "\ud800")


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something lies in a body, the body itself last."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, below in inside:
        yield from places(below, (*path, name))
    yield path


def spoilt(body: Any) -> Iterator[Any]:
    """A body with one thing in it changed, for every thing and every change."""
    for path in places(body):
        for value in VALUES if path else ():
            whole = copy.deepcopy(body)
            at(whole, path[:-1])[path[-1]] = value
            yield whole
        for key in KEYS if isinstance(at(body, path), dict) else ():
            whole = copy.deepcopy(body)
            at(whole, path)[key] = "1"
            yield whole


def at(body: Any, path: tuple[Any, ...]) -> Any:
    """What lies in a place."""
    for name in path:
        body = body[name]
    return body


def send(api: TestClient, route: str, body: Any) -> None:
    """Any answer but that of a mistake, which the client raises."""
    text = json.dumps(body).replace(json.dumps(INFINITE), "1e999")
    answer = api.request(BODIES[route][0], route, content=text, headers={"content-type": "application/json"})
    assert answer.status_code < 500


@pytest.fixture
def upload(registered: Database) -> None:
    """Upload 1, which has been read."""
    columns = [
        Column(name="review", kind="text", longest=9),
        Column(name="stars", kind="integer", distinct=2, values={"0": 5, "1": 5}, longest=1),
        Column(name="part", kind="text", distinct=2, values={"a": 5, "b": 5}, longest=1),
    ]
    scan = SourceScan(kind="csv", rows=10, splits={"": 10}, columns=columns)
    with registered.transaction() as session:
        session.add(UploadRow(source="files", name="a.csv", status="read", scan_json=scan.model_dump(mode="json")))


@pytest.mark.by_day
@pytest.mark.usefixtures("upload")
@pytest.mark.parametrize("route", BODIES)
def test_no_body_is_answered_with_a_mistake(api: TestClient, route: str) -> None:
    assert api.post("studies", json=STUDY).status_code == 202
    for body in spoilt(BODIES[route][1]):
        send(api, route, body)


def test_no_file_is_answered_with_a_mistake(api: TestClient) -> None:
    for document in spoilt(WHOLE):
        text = json.dumps(document).replace(json.dumps(INFINITE), "1e999")
        send(api, "imports", {"files": [{"name": "a.json", "text": text}]})


@pytest.mark.parametrize(
    "address",
    ["/models/a%E2%80%AEb", "/models/a%E2%80%AEb/map", "/api/v1/models/a%E2%80%AEb", "/api/v1/datasets/a%E2%80%AEb"],
)
def test_a_name_in_an_address_that_nothing_can_have_is_refused(api: TestClient, address: str) -> None:
    answer = api.get(f"http://127.0.0.1{address}")
    assert answer.status_code == 422
    assert "cannot be printed" in answer.text

"""Values that break statements, sent to every operation of the API and to every form, on PostgreSQL: it takes neither
NUL nor half characters nor numbers beyond 64 bits. What SQLite does not take, `test_schemathesis.py` sends to it."""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.domain.accounts.policy import Role
from app.settings import Settings
from app.store.database.session import Database
from tests.support.checks.access_table import filled_in, routes
from tests.support.filled.filled import fill
from tests.support.rows.owners import BODIES, FORM, PrivateInstallation

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("database", ["postgresql"], indirect=True)]

HOSTILE: dict[type, list[Any]] = {
    str: ["a\0b", "\ud800", 2**63],
    int: [2**63, -(2**63) - 1, float("nan"), "\0"],
    float: [1e308, 10**400, float("inf"), float("nan"), "\0"],
    bool: ["\0", 2**63],
    type(None): ["\0", 2**63],
    list: [["\0"] * 3, [2**63], [[]] * 1000],
    dict: [{"\0": "\0"}, {"\ud800": 1}, {"a": 2**63}, []],
}
"""By the type of the value that it replaces."""
IN_ADDRESSES = ["%00", "%ED%A0%80", "-1", str(2**31), str(2**63), "9" * 400, "1e999", "nan", "%25_", "٣"]
FIELDS = (*FORM, "name", "title", "email", "code", "password", "answer", "study", "tags", "url")
HELD_OPEN = "/events"
"""The end of the path of a stream."""


@pytest.fixture
def attacked(database: Database, settings: Settings) -> Iterator[PrivateInstallation]:
    with database.transaction() as session:
        fill(session)
    found = PrivateInstallation(settings.model_copy(update={"login": "required", "requests_per_minute": 10**6}))
    yield found
    found.database.dispose()


def operations(found: PrivateInstallation) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of each operation of the API."""
    for path, methods in found.app.openapi()["paths"].items():
        for method, operation in methods.items():
            if not path.endswith(HELD_OPEN):
                yield method.upper(), path, operation


def address(found: PrivateInstallation, path: str, **changes: str) -> str:
    """A path about the objects that there are, but for the changes."""
    for name, value in (found.keys(path) | changes).items():
        for written in (f"{{{name}}}", f"{{{name}:int}}", f"{{{name}:path}}"):
            path = path.replace(written, value)
    return filled_in(path)


def bodies(path: str, method: str, operation: dict[str, Any]) -> Iterator[Any]:
    """Valid JSON bodies of an operation."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    yield from (one["value"] for one in content.get("examples", {}).values() if "value" in one)
    if "example" in content:
        yield content["example"]
    if (method, path) in BODIES:
        yield BODIES[method, path]


def spoilt(body: Any) -> Iterator[Any]:
    """The body with one value replaced, for every value in it and itself."""
    yield from HOSTILE[type(body)]
    for key, value in body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ():
        for part in spoilt(value):
            changed = deepcopy(body)
            changed[key] = part
            yield changed


def broke(client: TestClient, method: str, url: str, **options: Any) -> str:
    """What is wrong with the answer; empty if nothing is. 503: there is no worker that could answer."""
    try:
        answer = client.request(method, url, **options)
    except Exception as error:  # what the server would log as an internal error
        return f"{method} {url[:150]} {str(options)[:150]}: {error!r:.300}"
    failed = answer.status_code >= 500 and answer.status_code != 503
    return f"{method} {url[:150]} {str(options)[:150]}: {answer.text:.300}" if failed else ""


def test_no_value_in_a_body_breaks_a_statement(attacked: PrivateInstallation) -> None:
    program, headers = attacked.program(Role.ADMIN), {"content-type": "application/json"}
    wrong = [
        broke(program, method, address(attacked, path), content=json.dumps(part), headers=headers)
        for method, path, operation in operations(attacked)
        for body in bodies(path, method, operation)
        for part in spoilt(body)
    ]
    assert len(wrong) > 1000 and not any(wrong), "\n".join(filter(None, wrong))


def test_no_value_in_an_address_breaks_a_statement(attacked: PrivateInstallation) -> None:
    program, wrong = attacked.program(Role.ADMIN), []
    for method, path, operation in operations(attacked):
        named = operation.get("parameters", [])
        given = {p["name"]: "1" for p in named if p["in"] == "query" and p.get("required")}
        for parameter in named:
            for value in IN_ADDRESSES:
                name, where = parameter["name"], parameter["in"]
                if where == "path":
                    query, url = given, address(attacked, path, **{name: value})
                elif where == "query" and method == "GET":
                    query, url = given | {name: value}, address(attacked, path)
                else:
                    continue
                wrong.append(broke(program, method, url + "?" + "&".join(f"{key}={query[key]}" for key in query)))
    assert len(wrong) > 1000 and not any(wrong), "\n".join(filter(None, wrong))


def test_no_value_in_a_form_breaks_a_statement(attacked: PrivateInstallation) -> None:
    browser = attacked.browser(Role.ADMIN)
    wrong = [
        broke(browser, method, address(attacked, path), data=FORM | {name: value})
        for method, path in routes(attacked.app)
        if method == "POST" and not path.startswith(("/api/", "/v1/", "/mcp", "/login", "/logout"))
        for name in FIELDS
        for value in ("a\0b", "9" * 25)
    ]
    assert len(wrong) > 1000 and not any(wrong), "\n".join(filter(None, wrong))

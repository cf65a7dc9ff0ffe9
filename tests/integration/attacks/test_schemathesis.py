"""The REST API does what its OpenAPI description says, for generated requests (schemathesis): documented statuses and
content types, answers that match their schemas, `Allow` headers, no wrong type accepted, no internal error."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from app.domain.accounts.policy import Role
from app.main import create_app
from app.settings import Settings
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.accounts import Installation

HERE = {"host": "localhost"}
UNCHECKED = [positive_data_acceptance]
"""A schema does not know which models exist, nor which methods suit them."""
FAST = ("GET /api/v1/runs", "GET /api/v1/runs/{run_id}/steps", "GET /api/v1/studies/{study_id}", "GET /api/v1/compare",
        "POST /api/v1/studies/{study_id}/seeds", "PATCH /api/v1/runs/{run_id}", "POST /api/v1/imports",
        "POST /api/v1/datasets", "POST /api/v1/uploads/sources", "POST /api/v1/models")  # fmt: skip


def bounded(examples: int, **more: Any) -> settings:
    """The same examples in every run."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
        **more,
    )


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory, filled_file: Path) -> Iterator[tuple[Any, Any]]:
    """An application that has one of everything, and its description."""
    home = tmp_path_factory.mktemp("described")
    (home / "vezna.sqlite").write_bytes(filled_file.read_bytes())
    app = create_app(Settings(home=home, allowed_hosts=["localhost", "testserver"]))
    app.state.doorbell = SilentBell()
    yield app, schemathesis.openapi.from_asgi("/api/v1/openapi.json", app)
    app.state.database.dispose()


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory, filled_file: Path) -> Iterator[tuple[Any, Any, dict[str, str]]]:
    """The same application where login is required, its description, and the headers of a token."""
    home = tmp_path_factory.mktemp("closed")
    (home / "vezna.sqlite").write_bytes(filled_file.read_bytes())
    installation = Installation(Settings(home=home, allowed_hosts=["localhost", "testserver"], login="required"))
    token = {"Authorization": f"Bearer {installation.token(Role.ADMIN)}"}
    schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", installation.app, headers=token)
    yield installation.app, schema, token
    installation.database.dispose()


def check(schema: Any, examples: int, labels: tuple[str, ...] = (), headers: dict[str, str] = HERE) -> int:
    """Have operations answer requests that match the description, and requests that do not. Returns their number."""

    def answered(case: Any) -> None:
        """Send a request and check its answer. No worker is waited for."""
        if case.query:
            case.query.pop("wait", None)
        case.call_and_validate(headers=headers, excluded_checks=UNCHECKED)

    checked = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path.endswith("/events") or (labels and operation.label not in labels):
            continue  # streams of events do not end
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            test = bounded(examples)(given(operation.as_strategy(generation_mode=mode))(answered))
            try:
                test()
            except Unsatisfiable:  # without a parameter, or with a text that may be anything, nothing is wrong
                assert mode is GenerationMode.NEGATIVE
        checked += 1
    return checked


@pytest.mark.slow
def test_operations_answer_as_described(described: tuple[Any, Any]) -> None:
    _app, schema = described
    assert check(schema, 2, FAST) == len(FAST)


@pytest.mark.slow
def test_operations_answer_as_described_with_a_token(closed: tuple[Any, Any, dict[str, str]]) -> None:
    """Without it too: schemathesis sends each request again without what the description asks for."""
    _app, schema, token = closed
    assert check(schema, 1, (*FAST, "GET /api/v1/me"), HERE | token) == len(FAST) + 1


def test_every_operation_but_the_public_ones_is_described_as_closed(closed: tuple[Any, Any, dict[str, str]]) -> None:
    app, _schema, _token = closed
    for path, methods in app.openapi()["paths"].items():
        for operation in methods.values():
            public = path in ("/livez", "/readyz", "/api/v1/login", "/api/v1/receipt-key")
            assert ("security" in operation) is not public, path
            assert public or {"401", "403"} <= set(operation["responses"]), path


@pytest.mark.nightly
def test_every_operation_answers_as_described(described: tuple[Any, Any]) -> None:
    _app, schema = described
    assert check(schema, 5) > 50


@pytest.mark.nightly
def test_sequences_of_operations_are_answered_as_described(described: tuple[Any, Any]) -> None:
    _app, schema = described

    class Walk(schema.as_state_machine()):  # type: ignore[misc]
        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            return {"headers": HERE}

        def validate_response(self, response: Any, case: Any, **_: Any) -> None:
            case.validate_response(response, excluded_checks=UNCHECKED)

    Walk.run(settings=bounded(10, stateful_step_count=5))


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/api/v1/runs/1", "GET, PATCH, DELETE"),
        ("/api/v1/runs", "GET, POST"),
        ("/api/v1/studies/1/seeds", "POST"),
        ("/livez", "GET"),
    ],
)
def test_allow_names_every_method_of_an_address(described: tuple[Any, Any], path: str, allowed: str) -> None:
    app, _schema = described
    answer = TestClient(app, headers=HERE).put(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


def test_every_error_is_described_as_a_problem(described: tuple[Any, Any]) -> None:
    app, _schema = described
    for path, methods in app.openapi()["paths"].items():
        for operation in methods.values():
            for status, answer in operation["responses"].items():
                if status >= "400" and path not in ("/readyz",):
                    kind = "application/json" if path.startswith("/v1/") else "application/problem+json"
                    assert list(answer["content"]) == [kind], (path, status)

"""What the client sends and reads is in the OpenAPI document: paths, parameters, bodies, fields of answers."""

import inspect
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from app.main import create_app
from app.settings import Settings
from app.web.api.runs.events import FIELDS
from vezna import AsyncClient, Client, models
from vezna.sending import calls
from vezna.sending.calls import Call, Download, Watching

MAKERS = {
    name: make
    for name, make in vars(calls).items()
    if inspect.isfunction(make) and make.__module__ == calls.__name__ and not name.startswith("_")
}
SAVED = {"artifact_content", "study_report", "study_table", "export_archive"}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The OpenAPI document of a server."""
    return create_app(Settings(home=tmp_path_factory.mktemp("home"))).openapi()


def example(name: str) -> Any:
    """The request that a function of `vezna.sending.calls` makes."""
    parameters = inspect.signature(MAKERS[name]).parameters.values()
    required = [parameter for parameter in parameters if parameter.default is parameter.empty]
    return MAKERS[name](*[{} if "Mapping" in str(one.annotation) else 1 for one in required])


def operation(document: dict[str, Any], method: str, template: str) -> dict[str, Any]:
    """Of a path below /api/v1."""
    found = document["paths"].get(f"/api/v1{template}", {}).get(method.lower())
    assert found is not None, f"{method} {template} is not in the OpenAPI document"
    return dict(found)


@pytest.mark.parametrize("name", MAKERS)
def test_every_request_is_in_the_document(document: dict[str, Any], name: str) -> None:
    made = example(name)
    if not isinstance(made, Call):
        content = operation(document, "GET", made.template)["responses"]["200"]["content"]
        assert ("text/event-stream" in content) is isinstance(made, Watching)
        return
    described = operation(document, made.method, made.template)
    parameters = {parameter["name"]: parameter for parameter in described.get("parameters", [])}
    assert {name for name, one in parameters.items() if one["in"] == "path"} == set(made.where)
    assert set(made.query) <= {name for name, one in parameters.items() if one["in"] == "query"}
    assert ("Idempotency-Key" in parameters) is made.once
    assert ("requestBody" in described) is (made.body is not None)
    [schema] = [
        answer["content"]["application/json"]["schema"]
        for status, answer in described["responses"].items()
        if status.startswith("2")
    ]
    assert matches(document, schema, made.answer), f"{made.template}: {schema} is not {made.answer}"


ANSWERS = [
    value
    for value in vars(models).values()
    if isinstance(value, type) and issubclass(value, models.Answer) and value is not models.Answer
]


@pytest.mark.parametrize("model", ANSWERS, ids=lambda model: model.__name__)
def test_every_field_of_an_answer_is_documented(document: dict[str, Any], model: type[models.Answer]) -> None:
    schema = document["components"]["schemas"][model.schema_name]
    for name, described in model.model_fields.items():
        assert name in schema["properties"], f"{model.schema_name} has no {name}"
        there = schema["properties"][name]
        assert matches(document, there, described.annotation), f"{model.schema_name}.{name}: {there}"
        assert described.is_required()


def test_every_field_of_an_event_is_sent() -> None:
    assert set(models.RunProgress.model_fields) <= set(FIELDS)
    assert set(models.StudyProgress.model_fields) == {"id", "status", "done", "total", "runs"}


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_both_clients_have_a_method_for_every_request(client: type[Client] | type[AsyncClient]) -> None:
    made = {getattr(method, "__wrapped__", None) for method in vars(client).values()}
    assert made - {None} == set(MAKERS.values())
    for name, make in MAKERS.items():
        kind = Download if name in SAVED else object
        assert isinstance(example(name), kind)
        assert name in SAVED or getattr(client, name).__wrapped__ is make


JSON_TYPES = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}


def matches(document: dict[str, Any], schema: dict[str, Any], kind: Any) -> bool:
    """Whether whatever a schema allows is read by a type."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        assert issubclass(kind, models.Answer)
        return bool(schema.get("$ref", "").rpartition("/")[2] == kind.schema_name)
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
        return all(any(matches(document, part, one) for one in kinds) for part in schema["anyOf"])
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        return any(matches(document, schema, one) for one in get_args(kind))
    if origin is Literal:
        return set(schema.get("enum", [])) == set(get_args(kind))
    if origin is list:
        return schema.get("type") == "array" and matches(document, schema["items"], get_args(kind)[0])
    if origin is dict:
        value = get_args(kind)[1]
        extra = schema.get("additionalProperties", True)
        return schema.get("type") == "object" and (value is Any or matches(document, extra, value))
    if kind.__name__ == "datetime":
        return schema.get("format") == "date-time"
    return bool(schema.get("type") == JSON_TYPES[kind])

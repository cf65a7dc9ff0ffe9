"""What is refused at the door, over HTTP: with the field, the reason and the remedy, and never with a 500."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.domain.methods import METHODS
from tests.integration.web.test_api import LORA, RUN, STUDY
from tests.support.fakes.fakes import SilentBell

# What is refused does not depend on the database.
pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.parametrize("database", ["sqlite"], indirect=True)]

FULL = {"method": {"kind": "full"}}


def training(**changes: object) -> dict[str, Any]:
    return {"training": changes}


def method(**changes: object) -> dict[str, Any]:
    return {"method": LORA | changes}


@pytest.mark.parametrize(
    ("change", "path", "says"),
    [
        (method(r=0), "method.r", "Must be 1 or more"),
        (method(r=33), "method.r", "Use at most 32"),
        (method(r=33, target_modules="all-linear"), "method.r", "Use at most 32"),
        (method(lora_alpha=10**30), "method.lora_alpha", "Must be 1000000 or less"),
        (
            method(target_modules="query"),  # a pattern, which no whole name matches
            "method.target_modules",
            'Choose from: query, key, value, dense, or "all-linear"',
        ),
        (
            method(target_modules=[1]),
            "method.target_modules",
            'Use a list such as ["query", "value"], a pattern, or "all-linear"',
        ),
        ({"method": {"kind": "lorra"}}, "method", f"Choose from: {', '.join(METHODS)}"),
        (method(bias="some"), "method.bias", "Must be one of 'none', 'all' or 'lora_only'"),
        (training(learning_rate=-1), "training.learning_rate", "Must be above 0"),
        (training(learning_rate="nan"), "training.learning_rate", "Must be a number, such as 0.01 or 2e-5"),
        (training(warmup_steps="inf"), "training.warmup_steps", "Must be a number, such as 0.01 or 2e-5"),
        (training(max_grad_norm="inf"), "training.max_grad_norm", "Must be a number, such as 0.01 or 2e-5"),
        (training(max_steps=10**30), "training.max_steps", "Must be 10000000 or less"),
        (training(seed=True), "training.seed", "Use a whole number from 0 to 4294967295"),
        (training(lr=1), "training.lr", "Remove it, or look up its name in /api/v1/openapi.json"),
        ({"base_model": "tiny\0"}, "base_model", "Remove it, or use a plain space"),
        ({"dataset": " "}, "dataset", "Must not be empty"),
    ],
)
def test_an_invalid_run_is_refused_with_one_field_and_its_remedy(
    api: TestClient, bell: SilentBell, change: dict[str, Any], path: str, says: str
) -> None:
    answer = api.post("runs", json=RUN | change)
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert error["path"] == path
    assert says == (error["remedy"] or error["message"])
    assert bell.rung == []


@pytest.mark.parametrize(
    ("change", "path", "says"),
    [
        ({"name": "a\u202eb"}, "name", "U+202E"),
        ({"arms": [{"name": "a\0b", **FULL}]}, "arms.0.name", "U+0000"),
        ({"arms": [FULL, FULL]}, "arms.1.name", "Two arms are named"),
        (
            {"arms": [FULL, {"name": "b", **FULL, "learning_rate": 1.8e-4}]},
            "arms.1",
            "differs from 'full' only in its name",
        ),
        ({"arms": [FULL, {"name": "b", **FULL, "weight_decay": 0}]}, "arms.1", "differs from 'full' only in its name"),
        ({"arms": []}, "arms", "1 or more entries"),
        (
            {"arms": [{"method": {"kind": "lora", "target_modules": ["q"]}}]},
            "arms.0.method.target_modules",
            "no linear",
        ),
        ({"margin_points": 0}, "margin_points", "Must be above 0"),
        ({"reference": "nobody"}, "reference", "is not an arm"),
        ({"seeds": [0, 1, 0]}, "seeds.2", "given twice"),
        ({"seeds": [0, True]}, "seeds.1", "not true or false"),
        ({"seeds": [2**32]}, "seeds.0", "Must be below 4294967296"),
        ({"margin_points": "nan"}, "margin_points", "Must be a number"),
        (
            {"training": {"learning_rate": 1e-3}},
            "training.learning_rate",
            "Each arm of a study has its own learning rate",
        ),
        ({"training": {"seed": 7}}, "training.seed", "Each run of a study has its own seed"),
    ],
)
def test_an_invalid_study_is_refused_with_one_field_and_the_reason(
    api: TestClient, bell: SilentBell, change: dict[str, Any], path: str, says: str
) -> None:
    answer = api.post("studies", json=STUDY | change)
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert error["path"] == path
    assert says in error["message"]
    assert api.get("studies").json()["items"] == api.get("runs").json()["items"] == [] == bell.rung


def test_a_study_as_it_was_answered_can_be_submitted_again(api: TestClient) -> None:
    spec = api.post("studies", json=STUDY).json()["spec"]
    assert api.post("studies", json=spec).json()["spec"] == spec


@pytest.mark.parametrize("location", ["", "/etc", "../secrets", "models/../../x", "a/b/c", "./a", "a/.b", "~/a", "a b"])
def test_a_hub_id_is_never_a_path(api: TestClient, bell: SilentBell, location: str) -> None:
    answer = api.post("models", json={"name": "x", "source": "hub", "location": location})
    assert answer.status_code == 422
    assert [(e["path"], e["remedy"]) for e in answer.json()["errors"]] == [
        ("location", "Use an id such as google-t5/t5-small")
    ]
    assert bell.rung == []


def test_a_model_registered_again_with_another_revision_is_another_model(api: TestClient) -> None:
    model = {"name": "x", "source": "hub", "location": "a/b"}
    assert api.post("models", json=model | {"revision": "v1"}).status_code == 202
    assert api.post("models", json=model | {"revision": "v1"}).status_code == 202
    assert api.post("models", json=model | {"revision": "v2"}).status_code == 409


@pytest.mark.parametrize(
    "address",
    ["/models/a%E2%80%AEb", "/models/a%E2%80%AEb/map", "/api/v1/models/a%E2%80%AEb", "/api/v1/datasets/a%E2%80%AEb"],
)
def test_a_name_in_an_address_that_nothing_can_have_is_refused(api: TestClient, address: str) -> None:
    assert api.get(f"http://127.0.0.1{address}").status_code == 422

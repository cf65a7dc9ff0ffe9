"""What is refused at the door, over HTTP: with the field, the reason and the remedy, and never with a 500."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.fakes import SilentBell
from tests.integration.test_api import LORA, RUN, STUDY

# What is refused does not depend on the database.
pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.parametrize("database", ["sqlite"], indirect=True)]

FULL = {"method": {"kind": "full"}}


def training(**changes: object) -> dict[str, Any]:
    return {"training": changes}


def method(**changes: object) -> dict[str, Any]:
    return {"method": LORA | changes}


@pytest.mark.parametrize(
    ("change", "path", "remedy"),
    [
        (method(r=0), "method.r", "at least 1"),
        (method(r=33), "method.r", "at most 32"),
        (method(r=33, target_modules="all-linear"), "method.r", "at most 32"),
        (method(lora_alpha=10**30), "method.lora_alpha", "at most 1000000"),
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
        (method(bias="some"), "method.bias", "Choose from: 'none', 'all' or 'lora_only'"),
        (training(learning_rate=-1), "training.learning_rate", "above 0"),
        (training(learning_rate="nan"), "training.learning_rate", "a number such as 0.01"),
        (training(warmup_steps="inf"), "training.warmup_steps", "a number such as 0.01"),
        (training(max_grad_norm="inf"), "training.max_grad_norm", "a number such as 0.01"),
        (training(max_steps=10**30), "training.max_steps", "at most 10000000"),
        (training(seed=True), "training.seed", "Use a whole number from 0 to 4294967295"),
        (training(lr=1), "training.lr", "Remove it, or look up its spelling in /api/v1/openapi.json"),
        ({"base_model": "tiny\0"}, "base_model", "Remove it, or use a plain space"),
        ({"dataset": " "}, "dataset", "at least 1 characters"),
    ],
)
def test_a_wrong_run_is_answered_with_one_field_and_its_remedy(
    api: TestClient,
    bell: SilentBell,
    change: dict[str, Any],
    path: str,
    remedy: str,
) -> None:
    answer = api.post("runs", json=RUN | change)
    assert answer.status_code == 422
    assert [(e["path"], e["remedy"]) for e in answer.json()["errors"]] == [(path, remedy)]
    assert bell.rung == []


@pytest.mark.parametrize(
    ("change", "path", "says"),
    [
        ({"name": "a\u202eb"}, "name", "U+202E"),
        ({"arms": [{"name": "a\0b", **FULL}]}, "arms.0.name", "U+0000"),
        ({"arms": [FULL, FULL]}, "arms.1.name", "there twice"),
        ({"arms": [FULL, {"name": "b", **FULL, "learning_rate": 1e-4}]}, "arms.1", "the same as 'full'"),
        ({"arms": [FULL, {"name": "b", **FULL, "weight_decay": 0}]}, "arms.1", "the same as 'full'"),
        ({"reference": "nobody"}, "reference", "is not an arm"),
        ({"seeds": [0, 1, 0]}, "seeds.2", "there twice"),
        ({"seeds": [0, True]}, "seeds.1", "not true or false"),
        ({"seeds": [2**32]}, "seeds.0", "less than 4294967296"),
        ({"margin_points": "nan"}, "margin_points", "finite number"),
        ({"training": {"learning_rate": 1e-3}}, "training.learning_rate", "arms have learning rates of their own"),
        ({"training": {"seed": 7}}, "training.seed", "runs have seeds of their own"),
    ],
)
def test_a_wrong_study_is_answered_with_one_field_and_a_remedy(
    api: TestClient,
    bell: SilentBell,
    change: dict[str, Any],
    path: str,
    says: str,
) -> None:
    answer = api.post("studies", json=STUDY | change)
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert error["path"] == path
    assert says in error["message"] and error["remedy"]
    assert bell.rung == []


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

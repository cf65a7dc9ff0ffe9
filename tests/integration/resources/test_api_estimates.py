"""Estimates over HTTP, on SQLite and on PostgreSQL."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.domain.failures import Failure, FailureCode
from app.domain.resources.devices import GIB, GPU_MODELS
from app.services.runs import attempts
from app.store.database.session import Database
from tests.integration.resources.test_estimates import sign_on
from tests.integration.resources.test_memory_fit import answer
from tests.integration.web.test_api import RUN, STUDY
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.estimates import ledger

FULL = RUN | {"method": {"kind": "full"}}
CONFIG = {"model_type": "llama", "hidden_size": 64}


@contextmanager
def control_worker(db: Database, bell: SilentBell) -> Iterator[None]:
    """Somebody who works out what is asked for, a moment later."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.05):
            answer(db, bell)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join()


def settled(api: TestClient, db: Database, bell: SilentBell, body: Any) -> dict[str, Any]:
    """Ask until nothing more comes."""
    while True:
        found = api.post("estimates", json=body)
        if found.status_code == 200:
            found_body: dict[str, Any] = found.json()
            return found_body
        assert found.status_code == 202
        answer(db, bell)


def test_pending_estimates_are_answered_at_once_with_their_ids(
    api: TestClient, registered: Database, bell: SilentBell
) -> None:
    sign_on(registered, memory_bytes=64 * GIB)
    found = api.post("estimates", json=STUDY)
    assert found.status_code == 202
    body = found.json()
    assert (body["settled"], body["pending"], len(body["estimate_ids"])) == (False, 6, 6)
    one = api.get(f"estimates/{body['estimate_ids'][0]}").json()
    assert (one["kind"], one["state"], one["estimate"]) == ("run", "working", None)
    assert one["request"]["method"]["kind"] == "full"
    answer(registered, bell)
    assert api.get(f"estimates/{body['estimate_ids'][0]}").json()["estimate"]["ledger"]["owners"]["weights"] > 0
    body = settled(api, registered, bell, STUDY)
    [full, lora] = body["arms"]
    assert [found["device"]["name"] for found in full["devices"]] == ["w1", *(gpu.name for gpu in GPU_MODELS)]
    assert (lora["name"], lora["devices"][0]["fit"]) == ("LoRA r=2", "fits")
    assert {need["estimate_id"] for arm in body["arms"] for need in arm["estimates"]} == set(body["estimate_ids"])
    assert "arm_estimate" not in full["devices"][0]


def test_a_waiting_request_is_answered_once_estimates_and_savings_are_ready(
    api: TestClient, registered: Database, bell: SilentBell
) -> None:
    sign_on(registered, memory_bytes=8 * GIB)
    with control_worker(registered, bell):
        began = time.monotonic()
        found = api.post("estimates", params={"wait": 30}, json=FULL)
    assert found.status_code == 200 and time.monotonic() - began < 20
    [device, *_] = found.json()["arms"][0]["devices"]
    assert device["fit"] == "does_not_fit"
    assert [way["name"] for way in device["memory_savings"]] == ["lora", "checkpointing"]


def test_patience_has_an_end(api: TestClient) -> None:
    began = time.monotonic()
    assert api.post("estimates", params={"wait": 0.6}, json=FULL).status_code == 202
    assert time.monotonic() - began >= 0.6
    assert api.post("estimates", params={"wait": 31}, json=FULL).status_code == 422


def test_methods_are_estimated_on_a_registered_model_or_a_pasted_config(
    api: TestClient, registered: Database, bell: SilentBell
) -> None:
    for model in ({"base_model": "tiny"}, {"config": CONFIG, "task": "causal-lm"}):
        body = settled(api, registered, bell, model | {"methods": [{"kind": "full"}, {"kind": "lora"}]})
        assert [arm["name"] for arm in body["arms"]] == ["full", "LoRA r=8"]


METHODS = {"methods": [{"kind": "full"}]}


@pytest.mark.parametrize(
    ("body", "path", "says"),
    [
        ({"base_model": "tiny"}, "", "none of arms, method and methods"),
        (STUDY | METHODS, "", "more than one of arms, methods"),
        (STUDY | {"arms": [{"method": {"kind": "lora", "r": 0}}]}, "arms.0.method.r", "Must be 1 or more"),
        (RUN | {"method": {"kind": "lorra"}}, "method", "lorra"),
        (RUN | {"base_model": "gone"}, "base_model", "There is no base model 'gone'"),
        ({"base_model": "tiny", "methods": [{"kind": "lora", "r": 0}]}, "methods.0.r", "Must be 1 or more"),
        ({"base_model": "tiny", "methods": []}, "methods", "1 or more entries"),
        (METHODS, "base_model", "Neither a base model nor a config"),
        (METHODS | {"base_model": "tiny", "config": CONFIG}, "config", "Both a base model and a config"),
        (METHODS | {"config": {"hidden_size": 64}}, "config.model_type", "does not name its model_type"),
        (METHODS | {"config": CONFIG | {"x": "\0"}}, "config", "NUL"),
        (METHODS | {"config": CONFIG | {"x": "\ud800"}}, "config", "JSON does not allow"),
        (METHODS | {"config": CONFIG | {"x": "x" * 200_000}}, "config", "longer than 200000"),
        (METHODS | {"base_model": "tiny", "training": {"max_length": 513}}, "training.max_length", "512 positions"),
        ([STUDY], "", "none of arms, method and methods"),
    ],
)
def test_an_invalid_estimate_request_is_refused_with_the_field(
    api: TestClient, body: Any, path: str, says: str
) -> None:
    found = api.post("estimates", content=json.dumps(body), headers={"content-type": "application/json"})
    assert found.status_code == 422, found.text
    assert found.headers["content-type"] == "application/problem+json"
    [error] = [e for e in found.json()["errors"] if e["path"] == path][:1]
    assert says in error["message"]


def test_an_absent_estimate_is_a_404(api: TestClient) -> None:
    assert api.get("estimates/99").status_code == 404
    assert api.get(f"estimates/{2**31}").status_code == 404
    assert api.get("estimates/accuracy").json() == []


def test_a_run_that_fits_no_worker_is_queued_only_with_insist(
    api: TestClient, registered: Database, bell: SilentBell
) -> None:
    sign_on(registered, memory_bytes=8 * GIB)
    assert api.post("runs", json=FULL).status_code == 202  # not known yet
    settled(api, registered, bell, STUDY)
    for path, body, field in (("runs", FULL, "method"), ("studies", STUDY, "arms.0.method")):
        before = len(api.get("runs").json()["items"])
        refused = api.post(path, json=body)
        assert refused.status_code == 422
        [error] = refused.json()["errors"]
        assert error["path"] == field
        assert "needs an estimated 10.0 GiB" in error["message"] and "w1 has 8.0 GiB" in error["message"]
        assert error["remedy"].startswith("Change this: LoRA instead of full fine-tuning, which saves 5.0 GiB")
        assert len(api.get("runs").json()["items"]) == before
        assert api.post(path, params={"insist": True}, json=body).status_code == 202
    assert api.post("runs", json=RUN).status_code == 202


def test_the_fit_of_a_run_that_ran_out_of_memory_has_its_ledger_and_savings(
    api: TestClient, registered: Database, bell: SilentBell
) -> None:
    sign_on(registered, memory_bytes=64 * GIB)
    run = api.post("runs", json=FULL).json()
    answer(registered, bell)
    held = ledger(9 * GIB)
    with registered.transaction() as session:
        mine = attempts.claim(session, run["id"], "w1", 45)
        assert mine is not None
        attempts.fail(session, bell, mine, Failure(code=FailureCode.OUT_OF_MEMORY, message="no room", ledger=held))
    run = api.get(f"runs/{run['id']}").json()
    assert run["failure"]["ledger"] == held.model_dump(mode="json")
    assert (run["estimate_id"], run["estimated_bytes"]) == (1, 10 * GIB)
    first = api.get(f"runs/{run['id']}/fit").json()
    assert (first["savings_pending"] > 0, first["oom_ledger"]) == (True, held.model_dump(mode="json"))
    answer(registered, bell)
    found = api.get(f"runs/{run['id']}/fit").json()
    assert [(way["name"], way["saved_bytes"]) for way in found["memory_savings"]] == [
        ("lora", 5 * GIB),
        ("checkpointing", 10 * GIB // 4),
    ]
    assert api.get("runs/99/fit").status_code == 404


def test_a_map_is_worked_out_once_and_read_again(api: TestClient, registered: Database, bell: SilentBell) -> None:
    asked = {"task": "sequence-classification", "device": "H200", "methods": ["full", "lora"], "lengths": [8, 64]}
    first = api.get("models/tiny/map", params=asked | {"batch_sizes": [1, 8]})
    assert (first.status_code, first.json()["state"]) == (202, "working")
    with control_worker(registered, bell):
        found = api.get("models/tiny/map", params=asked | {"batch_sizes": [8, 1], "wait": 20})
    assert found.status_code == 200
    body = found.json()
    assert (body["device"]["name"], body["batch_sizes"], len(body["cells"])) == ("H200", [1, 8], 8)
    assert all(boundary["rows"] == 8 for boundary in body["boundaries"])
    assert body["estimate_id"] == first.json()["estimate_id"]
    assert api.get(f"estimates/{body['estimate_id']}").json()["kind"] == "map"


def test_a_worker_says_whether_it_has_bfloat16(api: TestClient, registered: Database) -> None:
    sign_on(registered, bf16=True)
    [worker] = api.get("workers").json()
    assert (worker["bf16"], worker["matmul_flops"]) == (True, None)

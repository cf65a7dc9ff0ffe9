"""The REST API, by HTTP, on SQLite and on PostgreSQL."""

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from fastapi.sse import ServerSentEvent
from fastapi.testclient import TestClient
from pydantic import SecretStr

from app.domain.failures import Failure, FailureCode
from app.domain.methods import SPECS
from app.domain.runs.job import EvaluationReport, StepsReport
from app.domain.runs.result import STEP_DTYPE, ArtifactFile
from app.domain.runs.status import RunStatus
from app.domain.studies.spec import StudyStatus
from app.main import create_app
from app.services.runs import attempts
from app.settings import Settings
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.runs import queries as runs
from app.store.runs import steps
from app.web.api.runs import events as streams
from app.web.http.feed import Feed
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.results import evaluation, result, step

LATER = 10**6
"""The id of an event after all that there are."""
LORA = {"kind": "lora", "r": 2, "target_modules": ["query", "value"]}
RUN: dict[str, Any] = {"base_model": "tiny", "dataset": "small", "method": LORA}
STUDY: dict[str, Any] = {
    "name": "Small study",
    "base_model": "tiny",
    "dataset": "small",
    "arms": [{"method": {"kind": "full"}}, {"method": LORA}],
    "seeds": [0, 1],
    "margin_points": 5,
}


def finish(db: Database, run_id: int, accuracy: float) -> None:
    """Take a run through to success, with scores of eight items."""
    right = round(accuracy * 8)
    with db.transaction() as session:
        mine = attempts.claim(session, run_id, "w1", 45)
        assert mine is not None
        items = [f"item{i}" for i in range(8)]
        reports = [
            StepsReport(steps=[step(n, 1 / n) for n in range(1, 11)]),
            EvaluationReport(evaluation=evaluation("base", accuracy=0.25), items=items, scores=[1, 1] + [0] * 6),
            EvaluationReport(
                evaluation=evaluation(accuracy=accuracy), items=items, scores=[1] * right + [0] * (8 - right)
            ),
        ]
        attempts.report(session, mine, 1, reports, 45)
        attempts.finish(session, SilentBell(), mine, result(accuracy), {})


def test_a_run_is_accepted_listed_and_read(api: TestClient) -> None:
    answer = api.post("runs", json=RUN)
    assert answer.status_code == 202
    run = answer.json()
    assert (run["status"], run["arm"], run["spec"]["training"]["learning_rate"]) == (
        "queued",
        "LoRA r=2",
        SPECS["lora"]().learning_rate(),
    )
    assert api.get(f"runs/{run['id']}").json() == run
    assert [r["id"] for r in api.get("runs").json()["items"]] == [run["id"]]


def test_pages_follow_a_key(api: TestClient) -> None:
    ids = [api.post("runs", json=RUN).json()["id"] for _ in range(5)]
    seen: list[int] = []
    after: int | None = None
    while True:
        query = {"limit": 2} | ({"after": after} if after else {})
        page = api.get("runs", params=query).json()
        seen += [r["id"] for r in page["items"]]
        after = page["next_after"]
        if not page["has_more"]:
            break
    assert seen == ids[::-1]


@pytest.mark.parametrize(
    ("change", "path", "says"),
    [
        ({"method": {"kind": "lorra"}}, "method", "lorra"),
        ({"method": {"kind": "lora", "rank": 4}}, "method.rank", "There is no such field"),
        ({"method": {"kind": "lora", "target_modules": []}}, "method.target_modules", "No module is named"),
        ({"training": {"max_length": 513}}, "training.max_length", "has 512 positions"),
        ({"base_model": "gone"}, "base_model", "There is no base model 'gone'"),
        ({"dataset": "gone"}, "dataset", "There is no dataset 'gone'"),
    ],
)
def test_a_wrong_run_is_refused_with_the_field_and_nothing_is_queued(
    api: TestClient, bell: SilentBell, change: dict[str, Any], path: str, says: str
) -> None:
    answer = api.post("runs", json=RUN | change)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert [e["path"] for e in problem["errors"]] == [path]
    assert says in problem["errors"][0]["message"]
    assert api.get("runs").json()["items"] == []
    assert bell.rung == []


def test_a_study_owes_arms_times_seeds_and_is_weighed_as_they_end(api: TestClient, registered: Database) -> None:
    study = api.post("studies", json=STUDY).json()
    assert (study["status"], len(study["runs"]), study["done"]) == ("queued", 4, 0)
    for run_id, accuracy in zip(study["runs"], (1.0, 0.25, 0.875, 0.25), strict=True):
        finish(registered, run_id, accuracy)
    assert api.get(f"studies/{study['id']}").json()["status"] == "finished"
    found = api.get(f"studies/{study['id']}/comparison").json()
    full, lora = found["arms"]
    assert full["reference"] and full["score"]["mean"] == pytest.approx(0.9375)
    assert found["metric"] == "accuracy" and full["forgetting"] is None
    assert lora["verdict"]["delta"] == pytest.approx(0.25 - 0.9375)
    assert lora["verdict"]["low"] < lora["verdict"]["delta"] < lora["verdict"]["high"]
    assert found["base_score"]["mean"] == pytest.approx(0.25)
    assert found["items"] == 8 and found["complete"]
    best = api.get(f"runs/{study['runs'][0]}").json()
    assert (best["metric"], best["score"], best["base_score"]) == ("accuracy", 1.0, 0.25)


def test_seeds_are_added_to_every_arm(api: TestClient) -> None:
    study = api.post("studies", json=STUDY).json()
    more = api.post(f"studies/{study['id']}/seeds", json={"count": 2}).json()
    assert more["spec"]["seeds"] == [0, 1, 2, 3]
    assert len(more["runs"]) == 8
    assert api.post(f"studies/{study['id']}/seeds", json={"count": 99}).status_code == 422
    assert len(api.get(f"studies/{study['id']}").json()["runs"]) == 8


def test_seeds_that_are_added_after_results_had_been_seen_are_another_look(
    api: TestClient, registered: Database
) -> None:
    study = api.post("studies", json=STUDY).json()

    def looks(count: int) -> tuple[int, float]:
        assert api.post(f"studies/{study['id']}/seeds", json={"count": count}).status_code == 202
        found = api.get(f"studies/{study['id']}/comparison").json()
        return found["interim_looks"], round(found["confidence"], 6)

    assert looks(1) == (0, 0.95)
    finish(registered, study["runs"][0], 0.5)
    assert looks(1) == (1, 0.99)
    assert looks(1) == (2, 0.998)


def test_cancelling_what_was_planned_is_another_look_once_results_are_seen(
    api: TestClient, registered: Database
) -> None:
    def looks(study: dict[str, Any]) -> tuple[int, float]:
        found = api.get(f"studies/{study['id']}/comparison").json()
        return found["interim_looks"], round(found["confidence"], 6)

    unseen, seen, by_run, stopped = (api.post("studies", json=STUDY).json() for _study in range(4))
    api.post(f"studies/{unseen['id']}/cancel")
    assert looks(unseen) == (0, 0.95)
    finish(registered, seen["runs"][0], 0.5)
    assert api.post(f"studies/{seen['id']}/cancel").status_code == 202
    assert looks(seen) == (1, 0.99)
    assert api.post(f"studies/{seen['id']}/cancel").status_code == 409
    assert looks(seen) == (1, 0.99), "nothing was cancelled"
    finish(registered, stopped["runs"][0], 0.5)
    assert api.post(f"studies/{stopped['id']}/arms/LoRA r=2/stop").status_code == 202
    assert looks(stopped) == (1, 0.99), "of two arms none is left to compare with"
    first, early, *late = by_run["runs"]
    api.post(f"runs/{early}/cancel")
    finish(registered, first, 0.5)
    assert looks(by_run) == (0, 0.95), "it was cancelled before the first result"
    for run in late:
        assert api.post(f"runs/{run}/cancel").status_code == 202
    assert looks(by_run) == (1, 0.99), "one look, however many runs it ends"


def test_an_arm_that_failed_with_every_seed_gets_no_more(
    api: TestClient, registered: Database, bell: SilentBell
) -> None:
    study = api.post("studies", json=STUDY).json()
    for run_id in study["runs"]:
        with registered.transaction() as session:
            mine = attempts.claim(session, run_id, "w1", 45)
            assert mine is not None
            if mine.spec.method.kind == "full":
                attempts.fail(session, bell, mine, Failure(code=FailureCode.OUT_OF_MEMORY, message="too large"))
            else:
                attempts.stop(session, bell, mine)
    more = api.post(f"studies/{study['id']}/seeds", json={"count": 1}).json()
    added = [api.get(f"runs/{run_id}").json() for run_id in more["runs"] if run_id not in study["runs"]]
    assert [(run["arm"], run["spec"]["training"]["seed"]) for run in added] == [("LoRA r=2", 2)]


def test_new_seeds_are_the_smallest_that_the_study_lacks(api: TestClient) -> None:
    study = api.post("studies", json=STUDY | {"seeds": [0, 2**32 - 1]}).json()
    more = api.post(f"studies/{study['id']}/seeds", json={"count": 2}).json()
    assert more["spec"]["seeds"] == [0, 2**32 - 1, 1, 2]


def test_a_study_is_cancelled_once(api: TestClient) -> None:
    study = api.post("studies", json=STUDY).json()
    assert api.post(f"studies/{study['id']}/cancel").json()["status"] == "cancelled"
    assert api.post(f"studies/{study['id']}/cancel").status_code == 409
    assert api.get(f"runs/{study['runs'][0]}").json()["status"] == "cancelled"


def test_cancelling_an_absent_or_ended_run_is_refused(api: TestClient, registered: Database) -> None:
    assert api.post("runs/99/cancel").json()["detail"] == "There is no run 99."
    run_id = api.post("runs", json=RUN).json()["id"]
    finish(registered, run_id, 0.5)
    answer = api.post(f"runs/{run_id}/cancel")
    assert (answer.status_code, answer.json()["title"]) == (409, "Conflict")


def test_a_number_that_no_run_can_have_is_absent_and_no_mistake(api: TestClient) -> None:
    huge = 10**22
    for path in (f"runs/{huge}", f"studies/{huge}", f"artifacts/{huge}", f"runs/{huge}/steps"):
        assert api.get(path).status_code == 404, path
    assert api.get("runs", params={"after": huge}).status_code == 422
    assert api.get("runs", params={"study": huge}).status_code == 422


def test_steps_are_downsampled_to_the_requested_number(api: TestClient, registered: Database) -> None:
    run_id = api.post("runs", json=RUN).json()["id"]
    finish(registered, run_id, 0.5)
    whole = api.get(f"runs/{run_id}/steps").json()
    assert (whole["total"], whole["thinned"], whole["step"]) == (10, False, list(range(1, 11)))
    thin = api.get(f"runs/{run_id}/steps", params={"points": 4}).json()
    assert thin["thinned"] and len(thin["step"]) == 4
    assert (thin["step"][0], thin["step"][-1]) == (1, 10)
    assert api.get(f"runs/{run_id}/steps", params={"after_step": 8}).json()["step"] == [9, 10]
    assert api.get(f"runs/{run_id}/steps", params={"after_step": 10**20}).status_code == 422


def test_steps_have_only_the_requested_columns(api: TestClient, registered: Database) -> None:
    run_id = api.post("runs", json=RUN).json()["id"]
    finish(registered, run_id, 0.5)
    whole = api.get(f"runs/{run_id}/steps").json()
    some = api.get(f"runs/{run_id}/steps", params={"columns": ["loss", "seconds"]}).json()
    assert {name for name, column in some.items() if column is None} == {
        "epoch", "learning_rate", "grad_norm", "tokens", "memory_bytes",
    }  # fmt: skip
    for name in ("step", "loss", "seconds"):
        assert some[name] == whole[name] and len(some[name]) == 10
    refused = api.get(f"runs/{run_id}/steps", params={"columns": "accuracy"})
    assert refused.status_code == 422 and "grad_norm" in refused.text


def test_steps_of_all_reports_are_returned_with_null_for_numbers_that_are_not_finite(
    api: TestClient, registered: Database
) -> None:
    run_id = api.post("runs", json=RUN).json()["id"]
    assert api.get(f"runs/{run_id}/steps").json()["step"] == []
    losses = [2.0, float("nan"), float("inf"), 1.25, 1.0]
    with registered.transaction() as session:
        for numbers in ([1, 2], [3, 4, 5]):
            reported = np.zeros(len(numbers), dtype=STEP_DTYPE)
            reported["step"], reported["loss"] = numbers, [losses[number - 1] for number in numbers]
            reported["tokens"] = [170 * number for number in numbers]
            steps.append(session, run_id, reported)
    answer = api.get(f"runs/{run_id}/steps").json()
    assert (answer["step"], answer["loss"]) == ([1, 2, 3, 4, 5], [2.0, None, None, 1.25, 1.0])
    assert answer["tokens"] == [170, 340, 510, 680, 850]
    assert api.get(f"runs/{run_id}/steps", params={"after_step": 1}).json()["step"] == [2, 3, 4, 5]


def events_of(text: str) -> list[tuple[str, Any]]:
    """(event, data) of a stream of server-sent events."""
    found = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found


def test_the_events_of_a_run_end_with_it_and_resume_after_the_last_seen(api: TestClient, registered: Database) -> None:
    run_id = api.post("runs", json=RUN).json()["id"]
    finish(registered, run_id, 0.5)
    events = events_of(api.get(f"runs/{run_id}/events").text)
    lines = [data for kind, data in events if kind == "log"]
    assert [line["message"] for line in lines][:2] == ["queued", "claimed by w1, attempt 1"]
    assert ("status", {"status": "succeeded"}) in events
    later = events_of(api.get(f"runs/{run_id}/events", headers={"Last-Event-ID": str(lines[1]["id"])}).text)
    assert [data for kind, data in later if kind == "log"] == lines[2:]
    assert api.get("runs/99/events").status_code == 404


def test_the_events_of_a_study_end_with_its_last_run(api: TestClient) -> None:
    study = api.post("studies", json=STUDY).json()
    api.post(f"studies/{study['id']}/cancel")
    events = events_of(api.get(f"studies/{study['id']}/events").text)
    assert [kind for kind, _ in events] == ["progress", "status", "end"]
    assert events[0][1]["done"] == 4


def test_one_stream_too_many_is_a_503_that_says_when_to_try_again(api: TestClient) -> None:
    run_id = api.post("runs", json=RUN).json()["id"]
    api.app.state.feed = Feed(lambda: None, most=0)  # type: ignore[attr-defined, return-value, arg-type]
    answer = api.get(f"runs/{run_id}/events")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "event streams are open" in answer.json()["detail"]


def first_kinds(stream: AsyncIterator[ServerSentEvent], events: int) -> list[str | None]:
    """The kinds of the first events of a stream that goes on."""

    async def look() -> list[str | None]:
        return [(await anext(stream)).event for _ in range(events)]

    return asyncio.run(look())


def test_a_client_with_an_outdated_status_gets_a_status_event_at_once(api: TestClient, registered: Database) -> None:
    study = api.post("studies", json=STUDY).json()["id"]
    with registered.transaction() as session:
        run, _waiting, *_others = (row.id for row in runs.of_study(session, study))
        attempts.claim(session, run, "w1", 45)
    feed = partial(Feed, lambda: registered)  # each stream runs in an event loop of its own
    assert first_kinds(streams.of_run(feed(), registered, run, LATER, RunStatus.QUEUED), 2) == ["progress", "status"]
    assert first_kinds(streams.of_study(feed(), registered, study, StudyStatus.QUEUED, 0), 2) == ["progress", "status"]
    assert first_kinds(streams.of_study(feed(), registered, study, StudyStatus.RUNNING, 1), 2) == ["progress", "status"]


@pytest.mark.timeout(30)
@pytest.mark.parametrize("shown", [None, RunStatus.RUNNING])
def test_a_client_with_the_current_status_gets_no_status_event(
    api: TestClient, registered: Database, shown: RunStatus | None
) -> None:
    run = api.post("runs", json=RUN).json()["id"]
    with registered.transaction() as session:
        mine = attempts.claim(session, run, "w1", 45)
        assert mine is not None

    async def look() -> list[str | None]:
        stream = streams.of_run(Feed(lambda: registered), registered, run, LATER, shown)
        kinds = [(await anext(stream)).event]
        with registered.transaction() as session:
            attempts.report(session, mine, 1, [StepsReport(steps=[step(1, 1.0)])], 45)
        return [*kinds, (await anext(stream)).event]

    assert asyncio.run(look()) == ["progress", "progress"]


def test_an_artifact_is_downloaded_as_an_attachment(
    api: TestClient, registered: Database, files: Files, tmp_path: Any
) -> None:
    run_id = api.post("runs", json=RUN).json()["id"]
    local = tmp_path / "x"
    local.write_bytes(b"weights")
    files.put(local, f"runs/{run_id}/1/adapter/adapter_model.safetensors")
    found = result().model_copy(
        update={
            "artifacts": [ArtifactFile(name="adapter/adapter_model.safetensors", kind="adapter", bytes=7, sha256="ab")]
        }
    )
    with registered.transaction() as session:
        mine = attempts.claim(session, run_id, "w1", 45)
        assert mine is not None
        name = "adapter/adapter_model.safetensors"
        attempts.finish(session, SilentBell(), mine, found, {name: f"runs/{run_id}/1/{name}"})
    [artifact] = api.get(f"runs/{run_id}/artifacts").json()
    answer = api.get(f"artifacts/{artifact['id']}/content")
    assert answer.content == b"weights"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert api.get("artifacts/99/content").status_code == 404


def test_models_are_registered_once_and_only_below_an_allowed_root(api: TestClient, bell: SilentBell) -> None:
    sample = {"name": "sample", "source": "sample"}
    assert api.post("models", json=sample).json()["status"] == "inspecting"
    assert api.post("models", json=sample).status_code == 202
    assert len(bell.rung) == 1
    assert api.post("models", json={"name": "sample", "source": "hub", "location": "a/b"}).status_code == 409
    outside = api.post("models", json={"name": "x", "source": "directory", "location": "/etc"})
    assert outside.status_code == 422
    assert outside.json()["errors"][0]["path"] == "location"
    waiting = api.post("runs", json=RUN | {"base_model": "sample"}).json()["errors"]
    assert waiting[0]["message"] == "The base model 'sample' is still being inspected"
    assert api.get("models/tiny").json()["facts"]["architecture"] == "BertModel"
    assert api.get("models/gone").status_code == 404


def test_datasets_and_workers_are_listed(api: TestClient) -> None:
    [dataset] = api.get("datasets").json()
    assert dataset["facts"]["counts"] == {"train": 24, "validation": 8, "test": 8}
    assert dataset.items() <= api.get("datasets/small").json().items()
    assert api.get("workers").json() == []


def test_probes_name_the_failing_part(api: TestClient, bell: SilentBell) -> None:
    root = "http://127.0.0.1"
    assert api.get(f"{root}/livez").json() == {"status": "ok"}
    assert api.get(f"{root}/readyz").status_code == 200
    bell.there = False
    answer = api.get(f"{root}/readyz")
    assert (answer.status_code, answer.json()["broker"]) == (503, "no answer")
    api.post("runs", json=RUN)
    metrics = api.get(f"{root}/metrics").text
    assert 'vezna_runs{status="queued"} 1.0' in metrics
    assert 'operation="submitRun",status="202"' in metrics


def test_a_run_is_accepted_while_the_broker_is_away(api: TestClient, bell: SilentBell) -> None:
    bell.there = False
    assert api.post("runs", json=RUN).status_code == 202


def test_a_write_from_another_site_is_refused(api: TestClient) -> None:
    assert api.post("runs", json=RUN, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert api.post("runs", json=RUN, headers={"Origin": "http://evil.example"}).status_code == 403
    assert api.post("runs", json=RUN, headers={"Origin": "http://127.0.0.1"}).status_code == 202


def test_a_server_called_by_a_foreign_name_does_not_answer(api: TestClient) -> None:
    assert api.get("runs", headers={"Host": "rebound.example"}).status_code == 400


@pytest.mark.slow
def test_the_documentation_has_an_example_on_every_body_and_names_a_person_would_choose(api: TestClient) -> None:
    document = api.get("openapi.json").json()
    names = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            names.append(operation["operationId"])
            assert operation.get("description"), (method, path)
            body = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if body:
                schema = document["components"]["schemas"].get(body["schema"].get("$ref", "").rpartition("/")[2], {})
                assert "examples" in body or "example" in schema, (method, path)
    assert len(set(names)) == len(names)
    assert {"submitStudy", "getRun", "watchRun", "downloadArtifact"} <= set(names)


def test_it_refuses_to_start_on_a_database_that_it_does_not_know(tmp_path: Any) -> None:
    settings = Settings(home=tmp_path, database_url=SecretStr(f"sqlite:///{tmp_path / 'empty.sqlite'}"))
    with pytest.raises(Exception, match="vezna migrate"), TestClient(create_app(settings)):
        pass

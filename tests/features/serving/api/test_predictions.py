"""POST /api/v1/runs/{id}/predict: in batches, in order, and clear about what it refuses."""

from base64 import b64encode
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from app.domain.errors import Invalid
from app.domain.messages import Message
from app.features.serving.rules import Picture, failed, too_long
from app.store.tables import RunRow
from tests.support.fakes.inference import FakeExchange, classified, tagged
from tests.unit.web.conftest import become_tagger, database_of

PROBABILITIES = {"business": 0.1, "tech": 0.9}


def exchange(client: TestClient, answer: Any) -> FakeExchange:
    """A worker behind the application that answers at once."""
    fake = client.app.state.exchange = FakeExchange(answer)  # type: ignore[attr-defined]
    return fake


def run_id(client: TestClient, status: str = "succeeded", task: str = "sequence-classification") -> int:
    """A run of the filled database."""
    with database_of(client).reading() as session:
        query = select(RunRow.id).where(RunRow.status == status, RunRow.task == task, RunRow.trial_round.is_(None))
        found = session.scalars(query.order_by(RunRow.id)).first()
    assert found is not None
    return found


def problem(answer: Any) -> tuple[int, str, str]:
    """Status, path and message of the first error."""
    body = answer.json()
    first = body["errors"][0] if body.get("errors") else {"path": "", "message": body["detail"]}
    return answer.status_code, first["path"], first["message"]


def test_predictions_are_in_the_order_of_the_inputs(full: TestClient) -> None:
    run = run_id(full)

    def backwards(request: Any) -> list[dict[str, Any]]:
        events = classified("tech", PROBABILITIES)(request)
        for event in events[1:]:
            event["predictions"][0]["label"] = request.inputs[event["predictions"][0]["index"]]
        return [events[0], *events[:0:-1]]

    fake = exchange(full, backwards)
    answer = full.post(f"/api/v1/runs/{run}/predict", json={"inputs": ["a", "b", "c"]})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert [one["label"] for one in body["predictions"]] == ["a", "b", "c"]
    assert body["predictions"][0] == {"label": "a", "probabilities": PROBABILITIES, "tokens": 4}
    assert (body["run_id"], body["task"]) == (run, "sequence-classification")
    [request] = fake.requests
    assert [subject.run_id for subject in request.subjects] == [run] and request.kind == "predict"
    assert not request.importance and not request.truncate and fake.closed == 1


@pytest.mark.parametrize(
    ("body", "path", "says"),
    [
        ({"inputs": []}, "inputs", "1 or more"),
        ({"inputs": ["a"] * 257}, "inputs", "256"),
        ({"inputs": ["a", " "]}, "inputs.1", "empty"),
        ({"inputs": [[{"role": "user", "content": "hello"}]]}, "inputs.0", "reads no conversation"),
        ({"inputs": [["a", "word"]]}, "inputs.0", "reads no list of words"),
        ({"inputs": ["a"], "decoding": {"temperature": 3}}, "decoding.temperature", "2 or less"),
        ({"inputs": ["a"], "tempo": 1}, "tempo", "no such field"),
    ],
)
def test_a_wrong_request_is_refused_before_a_worker_is_asked(
    full: TestClient, body: dict[str, Any], path: str, says: str
) -> None:
    fake = exchange(full, classified("tech", PROBABILITIES))
    status, where, message = problem(full.post(f"/api/v1/runs/{run_id(full)}/predict", json=body))
    assert (status, where) == (422, path) and says in message, message
    assert not fake.requests


@pytest.mark.parametrize("status", ["running", "failed", "cancelled"])
def test_a_run_that_has_not_succeeded_is_refused_by_its_status(full: TestClient, status: str) -> None:
    exchange(full, classified("tech", PROBABILITIES))
    answer = full.post(f"/api/v1/runs/{run_id(full, status)}/predict", json={"inputs": ["a"]})
    assert problem(answer)[:2] == (422, "run_id") and f"is {status}" in problem(answer)[2]


def test_an_unknown_run_is_not_found(full: TestClient) -> None:
    assert full.post("/api/v1/runs/99999/predict", json={"inputs": ["a"]}).status_code == 404


def test_what_the_worker_refuses_is_a_field_error(full: TestClient) -> None:
    error = Invalid.of([too_long(1, 40, 16, Message("the run was evaluated with at most 16 (max_length)"))])
    exchange(full, lambda _request: [failed(error)])
    status, path, message = problem(full.post(f"/api/v1/runs/{run_id(full)}/predict", json={"inputs": ["a", "b"]}))
    assert (status, path) == (422, "inputs.1") and "40 tokens" in message


def test_a_worker_that_fails_is_503(full: TestClient) -> None:
    exchange(full, lambda _request: [{"type": "failed", "kind": "unavailable", "message": "Too large.", "fields": []}])
    answer = full.post(f"/api/v1/runs/{run_id(full)}/predict", json={"inputs": ["a"]})
    assert answer.status_code == 503 and answer.json()["detail"] == "Too large."


def test_a_long_request_is_answered_in_turns_and_bounded(with_language: TestClient) -> None:
    def answer(request: Any) -> list[dict[str, Any]]:
        if "long" in request.inputs:
            error = too_long(request.inputs.index("long"), 40, 16, Message("the model reads 16"))
            return [failed(Invalid.of([error]))]
        texts = [{"index": n, "text": text, "tokens": 2} for n, text in enumerate(request.inputs)]
        return [{"type": "working"}, {"type": "answers", "subject": 0, "predictions": texts}]

    fake = exchange(with_language, answer)
    address = f"/api/v1/runs/{run_id(with_language, task='causal-lm')}/predict"
    inputs = [f"text {n}" for n in range(256)]
    body: dict[str, Any] = {"inputs": inputs, "decoding": {"max_new_tokens": 128, "temperature": 1.0, "seed": 7}}
    answered = with_language.post(address, json=body).json()
    assert [one["text"] for one in answered["predictions"]] == inputs
    sizes, first = [len(request.inputs) for request in fake.requests], 0
    assert len(sizes) > 1 and sum(sizes) == 256 and len({request.id for request in fake.requests}) == len(sizes)
    for request, size in zip(fake.requests, sizes, strict=True):
        assert request.decoding.seed == 7 + first, "as if it were one request"
        first += size
    status, path, _message = problem(with_language.post(address, json=body | {"inputs": [*inputs[:-1], "long"]}))
    assert (status, path) == (422, "inputs.255")
    fake.requests.clear()
    too_many = with_language.post(address, json=body | {"decoding": {"max_new_tokens": 4096}})
    status, path, message = problem(too_many)
    assert (status, path) == (422, "inputs") and "1048576 tokens" in message and not fake.requests
    assert "at most 8 inputs" in too_many.json()["errors"][0]["remedy"]


def test_a_language_model_answers_with_texts(with_language: TestClient) -> None:
    def answer(request: Any) -> list[dict[str, Any]]:
        told = [{"index": n, "text": f"answer {n}", "tokens": 2} for n in range(len(request.inputs))]
        return [{"type": "answers", "subject": 0, "predictions": told}]

    fake = exchange(with_language, answer)
    run = run_id(with_language, task="causal-lm")
    chat = [{"role": "user", "content": "hello"}]
    body = {"inputs": ["a", chat], "decoding": {"temperature": 0.5, "seed": 3}}
    answered = with_language.post(f"/api/v1/runs/{run}/predict", json=body).json()
    assert answered["predictions"] == [{"text": "answer 0", "tokens": 2}, {"text": "answer 1", "tokens": 2}]
    assert fake.requests[0].decoding.seed == 3 and fake.requests[0].inputs[0] == "a"


def test_a_tagger_answers_with_words_entities_and_their_places(full: TestClient) -> None:
    run = run_id(full)
    become_tagger(full, run)
    fake = exchange(full, tagged({"Ada": "B-PER", "Lovelace": "I-PER"}))
    text = "Hail Ada Lovelace!"
    body = full.post(f"/api/v1/runs/{run}/predict", json={"inputs": [text, ["Ada", "slept"]]}).json()
    first, second = body["predictions"]
    assert body["task"] == "token-classification" and "label" not in first and "text" not in first
    assert first["entities"] == [{"type": "PER", "text": "Ada Lovelace", "start": 5, "end": 17}]
    assert first["words"][1] == {"text": "Ada", "start": 5, "end": 8, "tag": "B-PER", "probability": 0.9}
    assert [word["tag"] for word in second["words"]] == ["B-PER", "O"]
    assert fake.requests[0].inputs == [text, ["Ada", "slept"]]
    status, path, message = problem(full.post(f"/api/v1/runs/{run}/predict", json={"inputs": [["Ada", " "]]}))
    assert (status, path) == (422, "inputs.0") and "A word is empty" in message


def test_images_and_texts_go_to_the_models_that_read_them(full: TestClient) -> None:
    run = run_id(full)
    image = {"image": b64encode(b"a picture").decode()}
    [error] = full.post(f"/api/v1/runs/{run}/predict", json={"inputs": [image]}).json()["errors"]
    assert (error["path"], error["message"]) == (
        "inputs.0", "A model for sequence-classification reads texts, not images",
    )  # fmt: skip
    become_tagger(full, run, "image-classification")
    [error] = full.post(f"/api/v1/runs/{run}/predict", json={"inputs": [image, "a text"]}).json()["errors"]
    assert (error["path"], error["message"]) == (
        "inputs.1", "A model for image-classification reads images, not texts",
    )  # fmt: skip
    many = full.post(f"/api/v1/runs/{run}/predict", json={"inputs": [image] * 17}).json()
    assert many["errors"][0]["message"] == "A request has at most 16 images"
    broken = full.post(f"/api/v1/runs/{run}/predict", json={"inputs": [{"image": "no base64!"}]})
    assert broken.status_code == 422 and "This is not base64" in broken.text
    fake = exchange(full, classified("cat", {"cat": 0.75, "dog": 0.25}))
    answer = full.post(f"/api/v1/runs/{run}/predict", json={"inputs": [image]}).json()
    assert answer["predictions"][0]["probabilities"] == {"cat": 0.75, "dog": 0.25}
    assert fake.requests[0].inputs == [Picture.of(b"a picture")]

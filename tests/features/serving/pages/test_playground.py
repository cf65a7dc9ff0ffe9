"""The playground: its page without scripts, and the events of language models."""

import json
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from app.domain.errors import Unavailable
from app.features.serving.pages.playground import context
from app.features.serving.pages.playground.context import FlipPlace, PlaygroundPage
from app.features.serving.pages.playground.form import PlaygroundQuery
from app.features.serving.rules import MOST_PICTURE_BYTES, InferenceRequest, Picture, Subject, failed
from app.features.serving.services import inference
from app.store.tables import RunRow
from app.web.http import csrf
from tests.support.fakes.inference import FakeExchange, classified, tagged, written
from tests.support.servers.forms import form_token
from tests.unit.web.conftest import become_tagger, database_of

PROBABILITIES = {"business": 0.02, "entertainment": 0.38, "politics": 0.01, "sport": 0.02, "tech": 0.57}
TEXT = "Bond game fails to <shake>"


def exchange(client: TestClient, answer: Any) -> FakeExchange:
    """A worker behind the application that answers at once."""
    fake = client.app.state.exchange = FakeExchange(answer)  # type: ignore[attr-defined]
    return fake


def runs(client: TestClient, task: str = "sequence-classification", status: str = "succeeded") -> list[int]:
    """Runs of the filled database."""
    with database_of(client).reading() as session:
        query = select(RunRow.id).where(RunRow.status == status, RunRow.task == task, RunRow.trial_round.is_(None))
        return list(session.scalars(query.order_by(RunRow.id)))


def page(client: TestClient, *models: object, **query: object) -> str:
    """The page at an address."""
    pairs = [*(("model", str(model)) for model in models), *((name, str(value)) for name, value in query.items())]
    answer = client.get(f"/playground?{urlencode(pairs)}")
    assert answer.status_code == 200, answer.text
    return answer.text


def test_classifiers_answer_in_the_page_with_bars_and_word_importance(full: TestClient) -> None:
    run, other, *_ = runs(full)
    fake = exchange(full, classified("tech", PROBABILITIES))
    html = page(full, "base", run, other, text=TEXT)
    [request] = fake.requests
    assert [(s.run_id, s.base) for s in request.subjects] == [(run, True), (run, False), (other, False)]
    assert request.importance and request.inputs == [TEXT] and request.kind == "compare"
    assert "All 2 models answer tech" in html  # the untrained base does not count
    assert html.count('<rect width="57.0" height="8" />') == 3
    assert "Bond game fails to &lt;shake&gt;" in html and '<span class="w u3" title="to: 0.300">to</span>' in html
    assert "4 of at most 128 tokens" in html and "head not trained" in html
    assert "<style" not in html and " style=" not in html


@pytest.mark.parametrize(
    ("models", "says"),
    [(["nine"], "neither the number of a run nor base"), ([99999], "no run 99999"), (["RUNNING"], "is running")],
)
def test_a_wrong_model_is_an_error_at_its_field(full: TestClient, models: list[object], says: str) -> None:
    fake = exchange(full, classified("tech", PROBABILITIES))
    named = [runs(full, status="running")[0] if model == "RUNNING" else model for model in models]
    html = page(full, *named, text=TEXT)
    assert says in html and not fake.requests


def test_taggers_mark_entities_in_the_text_and_name_the_words_on_which_they_differ(full: TestClient) -> None:
    run, other, third, *_ = runs(full)
    for one in (run, other):
        become_tagger(full, one)
    fake = exchange(full, tagged({"Ada": "B-PER", "Lovelace": "I-PER"}, {"Ada": "B-PER"}))
    html = page(full, run, other, text="Hail <Ada Lovelace>!")
    [request] = fake.requests
    assert request.inputs == ["Hail <Ada Lovelace>!"] and "The models disagree about 2 entities" in html
    assert 'Hail &lt;<mark class="entity">Ada Lovelace&nbsp;<b>PER</b></mark>&gt;!' in html
    assert 'Hail &lt;<mark class="entity">Ada&nbsp;<b>PER</b></mark> Lovelace&gt;!' in html
    assert [html.count(f"<td>{word}</td>") for word in ("differ", "agree")] == [1, 5]
    exchange(full, tagged({}))
    assert "No entity" in page(full, run, text="Hail") and "<mark" not in page(full, run, text="Hail")
    assert "Compare runs of one task" in page(full, run, third, text="Hail")
    assert f'<option value="{third}">' not in page(full, run) and "which tag each model gives" in page(full, run)


def sent(client: TestClient, picture: bytes | None, *models: object) -> tuple[int, str]:
    """The page that answers the form with a picture."""
    token = form_token(client.get(f"/playground?model={models[0]}"))
    data = {"model": [str(model) for model in models], "csrf_token": token}
    files = {"picture": ("cat.jpg", picture, "image/jpeg")} if picture is not None else {"other": b""}
    answer = client.post("/playground", data=data, files=files)
    return answer.status_code, answer.text


def pictured(request: InferenceRequest) -> list[dict[str, Any]]:
    """A worker that says what it sees."""
    seen = {"type": "seen", "image": "data:image/png;base64,AAAA", "size": [16, 16], "stored_size": [12, 10]}
    return [seen, *classified("cat", {"cat": 0.75, "dog": 0.25})(request)]


def test_a_picture_is_classified_and_forgotten(full: TestClient) -> None:
    run, other, *_ = runs(full)
    for one in (run, other):
        become_tagger(full, one, "image-classification")
    html = page(full, run)
    assert 'enctype="multipart/form-data"' in html and '<input type="file"' in html and "<textarea" not in html
    assert "Choose an image to see which label" in html and "hx-get" not in html.partition('class="try"')[2][:400]
    fake = exchange(full, pictured)
    status, html = sent(full, b"\xff\xd8\xff a picture", run, other)
    [request] = fake.requests
    assert request.inputs == [Picture.of(b"\xff\xd8\xff a picture")] and not request.importance
    assert status == 200 and "All 2 models answer cat" in html and html.count('<rect width="75.0" height="8" />') == 2
    assert "As the model reads it: 16 × 16 pixels, resized from 12 × 10" in html
    assert 'src="data:image/png;base64,AAAA"' in html and "mask token" not in html
    assert fake.closed == 1 and f'value="{run}" checked' in html, "another picture can follow"


def test_the_image_of_a_test_item_is_classified_without_being_sent(
    full: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, *_ = runs(full)
    become_tagger(full, run, "image-classification")
    flip = FlipPlace(1, "study", 0, 2, "dog", "", None, 1, None, "0123456789abcdef")
    monkeypatch.setattr(context, "_flip", lambda *_: flip)
    monkeypatch.setattr(context, "image_of", lambda _files, _dataset, item: f"the image {item}".encode())
    fake = exchange(full, pictured)
    html = page(full, run, study=1, arm="lora", kind="lost", item=0)
    assert fake.requests[0].inputs == [Picture.of(b"the image 0123456789abcdef")]
    assert "wrong: the true label is dog" in html and "Next item that flips" in html


@pytest.mark.parametrize(
    ("picture", "says"),
    [(None, "No image was sent"), (b"", "No image was sent"), (b"x" * (MOST_PICTURE_BYTES + 1), "more than 5 MiB")],
    ids=["none", "empty", "large"],
)
def test_a_form_without_a_usable_picture_is_refused(full: TestClient, picture: bytes | None, says: str) -> None:
    run, *_ = runs(full)
    become_tagger(full, run, "image-classification")
    fake = exchange(full, pictured)
    status, html = sent(full, picture, run)
    assert status == 422 and says in html and fake.requests == [] and 'aria-invalid="true"' in html


def test_a_picture_needs_a_form_of_this_server(full: TestClient) -> None:
    foreign = {csrf.HEADER: "0.0"}
    answer = full.post("/playground", data={"model": "1"}, files={"picture": ("a.jpg", b"x")}, headers=foreign)
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("words", "given"),
    [
        (["New York", "calls"], ["New York", "calls"]),
        (["", "calls"], " calls"),
        (["a" * 1001], "a" * 1001),
        (["a"] * 10_001, " ".join(["a"] * 10_001)),
    ],
    ids=["a space", "empty", "long", "many"],
)
def test_a_test_item_has_the_words_of_the_evaluation_or_its_text(words: list[str], given: Any) -> None:
    text = " ".join(words)
    flip = FlipPlace(1, "study", 0, 1, None, text, None, None, words)
    page = PlaygroundPage(PlaygroundQuery(text=text), tags=True, flip=flip)
    assert page.given == given
    assert replace(page, query=PlaygroundQuery(text=f"{text}!")).given == f"{text}!"
    assert inference.request("compare", [Subject(run_id=1)], [page.given]).inputs == [given]


def test_a_conversation_of_the_test_split_is_named_and_an_edited_one_is_a_prompt(
    with_language: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs(with_language, "causal-lm")[0]
    text = "user: Weather?\ntools: []"
    monkeypatch.setattr(context, "_flip", lambda *_: FlipPlace(3, "study", 7, 9, None, text, "Sun", 8, chat=True))
    where = {"study": 3, "arm": "lora", "kind": "lost", "item": 7}

    def stream(**changes: object) -> str:
        return page(with_language, run, **where, **changes).split('data-stream="')[1].split('"')[0]

    named = f"/api/v1/playground/events?model={run}&amp;study=3&amp;item=7"
    assert stream() == stream(text=text.replace("\n", "\r\n")) == named
    assert "item=" not in stream(text="user: Rain?") and "text=user" in stream(text="user: Rain?")


def test_language_models_are_streamed_from_an_address_that_the_page_names(with_language: TestClient) -> None:
    run = runs(with_language, "causal-lm")[0]
    fake = exchange(with_language, written("one", "two"))
    html = page(with_language, "base", run, text="Count & go", seed=3, tokens=24)
    assert not fake.requests, "the page itself asks for nothing"
    address = html.split('data-stream="')[1].split('"')[0].replace("&amp;", "&")
    assert address.startswith("/api/v1/playground/events?model=base")
    answer = with_language.get(address)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert [e["text"] for e in events if e["type"] == "token"] == [" one", " two", " one", " otherwise"]
    assert events[-1] == {"type": "end"}
    [request] = fake.requests
    assert (request.decoding.seed, request.decoding.temperature, request.decoding.max_new_tokens) == (3, 0.8, 24)
    assert request.inputs == ["Count & go"] and fake.closed == 1


def test_a_chat_turn_goes_through_the_template_and_greedy_needs_no_seed(with_language: TestClient) -> None:
    fake = exchange(with_language, written("one"))
    run = runs(with_language, "causal-lm")[0]
    with_language.get(f"/api/v1/playground/events?model={run}&text=hello&chat=1")
    [request] = fake.requests
    assert request.decoding.temperature == 0 and request.decoding.max_new_tokens is None
    assert [(turn.role, turn.content) for turn in request.inputs[0]] == [("user", "hello")]  # type: ignore[union-attr]


def test_a_stream_that_fails_says_why_in_its_last_event(with_language: TestClient) -> None:
    exchange(with_language, lambda _request: [failed(Unavailable("No room."))])
    run = runs(with_language, "causal-lm")[0]
    answer = with_language.get(f"/api/v1/playground/events?model={run}&text=hello")
    assert "event: failed" in answer.text and "No room." in answer.text and "event: end" not in answer.text


@pytest.mark.parametrize(
    "query", ["model=base&text=a", "model=nine&text=a", "text=a", "model=1", "model=CLASSIFIER&text=a"]
)
def test_a_wrong_stream_is_refused_before_it_begins(with_language: TestClient, query: str) -> None:
    fake = exchange(with_language, written("one"))
    query = query.replace("CLASSIFIER", str(runs(with_language)[0]))
    answer = with_language.get(f"/api/v1/playground/events?{query}")
    assert answer.status_code == 422 and answer.headers["content-type"] == "application/problem+json"
    assert not fake.requests

"""The OpenAI-compatible endpoint, by OpenAI's own client: base model, adapters, streams and errors."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import httpx2
import openai
import pytest
import uvicorn

from app.domain.accounts.ownership import Visibility
from app.domain.accounts.policy import Role
from app.domain.errors import VeznaError
from app.domain.methods import LoraSpec
from app.features.serving.rules import InferenceRequest, ModelJob, Subject, WorkRequest, failed
from app.store.tables import RunRow
from tests.support.rows import inferred
from tests.support.rows.accounts import Installation, installed
from tests.support.tiny import lm as tiny_lm
from worker.features.serving.inference.answer import Answering as Engine
from worker.features.serving.inference.answer import Cancelled
from worker.features.serving.inference.host import Inference
from worker.features.serving.openai import server as serving
from worker.features.serving.openai.queue import Answering

NAMES = {"base": Subject(run_id=1, base=True), "run-1": Subject(run_id=1), "run-2": Subject(run_id=2)}
CHAT: list[Any] = [{"role": "user", "content": "count from one"}]


class InThisProcess:
    """The engine without a process of its own: two adapters of one tiny base model."""

    def __init__(self, folder: Path) -> None:
        one, two = (inferred.trained(folder, LoraSpec(r=rank), "llama", n)[0] for n, rank in ((1, 4), (2, 2)))
        self.jobs = {(1, True): inferred.base_of(one), (1, False): one, (2, False): two}
        self.models = inferred.models()
        held = self.models.ready(list(self.jobs.values()), 0, lambda *_: None, lambda: None)
        for model in held:
            model.tokenizer.chat_template = tiny_lm.CHAT_TEMPLATE
        self.stopped = threading.Event()

    def job(self, subject: Subject) -> ModelJob:
        return self.jobs[subject.run_id, subject.base]

    def answer(self, request: InferenceRequest, wanted: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        """All events at once, which a stream need not be for these tests."""
        events: list[Any] = []
        work = WorkRequest(request=request, jobs=[self.job(subject) for subject in request.subjects])
        try:
            Engine(self.models, work, events.append, lambda: not wanted()).run()
        except Cancelled:
            self.stopped.set()
        except VeznaError as error:
            events.append(failed(error))
        yield from events
        yield {"type": "end"}

    def end(self) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> InThisProcess:
    """Base model and two adapters."""
    return InThisProcess(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory, filled_file: Path) -> Iterator[Installation]:
    """Users, tokens and runs."""
    home = tmp_path_factory.mktemp("home")
    with installed(home, filled_file) as found:
        yield found


def started(engine: InThisProcess, installation: Installation, open_to_all: bool) -> tuple[uvicorn.Server, str]:
    app = serving.create(NAMES, Answering(cast(Inference, engine)), installation.database, open_to_all=open_to_all)
    running = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    threading.Thread(target=running.run, daemon=True).start()
    while not running.started:
        time.sleep(0.01)
    return running, f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}/v1"


@pytest.fixture(scope="module")
def address(engine: InThisProcess, installation: Installation) -> Iterator[str]:
    """Of a server on loopback."""
    running, url = started(engine, installation, True)
    yield url
    running.should_exit = True


@pytest.fixture(scope="module")
def client(address: str) -> openai.OpenAI:
    """OpenAI's client."""
    return openai.OpenAI(base_url=address, api_key="none", max_retries=0)


def test_models_are_the_base_model_and_each_run(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["base", "run-1", "run-2"]
    assert client.models.retrieve("run-2").id == "run-2"


@pytest.mark.slow
def test_base_model_and_adapters_answer_differently_and_the_same_when_streamed(client: openai.OpenAI) -> None:
    first_logprobs = []
    for name in NAMES:
        common: Any = {"model": name, "messages": CHAT, "temperature": 0, "max_tokens": 8, "logprobs": True}
        whole = client.chat.completions.create(**common)
        pieces = list(client.chat.completions.create(**common, stream=True, stream_options={"include_usage": True}))
        text = whole.choices[0].message.content or ""
        assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices) == text
        assert pieces[-2].choices[0].finish_reason == whole.choices[0].finish_reason in ("stop", "length")
        assert whole.usage and pieces[-1].usage == whole.usage and 0 < whole.usage.completion_tokens <= 8
        assert whole.model == name
        assert whole.choices[0].logprobs and whole.choices[0].logprobs.content
        first_logprobs.append(whole.choices[0].logprobs.content[0].logprob)
    base, *adapters = first_logprobs
    for name, logprob in zip(list(NAMES)[1:], adapters, strict=True):
        assert abs(logprob - base) > 1e-4, f"{name} is not applied"
    assert abs(adapters[0] - adapters[1]) > 1e-4


def test_completions_have_logprobs_and_offsets(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="run-1", prompt="count from", temperature=0, max_tokens=5, logprobs=2)
    [choice] = answer.choices
    told = choice.logprobs
    assert told and told.tokens and told.token_logprobs and told.top_logprobs and told.text_offset
    assert "".join(told.tokens) == choice.text and len(told.token_logprobs) == len(told.tokens) <= 5
    assert all(value is not None and value <= 0 for value in told.token_logprobs)
    for start, token in zip(told.text_offset, told.tokens, strict=True):
        assert choice.text[start:].startswith(token)


def test_chats_have_logprobs_with_alternatives(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="run-2", messages=CHAT, temperature=0, max_tokens=3, logprobs=True, top_logprobs=2
    )
    told = answer.choices[0].logprobs
    assert told and told.content
    for token in told.content:
        assert token.logprob == max(other.logprob for other in token.top_logprobs) and len(token.top_logprobs) == 2


def test_a_seed_repeats_a_sampled_answer(client: openai.OpenAI) -> None:
    def text(seed: int) -> str:
        return client.completions.create(model="base", prompt="count", temperature=2, seed=seed).choices[0].text

    assert text(5) == text(5) and len({text(seed) for seed in range(4)}) > 1


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        ({"model": "run-9"}, openai.NotFoundError, "Choose from: base, run-1, run-2"),
        ({"temperature": 3}, openai.BadRequestError, "temperature"),
        ({"n": 2}, openai.BadRequestError, "n:"),
        ({"functions": [{"name": "f"}]}, openai.BadRequestError, "functions"),
        ({"messages": []}, openai.BadRequestError, "messages"),
        ({"messages": [{"role": "user", "content": "count " * 80}]}, openai.BadRequestError, "reads at most"),
        ({"seed": 2**63}, openai.BadRequestError, "seed"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a" * 60_000}] * 2}]},
            openai.BadRequestError,
            "100000 characters together",
        ),
        ({"max_tokens": 64}, openai.BadRequestError, "leave no room"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_wrong_request_is_refused_in_openai_s_form(
    client: openai.OpenAI, change: dict[str, Any], kind: type[openai.APIStatusError], says: str, stream: bool
) -> None:
    with pytest.raises(kind) as refused:
        client.chat.completions.create(**{"model": "run-1", "messages": CHAT, "stream": stream} | change)
    assert says in refused.value.message and refused.value.type == "invalid_request_error"


def test_a_page_of_another_site_is_refused(address: str) -> None:
    answer = httpx2.get(f"{address}/models", headers={"Origin": "https://example.org"})
    assert answer.status_code == 403 and answer.json()["error"]["type"] == "permission_error"
    assert httpx2.get(f"{address}/models", headers={"Host": "example.org"}).status_code == 403
    assert httpx2.get(f"{address}/models", headers={"Origin": "http://127.0.0.1:8000"}).status_code == 200


def test_beyond_loopback_a_request_needs_a_token(engine: InThisProcess, installation: Installation) -> None:
    running, url = started(engine, installation, False)
    try:
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=url, api_key="none", max_retries=0).models.list()
        token = installation.token(Role.VIEWER)
        assert openai.OpenAI(base_url=url, api_key=token, max_retries=0).models.list().data
    finally:
        running.should_exit = True


def test_a_private_run_is_no_model_for_other_users(engine: InThisProcess, installation: Installation) -> None:
    member = installation.ids[Role.MEMBER]
    with installation.database.transaction() as session:
        session.get_one(RunRow, 1).give(member, Visibility.PRIVATE)
    running, url = started(engine, installation, False)
    try:
        for role, names in ((Role.VIEWER, {"run-2"}), (Role.MEMBER, set(NAMES)), (Role.ADMIN, set(NAMES))):
            theirs = openai.OpenAI(base_url=url, api_key=installation.token(role), max_retries=0)
            assert {model.id for model in theirs.models.list().data} == names
        other = openai.OpenAI(base_url=url, api_key=installation.token(Role.VIEWER), max_retries=0)
        with pytest.raises(openai.NotFoundError):
            other.chat.completions.create(model="run-1", messages=CHAT, max_tokens=1)
        with pytest.raises(openai.NotFoundError):
            other.models.retrieve("run-1")
    finally:
        running.should_exit = True


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_a_client_who_leaves_stops_the_model(client: openai.OpenAI, engine: InThisProcess, stream: bool) -> None:
    engine.stopped.clear()
    blocked = threading.Event()
    own = engine.answer

    def slow(request: InferenceRequest, wanted: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        yield {"type": "token", "subject": 0, "id": 1, "text": "one", "logprob": -1.0, "top": []}
        while wanted():
            blocked.wait(0.02)
        engine.stopped.set()

    engine.answer = slow  # type: ignore[method-assign]
    try:
        if stream:
            pieces = client.completions.create(model="base", prompt="count", stream=True)
            assert next(iter(pieces)).choices[0].text == "one"
            pieces.close()
        else:
            with pytest.raises(openai.APITimeoutError):
                client.completions.create(model="base", prompt="count", timeout=0.5)
        assert engine.stopped.wait(20)
    finally:
        engine.answer = own  # type: ignore[method-assign]

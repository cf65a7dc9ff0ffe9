"""Parity checks of servers on this machine, from the request to the result, on SQLite and on PostgreSQL."""

import json
import random
import threading
import time
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from fastapi.testclient import TestClient

from app.broker.queue import PARITY
from app.domain.comparison.fairness.export_gate import GateOutcome
from app.domain.errors import Conflict, Invalid
from app.domain.methods import LoraSpec
from app.domain.runs.job import EvaluationReport
from app.domain.runs.result import ArtifactFile
from app.domain.runs.spec import RunSpec
from app.domain.runs.training import TrainingArguments
from app.features.shipping.cli import parity as parity_cli
from app.features.shipping.rules.parity import Model, Parity
from app.features.shipping.rules.parity_check import NewParityCheck
from app.features.shipping.services import exports as model_exports
from app.features.shipping.services import parity_checks
from app.features.shipping.services.work import CHECKS
from app.features.shipping.tables import ParityCheckRow
from app.main import create_app
from app.samples import samples as sample
from app.services.ownership import deletion, stored_secrets
from app.services.ownership.vault import Vault
from app.services.runs import attempts
from app.settings import Settings
from app.store.database.session import Database
from app.store.files.files import Files, run_folder, sha256
from tests.support.fakes.fakes import SilentBell, WorkingBell
from tests.support.fakes.openai_stub import Stub, stubbed
from tests.support.filled import filled
from tests.support.filled.language import CAUSAL, SEQ2SEQ, register_language
from tests.support.rows import attempted
from tests.support.rows.results import evaluation, result
from tests.support.servers.forms import form_headers
from tests.support.servers.served import served
from worker.asking import answers
from worker.features.shipping import parity as tasks
from worker.features.shipping.parity import ParityQueue
from worker.nodes.context import Context

LABELS = ("sport", "business", "politics", "tech")
KEY = "sk-never-to-be-shown"
NO_PAUSE = (0.0, 0.0)
TRAINING = TrainingArguments(max_length=24, max_new_tokens=8)


class Item:
    """A test item with the answers of three models."""

    def __init__(self, number: int) -> None:
        self.name = f"item-{number}"
        self.prompt = f"Headline {number} is about"
        self.completion = f" {LABELS[number % 4]}"
        self.run = self.completion if number % 10 else " weather"
        self.base = self.run if number % 3 == 0 else f" the {LABELS[(number + 1) % 4]} of the day"


ITEMS = [Item(number) for number in range(60)]
RUN = {item.prompt: item.run for item in ITEMS}
BASE = {item.prompt: item.base for item in ITEMS}
PAIRS = {"prompt": [item.prompt for item in ITEMS], "completion": [item.completion for item in ITEMS]}


@pytest.fixture
def stub() -> Iterator[Stub]:
    """A server with an adapter and its base model."""
    with stubbed({"adapter": RUN, CAUSAL: BASE}) as server:
        yield server


@pytest.fixture(autouse=True)
def margin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five points: 60 items that agree show no smaller difference."""
    monkeypatch.setattr(model_exports, "DEFAULT_MARGIN_POINTS", 5.0)


@pytest.fixture
def worker(database: Database, settings: Settings, files: Files, bell: SilentBell, stub: Stub) -> Context:
    """A worker in this process that may reach the server."""
    settings.home.mkdir(parents=True, exist_ok=True)
    hosts = [stub.place, "127.0.0.1"]
    with database.transaction() as session:
        register_language(session)
    return Context(settings.model_copy(update={"worker_name": "w1", "outbound_hosts": hosts}), database, files, bell)


@pytest.fixture
def run_id(worker: Context, tmp_path: Path) -> int:
    """A run that answers every item, right nine times of ten."""
    return succeeded(worker, tmp_path, PAIRS)


def succeeded(worker: Context, folder: Path, columns: Mapping[str, Sequence[Any]], **changes: Any) -> int:
    """A run that has succeeded, with its predictions file."""
    spec = RunSpec(
        **{
            "base_model": CAUSAL,
            "dataset": sample.SUMMARIES,
            "task": "causal-lm",
            "method": LoraSpec(r=2),
            "training": TRAINING,
            "metric": "exact_match",
            **changes,
        }
    )
    run_id = attempted.submit(worker.database, SilentBell(), spec)
    path, place = folder / "predictions.parquet", f"{run_folder(run_id)}/1/predictions.parquet"
    texts = {
        "item": [i.name for i in ITEMS],
        "prediction": [i.run for i in ITEMS],
        "base_prediction": [i.base for i in ITEMS],
    }
    pq.write_table(pa.table(texts | dict(columns)), path)
    worker.files.put(path, place)
    kept = ArtifactFile(name=path.name, kind="predictions", bytes=path.stat().st_size, sha256=sha256(path))
    with worker.database.transaction() as session:
        mine = attempts.claim(session, run_id, "w1", 45)
        assert mine is not None
        scored = evaluation().model_copy(update={"metric": "exact_match", "metrics": {"exact_match": 0.9}})
        attempts.report(session, mine, 1, [EvaluationReport(evaluation=scored)], 45)
        done = result(0.5).model_copy(update={"artifacts": [kept]})
        attempts.finish(session, SilentBell(), mine, done, {path.name: place})
    return run_id


def submit(worker: Context, run_id: int, stub: Stub, model: str = "adapter", **changes: Any) -> int:
    new = NewParityCheck.model_validate({"url": stub.url, "model": model, **changes})
    with worker.database.transaction() as session:
        return parity_checks.submit(session, worker.bell, worker.settings, run_id, new).id


def row(worker: Context, check_id: int) -> ParityCheckRow:
    with worker.database.reading() as session:
        return CHECKS.get(session, check_id)


def checked(worker: Context, run_id: int, stub: Stub, model: str = "adapter", **changes: Any) -> Parity:
    """The result of a check."""
    check_id = submit(worker, run_id, stub, model, **changes)
    tasks.check(worker, check_id, NO_PAUSE)
    done = row(worker, check_id)
    assert (done.status, done.message) == ("succeeded", "")
    assert done.result is not None
    return done.result


def failure(worker: Context, run_id: int, stub: Stub, **changes: Any) -> str:
    """Why a check fails."""
    check_id = submit(worker, run_id, stub, **changes)
    tasks.check(worker, check_id, NO_PAUSE)
    done = row(worker, check_id)
    assert (done.status, done.result, done.api_key) == ("failed", None, "")
    return done.message


def test_a_server_that_answers_as_the_run_passes(worker: Context, run_id: int, stub: Stub) -> None:
    check_id = submit(worker, run_id, stub)
    assert (PARITY, check_id) in worker.bell.rung  # type: ignore[attr-defined]
    tasks.check(worker, check_id)
    done = row(worker, check_id)
    found = done.result
    assert found is not None and done.progress == 1.0
    assert (found.outcome, found.answers_as, found.metric) == (GateOutcome.PASS, Model.RUN, "exact_match")
    assert (found.items, found.same, found.delta, found.differing) == (60, 60, 0.0, [])
    assert (found.run_score, found.telling, found.as_run) == (pytest.approx(0.9), 40, 40)
    assert len(stub.seen) == 60
    for path, request in stub.seen:
        assert path == "/v1/completions"
        assert (request["model"], request["temperature"], request["max_tokens"]) == ("adapter", 0, 8)
    tasks.check(worker, check_id)
    assert row(worker, check_id).epoch == 1, "a second delivery finds nothing to claim"


def test_a_server_that_ignores_the_adapter_is_found_and_named(worker: Context, run_id: int, stub: Stub) -> None:
    stub.models = {"adapter": BASE}
    found = checked(worker, run_id, stub)
    assert (found.outcome, found.answers_as) == (GateOutcome.FAIL, Model.BASE)
    assert (found.telling, found.as_base, found.as_run) == (40, 40, 0)
    first = found.differing[0]
    assert (first.item, first.run, first.answer) == ("item-1", " business", " the politics of the day")
    assert len(found.differing) == 10
    text = " ".join(parity_cli.lines({"url": stub.url, "model": "adapter"}, found))
    assert "as the base model, in 40 of the 40 items" in text and "Parity: fail" in text


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_an_ignored_adapter_fails_even_where_the_scores_agree(worker: Context, tmp_path: Path, stub: Stub) -> None:
    """No answer of either model is right, so the score shows nothing."""
    columns = {"prompt": [i.prompt for i in ITEMS], "completion": [" nothing of this"] * len(ITEMS)}
    run = succeeded(worker, tmp_path, columns)
    stub.models = {"adapter": BASE}
    found = checked(worker, run, stub)
    assert found.delta == 0.0 and found.low > -found.margin
    assert (found.outcome, found.answers_as) == (GateOutcome.FAIL, Model.BASE)


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_few_other_texts_leave_it_undecided_and_many_fail(worker: Context, run_id: int, stub: Stub) -> None:
    right = [item.prompt for item in ITEMS if item.run == item.completion]
    stub.models = {"adapter": RUN | dict.fromkeys(right[:2], " something else")}
    few = checked(worker, run_id, stub)
    assert (few.outcome, few.same, few.answers_as) == (GateOutcome.UNDECIDED, 58, Model.RUN)
    stub.models = {"adapter": RUN | dict.fromkeys(right[:30], " something else")}
    many = checked(worker, run_id, stub)
    assert (many.outcome, many.same) == (GateOutcome.FAIL, 30)
    assert many.high < -many.margin


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_chats_are_sent_as_conversations_and_scored_by_rouge_l(
    worker: Context, tmp_path: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        [
            {"role": "system", "content": "One word."},
            {"role": "user", "content": item.prompt},
            {"role": "assistant", "content": item.completion},
        ]
        for item in ITEMS
    ]
    run = succeeded(worker, tmp_path, {"messages": rows}, metric="token_accuracy")
    found = checked(worker, run, stub)
    assert (found.outcome, found.metric, found.items) == (GateOutcome.PASS, "rouge_l", 60)
    path, request = stub.seen[0]
    assert path == "/v1/chat/completions" and "prompt" not in request
    assert [turn["role"] for turn in request["messages"]] == ["system", "user"]


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_prompts_that_the_run_has_cut_are_left_out(worker: Context, run_id: int, tmp_path: Path, stub: Stub) -> None:
    """Its predictions file says which; without that, those in which the server counts more tokens than max_length."""
    long = {item.prompt for item in ITEMS[:3]}
    stub.prompt_tokens = lambda prompt: 25 if prompt in long else 24
    found = checked(worker, run_id, stub)
    assert (found.items, found.left_out, found.outcome) == (57, 3, GateOutcome.PASS)
    stub.seen.clear()
    stub.prompt_tokens = lambda _prompt: 25
    run = succeeded(worker, tmp_path, PAIRS | {"cut": [item.prompt in long for item in ITEMS]})
    found = checked(worker, run, stub)
    assert (found.items, found.left_out, found.outcome, len(stub.seen)) == (57, 3, GateOutcome.PASS, 57)
    run = succeeded(worker, tmp_path, PAIRS | {"cut": [True] * len(ITEMS)})
    assert "has read only the end of every prompt" in failure(worker, run, stub)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_check_with_refused_items_does_not_pass(worker: Context, run_id: int, stub: Stub) -> None:
    """A smaller context than the run's, or a filter: the rest may hide a fault."""
    refused = {item.prompt for item in ITEMS[30:34]}
    body = json.dumps({"error": {"message": "The context has 16 tokens."}}).encode()
    stub.raw = lambda request: (400, body, {}) if request["prompt"] in refused else None
    found = checked(worker, run_id, stub)
    assert (found.items, found.left_out, found.refused) == (56, 0, 4)
    assert (found.outcome, found.answers_as) == (GateOutcome.UNDECIDED, Model.RUN)
    text = " ".join(parity_cli.lines({"url": stub.url, "model": "adapter"}, found))
    assert "4 items refused, the first: " in text and "The context has 16 tokens" in text
    assert "the score agrees, but not every test item was answered" in text and "has not read" not in text


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_answers_that_write_on_are_the_runs_and_said(worker: Context, run_id: int, stub: Stub) -> None:
    """The adapter is applied, but the server ignores the run's stop token."""
    tail = "\nHeadline 7 is about the weather of the day, and that of the days after it"
    stub.models = {"adapter": {prompt: text + tail for prompt, text in RUN.items()}}
    found = checked(worker, run_id, stub)
    assert (found.answers_as, found.as_run, found.as_base, found.writes_on) == (Model.NEARER_RUN, 40, 0, 60)
    assert found.outcome is GateOutcome.FAIL
    text = " ".join(parity_cli.lines({"url": stub.url, "model": "adapter"}, found))
    assert "60 answers write on after the run's text: check the stop token" in text


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_another_adapter_is_nearer_to_the_run_but_not_the_run(worker: Context, run_id: int, stub: Stub) -> None:
    """It writes in the run's manner, but not its texts."""
    stub.models = {"adapter": {prompt: f"{text[:-1]}~" for prompt, text in RUN.items()}}
    found = checked(worker, run_id, stub)
    assert (found.answers_as, found.same_telling) == (Model.NEARER_RUN, 0)
    text = " ".join(parity_cli.lines({"url": stub.url, "model": "adapter"}, found))
    assert "nearer to the run in" in text and "with the run's text in 0 only" in text


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_scoring_reports_and_stops(worker: Context, run_id: int, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    check_id, scored = submit(worker, run_id, stub), []

    def cancel(_written: str, _reference: str) -> float:
        if not scored:
            monkeypatch.setattr(answers, "REPORT_SECONDS", 0.0)
            with worker.database.transaction() as session:
                CHECKS.cancel(session, check_id)
        scored.append(1)
        return 1.0

    monkeypatch.setitem(tasks.METRICS, "exact_match", cancel)
    tasks.check(worker, check_id)
    assert (row(worker, check_id).status, len(scored)) == ("cancelled", 3)


def test_a_sample_alone_becomes_objects(tmp_path: Path) -> None:
    file, number = tmp_path / "predictions.parquet", 20_000
    text = [f"{place} {'x' * 500}" for place in range(number)]
    pq.write_table(pa.table({"item": text, "prompt": text, "prediction": text, "base_prediction": text}), file)
    del text
    tracemalloc.start()
    try:
        found = tasks.rows(file, 50)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    places = [int(item["item"].split()[0]) for item in found]
    assert places == sorted(random.Random(0).sample(range(number), 50))
    assert peak < 4 << 20, "all rows take 40 MB"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_sample_is_the_same_each_time(worker: Context, run_id: int, stub: Stub) -> None:
    for _time in range(2):
        assert checked(worker, run_id, stub, items=15).items == 15
    sent = [request["prompt"] for _path, request in stub.seen]
    assert sorted(sent[:15]) == sorted(sent[15:]) and len(set(sent)) == 15


def garbled(*bodies: bytes) -> Any:
    left = list(bodies)
    return lambda _request: (200, left.pop(0) if len(left) > 1 else left[0], {})


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (garbled(b"<html>welcome</html>"), "is not that of an OpenAI-compatible server"),
        (garbled(b"["), "is not that of an OpenAI-compatible server"),
        (garbled(b"[" * 50_000), "is not that of an OpenAI-compatible server"),
        (garbled(b'{"choices": []}'), "it has no text at choices[0].text"),
        (garbled(b'{"choices": [{"text": 7}]}'), "it has no text at choices[0].text"),
        (garbled(b'{"choices": [{"text": "' + b"a" * 5000 + b'"}]}'), "which it seems to ignore"),
        (garbled(b"x" * 100_000), "is longer than"),
        (lambda _request: (302, b"", {"location": "http://169.254.169.254/"}), "redirects to another address"),
        (lambda _request: (500, b'{"error": {"message": "CUDA error"}}', {}), "(HTTP 500): CUDA error."),
        (lambda _request: (400, b"\xff", {}), "(HTTP 400): without a reason."),
    ],
)
def test_what_is_no_answer_is_a_named_failure(raw: Any, why: str, worker: Context, run_id: int, stub: Stub) -> None:
    stub.raw = raw
    assert why in failure(worker, run_id, stub)
    assert len(stub.seen) == 1, "a wrong server is named after one request"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_wrong_model_and_a_wrong_key_are_named_without_the_key(worker: Context, run_id: int, stub: Stub) -> None:
    stub.key = KEY
    assert "does not accept the API key (HTTP 401)" in failure(worker, run_id, stub)
    unknown = failure(worker, run_id, stub, model="other", api_key=KEY)
    assert "knows no model other" in unknown and "The model other does not exist. Key ***" in unknown
    assert KEY not in unknown


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_server_that_echoes_the_key_shows_it_to_nobody(worker: Context, run_id: int, stub: Stub) -> None:
    stub.key = KEY
    for before in (9, 395):  # the longer text is cut within the key
        stub.models = {"adapter": {item.prompt: f"{'x' * before} {KEY}" for item in ITEMS}}
        stored = checked(worker, run_id, stub, api_key=KEY).model_dump_json()
        assert "x ***" in stored and KEY[:3] not in stored


@pytest.mark.slow
def test_the_key_is_stored_encrypted_and_removed_at_the_end(worker: Context, run_id: int, stub: Stub) -> None:
    stub.key = KEY
    check_id = submit(worker, run_id, stub, api_key=KEY)
    stored = row(worker, check_id).api_key
    assert stored and KEY not in stored and Vault(worker.settings).decrypt(stored) == KEY
    assert stored_secrets.rotate(worker.database, Vault(worker.settings)) == 1
    tasks.check(worker, check_id)
    assert (row(worker, check_id).status, row(worker, check_id).api_key) == ("succeeded", "")
    cancelled = submit(worker, run_id, stub, api_key=KEY)
    with worker.database.transaction() as session:
        CHECKS.cancel(session, cancelled)
    assert row(worker, cancelled).api_key == ""


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_busy_server_is_sent_the_request_again(worker: Context, run_id: int, stub: Stub) -> None:
    refusals = {item.prompt: 2 for item in ITEMS[20:23]}

    def busy(request: dict[str, Any]) -> tuple[int, bytes, dict[str, str]] | None:
        refusals[request["prompt"]] = refusals.get(request["prompt"], 0) - 1
        return (429, b"{}", {}) if refusals[request["prompt"]] >= 0 else None

    stub.raw = busy
    assert checked(worker, run_id, stub).outcome is GateOutcome.PASS
    refusals[ITEMS[20].prompt] = 3
    assert "(HTTP 429)" in failure(worker, run_id, stub)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_slow_server_ends_with_the_time_of_a_check(
    worker: Context, run_id: int, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "REPORT_SECONDS", 0.05)
    monkeypatch.setattr(tasks, "MOST_SECONDS", 0.3)
    over = threading.Event()
    stub.raw = lambda _request: over.wait(30) and None
    try:
        assert "answered 0 of 60 items within" in failure(worker, run_id, stub)
    finally:
        over.set()


def test_a_cancelled_check_stops_and_one_of_a_worker_that_shuts_down_is_given_back(
    worker: Context, run_id: int, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "REPORT_SECONDS", 0.0)
    check_id = submit(worker, run_id, stub)
    once = iter([check_id])

    def cancel(_request: dict[str, Any]) -> None:
        if len(stub.seen) < 5:
            return
        if found := next(once, None):
            with worker.database.transaction() as session:
                CHECKS.cancel(session, found)
        time.sleep(0.1)  # later answers leave the worker time to read of it

    stub.raw = cancel
    tasks.check(worker, check_id)
    assert row(worker, check_id).status == "cancelled"
    assert len(stub.seen) < len(ITEMS)
    stub.raw = lambda _request: None
    other = submit(worker, run_id, stub)
    worker.one(ParityQueue).stop()
    tasks.check(worker, other)
    given_back = row(worker, other)
    assert (given_back.status, given_back.attempts) == ("queued", 0)


def test_a_deleted_run_takes_its_checks_along(worker: Context, run_id: int, stub: Stub) -> None:
    submit(worker, run_id, stub)
    with worker.database.transaction() as session:
        deletion.delete_run(session, worker.files, run_id)
    with worker.database.reading() as session:
        assert CHECKS.of(session, run_id) == []


def refused_path(worker: Context, run_id: int, stub: Stub, **changes: Any) -> tuple[str, str]:
    with pytest.raises(Invalid) as refused:
        submit(worker, run_id, stub, **changes)
    return refused.value.fields[0].path, refused.value.message


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_runs_without_generated_text_and_unlisted_hosts_are_refused(
    worker: Context, run_id: int, tmp_path: Path, stub: Stub
) -> None:
    path, why = refused_path(worker, run_id, stub, url="http://127.0.0.2:1/v1")
    assert path == "url" and "VEZNA_OUTBOUND_HOSTS" in why
    off = replace(worker, settings=worker.settings.model_copy(update={"outbound_hosts": []}))
    path, why = refused_path(off, run_id, stub)
    assert path == "url" and "Vezna may not reach" in why
    classifier = _classifier(worker, tmp_path)
    path, why = refused_path(worker, classifier, stub)
    assert path == "run_id" and "classifies with a head" in why
    columns = {"prompt": [i.prompt for i in ITEMS], "completion": [i.completion for i in ITEMS]}
    path, why = refused_path(worker, succeeded(worker, tmp_path, columns, base_model=SEQ2SEQ, task="seq2seq-lm"), stub)
    assert path == "run_id" and "is an encoder-decoder" in why
    queued = attempted.submit(
        worker.database,
        SilentBell(),
        RunSpec(base_model=CAUSAL, dataset=sample.SUMMARIES, task="causal-lm", method=LoraSpec(r=2)),
    )
    assert "has no predictions on the test split" in refused_path(worker, queued, stub)[1]
    submit(worker, run_id, stub)
    with pytest.raises(Conflict, match="has not ended"):
        submit(worker, run_id, stub)


def _classifier(worker: Context, folder: Path) -> int:
    with worker.database.transaction() as session:
        filled.register(session)
    return succeeded(
        worker,
        folder,
        {"text": [i.prompt for i in ITEMS]},
        base_model=filled.SAMPLE_MODEL,
        dataset=filled.SAMPLE_DATASET,
        task="sequence-classification",
        metric="accuracy",
        method=LoraSpec(r=2, target_modules=["query"]),
    )


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"url": "ftp://127.0.0.1/v1"}, "url"),
        ({"url": "http://127.0.0.1:8001/v1?key=secret"}, "url"),
        ({"url": "http://user:password@127.0.0.1:8001/v1"}, "url"),
        ({"api_key": "sk-a\r\nx-header: 1"}, "api_key"),
        ({"items": 0}, "items"),
    ],
)
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_over_rest_bad_input_is_named_by_its_field(
    changes: dict[str, Any], path: str, worker: Context, run_id: int, stub: Stub
) -> None:
    with TestClient(create_app(worker.settings), base_url="http://127.0.0.1/api/v1") as api:
        answer = api.post(f"/runs/{run_id}/parity-checks", json={"url": stub.url, **changes})
    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, path)
    assert "secret" not in answer.text and "password@" not in answer.text and "x-header" not in answer.text


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_over_rest_by_command_and_on_the_pages(
    worker: Context, run_id: int, stub: Stub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = create_app(worker.settings)
    stub.key = KEY

    app.state.doorbell = WorkingBell(task=PARITY, work=partial(tasks.check, worker))
    monkeypatch.setenv("SERVER_KEY", KEY)
    with served(app) as address:
        parity_cli.check_serving(stub.url, run_id, "adapter", None, "SERVER_KEY", address)
        assert "Parity: pass" in capsys.readouterr().out
        stub.models = {"adapter": BASE}
        with pytest.raises(typer.Exit):
            parity_cli.check_serving(stub.url, run_id, "adapter", 40, "SERVER_KEY", address, as_json=True)
        assert json.loads(capsys.readouterr().out)["result"]["answers_as"] == "base"
        stub.models = {"adapter": RUN | {ITEMS[1].prompt: " other", ITEMS[2].prompt: " other"}}
        with pytest.raises(typer.Exit) as ended:
            parity_cli.check_serving(stub.url, run_id, "adapter", None, "SERVER_KEY", address)
        assert ended.value.exit_code == 3 and "Parity: undecided" in capsys.readouterr().out
        stub.models = {"adapter": BASE}
        with pytest.raises(Invalid, match="NO_SUCH_KEY is not set"):
            parity_cli.check_serving(stub.url, run_id, "adapter", None, "NO_SUCH_KEY", address)
    app.state.doorbell = SilentBell()
    with TestClient(app, base_url="http://127.0.0.1") as client:
        first, second, _third = client.get(f"/api/v1/runs/{run_id}/parity-checks").json()
        assert "api_key" not in first and second["sample"] == 40
        assert client.post(f"/api/v1/parity-checks/{first['id']}/cancel").status_code == 409
        client.headers.update(form_headers(app))
        run_page = client.get(f"/runs/{run_id}").text
        assert (
            "Servers compared with this run" in run_page and "the server does not use what the run trained" in run_page
        )
        page = client.get(f"/runs/{run_id}/parity").text
        assert "the politics of the day" in page
        sent = {"url": stub.url, "model": "", "items": "12", "api_key": KEY, "idempotency_key": "k"}
        for _click in range(2):
            answer = client.post(f"/runs/{run_id}/parity", data=sent, follow_redirects=False)
            assert (answer.status_code, answer.headers["location"]) == (303, f"/runs/{run_id}/parity#checks")
        third = client.get(f"/api/v1/runs/{run_id}/parity-checks").json()[-1]
        assert (third["model"], third["status"], third["sample"]) == (f"run-{run_id}", "queued", 12)
        client.post(f"/runs/{run_id}/parity/{third['id']}/cancel")
        assert client.get(f"/api/v1/parity-checks/{third['id']}").json()["status"] == "cancelled"
        bad = client.post(f"/runs/{run_id}/parity", data={"url": "nowhere", "api_key": KEY})
        assert bad.status_code == 422 and "This is not an address of a web server" in bad.text and KEY not in bad.text

"""Fine-tuning jobs in OpenAI's form, by OpenAI's own client against a running server."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai
import pytest
from openai import OpenAI
from sqlalchemy import delete, select, update

from app.domain.accounts.policy import Role
from app.features.openai_jobs import service as fine_tuning
from app.features.openai_jobs.api.events import JobEvents
from app.features.openai_jobs.tables import FineTuningJobRow
from app.main import create_app
from app.settings import Settings
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.runs import events as event_rows
from app.store.tables import BaseModelRow, DatasetRow, RunRow, UploadRow, UserRow
from tests.support import ingested
from tests.support.fakes.fakes import SilentBell
from tests.support.filled import language as filled_language
from tests.support.filled.filled import register
from tests.support.rows.accounts import Installation
from tests.support.servers.served import served
from worker.ingest import tasks
from worker.nodes.context import Context

sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
MODEL = filled_language.CAUSAL


def chats(count: int = 60, first: int = 0) -> bytes:
    """Conversations as OpenAI's form has them."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"What comes after {n}?"},
                {"role": "assistant", "content": f"After {n} comes {n + 1}."},
            ]
        }
        for n in range(first, first + count)
    ]
    return "\n".join(map(json.dumps, rows)).encode()


class Site:
    """A server, OpenAI's client of it, and a worker in this process that reads files."""

    def __init__(self, worker: Context, client: OpenAI) -> None:
        self.worker, self.client, self.database = worker, client, worker.database

    def upload(self, content: bytes, name: str = "chats.jsonl") -> str:
        return self.client.files.create(file=(name, content), purpose="fine-tune").id

    def work(self) -> None:
        """Read and prepare what waits."""
        for _round in range(2):
            with self.database.reading() as session:
                uploads = list(session.scalars(select(UploadRow.id).where(UploadRow.status == "reading")))
                datasets = list(session.scalars(select(DatasetRow.id).where(DatasetRow.status == "preparing")))
            for upload_id in uploads:
                tasks.read(self.worker, upload_id)
            for dataset_id in datasets:
                tasks.prepare(self.worker, dataset_id)

    def run(self, job: Any) -> RunRow:
        with self.database.reading() as session:
            return session.get_one(RunRow, job.vezna["run_id"])

    def succeed(self, run_id: int) -> None:
        with self.database.transaction() as session:
            filled_language.succeed(session, session.get_one(RunRow, run_id))


@contextmanager
def site_of(database: Database, settings: Settings, files: Files, app: Any, key: str = "none") -> Iterator[Site]:
    with database.transaction() as session:
        register(session)
        filled_language.register_language(session)
    app.state.doorbell = SilentBell()
    with served(app) as address, OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0) as client:
        yield Site(ingested.context(settings, database, files), client)


@pytest.fixture
def site(database: Database, settings: Settings, files: Files) -> Iterator[Site]:
    with site_of(database, settings, files, create_app(settings)) as found:
        yield found


@sqlite
def test_a_job_becomes_a_run_and_its_model_has_the_name_that_vezna_serve_gives(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = site.client.files.create(file=("chats.jsonl", chats()), purpose="fine-tune")
    assert (file.status, file.filename, file.purpose) == ("uploaded", "chats.jsonl", "fine-tune")
    job = site.client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=file.id,
        suffix="support",
        seed=7,
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 0.5}},
        },
        metadata={"team": "search"},
    )
    assert (job.status, job.id, job.fine_tuned_model) == ("validating_files", "ftjob-1", None)
    site.work()
    assert site.client.files.retrieve(file.id).status == "processed"
    job = site.client.fine_tuning.jobs.retrieve(job.id)
    assert (job.status, job.seed, job.metadata, job.error) == ("queued", 7, {"team": "search"}, None)
    assert (job.hyperparameters.n_epochs, job.hyperparameters.batch_size) == (2, 4)
    run = site.run(job)
    training = run.spec.training
    assert (run.spec.task, run.method_kind, run.seed) == ("causal-lm", "lora", 7)
    assert (training.num_train_epochs, training.per_device_train_batch_size, training.max_length) == (2, 4, 1024)
    usual = run.spec.model_copy(update={"training": training.model_copy(update={"learning_rate": None})})
    assert run.learning_rate == pytest.approx(0.5 * usual.with_default_rate(576).learning_rate)
    assert job.model_extra is not None
    assert job.model_extra["vezna"]["compare_url"].endswith(f"/compare?runs={run.id}")

    site.succeed(run.id)
    job = site.client.fine_tuning.jobs.retrieve(job.id)
    assert (job.status, job.fine_tuned_model) == ("succeeded", f"run-{run.id}")
    assert job.trained_tokens and job.finished_at
    content = site.client.files.content(job.result_files[0]).text.splitlines()
    assert content[0] == "step,train_loss,learning_rate,grad_norm" and len(content) > 100
    [checkpoint] = site.client.fine_tuning.jobs.checkpoints.list(job.id).data
    assert checkpoint.fine_tuned_model_checkpoint == job.fine_tuned_model and checkpoint.step_number > 0
    events = list(site.client.fine_tuning.jobs.list_events(job.id, limit=100))
    assert (
        len({event.id for event in events})
        == len(events)
        == 1
        + len(content)
        - 1
        + len([event for event in events if event.type == "message" and event.id != "ftevent-job-1"])
    )
    assert events[-1].message == "Created fine-tuning job: ftjob-1"
    made: list[int] = []
    of_place = JobEvents._event
    monkeypatch.setattr(JobEvents, "_event", lambda found, place: made.append(place) or of_place(found, place))
    page = site.client.fine_tuning.jobs.list_events(job.id, limit=3, after=events[4].id)
    assert page.data == events[5:8] and page.has_more and len(made) == 3, "no event of another page is made"
    page = site.client.fine_tuning.jobs.list_events(job.id, limit=3, after=events[-3].id)
    assert page.data == events[-2:] and not page.has_more
    assert site.client.fine_tuning.jobs.list_events(job.id, after=events[-1].id).data == []
    with site.database.reading() as session:
        log = [line.message for line in event_rows.last(session, run.id, limit=500)]
    assert [event.message for event in events if event.type == "message"][:-1] == log[::-1], "the newest first"
    metrics = next(event for event in events if event.type == "metrics")
    assert metrics.message.startswith(f"Step {len(content) - 1}: training loss=")
    assert isinstance(metrics.data, dict) and metrics.data["train_loss"] > 0
    assert [one.id for one in site.client.fine_tuning.jobs.list()] == ["ftjob-1"]
    with pytest.raises(openai.BadRequestError, match="has already ended"):
        site.client.fine_tuning.jobs.cancel(job.id)


def preferences(count: int = 60, **changes: Any) -> bytes:
    """Pairs of answers as OpenAI's form has them."""
    rows = [
        {
            "input": {"messages": [{"role": "user", "content": f"What comes after {n}?"}], "tools": []},
            "preferred_output": [{"role": "assistant", "content": f"After {n} comes {n + 1}."}],
            "non_preferred_output": [{"role": "assistant", "content": f"{n + 2}"}],
        }
        | changes
        for n in range(count)
    ]
    return "\n".join(map(json.dumps, rows)).encode()


@sqlite
def test_a_job_of_preferences_becomes_a_run_of_dpo(site: Site) -> None:
    with site.database.transaction() as session:  # as an inspection finds it: a decoder does both tasks
        row = session.scalars(select(BaseModelRow).where(BaseModelRow.name == MODEL)).one()
        tasks = row.facts_json["tasks"]
        row.facts_json = {
            **row.facts_json,
            "tasks": tasks | {"preference": tasks["causal-lm"] | {"task": "preference"}},
        }
    method: Any = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.3, "n_epochs": 1}}}
    job = site.client.fine_tuning.jobs.create(
        model=MODEL, training_file=site.upload(preferences(), "pairs.jsonl"), method=method
    )
    assert job.method is not None and job.method.dpo is not None and job.method.supervised is None
    assert job.method.dpo.hyperparameters is not None and job.method.dpo.hyperparameters.batch_size == "auto"
    site.work()
    job = site.client.fine_tuning.jobs.retrieve(job.id)
    assert (job.status, job.error) == ("queued", None)
    run = site.run(job)
    training = run.spec.training
    assert (run.spec.task, training.preference_loss, training.beta, run.method_kind) == (
        "preference",
        "dpo",
        0.3,
        "lora",
    )
    assert job.method is not None and job.method.type == "dpo" and job.method.dpo is not None
    shown = job.method.dpo.hyperparameters
    assert shown is not None and (shown.beta, shown.n_epochs, shown.batch_size) == (0.3, 1, 8)
    with site.database.reading() as session:
        dataset = session.get_one(DatasetRow, run.dataset_id)
    assert dataset.facts.format == "preference-messages" and sum(dataset.facts.counts.values()) == 60


@sqlite
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (chats(), "has no preference pairs; its columns are messages"),
        (preferences(non_preferred_output=[]), "non_preferred_output"),
        (preferences(input={"messages": []}), "first: row 1"),
        (preferences(input={"messages": [{"role": "user", "content": "?"}], "tools": [{"type": "function"}]}), "tools"),
    ],
)
def test_a_file_of_other_rows_fails_a_job_of_preferences_with_the_reason(
    site: Site, content: bytes, words: str
) -> None:
    job = site.client.fine_tuning.jobs.create(model=MODEL, training_file=site.upload(content), method={"type": "dpo"})
    site.work()
    error = site.client.fine_tuning.jobs.retrieve(job.id).error
    assert error is not None and error.code == "invalid_training_file" and words in (error.message or ""), error


def test_a_file_with_tools_and_weights_becomes_a_dataset_that_has_them(site: Site) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "next", "arguments": '{"of": 4}'}}
    lines = [json.loads(line) for line in chats().splitlines()]
    for line in lines:
        line["messages"][1] |= {"content": None, "tool_calls": [call], "weight": 1}
        line["messages"][1:1] = [
            {"role": "assistant", "content": "No.", "weight": 0},
            {"role": "user", "content": "Do."},
        ]
        line["tools"] = [{"type": "function", "function": {"name": "next", "parameters": {}}}]
    file = site.upload("\n".join(map(json.dumps, lines)).encode())
    job = site.client.fine_tuning.jobs.create(model=MODEL, training_file=file)
    site.work()
    run = site.run(site.client.fine_tuning.jobs.retrieve(job.id))
    with site.database.reading() as session:
        facts = session.get_one(DatasetRow, run.dataset_id).facts
    assert {part: rows.count for part, rows in facts.chat_parts.items()} == {"tools": 60, "tool_calls": 60}


def test_two_jobs_on_one_file_train_on_the_same_rows_by_different_methods(site: Site) -> None:
    file, held_out = site.upload(chats()), site.upload(chats(20, first=900), "held-out.jsonl")
    site.work()
    wanted: dict[str, Any] = {"model": MODEL, "training_file": file, "validation_file": held_out}
    lora = site.client.fine_tuning.jobs.create(**wanted)
    full = site.client.fine_tuning.jobs.create(**wanted, metadata={"vezna_method": "full", "vezna_max_length": "64"})
    site.work()
    lora, full = (site.client.fine_tuning.jobs.retrieve(job.id) for job in (lora, full))
    assert (lora.status, full.status) == ("queued", "queued")
    assert (site.run(lora).method_kind, site.run(full).method_kind) == ("lora", "full")
    assert site.run(full).spec.training.max_length == 64
    assert site.run(lora).dataset_id == site.run(full).dataset_id
    with site.database.reading() as session:
        facts = session.get_one(DatasetRow, site.run(lora).dataset_id).facts
    assert facts.counts["test"] > 0 and facts.counts["validation"] == 20 and sum(facts.counts.values()) == 80
    cancelled = site.client.fine_tuning.jobs.cancel(lora.id)
    assert cancelled.status == "cancelled" and site.run(full).status == "queued"
    page = site.client.fine_tuning.jobs.list(limit=1)
    assert [job.id for job in page] == [full.id, lora.id], "page by page"


@sqlite
def test_a_job_that_cannot_be_trained_fails_with_the_reason(site: Site) -> None:
    plain = site.upload(b'{"text": "no conversation"}\n' * 40, "texts.jsonl")
    broken = site.upload(b'{"messages": [\n', "broken.jsonl")
    jobs = [site.client.fine_tuning.jobs.create(model=MODEL, training_file=file) for file in (plain, broken)]
    site.work()
    for job, words in zip(jobs, ("has no conversations", "could not be read"), strict=True):
        job = site.client.fine_tuning.jobs.retrieve(job.id)
        assert job.status == "failed" and job.error is not None and job.finished_at
        assert words in (job.error.message or "") and job.error.param == "training_file"
        assert job.error.code == "invalid_training_file"
    assert site.client.files.retrieve(broken).status == "error"
    waiting = site.client.fine_tuning.jobs.create(model=MODEL, training_file=site.upload(chats()))
    assert site.client.fine_tuning.jobs.cancel(waiting.id).status == "cancelled"
    site.work()
    assert site.client.fine_tuning.jobs.retrieve(waiting.id).status == "cancelled"
    with site.database.reading() as session:
        assert session.scalars(select(RunRow)).all() == []


@sqlite
def test_a_run_that_the_base_model_cannot_take_is_named_by_the_fields_of_the_job(site: Site) -> None:
    with site.database.transaction() as session:
        row = session.scalars(select(BaseModelRow).where(BaseModelRow.name == MODEL)).one()
        row.facts_json = {**row.facts_json, "max_positions": 40}
    wanted: dict[str, Any] = {"model": MODEL, "training_file": site.upload(chats())}
    fitting = site.client.fine_tuning.jobs.create(**wanted)
    long = site.client.fine_tuning.jobs.create(**wanted, metadata={"vezna_max_length": "41"})
    site.work()
    run = site.run(site.client.fine_tuning.jobs.retrieve(fitting.id))
    assert (run.spec.training.max_length, run.spec.training.max_new_tokens) == (40, 10)
    error = site.client.fine_tuning.jobs.retrieve(long.id).error
    assert error is not None and error.param == "metadata.vezna_max_length"
    assert "has 40 positions" in (error.message or "")


@pytest.mark.by_day
@sqlite
@pytest.mark.parametrize(
    ("more", "param", "words"),
    [
        ({"model": "gpt-4o-mini"}, "model", "There is no base model gpt-4o-mini. Choose from: SmolLM2-135M"),
        ({"training_file": "file-99"}, "training_file", "There is no file file-99. Upload it to /v1/files"),
        ({"validation_file": "chats"}, "validation_file", "There is no file chats"),
        ({"method": {"type": "reinforcement"}}, "method", "no fine-tuning of type 'reinforcement'"),
        ({"method": {"type": "dpo", "supervised": {}}}, "method", "type dpo, which has no field supervised"),
        ({"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0}}}}, "method.dpo", "Must be above 0"),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs", ""),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, "integrations", "experiment trackers"),
        ({"metadata": {"vezna_method": "magic"}}, "metadata.vezna_method", "magic"),
        ({"metadata": {"vezna_max_length": "long"}}, "metadata.vezna_max_length", "is not a number of tokens"),
        ({"extra_body": {"service_tier": "fast"}}, "service_tier", "Remove it"),
    ],
)
def test_what_is_not_supported_is_refused_in_openais_form(
    more: dict[str, Any], param: str, words: str, site: Site
) -> None:
    wanted: dict[str, Any] = {"model": MODEL, "training_file": site.upload(chats())} | more
    with pytest.raises(openai.BadRequestError) as refused:
        site.client.fine_tuning.jobs.create(**wanted)
    assert (refused.value.param or "").startswith(param)
    assert refused.value.type == "invalid_request_error"
    assert words in refused.value.message


@sqlite
def test_files_are_listed_and_deleted_and_other_purposes_are_refused(site: Site) -> None:
    first, second = site.upload(chats()), site.upload(chats(first=100), "more.jsonl")
    assert [file.id for file in site.client.files.list(limit=1)] == [second, first]
    assert site.client.files.content(first).read() == chats()
    with pytest.raises(openai.BadRequestError, match="purpose fine-tune"):
        site.client.files.create(file=("chats.jsonl", chats()), purpose="batch")
    assert site.client.files.delete(first).deleted
    for missing in (first, "file-run-1", "file-x"):
        with pytest.raises(openai.NotFoundError, match="There is no"):
            site.client.files.retrieve(missing)
    with pytest.raises(openai.NotFoundError, match="no fine-tuning job"):
        site.client.fine_tuning.jobs.retrieve("ftjob-77")


@sqlite
def test_a_token_opens_the_users_own_jobs_and_a_user_who_may_no_longer_run_starts_none(
    database: Database, settings: Settings, files: Files
) -> None:
    installation = Installation(settings.model_copy(update={"login": "required"}))
    own, other = (installation.token(role) for role in (Role.MEMBER, Role.VIEWER))
    with site_of(database, settings, files, installation.app, own) as site:
        job = site.client.fine_tuning.jobs.create(model=MODEL, training_file=site.upload(chats()))
        theirs = site.client.with_options(api_key=other)
        with pytest.raises(openai.NotFoundError):
            theirs.fine_tuning.jobs.retrieve(job.id)
        assert list(theirs.fine_tuning.jobs.list()) == []
        with pytest.raises(openai.PermissionDeniedError):
            theirs.fine_tuning.jobs.create(model=MODEL, training_file="file-1")
        with pytest.raises(openai.AuthenticationError):
            site.client.with_options(api_key="vezna_wrong").fine_tuning.jobs.list()
        with database.transaction() as session:
            owner = session.get_one(FineTuningJobRow, 1).owner_id
            session.execute(update(UserRow).where(UserRow.id == owner).values(disabled=True))
        site.work()
        with database.reading() as session:
            ended = session.get_one(FineTuningJobRow, 1)
        assert ended.status == "failed" and ended.error is not None and "may not start runs" in ended.error.message


def test_a_job_is_queued_once_however_often_it_goes_on(site: Site, settings: Settings) -> None:
    job = site.client.fine_tuning.jobs.create(model=MODEL, training_file=site.upload(chats()))
    site.work()
    for _again in range(3):
        fine_tuning.advance(site.database, SilentBell(), settings, 1)
    fine_tuning.advance_waiting(site.database, SilentBell(), settings)
    with site.database.transaction() as session:
        [run_id] = session.scalars(select(RunRow.id))
        session.execute(delete(RunRow))
    assert site.client.fine_tuning.jobs.retrieve(job.id).status == "cancelled", f"run {run_id} was deleted"

"""What language models and budgets rule out is refused at the door: of a run, and of a study with the arm's name."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.domain.data.dataset import DatasetFacts, Split
from app.domain.models.architecture import TaskModel
from app.domain.models.base_model import ModelFacts
from app.domain.tasks import Format
from app.store.data import queries as datasets
from app.store.database.session import Database
from app.store.models import queries as base_models
from app.store.tables import BaseModelRow, DatasetRow
from tests.support.fakes.fakes import SilentBell
from tests.support.filled.language import llama, t5

# What is refused does not depend on the database.
pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.parametrize("database", ["sqlite"], indirect=True)]

POSITIONS = 256
RUN: dict[str, Any] = {"base_model": "decoder", "dataset": "pairs", "task": "causal-lm", "method": {"kind": "full"}}
PROMPT, PREFIX = {"kind": "prompt", "num_virtual_tokens": 20}, {"kind": "prefix", "num_virtual_tokens": 20}
TOKEN_BY_TOKEN = {"dataset": "texts", "metric": "token_accuracy"}


@pytest.fixture
def language(registered: Database, api: TestClient) -> TestClient:
    """The application with a decoder, an encoder-decoder, pairs and plain texts."""
    with registered.transaction() as session:
        _model(session, "decoder", llama())
        _model(session, "encoder-decoder", t5())
        _data(session, "pairs", "prompt-completion")
        _data(session, "texts", "text")
        _data(session, "other texts", "text")
        _data(session, "texts to learn from", "text", test=0)
        _data(session, "texts to judge by", "text", train=0)
    return api


def _model(session: Session, name: str, seen: TaskModel) -> None:
    facts = ModelFacts(
        architecture=seen.architecture,
        model_type=seen.model_type,
        parameters=seen.total,
        hidden_size=seen.hidden_size,
        layers=seen.layers,
        max_positions=POSITIONS,
        tasks={seen.task: seen},
    )
    row = BaseModelRow(name=name, source="directory", location="/nowhere", status="ready")
    row.facts_json = facts.model_dump(mode="json")
    session.add(row)


def _data(session: Session, name: str, form: Format, *, train: int = 8, validation: int = 4, test: int = 8) -> None:
    counts: dict[Split, int] = {"train": train, "validation": validation, "test": test}
    facts = DatasetFacts(format=form, counts=counts, content_hash=name)
    row = DatasetRow(name=name, title=name, content_hash=name, file="datasets/none.parquet")
    row.facts_json = facts.model_dump(mode="json")
    session.add(row)


def training(**changes: object) -> dict[str, Any]:
    return {"training": changes}


def refused(api: TestClient, bell: SilentBell, run: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Path, message and remedy of what is wrong with a run. A study with it as its second arm is refused for the same,
    at the arm, and nothing is queued."""
    answers = [api.post("runs", json=run)]
    study = {name: value for name, value in run.items() if name != "method"}
    arms = [{"method": {"kind": "lora"}}, {"method": run["method"]}]
    answers.append(api.post("studies", json=study | {"name": "study", "arms": arms}))
    assert [answer.status_code for answer in answers] == [422, 422]
    assert bell.rung == []
    of_run, of_study = ([tuple(e.values()) for e in answer.json()["errors"]] for answer in answers)
    assert of_study == [(path.replace("method.", "arms.1.method."), *rest) for path, *rest in of_run]
    return of_run


@pytest.mark.parametrize("kind", ["prompt", "p-tuning", "prefix"])
def test_virtual_tokens_and_packed_rows_are_not_queued(language: TestClient, bell: SilentBell, kind: str) -> None:
    [(path, message, remedy)] = refused(language, bell, RUN | {"method": {"kind": kind}} | training(packing=True))
    assert path == "training.packing"
    assert "does not work with packing: virtual tokens precede a row" in message
    assert remedy == "Set it to false, or choose another method"


@pytest.mark.parametrize("kind", ["prompt", "p-tuning", "prefix"])
def test_virtual_tokens_and_padding_free_batches_are_not_queued(
    language: TestClient, bell: SilentBell, kind: str
) -> None:
    [(path, message, _)] = refused(language, bell, RUN | {"method": {"kind": kind}} | training(padding_free=True))
    assert path == "training.padding_free"
    assert "does not work with padding_free: virtual tokens precede a row" in message


def test_packed_rows_have_no_padding_free_batches(language: TestClient, bell: SilentBell) -> None:
    [(path, _, remedy)] = refused(language, bell, RUN | training(padding_free=True, packing=True))
    assert path == "training.padding_free"
    assert remedy == "Set packing or padding_free to false"


def test_a_prefix_and_layers_that_are_computed_again_are_not_queued(language: TestClient, bell: SilentBell) -> None:
    [(path, message, _)] = refused(
        language, bell, RUN | {"method": {"kind": "prefix"}} | training(gradient_checkpointing=True)
    )
    assert path == "training.gradient_checkpointing"
    assert message.startswith("The method prefix tuning does not work with gradient_checkpointing: ")


def test_a_step_in_backward_and_accumulation_are_held_against_what_the_arm_trains_with(language: TestClient) -> None:
    lean = {"method": {"kind": "lean-full", "optim": "adafactor", "step_in_backward": True}}
    study = {name: value for name, value in RUN.items() if name != "method"}
    study |= {"name": "study"} | training(max_grad_norm=0, gradient_accumulation_steps=2)

    def answered(arm: dict[str, Any], **others: Any) -> list[str]:
        body = study | {"arms": [{"method": {"kind": "lora"}}, lean | arm]} | others
        answer = language.post("studies", json=body)
        return [error["path"] for error in answer.json().get("errors", [])]

    assert answered({}) == ["training.gradient_accumulation_steps"]
    assert answered({"gradient_accumulation_steps": 4}) == ["arms.1.gradient_accumulation_steps"]
    assert answered({"gradient_accumulation_steps": 1}) == []
    searched = {"gradient_accumulation_steps": 1, "search": {"batch_size": [4, 8, 64]}}
    assert "arms.1.search.batch_size" in answered(searched, tuning={"kind": "grid"})


def test_a_problem_of_two_arms_with_the_budget_is_reported_once(language: TestClient) -> None:
    study = {name: value for name, value in RUN.items() if name != "method"} | training(packing=True)
    arms = [{"method": PROMPT}, {"method": PROMPT | {"num_virtual_tokens": 30}}, {"method": PREFIX}]
    answer = language.post("studies", json=study | {"name": "study", "arms": arms})
    assert [error["message"].split(" does")[0] for error in answer.json()["errors"]] == [
        "The method prompt tuning", "The method prefix tuning"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "path", "says", "remedy"),
    [
        (training(max_length=257), "training.max_length", "has 256 positions, so it cannot read", "Use at most 256"),
        (
            training(max_new_tokens=256), "training.max_new_tokens",
            "256 new tokens leave no room for a prompt", "Use at most 255",
        ),
        (
            {"method": PROMPT} | training(max_length=250), "method.num_virtual_tokens",
            "20 virtual tokens and a max_length of 250 exceed the 256 positions of LlamaForCausalLM",
            "Use at most 6, or a smaller max_length",
        ),
        (
            {"method": PREFIX} | training(max_length=256), "method.num_virtual_tokens",
            "20 virtual tokens and a max_length of 256", "Use a smaller max_length",
        ),
        (
            {"method": PROMPT} | training(max_new_tokens=240), "method.num_virtual_tokens",
            "20 virtual tokens and 240 new tokens after a prompt", "Use at most 15, or a smaller max_new_tokens",
        ),
        (
            {"base_model": "encoder-decoder", "task": "seq2seq-lm", "method": PROMPT} | training(max_length=250),
            "method.num_virtual_tokens", "exceed the 256 positions of T5", "Use at most 6, or a smaller max_length",
        ),
        (
            {"general_text": "pairs"}, "general_text",
            "Forgetting is measured on other texts than the model trains on",
            "Choose a dataset of plain text: other texts, texts, texts to judge by; or leave it out",
        ),
        (
            TOKEN_BY_TOKEN | {"general_text": "texts"}, "general_text", "on other texts than the model trains on",
            "Choose a dataset of plain text: other texts, texts to judge by; or leave it out",
        ),
        (
            {"general_text": "texts to learn from"}, "general_text",
            "'texts to learn from' has no rows in its test split, on which forgetting is measured",
            "Choose a dataset of plain text: other texts, texts, texts to judge by",
        ),
        (
            TOKEN_BY_TOKEN | {"dataset": "texts to judge by"}, "dataset", "has no rows in its train split",
            "Choose another dataset",
        ),
        (
            TOKEN_BY_TOKEN | {"dataset": "texts to learn from"}, "dataset", "has no rows in its test split",
            "Choose another dataset",
        ),
    ],
)  # fmt: skip
def test_rows_that_do_not_fit_are_refused_with_the_numbers(
    language: TestClient, bell: SilentBell, change: dict[str, Any], path: str, says: str, remedy: str
) -> None:
    [(found, message, offered)] = refused(language, bell, RUN | change)
    assert (found, offered) == (path, remedy)
    assert says in message


@pytest.mark.parametrize(
    "change",
    [
        training(max_length=256, max_new_tokens=255),
        {"method": PROMPT} | training(max_length=236, max_new_tokens=235),
        # Plain texts have no prompt to write after, and a decoder beside an encoder has positions of its own.
        TOKEN_BY_TOKEN | {"method": PROMPT} | training(max_length=236, max_new_tokens=4096),
        {"base_model": "encoder-decoder", "task": "seq2seq-lm", "method": PROMPT} | training(max_new_tokens=255),
        {"method": PREFIX, "general_text": "texts to judge by"},
    ],
)
def test_a_spec_at_the_limit_is_accepted(language: TestClient, change: dict[str, Any]) -> None:
    answer = language.post("runs", json=RUN | change)
    assert answer.status_code == 202, answer.json()


def test_rates_are_not_tuned_without_rows_to_choose_them_by(
    registered: Database, language: TestClient, bell: SilentBell
) -> None:
    with registered.transaction() as session:
        _data(session, "unvalidated", "prompt-completion", validation=0)
    study = {name: value for name, value in RUN.items() if name != "method"} | {"name": "s", "dataset": "unvalidated"}
    arms = [{"method": {"kind": "full"}}, {"method": {"kind": "lora"}}]
    [error] = language.post("studies", json=study | {"arms": arms, "tuning": "grid"}).json()["errors"]
    assert error["path"] == "tuning"
    assert (
        error["message"]
        == "unvalidated has no rows in its validation split, which tuning needs to choose a configuration"
    )
    assert error["remedy"] == "Choose another dataset, or set tuning to none"
    assert bell.rung == []
    assert language.post("studies", json=study | {"arms": arms}).status_code == 202


EMBEDDED: dict[str, Any] = RUN | {"base_model": "encoder", "dataset": "queries", "task": "sentence-embeddings"}


@pytest.fixture
def embedding(registered: Database, language: TestClient) -> TestClient:
    """The same with an encoder and queries."""
    with registered.transaction() as session:
        _model(session, "encoder", llama().model_copy(update={"task": "sentence-embeddings", "architecture": "Bert"}))
        _data(session, "queries", "query-passage")
    return language


@pytest.mark.parametrize(
    ("change", "path", "says"),
    [
        (training(gradient_accumulation_steps=2), "training.gradient_accumulation_steps", "not one large batch"),
        (training(gradient_accumulation_steps=2, devices=2), "training.devices", "not one large batch"),
        (training(per_device_train_batch_size=1), "training.per_device_train_batch_size", "a batch of one row"),
        (training(packing=True), "training.packing", "cannot be packed"),
        (training(padding_free=True), "training.padding_free", "need padding"),
        ({"dataset": "pairs"}, "task", "trains on rows of query-passage, but pairs has rows of prompt-completion"),
        ({"base_model": "decoder"}, "task", "decoder was not inspected for sentence-embeddings"),
        ({"method": {"kind": "head-only"}}, "method.kind", "does not support the task sentence-embeddings"),
    ],
)
def test_what_a_comparison_within_a_batch_rules_out_is_refused(
    embedding: TestClient, bell: SilentBell, change: dict[str, Any], path: str, says: str
) -> None:
    [(found, message, _remedy)] = refused(embedding, bell, EMBEDDED | change)
    assert found == path and says in message


PREFERRED: dict[str, Any] = RUN | {"base_model": "decoder", "dataset": "replies", "task": "preference"}


@pytest.fixture
def preferring(registered: Database, language: TestClient) -> TestClient:
    """The same with preference pairs, in two formats, and a decoder without a chat template."""
    with registered.transaction() as session:
        model = base_models.by_name(session, "decoder")
        assert model is not None and model.facts is not None
        known = model.facts.model_copy(
            update={
                "tasks": {**model.facts.tasks, "preference": llama().model_copy(update={"task": "preference"})},
                "chat_template": False,
            }
        )
        model.facts_json = known.model_dump(mode="json")
        _data(session, "replies", "preference")
        _data(session, "chats", "preference-messages")
    return language


@pytest.mark.parametrize(
    ("change", "path", "says"),
    [
        (training(packing=True), "training.packing", "cannot be packed"),
        ({"dataset": "chats"}, "base_model", "no chat template"),
        ({"dataset": "pairs"}, "task", "trains on rows of preference or preference-messages"),
        ({"metric": "kl"}, "metric", "cannot decide a verdict on preference"),
        (training(beta=0), "training.beta", "above 0"),
    ],
)
def test_what_preference_tuning_cannot_use_is_refused(
    preferring: TestClient, bell: SilentBell, change: dict[str, Any], path: str, says: str
) -> None:
    [(found, message, _remedy)] = refused(preferring, bell, PREFERRED | change)
    assert found == path and says in message


def test_a_chat_template_that_drops_a_part_is_refused(
    preferring: TestClient, registered: Database, bell: SilentBell
) -> None:
    with registered.transaction() as session:
        model, rows = base_models.by_name(session, "decoder"), datasets.by_name(session, "chats")
        assert model is not None and model.facts is not None and rows is not None
        known = model.facts.model_copy(update={"chat_template": True, "chat_parts": ["system", "tool"]})
        model.facts_json = known.model_dump(mode="json")
        parts = {"system": {"count": 9, "items": ["a"]}, "tools": {"count": 1200, "items": ["a", "b", "c"]}}
        rows.facts_json = rows.facts_json | {"chat_parts": parts}
    [(found, message, _remedy)] = refused(preferring, bell, PREFERRED | {"dataset": "chats"})
    assert found == "base_model"
    assert "does not render tools, which 1,200 rows of chats have (a, b, c)" in message


def test_an_arm_searches_no_batch_that_would_be_accumulated_or_has_one_row(embedding: TestClient) -> None:
    """A larger batch than the arm's own would be made of several."""
    study = {name: value for name, value in EMBEDDED.items() if name != "method"} | {"name": "study"} | training()

    def paths(sizes: list[int]) -> list[str]:
        arms = [{"method": {"kind": "lora"}, "search": {"batch_size": sizes}}]
        answer = embedding.post("studies", json=study | {"arms": arms, "tuning": {"kind": "grid"}})
        return [error["path"] for error in answer.json().get("errors", [])]

    assert paths([8, 16]) == []
    assert paths([16, 64]) == ["arms.0.search.batch_size"]
    assert paths([1, 16]) == ["arms.0.search.batch_size"]

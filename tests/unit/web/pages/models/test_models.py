"""Base models on pages and over HTTP: what one is made of, what each method would do to it, how it is registered."""

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.domain.methods import METHODS, SPECS, LoraSpec
from app.domain.models.base_model import SAMPLE_LANGUAGE_MODEL, SAMPLE_MODEL, SAMPLE_MODELS
from app.domain.models.outline import fold, folded, groups, layers
from app.store.models import queries as base_models
from app.words.models.methods import by_family
from app.words.models.outline import in_blocks, kinds, ranges
from tests.support.filled import filled
from tests.support.filled.language import CAUSAL, SEQ2SEQ
from tests.support.rows.factories import plain
from tests.unit.web.conftest import database_of
from tests.unit.web.pages.test_pages import check_page

MODEL = filled.model_facts().task_model("sequence-classification", 5)


@pytest.mark.parametrize(
    "path",
    [
        "/models",
        f"/models/{SAMPLE_MODEL}",
        f"/models/{SAMPLE_MODEL}?labels=77&task=sequence-classification",
        f"/models/{SAMPLE_MODEL}?labels=nonsense&task=nonsense",
        "/models/distilbert-base",
        f"/models/{CAUSAL}",
        f"/models/{SEQ2SEQ}",
    ],
)
def test_a_page_of_models_answers(language: TestClient, path: str) -> None:
    answer = language.get(path)
    assert answer.status_code == 200
    check_page(answer.text)
    assert '<a href="/models" aria-current="' in answer.text


def test_a_packaged_model_is_registered_by_a_button_until_it_is_there(empty: TestClient) -> None:
    for location, name in SAMPLE_MODELS.items():
        assert f"Register {name}" in empty.get("/models").text
        data = {"source": "sample", "location": location}
        assert empty.post("/models", data=data).headers["location"] == f"/models/{name}"
        with database_of(empty).reading() as session:
            row = base_models.by_name(session, name)
            assert row is not None and (row.source, row.location, row.status) == ("sample", location, "inspecting")
        assert f"Register {name}" not in empty.get("/models").text
    assert "dequantized from 4 bits" in empty.get(f"/models/{SAMPLE_LANGUAGE_MODEL}").text
    assert "dequantized" not in empty.get(f"/models/{SAMPLE_MODEL}").text
    unknown = empty.post("/models", data={"source": "sample", "location": "gpt-9"})
    assert unknown.status_code == 422 and "is not a packaged model" in unknown.text


def test_every_method_is_counted_or_says_why_it_does_not_fit(language: TestClient) -> None:
    text = plain(language.get(f"/models/{SAMPLE_MODEL}?labels=5").text)
    assert re.findall(r"<summary><code>([\w-]+)</code>", text) == [
        facts.kind for _, _, found in by_family() for facts in found
    ]
    assert "339,845" in text
    assert (
        "The method prefix tuning does not support the task sequence-classification. Use it for causal-lm, seq2seq-lm, "
        "preference." in text
    )


def test_a_model_that_waits_is_looked_at_again(registered_only: TestClient) -> None:
    assert 'hx-trigger="every 2s"' in registered_only.get("/models/distilbert-base").text
    assert 'hx-trigger="every 3s"' in registered_only.get("/models").text


@pytest.mark.parametrize(
    ("typed", "name", "source"),
    [
        ({"location": "google-t5/t5-small"}, "google-t5/t5-small", "hub"),
        ({"location": "google-t5/t5-small", "name": "small", "revision": "main"}, "small", "hub"),
        ({"location": "/models/mine"}, "mine", "directory"),
    ],
)
def test_a_model_is_registered(empty: TestClient, typed: dict[str, str], name: str, source: str) -> None:
    settings = empty.app.state.settings  # type: ignore[attr-defined]
    empty.app.state.settings = settings.model_copy(update={"model_roots": [Path("/models")]})  # type: ignore[attr-defined]
    answer = empty.post("/models", data=typed)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/models/{name}")
    with database_of(empty).reading() as session:
        row = base_models.by_name(session, name)
        assert row is not None
        assert (row.source, row.status, row.revision) == (source, "inspecting", typed.get("revision", ""))
    assert "Inspecting the model" in empty.get(f"/models/{name}").text


@pytest.mark.parametrize(
    ("typed", "path", "message"),
    [
        ({"location": ""}, "location", "Enter a hub id or a directory"),
        ({"location": "../etc"}, "location", "is not below an allowed root"),
        ({"location": "a/b", "name": SAMPLE_MODEL}, "name", "already exists"),
    ],
)
def test_a_wrong_registration_is_said_at_its_field(
    registered_only: TestClient, typed: dict[str, str], path: str, message: str
) -> None:
    answer = registered_only.post("/models", data=typed)
    assert answer.status_code == 422
    check_page(answer.text)
    summary = answer.text.split('id="errors"')[1].split("</div>")[0]
    assert f'<a href="#{path}">' in summary
    assert message in summary
    for name, text in typed.items():
        assert re.search(rf'name="{name}"\s+value="{text}"', answer.text)


def test_a_model_that_failed_is_inspected_again_by_a_button(registered_only: TestClient) -> None:
    with database_of(registered_only).transaction() as session:
        row = base_models.by_name(session, "distilbert-base")
        assert row is not None
        row.status, row.message = "failed", "The hub does not answer."
    text = registered_only.get("/models/distilbert-base").text
    assert "The hub does not answer." in text
    assert registered_only.post("/models/distilbert-base/inspection").status_code == 303
    assert "Inspecting the model" in registered_only.get("/models/distilbert-base").text


def test_the_methods_of_a_model_over_http(language: TestClient) -> None:
    found = language.get(f"/api/v1/models/{SAMPLE_MODEL}/methods", params={"labels": 5}).json()
    assert [method["kind"] for method in found] == list(SPECS)
    by_kind = {method["kind"]: method for method in found}
    assert by_kind["lora"]["trainable_parameters"] == 339_845
    assert by_kind["lora"]["total_parameters"] == 22_715_141
    assert "bert.encoder.layer.5.attention.self.value" in by_kind["lora"]["touches"]
    assert by_kind["lora"]["fits"]
    assert [(m["formula"], m["paper"]) for m in found] == [(facts.formula, facts.paper) for facts in METHODS.values()]
    reason = by_kind["prefix"]["reason"]
    assert reason["path"] == "kind"
    assert "causal-lm, seq2seq-lm" in reason["remedy"]


@pytest.mark.parametrize(
    ("name", "task", "status", "words"),
    [
        (SAMPLE_MODEL, "causal-lm", 422, "does not support causal-lm"),
        ("distilbert-base", None, 409, "has not been inspected"),
        ("gone", None, 404, "There is no base model"),
    ],
)
def test_methods_that_cannot_be_told_over_http(
    registered_only: TestClient, name: str, task: str | None, status: int, words: str
) -> None:
    answer = registered_only.get(f"/api/v1/models/{name}/methods", params={"task": task} if task else {})
    assert answer.status_code == status
    assert words in answer.json()["detail"]


def test_the_list_over_http_is_short_and_a_model_is_told_whole(registered_only: TestClient) -> None:
    listed = {model["name"]: model for model in registered_only.get("/api/v1/models").json()}
    assert listed[SAMPLE_MODEL]["tasks"] == ["sequence-classification"]
    assert listed["distilbert-base"]["architecture"] is None
    facts = registered_only.get(f"/api/v1/models/{SAMPLE_MODEL}").json()["facts"]
    assert facts["tasks"]["sequence-classification"]["head"] == ["classifier"]
    assert set(facts["unable"]) == {"causal-lm", "seq2seq-lm"}


def test_a_models_modules_are_folded_by_block() -> None:
    assert fold("bert.encoder.layer.3.output.dense", MODEL) == ("bert.encoder.layer.*.output.dense", 3)
    assert fold("classifier", MODEL) == ("classifier", None)
    lora = folded(LoraSpec(target_modules=["query", "value"]).touches(MODEL), MODEL)
    assert [(line.name.rpartition(".")[2], len(line.blocks)) for line in lora] == [
        ("query", 6),
        ("value", 6),
        ("classifier", 0),
    ]


def test_the_parts_of_a_model_are_all_of_it() -> None:
    found = groups(MODEL)
    assert sum(group.parameters for group in found) == MODEL.total
    assert [group.name for group in found if group.new] == ["classifier"]
    assert [(group.name, group.blocks) for group in found if group.blocks] == [("bert.encoder.layer", 6)]
    linear = sum(m.in_features * m.out_features + m.out_features * m.bias for m in MODEL.linear)
    assert sum(layer.parameters for layer in layers(MODEL)) == linear


def test_blocks_and_kinds_in_words() -> None:
    assert ranges([5, 0, 2, 3, 4, 9]) == "0, 2–5, 9"
    assert in_blocks([3]) == "block 3"
    assert in_blocks([0, 1, 2]) == "blocks 0–2"
    assert in_blocks([]) == ""
    assert kinds(["a.query", "b.dense", "c.dense"]) == "query, 2 × dense"
    assert kinds([f"a.{n}" for n in "stuvw"]) == "5 kinds of modules"

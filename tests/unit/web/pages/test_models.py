"""Base models on pages and over HTTP: what one is made of, its methods, its module tree, its registration."""

import re
from html import unescape
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
def test_a_wrong_registration(registered_only: TestClient, typed: dict[str, str], path: str, message: str) -> None:
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


TWO_LABELS = filled.model_facts().task_model("sequence-classification", 2)
PAGE = f"/models/{SAMPLE_MODEL}"
SELF = "bert.encoder.layer.0-5.attention.self"


def counted(text: str) -> str:
    """What the tree adds up to, as one reads it."""
    found = re.search(r'(?<=aria-live="polite">).*?</div>', text, re.DOTALL)
    assert found
    return " ".join(unescape(plain(re.sub(r"<[^>]+>", " ", found[0]))).split())


def ticked(text: str) -> set[str]:
    """Keys of what is ticked."""
    return set(re.findall(r'name="module"\s+value="([^"]+)" checked', text))


def test_the_usual_choice_of_lora_is_shown_first(language: TestClient) -> None:
    text = language.get(PAGE).text
    check_page(text)
    expected = LoraSpec(target_modules="all-linear").trainable(TWO_LABELS)
    assert f"LoRA r=8 trains {expected:,} parameters" in counted(text)
    assert f"on {len(TWO_LABELS.linear)} linear layers" in counted(text)
    assert "target_modules: all-linear" in counted(text)
    assert {f"{SELF}.query", f"{SELF}.value"} < ticked(text)


def test_ticked_layers_and_a_rank_are_counted_by_the_address_alone(language: TestClient) -> None:
    text = language.get(f"{PAGE}?method=lora&r=4&ticked=1&module={SELF}.key&module=nonsense").text
    expected = LoraSpec(r=4, target_modules=["key"]).trainable(TWO_LABELS)
    assert f"LoRA r=4 trains {expected:,} parameters" in counted(text)
    assert "target_modules: key" in counted(text)
    assert ticked(text) == {f"{SELF}.key"}


def test_all_and_none_change_what_lies_below_a_module(language: TestClient) -> None:
    every = language.get(f"{PAGE}?ticked=1&module={SELF}.key&all=bert").text
    assert "target_modules: all-linear" in counted(every)
    fewer = language.get(f"{PAGE}?ticked=1&module={SELF}.key&module={SELF}.query&none={SELF}").text
    assert ticked(fewer) == set()
    assert counted(fewer) == "No layer is ticked: choose at least one."


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("ticked=1", "No layer is ticked: choose at least one."),
        ("r=many", "Must be a whole number."),
        ("r=0", "Must be 1 or more."),
        ("method=oft&r=9", "OFT"),
        ("method=nonsense", "LoRA r=8 trains"),
        ("method=full", "full trains 22,713,986 parameters , 100"),
        ("method=head-only", "head only trains 770 parameters"),
        ("method=prefix", "does not support the task"),
    ],
)
def test_whatever_stands_in_the_address_the_page_answers(language: TestClient, query: str, words: str) -> None:
    answer = language.get(f"{PAGE}?{query}")
    assert answer.status_code == 200
    check_page(answer.text)
    assert words in counted(answer.text)


def test_methods_without_layers_to_choose_show_what_they_train(language: TestClient) -> None:
    text = language.get(f"{PAGE}?method=bitfit").text
    assert 'name="module"' not in text
    assert '<span class="trains muted"' in text
    tokens = language.get(f"/models/{CAUSAL}?method=prompt").text
    assert "of them outside the modules" in counted(tokens)


def test_the_tree_alone_is_for_scripts_and_its_address_is_the_pages(language: TestClient) -> None:
    query = f"task=sequence-classification&labels=2&method=lora&ticked=1&module={SELF}.key"
    answer = language.get(f"{PAGE}/modules?{query}", headers={"HX-Request": "true"})
    assert answer.text.lstrip().startswith('<section class="section" id="modules"')
    assert answer.headers["hx-push-url"] == f"{PAGE}?{query}"
    assert counted(answer.text) == counted(language.get(f"{PAGE}?{query}").text)
    plain_answer = language.get(f"{PAGE}/modules?{query}", follow_redirects=False)
    assert (plain_answer.status_code, plain_answer.headers["location"]) == (303, f"{PAGE}?{query}")
    assert language.get("/models/nothing/modules").status_code == 404


@pytest.mark.parametrize("name", [SAMPLE_MODEL, CAUSAL, SEQ2SEQ])
def test_the_choice_is_taken_into_a_new_study(language: TestClient, name: str) -> None:
    text = language.get(f"/models/{name}?method=lora&r=4").text
    found = re.search(r'href="(/studies/new\?[^"]+)" id="tree-take"', text)
    assert found
    form = language.get(unescape(found[1])).text
    check_page(form)
    assert re.search(rf'<option value="{name}" selected', form) or f'value="{name}" checked' in form
    kinds = re.findall(r'name="arms\.\d+\.method\.kind" value="([^"]+)"', form)
    assert kinds == ["full", "lora"]
    assert re.search(r'name="arms\.1\.method\.r"\s+value="4"', form)


def test_a_model_of_before_there_was_more_to_see_has_a_page_that_says_so(language: TestClient) -> None:
    with database_of(language).transaction() as session:
        row = base_models.by_name(session, SAMPLE_MODEL)
        assert row and row.facts_json
        new = ("version", "dtype", "files", "tokenizer")
        facts = {name: value for name, value in row.facts_json.items() if name not in new}
        for task in facts["tasks"].values():
            task["behind"] = None
        row.facts_json = facts
    for path in (PAGE, f"{PAGE}?method=last-layers", "/models", f"/api/v1/models/{SAMPLE_MODEL}", "/studies/new"):
        assert language.get(path).status_code == 200
    text = language.get(PAGE).text
    check_page(text)
    assert "This inspection is outdated" in text

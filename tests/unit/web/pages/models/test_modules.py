"""The module tree of a model's page: chosen in the address, counted by the server, taken into a new study."""

import re
from html import unescape

import pytest
from fastapi.testclient import TestClient

from app.domain.methods import LoraSpec
from app.domain.models.base_model import SAMPLE_MODEL
from app.store.models import queries as base_models
from tests.support.filled import filled
from tests.support.filled.language import CAUSAL, SEQ2SEQ
from tests.support.rows.factories import plain
from tests.unit.web.conftest import database_of
from tests.unit.web.pages.test_pages import check_page

MODEL = filled.model_facts().task_model("sequence-classification", 2)
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
    expected = LoraSpec(target_modules="all-linear").trainable(MODEL)
    assert f"LoRA r=8 trains {expected:,} parameters" in counted(text)
    assert f"on {len(MODEL.linear)} linear layers" in counted(text)
    assert "target_modules: all-linear" in counted(text)
    assert {f"{SELF}.query", f"{SELF}.value"} < ticked(text)


def test_ticked_layers_and_a_rank_are_counted_by_the_address_alone(language: TestClient) -> None:
    text = language.get(f"{PAGE}?method=lora&r=4&ticked=1&module={SELF}.key&module=nonsense").text
    expected = LoraSpec(r=4, target_modules=["key"]).trainable(MODEL)
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

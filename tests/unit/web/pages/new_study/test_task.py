"""Model and data decide the task; the task decides the metric, what can be forgotten, and which settings there are."""

import re

import pytest
from fastapi.testclient import TestClient
from starlette.datastructures import FormData

from app.domain.data.dataset import SAMPLE_DATASET, DatasetFacts, Split
from app.domain.models.base_model import SAMPLE_MODEL
from app.samples import samples as sample
from app.store.models import queries as base_models
from app.store.studies import queries as studies
from app.store.tables import DatasetRow
from app.web.pages.new_study.form import StudyForm
from tests.support.filled.language import CAUSAL, SEQ2SEQ, llama
from tests.unit.web.conftest import database_of

FORM: dict[str, str] = {
    "name": "Headlines",
    "base_model": CAUSAL,
    "dataset": sample.SUMMARIES,
    "seeds": "3",
    "margin_points": "2",
    "arms.0.method.kind": "full",
    "arms.1.method.kind": "lora",
}
SAMPLE_TASK = "sequence-classification"


def fields(text: str) -> set[str]:
    """Names of the inputs of a page."""
    return set(re.findall(r'<(?:input|select) [^>]*name="([^"]+)"', text))


@pytest.mark.parametrize(
    ("model", "data", "task"),
    [
        (SAMPLE_MODEL, SAMPLE_DATASET, "sequence-classification"),
        (CAUSAL, sample.SUMMARIES, "causal-lm"),
        (SEQ2SEQ, sample.SUMMARIES, "seq2seq-lm"),
        (CAUSAL, sample.GENERAL_TEXT, "causal-lm"),
    ],
)
def test_model_and_data_decide_the_task(language: TestClient, model: str, data: str, task: str) -> None:
    text = language.post("/studies/new", data=FORM | {"base_model": model, "dataset": data}).text
    assert f'<input type="hidden" name="task" value="{task}">' in text


def test_a_loss_within_a_batch_has_no_settings_that_divide_or_share_it(language: TestClient) -> None:
    with database_of(language).transaction() as session:
        facts = DatasetFacts(
            format="query-passage", counts={"train": 8, "validation": 4, "test": 8}, content_hash="queries"
        )
        row = DatasetRow(name="queries", title="queries", content_hash="queries", file="datasets/none.parquet")
        row.facts_json = facts.model_dump(mode="json")
        session.add(row)
        model = base_models.by_name(session, SAMPLE_MODEL)
        assert model is not None and model.facts is not None
        embeds = llama().model_copy(update={"task": "sentence-embeddings", "architecture": "BertModel"})
        known = model.facts.model_copy(update={"tasks": {**model.facts.tasks, "sentence-embeddings": embeds}})
        model.facts_json = known.model_dump(mode="json")
    text = language.post("/studies/new", data=FORM | {"base_model": SAMPLE_MODEL, "dataset": "queries"}).text
    assert '<input type="hidden" name="task" value="sentence-embeddings">' in text
    assert {"metric", "training.per_device_train_batch_size", "training.max_length"} <= fields(text)
    divided = {"training.gradient_accumulation_steps", "training.devices", "training.packing", "training.padding_free"}
    assert not fields(text) & (divided | {"train_together", "general_text", "training.compile_blocks"})
    assert re.findall(r'<option value="(recall_at_1|recall_at_5|mrr_at_10)"', text) == ["recall_at_5", "mrr_at_10"]


def test_preference_tuning_has_its_loss_and_no_generation(language: TestClient) -> None:
    with database_of(language).transaction() as session:
        counts: dict[Split, int] = {"train": 8, "validation": 4, "test": 8}
        facts = DatasetFacts(format="preference", counts=counts, content_hash="replies")
        row = DatasetRow(name="replies", title="replies", content_hash="replies", file="datasets/none.parquet")
        row.facts_json = facts.model_dump(mode="json")
        session.add(row)
        model = base_models.by_name(session, CAUSAL)
        assert model is not None and model.facts is not None
        preferring = model.facts.tasks["causal-lm"].model_copy(update={"task": "preference"})
        known = model.facts.model_copy(update={"tasks": {**model.facts.tasks, "preference": preferring}})
        model.facts_json = known.model_dump(mode="json")
    text = language.post("/studies/new", data=FORM | {"base_model": CAUSAL, "dataset": "replies"}).text
    assert '<input type="hidden" name="task" value="preference">' in text
    assert {"training.preference_loss", "training.beta", "training.padding_free", "general_text"} <= fields(text)
    without = {"training.packing", "training.max_new_tokens", "training.completion_only_loss", "train_together"}
    assert not fields(text) & without
    of_words = language.post("/studies/new", data=FORM | {"base_model": CAUSAL, "dataset": sample.SUMMARIES}).text
    assert not fields(of_words) & {"training.preference_loss", "training.beta"}


def test_a_task_is_chosen_where_several_are_possible(language: TestClient) -> None:
    text = language.post("/studies/new", data={"dataset": sample.SUMMARIES}).text
    assert re.findall(r'<input type="radio" id="task-[^>]* value="([^"]+)"( checked)?>', text) == [
        ("causal-lm", " checked"),
        ("seq2seq-lm", ""),
    ]


def test_a_model_that_cannot_serve_the_data_says_why(language: TestClient) -> None:
    text = language.post("/studies/new", data=FORM | {"base_model": SAMPLE_MODEL}).text
    assert "Not possible here: text to text." in text.replace("\n", " ")
    assert "reads in both directions" in text
    answer = language.post("/studies", data=FORM | {"base_model": SAMPLE_MODEL})
    assert answer.status_code == 422
    assert '<a href="#task">' in answer.text


def test_a_study_of_a_language_model_is_started(language: TestClient) -> None:
    said = {"metric": "exact_match", "general_text": sample.GENERAL_TEXT, "training.max_new_tokens": "32"}
    answer = language.post("/studies", data=FORM | said | {"training.packing": "true", "training.bf16": "false"})
    assert answer.status_code == 303
    with database_of(language).reading() as session:
        spec = studies.get(session, 1).spec
    assert (spec.task, spec.metric, spec.general_text) == ("causal-lm", "exact_match", sample.GENERAL_TEXT)
    assert (spec.training.max_new_tokens, spec.training.packing, spec.training.bf16) == (32, True, False)


def test_what_the_task_has_no_use_for_is_not_asked_and_not_sent(language: TestClient) -> None:
    causal = fields(language.post("/studies/new", data=FORM).text)
    pairs = fields(language.post("/studies/new", data=FORM | {"base_model": SEQ2SEQ}).text)
    classes = fields(
        language.post("/studies/new", data=FORM | {"base_model": SAMPLE_MODEL, "dataset": SAMPLE_DATASET}).text
    )
    assert {"training.packing", "training.completion_only_loss", "metric", "general_text"} <= causal
    assert causal - pairs == {"training.packing", "training.padding_free", "training.compile_blocks"}
    assert not {"training.packing", "training.completion_only_loss", "metric", "general_text"} & classes
    assert "training.padding_free" in classes
    answer = language.post("/studies", data=FORM | {"base_model": SEQ2SEQ, "training.packing": "true"})
    assert answer.status_code == 303


@pytest.mark.parametrize(
    ("model", "data", "writes"),
    [
        (CAUSAL, sample.SUMMARIES, True),
        (SEQ2SEQ, sample.SUMMARIES, True),
        (CAUSAL, sample.GENERAL_TEXT, False),
        (SAMPLE_MODEL, SAMPLE_DATASET, False),
    ],
)
def test_max_new_tokens_is_asked_with_a_prompt(language: TestClient, model: str, data: str, writes: bool) -> None:
    text = language.post("/studies/new", data=FORM | {"base_model": model, "dataset": data}).text
    assert ("training.max_new_tokens" in fields(text)) is writes


def test_the_longest_answer_of_a_study_is_kept_when_it_is_repeated(language: TestClient) -> None:
    answer = language.post("/studies", data=FORM | {"training.max_new_tokens": "32"})
    assert answer.status_code == 303
    again = inputs(language.get("/studies/new?from_study=1").text)
    assert again["metric"] == ""  # judged by token accuracy, which needs no written text
    assert again["training.max_new_tokens"] == "32"


def test_an_answer_that_leaves_no_room_for_a_prompt_is_refused_at_its_field(language: TestClient) -> None:
    answer = language.post("/studies", data=FORM | {"training.max_new_tokens": "8192"})
    assert answer.status_code == 422
    assert '<a href="#training-max_new_tokens">' in answer.text
    assert re.search(r'name="training.max_new_tokens"\s+value="8192"', answer.text)


def test_plain_texts_are_not_judged_by_what_is_generated(language: TestClient) -> None:
    text = language.post("/studies/new", data=FORM | {"dataset": sample.GENERAL_TEXT, "metric": "rouge_l"}).text
    assert "judged by token accuracy" in text
    assert "ROUGE-L" not in text


def test_methods_that_do_not_fit_the_task_say_so_and_are_not_hidden(language: TestClient) -> None:
    text = language.post("/studies/new", data=FORM | {"arms.2.method.kind": "head-only"}).text
    assert "Not here: The method head only does not support the task causal-lm" in text
    assert 'value="add:prefix"' in text
    able = "sequence-classification, token-classification, image-classification"
    what = f"The method head only does not support the task causal-lm. Use it for {able}."
    assert f'<p class="error">{what}</p>' in text


def test_a_blank_form_has_only_arms_that_fit(language: TestClient) -> None:
    assert re.findall(r'method\.kind" value="([^"]+)"', language.get("/studies/new").text) == [
        "full",
        "lora",
        "head-only",
    ]


def test_a_study_is_called_after_its_model_and_data_until_it_has_a_name(language: TestClient) -> None:
    blank = f"BBC headlines on {SAMPLE_MODEL}"
    text = language.post("/studies/new", data=FORM | {"name": blank}).text
    assert re.search(rf'name="name"\s+value="{sample.SUMMARIES_TITLE} on {CAUSAL}"', text)
    kept = language.post("/studies/new", data=FORM | {"name": "Mine"}).text
    assert re.search(r'name="name"\s+value="Mine"', kept)


def test_a_study_of_a_language_model_is_repeated_with_all_that_it_said(with_language: TestClient) -> None:
    with database_of(with_language).reading() as session:
        found = [row for row in studies.page(session, after=None, limit=50).rows if row.spec.task != SAMPLE_TASK]
    assert len(found) == 2
    for row in found:
        assert StudyForm.of(row.spec).spec().owed() == row.spec.owed()
        sent = FormData(list(inputs(with_language.get(f"/studies/new?from_study={row.id}").text).items()))
        assert StudyForm.typed(sent).spec().owed() == row.spec.owed()


def inputs(text: str) -> dict[str, str]:
    """What a browser would send of a page's form."""
    found = {}
    for tag in re.findall(r"<input\s[^>]*>", text):
        attributes = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        choosing = attributes.get("type") in ("radio", "checkbox")
        if "name" in attributes and (not choosing or re.search(r"\schecked\b", tag)):
            found[attributes["name"]] = attributes.get("value", "")
    for name, body in re.findall(r'<select[^>]* name="([^"]+)"[^>]*>(.*?)</select>', text, re.DOTALL):
        chosen = re.findall(r'<option value="([^"]*)" selected>', body) or re.findall(r'<option value="([^"]*)"', body)
        found[name] = chosen[0]
    return found

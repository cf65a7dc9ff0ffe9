"""The task and the methods of a new study decide its fields: read, written, explained, refused."""

import re
from collections.abc import Sequence
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError
from sqlalchemy.orm import Session
from starlette.datastructures import FormData

from app.domain.data.dataset import SAMPLE_DATASET, DatasetFacts, Split
from app.domain.methods import SPECS, AnyMethod, LoraSpec
from app.domain.models.adaptations import usual
from app.domain.models.base_model import SAMPLE_MODEL
from app.domain.runs.capabilities import Capability
from app.domain.runs.training import TrainingArguments
from app.domain.studies.arms import ArmSpec
from app.domain.studies.tuning.tuning import TpeTuning
from app.samples import samples as sample
from app.services.workers import workers
from app.store.models import queries as base_models
from app.store.studies import queries as studies
from app.store.tables import DatasetRow
from app.web.forms.fields import Field, fields_of
from app.web.pages.new_study.arm_form import METHOD, SHARED, ArmForm
from app.web.pages.new_study.form import BUDGET, StudyForm
from app.words.models.methods import FAMILIES, by_family
from app.words.runs.fields import ARM_FIELDS, METHOD_FIELDS, OPTIONS, TRAINING_FIELDS
from tests.support.filled import filled
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


METHOD_NAMES = {field.name for spec in SPECS.values() for field in fields_of(spec)}
OTHERWISE: dict[str, Any] = {"modules": ["query", "key"], "numbers": [0, 2], "text": "mine"}


def otherwise(field: Field) -> Any:
    """A value that is not the field's default."""
    match field.kind:
        case "flag":
            return field.default == "false"
        case "choice":
            return next(c for c in (*field.choices[::-1],) if c != field.default)
        case "number":
            number = float(field.default or 1)
            return int(number * 2 or 1) if field.whole else number / 2 or 0.25
        case _:
            return OTHERWISE[field.kind]


def arm_form(kind: str, method: AnyMethod) -> dict[str, str]:
    """A form with this arm alone, as a browser would send it."""
    arm = ArmForm.of(ArmSpec(method=method))
    values = {f"arms.0.{name}": value for name, value in arm.values.items()}
    study = {"name": "Mine", "base_model": SAMPLE_MODEL, "dataset": SAMPLE_DATASET, "seeds": "1", "margin_points": "1"}
    return study | {"arms.0.method.kind": kind} | values


def sign_on(session: Session, capabilities: Sequence[Capability]) -> None:
    """A worker that can do these is there, and no other."""
    workers.sign_on(
        session, "cpu-9", device="cpu", device_name="CPU", memory_bytes=None, cores=2, capabilities=capabilities
    )


def errors(text: str) -> str:
    """The page's list of errors."""
    return text.split('id="errors"')[1].split("</div>")[0]


@pytest.mark.parametrize("kind", SPECS)
def test_a_new_arm_is_the_method_as_it_is_by_default(kind: str) -> None:
    assert ArmForm.new(kind).method == SPECS[kind]()
    assert ArmForm.new(kind).title == SPECS[kind]().label


@pytest.mark.parametrize("kind", SPECS)
def test_what_a_spec_says_is_written_and_read_again(kind: str) -> None:
    for field in fields_of(SPECS[kind]):
        try:
            method = SPECS[kind].model_validate({field.name: otherwise(field)})
        except ValidationError:
            continue  # it does not go with the defaults of the others
        assert method != SPECS[kind](), field.name
        assert ArmForm.of(ArmSpec(method=method)).method == method, field.name


@pytest.mark.by_day
@pytest.mark.parametrize("kind", SPECS)
def test_every_kind_is_added_with_all_its_fields_or_says_why_not(registered_only: TestClient, kind: str) -> None:
    form = arm_form("full", SPECS["full"]())
    text = registered_only.post("/studies/new", data=form | {"do": f"add:{kind}", "tuning.kind": "grid"}).text
    model = filled.model_facts().task_model("sequence-classification", 5)
    incompatibility = usual(kind, model).incompatibility(model)
    if incompatibility and incompatibility.path == "kind":
        assert f"Not here: {incompatibility.message}" in text
        assert f'value="add:{kind}"' not in text
    names = {f"arms.1.{METHOD}{field.name}" for field in fields_of(SPECS[kind])} | {f"arms.1.{n}" for n in SHARED}
    for name in names:
        assert re.search(rf'<(input|select) [^>]*name="{name}"', text), name
        assert f'<label for="{name.replace(".", "-")}">' in text


@pytest.mark.parametrize("kind", SPECS)
def test_every_kind_that_fits_is_started(registered_only: TestClient, kind: str) -> None:
    model = filled.model_facts().task_model("sequence-classification", 5)
    method = usual(kind, model)
    with database_of(registered_only).transaction() as session:
        sign_on(session, list(method.needs))
    answer = registered_only.post("/studies", data=arm_form(kind, method))
    if method.incompatibility(model):
        assert answer.status_code == 422
        assert '<a href="#arms-0-method-kind">' in answer.text
    else:
        assert answer.status_code == 303, errors(answer.text)
        with database_of(registered_only).reading() as session:
            assert studies.get(session, 1).spec.arms[0].method == method


@pytest.mark.parametrize("kind", SPECS)
def test_a_number_beyond_its_bounds_is_refused_at_its_field(registered_only: TestClient, kind: str) -> None:
    wrong = {f"arms.0.{METHOD}{f.name}": f.name for f in fields_of(SPECS[kind]) if f.kind == "number"}
    if not wrong:
        return
    text = registered_only.post("/studies", data=arm_form(kind, SPECS[kind]()) | dict.fromkeys(wrong, "-2")).text
    for path in wrong:
        assert re.search(rf'id="{path.replace(".", "-")}-error-1">Must be (above|[\d.-]+ or more)', text), path
        assert re.search(rf'name="{path}"\s+value="-2"', text), path
    if not all(METHOD_FIELDS[name].basic for name in wrong.values()):
        assert '<details class="rest" id="arm-0-more" open>' in text


def test_every_field_has_a_label_and_a_hint() -> None:
    assert set(METHOD_FIELDS) == METHOD_NAMES
    assert {field.name for field in BUDGET.values()} == set(TRAINING_FIELDS)
    assert {*SHARED, *METHOD_FIELDS} == set(ARM_FIELDS)
    for table in (METHOD_FIELDS, TRAINING_FIELDS, ARM_FIELDS):
        assert [name for name, words in table.items() if not words.label or not words.hint.endswith(".")] == []
        assert [name for name, words in table.items() if len(words.hint) > 110] == []


def test_choices_in_words_are_choices_that_there_are() -> None:
    known = {
        (field.name, value)
        for model in (*SPECS.values(), TrainingArguments, TpeTuning)
        for field in fields_of(model)
        for value in (*field.choices, "")
    }
    assert set(OPTIONS) <= known


def test_every_method_stands_under_its_family() -> None:
    grouped = by_family()
    assert sorted(facts.kind for _family, _title, methods in grouped for facts in methods) == sorted(SPECS)
    assert [family for family, _title, _methods in grouped] == list(FAMILIES)


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("query, value", ["query", "value"]),
        ("query value", ["query", "value"]),
        ("all-linear", "all-linear"),
        (r".*\.layer\.[0-3]\..*query", r".*\.layer\.[0-3]\..*query"),
        ("attention.self.query", ["attention.self.query"]),
        ("peft-default", "peft-default"),
        ("", "all-linear"),
    ],
)
def test_adapted_layers_are_a_list_a_pattern_or_a_named_choice(text: str, targets: object) -> None:
    method = ArmForm.typed("lora", {"method.target_modules": text}).method
    assert isinstance(method, LoraSpec)
    assert method.target_modules == targets


def test_a_pattern_for_one_whole_name_stays_a_pattern() -> None:
    written = ArmForm.of(ArmSpec(method=LoraSpec(target_modules="query"))).values["method.target_modules"]
    again = ArmForm.typed("lora", {"method.target_modules": written}).method
    assert isinstance(again, LoraSpec)
    assert isinstance(again.target_modules, str)


def test_a_box_that_is_not_ticked_says_no(registered_only: TestClient) -> None:
    form = arm_form("oft", SPECS["oft"].model_validate({"use_cayley_neumann": False, "target_modules": ["query"]}))
    text = registered_only.post("/studies/new", data=form).text
    name = "arms.0.method.use_cayley_neumann"
    assert f'<input type="hidden" name="{name}" value="false">' in text
    assert "checked" not in re.findall(rf'<input type="checkbox"[^>]*name="{name}"[^>]*>', text)[0]


def test_a_new_arm_adapts_all_linear_layers(registered_only: TestClient) -> None:
    text = registered_only.post("/studies/new", data=arm_form("full", SPECS["full"]()) | {"do": "add:loha"}).text
    assert re.search(r'name="arms.1.method.target_modules"\s+value="all-linear"', text)


def test_a_rank_that_is_too_high_is_said_to_cost_more_than_it_brings(registered_only: TestClient) -> None:
    high = arm_form("lora", LoraSpec(r=300))
    text = registered_only.post("/studies/plan", data=high).text
    assert "A rank of 300 is high for" in text
    assert "of the matrix itself" in text
    assert "is high for" not in registered_only.post("/studies/plan", data=high | {"arms.0.method.r": "8"}).text


def test_the_names_of_the_models_layers_are_there_to_pick(registered_only: TestClient) -> None:
    text = registered_only.post("/studies/new", data=arm_form("lora", LoraSpec())).text
    picks = re.findall(r'data-picks="arms-0-method-target_modules"[^>]*>(.*?)</small>', text)[0]
    assert re.findall(r"<span>(.*?)</span>", picks) == ["all-linear", "peft-default", "query", "key", "value", "dense"]
